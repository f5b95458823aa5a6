"""Means of replicates held against lines: the numbers that most rows of the claims ledger rest on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special
from scipy import stats as sps

from analysis.statistics.intervals import ROUNDING, Floats, finite_values
from analysis.statistics.looks import Growth
from analysis.statistics.moderation import pulls

REPEATS = 4000  # studies that are drawn to say how often a verdict would come again


class OneSided(NamedTuple):
    """Two p-values, numbers or one per drawn study: that the claim holds, and that it does not."""

    support: Any
    against: Any


def per_fold(values: pd.Series) -> Floats:
    """The mean of the replicates that share a test fold, one number per fold, in the order of the folds.

    Seeds whose test images are the same are no independent replicates (Nadeau and Bengio 2003): with ten seeds on five
    folds, a t interval over seeds excludes a true 0 four times as often as it says.

    Args:
        values: indexed by replicate, `seed` and `fold`.
    """
    return values.groupby(level="fold").mean().to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class Mean:
    """A mean over independent replicates, by Student's t.

    unit: parts of one unit pool their variances (`analysis.statistics.moderation`). prior: degrees of freedom and
    variance that pooling adds, none by default. pull: the share of an effect's way from its line that is guessed to be
    chance, where one asks what would come again. shown: from the scale of the values to that of the ledger.
    """

    name: str
    values: Floats
    line: float
    above: bool
    unit: str
    scale: Callable[[float], float] = float
    prior: tuple[float, float] = (0.0, 0.0)
    pull: float = 0.0

    @property
    def effect(self) -> float:
        return float(self.values.mean())

    @property
    def variance(self) -> tuple[float, float]:
        """Variance of a replicate, pooled with the prior, and its degrees of freedom."""
        own, (d0, s0) = len(self.values) - 1, self.prior
        alone = _variance(self.values)
        return ((d0 * s0 + own * alone) / (d0 + own) if d0 else alone), d0 + own

    @property
    def t(self) -> float:
        """Student's statistic; 0 where replicates agree exactly."""
        variance = self.variance[0]
        return (self.effect - self.line) / math.sqrt(variance / len(self.values)) if variance > 0 else 0.0

    def p(self) -> OneSided:
        variance, dof = self.variance
        return _t_sides(self.effect - self.line, math.sqrt(variance / len(self.values)), dof, self.above)

    def again(self, grown: Growth | None = None) -> OneSided:
        """The p-values of drawn studies: new ones of this size, or this one once it has `grown`.

        The true distance from the line is guessed as `statistics.moderation.pulls` says, or, where the study grows,
        from a flat prior, so that nothing is given up too soon (Spiegelhalter, Freedman and Blackburn 1986). A large t
        speaks in part for a variance that was found too small: by Bayes' rule, dof times the variance found over the
        true one is chi-square on dof degrees over 1 + pull t^2 / dof (without pull, the law from priors flat in the
        mean and in the logarithm of the deviation). The same random numbers weigh the replicates of every part, so that
        parts of one row stay as correlated as their replicates are.

        More seeds bring no more tasks or groups: numbers over these leave `grown` alone.
        """
        n, (variance, dof) = len(self.values), self.variance
        rng = np.random.default_rng(n)
        alone = self.values - self.effect
        if not np.ptp(alone) > 0:  # nothing to weigh: the pooled variance alone
            alone = np.linspace(-1, 1, n) + 0.0
        alone = alone * math.sqrt(variance / alone.var(ddof=1))
        weights = rng.standard_normal((2, REPEATS, n)) @ alone / math.sqrt(n * (n - 1))
        chance = pulls(self.t, dof, self.pull if grown is None else 0.0, REPEATS, rng)
        excess, keep = self.effect - self.line, 1 - chance
        spread = np.sqrt((dof + chance * self.t**2) / rng.chisquare(dof, REPEATS))  # true / found deviation
        true = keep * excess + np.sqrt(keep) * weights[0] * spread
        own, known, old, noise = n - 1, 0, 0.0, 1.0
        if grown is not None:  # what was found is a share of what will be
            own, known, old = max(n, grown.replicates) - 1, n - 1, grown.share
            noise = math.sqrt(old * (1 - old))
        found = old * excess + (1 - old) * true + noise * weights[1] * spread
        squares = 2 * rng.standard_gamma((own - known) / 2, REPEATS) * variance * spread**2  # chi-square, also on 0
        squares = squares + known * _variance(self.values)
        d0, s0 = self.prior
        d0 = own if d0 == n - 1 else d0  # as many degrees of freedom are lent as there are (`moderation.lent`)
        error = np.sqrt((d0 * s0 + squares) / (d0 + own) / n * (old or 1.0))
        return _t_sides(found, error, d0 + own, self.above)

    def interval(self, below: float, over: float) -> tuple[float, float]:
        variance, dof = self.variance
        if not variance > 0:
            return -math.inf, math.inf
        error = math.sqrt(variance / len(self.values))
        low, high = (float(sps.t.isf(tail, dof)) * error for tail in (below, over))
        return self.effect - low, self.effect + high

    def shown(self, value: float) -> float:
        return self.scale(value)


@dataclass(frozen=True)
class Difference:
    """The difference of two means over independent units, such as tasks of two kinds, by Welch's t."""

    name: str
    first: Floats
    second: Floats
    line: float
    above: bool

    @property
    def effect(self) -> float:
        return float(self.first.mean() - self.second.mean())

    def p(self) -> OneSided:
        return self._sides(self.effect, _variance(self.first), _variance(self.second))

    def _sides(self, effect: Any, first: Any, second: Any) -> OneSided:
        error, dof = self._error(first, second)
        return _t_sides(effect - self.line, error, dof, self.above)

    def _error(self, first: Any, second: Any) -> tuple[Any, Any]:
        """Standard error and degrees of freedom (Welch 1947) from the variances of both sides."""
        a, b = np.asarray(first / len(self.first)), np.asarray(second / len(self.second))
        fewest = np.full_like(a, min(len(self.first), len(self.second)) - 1)  # where neither side varies
        total = a**2 / (len(self.first) - 1) + b**2 / (len(self.second) - 1)
        return np.sqrt(a + b), np.divide((a + b) ** 2, total, out=fewest, where=total > 0)

    def again(self, grown: Growth | None = None) -> OneSided:
        rng = np.random.default_rng(0)
        means, variances = [], []
        for side in (self.first, self.second):
            n = len(side)
            scale = _variance(side) * (n - 1) / rng.chisquare(n - 1, REPEATS)
            means.append(side.mean() + rng.standard_normal(REPEATS) * np.sqrt(2 * scale / n))
            variances.append(scale * rng.chisquare(n - 1, REPEATS) / (n - 1))
        return self._sides(means[0] - means[1], *variances)

    def interval(self, below: float, over: float) -> tuple[float, float]:
        error, dof = self._error(_variance(self.first), _variance(self.second))
        if not error > 0:
            return -math.inf, math.inf
        return self.effect - float(sps.t.isf(below, dof) * error), self.effect + float(sps.t.isf(over, dof) * error)

    def shown(self, value: float) -> float:
        return value


def mean(
    name: str, values: pd.Series | ArrayLike, line: float, *, above: bool, unit: str,
    scale: Callable[[float], float] = float,
) -> Mean:  # fmt: skip
    """A `Mean` of replicates: a series by seed and fold is averaged over each fold first."""
    numbers = per_fold(values) if isinstance(values, pd.Series) else values
    return Mean(name, finite_values(numbers, name or "values"), line, above, unit, scale)


def _variance(values: Floats) -> float:
    """Unbiased; 0 where the values differ by no more than rounding."""
    return float(values.var(ddof=1)) if np.ptp(values) > ROUNDING else 0.0


def _t_sides(excess: Any, error: Any, dof: Any, above: bool) -> OneSided:
    """One-sided p-values; 1 where replicates agree exactly, since what they would do elsewhere cannot be told."""
    known = np.asarray(error) > 0
    t = np.divide(excess, error, out=np.zeros(np.broadcast_shapes(np.shape(excess), np.shape(error))), where=known)
    over, under = special.stdtr(dof, -t), special.stdtr(dof, t)  # as `scipy.stats.t` has them, many times faster
    over, under = np.where(known, over, 1.0), np.where(known, under, 1.0)
    return OneSided(over, under) if above else OneSided(under, over)
