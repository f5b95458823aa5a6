"""What stands in front of a suite's reports: the gallery, the ledger as a page, and both in one file for programs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.ledger.findings import findings
from analysis.reports import pages
from analysis.reports.front import rows
from analysis.tables.results import computed_on
from lib.common import paths

LEDGER, FINDINGS = "claims.json", "findings.json"
LINKS = {"ledger.html": "claims ledger", "results.csv": "results.csv", LEDGER: LEDGER, FINDINGS: FINDINGS}


def render(template: str, **content: Any) -> str:
    """A page from its template; texts are escaped, and the only script is the one whose digest the policy names."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(pages.TEMPLATES), autoescape=True, trim_blocks=True)
    style = pages.style() + (pages.TEMPLATES / "front.css").read_text()
    return environment.get_template(template).render(style=style, signs=rows.SIGNS, **content)


def write_gallery(folder: Path, *, title: str, commit: str, finished: str, results: pd.DataFrame | None) -> Path:
    """Write `index.html` and, where there is a ledger, `ledger.html` and `findings.json`, from what lies in a folder.

    Args:
        title: of the suite. commit, finished: of the reports. results: the run table; None where it cannot be read.
    """
    there = (folder / LEDGER).is_file()
    ledger = json.loads((folder / LEDGER).read_text()) if there else []
    found = findings(ledger)
    runs = None if results is None else len(results)
    about = {"suite": folder.name, "title": title, "commit": commit, "finished": finished, "runs": runs}
    titles = dict(zip(results.task, results.title, strict=True)) if runs and results is not None else {}
    seen = rows.viewed(ledger, rows.published(folder, titles))
    panels = rows.panels(ledger, seen)
    if there:
        paths.write_atomic(folder / FINDINGS, json.dumps(about | found, indent=1) + "\n")
        paths.write_atomic(folder / "ledger.html", _ledger_page(seen, panels, about | {"found": found}))
    leads = {name for entry in found["questions"] for said in entry["said"] for name in said["leads"]}
    links = {name: words for name, words in LINKS.items() if (folder / name).exists()}
    links |= {"../index.html": "all suites"} if folder.parent == paths.reports_dir() else {}
    target = folder / "index.html"
    html = render(
        "gallery.html.j2",
        **about,
        found=found,
        cards=pages.read_cards(folder),
        asked=rows.asked(panels, only=leads) if there else [],
        told={entry["letter"]: entry["said"] for entry in found["questions"]},
        shown_in={
            question.letter: {row["notebook"] for row in seen if row["letter"] == question.letter}
            for question in rows.questions()
        },
        links=links,
        computed=computed_on(results) if runs and results is not None else [],
    )  # fmt: skip
    paths.write_atomic(target, html)
    return target


def _ledger_page(seen: list[dict[str, Any]], panels: list[dict[str, Any]], about: Mapping[str, Any]) -> str:
    script = (pages.TEMPLATES / "ledger.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    tested = [row for row in seen if row["tested"]]
    levels = sorted({row["level"] for row in tested if row["level"]})
    return render(
        "ledger.html.j2",
        **about,
        tested=tested,
        untested=[row for row in seen if not row["tested"]],
        asked=rows.asked(panels),
        tasks=sorted({row["task"] for row in tested}),
        level=" and ".join(levels),
        rules=rows.rules(seen),
        script=script,
        script_hash=f"sha256-{digest}",
    )
