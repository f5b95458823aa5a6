"""What a count of simulated studies may be if the rate is as stated."""

from __future__ import annotations

from scipy import stats as sps


def within_binomial(count: float, trials: int, rate: float) -> bool:
    """Whether a count is what `trials` draws at `rate` may give, with one false alarm in ten thousand."""
    return at_most(count, trials, rate, alarm=5e-5) and at_least(count, trials, rate, alarm=5e-5)


def at_most(count: float, trials: int, rate: float, alarm: float = 1e-4) -> bool:
    """Whether a count is what `trials` draws at `rate` or less may give."""
    return bool(count <= sps.binom.isf(alarm, trials, rate))


def at_least(count: float, trials: int, rate: float, alarm: float = 1e-4) -> bool:
    """Whether a count is what `trials` draws at `rate` or more may give."""
    return bool(count >= sps.binom.ppf(alarm, trials, rate))
