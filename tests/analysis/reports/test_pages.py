"""Pages made of planted notebooks by the real template: figures, headings, ways on, addresses that lead somewhere."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from playwright.sync_api import Page as Browsed

from analysis.__main__ import main
from analysis.figures import explorers
from analysis.reports import page_parts, pages, printed
from analysis.reports.published import MARK, publish
from analysis.tables.readable import shown

RUN = {
    "name": "01_one", "suite": "tiny", "status": "ok", "message": "", "seconds": 1.0, "stderr": "", "cell": None,
    "commit": "abc1234", "finished": "2026-01-01 12:00", "parameters": [],
}  # fmt: skip


class Page(HTMLParser):
    """Ids, addresses and pictures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[dict[str, str | None]] = []
        self.pictures: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given] if tag == "a" else []
        self.pictures += [given] if tag == "img" else []


def drawn(name: str, folder: Path, values: list[float]) -> nbformat.NotebookNode:
    """The output of a cell that has published a line through these values."""
    _, ax = plt.subplots()
    ax.plot(range(len(values)), values, label=name)
    ax.set(title=f"About {name}", xlabel="step", ylabel="Dice")
    data = pd.DataFrame({"step": range(len(values)), "dice": values})
    told: list[dict[str, str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.reports.published._show", lambda figure, about, picture: told.append(about))
        publish(name, ax, str(folder), data=data, caption=f"What {name} <did>.")
    plt.close("all")
    return nbformat.v4.new_output("display_data", {"text/html": "<figure></figure>"}, metadata={MARK: told[0]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three reports; the first has two figures and a heading twice."""
    folder = tmp_path_factory.mktemp("reports")
    outputs = [drawn(name, folder / "01_one", values) for name, values in PLANTED.items()]
    table = pd.DataFrame({"task": ["b", "a", "c"], "p": [0.01, 0.0, float("nan")], "x" * 60: ["y" * 60] * 3})
    outputs.append(nbformat.v4.new_output("display_data", {"text/html": shown(table, "Numbers", name="up").data}))
    cells = [
        nbformat.v4.new_markdown_cell("# One\n\nA lead."),
        nbformat.v4.new_markdown_cell("## Gain & loss"),
        nbformat.v4.new_code_cell("show()", outputs=outputs),
        nbformat.v4.new_markdown_cell("## Gain & loss\n\n### Cell 2"),
    ]
    for name in ("01_one", "02_two", "03_three"):
        notebook = nbformat.v4.new_notebook(cells=cells if name == "01_one" else cells[:1])
        pages.write_report(notebook, folder / f"{name}.html", {**RUN, "name": name})
    page_parts.link_pages(folder, [(card.name, card.title) for card in pages.read_cards(folder)])
    return folder


PLANTED = {"up": [0.25, 0.5, 0.75], "down at the end": [0.9, 0.95, 0.125]}


def test_a_figure_has_its_number_words_and_files(folder: Path):
    text = (folder / "01_one.html").read_text()
    page = Page(text)
    assert [each for each in page.ids if each.startswith("figure-")] == ["figure-up", "figure-down_at_the_end"]
    words = [str(picture["alt"]) for picture in page.pictures]
    assert len(set(words)) == 2
    assert "from 0.25 at 0 to 0.75 at 2" in words[0]
    assert "from 0.9 at 0 to 0.125 at 2 (between 0.125 and 0.95)" in words[1]
    assert "<b>Figure 2.</b> What down at the end &lt;did&gt;." in text
    assert text.count('prefers-color-scheme: dark)" srcset="data:') == 2
    written = pd.read_csv(folder / "01_one" / "down_at_the_end.csv")
    assert written.dice.tolist() == PLANTED["down at the end"]


def test_ids_are_unique_and_addresses_lead_somewhere(folder: Path):
    (folder / "index.html").touch()
    (folder / "01_one.ipynb").touch()
    page = Page((folder / "01_one.html").read_text())
    assert len(set(page.ids)) == len(page.ids)
    inside = {unquote(str(link["href"]))[1:] for link in page.links if str(link["href"]).startswith("#")}
    assert {"main", "gain-loss", "gain-loss-2", "figure-up", "cite"} <= inside <= set(page.ids)
    outside = [unquote(str(link["href"])) for link in page.links if not str(link["href"]).startswith("#")]
    assert {"01_one/up.png", "01_one/up.svg", "01_one/up.csv"} <= set(outside)
    assert [address for address in outside if not (folder / address).exists()] == []


def test_a_report_leads_to_its_neighbors(folder: Path):
    def ways(name: str) -> list[tuple[str | None, str | None]]:
        links = Page((folder / f"{name}.html").read_text()).links
        return sorted({(link["rel"], link["href"]) for link in links if "rel" in link}, key=str)

    assert ways("01_one") == [("next", "02_two.html")]
    assert ways("02_two") == [("next", "03_three.html"), ("prev", "01_one.html")]
    assert ways("03_three") == [("prev", "02_two.html")]


def test_a_table_is_sorted_by_a_click_and_a_key_and_nothing_leaves_a_small_screen(folder: Path, page: Browsed):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto((folder / "01_one.html").as_uri())
    heads, cells = page.locator("#table-up thead th"), page.locator("#table-up tbody td:nth-child(2)")
    assert cells.all_text_contents() == ["0.0100", "< 0.0001", "–"]
    heads.nth(1).locator("button").click()
    assert cells.all_text_contents() == ["< 0.0001", "0.0100", "–"]
    assert heads.nth(1).get_attribute("aria-sort") == "ascending"
    heads.nth(1).locator("button").press("Enter")
    assert cells.all_text_contents() == ["0.0100", "< 0.0001", "–"]
    heads.nth(0).locator("button").press("Enter")
    assert page.locator("#table-up tbody th").all_text_contents() == ["a", "b", "c"]
    assert heads.nth(1).get_attribute("aria-sort") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('div.table').scrollWidth") > 390
    link = page.locator("#table-up caption a")
    assert link.get_attribute("href") == "01_one/up.csv"


def test_dark_pages_show_dark_figures(folder: Path, page: Browsed):
    page.goto((folder / "01_one.html").as_uri())
    files = {suffix: base64.b64encode((folder / "01_one" / f"up{suffix}.png").read_bytes()) for suffix in ("", "-dark")}

    def shows(suffix: str) -> bool:
        wanted = f"data:image/png;base64,{files[suffix].decode()}"
        for _ in range(100):  # the policy keeps playwright's own way of waiting out
            if page.evaluate("document.querySelector('figure img').currentSrc") == wanted:
                return True
            page.wait_for_timeout(20)
        return False

    assert shows("")
    page.emulate_media(color_scheme="dark")
    assert shows("-dark")
    page.emulate_media(color_scheme="dark", media="print")
    assert shows("")


def test_scripts_that_run_are_those_that_the_policy_names(folder: Path):
    text = (folder / "01_one.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert f"script-src '{page_parts.hash_of(script)}' '{page_parts.hash_of(explorers.SCRIPT)}'\"" in text


def test_citation_names_the_study_and_the_commit():
    cite = page_parts.citation("abc1234")
    assert "commit abc1234" in cite["text"]
    assert "Palimpsest" in cite["text"]
    assert cite["bibtex"].startswith("@software{palimpsest,\n  title   = {Palimpsest")


def test_a_report_is_printed_by_the_browser_that_is_there(
    study_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert main(["pdf", "smoke"]) == 2
    assert "holds no report; make it first: python -m analysis report smoke" in capsys.readouterr().err
    (study_home / "reports" / "smoke" / "01_one.html").write_text("words")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(printed, "BROWSERS", ("chromium", "chrome"))
    assert main(["pdf", "smoke"]) == 2
    assert "a PDF needs Chromium, Chrome or Edge, and none is on PATH" in capsys.readouterr().err
    browser = tmp_path / "chrome"
    browser.write_text('#!/bin/sh\nfor each; do case $each in --print-to-pdf=*) echo pdf > "${each#*=}";; esac; done\n')
    browser.chmod(0o755)
    assert main(["pdf", "smoke"]) == 0
    assert (study_home / "reports" / "smoke" / "01_one.pdf").read_text() == "pdf\n"
    browser.write_text("#!/bin/sh\n[ -e /nowhere ] || echo out of paper >&2\n")
    assert main(["pdf", "smoke"]) == 2
    assert "did not print" in (said := capsys.readouterr().err)
    assert "out of paper" in said
