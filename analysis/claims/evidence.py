"""Numbers held against lines: what decides a row of the claims ledger.

A row rests on one or more *parts*: a number, the line that it is held against, and the side of it on which the claim
holds. Parts are joined by what the claim says: `AllOf` (every one must hold), `AnyOf` (one is enough) and `Alike`
(told under several conditions, which must agree). Each joint gives two one-sided p-values: that the claim holds, and
that it does not. Where all must hold, the largest p supports (an intersection-union test, Berger 1982, which needs no
correction), and the smallest, times their number, contradicts (Bonferroni); where one is enough, the other way round.

An interval is shown with just the tails that decide: `interval` takes one for each side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize
from scipy import stats as sps

from analysis.claims.means import REPEATS, Difference, Mean, OneSided
from analysis.statistics.intervals import Floats
from analysis.statistics.looks import Growth


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

    def again(self, grown: Growth | None = None) -> OneSided:
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

    The exact distribution of the count (Poisson binomial), at the line with all odds by chance times the factor that
    brings the mean there; the interval is its inversion.
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

    def _odds(self, excess: float) -> float:
        """By what the odds are multiplied where the mean chance is so much above that of chance."""
        if excess == 0:
            return 1.0
        mean = float(self.chances.mean()) + excess
        return math.exp(optimize.brentq(lambda log: float(self._at(math.exp(log)).mean()) - mean, -50, 50))

    def _tails(self, odds: float) -> tuple[Floats, Floats]:
        """P(at least k) and P(at most k) for every count k."""
        counts = np.ones(1)
        for chance in self._at(odds):
            counts = np.convolve(counts, [1 - chance, chance])
        return np.cumsum(counts[::-1])[::-1], np.cumsum(counts)

    def p(self) -> OneSided:
        return self._sides(self.found)

    def _sides(self, found: Any) -> OneSided:
        over, under = (tail[found] for tail in self._tails(self._odds(self.line)))
        return OneSided(over, under) if self.above else OneSided(under, over)

    def again(self, grown: Growth | None = None) -> OneSided:
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

    def factors(self) -> tuple[int, int]:
        """By what the tails of a part are divided, for support and against; 1 where all parts must be on that side."""
        raise NotImplementedError

    def p(self) -> OneSided:
        return self._join([part.p() for part in self.parts])

    def again(self, grown: Growth | None = None) -> OneSided:
        return self._join([part.again(grown) for part in self.parts])

    def _join(self, sides: Sequence[OneSided]) -> OneSided:
        support, against = self.factors()
        return OneSided(_one_p([p.support for p in sides], support), _one_p([p.against for p in sides], against))


class AllOf(Joint):
    """Every part must hold; one that does not contradicts."""

    def factors(self) -> tuple[int, int]:
        return 1, len(self.parts)


class AnyOf(Joint):
    """One part that holds is enough; all must fail to contradict."""

    def factors(self) -> tuple[int, int]:
        return len(self.parts), 1


class Alike(Joint):
    """The same question under several conditions: it is answered where all give the same answer."""

    def factors(self) -> tuple[int, int]:
        return 1, 1


Leaf = Mean | Difference | Spread | Count  # one number held against a line
Part = Leaf | Joint


def joined(joint: type[Joint], parts: Sequence[Part]) -> Part:
    """The parts joined; a single one needs no joint."""
    return parts[0] if len(parts) == 1 else joint(tuple(parts))


def leaves(part: Part, support: int = 1, against: int = 1) -> Iterator[tuple[Leaf, int, int]]:
    """Every number under a part, with what its tails are divided by on the side of support, and on the other."""
    if not isinstance(part, Joint):
        yield part, support, against
        return
    own = part.factors()
    for each in part.parts:
        yield from leaves(each, support * own[0], against * own[1])


def decisive(part: Part, *, support: bool) -> Leaf:
    """The number that the p-value of one side comes from."""
    while isinstance(part, Joint):
        sides = [each.p() for each in part.parts]
        p = np.array([each.support if support else each.against for each in sides], dtype=np.float64)
        first = part.factors()[0 if support else 1] > 1
        part = part.parts[int(p.argmin() if first else p.argmax())]
    return part


def with_means(part: Part, change: Callable[[Mean], Mean]) -> Part:
    """The same parts, each mean changed."""
    if isinstance(part, Joint):
        return type(part)(tuple(with_means(each, change) for each in part.parts))
    return change(part) if isinstance(part, Mean) else part


def _one_p(p: Sequence[Any], factor: int) -> Any:
    """The p-value of parts together: of the last that must be on a side, or, corrected, of the first that is."""
    each = np.stack([np.asarray(value, dtype=np.float64) for value in p])
    return np.minimum(1.0, factor * each.min(axis=0)) if factor > 1 else each.max(axis=0)
