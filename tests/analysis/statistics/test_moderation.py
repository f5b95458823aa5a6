"""Pooled variances against planted laws: what is recovered, what is lent, and the level of t tests that use it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from levels import at_least, at_most
from scipy import stats as sps

from analysis.statistics.moderation import FEWEST, TAILS, lent, pull, pulls, variance_prior

LAWS = (2.5, 10.0, math.inf)  # degrees of freedom of the inverse chi-square law of the variances


def drawn(rng: np.random.Generator, law: float, count: int, own: int, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    """True variances of a law, and estimates of them with `own` degrees of freedom."""
    true = scale * (law / rng.chisquare(law, count) if math.isfinite(law) else np.ones(count))
    return true, true * rng.chisquare(own, count) / own


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("replicates", [3, 5])
@pytest.mark.parametrize("count", [6, 15, 40])
def test_the_level_is_the_one_stated(law: float, replicates: int, count: int) -> None:
    """Between .02 and .052 at .05, on average over the tests of a ledger."""
    rng, own, ledgers = np.random.default_rng([count, replicates]), replicates - 1, 2400 // count
    rejected = 0
    for _ in range(ledgers):
        true, estimates = drawn(rng, law, count, own)
        d0, s0 = lent(variance_prior(estimates, np.full(count, own)), own)
        pooled = (d0 * s0 + own * estimates) / (d0 + own) if d0 else estimates
        t = rng.standard_normal(count) * np.sqrt(true / pooled)
        rejected += int((2 * sps.t.sf(abs(t), d0 + own) < 0.05).sum())
    assert at_least(rejected, ledgers * count, 0.02)
    assert at_most(rejected, ledgers * count, 0.052)


@pytest.mark.parametrize("law", [4.0, 12.0])
def test_a_planted_law_is_recovered_from_many_variances(law: float) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(2, 8, 8000)
    true = 0.01 * law / rng.chisquare(law, len(counts))
    dof, variance = variance_prior(true * rng.chisquare(counts) / counts, counts)
    assert dof == pytest.approx(law, rel=0.1)
    assert variance == pytest.approx(0.01, rel=0.05)


def test_equal_variances_have_a_law_without_spread() -> None:
    _, estimates = drawn(np.random.default_rng(2), math.inf, 5000, 3, scale=4.0)
    dof, variance = variance_prior(estimates, np.full(5000, 3))
    assert dof > 100  # infinite, or as good as that
    assert variance == pytest.approx(4.0, rel=0.05)
    assert variance_prior([2.0] * FEWEST, [3] * FEWEST)[0] == math.inf  # nearer to each other than chance brings them


def test_few_variances_are_no_prior_and_equal_replicates_no_variance() -> None:
    few = [0.1 * (1 + number) for number in range(FEWEST - 1)]
    assert variance_prior(few, [2] * len(few)) == (0.0, 0.0)
    assert variance_prior([*few, 0.0], [2] * FEWEST) == (0.0, 0.0)
    one_more = variance_prior([*few, 0.2], [2] * FEWEST)
    assert one_more[0] > 0
    assert variance_prior([*few, 0.0, 0.2], [2] * (FEWEST + 1)) == pytest.approx(one_more)


@pytest.mark.parametrize(("law", "own", "degrees"), [(1.5, 4, 1.5), (9.0, 4, 4.0), (math.inf, 2, 2.0), (0.0, 3, 0.0)])
def test_no_more_is_lent_than_a_variance_has_itself(law: float, own: int, degrees: float) -> None:
    assert lent((law, 0.3), own) == (degrees, 0.3)


@pytest.mark.parametrize("effects", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("dof", [2, 4, 1000])
def test_pull_is_the_share_of_chance_in_effects(effects: float, dof: int):
    rng = np.random.default_rng(3)
    found = rng.normal(0, effects, 8000) + rng.standard_normal(8000)
    t = found / np.sqrt(rng.chisquare(dof, 8000) / dof)
    assert pull(t, np.full(8000, dof)) == pytest.approx(1 / (1 + effects**2), abs=0.05)
    assert pull(t[:5], [dof] * 5) == 0


def test_an_effect_is_pulled_as_far_as_it_lies_with_the_others():
    """Over planted effects of Student's law: their mean given t is t, pulled by the mean share; far ones are left."""
    rng, count = np.random.default_rng(4), 40_000
    true = 2 * rng.standard_t(TAILS, count)
    t = true + rng.standard_normal(count)
    share = pull(t, np.full(count, 1e6))
    for low, high in ((0.5, 1.5), (3.0, 4.0), (8.0, 12.0)):
        there = (t > low) & (t < high)
        drawn = pulls(float(t[there].mean()), 1e6, share, 4000, rng)
        assert (1 - drawn.mean()) * t[there].mean() == pytest.approx(true[there].mean(), rel=0.12)
    assert pulls(100.0, 1e6, share, 4000, rng).mean() < 0.001
    assert (pulls(3.0, 4, 0.0, 5, rng) == 0).all()
    assert (pulls(3.0, 4, 1.0, 5, rng) == 1).all()
