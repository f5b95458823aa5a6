"""How much runs differ among themselves, within and between groups of runs, layer by layer.

The replicate is the seed: the runs of a seed in two groups share split and images, so pairs of runs of one seed are
left out everywhere, and intervals come from leaving out one seed at a time. An average over pairs is a U-statistic,
whose jackknife pseudo-values (Arvesen 1969) behave as independent replicates: a t interval over them holds its level
(`tests/analysis/claims/test_variability.py` checks it by simulation, and that of the permutation test).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.representations.run_similarity import LayerMaps
from analysis.statistics.intervals import Interval, mean_interval
from analysis.statistics.tests import equivalence_p, one_sided_p

MOST_LABELLINGS = 5000


class Separation(NamedTuple):
    """Whether two groups of runs are more alike within than between.

    difference: of the layers' mean, mean similarity within - between, with interval. p: of the permutation test.
    labelings: how many assignments of runs to groups it went through. pseudo: jackknife pseudo-values. layers: one
    row a layer: layer, within, within_random, between, difference, low, high, p, adjusted (p for
    all layers together).
    """

    difference: Interval
    p: float
    labelings: int
    pseudo: np.ndarray
    layers: pd.DataFrame


def pseudo_values(estimate: Callable[[list[int]], float], count: int) -> np.ndarray:
    """Jackknife pseudo-values of an estimate from the replicates whose places it is given."""
    whole = list(range(count))
    left_out = np.array([estimate([at for at in whole if at != each]) for each in whole])
    return count * estimate(whole) - (count - 1) * left_out


def _excess(values: np.ndarray, seeds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean similarity within both groups minus that between (layers, labelings), without pairs of one seed.

    Args:
        values: (layers, runs, runs). seeds: (runs,). labels: (labelings, runs), boolean.
    """
    apart = (seeds[:, None] != seeds).astype(np.float64)
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
    """Are two groups of runs more alike within than between? Permutation test over group labels, all layers.

    The statistic is the mean similarity within both groups minus that between them, averaged over layers: 0 on
    average if the label means nothing, and above 0 wherever representations of the groups differ. Layers are also
    tested one by one; their p-values are adjusted by the distribution of the largest standardized difference of all
    layers (Westfall and Young 1993), because with 252 divisions Holm's correction over nine layers cannot reject.

    Raises:
        ValueError: fewer than three seeds have a run in both groups.
    """
    sides = [maps.places(each) for each in (a, b)]
    seeds = sorted(set(sides[0]) & set(sides[1]))
    if len(seeds) < 3:
        raise ValueError(f"three seeds with a run in both groups are needed, got {seeds}")
    place = np.array([side[each] for side in sides for each in seeds])
    of_seed, count = np.array(seeds * 2), len(seeds)
    values = maps.values[:, place][:, :, place]
    labels = group_labelings(count, count, np.random.default_rng(seed))
    found = _excess(values, of_seed, labels)

    def p_value(row: np.ndarray) -> float:
        return float((row >= row[0] - 1e-12).mean())

    def estimate(layers: Sequence[int]) -> Callable[[list[int]], float]:
        def value(kept: list[int]) -> float:
            at = np.array([*kept, *(count + each for each in kept)])
            own = (np.arange(len(at)) < len(kept))[None]
            return float(_excess(values[list(layers)][:, at][:, :, at], of_seed[at], own).mean())

        return value

    pairs = ~np.eye(count, dtype=bool)
    rows = []
    for layer, name in enumerate(maps.layers):
        own, cross, other = (
            float(values[layer][rows_at][:, columns_at][pairs].mean())
            for rows_at, columns_at in (
                (slice(count), slice(count)),
                (slice(count), slice(count, None)),
                (slice(count, None), slice(count, None)),
            )
        )
        interval = mean_interval(pseudo_values(estimate([layer]), count))
        rows.append(
            {
                "layer": name, "within": own, "within_random": other, "between": cross,
                "difference": interval.estimate, "low": interval.low, "high": interval.high, "p": p_value(found[layer]),
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    table["adjusted"] = _over_layers(found)
    pseudo = pseudo_values(estimate(range(len(maps.layers))), count)
    return Separation(mean_interval(pseudo), p_value(found.mean(0)), len(labels), pseudo, table)


def _over_layers(found: np.ndarray) -> np.ndarray:
    """P-values of layers (layers, labelings), the given labeling first, adjusted for there being several."""
    spread = found.std(1, keepdims=True)
    standardized = found / np.where(spread > 0, spread, 1)
    return (standardized.max(0) >= standardized[:, :1] - 1e-12).mean(1)


def spread_ratios(maps: LayerMaps, group: str, reference: str = "random", *, ratio: float = 1.25) -> pd.DataFrame:
    """How much runs of a group differ among themselves, over how much those of a reference do: one row a layer.

    Spread is 1 - the mean similarity of pairs of runs. Both groups use the same seeds.

    Args:
        ratio: spreads within this factor of each other, up or down, count as equal.

    Returns:
        layer, group, seeds, spread, reference, ratio, low, high (95 % interval), as_high (p-value of "not lower by
        more than the factor"), lower (of "lower by more than the factor"), equal (p-value of "within the factor", two
        one-sided tests), pseudo (pseudo-values of the log ratio). Empty below three common seeds.
    """
    sides = [maps.places(each) for each in (group, reference)]
    seeds = sorted(set(sides[0]) & set(sides[1]))
    columns = ["layer", "group", "seeds", "spread", "reference", "ratio", "low", "high", "as_high", "lower", "equal"]
    if len(seeds) < 3:
        return pd.DataFrame(columns=[*columns, "pseudo"])
    index = [np.array([side[each] for each in seeds]) for side in sides]
    rows = []
    for layer, name in enumerate(maps.layers):
        own, other = (maps.values[layer][np.ix_(at, at)] for at in index)

        def log_ratio(kept: list[int], own: np.ndarray = own, other: np.ndarray = other) -> float:
            return math.log(_spread(own, kept) / _spread(other, kept))

        pseudo, margin = pseudo_values(log_ratio, len(seeds)), math.log(ratio)
        log = mean_interval(pseudo)
        whole = list(range(len(seeds)))
        tests = (
            one_sided_p(pseudo, -margin, above=True),
            one_sided_p(pseudo, -margin, above=False),
            equivalence_p(pseudo, margin),
        )
        shown = [math.exp(min(each, 700.0)) for each in log[:3]]
        spread = (_spread(own, whole), _spread(other, whole))
        rows.append((name, group, len(seeds), *spread, *shown, *tests, pseudo))
    return pd.DataFrame(rows, columns=[*columns, "pseudo"])


def _spread(values: np.ndarray, kept: list[int]) -> float:
    """1 - mean similarity over pairs of different runs, at least a millionth."""
    among = values[np.ix_(kept, kept)]
    return max(1 - float(among[~np.eye(len(kept), dtype=bool)].mean()), 1e-6)
