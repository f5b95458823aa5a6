"""The page in front of all reports: a row per suite, and the pages that hold two ledgers against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from analysis.claims.verdicts import VERDICTS
from analysis.reports.front.gallery import FINDINGS, render
from lib.common import paths
from lib.common.errors import StudyError
from lib.common.outside import read_json

COMPARED = "compared"  # folder of the pages on two ledgers


def write_suites() -> Path:
    """Write `index.html` of the folder of all reports; suites are there whose reports have been written."""
    folder = paths.reports_dir()
    found = [_suite(file) for file in sorted(folder.glob(f"*/{FINDINGS}")) if (file.parent / "index.html").is_file()]
    pages = [{"name": path.stem.replace("_and_", " and "), "link": f"{COMPARED}/{quote(path.name)}"}
             for path in sorted((folder / COMPARED).glob("*.html"))]  # fmt: skip
    target = folder / "index.html"
    paths.write_atomic(target, render("suites.html.j2", suites=found, compared=pages))
    return target


def _suite(file: Path) -> dict[str, Any]:
    """What the list says of one suite; of findings that cannot be read only where they lie."""
    name = file.parent.name
    told: dict[str, Any] = {"name": name, "link": f"{quote(name)}/index.html", "title": name, "counts": {}, "data": ""}
    try:
        found = read_json(file)
        counts = {word: int(found["counts"][word]) for word in (*VERDICTS, "fragile")}
        title, data, finished = str(found["title"]), " and ".join(map(str, found["data"])), str(found["finished"])
    except (StudyError, KeyError, TypeError, ValueError):
        return told | {"finished": "its findings.json is damaged; make the report again"}
    return told | {"title": title, "data": data, "finished": finished, "counts": counts, "runs": found.get("runs")}
