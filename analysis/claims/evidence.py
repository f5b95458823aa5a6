"""Numbers held against lines: what decides a row of the claims ledger.

A row rests on one or more *parts*: a number, the line that it is held against, and the side of it on which the claim
holds. Parts are joined by what the claim says: `AllOf` (every one must hold), `AnyOf` (one is enough) and `Alike`
(told under several conditions, which must agree). Each joint gives two one-sided p-values: that the claim holds, and
that it does not. Where all must hold, the largest p supports (an intersection-union test, Berger 1982, which needs no
correction), and the smallest, times their number, contradicts (Bonferroni); where one is enough, the other way round.

An interval is shown with just the tails that decide: `Leaf.interval` takes one for each side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy import stats as sps

from analysis.statistics.intervals import ROUNDING, finite_values

Floats = NDArray[np.float64]
REPEATS = 4000  # studies that are drawn to say how often a verdict would come again


class OneSided(NamedTuple):
    """Two p-values, numbers or one per drawn study: that the claim holds, and that it does not."""

    support: Any
    against: Any


class Leaf(Protocol):
    """One number held against a line."""

    name: str
    line: float
    above: bool

    @property
    def effect(self) -> float: ...

    def p(self) -> OneSided: ...

    def again(self, size: int | None = None) -> OneSided:
        """The p-values of drawn studies with new replicates: as many as here, or `size` for a mean over seeds.

        More seeds bring no more tasks or groups, so that numbers over these stay what they are.
        """
        ...

    def interval(self, below: float, over: float) -> tuple[float, float]: ...

    def shown(self, value: float) -> float: ...


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
    variance that pooling adds, none by default. shown: from the scale of the values to that of the ledger.
    """

    name: str
    values: Floats
    line: float
    above: bool
    unit: str
    scale: Callable[[float], float] = float
    prior: tuple[float, float] = (0.0, 0.0)

    @property
    def effect(self) -> float:
        return float(self.values.mean())

    @property
    def variance(self) -> tuple[float, float]:
        """Variance of a replicate, pooled with the prior, and its degrees of freedom."""
        own, (d0, s0) = len(self.values) - 1, self.prior
        alone = float(self.values.var(ddof=1)) if np.ptp(self.values) > 0 else 0.0
        return ((d0 * s0 + own * alone) / (d0 + own) if d0 else alone), d0 + own

    def p(self) -> OneSided:
        variance, dof = self.variance
        return _t_sides(self.effect - self.line, math.sqrt(variance / len(self.values)), dof, self.above)

    def again(self, size: int | None = None) -> OneSided:
        """Of studies with new replicates, the true mean drawn from what these replicates say of it.

        The same random numbers weigh the replicates of every part, so that parts of one row stay as correlated as
        their replicates are.
        """
        n, (variance, dof) = len(self.values), self.variance
        rng = np.random.default_rng(n)
        alone = self.values - self.effect
        if not np.ptp(alone) > 0:  # nothing to weigh: the pooled variance alone
            alone = np.linspace(-1, 1, n) + 0.0
        alone = alone * math.sqrt(variance / alone.var(ddof=1))
        weights = rng.standard_normal((2, REPEATS, n)) @ alone / math.sqrt(n * (n - 1))
        spread = np.sqrt(dof / rng.chisquare(dof, REPEATS)) if math.isfinite(dof) else 1.0
        new = size or n
        means = self.effect + (weights[0] + weights[1] * math.sqrt(n / new)) * spread
        own, (d0, s0) = new - 1, self.prior
        fresh = variance * spread**2 * rng.chisquare(own, REPEATS) / own
        fresh = (d0 * s0 + own * fresh) / (d0 + own) if d0 else fresh
        return _t_sides(means - self.line, np.sqrt(fresh / new), d0 + own, self.above)

    def interval(self, below: float, over: float) -> tuple[float, float]:
        variance, dof = self.variance
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
        return self._sides(self.effect, *(side.var(ddof=1) for side in (self.first, self.second)))

    def _sides(self, effect: Any, first: Any, second: Any) -> OneSided:
        error, dof = self._error(first, second)
        return _t_sides(effect - self.line, error, dof, self.above)

    def _error(self, first: Any, second: Any) -> tuple[Any, Any]:
        """Standard error and degrees of freedom (Welch 1947) from the variances of both sides."""
        a, b = first / len(self.first), second / len(self.second)
        return np.sqrt(a + b), (a + b) ** 2 / (a**2 / (len(self.first) - 1) + b**2 / (len(self.second) - 1))

    def again(self, size: int | None = None) -> OneSided:
        rng = np.random.default_rng(0)
        means, variances = [], []
        for side in (self.first, self.second):
            n = len(side)
            scale = side.var(ddof=1) * (n - 1) / rng.chisquare(n - 1, REPEATS)
            means.append(side.mean() + rng.standard_normal(REPEATS) * np.sqrt(2 * scale / n))
            variances.append(scale * rng.chisquare(n - 1, REPEATS) / (n - 1))
        return self._sides(means[0] - means[1], *variances)

    def interval(self, below: float, over: float) -> tuple[float, float]:
        error, dof = self._error(self.first.var(ddof=1), self.second.var(ddof=1))
        return self.effect - float(sps.t.isf(below, dof) * error), self.effect + float(sps.t.isf(over, dof) * error)

    def shown(self, value: float) -> float:
        return value


@dataclass(frozen=True)
class Spread:
    """A standard deviation between groups, from an F ratio; or, with `share`, its share of the variance (I^2).

    ratio: of the mean squares between and within groups, on `dof` degrees of freedom. per_group: replicates of a
    group. noise: variance of a replicate. With a true spread tau the ratio, divided by 1 + per_group tau^2 / noise,
    follows F; the interval holds what F does not reject (the Q-profile idea of Viechtbauer 2007).
    """

    name: str
    ratio: float
    dof: tuple[float, float]
    per_group: float
    noise: float
    line: float
    above: bool
    share: bool = False

    def _value(self, inflation: float) -> float:
        inflation = max(1.0, inflation)
        return 1 - 1 / inflation if self.share else math.sqrt((inflation - 1) * self.noise / self.per_group)

    @property
    def _inflation(self) -> float:
        """What the F ratio is multiplied by where the spread lies on the line."""
        return 1 / (1 - self.line) if self.share else 1 + self.per_group * self.line**2 / self.noise

    @property
    def effect(self) -> float:
        return self._value(self.ratio)

    def _sides(self, ratio: Any) -> OneSided:
        over = sps.f.sf(ratio / self._inflation, *self.dof)
        return OneSided(over, 1 - over) if self.above else OneSided(1 - over, over)

    def p(self) -> OneSided:
        return self._sides(self.ratio)

    def again(self, size: int | None = None) -> OneSided:
        rng = np.random.default_rng(0)
        now, then = rng.f(*self.dof, size=(2, REPEATS))
        return self._sides(np.maximum(1.0, self.ratio / now) * then)

    def interval(self, below: float, over: float) -> tuple[float, float]:
        low, high = float(sps.f.isf(below, *self.dof)), float(sps.f.ppf(over, *self.dof))
        return self._value(self.ratio / low), self._value(self.ratio / high)

    def shown(self, value: float) -> float:
        return value


@dataclass(frozen=True)
class Count:
    """How many of independent units do something, against their chances; the effect is the share beyond chance.

    The exact distribution of the count (Poisson binomial); the interval is its inversion, all odds times one factor.
    """

    name: str
    found: int
    chances: Floats
    line: float
    above: bool

    @property
    def effect(self) -> float:
        return self.found / len(self.chances) - float(self.chances.mean())

    def _at(self, odds: float) -> Floats:
        """Chances of the units where all odds are `odds` times those by chance."""
        return odds * self.chances / (1 - self.chances + odds * self.chances)

    def _tails(self, odds: float) -> tuple[Floats, Floats]:
        """P(at least k) and P(at most k) for every count k."""
        counts = np.ones(1)
        for chance in self._at(odds):
            counts = np.convolve(counts, [1 - chance, chance])
        return np.cumsum(counts[::-1])[::-1], np.cumsum(counts)

    def p(self) -> OneSided:
        return self._sides(self.found)

    def _sides(self, found: Any) -> OneSided:
        over, under = (tail[found] for tail in self._tails(1.0))
        return OneSided(over, under) if self.above else OneSided(under, over)

    def again(self, size: int | None = None) -> OneSided:
        rng, n = np.random.default_rng(0), len(self.chances)
        share = rng.beta(self.found + 0.5, n - self.found + 0.5, REPEATS)  # Jeffreys
        return self._sides(rng.binomial(n, share))

    def interval(self, below: float, over: float) -> tuple[float, float]:
        mean, n = float(self.chances.mean()), len(self.chances)

        def solved(side: int, tail: float) -> float:
            def miss(log: float) -> float:
                return float(self._tails(math.exp(log))[side][self.found]) - tail

            return float(self._at(math.exp(optimize.brentq(miss, -50, 50))).mean()) - mean

        low = -mean if self.found == 0 else solved(0, below)
        return low, 1 - mean if self.found == n else solved(1, over)

    def shown(self, value: float) -> float:
        return value


@dataclass(frozen=True)
class Joint:
    """Parts joined: see the module."""

    parts: tuple[Part, ...]

    def _join(self, sides: Sequence[OneSided]) -> OneSided:
        raise NotImplementedError

    def factors(self) -> tuple[int, int]:
        """By what the tails of a part are divided: where it supports, and where it speaks against."""
        raise NotImplementedError

    def p(self) -> OneSided:
        return self._join([part.p() for part in self.parts])

    def again(self, size: int | None = None) -> OneSided:
        return self._join([part.again(size) for part in self.parts])


class AllOf(Joint):
    """Every part must hold; one that does not contradicts."""

    def _join(self, sides: Sequence[OneSided]) -> OneSided:
        return OneSided(_most([s.support for s in sides]), _first([s.against for s in sides]))

    def factors(self) -> tuple[int, int]:
        return 1, len(self.parts)


class AnyOf(Joint):
    """One part that holds is enough; all must fail to contradict."""

    def _join(self, sides: Sequence[OneSided]) -> OneSided:
        return OneSided(_first([s.support for s in sides]), _most([s.against for s in sides]))

    def factors(self) -> tuple[int, int]:
        return len(self.parts), 1


class Alike(Joint):
    """The same question under several conditions: it is answered where all give the same answer."""

    def _join(self, sides: Sequence[OneSided]) -> OneSided:
        return OneSided(_most([s.support for s in sides]), _most([s.against for s in sides]))

    def factors(self) -> tuple[int, int]:
        return 1, 1


Part = Mean | Difference | Spread | Count | Joint


def joined(joint: type[Joint], parts: Sequence[Part]) -> Part:
    """The parts joined; a single one needs no joint."""
    return parts[0] if len(parts) == 1 else joint(tuple(parts))


def leaves(part: Part, support: int = 1, against: int = 1) -> Iterator[tuple[Any, int, int]]:
    """Every number under a part, with what its tails are divided by on the side of support, and on the other."""
    if not isinstance(part, Joint):
        yield part, support, against
        return
    own = part.factors()
    for each in part.parts:
        yield from leaves(each, support * own[0], against * own[1])


def decisive(part: Part, *, support: bool) -> Any:
    """The number that the p-value of one side comes from."""
    while isinstance(part, Joint):
        sides = [each.p() for each in part.parts]
        p = np.array([each.support if support else each.against for each in sides], dtype=np.float64)
        first = part.factors()[0 if support else 1] > 1
        part = part.parts[int(p.argmin() if first else p.argmax())]
    return part


def with_priors(part: Part, priors: Callable[[Mean], tuple[float, float]]) -> Part:
    """The same parts, each mean with its prior."""
    if isinstance(part, Joint):
        return type(part)(tuple(with_priors(each, priors) for each in part.parts))
    return replace(part, prior=priors(part)) if isinstance(part, Mean) else part


def mean(
    name: str, values: pd.Series | ArrayLike, line: float, *, above: bool, unit: str,
    scale: Callable[[float], float] = float,
) -> Mean:  # fmt: skip
    """A `Mean` of replicates: a series by seed and fold is averaged over each fold first."""
    numbers = per_fold(values) if isinstance(values, pd.Series) else values
    return Mean(name, finite_values(numbers, name or "values"), line, above, unit, scale)


def _t_sides(excess: Any, error: Any, dof: Any, above: bool) -> OneSided:
    sure = np.where(np.abs(excess) > ROUNDING, np.sign(excess) * np.inf, 0.0)  # equal replicates have no error
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(np.asarray(error) > 0, np.divide(excess, error), sure)
    over, under = sps.t.sf(t, dof), sps.t.cdf(t, dof)
    return OneSided(over, under) if above else OneSided(under, over)


def _most(p: Sequence[Any]) -> Any:
    return np.max(np.stack([np.asarray(each, dtype=np.float64) for each in p]), axis=0)


def _first(p: Sequence[Any]) -> Any:
    return np.minimum(1.0, len(p) * np.min(np.stack([np.asarray(each, dtype=np.float64) for each in p]), axis=0))
