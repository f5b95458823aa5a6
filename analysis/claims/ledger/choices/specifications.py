"""The whole ledger under every alternative, one row per row of the ledger and choice, and the share that agrees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis.claims.evidence import leaves
from analysis.claims.ledger.choices.alternatives import Case, Choice, alternatives
from analysis.claims.ledger.decide import decide
from analysis.claims.ledger.evaluate import find, load_claims
from analysis.claims.ledger.kept import kept, planned_looks, suite_ledger
from analysis.claims.verdicts import Claim, Finding, Runs
from lib.common.progress import counted
from lib.runs.run import Run
from lib.study.plan import load_suite
from lib.study.suite import Suite

OWN = "the study's own"
OPPOSITE = {"supported": "contradicted", "contradicted": "supported"}
COLUMNS = ["claim", "task", "choice", "changes", "about", "verdict", "effect", "low", "high", "line", "side", "unit"]
COLUMNS += ["adjusted", "agrees", "reason"]
Rows = dict[tuple[str, str], dict[str, Any]]


def specifications(
    frame: pd.DataFrame,
    evaluations: pd.DataFrame,
    claims: Iterable[Claim] | None = None,
    runs: Iterable[Run] = (),
    looks: tuple[int, ...] = (),
) -> pd.DataFrame:
    """Every tested row of a ledger under every choice; arguments as of `ledger.evaluate.evaluate`.

    A choice makes a whole ledger: claims that it has no meaning for stand in it as the study has them, pooled variances
    and the false discovery rate are those of that ledger.

    Returns:
        One row per claim, task and choice, the study's own first: COLUMNS. agrees: same, opposite (supported and
        contradicted change places) or other; where a choice cannot be computed for a row it is empty, and so are the
        numbers, and `reason` says why.
    """
    claims = load_claims() if claims is None else list(claims)
    by_id = {run.path.name: run for run in runs}
    own = {claim.id: find(claim, frame, evaluations, by_id) for claim in claims}
    base = _ledger(claims, own, looks)
    tested = {key for key, row in base.items() if row["verdict"] != "not tested"}
    found = [_row(*key, OWN, "", "as the study does it", base[key], "same") for key in base if key in tested]
    claims_tested = [claim for claim in claims if any(claim.id == name for name, _ in tested)]
    for choice in counted(alternatives(claims_tested, frame), "the ledger under other choices"):
        changed, reasons = _under(choice, claims_tested, own, frame, evaluations, by_id)
        ledger = _ledger(claims, own | changed, looks) if changed else {}
        for key in (key for key in base if key in tested and key[0] in changed.keys() | reasons.keys()):
            reason = reasons[key[0]] if key[0] in reasons else _not_computed(choice, key, own, changed, ledger)
            row = None if reason else ledger[key]
            agrees = "" if row is None else _agreement(base[key]["verdict"], row["verdict"])
            found.append(_row(*key, choice.name, choice.changes, choice.about, row, agrees, reason))
    table = pd.DataFrame(found, columns=COLUMNS)
    place = {key: at for at, key in enumerate(base)}
    order = [place[key] for key in zip(table.claim, table.task, strict=True)]
    return table.assign(place=order).sort_values("place", kind="stable", ignore_index=True).drop(columns="place")


def agreeing_choices(table: pd.DataFrame) -> pd.DataFrame:
    """How many choices agree with the verdict of each row of the ledger.

    Columns: claim, task, verdict (the study's own), choices (that could be computed, without the study's own), same,
    other, opposite (numbers of choices), agreement (share that say the same; missing without a choice), hangs on (the
    choices that do not agree).
    """
    rows = []
    for (claim, task), every in table.groupby(["claim", "task"], sort=False):
        own, others = every[every.choice == OWN].iloc[0], every[every.choice != OWN]
        counts = {word: int((others.agrees == word).sum()) for word in ("same", "other", "opposite")}
        computed = sum(counts.values())
        rest = others[others.agrees.isin(["other", "opposite"])]
        hangs = "; ".join(f"{row.choice}: {row.verdict}" for row in rest.itertuples())
        share = counts["same"] / computed if computed else None
        told = {"verdict": own.verdict, "choices": computed, **counts, "agreement": share, "hangs on": hangs}
        rows.append({"claim": claim, "task": task, **told})
    columns = ["claim", "task", "verdict", "choices", "same", "other", "opposite", "agreement", "hangs on"]
    return pd.DataFrame(rows, columns=columns).astype({"agreement": "float64"})


def suite_choices(suite: str | Suite) -> pd.DataFrame:
    """The specifications of a suite, by its name or as it was loaded, from its finished runs; kept beside its ledger.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    read = load_suite(suite) if isinstance(suite, str) else suite
    looks = planned_looks(read)

    def records(frame: pd.DataFrame, evaluations: pd.DataFrame, runs: list[Run]) -> list[dict[str, Any]]:
        table = specifications(frame, evaluations, runs=runs, looks=looks)
        return table.astype(object).where(table.notna(), None).to_dict("records")

    table = pd.DataFrame(kept("cache/choices", read, records), columns=COLUMNS)
    return table.astype(dict.fromkeys(("effect", "low", "high", "line", "adjusted"), "float64"))


def told_ledger(suite: Suite) -> list[dict[str, Any]]:
    """The ledger of a suite as claims.json has it, in reports and in records: with `agreement`.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    return with_agreement(suite_ledger(suite), suite_choices(suite))


def with_agreement(ledger: Sequence[dict[str, Any]], table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a ledger with the share of choices that agree as `agreement`, None where there is none."""
    shares = agreeing_choices(table).set_index(["claim", "task"]).agreement.dropna().to_dict()
    return [row | {"agreement": shares.get((row["id"], row["task"]))} for row in ledger]


def _ledger(claims: Sequence[Claim], found: dict[str, list[Finding]], looks: tuple[int, ...]) -> Rows:
    findings = [each for claim in claims for each in found[claim.id]]
    alpha = findings[0].claim.value("alpha") if findings else 0.05
    return {(row["id"], row["task"]): row for row in decide(findings, alpha, looks)}


def _under(
    choice: Choice, claims: Sequence[Claim], own: dict[str, list[Finding]], frame: pd.DataFrame,
    evaluations: pd.DataFrame, runs: Runs,
) -> tuple[dict[str, list[Finding]], dict[str, str]]:  # fmt: skip
    """What the claims that a choice has a meaning for find under it, and why it has none for the others."""
    changed, reasons = {}, {}
    for claim in claims:
        case = choice.of(Case(claim, frame, evaluations), own[claim.id])
        if isinstance(case, str):
            reasons[claim.id] = case
        elif case is not None:
            changed[claim.id] = find(case.claim, case.frame, case.evaluations, runs)
    return changed, reasons


def _not_computed(
    choice: Choice, key: tuple[str, str], own: dict[str, list[Finding]], changed: dict[str, list[Finding]], ledger: Rows
) -> str:
    """Why a row is not there under a choice; empty where it is."""
    name, task = key
    if key not in ledger:
        return "; ".join(sorted({each.note for each in changed[name] if each.evidence is None})) or "no such runs"
    if ledger[key]["verdict"] == "not tested":
        return str(ledger[key]["note"])
    before, after = (next(each for each in found[name] if each.task == task) for found in (own, changed))
    return "it rests on the same runs" if choice.picks and _numbers(before) == _numbers(after) else ""


def _numbers(finding: Finding) -> tuple[Any, ...]:
    """All that a finding's verdict comes from."""
    parts = () if finding.evidence is None else leaves(finding.evidence)
    told = tuple((leaf.name, leaf.line, leaf.effect, *map(float, leaf.p()), *factors) for leaf, *factors in parts)
    return told, bool(finding.barred), finding.exact


def _agreement(own: str, other: str) -> str:
    if own == other:
        return "same"
    return "opposite" if OPPOSITE.get(own) == other else "other"


def _row(
    claim: str, task: str, name: str, changes: str, about: str, row: dict[str, Any] | None, agrees: str,
    reason: str = "",
) -> dict[str, Any]:  # fmt: skip
    told = {key: (row or {}).get(key) for key in ("verdict", "effect", "line", "side", "unit", "adjusted")}
    low, high = (row or {}).get("interval") or (None, None)
    named = {"claim": claim, "task": task, "choice": name, "changes": changes, "about": about, "reason": reason}
    return named | told | {"low": low, "high": high, "agrees": agrees}
