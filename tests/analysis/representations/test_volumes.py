"""Representations of networks that see volumes: features, Gram matrices and probe windows are those worked out."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.representations.capture.activations import capture
from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.represent import Probe, represent_model
from analysis.representations.comparison.compare import compare
from analysis.representations.measures.cka import cka, cka_debiased
from analysis.representations.run_similarity import WINDOWS, probe_images, whole_map_probe
from lib.common.errors import StudyError
from lib.data.tasks.images import load_volumes
from lib.data.tasks.splits import split
from lib.networks.unet import UNet, build

LAYERS = ["enc0", "enc1", "dec0"]
MEASURES = {"cka": cka, "cka_debiased": cka_debiased}
TASK = "sim_deep_brain_t1_3d"


def windows(count: int, *size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model() -> UNet:
    return build(width=4, depth=1, norm="batch", seed=0, dim=3).eval()


def test_features_in_space_are_means_places_and_whole_maps(model: UNet):
    images = windows(3, 8, 8, 4)
    maps = capture(model, LAYERS, images, reduce="flatten")
    assert maps["enc0"].shape == (3, 4 * 8 * 8 * 4)
    assert maps["enc1"].shape == (3, 8 * 4 * 4 * 2)
    whole = maps["enc1"].reshape(3, 8, 4, 4, 2)
    torch.testing.assert_close(capture(model, LAYERS, images)["enc1"], whole.mean((2, 3, 4)))
    reduction = Reduction("positions", per_image=5)
    drawn = capture(model, LAYERS, images, reduce=reduction)["enc1"]
    places = (reduction.places(0, 3, 3) * np.array([4, 4, 2])).astype(int)
    assert np.ptp(places[..., 2]) > 0
    for image, place in itertools.product(range(3), range(5)):
        x, y, z = places[image, place]
        torch.testing.assert_close(drawn[5 * image + place], whole[image, :, x, y, z])


@pytest.mark.parametrize("measure", list(MEASURES))
def test_similarity_of_maps_in_space_is_that_of_their_flattened_features(model: UNet, measure: str):
    other = build(width=4, depth=1, norm="batch", seed=1, dim=3).eval()
    images = windows(12, 8, 8, 4)
    probe = whole_map_probe(images)
    first, second = (represent_model(each, LAYERS, probe) for each in (model, other))
    found = compare(first, second, measure).values
    features = [capture(each, LAYERS, images, reduce="flatten") for each in (model, other)]
    for row, column in itertools.product(range(3), repeat=2):
        x, y = features[0][LAYERS[row]], features[1][LAYERS[column]]
        assert found[row, column] == pytest.approx(MEASURES[measure](x, y), abs=1e-5)
    if measure == "cka":
        x, y = (each[LAYERS[1]].double() - each[LAYERS[1]].double().mean(0) for each in features)
        formula = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
        assert found[1, 1] == pytest.approx(float(formula), abs=1e-5)


def test_how_many_windows_go_through_at_once_does_not_matter(model: UNet):
    images = windows(9, 8, 8, 8)
    few = represent_model(model, LAYERS, whole_map_probe(images))
    one, all_ = (represent_model(model, LAYERS, Probe(images, Reduction("flatten"), chunk=each)) for each in (1, None))
    for other in (one, all_):
        torch.testing.assert_close(few.grams[0], other.grams[0], rtol=1e-4, atol=1e-4)
    assert whole_map_probe(images).chunk == 4
    assert whole_map_probe(windows(2, 8, 8)).chunk == 16


def test_channels_may_come_last_in_space_too():
    first = torch.randn(2, 6, 4, 4, 4)
    last = first.movedim(1, -1)
    pooled = Reduction(channels="last").apply(last, 0)
    torch.testing.assert_close(pooled, Reduction().apply(first, 0))
    with pytest.raises(StudyError, match=r"\(2, 4, 4, 4, 24\) may be \(n, x, y, z, c\), channels last: say which axis"):
        Reduction().apply(torch.randn(2, 4, 4, 4, 24), 0)
    assert Reduction().apply(torch.randn(2, 8, 8, 8, 2), 0).shape == (2, 8)  # few slices of a map of eight channels


def test_what_is_not_a_window_is_refused(model: UNet):
    with pytest.raises(StudyError, match="does not take images of shape"):
        capture(model, LAYERS, torch.randn(2, 1, 8, 8))


def trained(**about: object) -> SimpleNamespace:
    """A run as far as its split goes."""
    return SimpleNamespace(spec=SimpleNamespace(**{"fold": 0, "volume": None, "seed": 0, **about}))


def test_probe_windows_come_from_volumes_that_no_run_saw():
    runs = [trained(volume=3, seed=seed) for seed in range(2)]
    images, words = probe_images(TASK, 32, runs, 12)
    assert words == "none seen in training"
    assert images.shape == (12, 1, 32, 32, 32)
    data = load_volumes(TASK, 32)
    seen = {at for run in runs for at in split(TASK, data.groups, fold=0, volume=3, seed=run.spec.seed).train.tolist()}
    whole = [data.image(at) for at in range(len(data.ids))]
    chosen = [next(at for at, each in enumerate(whole) if torch.equal(each, image)) for image in images]
    assert chosen == sorted(set(chosen) - seen)
    assert float(images.mean((1, 2, 3, 4)).abs().max()) < 1e-5  # as networks are given them
    everything, words = probe_images(TASK, 32, [trained()])
    assert len(everything) == WINDOWS
    assert words.endswith("of them seen in training")
