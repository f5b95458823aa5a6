"""Looking at growing results more than once without deciding too often."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy import stats as sps

LOOKS = (3, 5, 8, 12, 20)
OF_FOLD = 0.5  # share of a seed's variance that is assumed to be its test fold's; only forecasts hang on it


def looks_until(first: int, most: int) -> tuple[int, ...]:
    """The numbers of seeds at which a study is looked at: `first`, those of `LOOKS` in between, and `most`."""
    return tuple(sorted({first, *(each for each in LOOKS if first < each < most), most}))


class Growth(NamedTuple):
    """What a study is when it has grown: the share of its information that is there now, and its replicates then."""

    share: float
    replicates: int


def growth(now: int, most: int, folds: int) -> Growth:
    """From `now` seeds to `most`, seeds of one test fold being one replicate, as they share its images.

    Seeds beyond the folds lower only the part of the variance of a mean that is not the folds'.
    """

    def variance(seeds: int) -> float:
        return OF_FOLD / min(seeds, folds) + (1 - OF_FOLD) / seeds

    return Growth(min(1.0, variance(most) / variance(now)), min(most, folds))


@functools.cache  # it takes a second
def looking_factor(looks: tuple[int, ...], alpha: float) -> float:
    """What p-values are multiplied by where a study is looked at so often; 1 where it is looked at once.

    The factor grows as the level falls: one that holds for a level holds for all above it.
    """
    return alpha / level_at_looks(looks, alpha) if looks else 1.0


def level_at_looks(looks: Sequence[int], alpha: float) -> float:
    """The two-sided level to decide at in every look, so that all looks together decide `alpha` of true nulls.

    Pocock's bound (1977) for any spacing: the same |z| at every look, from the joint normal law of the statistics,
    whose correlation is sqrt(n_i / n_j). For t statistics the level is kept and the distribution changed (Jennison and
    Turnbull 2000, section 4.4).

    Args:
        looks: numbers of seeds, rising; fixed beforehand.
    """
    n = np.asarray(looks, dtype=np.float64)
    if len(n) == 1:
        return alpha
    correlation = np.sqrt(np.minimum.outer(n, n) / np.maximum.outer(n, n))

    def beyond(bound: float) -> float:
        box = np.full(len(n), bound)
        law = sps.multivariate_normal(np.zeros(len(n)), correlation, seed=0, abseps=1e-6, maxpts=200_000)
        return 1 - float(law.cdf(box, lower_limit=-box)) - alpha

    low = float(sps.norm.isf(alpha / 2))
    bound = optimize.brentq(beyond, low, low + math.sqrt(2 * len(n)), xtol=1e-4)
    return 2 * float(sps.norm.sf(bound))
