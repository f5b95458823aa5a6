"""The battery of randomness tests: its level on random layers, its power on planted structure, its refusals."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats as sps
from torch import nn

from analysis.filters.kernels import FilterLayer
from analysis.filters.randomness import calibration, kernel_patterns
from analysis.filters.randomness.battery import TESTS, battery, examine, rejections
from analysis.filters.randomness.calibration import STRUCTURES, planted
from analysis.filters.randomness.layer_tests import NotApplicable, Nulls
from lib.common.errors import StudyError
from lib.networks import gabor
from lib.networks.checkpoint_files import read_checkpoint
from lib.networks.unet import build

ALL = list(TESTS)
OF_KERNELS = ["classifier", "autocorrelation", "smoothness", "orientation", "variance_entropy"]


def layer(*shape: int, seed: int = 0) -> FilterLayer:
    return FilterLayer("a", "convolution", np.random.default_rng(seed).normal(size=shape))


def tensors(*shape: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.from_numpy(layer(*shape, seed=seed).kernels)}


def p_values(weights: dict[str, torch.Tensor], **options) -> dict[str, float]:
    return battery(weights, draws=199, **options).set_index("test").p.to_dict()


# Level


@pytest.mark.parametrize("shape", [(8, 1, 3, 3), (12, 6, 3, 3), (8, 8, 2, 2), (5, 1, 3, 3, 3)], ids=str)
def test_random_layers_are_rejected_at_the_nominal_rate(shape: tuple[int, ...]):
    layers = 120
    table = calibration.level(shapes=[shape], layers=layers, draws=199)
    assert set(table.test) == set(TESTS)
    low, high = sps.binom.ppf([1e-5, 1 - 1e-5], layers, 0.05)  # 32 rows in all, each a false alarm 2 in 100,000 times
    for row in table.itertuples():
        assert low <= row.rejected <= high, f"{row.test}: {row.rejected} of {layers}"


def test_p_values_are_spread_over_the_whole_interval_and_not_only_right_at_one_level():
    nulls = Nulls(199)
    for name in ("classifier", "autocorrelation", "orientation", "anderson_darling"):
        p = [examine(layer(10, 3, 3, 3, seed=seed), name, nulls, seed).p for seed in range(150)]
        assert sps.kstest(p, "uniform").pvalue > 1e-4, name


def test_a_matrix_too_small_for_anything_to_lie_beyond_the_edge_is_tested_at_its_level():
    p = [examine(layer(8, 1, 3, 3, seed=seed), "spectrum", Nulls(199, seed), seed).p for seed in range(400)]
    assert sps.kstest(p, "uniform").pvalue > 1e-4


def test_the_scale_of_a_layer_does_not_matter():
    kernels = layer(16, 4, 3, 3).kernels
    for name in ALL:
        small, large = (
            examine(FilterLayer("a", "convolution", kernels * scale), name, Nulls(199)) for scale in (1e-6, 1e4)
        )
        assert small.p == pytest.approx(large.p), name
        assert small.statistic == pytest.approx(large.statistic, rel=1e-5, abs=1e-9), name


def test_distance_from_the_normal_law_is_that_of_the_tables():
    values = layer(1, 1, 30)
    scale = math.sqrt(float((values.kernels**2).mean()))
    found = examine(values, "kolmogorov_smirnov", Nulls(19))
    assert found.statistic == pytest.approx(sps.kstest(values.kernels.ravel(), "norm", (0, scale)).statistic)
    x = np.sort(values.kernels.ravel() / scale)
    i = np.arange(1, 31)
    squared = -30 - ((2 * i - 1) / 30 * (np.log(sps.norm.cdf(x)) + np.log(sps.norm.sf(x[::-1])))).sum()
    assert examine(values, "anderson_darling", Nulls(19)).statistic == pytest.approx(squared)


def test_arrangement_is_tested_whatever_the_law_of_the_weights():
    draw = np.random.default_rng(5)
    nulls = Nulls(199)
    rejected = sum(
        examine(
            FilterLayer("a", "convolution", draw.standard_t(2, size=(8, 2, 3, 3)) + 0.3), "autocorrelation", nulls, k
        ).p
        < 0.05
        for k in range(200)
    )
    low, high = sps.binom.ppf([1e-4, 1 - 1e-4], 200, 0.05)
    assert low <= rejected <= high


def test_autocorrelation_is_exact_where_all_arrangements_can_be_gone_through():
    row = np.array([3.0, -1.0, 2.0, 0.5, 1.0])
    one = FilterLayer("a", "convolution", row.reshape(1, 1, 5))
    sums = np.array([np.dot(x[:-1], x[1:]) for x in map(np.array, permutations(row))])
    own = float(row[:-1] @ row[1:])
    exact = (np.abs(sums - sums.mean()) >= abs(own - sums.mean()) - 1e-9).mean()
    found = examine(one, "autocorrelation", Nulls(4999))
    assert found.p == pytest.approx(exact, abs=0.03)
    scale = float(row @ row) * 4 / 5
    assert found.statistic == pytest.approx(own / scale)
    assert found.expected == pytest.approx(sums.mean() / scale)


# Power


CASES = [
    ("classifier", "smooth"), ("classifier", "gabor"), ("autocorrelation", "smooth"), ("smoothness", "smooth"),
    ("orientation", "gabor"), ("variance_entropy", "smooth"), ("spectrum", "low_rank"),
    ("kolmogorov_smirnov", "sparse"), ("anderson_darling", "sparse"),
]  # fmt: skip


def test_every_test_has_a_structure_that_it_looks_for():
    assert {name for name, _ in CASES} == set(TESTS)


@pytest.mark.parametrize(("name", "structure"), CASES)
def test_each_test_finds_the_structure_it_looks_for_and_more_of_it_more_often(name: str, structure: str):
    strengths = (0.0, 0.2, 0.6)
    table = calibration.power(
        structures=[structure], shapes=[(32, 4, 3, 3)], strengths=strengths, layers=15, names=[name], draws=199
    )
    rates = table.rate.tolist()
    assert rates[0] <= 5 / 15  # nothing planted
    assert rates[1] <= rates[2] + 0.2
    assert rates[2] > 0.9


def test_nobody_takes_a_gabor_bank_for_random():
    table = calibration.controls(draws=2999)
    p = table.pivot(index="test", columns="control", values="p")
    assert (p["Gabor bank"] < 0.001).all()
    arrangement = ["classifier", "autocorrelation", "smoothness", "orientation", "variance_entropy"]
    assert (p.loc[arrangement, "smooth filters"] < 0.001).all()
    assert (p.loc[arrangement, "learned from scenes"] < 0.001).all()
    assert (p["random"] > 0.001).all()


def test_the_auc_of_the_classifier():
    nulls = Nulls(199)
    told = examine(planted("smooth", (40, 4, 3, 3), 0.9, np.random.default_rng(0)), "classifier", nulls)
    assert told.statistic > 0.95
    assert told.low > 0.9
    random = examine(layer(40, 4, 3, 3), "classifier", nulls)
    assert random.low < 0.5 < random.high
    assert random.expected == pytest.approx(0.5, abs=0.05)


# The table


def test_the_battery_of_a_network():
    state = build(width=4, depth=1, norm="batch", seed=0).state_dict()
    table = battery(state, draws=399)
    layers = [name.removesuffix(".weight") for name, value in state.items() if value.dim() > 1]
    assert list(zip(table.layer, table.test, strict=True)) == [(layer, test) for layer in layers for test in TESTS]
    assert table[["statistic", "p", "p_holm"]].notna().all(axis=1).equals(table.note == "")
    head = table[table.layer == "head"].set_index("test")
    assert (head.kind == "pointwise").all()
    assert head.loc[OF_KERNELS, "note"].str.contains("kernels of 2 taps or more").all()
    assert head.loc[["kolmogorov_smirnov", "anderson_darling"], "p"].notna().all()
    assert (table[table.layer == "dec0.up"].kind == "transposed").all()
    assert table.p_holm.min() > 0.05  # it is random, and the correction is over all of it
    assert (table.p_holm >= table.p)[table.p.notna()].all()
    assert (table.p < 0.05).sum() <= 10


def test_weights_from_elsewhere_are_a_positive_control(tmp_path: Path):
    bank = planted("gabor", (32, 3, 7, 7), 0.95, np.random.default_rng(0))
    torch.save({"conv1.weight": torch.from_numpy(bank.kernels), "bn1.weight": torch.ones(32)}, tmp_path / "first.pt")
    table = battery(read_checkpoint(tmp_path / "first.pt").weights, names=["smoothness", "autocorrelation"])
    assert table.layer.tolist() == ["conv1", "conv1"]
    assert (table.p < 0.001).all()


def test_what_a_battery_comes_to():
    random = tensors(8, 4, 3, 3)["a.weight"]
    smooth = torch.from_numpy(planted("smooth", (8, 4, 3, 3), 0.9, np.random.default_rng(0)).kernels)
    weights = {"a.weight": random, "b.weight": smooth, "head.weight": random[:, :, :1, :1]}
    found = rejections(battery(weights, names=["smoothness", "anderson_darling"])).set_index("test")
    assert found.loc["smoothness"].tolist() == [2, 1, 0.1, 1]
    assert found.loc["anderson_darling", ["layers", "rejected"]].tolist() == [3, 0]


def test_an_outcome_depends_on_the_seed_and_the_layers_name_and_nothing_else():
    one, other = tensors(8, 2, 3, 3), {"b.weight": tensors(6, 8, 3, 3, seed=1)["a.weight"]}
    alone = battery(one, draws=99)
    both = battery({**other, **one}, draws=99, names=ALL[::-1])
    joined = alone.merge(both[both.layer == "a"], on="test")
    assert (joined.p_x == joined.p_y).all()
    assert not (alone.p == battery(one, draws=99, seed=1).p).all()


def test_kinds_of_kernels_that_are_random_and_kinds_that_are_not():
    for shape in [(8, 4, 5), (8, 4, 5, 3), (8, 4, 7, 7), (8, 2, 3, 3, 3), (8, 4, 1, 3), (8, 4, 4, 4)]:
        p = p_values(tensors(*shape))
        assert min(p.values()) > 0.002, shape
        smooth = planted("smooth", shape, 0.9, np.random.default_rng(0))
        assert p_values({"a.weight": torch.from_numpy(smooth.kernels)})["smoothness"] < 1e-3, shape


def test_grouped_and_transposed_layers_are_taken_apart_rightly():
    model = nn.ModuleDict({"rise": nn.ConvTranspose2d(4, 12, 3, groups=2)})
    weights = tensors(4, 6, 3, 3)["a.weight"]
    weights[:2, 0] = 0  # what the inputs of the first group send to its first output: one filter of twelve
    table = battery({"rise.weight": weights}, model=model, names=["smoothness"], draws=19)
    assert (table.filters[0], table.dead[0], table.inputs[0]) == (11, 1, 2)


def test_channels_last_weights_give_the_same():
    plain = tensors(8, 4, 3, 3)
    assert p_values(plain) == p_values({"a.weight": plain["a.weight"].to(memory_format=torch.channels_last)})


def test_a_single_filter_is_tested_where_it_can_be():
    table = battery(tensors(1, 12, 3, 3), draws=199).set_index("test")
    assert table.loc["classifier", "note"] == "needs 5 filters or more, got 1"
    assert table.loc["spectrum", "note"].startswith("needs a matrix with 2 rows and columns or more, got (1, 108)")
    assert table.drop(["classifier", "spectrum"]).p.between(0.002, 1).all()
    smooth = planted("smooth", (1, 12, 3, 3), 0.95, np.random.default_rng(0))
    found = p_values({"a.weight": torch.from_numpy(smooth.kernels)})
    assert max(found[name] for name in ("autocorrelation", "smoothness")) < 0.01


def test_masked_taps_are_left_out_and_do_not_look_like_structure():
    mask = torch.ones(3, 3)
    mask[1, 2] = mask[2] = 0
    rejected = dict.fromkeys(ALL, 0)
    for seed in range(30):
        for name, p in p_values({"a.weight": tensors(12, 4, 3, 3, seed=seed)["a.weight"] * mask}).items():
            rejected[name] += p < 0.05
    assert max(rejected.values()) <= 8  # binomial at 0.05 of 30: more is a false alarm once in 100,000
    one = torch.zeros(3, 3)
    one[1, 1] = 1
    table = battery({"a.weight": tensors(12, 4, 3, 3)["a.weight"] * one}, draws=19).set_index("test")
    assert table.taps.tolist() == [1] * len(ALL)
    assert table.loc[OF_KERNELS].p.isna().all()


def test_taps_that_all_touch_or_all_lie_apart_have_no_arrangement():
    with pytest.raises(NotApplicable, match="some lie side by side and some do not"):
        examine(layer(8, 4, 2), "autocorrelation", Nulls(19))
    diagonal = layer(8, 4, 2, 2).kernels * np.eye(2)
    with pytest.raises(NotApplicable, match="some lie side by side and some do not"):
        examine(FilterLayer("a", "convolution", diagonal), "autocorrelation", Nulls(19))


def test_dead_filters_are_left_out_and_counted():
    weights = tensors(12, 4, 3, 3)["a.weight"]
    without = p_values({"a.weight": weights[3:]})
    weights[:3] = 0
    table = battery({"a.weight": weights}, draws=199)
    assert (table.filters == 9).all()
    assert (table.dead == 3).all()
    assert table.set_index("test").p.to_dict() == without
    nothing = battery({"a.weight": torch.zeros(4, 4, 3, 3)}, draws=19)
    assert (nothing.note == "all filters are zero").all()
    assert nothing.p.isna().all()


def test_a_pruned_layer_is_refused():
    weights = tensors(12, 4, 3, 3)["a.weight"]
    weights[weights.abs() < 0.3] = 0
    with pytest.raises(StudyError, match=r"layer a: .* exactly zero and fill neither a filter nor a tap"):
        battery({"a.weight": weights})


def test_too_few_draws_to_reject_anything():
    with pytest.raises(StudyError, match="19 draws or more, got 9; 4999 is the default"):
        battery(tensors(4, 4, 3, 3), draws=9)


def test_names_that_are_unknown():
    with pytest.raises(StudyError, match="unknown randomness test 'smooth'"):
        battery(tensors(4, 4, 3, 3), names=["smooth"])
    for names in ("smoothness", []):
        with pytest.raises(StudyError, match="names must be a list of tests, at least one, got"):
            battery(tensors(4, 4, 3, 3), names=names)
    with pytest.raises(StudyError, match="unknown structure 'gabors'; did you mean 'gabor'"):
        planted("gabors", (4, 4, 3, 3), 0.5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="share of the energy, 0 to 1, got 2"):
        planted("gabor", (4, 4, 3, 3), 2, np.random.default_rng(0))


def test_the_default_draws_let_every_test_reject_in_a_default_network_after_correction():
    layers = sum(value.dim() > 1 for value in build(width=1, depth=4, norm="none", seed=0).state_dict().values())
    assert layers * len(TESTS) / (Nulls().draws + 1) < 0.05


def test_every_test_says_what_it_looks_at():
    for name, test in TESTS.items():
        assert test.title
        assert test.looks_at.startswith("whether")
        assert test.run.__doc__, name
    assert len(STRUCTURES) == 4
    assert TESTS is TESTS


# Patterns


@pytest.mark.parametrize("grid", [(2, 2), (3, 3), (7, 7), (3, 3, 3), (5,), (1, 3)], ids=str)
def test_gabor_functions_are_of_one_length_without_mean_and_distinct(grid: tuple[int, ...]):
    atoms = gabor.gabor_atoms(np.ones(grid, dtype=bool))
    assert len(atoms) >= 2
    assert np.linalg.norm(atoms, axis=1) == pytest.approx(1)
    assert atoms.sum(axis=1) == pytest.approx(0, abs=1e-9)
    likeness = np.abs(atoms @ atoms.T - np.eye(len(atoms)))
    assert likeness.max() < 0.9991


def test_slow_waves_of_three_by_three_are_the_constant_and_the_gradients():
    basis = kernel_patterns.slow_waves(np.ones((3, 3), dtype=bool))
    assert basis @ basis.T == pytest.approx(np.eye(3), abs=1e-12)
    y, x = np.mgrid[-1:2, -1:2]
    for pattern in (np.ones(9), y.ravel(), x.ravel()):
        assert np.linalg.norm(basis @ pattern) == pytest.approx(np.linalg.norm(pattern))
    assert np.linalg.norm(basis @ (x * y).ravel()) == pytest.approx(0, abs=1e-12)


def test_neighbors_and_lags_leave_masked_taps_out():
    used = np.ones((3, 3), dtype=bool)
    assert len(kernel_patterns.neighbors(used)) == 12
    assert kernel_patterns.lags(used).shape == (12, 81)
    assert kernel_patterns.lags(used).sum(axis=1) == pytest.approx(1)
    used[1, 1] = False
    assert len(kernel_patterns.neighbors(used)) == 8
    assert kernel_patterns.lags(np.eye(2, dtype=bool)).tolist() == [[0, 0, 1, 0]]
