"""results/README.md: the rows of the records that contradict a claim, why they may, and all other rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.claims.ledger.evaluate import load_claims
from analysis.claims.ledger.table import claim_row, number_text
from lib.common.errors import StudyError, check_keys, shown
from lib.common.outside import read_toml

EXPLAINED = "explained.toml"  # in the folder of records
HEAD = """# Verdicts that differ from their papers

Written by `python -m analysis record`: the rows of the records in this folder that contradict a claim, and below them
why that may be (from `explained.toml`). A difference of protocol is always one of the reasons: the papers' full
texts, data and settings were not at hand, and the networks here are small. *Came again* is the chance that a study of
the same size with new seeds says the same; *others agree* the share of other choices of metric, threshold and plateau
that do. The *interval* is the one that decides, at a level that bounds wrong verdicts over the whole ledger of its
record; *detectable* is the effect that so many seeds would have decided for four times in five. A claim that says
several things has a number for each, and the one that decides stands here, by its name. Rows that are *inconclusive*
contradict nothing: their intervals reach over the line, or a control is missing that support would need. All rows that
were tested stand at the end.
"""
COLUMNS = ("effect", "interval", "level", "line", "seeds", "detectable", "came again", "others agree")
ALL = "## All rows that were tested"


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
        parts += [f"## {claim.id}: {claim.short}", claim.statement, f"Effect: {claim.unit}."]
        parts += [_table(("record", "task"), [[f"`{suite}`", row["task"], *_cells(row)] for suite, row in rows])]
        parts += [why.get(claim.id, f"Nobody has said yet in `{EXPLAINED}` why.")]
    everything = [
        [claim.id, f"`{about['suite']}`", row["task"], claim_row(row)["said"], *_cells(row)]
        for claim in load_claims()
        for about, ledger in records
        for row in ledger
        if row["id"] == claim.id and row["verdict"] != "not tested"
    ]
    parts += [ALL, _table(("claim", "record", "task", "verdict"), everything)]
    return "\n\n".join(parts) + "\n"


def _table(about: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = (*about, *COLUMNS)
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def _cells(row: Mapping[str, Any]) -> list[str]:
    low, high = row["interval"]
    interval = "–" if low is None or high is None else f"{number_text(low)} to {number_text(high)}"
    share, told = row.get("agreement"), claim_row(row)
    part = f" ({told['part']})" if told["part"] else ""
    cells = [told["effect"] + part, interval, told["level"] or "–", told["holds"], told["seeds"], told["detectable"]]
    again = "–" if row["replication"] is None else f"{row['replication']:.2f}" + ", fragile" * row["fragile"]
    return [*cells, again, "–" if share is None else f"{share:.2f}"]
