"""What a page adds to an executed notebook: numbered figures, files, headings to link to, ways on, a citation."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from analysis.reports.published import MARK
from lib.common import paths

WAYS = re.compile(r"<!--ways-->.*?<!--/ways-->", re.DOTALL)
KINDS = ("png", "svg", "csv")
_HEADING = re.compile(r"<h([1-3])>(.*?)</h\1>", re.DOTALL)


def number_figures(notebook: Any, folder: Path) -> int:
    """Give every published figure of an executed notebook its number, its files and its picture for dark pages.

    Args:
        folder: what was published; addresses are relative to its parent, where the page lies.

    Returns:
        How many there are.
    """
    number = 0
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        about = output.get("metadata", {}).get(MARK)
        if about is None or not (folder / f"{about['name']}.png").exists():
            continue
        number += 1
        light, dark = (folder / f"{about['name']}{suffix}.png" for suffix in ("", "-dark"))
        width, height = _size(light.read_bytes())
        files = {kind: quote(f"{folder.name}/{about['name']}.{kind}") for kind in KINDS}
        output["figure"] = {
            **about, "number": number, "files": files, "light": _address(light), "dark": _address(dark),
            "width": width, "height": height,
        }  # fmt: skip
    return number


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in the head of a PNG, so that a page does not jump while it is drawn."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def _address(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"


def link_headings(page: str) -> tuple[str, list[dict[str, Any]]]:
    """A page whose headings can be linked to, and its contents below the title: level, address and words of each."""
    taken = set(re.findall(r'\bid="([^"]*)"', page))
    found: list[dict[str, Any]] = []

    def linked(match: re.Match[str]) -> str:
        level, inside = int(match[1]), match[2].strip()
        words = unescape(re.sub(r"<[^>]+>", "", inside))
        stem = "-".join(re.findall(r"[a-z0-9]+", words.lower())) or "section"
        name = next(each for number in range(1, 10_000) if (each := stem + f"-{number}" * (number > 1)) not in taken)
        taken.add(name)
        if level > 1:
            found.append({"level": level, "name": name, "words": words})
        label = escape(f"Link to: {words}")
        return f'<h{level} id="{name}">{inside} <a class="anchor" href="#{name}" aria-label="{label}">#</a></h{level}>'

    return _HEADING.sub(linked, page), found


def with_ways(page: str, before: tuple[str, str] | None, after: tuple[str, str] | None) -> str:
    """A page with links to the report before and the one after, each a (name, title), at its top and at its end."""
    links = [
        f'<a rel="{rel}" href="{quote(to[0])}.html">{escape(words.format(to[1]))}</a>'
        for rel, words, to in (("prev", "← {}", before), ("next", "{} →", after))
        if to is not None
    ]
    labels = iter(("Reports before and after", "Further reports"))  # each a landmark, which wants a name of its own

    def renewed(_: re.Match[str]) -> str:
        nav = f'<nav class="ways" aria-label="{next(labels)}">{"".join(links)}</nav>'
        return f"<!--ways-->{nav if links else ''}<!--/ways-->"

    return WAYS.sub(renewed, page)


def link_pages(folder: Path, reports: Sequence[tuple[str, str]]) -> None:
    """Renew on every page of a folder the links to its neighbors; `reports` are (name, title) in their order."""
    ends = [None, *reports, None]
    for before, (name, _), after in zip(ends, reports, ends[2:], strict=False):
        file = folder / f"{name}.html"
        page = file.read_text()
        renewed = with_ways(page, before, after)
        if renewed != page:
            paths.write_atomic(file, renewed)


def citation(commit: str) -> dict[str, str]:
    """How to cite the study at a commit, from CITATION.cff: a line of text, and an entry for BibTeX."""
    text = (paths.REPOSITORY / "CITATION.cff").read_text()

    def value(pattern: str) -> str:
        found = re.search(pattern, text, re.MULTILINE)
        assert found, f"CITATION.cff has no {pattern}"
        return found[1]

    title, version = value(r'^title: "(.*)"'), value(r"^version: (\S+)")
    authors = value(r'^authors:\n  - name: "(.*)"')
    entry = (
        f"@software{{palimpsest,\n  title   = {{{title}}},\n  author  = {{{{{authors}}}}},\n"
        f"  version = {{{version}}},\n  note    = {{commit {commit}}}\n}}"
    )
    return {"text": f"{authors}. {title}. Version {version}, commit {commit}.", "bibtex": entry}


def tables_beside(folder: Path) -> list[dict[str, str]]:
    """The tables of a folder of published things: file name and address from the page beside the folder."""
    return [
        {"name": file.name, "address": quote(f"{folder.name}/{file.name}")} for file in sorted(folder.glob("*.csv"))
    ]


def link_tables(page: str, folder: Path) -> str:
    """A page whose named tables link to the file that was published under their name."""

    def linked(match: re.Match[str]) -> str:
        file = folder / f"{unescape(match[2])}.csv"
        address = f' <span class="files"><a href="{quote(f"{folder.name}/{file.name}")}">CSV</a></span>'
        return match[1] + (address if file.exists() else "") + "</caption>"

    return re.sub(r'(<table class="shown" id="table-([^"]*)"><caption>[^<]*)</caption>', linked, page)


def hash_of(script: str) -> str:
    """What a page's policy calls a script that it lets run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
