"""Numbers against lines on planted truth: level, coverage, and intervals that say what p says, for every part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from levels import at_least, at_most, within_binomial
from scipy import stats as sps

from analysis.claims import evidence, means
from analysis.claims.evidence import Alike, AllOf, AnyOf, Count, Joint, Part, Spread
from analysis.claims.means import Difference, Mean, OneSided
from analysis.statistics.intervals import heterogeneity
from analysis.statistics.looks import growth

DRAWS = 400
TAILS = (0.01, 0.05, 0.2)
Draw = Callable[..., Part]  # (rng, truth = distance of the true number from the line, above)


def a_mean(rng: np.random.Generator, truth: float = 0.0, *, above: bool = True) -> Mean:
    return Mean("mean", rng.normal(0.3 + truth, 1, 5), 0.3, above, "u")


def a_pooled_mean(rng: np.random.Generator, truth: float = 0.0, *, above: bool = True) -> Mean:
    """Its variance is drawn from the law that it is pooled with."""
    sd = np.sqrt(6 / rng.chisquare(6))
    return Mean("pooled", rng.normal(0.3 + truth, sd, 3), 0.3, above, "u", prior=(6.0, 1.0))


def a_difference(rng: np.random.Generator, truth: float = 0.0, *, above: bool = True) -> Difference:
    return Difference("difference", rng.normal(0.5 + truth, 2, 6), rng.normal(0.4, 1, 5), 0.1, above)


def a_spread(rng: np.random.Generator, truth: float = 0.0, *, above: bool = True, share: bool = False) -> Spread:
    """Five pairs with four seeds each; the line is a spread of half a seed's SD, or the share that this makes."""
    tau = 0.5 + truth
    groups = rng.normal(0, tau, (5, 1)) + rng.normal(0, 1, (5, 4))
    found = heterogeneity(list(groups))
    line = 0.5**2 / (0.5**2 + 1 / 4) if share else 0.5
    dof = (found.dof, found.within)
    return Spread("spread", found.q / found.dof, dof, found.per_group, found.noise, line, above, share)


def a_share(rng: np.random.Generator, truth: float = 0.0, *, above: bool = True) -> Spread:
    return a_spread(rng, truth, above=above, share=True)


CHANCES = np.array([0.25, 0.25, 0.5, 0.3, 0.4, 0.2, 0.35, 0.45, 0.25, 0.5, 0.3, 0.4])


def a_count(rng: np.random.Generator, truth: float = 0.0, *, above: bool = True) -> Count:
    return Count("count", int((rng.random(len(CHANCES)) < CHANCES + truth).sum()), CHANCES, 0.0, above)


EXACT = {"mean": a_mean, "pooled mean": a_pooled_mean, "share": a_share}
CAREFUL = {"spread": a_spread, "count": a_count}  # conservative: a noise that is estimated, a number that is whole
LEAVES = {**EXACT, "difference": a_difference, **CAREFUL}
TRUTH = {"mean": 0.3, "pooled mean": 0.3, "difference": 0.1, "share": 0.5, "spread": 0.5, "count": 0.0}


# ---- one number -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.parametrize("above", [True, False])
def test_at_the_line_p_is_uniform_or_conservative(name: str, above: bool) -> None:
    rng = np.random.default_rng(1)
    for side in np.array([LEAVES[name](rng, above=above).p() for _ in range(DRAWS)]).T:
        for tail in TAILS:
            count = (side <= tail).sum()
            assert at_most(count, DRAWS, tail)
            assert name not in EXACT or at_least(count, DRAWS, tail)


@pytest.mark.parametrize("name", LEAVES)
def test_the_interval_covers_the_truth(name: str) -> None:
    rng, covered = np.random.default_rng(2), 0
    for _ in range(DRAWS):
        low, high = LEAVES[name](rng).interval(0.05, 0.05)
        covered += low <= TRUTH[name] <= high
    assert at_least(covered, DRAWS, 0.9)
    assert name not in EXACT or at_most(covered, DRAWS, 0.9)


def test_the_interval_of_a_count_covers_also_what_is_not_chance() -> None:
    rng, odds = np.random.default_rng(3), 3.0
    true = odds * CHANCES / (1 - CHANCES + odds * CHANCES)
    covered = 0
    for _ in range(DRAWS):
        low, high = Count("", int((rng.random(len(true)) < true).sum()), CHANCES, 0.0, True).interval(0.05, 0.05)
        covered += low <= true.mean() - CHANCES.mean() <= high
    assert at_least(covered, DRAWS, 0.9)


def test_a_count_is_held_against_its_line_and_not_against_chance_alone() -> None:
    many = Count("", 10, CHANCES, 0.0, True)
    strict = Count("", 10, CHANCES, many.effect, True)
    assert many.p().support < 0.01
    assert strict.p().support > 0.3
    for line in (-0.1, 0.0, 0.2, 0.4):
        held = Count("", 10, CHANCES, line, True)
        assert (held.interval(0.1, 0.1)[0] > line) == (held.p().support < 0.1)
        assert (held.interval(0.1, 0.1)[1] < line) == (held.p().against < 0.1)


def test_a_count_of_all_and_of_none_has_an_open_side() -> None:
    all_of_them, none = (Count("", found, CHANCES, 0.0, True) for found in (len(CHANCES), 0))
    assert all_of_them.interval(0.05, 0.05)[1] == pytest.approx(1 - CHANCES.mean())
    assert all_of_them.p().support == pytest.approx(CHANCES.prod())
    assert none.interval(0.05, 0.05)[0] == pytest.approx(-CHANCES.mean())
    assert none.p().against == pytest.approx((1 - CHANCES).prod())


def outside(leaf: Any, below: float, over: float) -> OneSided:
    """Whether an interval with these tails lies on the claim's side of the line, and on the other."""
    low, high = leaf.interval(below, over)
    return OneSided(low > leaf.line, high < leaf.line) if leaf.above else OneSided(high < leaf.line, low > leaf.line)


@pytest.mark.parametrize("name", LEAVES)
def test_the_interval_leaves_the_line_out_just_where_p_is_below_its_tail(name: str) -> None:
    rng, seen = np.random.default_rng(4), []
    for _ in range(200):
        leaf: Any = LEAVES[name](rng, rng.uniform(-0.3, 0.3), above=bool(rng.integers(2)))
        below, over = rng.uniform(0.001, 0.4, 2)
        support, against = (below, over) if leaf.above else (over, below)
        told = outside(leaf, below, over)
        assert told == (leaf.p().support < support, leaf.p().against < against)
        seen.append(told)
    assert {True, False} == {told.support for told in seen} == {told.against for told in seen}


@pytest.mark.parametrize("name", LEAVES)
def test_the_other_side_of_the_line_is_the_other_answer(name: str) -> None:
    up, down = (LEAVES[name](np.random.default_rng(5), above=above) for above in (True, False))
    assert tuple(up.p()) == tuple(down.p())[::-1]
    assert (up.again().support == down.again().against).all()


def test_replicates_that_agree_exactly_decide_nothing_and_leave_no_nan() -> None:
    """What the next would say cannot be told from them; with the variance of others it can."""
    for line in (0.0, 0.1, 0.2):
        for leaf in (
            Mean("", np.array([0.1] * 3), line, True, "u"),
            Difference("", np.array([0.1] * 3), np.zeros(3), line, True),
        ):
            assert tuple(leaf.p()) == (1, 1)
            assert leaf.interval(0.025, 0.025) == (-np.inf, np.inf)
            assert (np.asarray(leaf.again().support) == 1).all()
    pooled = Mean("", np.array([0.1] * 3), 0.0, True, "u", prior=(2.0, 0.01))
    t = sps.ttest_1samp([0.1 - 0.1, 0.1, 0.1 + 0.1], 0, alternative="greater")  # a variance of 0.01, half of it lent
    assert pooled.variance == (pytest.approx(0.005), 4.0)
    assert pooled.p().support == pytest.approx(sps.t.sf(t.statistic * np.sqrt(2), 4))
    assert pooled.again().support.std() > 0


def test_a_scale_moves_what_is_shown_and_not_what_is_decided() -> None:
    plain = Mean("", np.log([0.5, 0.6, 0.55]), 0.0, False, "log steps")
    shown = means.mean("", np.log([0.5, 0.6, 0.55]), 0.0, above=False, unit="log steps", scale=np.exp)
    assert tuple(shown.p()) == tuple(plain.p())
    assert shown.shown(shown.effect) == pytest.approx((0.5 * 0.6 * 0.55) ** (1 / 3))
    assert shown.shown(shown.line) == 1.0


# ---- seeds and folds ------------------------------------------------------------------------------------------------


def test_seeds_that_share_a_test_fold_count_once() -> None:
    """Ten seeds on five folds of one set: what a fold's images do to a difference is the same for both its seeds."""
    rng, index = np.random.default_rng(6), [(seed, seed % 5) for seed in range(10)]
    rejected = {"seeds": 0, "folds": 0}
    for _ in range(DRAWS):
        images = rng.normal(0, 0.2, (5, 20))  # what each test image does to the difference of two arms
        values = pd.Series(
            images.mean(1)[[fold for _, fold in index]] + rng.normal(0, 0.02, 10),
            pd.MultiIndex.from_tuples(index, names=["seed", "fold"]),
        )
        found = means.mean("", values, 0.0, above=True, unit="u")
        assert found.values == pytest.approx([values.iloc[[fold, fold + 5]].mean() for fold in range(5)])
        rejected["folds"] += min(found.p()) < 0.025
        rejected["seeds"] += sps.ttest_1samp(values, 0).pvalue < 0.05
    assert within_binomial(rejected["folds"], DRAWS, 0.05)
    assert at_least(rejected["seeds"], DRAWS, 0.12)


# ---- parts joined ---------------------------------------------------------------------------------------------------

SURE, ODD = 6.0, -6.0  # far on the claim's side of the line, and on the other
NULLS = {  # per joint and side: distances of the true numbers from the line where p must not be small, and is level
    (AllOf, "support"): ([(0, 0, 0)], [(0, SURE, SURE), (SURE, SURE, 0)]),
    (AllOf, "against"): ([(0, 0, 0), (0, SURE, SURE)], []),
    (AnyOf, "support"): ([(0, 0, 0), (0, ODD, ODD)], []),
    (AnyOf, "against"): ([(0, 0, 0)], [(0, ODD, ODD), (ODD, ODD, 0)]),
    (Alike, "support"): ([(0, 0, 0)], [(0, SURE, SURE)]),
    (Alike, "against"): ([(0, 0, 0)], [(0, ODD, ODD)]),
}


@pytest.mark.parametrize(("joint", "side"), NULLS, ids=lambda each: getattr(each, "__name__", each))
def test_joints_hold_their_level_at_the_line(joint: type[Joint], side: str) -> None:
    rng = np.random.default_rng(7)
    careful, exact = NULLS[joint, side]
    for truths in (*careful, *exact):
        p = []
        for _ in range(DRAWS):
            shared = rng.normal(size=(5, 1))  # parts of a row share their replicates
            values = 0.7 * shared + 0.7 * rng.normal(size=(5, 3)) + truths
            parts = tuple(Mean("", column, 0.0, True, "u") for column in values.T)
            p.append(getattr(joint(parts).p(), side))
        for tail in TAILS[1:]:
            count = (np.array(p) <= tail).sum()
            assert at_most(count, DRAWS, tail)
            assert truths not in exact or at_least(count, DRAWS, tail)


def random_part(rng: np.random.Generator, depth: int = 2) -> Part:
    """A number, or numbers joined and joined again."""
    if depth == 0 or rng.random() < 0.2:
        leaf = list(LEAVES.values())[int(rng.integers(len(LEAVES)))]
        return leaf(rng, rng.uniform(-0.45, 0.45), above=bool(rng.integers(2)))
    joint = (AllOf, AnyOf, Alike)[int(rng.integers(3))]
    return joint(tuple(random_part(rng, depth - 1) for _ in range(rng.integers(1, 4))))


def said(part: Part, told: Iterator[OneSided]) -> OneSided:
    """What the words of a joint make of what its numbers tell: whether the claim holds, and whether it does not."""
    if not isinstance(part, Joint):
        return next(told)
    each = [said(every, told) for every in part.parts]
    support, against = {AllOf: (all, any), AnyOf: (any, all), Alike: (all, all)}[type(part)]
    return OneSided(support(side.support for side in each), against(side.against for side in each))


@pytest.mark.parametrize("tail", [0.3, 0.1, 0.02])
def test_the_intervals_of_all_parts_say_what_p_says(tail: float) -> None:
    rng, seen = np.random.default_rng(8), []
    for _ in range(250):
        part, told = random_part(rng), []
        for leaf, support, against in evidence.leaves(part):
            tails = (tail / support, tail / against)
            told.append(outside(leaf, *(tails if leaf.above else tails[::-1])))
        found = said(part, iter(told))
        assert found == (part.p().support < tail, part.p().against < tail)
        assert not all(found)
        seen.append(found)
    assert {True, False} == {each.support for each in seen} == {each.against for each in seen}


def test_the_decisive_number_is_the_one_that_p_comes_from() -> None:
    rng = np.random.default_rng(9)
    for _ in range(200):
        part = random_part(rng)
        factors = {id(leaf): given for leaf, *given in evidence.leaves(part)}
        for at, side in enumerate(("support", "against")):
            leaf = evidence.decisive(part, support=side == "support")
            own = float(getattr(leaf.p(), side)) * factors[id(leaf)][at]
            assert min(1.0, own) == pytest.approx(float(getattr(part.p(), side)))


def test_a_single_part_needs_no_joint() -> None:
    leaf = a_mean(np.random.default_rng(0))
    assert evidence.joined(AllOf, [leaf]) is leaf
    assert evidence.joined(AnyOf, [leaf, leaf]).factors() == (2, 1)  # type: ignore[union-attr]


# ---- would it come out again? ---------------------------------------------------------------------------------------


def at_p(name: str, p: float) -> Part:
    """A number whose p on the side of support is this one."""
    if name == "mean":
        unit = np.array([-1.0, 0.0, 0.3, 1.2, -0.5])
        unit = (unit - unit.mean()) / unit.std(ddof=1)
        return Mean("", unit / np.sqrt(5) * 1.0 + sps.t.isf(p, 4) / 5, 0.0, True, "u")
    if name == "pooled mean":
        unit = np.array([-1.0, 0.0, 1.0])
        return Mean("", unit + sps.t.isf(p, 8) / np.sqrt(3), 0.0, True, "u", prior=(6.0, 1.0))
    if name == "difference":
        unit = np.array([-1.0, 0.0, 0.3, 1.2, -0.5])
        unit = (unit - unit.mean()) / unit.std(ddof=1)
        return Difference("", unit + sps.t.isf(p, 8) * np.sqrt(2 / 5), unit, 0.0, True)
    if name in ("spread", "share"):
        line = 0.5
        inflation = 2.0 if name == "share" else 1 + 4 * line**2
        return Spread("", sps.f.isf(p, 4, 15) * inflation, (4, 15), 4.0, 1.0, line, True, name == "share")
    counts = (Count("", found, CHANCES, 0.0, True) for found in range(len(CHANCES) + 1))
    return next(each for each in counts if each.p().support <= p)


@pytest.mark.parametrize("name", LEAVES)
def test_a_sure_effect_comes_again_and_one_at_the_edge_half_the_time(name: str) -> None:
    edge = at_p(name, 0.025)
    if name != "count":  # whole numbers jump over the edge
        assert edge.p().support == pytest.approx(0.025)
    # Equal variances of both sides give Welch's test the most degrees of freedom, and a new study has fewer.
    off = {"count": 0.15, "difference": 0.1}.get(name, 0.05)
    assert np.mean(edge.again().support <= 0.025) == pytest.approx(0.5, abs=off)
    sure = at_p(name, 1e-5 if name == "count" else 1e-9)
    assert np.mean(sure.again().support <= 0.025) > 0.97
    assert np.mean(sure.again().against <= 0.025) == 0


def test_the_chance_to_come_again_is_the_share_that_does() -> None:
    """Over planted truths, the studies after a study decide as often as it said they would."""
    rng, said_before, came = np.random.default_rng(10), [], []
    for truth in rng.uniform(-1, 4, 400):
        first, second = (Mean("", rng.normal(truth, 1, 5), 0.0, True, "u") for _ in range(2))
        said_before.append(np.mean(first.again().support <= 0.025))
        came.append(second.p().support <= 0.025)
    before, after = np.array(said_before), np.array(came)
    for chosen in (before > 0.8, (before > 0.2) & (before <= 0.8), before <= 0.2):
        assert chosen.sum() > 20
        assert before[chosen].mean() == pytest.approx(after[chosen].mean(), abs=0.1)


def test_parts_of_one_row_stay_as_correlated_as_their_replicates_are() -> None:
    leaf = at_p("mean", 0.025)
    assert (AllOf((leaf, leaf)).again().support == leaf.again().support).all()
    assert isinstance(leaf, Mean)
    mirrored = Mean("", 2 * leaf.effect - leaf.values, 0.0, True, "u")
    both = np.mean(AllOf((leaf, mirrored)).again().support <= 0.025)
    assert both < np.mean(leaf.again().support <= 0.025) - 0.1  # what lifts the one lowers the other


def test_more_seeds_bring_more_decisions_where_there_is_an_effect() -> None:
    leaf = at_p("mean", 0.1)
    shares = [np.mean(leaf.again(growth(5, seeds, 40)).support <= 0.025) for seeds in (5, 10, 40)]
    assert shares == sorted(shares)
    assert shares[0] == 0  # it is what it is
    assert shares[2] > 0.4
    for name in ("difference", "spread", "count"):  # seeds bring no more tasks
        other = at_p(name, 0.1)
        assert (other.again(growth(5, 40, 40)).support == other.again().support).all()


@pytest.mark.parametrize(("now", "most"), [(3, 12), (8, 12), (12, 20)])
def test_what_a_study_will_say_when_it_has_grown_is_what_it_says_then(now: int, most: int) -> None:
    """Over planted truths: seeds on five folds, which have half of a seed's variance."""
    rng, forecast, came = np.random.default_rng(now), [], []
    fold = np.arange(most) % 5
    for truth in rng.normal(0, 2, 1500):
        noise = rng.normal(0, np.sqrt(0.5), most) + rng.normal(0, np.sqrt(0.5), 5)[fold]
        index = pd.MultiIndex.from_arrays([np.arange(most), fold], names=["seed", "fold"])
        values = pd.Series(truth + noise, index)
        first, last = (means.mean("", values[:seeds], 0.0, above=True, unit="u") for seeds in (now, most))
        if min(first.p()) <= 0.025:
            continue
        drawn = first.again(growth(now, most, 5))
        forecast.append(np.mean((drawn.support <= 0.025) | (drawn.against <= 0.025)))
        came.append(min(last.p()) <= 0.025)
    assert len(came) > 200
    assert np.mean(forecast) == pytest.approx(np.mean(came), abs=0.06)
