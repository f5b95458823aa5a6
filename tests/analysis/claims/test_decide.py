"""The one rule of the ledger on planted ledgers: words, intervals and p agree, and false discoveries are few."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from levels import within_binomial
from scipy import stats as sps

from analysis.claims import evidence, means
from analysis.claims.evidence import Alike, AllOf, AnyOf, Count, Part, Spread
from analysis.claims.ledger.decide import FRAGILE, decide
from analysis.claims.means import Difference, Mean
from analysis.claims.verdicts import Claim, Finding
from analysis.statistics.looks import looking_factor
from analysis.statistics.moderation import lent, variance_prior

CLAIM = Claim("X", "a paper", "a statement", "a_test", "Dice", "10_claims", "none", {})
DECIDED = {"supported", "contradicted"}


def finding(part: Part | None, number: int = 0, **more: Any) -> Finding:
    return Finding(CLAIM, f"task{number}", "a note", part, 5, **more)


def leaf(rng: np.random.Generator) -> Part:
    """A number near its line or far from it, on a side that is drawn."""
    above, truth = bool(rng.integers(2)), rng.choice([0.0, 0.0, 1.0, 4.0]) * rng.choice([-1, 1])
    kind = rng.integers(6)
    if kind < 3:
        unit, scale = (("Dice", float), ("log steps", np.exp))[int(rng.integers(2))]
        return Mean("mean", rng.normal(0.3 + truth, 1, int(rng.integers(3, 6))), 0.3, above, unit, scale)
    if kind == 3:
        return Difference("difference", rng.normal(truth, 1, 4), rng.normal(0, 2, 5), 0.0, above)
    if kind == 4:
        ratio = float(rng.f(4, 15)) * 2 ** abs(truth)
        return Spread("spread", ratio, (4, 15), 4.0, 1.0, 0.5, above, share=bool(rng.integers(2)))
    return Count("count", int(rng.binomial(8, 0.25 + 0.15 * abs(truth))), np.full(8, 0.25), 0.0, above)


def random_ledger(rng: np.random.Generator, rows: int = 30) -> list[Finding]:
    """Every kind of row, some barred from support, some exact and some without anything to test."""
    found = []
    for number in range(rows):
        part = leaf(rng)
        if rng.random() < 0.5:
            joint = (AllOf, AnyOf, Alike)[int(rng.integers(3))]
            part = joint(tuple(leaf(rng) for _ in range(rng.integers(2, 4))))
            if rng.random() < 0.3:
                part = AllOf((part, leaf(rng)))
        found.append(finding(part, number, barred="An arm is missing" if rng.random() < 0.2 else ""))
    found.append(finding(None, rows))
    found.append(finding(None, rows + 1, exact=(0.0, 0.0, True)))
    found.append(finding(None, rows + 2, exact=(3.0, 0.0, False)))
    return found


def outside(numbers: dict[str, Any]) -> dict[str, bool]:
    """On which side of its line an interval lies wholly, if it does: that of the claim, or the other."""
    (low, high), line = numbers["interval"], numbers["line"]
    over, under = low is not None and low > line, high is not None and high < line
    sides = (over, under) if numbers["side"] == "above" else (under, over)
    return dict(zip(("supported", "contradicted"), sides, strict=True))


def said(part: Part, numbers: Any, word: str) -> bool:
    """Whether the intervals of a row's numbers, joined as the claim joins them, come to a word."""
    if not isinstance(part, evidence.Joint):
        return outside(next(numbers))[word]
    need_all = {AllOf: word == "supported", AnyOf: word == "contradicted", Alike: True}[type(part)]
    each = [said(every, numbers, word) for every in part.parts]
    return all(each) if need_all else any(each)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the chance to come again, which takes most of the time."""
    for module in (means, evidence):
        monkeypatch.setattr(module, "REPEATS", 4)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("looks", [(), (3, 5, 8)])
def test_word_interval_level_and_p_agree_in_every_row(looks: tuple[int, ...]) -> None:
    alpha, seen = 0.1, set()
    for draw in range(12):
        findings = random_ledger(np.random.default_rng(draw))
        rows = decide(findings, alpha, looks)
        assert json.loads(json.dumps(rows, allow_nan=False)) == rows
        tested = [row for row in rows if row["p"] is not None]
        assert len(tested) == len(rows) - 3
        expected = sps.false_discovery_control([row["p"] for row in tested])
        assert [row["adjusted"] for row in tested] == pytest.approx(expected)
        decided = [row for row in tested if row["verdict"] in DECIDED]
        looking = looking_factor(looks, alpha / len(tested))
        level = alpha * max(len(decided), 1) / len(tested) / looking
        for row, each in zip(rows, findings, strict=True):
            if each.evidence is None:
                continue
            assert (row["adjusted"] <= alpha) == (row["p"] <= level * looking) == (row["verdict"] in DECIDED)
            assert row["level"] == pytest.approx(1 - level)
            assert row["distance"] == pytest.approx(row["effect"] - row["line"])
            parts = row["parts"] or [row]
            for word in sorted(DECIDED):
                is_said = said(each.evidence, iter(parts), word)
                if each.barred and word == "supported":
                    assert row["verdict"] != "supported"
                    assert "An arm is missing" in row["note"]
                    assert row["withheld"] == is_said
                else:
                    assert is_said == (row["verdict"] == word)
                    assert each.barred or not row["withheld"]
                    assert outside(row)[word] or row["verdict"] != word, "the interval shown is the one that decides"
            if row["parts"]:
                shown = {key: row[key] for key in ("effect", "line", "side", "distance", "detectable")}
                assert any(shown.items() <= part.items() for part in row["parts"])
            alike = len({(part["line"], part["side"]) for part in parts}) == 1
            if row["verdict"] == "inconclusive" and not each.barred and alike and None not in row["interval"]:
                assert row["interval"][0] <= row["line"] <= row["interval"][1]
            seen.add((row["verdict"], bool(row["parts"]), bool(each.barred)))
    assert {(word, joined, False) for word in (*DECIDED, "inconclusive") for joined in (True, False)} <= seen


def test_exact_and_untested_rows_say_what_they_rest_on() -> None:
    *_, untested, holds, fails = decide(random_ledger(np.random.default_rng(0)), 0.05)
    assert (untested["verdict"], holds["verdict"], fails["verdict"]) == ("not tested", "supported", "contradicted")
    assert (fails["effect"], fails["line"], fails["distance"], fails["side"]) == (3.0, 0.0, 3.0, "at most")
    for row in (untested, holds, fails):
        assert row["p"] is row["adjusted"] is row["replication"] is row["level"] is None
        assert row["interval"] == [None, None]
        assert not row["fragile"]
    assert decide([], 0.05) == []


def test_what_is_fragile_would_come_again_less_often() -> None:
    seen = set()
    for draw in range(3):
        for row in decide(random_ledger(np.random.default_rng(draw)), 0.1):
            if row["p"] is not None:
                assert 0 <= row["replication"] <= 1
                assert row["fragile"] == (row["verdict"] in DECIDED and row["replication"] < FRAGILE)
                seen.add((row["verdict"] in DECIDED, row["fragile"]))
    assert seen == {(True, True), (True, False), (False, False)}
    values = np.array([0.8, 1.0, 1.2, 0.9, 1.1])
    (sure,) = decide([finding(Mean("", 50 + values, 0.0, True, "u"))], 0.05)
    (edge,) = decide([finding(Mean("", values - 1 + 0.2, 0.0, True, "u"))], 0.05)
    assert (sure["verdict"], sure["fragile"], sure["replication"]) == ("supported", False, pytest.approx(1, abs=1e-3))
    assert (edge["verdict"], edge["fragile"], edge["replication"]) == ("supported", True, pytest.approx(0.5, abs=0.15))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("replicates", [3, 5])
def test_the_false_discovery_rate_holds_with_two_nulls_in_five(replicates: int) -> None:
    rng, ledgers, nulls, count = np.random.default_rng(replicates), 40, 12, 30
    false, found = [], 0
    for _ in range(ledgers):
        sd = 0.02 * np.sqrt(4 / rng.chisquare(4, count))
        truths = np.r_[np.zeros(nulls), rng.choice([-1, 1], count - nulls) * rng.uniform(1, 6, count - nulls)] * 0.02
        rows = decide(
            [
                finding(Mean("", rng.normal(truth, each, replicates), 0.0, bool(rng.integers(2)), "u"), number)
                for number, (truth, each) in enumerate(zip(truths, sd, strict=True))
            ],
            0.05,
        )
        side = np.array([0 if row["verdict"] not in DECIDED else 1 if row["effect"] > 0 else -1 for row in rows])
        wrong = (side != 0) & (side != np.sign(truths))  # a decided null, or the wrong side
        false.append(wrong.sum() / max((side != 0).sum(), 1))
        found += int(((side != 0) & ~wrong).sum())
    assert np.mean(false) < 0.05
    assert found > 0.3 * ledgers * (count - nulls)


@pytest.mark.usefixtures("quick")
def test_a_ledger_of_nulls_alone_decides_anything_as_often_as_alpha_says() -> None:
    rng, ledgers = np.random.default_rng(7), 120
    any_at_all = 0
    for _ in range(ledgers):
        rows = decide([finding(Mean("", rng.normal(0, 1, 5), 0.0, True, str(n)), n) for n in range(10)], 0.1)
        any_at_all += any(row["verdict"] in DECIDED for row in rows)
    assert within_binomial(any_at_all, ledgers, 0.1)


def test_rows_of_one_unit_lend_each_other_as_many_degrees_of_freedom_as_they_have() -> None:
    rng = np.random.default_rng(3)
    many = [sps.zscore(rng.normal(size=size), ddof=1) * 0.02 + 0.02 for size in (3, 3, 5, 5, 4, 3, 5, 4)]
    many = [values * factor for values, factor in zip(many, rng.uniform(0.8, 1.2, 8), strict=True)]
    other = rng.normal(0.1, 2.0, 4)
    findings = [finding(Mean("", values, 0.0, True, "Dice"), number) for number, values in enumerate(many)]
    rows = decide([*findings, finding(Mean("", other, 0.0, True, "dB"), 99)], 0.05)
    dof = [len(values) - 1 for values in many]
    law = variance_prior([values.var(ddof=1) for values in many], dof)
    assert law[0] > 4  # they differ by little, so that each is lent as much as it may be
    for values, own, row in zip(many, dof, rows, strict=False):
        degrees, variance = lent(law, own)
        assert degrees == own
        pooled = (degrees * variance + own * values.var(ddof=1)) / (2 * own)
        t = values.mean() / np.sqrt(pooled / len(values))
        assert row["p"] == pytest.approx(2 * sps.t.sf(abs(t), 2 * own))
    assert rows[-1]["p"] == pytest.approx(sps.ttest_1samp(other, 0).pvalue), "nothing to pool with in its unit"
    apart = decide([finding(Mean("", values, 0.0, True, str(n)), n) for n, values in enumerate(many)], 0.05)
    assert [row["p"] for row in apart] == pytest.approx([sps.ttest_1samp(values, 0).pvalue for values in many])


def test_replicates_that_are_all_alike_lend_nothing() -> None:
    """Three times 0.1 has a variance of 2e-34 in floating point: it must not enter the law of the variances."""
    rng = np.random.default_rng(4)
    rows = [finding(Mean("", rng.normal(0.1, 0.02, 4), 0.0, True, "Dice"), number) for number in range(7)]
    still = [finding(Mean("", np.array([value] * 3), 0.0, True, "Dice"), 7 + n) for n, value in enumerate((0.1, 0.7))]
    alone, beside = decide(rows, 0.05), decide([*rows, *still], 0.05)
    assert [row["p"] for row in beside[:7]] == pytest.approx([row["p"] for row in alone])
    assert all(0 < row["p"] < 0.05 for row in beside[7:]), "what the others say of the variance is lent to them"


@pytest.mark.usefixtures("quick")
def test_the_smallest_detectable_effect_is_found_as_often_as_it_says() -> None:
    """What is printed depends on the spread that five replicates happened to have; on average it is as promised."""
    rng = np.random.default_rng(5)
    for above in (True, False):
        found = []
        for _ in range(400):
            (row,) = decide([finding(Mean("", rng.normal(0.3, 1, 5), 0.2, above, "u"))], 0.05)
            assert (row["detectable"] > 0.2) == above, "on the claim's side of the line"
            again = rng.normal(row["detectable"], 1, 5)
            side = "greater" if above else "less"
            found.append(sps.ttest_1samp(again, 0.2, alternative=side).pvalue <= 0.025)
        assert within_binomial(sum(found), 400, 0.8)


def test_more_seeds_ahead_make_a_decision_more_probable() -> None:
    values = np.array([0.2, 0.9, -0.3, 0.6, 0.4])
    chances = [
        decide([finding(Mean("", values, 0.0, True, "u"))], 0.05, ahead=(seeds, 40))[0]["decided_ahead"]
        for seeds in (5, 10, 40)
    ]
    assert chances == sorted(chances)
    assert chances[2] > chances[0] + 0.2
    assert "decided_ahead" not in decide([finding(Mean("", values, 0.0, True, "u"))], 0.05)[0]


def test_conditions_that_disagree_are_undecided_and_shown_over_all_of_them():
    sure = np.array([0.0, 0.01, -0.01, 0.005, -0.005])
    parts = tuple(
        means.mean(f"rate {at}", 0.9 + shift + sure, 0.9, above=True, unit="cosine")
        for at, shift in ((1, 0.06), (2, -0.1))
    )
    (row,) = decide([Finding(CLAIM, "busi", "", Alike(parts), 5)], 0.05)
    assert row["verdict"] == "inconclusive"
    low, high = row["interval"]
    assert low < 0.8 < 0.9 < 0.96 < high
