"""The pages of a report: one self-contained file per executed notebook, and what the gallery shows of it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from analysis.figures import explorers
from analysis.reports import page_parts
from lib.common import paths

TEMPLATES = Path(__file__).resolve().parent / "report_template"
THUMBNAIL_PIXELS = 560


@dataclass(frozen=True)
class Card:
    """What the gallery shows of one report; kept beside it, so that one report can be made again alone."""

    name: str
    title: str
    lead: str
    status: str
    seconds: str
    thumbnail: str  # a data address, or "" where the notebook shows no figure


def duration(seconds: float) -> str:
    """Seconds as a person reads them: "8.4 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def style() -> str:
    """The style sheet of every page, code colors for light and dark included."""
    from pygments.formatters import HtmlFormatter

    def colors(name: str) -> str:
        rules = HtmlFormatter(style=name).get_style_defs(".highlight")
        return "\n".join(rule for rule in rules.splitlines() if rule.startswith(".highlight ."))

    dark = f"@media screen and (prefers-color-scheme: dark) {{\n{colors('github-dark')}\n}}"
    return "\n".join([(TEMPLATES / "style.css").read_text(), colors("friendly"), dark])


def heading_and_lead(notebook: Any, name: str) -> tuple[str, str]:
    """The first heading of a notebook and the first sentence below it; its file name where it has no heading."""
    lines = [line.strip() for cell in notebook.cells if cell.cell_type == "markdown" for line in _lines(cell)]
    start = next((i for i, line in enumerate(lines) if line.startswith("#")), None)
    if start is None:
        return name, ""
    paragraph = []
    for line in lines[start + 1 :]:
        if line.startswith(("#", "|", "-", "```")) or (paragraph and not line):
            break
        paragraph += [line] if line else []
    text = " ".join(paragraph)
    sentence = re.split(r"(?<=\.)(?<!et al\.) ", text, maxsplit=1)[0]
    return _plain(lines[start].lstrip("# ")), _plain(sentence)


def _plain(markdown: str) -> str:
    """A line of Markdown without links and marks."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown).translate(str.maketrans("", "", "*`"))


def _lines(cell: Any) -> list[str]:
    return [*cell.source.splitlines(), ""]


def thumbnail(notebook: Any) -> str:
    """The first figure of a notebook, made small, as a data address; "" where there is none."""
    from PIL import Image

    for output in _outputs(notebook):
        about = output.get("figure")
        if about or "image/png" in output.get("data", {}):
            data = about["light"].partition(",")[2] if about else output.data["image/png"]
            image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
            image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            stream = io.BytesIO()
            image.save(stream, "PNG", optimize=True)
            return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    return ""


def _outputs(notebook: Any) -> Iterator[Any]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def write_report(notebook: Any, target: Path, run: Mapping[str, Any]) -> Card:
    """Write an executed notebook as one HTML file at `target`, with its card beside it.

    Args:
        notebook: the executed notebook, as nbformat reads it.
        run: name, suite, status, seconds, commit, finished, message, cell (index or None), stderr and parameters
            (rows of name, value, given) for the strip on top; decided by whoever ran it, never by the notebook.
    """
    from nbconvert import HTMLExporter

    if run["cell"] is not None:
        notebook.cells[run["cell"]].metadata["broken"] = True
    name, folder = str(run["name"]), target.with_suffix("")
    count = page_parts.number_figures(notebook, folder)
    title, lead = heading_and_lead(notebook, name)
    exporter = HTMLExporter(
        template_name=TEMPLATES.name,
        extra_template_basedirs=[str(TEMPLATES.parent)],
        exclude_anchor_links=True,
        embed_images=True,
        # nothing is fetched: no formulas by MathJax, no widgets, no diagrams
        mathjax_url="",
        require_js_url="",
        jquery_url="",
        mermaid_js_url="",
        widget_renderer_url="",
    )
    seconds = duration(run["seconds"])
    facts = {**run, "title": title, "seconds": seconds}
    script = (TEMPLATES / "page.js").read_text()
    resources = {
        "run": facts,
        "style": style(),
        "script": script,
        "policy": " ".join(f"'{page_parts.hash_of(each)}'" for each in (script, explorers.SCRIPT)),
        "count": count,
        "tables": page_parts.tables_beside(folder),
        "cite": page_parts.citation(str(run["commit"])),
        "metadata": {"path": str(paths.REPOSITORY / "notebooks")},
    }
    page, headings = page_parts.link_headings(exporter.from_notebook_node(notebook, resources)[0])
    page = page_parts.link_tables(page, folder)
    paths.write_atomic(target, page.replace("<!--contents-->", _contents(headings), 1))
    card = Card(name, title, lead, str(run["status"]), seconds, thumbnail(notebook))
    paths.write_atomic(target.with_suffix(".card.json"), json.dumps(asdict(card)))
    return card


def _contents(headings: Sequence[Mapping[str, Any]]) -> str:
    """The table of contents of a page; nothing where it would have fewer than two lines."""
    if len(headings) < 2:
        return ""
    lines = [
        f'<li class="level-{each["level"]}"><a href="#{each["name"]}">{escape(each["words"])}</a></li>'
        for each in headings
    ]
    inside = f"<details open><summary>Contents</summary><ul>{''.join(lines)}</ul></details>"
    return f'<nav class="contents" aria-label="Contents">{inside}</nav>'


def read_cards(folder: Path) -> list[Card]:
    """The cards of all reports in a folder, in the order of their names."""
    return [Card(**json.loads(path.read_text())) for path in sorted(folder.glob("*.card.json"))]
