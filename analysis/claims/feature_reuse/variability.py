"""How much runs differ among themselves, within and between groups of runs, layer by layer.

The replicate is the test fold: runs of one fold share split and images, whatever their seed, so pairs of runs of one
fold are left out everywhere, and intervals come from leaving out one fold at a time. An average over pairs is a
U-statistic, whose jackknife pseudo-values (Arvesen 1969) behave as independent replicates: a t interval over them holds
its level (`tests/analysis/claims/test_variability.py` checks it by simulation, and that of the permutation test).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.representations.run_similarity import LayerMaps
from analysis.statistics.intervals import Interval, mean_interval

MOST_LABELLINGS = 5000
LEAST_FOLDS = 3  # without one of them there is a pair still


class Separation(NamedTuple):
    """Whether two groups of runs are more alike within than between.

    difference: of the layers' mean, mean similarity within - between, with interval. p: of the permutation test.
    labelings: how many assignments of runs to groups it went through. pseudo: jackknife pseudo-values, one a fold.
    layers: one row a layer: layer, within, within_random, between, difference, low, high, p, adjusted (p for all layers
    together).
    """

    difference: Interval
    p: float
    labelings: int
    pseudo: np.ndarray
    layers: pd.DataFrame


def pseudo_values(estimate: Callable[[list[int]], Any], count: int) -> np.ndarray:
    """Jackknife pseudo-values (replicates, ...) of an estimate (...) from the replicates whose places it is given."""
    whole = list(range(count))
    left_out = np.array([estimate([at for at in whole if at != each]) for each in whole])
    return count * estimate(whole) - (count - 1) * left_out


def _common(maps: LayerMaps, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of two groups are (2, seeds), and the fold of each seed; of the seeds that both groups have."""
    sides = [maps.places(each) for each in (a, b)]
    seeds = sorted(set(sides[0]) & set(sides[1]))
    places = np.array([[side[each] for each in seeds] for side in sides], dtype=np.int64)
    return places, maps.checkpoints.fold.to_numpy()[places[0]]


def _between_folds(values: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Means over the seeds of each fold (..., folds, folds) of values (..., seeds, seeds)."""
    member = (np.unique(folds)[:, None] == folds).astype(np.float64)
    member /= member.sum(1, keepdims=True)
    return member @ values @ member.T


def _mean_of_pairs(values: np.ndarray) -> np.ndarray:
    """The mean over pairs of different folds, of values (..., folds, folds)."""
    return values[..., ~np.eye(values.shape[-1], dtype=bool)].mean(-1)


def _excess(values: np.ndarray, folds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean similarity within both groups minus that between (layers, labelings), without pairs of one fold.

    Args:
        values: (layers, runs, runs). folds: (runs,). labels: (labelings, runs), boolean.
    """
    apart = (folds[:, None] != folds).astype(np.float64)
    sides = [labels.astype(np.float64), (~labels).astype(np.float64)]

    def mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ((a @ (values * apart)) * b).sum(-1) / ((a @ apart) * b).sum(-1)

    return (mean(sides[0], sides[0]) + mean(sides[1], sides[1])) / 2 - mean(*sides)


def group_labelings(first: int, second: int, rng: np.random.Generator) -> np.ndarray:
    """All ways to put so many runs into two groups, the given one first; a random choice where they are very many."""
    runs = first + second
    given = np.arange(runs) < first
    if math.comb(runs, first) <= MOST_LABELLINGS:
        found = [np.isin(np.arange(runs), chosen) for chosen in itertools.combinations(range(runs), first)]
        return np.array(found)  # the first of the combinations is the given one
    return np.array([given, *(rng.permutation(given) for _ in range(MOST_LABELLINGS - 1))])


def separation(maps: LayerMaps, a: str = "own", b: str = "random", *, seed: int = 0) -> Separation:
    """Are two groups of runs more alike within than between? The difference, and a permutation test, all layers.

    The difference is the mean similarity within both groups minus that between them, averaged over layers: 0 on
    average if the label means nothing, and above 0 wherever representations of the groups differ. The test permutes
    group labels. Layers are also tested one by one; their p-values are adjusted by the distribution of the largest
    standardized difference of all layers (Westfall and Young 1993), because with 252 divisions Holm's correction over
    nine layers cannot reject.

    Raises:
        ValueError: runs in both groups on fewer than three folds.
    """
    places, folds = _common(maps, a, b)
    if len(set(folds)) < LEAST_FOLDS:
        raise ValueError(f"three folds with a run in both groups are needed, got {sorted(set(folds.tolist()))}")
    own, cross, other = (
        _between_folds(maps.values[:, one][:, :, two], folds)
        for one, two in ((places[0], places[0]), (places[0], places[1]), (places[1], places[1]))
    )

    def excess(kept: list[int]) -> np.ndarray:
        within, between, random = (_mean_of_pairs(each[:, kept][:, :, kept]) for each in (own, cross, other))
        return (within + random) / 2 - between

    pseudo = pseudo_values(excess, len(set(folds)))
    intervals = [mean_interval(each) for each in pseudo.T]
    found, labelings = _permuted(maps.values, places, folds, np.random.default_rng(seed))
    table = pd.DataFrame({
        "layer": maps.layers, "within": _mean_of_pairs(own), "within_random": _mean_of_pairs(other),
        "between": _mean_of_pairs(cross), "difference": [each.estimate for each in intervals],
        "low": [each.low for each in intervals], "high": [each.high for each in intervals],
        "p": [_p_value(each) for each in found], "adjusted": _over_layers(found),
    })  # fmt: skip
    overall = pseudo.mean(1)
    return Separation(mean_interval(overall), _p_value(found.mean(0)), labelings, overall, table)


def _permuted(
    values: np.ndarray, places: np.ndarray, folds: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """What permuted group labels make of every layer (layers, labelings), the given labels first, and their number."""
    runs, of_fold = places.ravel(), np.tile(folds, 2)
    labels = group_labelings(places.shape[1], places.shape[1], rng)
    pairs = [len(set(of_fold[each])) > 1 and len(set(of_fold[~each])) > 1 for each in labels]  # both groups have some
    labels = labels[pairs]
    return _excess(values[:, runs][:, :, runs], of_fold, labels), len(labels)


def _p_value(found: np.ndarray) -> float:
    return float((found >= found[0] - 1e-12).mean())


def _over_layers(found: np.ndarray) -> np.ndarray:
    """P-values of layers (layers, labelings), the given labeling first, adjusted for there being several."""
    spread = found.std(1, keepdims=True)
    standardized = found / np.where(spread > 0, spread, 1)
    return (standardized.max(0) >= standardized[:, :1] - 1e-12).mean(1)


def spread_ratios(maps: LayerMaps, group: str, reference: str = "random") -> pd.DataFrame:
    """How much runs of a group differ among themselves, over how much those of a reference do: one row a layer.

    Spread is 1 - the mean similarity of pairs of runs. Both groups use the same seeds.

    Returns:
        layer, group, seeds, spread, reference, ratio, low, high (95 % interval), pseudo (pseudo-values of the log
        ratio, one a fold). Empty below three common folds.
    """
    columns = ["layer", "group", "seeds", "spread", "reference", "ratio", "low", "high", "pseudo"]
    places, folds = _common(maps, group, reference)
    if len(set(folds)) < LEAST_FOLDS:
        return pd.DataFrame(columns=columns)
    own, other = (_between_folds(maps.values[:, side][:, :, side], folds) for side in places)

    def log_ratio(kept: list[int]) -> np.ndarray:
        return np.log(_spread(own, kept) / _spread(other, kept))

    whole = list(range(len(set(folds))))
    spreads = zip(_spread(own, whole), _spread(other, whole), strict=True)
    rows = []
    for layer, pseudo, spread in zip(maps.layers, pseudo_values(log_ratio, len(whole)).T, spreads, strict=True):
        shown = [math.exp(min(each, 700.0)) for each in mean_interval(pseudo)[:3]]
        rows.append((layer, group, len(folds), *spread, *shown, pseudo))
    return pd.DataFrame(rows, columns=columns)


def _spread(values: np.ndarray, kept: list[int]) -> np.ndarray:
    """1 - mean similarity over pairs of different folds (layers,), at least a millionth."""
    return np.maximum(1 - _mean_of_pairs(values[:, kept][:, :, kept]), 1e-6)
