"""The one rule of the ledger: findings become verdicts.

1. Parts of one unit pool the variances of their replicates (`statistics.moderation`).
2. Every finding gives two one-sided p-values: that the claim holds, and that it does not. Its p is twice the smaller.
3. Over all findings of the ledger the false discovery rate of decided rows is held at `alpha` (Benjamini and Hochberg
   1995; a decision names a side, and the rate holds for wrong sides too, Benjamini and Yekutieli 2005).
4. The interval shown is the one that decides: R of m rows being decided, its tails hold `alpha` R / m together. It lies
   on one side of the line just where the row is decided, and over the decided rows it holds the false coverage rate
   (Benjamini and Yekutieli 2005).
5. `replication` is the chance that a study of this size with new replicates says the same; true effects are guessed
   nearer to their lines than they were found, by the share of chance in those of the ledger (`statistics.moderation`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize
from scipy import stats as sps

from analysis.claims.evidence import Leaf, decisive, leaves, with_means
from analysis.claims.means import Mean, OneSided
from analysis.claims.verdicts import Finding, sentences
from analysis.statistics.looks import Growth, growth, looking_factor
from analysis.statistics.moderation import lent, pull, variance_prior
from analysis.statistics.tests import benjamini_hochberg

FRAGILE = 0.8  # a verdict that would come again less often than this is called fragile
POWER = 0.8
QUANTILES = (np.arange(40) + 0.5) / 40


class Judgement(NamedTuple):
    """Findings with pooled variances, the factor on p-values for looking more than once; and by place of those that
    were tested: one-sided p-values, p, adjusted, word.
    """

    findings: list[Finding]
    looking: float
    sides: dict[int, OneSided]
    p: dict[int, float]
    adjusted: dict[int, float]
    words: dict[int, str]


def decide(
    findings: Sequence[Finding],
    alpha: float,
    looks: tuple[int, ...] = (),
    ahead: tuple[int, int] | None = None,
) -> list[dict[str, Any]]:
    """One dictionary per finding, ready for JSON; numbers that do not exist are None.

    Args:
        alpha: the false discovery rate, two-sided.
        looks: numbers of seeds at which a study that grows is looked at, fixed beforehand; p-values and intervals are
            corrected for looking so often (`statistics.looks`).
        ahead: the most seeds of a study that grows, and the test folds that they are spread over; rows then say in
            `decided_ahead` how probable a decision is once they have so many.

    Returns:
        id, paper, statement, task, verdict, effect, interval [low, high], level (of the interval), line (what the
        effect is held against), side (of the line on which the claim holds), distance (effect - line), unit, seeds, p,
        adjusted (by Benjamini and Hochberg over all rows with a p), replication, fragile, withheld (whether its numbers
        would support the claim, and something that the note names keeps it from being said), detectable (the effect
        that this design decides for with 80 % power), parts (the same for every number that the row rests on) and note.
    """
    found = judge(findings, alpha, looks)
    decided = sum(p <= alpha for p in found.adjusted.values())
    level = alpha * max(decided, 1) / max(len(found.p), 1) / found.looking
    forecast = {} if ahead is None else _forecast(found, alpha, ahead)
    rows = []
    for at, finding in enumerate(found.findings):
        if at not in found.p:
            rows.append(_row(finding) | _exact(finding))
            continue
        numbers = (found.words[at], found.sides[at], found.p[at], float(found.adjusted[at]), level)
        row = _row(finding) | _decided(finding, *numbers)
        rows.append(row | ({} if ahead is None else {"decided_ahead": forecast[at]}))
    return rows


def judge(findings: Sequence[Finding], alpha: float, looks: tuple[int, ...] = ()) -> Judgement:
    """The words alone, and the p-values they come from; arguments as of `decide`."""
    findings = _pooled(findings)
    tested = {at: each for at, each in enumerate(findings) if each.evidence is not None}
    looking = looking_factor(looks, alpha / max(len(tested), 1))  # of the lowest level that a p is compared with
    sides = {at: _sides(each, looking) for at, each in tested.items()}
    p = {at: min(1.0, 2 * float(min(each))) for at, each in sides.items()}
    adjusted = dict(zip(p, benjamini_hochberg(list(p.values())), strict=True))
    words = dict.fromkeys(p, "inconclusive")
    for at, each in adjusted.items():
        if each <= alpha:
            words[at] = "supported" if sides[at].support < sides[at].against else "contradicted"
    return Judgement(findings, looking, sides, p, adjusted, words)


def _pooled(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, each mean with what all of them say of its variance, and of how much in effects is chance."""
    means = _means(findings)
    priors = {
        unit: variance_prior(
            [each.variance[0] for each in means if each.unit == unit],
            [len(each.values) - 1 for each in means if each.unit == unit],
        )
        for unit in {each.unit for each in means}
    }
    findings = _changed(findings, lambda part: replace(part, prior=lent(priors[part.unit], len(part.values) - 1)))
    numbers = [each for each in _means(findings) if each.variance[0] > 0]
    chance = pull([each.t for each in numbers], [each.variance[1] for each in numbers])
    return _changed(findings, lambda part: replace(part, pull=chance))


def _means(findings: Sequence[Finding]) -> list[Mean]:
    return [leaf for each in findings if each.evidence for leaf, *_ in leaves(each.evidence) if isinstance(leaf, Mean)]


def _changed(findings: Sequence[Finding], change: Callable[[Mean], Mean]) -> list[Finding]:
    return [replace(each, evidence=each.evidence and with_means(each.evidence, change)) for each in findings]


def _sides(finding: Finding, looking: float, grown: Growth | None = None) -> OneSided:
    """The p-values of a finding, or of studies drawn as it may be when it has grown; what is barred has no support."""
    assert finding.evidence is not None
    found = finding.evidence.p() if grown is None else finding.evidence.again(grown)
    support = np.ones_like(found.against) if finding.barred else found.support
    return OneSided(np.minimum(1.0, support * looking), np.minimum(1.0, found.against * looking))


def _row(finding: Finding) -> dict[str, Any]:
    claim = finding.claim
    return {
        "id": claim.id, "paper": claim.paper, "statement": claim.statement, "task": finding.task,
        "verdict": "not tested", "effect": None, "interval": [None, None], "level": None,
        "line": None, "side": None, "distance": None,
        "unit": claim.unit, "seeds": finding.seeds, "p": None, "adjusted": None, "replication": None,
        "fragile": False, "withheld": False, "detectable": None, "parts": [], "note": finding.note,
    }  # fmt: skip


def _exact(finding: Finding) -> dict[str, Any]:
    if finding.exact is None:
        return {}
    found, line, holds = finding.exact
    word = "supported" if holds else "contradicted"
    return {"verdict": word, "effect": found, "line": line, "side": "at most", "distance": found - line}


def _decided(finding: Finding, word: str, sides: OneSided, p: float, adjusted: float, level: float) -> dict[str, Any]:
    evidence = finding.evidence
    assert evidence is not None
    withheld = bool(finding.barred) and word == "inconclusive" and bool(float(evidence.p().support) <= level / 2)
    toward = word == "supported" or withheld
    toward = toward or (word == "inconclusive" and not finding.barred and sides.support < sides.against)
    chosen = decisive(evidence, support=toward)
    parts = [_part(leaf, level, *factors) for leaf, *factors in leaves(evidence)]
    shown = next(part for (leaf, *_), part in zip(leaves(evidence), parts, strict=True) if leaf is chosen)
    if word == "inconclusive" and not finding.barred:
        shown = shown | {"interval": _over_conditions(shown, parts)}
    again = _again(finding, word, level)
    fragile = word in ("supported", "contradicted") and again < FRAGILE
    numbers = {key: shown[key] for key in ("effect", "interval", "line", "side", "distance", "detectable")}
    return numbers | {
        "verdict": word, "level": 1 - level, "p": p, "adjusted": adjusted, "replication": again, "fragile": fragile,
        "withheld": withheld, "parts": parts if len(parts) > 1 else [],
        "note": sentences(finding.note, finding.barred, _agreeing(chosen)),
    }  # fmt: skip


def _agreeing(leaf: Leaf) -> str:
    """Why a number decides nothing whose replicates are all equal."""
    low, high = leaf.interval(0.25, 0.25)
    return "replicates agree exactly: what others would say cannot be told" if math.isinf(high - low) else ""


def _over_conditions(shown: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """The interval of an undecided row.

    Where conditions give different answers (`Alike`), each by itself may be sure, and what is shown is the interval
    over all of them; every other undecided number's own interval holds its line.
    """
    low, high = shown["interval"]
    if low is None or high is None or low <= shown["line"] <= high:
        return shown["interval"]
    same = [part["interval"] for part in parts if part["line"] == shown["line"] and None not in part["interval"]]
    return [min(each[0] for each in same), max(each[1] for each in same)]


def _part(leaf: Leaf, level: float, support: int, against: int) -> dict[str, Any]:
    """A number with its line and the interval that decides: its tails are those of the row, divided as p is."""
    holds, fails = level / 2 / support, level / 2 / against
    low, high = leaf.interval(*((holds, fails) if leaf.above else (fails, holds)))
    effect, line = leaf.shown(leaf.effect), leaf.shown(leaf.line)
    return {
        "name": leaf.name, "effect": _number(effect), "interval": [_number(leaf.shown(low)), _number(leaf.shown(high))],
        "line": _number(line), "side": "above" if leaf.above else "below", "distance": _number(effect - line),
        "detectable": _detectable(leaf, holds),
    }  # fmt: skip


def _detectable(leaf: Leaf, tail: float) -> float | None:
    """The true mean, on the claim's side of the line, that a one-sided t test at `tail` finds with 80 % power.

    The standard deviation is known from few replicates only: the power is the mean over what the true one may be beside
    it (plugged in as if it were true, effects so told are found in .63 of studies of three replicates).
    """
    if not isinstance(leaf, Mean):
        return None
    variance, dof = leaf.variance
    if not variance > 0:
        return None
    distance = _shift(dof, tail) * math.sqrt(variance / len(leaf.values))
    return _number(leaf.shown(leaf.line + (distance if leaf.above else -distance)))


@functools.lru_cache(maxsize=4096)
def _shift(dof: float, tail: float) -> float:
    """The distance that is found with the wanted power, in standard errors: rows of one unit share it."""
    critical = float(sps.t.isf(tail, dof))
    true = np.sqrt(sps.chi2.ppf(QUANTILES, dof) / dof)  # observed / true standard deviation
    return optimize.brentq(lambda x: float(sps.nct.sf(critical, dof, x * true).mean()) - POWER, 0.0, 100 * critical)


def _again(finding: Finding, word: str, level: float) -> float:
    """The share of drawn studies of the same size that come to the same word at the level that decided here."""
    assert finding.evidence is not None
    drawn = finding.evidence.again()
    support = np.zeros_like(drawn.against, dtype=bool) if finding.barred else drawn.support <= level / 2
    against = ~support & (drawn.against <= level / 2)
    same = {"supported": support, "contradicted": against, "inconclusive": ~support & ~against}[word]
    return float(np.mean(same))


def _forecast(found: Judgement, alpha: float, ahead: tuple[int, int]) -> dict[int, float]:
    """How probable a decision on each row is once all have `ahead`: the share of drawn ledgers, each decided whole."""
    rng, drawn = np.random.default_rng(0), []
    for at in found.p:
        finding = found.findings[at]
        support, against = _sides(finding, found.looking, growth(finding.seeds, *ahead))
        drawn.append(rng.permutation(np.minimum(1.0, 2 * np.minimum(support, against))))  # rows apart
    if not drawn:
        return {}
    decided = sps.false_discovery_control(drawn, axis=0) <= alpha
    return dict(zip(found.p, decided.mean(axis=1).tolist(), strict=True))


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
