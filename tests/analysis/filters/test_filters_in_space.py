"""Kernels of k x k x k and of k x k x 1: none is taken for a kernel of the plane, or of space, by mistake."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.filters.change import filter_change
from analysis.filters.kernels import FilterLayer, read_layers
from analysis.filters.matching import matched
from analysis.filters.randomness import calibration, kernel_patterns
from analysis.filters.randomness.battery import TESTS, battery, examine
from analysis.filters.randomness.calibration import planted
from analysis.filters.randomness.layer_tests import NotApplicable, Nulls
from analysis.filters.scale_factors import fitted_scales
from lib.networks.gabor import gabor_atoms
from lib.networks.unet import build

ARRANGEMENT = ["classifier", "autocorrelation", "smoothness", "orientation", "variance_entropy"]
SPACE = (24, 4, 3, 3, 3)


def layer(kernels: np.ndarray) -> FilterLayer:
    return FilterLayer("a", "convolution", kernels)


def p_values(found: FilterLayer, names: list[str]) -> dict[str, float]:
    return {name: examine(found, name, Nulls(999)).p for name in names}


def test_smooth_kernels_in_space_are_found_smooth_and_random_ones_random():
    smooth = planted("smooth", SPACE, 0.8, np.random.default_rng(0))
    random = planted("smooth", SPACE, 0.0, np.random.default_rng(1))
    assert max(p_values(smooth, ARRANGEMENT).values()) < 0.01
    assert min(p_values(random, list(TESTS)).values()) > 0.01
    for name in ("autocorrelation", "smoothness"):
        found = examine(smooth, name, Nulls(99))
        assert found.statistic > found.expected + 0.1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_kernels_that_are_smooth_along_one_axis_alone_are_found_whichever_it_is(axis: int):
    """Each slice across the axis is random, so that whoever looks at slices alone sees nothing."""
    noise = np.random.default_rng(2).normal(size=(48, 4, 3, 3, 1))
    smooth = np.moveaxis(np.repeat(noise, 3, axis=4), 4, 2 + axis)
    found = layer(smooth + 0.1 * np.random.default_rng(3).normal(size=smooth.shape))
    assert max(p_values(found, ["autocorrelation", "classifier", "variance_entropy"]).values()) < 0.01


def test_oriented_kernels_in_space_are_found():
    bank = planted("gabor", (24, 4, 5, 5, 5), 0.6, np.random.default_rng(0))
    assert max(p_values(bank, ["orientation", "classifier"]).values()) < 0.01


def test_patterns_in_space_are_those_worked_out_by_hand():
    used = np.ones((3, 3, 3), dtype=bool)
    assert len(kernel_patterns.neighbors(used)) == 3 * 18
    assert len(kernel_patterns.lags(used)) == (5**3 - 1) // 2
    basis = kernel_patterns.slow_waves(used)
    gradients = np.mgrid[-1:2, -1:2, -1:2].reshape(3, 27)
    assert len(basis) == 4
    for pattern in (np.ones(27), *gradients):
        assert np.linalg.norm(basis @ pattern) == pytest.approx(np.linalg.norm(pattern))
    assert np.linalg.norm(basis @ (gradients[0] * gradients[2])) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("place", [2, 3, 4])
def test_a_side_of_one_tap_changes_nothing(place: int):
    plane = planted("gabor", (24, 4, 3, 3), 0.3, np.random.default_rng(4)).kernels
    flat = layer(np.expand_dims(plane, place))
    assert gabor_atoms(flat.used) == pytest.approx(gabor_atoms(np.ones((3, 3), dtype=bool)))
    assert kernel_patterns.slow_waves(flat.used) == pytest.approx(kernel_patterns.slow_waves(layer(plane).used))
    for name in TESTS:
        found, other = (examine(each, name, Nulls(99)) for each in (flat, layer(plane)))
        assert found.statistic == pytest.approx(other.statistic), name
        if name != "orientation":  # whose null is drawn for each grid anew
            assert found.p == pytest.approx(other.p), name
    start = planted("smooth", (24, 4, 3, 3), 0.3, np.random.default_rng(5)).kernels
    tables = [
        filter_change(*({"a.weight": torch.from_numpy(each)} for each in pair)).drop(columns="layer")
        for pair in ((start, plane), (np.expand_dims(start, place), flat.kernels))
    ]
    assert tables[0].equals(tables[1])


def test_the_battery_reads_a_whole_network_in_space_and_finds_nothing_in_a_fresh_one():
    state = build(width=4, depth=2, norm="batch", seed=0, dim=3).state_dict()
    table = battery(state, draws=199)
    assert set(table.taps[table.kind == "convolution"]) == {27}
    assert set(table.taps[table.kind == "transposed"]) == {8}
    assert (table.p_holm.dropna() > 0.05).all()
    assert table[table.kind == "convolution"].p.notna().sum() > 60
    head = table[table.layer == "head"]
    assert set(head[head.p.isna()].test) >= {"smoothness", "orientation", "autocorrelation"}


def test_pointwise_kernels_in_space_have_no_arrangement():
    (head,) = read_layers({"head.weight": torch.randn(3, 8, 1, 1, 1)}).values()
    assert head.kind == "pointwise"
    with pytest.raises(NotApplicable, match="needs 1 kernels of 2 taps or more, got 24 of 1"):
        examine(head, "smoothness", Nulls(19))


def test_controls_in_space_are_found_and_random_layers_are_not():
    table = calibration.controls(draws=999)
    p = table.pivot(index="test", columns="control", values="p")
    assert (p["Gabor bank in space"] < 0.01).all()
    for name in ("smooth filters in space", "learned from heads"):
        assert (p.loc[ARRANGEMENT, name] < 0.01).all()
    assert (p["random in space"] > 0.01).all()
    assert calibration.learned(8, 3, dim=3, patches=400, rounds=2).kernels.shape == (8, 1, 3, 3, 3)


def test_a_change_of_a_tenth_is_a_tenth():
    draw = torch.Generator().manual_seed(0)
    start = build(width=4, depth=1, norm="batch", seed=0, dim=3).state_dict()
    end = {}
    for name, value in start.items():
        end[name] = value
        if value.dim() == 5:
            axis = 1 if ".up." in name else 0
            noise = torch.randn(value.shape, generator=draw)
            across = tuple(each for each in range(5) if each != axis)
            sizes = [each.square().sum(across, keepdim=True).sqrt() for each in (value, noise)]
            end[name] = value + 0.1 * noise * sizes[0] / sizes[1]
    layers = filter_change(start, end)
    assert layers.change.to_numpy() == pytest.approx(0.1, rel=1e-5)
    assert filter_change(start, end, by="filter").relative_change.to_numpy() == pytest.approx(0.1, rel=1e-5)
    convolutions = layers[layers.kind == "convolution"]
    assert convolutions.affine_share_chance.to_numpy() == pytest.approx(2 / 27)
    assert convolutions.affine_share.mean() == pytest.approx(2 / 27, abs=0.02)


def test_one_scale_and_one_shift_per_kernel_are_found_in_space():
    start = np.random.default_rng(0).normal(size=SPACE)
    scales = np.random.default_rng(1).uniform(0.5, 2, size=(*SPACE[:2], 1, 1, 1))
    end = start * scales + 0.3
    table = filter_change(*({"a.weight": torch.from_numpy(each)} for each in (start, end)))
    assert table.affine_share[0] == pytest.approx(1)
    assert math.isclose(table.affine_r2[0], 1, rel_tol=1e-9)
    fitted = fitted_scales(layer(start).taps(), layer(end).taps())
    assert fitted == pytest.approx(scales[..., 0, 0, 0])


def test_channels_of_an_image_need_no_order():
    state = {"enc0.conv1.weight": torch.randn(8, 4, 3, 3, 3), "enc0.conv2.weight": torch.randn(8, 8, 3, 3, 3)}
    table = matched(state, state)
    assert table.inputs_matched.all()
    assert table.cosine.to_numpy() == pytest.approx(1)
