"""Rates of one scene: how often its test says what, how often its intervals hold the truth, what it says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.claims.error_rates.scene import Scene
from analysis.claims.error_rates.study import Floats, Study
from analysis.claims.evidence import leaves
from analysis.claims.ledger.decide import decide, judge
from analysis.claims.verdicts import Claim, Finding

WORDS = ("supported", "contradicted", "inconclusive")
SITUATIONS = ("line", "edge", "opposite", "smallest", "twice", "failing")
FAR = 20.0  # effects: a part that certainly decides nothing, or everything
FAILS = 0.1  # of the runs of one arm, in the situation `failing`


def turns(scene: Scene, situation: str, knobs: int) -> Floats:
    """How far the knobs are turned in a situation.

    line, failing: every part on its line. edge: one on its line, the others where only that one decides. opposite,
    smallest, twice: -1, 1 and 2 effects of interest; where one part is enough, that one, the others on the other side.
    """
    effect = np.array(scene.effect)
    assert len(effect) == knobs
    first = np.arange(knobs) == 0
    if situation in ("line", "failing"):
        return 0.0 * effect
    if situation == "edge":
        return np.where(first, 0.0, -FAR if scene.one_is_enough else FAR) * effect
    times = {"opposite": -1.0, "smallest": 1.0, "twice": 2.0}[situation]
    return np.where(first | (not scene.one_is_enough), times, -1.0) * effect


def situations(scene: Scene) -> list[str]:
    """Those that differ: with one part alone on its line there is no edge."""
    return [each for each in SITUATIONS if each != "edge" or len(scene.effect) > 1]


def draws(study: Study, turned: Floats, count: int, rng: np.random.Generator, fails: float = 0.0) -> Iterator[Finding]:
    """At least so many findings of independent studies.

    Raises:
        ValueError: a study did not lead to one tested finding per copy: the scene does not plant what the test reads.
    """
    for _ in range(math.ceil(count / study.copies)):
        found = study.draw(rng, turned, fails)
        if len(found) != study.copies or any(each.evidence is None for each in found):
            said = [each.note for each in found if each.evidence is None]
            raise ValueError(f"{study.copies} tested findings expected, got {len(found)}, of which untested: {said}")
        yield from found


def rates(
    claim: Claim, scene: Scene, study: Study, situation: str, count: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The row of one situation: claim, situation, replications, the share of each word, coverage, least_coverage.

    Every finding is a ledger of its own, so that its level is alpha. coverage: of two-sided 1 - alpha intervals of the
    parts, whose truth is what the test finds without noise, or what the scene says (missing where it does not know);
    least_coverage: that of the part whose interval holds it least. The standard error of a share is
    sqrt(share (1 - share) / replications); studies of one table are independent.
    """
    alpha, fails = claim.value("alpha"), FAILS if situation == "failing" else 0.0
    turned = turns(scene, situation, len(study.knobs))
    truth = true_parts(study, turned)
    words: dict[str, int] = dict.fromkeys(WORDS, 0)
    held = list[list[bool]]()
    for finding in draws(study, turned, count, rng, fails):
        judged = judge([finding], alpha)
        words[judged.words[0]] += 1
        evidence = judged.findings[0].evidence
        assert evidence is not None
        parts = [leaf for leaf, *_ in leaves(evidence)]
        intervals = np.array([leaf.interval(alpha / 2, alpha / 2) for leaf in parts])
        if truth is not None:
            held.append(list((intervals[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= intervals[:, 1])))
    total = sum(words.values())
    covered = np.array(held, dtype=np.float64)
    return {
        "claim": claim.id, "situation": situation, "replications": total,
        **{word: words[word] / total for word in WORDS},
        "coverage": float(covered.mean()) if truth is not None else math.nan,
        "least_coverage": float(covered.mean(0).min()) if truth is not None else math.nan,
    }  # fmt: skip


def true_parts(study: Study, turned: Floats) -> Floats | None:
    """What the parts would be without noise; None where the scene does not know."""
    if study.truth is not None:
        told = study.truth(turned)
        return None if told is None else np.array(told)
    evidence = study.find(study.planted(turned))[0].evidence
    assert evidence is not None
    return np.array([leaf.effect for leaf, *_ in leaves(evidence)])


def told(
    claim: Claim, scene: Scene, study: Study, count: int, rng: np.random.Generator, situation: str
) -> list[dict[str, Any]]:
    """What studies say of themselves, and what came: the word, its `replication`, and the word of the next study."""
    findings = list(draws(study, turns(scene, situation, len(study.knobs)), count, rng))
    rows = [decide([finding], claim.value("alpha"))[0] for finding in findings]
    return [
        {"claim": claim.id, "situation": situation, "word": row["verdict"], "replication": row["replication"],
         "again": row["verdict"] == other["verdict"]}
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)
    ]  # fmt: skip


def power_at_detectable(
    claim: Claim, scene: Scene, study: Study, count: int, rng: np.random.Generator
) -> dict[str, Any] | None:
    """Power at the effect that studies call detectable; None where a claim rests on several parts, or none is told.

    `median`: at the median of what they print. `printed`: at what each prints, on average, by a new study each.
    """
    if len(study.knobs) > 1:
        return None
    alpha, printed = claim.value("alpha"), list[float]()
    for finding in draws(study, np.zeros(1), count, rng):
        evidence = finding.evidence
        assert evidence is not None
        (leaf, *_), row = next(iter(leaves(evidence))), decide([finding], alpha)[0]
        if row["detectable"] is None:
            return None
        # back from the scale of the ledger (ratios) to that of the knob
        log = abs(leaf.shown(leaf.line) - leaf.line) > 1e-9
        ends = [math.log(row[key]) if log else row[key] for key in ("detectable", "line")]
        printed.append(abs(ends[0] - ends[1]))
    at = {"median": np.full(study.copies, np.median(printed))[None]}
    found = {"claim": claim.id, "replications": len(printed), "detectable": float(np.median(printed))}
    for name, turned in at.items():
        found[name] = _supported(study, [turned] * math.ceil(count / study.copies), alpha, rng)
    blocks = [np.array(printed[at : at + study.copies])[None] for at in range(0, len(printed), study.copies)]
    return found | {"printed": _supported(study, blocks, alpha, rng)}


def _supported(study: Study, turned: Sequence[NDArray[np.float64]], alpha: float, rng: np.random.Generator) -> float:
    words = [judge([each], alpha).words[0] for block in turned for each in study.draw(rng, block)]
    return words.count("supported") / len(words)
