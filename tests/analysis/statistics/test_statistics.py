"""Statistics against planted truth: coverage, level and power by simulation with a fixed seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as sps

from analysis.statistics.intervals import bootstrap_mean, heterogeneity, mean_interval, replicate_slopes, time_ratio
from analysis.statistics.power import detectable
from analysis.statistics.tests import equivalence_p, holm, non_inferiority_p, one_sided_p, permutation_p, two_sided_p

TRIALS = 2000


def within_binomial(count: int, trials: int, rate: float) -> bool:
    """Whether a count is what `trials` draws at `rate` may give, with one false alarm in ten thousand."""
    low, high = sps.binom.ppf([5e-5, 1 - 5e-5], trials, rate)
    return bool(low <= count <= high)


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


def test_one_sided_tests_hold_their_level_and_find_a_planted_effect():
    rng = np.random.default_rng(2)
    null = [one_sided_p(rng.normal(0.03, 0.01, 3), 0.03, above=True) for _ in range(TRIALS)]
    assert within_binomial(sum(p < 0.05 for p in null), TRIALS, 0.05)
    found = [one_sided_p(rng.normal(0.06, 0.01, 3), 0.03, above=True) for _ in range(300)]
    assert np.mean(np.array(found) < 0.05) > 0.8


def test_p_values_agree_with_scipy():
    x = [0.01, 0.03, 0.02, -0.01]
    assert two_sided_p(x) == pytest.approx(sps.ttest_1samp(x, 0).pvalue)
    expected = sps.ttest_1samp(x, 0.02, alternative="less").pvalue
    assert one_sided_p(x, 0.02, above=False) == pytest.approx(expected)


def test_p_values_of_one_replicate_and_of_equal_replicates():
    assert math.isnan(one_sided_p([0.1], 0, above=True))
    assert math.isnan(two_sided_p([0.1]))
    assert one_sided_p([0.1, 0.1], 0, above=True) == 0
    assert one_sided_p([0.0, 0.0], 0, above=True) == 1


def test_equivalence_and_non_inferiority_hold_their_level_at_the_margin():
    rng = np.random.default_rng(3)
    at_margin = rng.normal(0.02, 0.004, (TRIALS, 5))
    assert within_binomial(sum(equivalence_p(x, 0.02) < 0.05 for x in at_margin), TRIALS, 0.05)
    assert within_binomial(sum(non_inferiority_p(-x, 0.02) < 0.05 for x in at_margin), TRIALS, 0.05)
    equal = rng.normal(0, 0.004, (300, 5))
    assert np.mean([equivalence_p(x, 0.02) < 0.05 for x in equal]) > 0.95
    with pytest.raises(ValueError, match="margin must be above 0, got -1"):
        non_inferiority_p([0.1, 0.2], -1)


def test_holm_on_a_case_done_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_holm_keeps_the_family_wise_level():
    p = np.random.default_rng(4).uniform(size=(TRIALS, 6))
    # For independent uniform p-values Holm first errs when the smallest is below 0.05 / 6.
    assert within_binomial(sum((holm(row) < 0.05).any() for row in p), TRIALS, 1 - (1 - 0.05 / 6) ** 6)


def test_permutation_is_exact_for_three_pairs():
    assert permutation_p([1.0, 2.0, 3.0], [0.0, 0.5, 1.0], paired=True) == pytest.approx(2 / 8)
    assert permutation_p([1.0, 2.0], [3.0, 4.0], paired=False) == pytest.approx(2 / 6)
    with pytest.raises(ValueError, match="equally long, got 1 and 2"):
        permutation_p([1.0], [1.0, 2.0], paired=True)


def test_permutation_holds_its_level_and_finds_a_planted_effect():
    rng = np.random.default_rng(5)
    null = [permutation_p(*rng.normal(size=(2, 6)), paired=False, resamples=999) for _ in range(400)]
    # 924 relabelings: the level is the largest multiple of 2 / 924 below 0.05.
    assert within_binomial(sum(p <= 0.05 for p in null), 400, 46 / 924)
    assert permutation_p(rng.normal(size=8), rng.normal(3, 1, size=8), paired=False) < 0.01


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


def test_heterogeneity_detectable_is_found_as_often_as_promised():
    rng = np.random.default_rng(9)
    i2 = heterogeneity(list(rng.normal(size=(5, 3)))).detectable_i2
    tau = math.sqrt(i2 / (1 - i2) / 3)
    found = [heterogeneity(list(rng.normal(0, tau, (5, 1)) + rng.normal(0, 1, (5, 3)))).p < 0.05 for _ in range(TRIALS)]
    assert within_binomial(sum(found), TRIALS, 0.8)


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


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_detectable_effect_is_found_as_often_as_promised(n):
    rng = np.random.default_rng(13)
    unit = np.resize([-1.0, 1.0], n) if n % 2 == 0 else np.r_[np.resize([-1.0, 1.0], n - 1), 0.0]
    effect = detectable(unit / unit.std(ddof=1))
    found = sum(two_sided_p(x) < 0.05 for x in rng.normal(effect, 1.0, (TRIALS, n)))
    assert within_binomial(found, TRIALS, 0.8)


def test_detectable_effect_needs_two_replicates():
    assert math.isnan(detectable([0.1]))


def test_slopes_recover_a_planted_line_and_their_interval_covers():
    rng = np.random.default_rng(14)
    x = np.column_stack([np.ones(6), np.log10([20, 200, 20, 150, 20, 90]), np.repeat([0.1, 0.3, 0.5], 2)])
    truth = np.array([0.05, -0.02, 0.1])
    covered = 0
    for _ in range(TRIALS):
        shared = rng.normal(0, 0.02, (3, 1))  # what the cells of one seed have in common
        y = x @ truth + shared + rng.normal(0, 0.01, (3, 6))
        covered += (lambda i: i.low <= truth[1] <= i.high)(replicate_slopes(x, y)[1])
    assert within_binomial(covered, TRIALS, 0.95)
    exact = replicate_slopes(x, np.tile(x @ truth, (2, 1)))
    assert [i.estimate for i in exact] == pytest.approx(truth)


def test_slopes_refuse_a_design_that_cannot_tell_its_columns_apart():
    with pytest.raises(ValueError, match="2 columns of the design must be independent over its 3 cells"):
        replicate_slopes([[1, 2], [1, 2], [1, 2]], [[1, 2, 3]])
    with pytest.raises(ValueError, match=r"got \(3, 2\), \(1, 2\)"):
        replicate_slopes([[1, 2], [1, 3], [1, 4]], [[1, 2]])


def test_equal_numbers_are_equal_in_spite_of_rounding():
    """The mean of three 0.1 is not 0.1 in binary."""
    assert [one_sided_p([0.1] * 3, bound, above=True) for bound in (0.05, 0.1, 0.2)] == [0.0, 1.0, 1.0]
    assert math.isnan(heterogeneity([[0.1] * 3, [0.3] * 3, [0.7] * 3]).p)
    alike = bootstrap_mean([0.0, 1.0] * 4, [0, 0, 1, 1, 2, 2, 3, 3])
    assert alike[:3] == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("n", [2, 5, 50])
def test_the_detectable_effect_grows_with_the_power_asked_for(n):
    x = np.random.default_rng(n).normal(size=n)
    found = [detectable(x, power=power) for power in (0.5, 0.8, 0.99)]
    assert found == sorted(found)
    with pytest.raises(ValueError, match="power must be between"):
        detectable(x, power=0.1)
