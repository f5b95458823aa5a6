"""Spread within and between groups of runs: planted differences, and every level by simulation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from planted import planted

from analysis.claims.feature_reuse import variability
from analysis.claims.feature_reuse.variability import group_labelings, pseudo_values, separation, spread_ratios
from analysis.representations.run_similarity import LayerMaps

ONE = ("enc0",)


def same(a: dict, b: dict) -> bool:
    return a["strategy"] == b["strategy"]


def test_a_planted_separation_is_found_in_the_layers_that_have_it():
    maps = planted(lambda layer, a, b: 0.8 if layer == 4 or same(a, b) else 0.5, noise=0.01)
    found = separation(maps)
    assert found.p == pytest.approx(2 / 252)  # the division itself, and its mirror image
    assert found.labelings == 252
    assert found.difference.low < 0.3 * 8 / 9 < found.difference.high
    by_layer = found.layers.set_index("layer")
    assert (by_layer.adjusted < 0.1).sum() == 8
    assert by_layer.p["enc4"] > 0.1
    assert by_layer.within["enc0"] == pytest.approx(0.8, abs=0.02)
    assert by_layer.within_random["enc0"] == pytest.approx(0.8, abs=0.02)
    assert by_layer.between["enc0"] == pytest.approx(0.5, abs=0.02)
    assert by_layer.low["enc0"] < 0.3 < by_layer.high["enc0"]


def test_one_group_that_is_tighter_is_told_from_two_that_lie_apart():
    def tight(layer: int, a: dict, b: dict) -> float:
        return {0: 0.4, 1: 0.6, 2: 0.8}[(a["strategy"] != "scratch") + (b["strategy"] != "scratch")]

    assert separation(planted(tight, layers=ONE)).difference.estimate == pytest.approx(0)


def test_runs_of_one_fold_are_never_compared():
    def value(layer: int, a: dict, b: dict) -> float:
        return 0.8 if same(a, b) else 0.5

    maps = planted(value, 7, noise=0.05, layers=ONE)  # seeds 5 and 6 are on the folds of seeds 0 and 1
    changed, folds = maps.values.copy(), maps.checkpoints.fold.to_numpy()
    changed[:, folds[:, None] == folds] = 17.0
    for before, after in zip(
        separation(maps)[:3], separation(dataclasses.replace(maps, values=changed))[:3], strict=True
    ):
        assert before == after


def random_maps(draw: int, *, seeds: int = 5) -> LayerMaps:
    """Networks as points: a part that runs of one fold share, and a part of each run's own; no group effect."""
    rng = np.random.default_rng(draw)
    common, own = rng.standard_normal((5, 6)), rng.standard_normal((2, seeds, 6))
    points = (common[np.arange(seeds) % 5] + own).reshape(-1, 6)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    maps = planted(lambda *_: 0.0, seeds, layers=ONE)  # scratch comes first, seeds in order
    return dataclasses.replace(maps, values=(points @ points.T)[None])


@pytest.mark.parametrize("seeds", [5, pytest.param(6, marks=pytest.mark.slow)])
def test_the_permutation_test_holds_its_level_also_where_runs_share_their_images(seeds: int):
    p = np.array([separation(random_maps(draw, seeds=seeds)).p for draw in range(200)])
    assert (p < 0.05).mean() < 0.08  # 0.05 and two standard errors of 200 draws
    assert (p < 0.5).mean() > 0.35  # and it is no test that never rejects


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_interval_of_the_difference_covers(seeds: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(variability, "MOST_LABELLINGS", 2)  # of no interest here
    found = [separation(random_maps(draw, seeds=seeds)).difference for draw in range(150)]
    assert np.mean([each.low < 0 < each.high for each in found]) > 0.92


def test_pseudo_values_average_to_the_estimate_of_a_mean_over_pairs():
    values = np.random.default_rng(0).standard_normal((6, 6))
    values += values.T

    def mean_over_pairs(kept: list[int]) -> float:
        among = values[np.ix_(kept, kept)]
        return float(among[~np.eye(len(kept), dtype=bool)].mean())

    assert pseudo_values(mean_over_pairs, 6).mean() == pytest.approx(mean_over_pairs(list(range(6))))


@pytest.mark.parametrize("seeds", [5, 7, 10])
def test_there_is_a_pseudo_value_for_every_fold_and_none_more(seeds: int):
    maps = random_maps(0, seeds=seeds)
    found = separation(maps)
    assert len(found.pseudo) == len(spread_ratios(maps, "own").pseudo[0]) == 5
    assert found.difference.n == 5
    within, random, between = found.layers[["within", "within_random", "between"]].iloc[0]
    assert found.difference.estimate == pytest.approx((within + random) / 2 - between)


def test_labelings_are_all_or_a_choice_and_begin_with_the_given_one():
    few = group_labelings(2, 2, np.random.default_rng(0))
    assert few.shape == (6, 4)
    assert few[0].tolist() == [True, True, False, False]
    assert len(np.unique(few, axis=0)) == 6
    many = group_labelings(10, 10, np.random.default_rng(0))
    assert len(many) == variability.MOST_LABELLINGS
    assert many[0].tolist() == [True] * 10 + [False] * 10
    assert (many.sum(1) == 10).all()


def test_two_folds_are_too_few():
    maps = planted(lambda *_: 0.5, 2)
    with pytest.raises(ValueError, match=r"three folds with a run in both groups are needed, got \[0, 1\]"):
        separation(maps)
    assert spread_ratios(maps, "own").empty
    assert spread_ratios(planted(lambda *_: 0.5, 4), "shared").empty


def spread_maps(own: float, random: float, shared: float = 0.1, **options) -> LayerMaps:
    """Pairs of one group at 1 - its spread."""

    def value(layer: int, a: dict, b: dict) -> float:
        if a["strategy"] == b["strategy"] == "scratch":
            return 1 - random
        both = a["source_seed"] == b["source_seed"] == 0
        return 1 - (shared if both else own)

    return planted(value, shared=True, layers=("enc0", "enc1"), **options)


@pytest.mark.parametrize("own", [0.2, 0.4, 0.1])
def test_a_planted_ratio_of_spreads_is_found(own: float):
    table = spread_ratios(spread_maps(own, 0.2, noise=0.002), "own")
    assert table.layer.tolist() == ["enc0", "enc1"]
    for row in table.itertuples():
        assert row.low < own / 0.2 < row.high
        assert (row.seeds, row.reference) == (5, pytest.approx(0.2, abs=0.01))
        assert math.log(row.ratio) == pytest.approx(row.pseudo.mean())


def test_runs_with_one_source_are_a_group_that_includes_that_source_s_own_run():
    maps = spread_maps(own=0.3, random=0.3, shared=0.15)
    assert sorted(maps.places("shared")) == sorted(maps.places("own")) == [0, 1, 2, 3, 4]
    assert maps.places("shared")[0] == maps.places("own")[0]
    assert spread_ratios(maps, "shared").ratio.tolist() == pytest.approx([0.5, 0.5])
    assert spread_ratios(maps, "own").ratio.tolist() == pytest.approx([1, 1])


def test_networks_that_are_all_alike_have_a_least_spread_and_no_nan():
    table = spread_ratios(planted(lambda *_: 1.0, layers=ONE), "own")
    assert np.isfinite(table[["ratio", "low", "high"]].to_numpy(dtype=float)).all()


@pytest.mark.parametrize("seeds", [5, 10])
def test_the_interval_of_a_ratio_covers(seeds: int):
    covers = []
    for draw in range(150):
        row = spread_ratios(random_maps(draw, seeds=seeds), "own").iloc[0]
        covers.append(row.low < 1 < row.high)
    assert np.mean(covers) > 0.92


def test_adjusted_p_values_hold_for_the_whole_family_of_layers():
    """Unrelated layers without a group effect: one map in twenty has a star, not every third."""
    starred = 0
    for draw in range(60):
        parts = [random_maps(9 * draw + at).values for at in range(9)]
        maps = dataclasses.replace(planted(lambda *_: 0.0), values=np.concatenate(parts))
        starred += bool((separation(maps).layers.adjusted < 0.05).any())
    assert starred / 60 < 0.12
