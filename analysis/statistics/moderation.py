"""What many quantities say of each (empirical Bayes): variances of few replicates, and the chance in effects."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special
from scipy import stats as sps

TAILS = 3  # degrees of freedom of the law of true effects: some lie a hundred standard errors from their lines
FEWEST = 6  # with fewer variances the prior itself is a guess, and the level is not held


def variance_prior(variances: ArrayLike, dof: ArrayLike) -> tuple[float, float]:
    """Degrees of freedom and variance of the inverse chi-square law that these variances were drawn from.

    By the moments of their logarithms (Smyth 2004, section 6.2); infinite degrees of freedom where they differ by no
    more than chance. Variances of 0 tell nothing of the law and are left out.

    Args:
        variances: unbiased estimates, in the square of one unit. dof: the degrees of freedom of each.

    Returns:
        (0, 0), no prior, below `FEWEST` variances.
    """
    s2, d = np.asarray(variances, dtype=np.float64), np.asarray(dof, dtype=np.float64)
    s2, d = s2[s2 > 0], d[s2 > 0]
    if len(s2) < FEWEST:
        return 0.0, 0.0
    logs = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    beyond = float(logs.var(ddof=1) - special.polygamma(1, d / 2).mean())
    if beyond <= 0:
        return math.inf, float(np.exp(logs.mean()))
    half = float(optimize.brentq(lambda x: special.polygamma(1, x) - beyond, 1e-3, 1e9))
    return 2 * half, float(np.exp(logs.mean() + special.digamma(half) - math.log(half)))


def lent(prior: tuple[float, float], own: int) -> tuple[float, float]:
    """The prior as a variance with `own` degrees of freedom may use it: with at most as many as it has itself.

    Where variances are few or differ much, their law is uncertain, and lending more makes t tests reject too often; so
    limited, their level is between .02 and .052 for 6 to 40 variances of 3 or 5 replicates, whatever the law
    (`tests/analysis/statistics/test_moderation.py`).
    """
    return min(prior[0], float(own)), prior[1]


def pull(t: ArrayLike, dof: ArrayLike) -> float:
    """The share of chance in how far effects lie from their lines, 0 to 1, from the t statistics of many of them.

    Empirical Bayes, true effects in standard errors being normal about their lines, with the same variance (James and
    Stein 1961; Efron and Morris 1973): a true effect is guessed nearer to its line than it was found, by this share.
    With one variance t^2 is one number times F on 1 and dof degrees; by the median, as some effects lie very far from
    their lines. 0 below `FEWEST` statistics.

    Args:
        t: statistics against the lines. dof: the degrees of freedom of each.
    """
    scores = np.asarray(t, dtype=np.float64) ** 2 / sps.f.median(1, np.asarray(dof, dtype=np.float64))
    if len(scores) < FEWEST:
        return 0.0
    return 1 / max(float(np.median(scores)), 1.0)


def pulls(t: float, dof: float, pull: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the share of chance in one effect, given its t statistic; those of 0 and of 1 are that number.

    True effects in standard errors follow Student's law on `TAILS` degrees of freedom: normal, with a variance that is
    drawn for each. Its scale is that at which half of them are as large as half of the normal ones that `pull` speaks
    of. So an effect near the others is pulled as far as they are, and one that lies far off hardly.

    Args:
        t: against the line. dof: its degrees of freedom. pull: as of the function of that name.
    """
    if not 0 < pull < 1:
        return np.full(count, pull)
    precision = np.geomspace(1e-12, 1e2, 600)
    wide = (1 / pull - 1) * (sps.norm.ppf(0.75) / sps.t.ppf(0.75, TAILS)) ** 2 / precision  # variance of true effects
    scale = np.sqrt(1 + wide)  # of t
    logs = sps.chi2.logpdf(TAILS * precision, TAILS) + np.log(precision) + sps.t.logpdf(t / scale, dof) - np.log(scale)
    weights = np.exp(logs - logs.max())
    return rng.choice(1 / (1 + wide), count, p=weights / weights.sum())
