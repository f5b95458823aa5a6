"""Statistics for few replicates: pure functions on numbers, float64, NaN in -> error out.

A replicate is one seed (with its fold). With three to five of them the t interval is the only one that
holds its level, so it is the default everywhere; `test_statistics.py` checks every claim of a level by
simulation. The bootstrap is for many units inside one run, such as images by patient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as sps

Floats = NDArray[np.float64]
ROUNDING = 1e-12  # relative; what differs by less is equal


class Interval(NamedTuple):
    """An estimate with its confidence bounds; NaN bounds, and `method` says so, where `n` cannot give any."""

    estimate: float
    low: float
    high: float
    n: int
    method: str


class Heterogeneity(NamedTuple):
    """How much group means differ beyond the noise of their replicates; see `heterogeneity`."""

    q: float
    dof: int
    p: float
    i2: Interval
    tau: Interval
    within: int
    per_group: float
    noise: float


def finite_values(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a list of numbers, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array)).tolist()
        raise ValueError(f"{name} must be finite, got {array[bad].tolist()} at {bad}; leave diverged runs out first")
    return array


def varies(x: Floats) -> bool:
    """Whether the values differ at all: equal ones can miss their own mean by a rounding error."""
    return bool(np.ptp(x) > 0)


def mean_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """The mean of replicates with its two-sided Student t interval; NaN bounds below two replicates."""
    x = finite_values(values, "values")
    percent = f"{100 * confidence:g} %"
    if len(x) == 0:
        return Interval(math.nan, math.nan, math.nan, 0, "no replicate")
    if len(x) == 1:
        return Interval(float(x[0]), math.nan, math.nan, 1, "one replicate: no interval")
    half = sps.t.ppf(0.5 + confidence / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    mean = float(x.mean())
    return Interval(mean, mean - float(half), mean + float(half), len(x), f"{percent} t interval, n = {len(x)}")


def bootstrap_mean(
    values: ArrayLike,
    groups: Sequence[Any] | None = None,
    *,
    method: str = "BCa",
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """The mean of many units with a bootstrap interval that resamples whole groups (patients), not images.

    Args:
        values: one number per unit, such as the Dice of each test image.
        groups: the group of each unit; None takes every unit as its own group.
        method: "BCa" (Efron 1987) or "percentile".

    Below about 20 groups the interval is too narrow; use `mean_interval` over replicates for seeds.
    """
    x = finite_values(values, "values")
    keys = np.arange(len(x)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(keys) != len(x):
        raise ValueError(f"groups must name one group per value, got {len(keys)} for {len(x)} values")
    sums, counts = np.bincount(keys, weights=x), np.bincount(keys).astype(np.float64)
    n = len(sums)
    mean = float(x.mean()) if len(x) else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n, f"{n} groups: no interval")
    name = f"{100 * confidence:g} % {method} bootstrap interval, {n} groups"
    if np.ptp(sums / counts) <= ROUNDING * abs(mean):  # every resample gives the same mean, where BCa has no answer
        return Interval(mean, mean, mean, n, name)
    result = sps.bootstrap(
        (sums, counts),
        lambda s, c, axis: np.sum(s, axis=axis) / np.sum(c, axis=axis),
        paired=True,
        vectorized=True,
        method=method,
        confidence_level=confidence,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(mean, float(low), float(high), n, name)


def heterogeneity(groups: Sequence[ArrayLike], *, confidence: float = 0.95) -> Heterogeneity:
    """Random-effects heterogeneity of group means: Cochran's Q, I^2 and tau, from groups of replicates.

    The estimates are those of DerSimonian and Laird (1986) with one noise variance pooled over all groups,
    as three replicates are too few to weigh each group by its own. The variance being estimated, Q / dof
    follows F, not chi-square / dof: p comes from F (which keeps its level where chi-square rejects far too
    often), and so do the intervals, by the Q-profile idea of Viechtbauer (2007): the tau values that F does
    not reject. Exact for groups of equal size and variance.

    Returns:
        q, dof, p; i2 in [0, 1] and tau (SD of the true group means, unit of the data) with their intervals;
        within: degrees of freedom of the noise; per_group: replicates of a group, as DerSimonian and Laird count them;
        noise: variance of a replicate. All NaN where the replicates do not vary at all.

    Raises:
        ValueError: fewer than two groups, or no group with two replicates.
    """
    arrays = [finite_values(group, f"group {number}") for number, group in enumerate(groups)]
    sizes = np.array([len(a) for a in arrays], dtype=np.float64)
    k, within = len(arrays), int(sizes.sum()) - len(arrays)
    if k < 2 or sizes.min() < 1 or within < 1:
        raise ValueError(
            f"heterogeneity needs at least two groups, none empty and one with two replicates, got {sizes.tolist()}"
        )
    means = np.array([a.mean() for a in arrays])
    noise = sum(float(((a - a.mean()) ** 2).sum()) for a in arrays) / within
    name = f"{100 * confidence:g} % Q-profile interval (F), {k} groups"
    if not any(varies(a) for a in arrays):
        empty = Interval(math.nan, math.nan, math.nan, k, "replicates do not vary: no interval")
        return Heterogeneity(math.nan, k - 1, math.nan, empty, empty, within, math.nan, 0.0)
    grand = float((sizes * means).sum() / sizes.sum())
    q = float((sizes * (means - grand) ** 2).sum() / noise)
    f = q / (k - 1)
    size = float(sizes.sum() - (sizes**2).sum() / sizes.sum()) / (k - 1)  # per group, as DL count
    tail = (1 - confidence) / 2
    # F divided by (1 + size tau^2 / noise) follows the central F: solve for that ratio, at least 1.
    ratios = [max(1.0, f / float(x)) for x in (1.0, *sps.f.ppf([1 - tail, tail], k - 1, within))]
    shares, spreads = [1 - 1 / r for r in ratios], [math.sqrt((r - 1) * noise / size) for r in ratios]
    i2 = Interval(shares[0], shares[1], shares[2], k, name)
    tau = Interval(spreads[0], spreads[1], spreads[2], k, name)
    p = float(sps.f.sf(f, k - 1, within))
    return Heterogeneity(q, k - 1, p, i2, tau, within, size, noise)


def time_ratio(times: ArrayLike, reference: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Ratio of restricted times, new / reference, over paired replicates: exp of the mean log ratio.

    A run that never got there within its budget must be given with the whole budget as its time (the
    restricted time, as in a restricted mean survival time), so the estimate is the ratio of time spent
    within the budget. With never-reached runs on the new side it is a lower bound of the ratio without a
    budget: it can still show that the new one is slower, and the caller must say how many runs it stands
    for.
    """
    t, r = finite_values(times, "times"), finite_values(reference, "reference times")
    if len(t) != len(r) or (len(t) and min(t.min(), r.min()) <= 0):
        raise ValueError(f"times must be positive and paired, got {t.tolist()} and {r.tolist()}")
    log = mean_interval(np.log(t) - np.log(r), confidence=confidence)
    ratio, low, high = (math.exp(min(v, 700.0)) if math.isfinite(v) else math.nan for v in log[:3])
    return Interval(ratio, low, high, log.n, f"{log.method}, of log ratios")
