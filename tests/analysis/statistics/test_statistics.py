"""Statistics against planted truth: coverage, level and power by simulation with a fixed seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from levels import within_binomial
from scipy import stats as sps

from analysis.statistics.intervals import bootstrap_mean, heterogeneity, mean_interval, time_ratio
from analysis.statistics.tests import benjamini_hochberg, holm

TRIALS = 2000


@pytest.mark.parametrize("n", [2, 3, 5])
def test_mean_interval_covers_the_true_mean_as_often_as_it_says(n):
    draws = np.random.default_rng(1).normal(0.3, 2.0, (TRIALS, n))
    intervals = [mean_interval(x) for x in draws]
    assert within_binomial(sum(i.low <= 0.3 <= i.high for i in intervals), TRIALS, 0.95)


def test_mean_interval_states_that_one_replicate_gives_none():
    one, none = mean_interval([0.7]), mean_interval([])
    assert one.estimate == 0.7
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.method == "one replicate: no interval"
    assert (none.n, none.method) == (0, "no replicate")


def test_a_missing_number_is_an_error_and_not_a_smaller_sample():
    with pytest.raises(ValueError, match=r"must be finite, got \[nan\] at \[1\]; leave diverged"):
        mean_interval([0.1, math.nan])
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        mean_interval([[0.1, 0.2]])


def test_holm_on_a_case_done_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_holm_keeps_the_family_wise_level():
    p = np.random.default_rng(4).uniform(size=(TRIALS, 6))
    # For independent uniform p-values Holm first errs when the smallest is below 0.05 / 6.
    assert within_binomial(sum((holm(row) < 0.05).any() for row in p), TRIALS, 1 - (1 - 0.05 / 6) ** 6)


def test_benjamini_hochberg_on_a_case_done_by_hand():
    assert benjamini_hochberg([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.16 / 3, 0.04, 0.16 / 3, 0.5])
    assert len(benjamini_hochberg([])) == 0


def test_benjamini_hochberg_holds_the_false_discovery_rate():
    rng, nulls, tests = np.random.default_rng(4), 12, 20
    false, lists = 0.0, 800
    for _ in range(lists):
        z = rng.normal(np.r_[np.zeros(nulls), np.full(tests - nulls, 3.0)])
        found = benjamini_hochberg(2 * sps.norm.sf(abs(z))) <= 0.1
        false += found[:nulls].sum() / max(found.sum(), 1)
    # 0.1 of 12 / 20 for independent p-values; shares of a list vary less than one draw of its mean.
    assert within_binomial(round(false), lists, 0.1 * nulls / tests)


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_bootstrap_covers_when_images_of_a_group_are_alike(method):
    rng = np.random.default_rng(6)
    trials, groups = 200, np.repeat(np.arange(40), 4)
    covered = naive = 0
    for _ in range(trials):
        values = rng.normal(0, 1, 40)[groups] + rng.normal(0, 0.3, 160)
        interval = bootstrap_mean(values, groups, method=method, resamples=400)
        covered += interval.low <= 0 <= interval.high
        single = bootstrap_mean(values, method=method, resamples=400)
        naive += single.low <= 0 <= single.high
    assert covered / trials > 0.88
    assert naive / trials < 0.85  # the control: images taken for independent


def test_bootstrap_of_one_group_and_of_equal_values():
    assert math.isnan(bootstrap_mean([0.1, 0.2], ["a", "a"]).low)
    assert bootstrap_mean([0.5, 0.5, 0.5])[:3] == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="one group per value, got 1 for 2"):
        bootstrap_mean([0.1, 0.2], ["a"])


def test_heterogeneity_agrees_with_analysis_of_variance():
    groups = [[0.1, 0.2, 0.15], [0.5, 0.45, 0.52], [0.2, 0.1, 0.3]]
    result = heterogeneity(groups)
    reference = sps.f_oneway(*groups)
    assert result.q == pytest.approx(2 * reference.statistic)
    assert result.p == pytest.approx(reference.pvalue)
    assert result.i2.estimate == pytest.approx(1 - 1 / reference.statistic)


def test_heterogeneity_holds_its_level_where_chi_square_does_not():
    draws = np.random.default_rng(7).normal(0.02, 0.01, (TRIALS, 4, 3))
    results = [heterogeneity(list(x)) for x in draws]
    assert within_binomial(sum(r.p < 0.05 for r in results), TRIALS, 0.05)
    assert np.mean([sps.chi2.sf(r.q, r.dof) < 0.05 for r in results]) > 0.1
    assert all(r.i2.low <= r.i2.estimate <= r.i2.high for r in results)
    assert within_binomial(sum(r.tau.low > 0 for r in results), TRIALS, 0.025)


def test_heterogeneity_intervals_cover_planted_values():
    rng, tau, sigma, n = np.random.default_rng(8), 0.02, 0.01, 3
    true_i2 = tau**2 / (tau**2 + sigma**2 / n)
    covered_tau = covered_i2 = 0
    for _ in range(TRIALS):
        result = heterogeneity(list(rng.normal(0, tau, (4, 1)) + rng.normal(0, sigma, (4, n))))
        covered_tau += result.tau.low <= tau <= result.tau.high
        covered_i2 += result.i2.low <= true_i2 <= result.i2.high
    # I^2 is a ratio of variances, so its interval is exact; that of tau borrows the noise and is wider.
    assert within_binomial(covered_i2, TRIALS, 0.95)
    assert covered_tau >= covered_i2


def test_heterogeneity_of_unequal_variances_and_sizes_stays_near_its_level():
    rng = np.random.default_rng(10)
    spread, sizes = [0.004, 0.01, 0.01, 0.02], [3, 3, 3, 3]
    unequal = [[rng.normal(0, s, n) for s, n in zip(spread, sizes, strict=True)] for _ in range(TRIALS)]
    assert np.mean([heterogeneity(g).p < 0.05 for g in unequal]) < 0.11
    ragged = [[rng.normal(0, 1, n) for n in (2, 3, 5, 5)] for _ in range(TRIALS)]
    assert within_binomial(sum(heterogeneity(g).p < 0.05 for g in ragged), TRIALS, 0.05)


def test_heterogeneity_without_noise_or_groups():
    still = heterogeneity([[0.1, 0.1], [0.2, 0.2]])
    assert math.isnan(still.p)
    assert still.i2.method == "replicates do not vary: no interval"
    with pytest.raises(ValueError, match="at least two groups"):
        heterogeneity([[0.1, 0.2]])
    with pytest.raises(ValueError, match="one with two replicates"):
        heterogeneity([[0.1], [0.2]])


def test_time_ratio_covers_a_planted_ratio():
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(TRIALS):
        reference = 100 * np.exp(rng.normal(0, 0.4, 4))
        interval = time_ratio(reference * 0.5 * np.exp(rng.normal(0, 0.2, 4)), reference)
        covered += interval.low <= 0.5 <= interval.high
    assert within_binomial(covered, TRIALS, 0.95)


def test_time_ratio_of_runs_cut_at_the_budget_is_a_lower_bound():
    rng = np.random.default_rng(12)
    reference = 100 * np.exp(rng.normal(0, 0.2, 2000))
    times = 4 * reference * np.exp(rng.normal(0, 0.2, 2000))
    cut = time_ratio(np.minimum(times, 300), np.minimum(reference, 300))
    assert 1 < cut.high < 4
    with pytest.raises(ValueError, match="positive and paired"):
        time_ratio([0.0], [1.0])
    assert math.isnan(time_ratio([2.0], [1.0]).high)


def test_equal_numbers_are_equal_in_spite_of_rounding():
    """The mean of three 0.1 is not 0.1 in binary."""
    assert math.isnan(heterogeneity([[0.1] * 3, [0.3] * 3, [0.7] * 3]).p)
    alike = bootstrap_mean([0.0, 1.0] * 4, [0, 0, 1, 1, 2, 2, 3, 3])
    assert alike[:3] == (0.5, 0.5, 0.5)
