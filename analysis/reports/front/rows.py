"""A ledger as its pages show it: rows with their words, pictures and links, under claims, under questions."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from analysis.claims.ledger.evaluate import load_claims
from analysis.claims.ledger.findings import Question, questions
from analysis.claims.ledger.table import claim_row, number_text, part_lines, row_numbers
from analysis.reports.front.forest import axis, plot, scale

SIGNS = {"supported": "+", "contradicted": "−", "inconclusive": "?", "not tested": "·"}
ORDER = {word: place for place, word in enumerate(SIGNS)}


@dataclass(frozen=True)
class Published:
    """What the reports beside a page hold: their pages, and the figures and tables that each published, by file name.

    titles: of tasks, by which some figures are named.
    """

    pages: frozenset[str] = frozenset()
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)


def published(folder: Path, titles: Mapping[str, str]) -> Published:
    """What lies in a folder of reports."""
    pages = frozenset(path.stem for path in folder.glob("*.html"))
    files = {name: frozenset(file.name for file in (folder / name).glob("*.*")) for name in pages}
    return Published(pages, files, titles)


def viewed(ledger: Sequence[Mapping[str, Any]], beside: Published) -> list[dict[str, Any]]:
    """Rows of a ledger as a page shows them, in the same order.

    Beside the texts of `claim_row`: anchor (unique in the page), place, order of the verdict, sign, numbers (effect and
    interval), parts (lines), picture, data (kind of data), tested, letter, and the links figure, figure_data and page,
    empty where the reports do not hold them.
    """
    anchors: set[str] = set()
    drawn = {name: axis([row for row in ledger if row["id"] == name]) for name in {row["id"] for row in ledger}}
    found = []
    for place, row in enumerate(ledger):
        figure, table = figure_links(row, beside)
        notebook = str(row.get("notebook") or "")
        told: dict[str, Any] = {
            **claim_row(row), "anchor": _anchor(f"{row['id']}-{row['task']}", anchors), "place": place,
            "order": ORDER.get(row["verdict"], len(ORDER)), "sign": SIGNS.get(row["verdict"], ""),
            "numbers": row_numbers(row),
            "parts": part_lines(row), "picture": plot(row, drawn[row["id"]]), "data": str(row.get("data") or ""),
            "tested": row["verdict"] != "not tested", "letter": row["id"][:1],
            "figure_link": figure, "figure_data": table,
            "page": f"{quote(notebook)}.html" if notebook in beside.pages else "",
            "raw": {key: _plain(row.get(key)) for key in ("effect", "seeds", "replication", "adjusted", "agreement")},
        }  # fmt: skip
        found.append(told)
    return found


def _plain(value: Any) -> str:
    """A number to sort by; empty where there is none."""
    return "" if value is None else f"{value:.6g}"


def _anchor(name: str, taken: set[str]) -> str:
    """An id without what an id must not hold, different from those that are taken."""
    base = re.sub(r"[^\w@.-]+", "-", name)
    number, anchor = 1, base
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor


def figure_links(row: Mapping[str, Any], beside: Published) -> tuple[str, str]:
    """Where the figure that shows a row stands in its report, and the table of its data; empty where it is not there.

    A name such as `angle_{task}` stands for the file of the row's task, or, where none is named after it, for the
    first that fits. Where a table shows the row there is no figure.
    """
    notebook, wanted = str(row.get("notebook") or ""), str(row.get("figure") or "")
    files = beside.files.get(notebook, frozenset())
    if not wanted or not files:
        return "", ""
    fits = re.compile("(.+)".join(map(re.escape, re.split(r"\{\w+\}", wanted))) + ("" if "{" in wanted else "(_.+)?"))
    stems = sorted({Path(file).stem for file in files if Path(file).suffix in (".png", ".csv")})
    stems = [stem for stem in stems if fits.fullmatch(stem)]
    task = str(row["task"])
    names = [name for name in (task, task.split("@")[0], beside.titles.get(task.split("@")[0], "")) if name]
    names = ["_".join(name.split()) for name in names]  # as `publish` does
    stem = next((stem for name in names for stem in stems if name in "_".join(stem.split())), stems[0] if stems else "")
    if not stem:
        return "", ""
    figure = f"{quote(notebook)}.html#figure-{quote(stem)}" if f"{stem}.png" in files else ""
    table = f"{quote(notebook)}/{quote(stem)}.csv" if f"{stem}.csv" in files else ""
    return (figure if notebook in beside.pages else ""), table


def panels(ledger: Sequence[Mapping[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tested rows under their claims: id, unit, statement, rows, and the scale below them."""
    found = []
    pairs = [(raw, row) for raw, row in zip(ledger, rows, strict=True) if row["tested"]]
    for name, group in groupby(pairs, lambda pair: pair[1]["id"]):
        own = list(group)
        raws = [raw for raw, _ in own]
        lines = [raw["line"] for raw in raws if raw.get("line") is not None]
        every = [raw for raw in ledger if raw["id"] == name]  # the axis of the pictures in the table
        head = {key: own[0][1][key] for key in ("id", "unit", "statement")}
        found.append({**head, "rows": [row for _, row in own], "scale": scale(axis(every), lines)})
    return found


def asked(
    panels_: Sequence[Mapping[str, Any]], only: Container[str] | None = None
) -> list[tuple[Question, list[Mapping[str, Any]]]]:
    """The questions with the panels of their claims, or of some of these."""
    shown = [panel for panel in panels_ if only is None or panel["id"] in only]
    return [(each, [panel for panel in shown if panel["id"].startswith(each.letter)]) for each in questions()]


def rules(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What decides each claim: statement, paper, unit, test, thresholds with their reasons, and where it is shown."""
    known = {claim.id: claim for claim in load_claims()}
    found = []
    for row in {row["id"]: row for row in rows}.values():
        claim = known.get(row["id"])
        lines = [] if claim is None else [
            {"name": name.replace("_", " "), "value": number_text(limit.value), "why": limit.why}
            for name, limit in claim.thresholds.items()
        ]  # fmt: skip
        keys = ("id", "statement", "paper", "unit", "test", "notebook", "figure", "page")
        paper = "" if claim is None else claim.published
        found.append({key: row[key] for key in keys} | {"thresholds": lines, "published": paper})
    return found
