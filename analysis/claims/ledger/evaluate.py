"""The claims ledger: what the papers say, tested by rules fixed in claims.toml, and the verdicts as one list."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims import (  # noqa: F401  they register their tests
    feature_reuse,
    filter_change,
    linear_finetuning,
    random_filters,
    transfer_value,
    which_layers,
)
from analysis.claims.ledger.decide import decide
from analysis.claims.verdicts import TESTS, Claim, Finding, Runs, Threshold, data_of, sentences
from analysis.tables.results import computed_on, with_own_source
from lib.common.errors import StudyError, check_keys, cut, shown
from lib.common.outside import read_toml
from lib.common.paths import write_atomic
from lib.common.progress import counted
from lib.runs.run import Run

CLAIMS = Path(__file__).with_name("claims.toml")
COMMON = ("min_seeds", "alpha")
TEXTS = ("id", "paper", "statement", "supported", "contradicted", "test", "unit", "notebook", "figure")
SOME = ("number", "published", "short")  # texts that not every claim has


def load_claims(path: Path = CLAIMS) -> list[Claim]:
    """The claims of a file, in its order.

    Raises:
        StudyError: a key, a test or a threshold is unknown, missing or of the wrong type, or an id comes
        twice.
    """
    content = read_toml(path)
    check_keys(f"table of {path.name}", content, ("common", "claim", "question"))
    common = _thresholds(content.get("common", {}), COMMON, "common")
    entries = content.get("claim", [])
    if not isinstance(entries, list):
        raise StudyError(f"{path}: claims are tables, each under [[claim]], got {shown(entries)}")
    claims = [_claim(entry, common) for entry in entries]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise StudyError(f"claim ids must differ, but {name!r} stands {ids.count(name)} times in {path}")
    return claims


def evaluate(
    frame: pd.DataFrame,
    evaluations: pd.DataFrame,
    claims: Iterable[Claim] | None = None,
    runs: Iterable[Run] = (),
    looks: tuple[int, ...] = (),
    ahead: tuple[int, int] | None = None,
) -> list[dict[str, Any]]:
    """The verdicts: one dictionary per claim and task, ready for JSON.

    Args:
        frame, evaluations: of the runs of one suite, from `results.run_table` and `results.evaluation_table`.
        claims: default: all of claims.toml.
        runs: those of the table, for claims about weights, which are not tested without them.
        looks: numbers of seeds at which the ledger of a study that grows is looked at: p-values and intervals are
            corrected for looking (`statistics.looks`).
        ahead: seeds at the cap, and test folds; rows then say in `decided_ahead` how probable a decision is there.

    Returns:
        What `decide` says of a row, and notebook and figure (what shows it, by its published name), test (the
        function that found it) and data (simulated, real, "real and simulated"; empty where no run is finished).
    """
    claims = load_claims() if claims is None else list(claims)
    by_id = {run.path.name: run for run in runs}
    findings = [each for claim in counted(claims, "testing claims") for each in find(claim, frame, evaluations, by_id)]
    alpha = claims[0].value("alpha") if claims else 0.05
    rows = decide(findings, alpha, looks, ahead)
    kinds = {goal: _kinds(_of_goal(frame, goal)) for goal in {TESTS[claim.test].goal for claim in claims}}
    return [
        row | _shown_by(each.claim) | {"data": each.data or data_of(each.task, kinds[TESTS[each.claim.test].goal])}
        for row, each in zip(rows, findings, strict=True)
    ]


def find(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """What the test of a claim finds in the runs of a suite: its rows of the ledger, not yet decided."""
    test = TESTS[claim.test]
    table = frame if test.every_rate or "chosen" not in frame else frame[frame.chosen]
    table = _of_goal(table if test.shared_source else with_own_source(table), test.goal)
    found = test.run(claim, table, _of_goal(evaluations, test.goal), runs)
    return [replace(each, note=_and_limits(each, table)) for each in found]


def _shown_by(claim: Claim) -> dict[str, str]:
    test = f"{TESTS[claim.test].run.__module__}.{claim.test}"
    return {"notebook": claim.notebook, "figure": claim.figure, "test": test}


def _kinds(frame: pd.DataFrame) -> dict[str, str]:
    return dict(zip(frame.task, frame.kind, strict=True)) if len(frame) else {}


def _and_limits(finding: Finding, table: pd.DataFrame) -> str:
    """The note of a finding, which says so where its runs were not all computed alike, or its groups are not known."""
    if finding.evidence is None and finding.exact is None:
        return finding.note
    own = table if finding.task == "all" else table[table.task == finding.task]
    kinds, parts = computed_on(own), [finding.note]
    if len(kinds) > 1:
        parts.append(f"these runs were not computed alike: {', '.join(kinds)}")
    unknown = sorted(set(own.task[own.groups_known == False]))  # noqa: E712
    if unknown:
        parts.append(f"groups are not known in {', '.join(unknown)}: that split is by image, and may be optimistic")
    return sentences(*parts)


def _of_goal(frame: pd.DataFrame, goal: str | None) -> pd.DataFrame:
    return frame if goal is None else frame.loc[frame.goal == goal]


def write_claims_file(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write verdicts as a JSON list; NaN is no JSON and is refused."""
    write_atomic(path, json.dumps(rows, indent=1, allow_nan=False) + "\n")


def _claim(entry: Mapping[str, Any], common: Mapping[str, Threshold]) -> Claim:
    name = cut(str(entry.get("id", "without an id"))) if isinstance(entry, Mapping) else "without a table"
    check_keys(f"key of claim {name}", entry, (*TEXTS, *SOME, "compare", "thresholds"))
    texts: dict[str, Any] = {key: entry.get(key) for key in (*TEXTS, *(key for key in SOME if key in entry))}
    for key, text in texts.items():
        if not isinstance(text, str) or not text:
            raise StudyError(f"claim {name} must have a text for {key!r}, got {shown(text)}")
    if "number" in texts and texts["number"].count("{}") != 1:
        raise StudyError(f"number of claim {name} must hold one {{}} for the value, got {shown(texts['number'])}")
    test = TESTS[entry["test"]]
    compare = entry.get("compare", [])
    if test.compares != (isinstance(compare, list) and len(compare) == 2):
        wants = "compare = [strategy, reference]" if test.compares else "no compare"
        raise StudyError(f"claim {name} must have {wants} for test {entry['test']!r}, got {shown(compare)}")
    own = _thresholds(entry.get("thresholds", {}), test.thresholds, f"claim {name}")
    return Claim(**texts, thresholds={**common, **own}, compare=tuple(compare))


def _thresholds(given: Mapping[str, Any], names: Iterable[str], where: str) -> dict[str, Threshold]:
    """Exactly the thresholds named, each a number with its reason."""
    names = tuple(names)
    check_keys(f"threshold of {where}", given, names)
    found = {}
    for name in names:
        entry = given.get(name)
        table: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
        value, why = table.get("value"), table.get("why")
        wrong = f"{where} must have a threshold {name} = {{ value = NUMBER, why = TEXT }}, got {shown(entry)}"
        if set(table) != {"value", "why"} or not isinstance(why, str):
            raise StudyError(wrong)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 1e300:
            raise StudyError(wrong)
        if not why.strip():
            raise StudyError(f"threshold {name} of {where} must say why it is {value}")
        found[name] = Threshold(float(value), why)
    return found
