"""p-values for few replicates: one- and two-sided, equivalence, permutation; corrections for many of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as sps

from analysis.statistics.intervals import ROUNDING, Floats, finite_values, varies


def one_sided_p(values: ArrayLike, bound: float, *, above: bool) -> float:
    """P-value of the one-sided t test that the mean is above (or below) `bound`; NaN below two replicates."""
    x = finite_values(values, "values")
    if len(x) < 2:
        return math.nan
    excess = float(x.mean() - bound) * (1 if above else -1)
    if not varies(x):
        return 0.0 if excess > ROUNDING * abs(bound) else 1.0
    error = float(x.std(ddof=1)) / math.sqrt(len(x))
    return float(sps.t.sf(excess / error, len(x) - 1))


def two_sided_p(values: ArrayLike, bound: float = 0.0) -> float:
    """P-value of the two-sided t test that the mean differs from `bound`; NaN below two replicates."""
    up, down = (one_sided_p(values, bound, above=above) for above in (True, False))
    return min(1.0, 2 * min(up, down)) if math.isfinite(up) else math.nan


def non_inferiority_p(differences: ArrayLike, margin: float) -> float:
    """P-value for "worse by less than `margin`" (margin > 0), from paired differences new - reference."""
    if margin <= 0:
        raise ValueError(f"margin must be above 0, got {margin}")
    return one_sided_p(differences, -margin, above=True)


def equivalence_p(differences: ArrayLike, margin: float) -> float:
    """P-value for "within +-`margin`": two one-sided tests (TOST, Schuirmann 1987), the larger of both."""
    return max(non_inferiority_p(differences, margin), one_sided_p(differences, margin, above=False))


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979); family-wise, any dependence."""
    p = finite_values(p_values, "p-values")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p) else scaled
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Adjusted p-values that hold the false discovery rate (Benjamini and Hochberg 1995), in the order given."""
    p = finite_values(p_values, "p-values")
    return np.asarray(sps.false_discovery_control(p)) if len(p) else p


def permutation_p(a: ArrayLike, b: ArrayLike, *, paired: bool, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided permutation p-value for a difference in means.

    Exact, by going through every relabeling (paired: every choice of signs), when there are at most
    `resamples` of them; otherwise that many random ones. Three pairs cannot give a p-value below 0.25.
    """
    first, second = finite_values(a, "a"), finite_values(b, "b")
    if paired and len(first) != len(second):
        raise ValueError(f"paired samples must be equally long, got {len(first)} and {len(second)}")
    result = sps.permutation_test(
        (first, second),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)
