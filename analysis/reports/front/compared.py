"""Two ledgers side by side as a page: rows with another word, intervals that do not meet, and the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.ledger.compare import Ledger, compare_ledgers, differs, fared
from analysis.claims.ledger.evaluate import load_claims
from analysis.claims.ledger.findings import findings
from analysis.claims.ledger.table import claim_row, number_text, row_numbers
from analysis.reports.front.forest import Axis, axis, plot, scale
from analysis.reports.front.gallery import render
from analysis.reports.front.rows import SIGNS
from analysis.reports.front.suites import COMPARED, write_suites
from lib.common import paths
from lib.common.errors import StudyError

APART = ("not tested", "absent")
WORDS = {
    "same": "same word",
    "opposite": "opposite word",
    "decided": "decided only in the second",
    "open": "decided only in the first",
    "not tested": "tested in one only",
    "absent": "there in one only",
}


def write_comparison(names: tuple[str, str], first: Ledger, second: Ledger) -> Path:
    """Write `compared/A_and_B.html` among the reports, and the list of suites, which leads to it.

    Args:
        names: of the two, as the user calls them; folders are named by their last two parts.

    Raises:
        StudyError: no row was tested in either.
    """
    table = compare_ledgers(first, second)
    short = tuple(_short(name) for name in names)
    both = [{(row["id"], row["task"]): row for row in ledger} for ledger in (first, second)]
    axes = {name: axis([row for row in [*first, *second] if row["id"] == name]) for name in table.claim.unique()}
    rows = [
        _row(each, both, axes[each["claim"]]) | {"changed": changed}
        for each, changed in zip(table.to_dict("records"), differs(table), strict=True)
    ]
    tested = [row for row in rows if row["words"] not in APART]
    target = paths.reports_dir() / COMPARED / f"{short[0]}_and_{short[1]}.html"
    if not any(row["tested"] for row in rows):
        raise StudyError(f"neither {names[0]} nor {names[1]} has a row that was tested; train one of them first")
    page = render(
        "compared.html.j2",
        names=names,
        summary=fared(names, table),
        changed=[row for row in tested if row["changed"]],
        same=[row for row in tested if not row["changed"]],
        one=[row for row in rows if row["words"] in APART and row["tested"]],
        claims=_claims(first, second),
    )
    paths.write_atomic(target, page)
    write_suites()
    return target


def _claims(first: Ledger, second: Ledger) -> list[tuple[str, list[list[dict[str, str]]]]]:
    """What each ledger says of each claim, in sentences: of those that one of them tested."""
    found = [findings(ledger)["claims"] for ledger in (first, second)]
    names = [claim.id for claim in load_claims() if any(said["claim"] == claim.id for each in found for said in each)]
    return [(name, [[said for said in each if said["claim"] == name] for each in found]) for name in names]


def _short(name: str) -> str:
    """A name as part of a file's name: a suite's own, and of a folder the last two parts."""
    path = Path(name)
    path = path.parent if path.name == "claims.json" else path.with_suffix("")
    stem = "-".join(part for part in path.parts[-2:] if part not in ("/", "..", "."))
    return re.sub(r"[^\w.-]+", "-", stem).strip(".-") or "ledger"


def _row(told: Mapping[Any, Any], both: list[dict[Any, Any]], on: Axis | None) -> dict[str, Any]:
    key = (told["claim"], told["task"])
    pair = [ledger.get(key) for ledger in both]
    sides = [
        {"verdict": "absent", "sign": "", "said": "not there", "numbers": "", "picture": "", "part": ""}
        if row is None
        else {
            **{name: claim_row(row)[name] for name in ("verdict", "said", "seeds", "part")},
            "sign": SIGNS[row["verdict"]], "numbers": row_numbers(row), "picture": plot(row, on),
        }
        for row in pair
    ]  # fmt: skip
    known = next(row for row in pair if row is not None)
    line = told["line"]
    lines = [] if line is None or pd.isna(line) else [float(line)]
    what = [WORDS[told["words"]]] + (["intervals do not meet"] if told["apart"] else [])
    return {
        "claim": told["claim"], "task": told["task"], "sides": sides, "what": "; ".join(what),
        "statement": str(known.get("statement") or ""), "unit": str(known.get("unit") or ""),
        "holds": f"{told['side']} {number_text(line)}" if lines else "–",
        "scale": scale(on, lines),
        "words": told["words"], "tested": any(row and row["verdict"] != "not tested" for row in pair),
    }  # fmt: skip
