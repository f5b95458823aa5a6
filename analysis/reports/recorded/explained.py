"""results/README.md: the rows of the records that contradict a claim, and why they may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.claims.ledger.evaluate import load_claims
from analysis.claims.ledger.table import number_text
from lib.common.errors import StudyError, check_keys, shown
from lib.common.outside import read_toml

EXPLAINED = "explained.toml"  # in the folder of records
HEAD = """# Verdicts that differ from their papers

Written by `python -m analysis record`: the rows of the records in this folder that contradict a claim, and below them
why that may be (from `explained.toml`). A difference of protocol is always one of the reasons: the papers' full
texts, data and settings were not at hand, and the networks here are small. *Came again* is the chance that a study of
the same size with new seeds says the same; *others agree* the share of other choices of metric, threshold and plateau
that do. Rows that are *inconclusive* contradict nothing: they were too small to tell.
"""


def explanations(folder: Path) -> dict[str, str]:
    """What a folder of records says of claims that its rows contradict: claim -> paragraphs; nothing without a file.

    Raises:
        StudyError: a claim that there is not, or an entry that is not one text `why`.
    """
    file, known = folder / EXPLAINED, [claim.id for claim in load_claims()]
    content = read_toml(file) if file.exists() else {}
    check_keys(f"claim of {EXPLAINED}", content, known)
    for name, entry in content.items():
        if not isinstance(entry, dict) or list(entry) != ["why"] or not isinstance(entry["why"], str):
            raise StudyError(f"{file}: {name} wants one text, why = ..., got {shown(entry)}")
    return {name: entry["why"].strip() for name, entry in content.items()}


def explained_text(
    records: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]], why: Mapping[str, str]
) -> str:
    """The page, in Markdown.

    Args:
        records: provenance and ledger of each. why: from `explanations`.
    """
    parts = [HEAD.strip()]
    for claim in load_claims():
        rows = [
            (about["suite"], row)
            for about, ledger in records
            for row in ledger
            if (row["id"], row["verdict"]) == (claim.id, "contradicted")
        ]
        if not rows:
            continue
        table = ["| record | task | effect | interval | line | came again | others agree |", "|---" * 7 + "|"]
        table += [f"| `{suite}` | {row['task']} | {' | '.join(_cells(row))} |" for suite, row in rows]
        parts += [f"## {claim.id}: {claim.short}", claim.statement, f"Effect: {claim.unit}.", "\n".join(table)]
        parts += [why.get(claim.id, f"Nobody has said yet in `{EXPLAINED}` why.")]
    return "\n\n".join(parts) + "\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    low, high = row["interval"]
    interval = "–" if low is None or high is None else f"{number_text(low)} to {number_text(high)}"
    share = row.get("agreement")
    cells = [number_text(row["effect"]), interval, f"{row['side']} {number_text(row['line'])}"]
    again = "–" if row["replication"] is None else f"{row['replication']:.2f}" + ", fragile" * row["fragile"]
    return [*cells, again, "–" if share is None else f"{share:.2f}"]
