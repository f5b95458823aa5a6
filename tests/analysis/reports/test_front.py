"""The pages in front of the reports, from planted ledgers: links lead somewhere, ids differ, no script is needed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from playwright.sync_api import Page as Browsed

from analysis.__main__ import main
from analysis.reports.front.forest import axis, plot, scale
from analysis.reports.front.gallery import write_gallery
from analysis.reports.front.rows import Published, figure_links, viewed
from analysis.reports.front.suites import write_suites
from analysis.reports.pages import Card

NOTEBOOKS = {"03_transfer_value": ("time_to_plateau.png", "time_to_plateau.csv", "gain_forest.png"),
             "06_filter_change": ("angle_sim_a.png", "angle_busi.png"),
             "05_linear_finetuning": ("lead_table.csv",)}  # fmt: skip


def row(name: str, task: str, verdict: str, **changes: Any) -> dict[str, Any]:
    shown = {"K1": ("03_transfer_value", "time_to_plateau"), "K4": ("06_filter_change", "angle_{task}"),
             "L4": ("05_linear_finetuning", "lead_table"), "A3": ("04_which_layers", "worst")}  # fmt: skip
    notebook, figure = shown[name]
    known = {"id": name, "task": task, "verdict": verdict, "effect": 0.5, "interval": [0.25, 0.75], "line": 1.0}
    known |= {"side": "below", "unit": "steps / steps" if name == "K1" else "Dice", "seeds": 3, "replication": 0.9}
    known |= {"adjusted": 0.04, "fragile": False, "agreement": 0.5, "statement": f"statement of {name}", "paper": "x"}
    known |= {"notebook": notebook, "figure": figure, "test": "a.test", "note": f"note on {task}", "data": "simulated"}
    return known | changes


LEDGER = [
    row("K1", "sim_a", "supported"), row("K1", "sim_a ", "contradicted", fragile=True, interval=[1.2, 1.9], effect=1.5),
    row("K1", "sim b@4", "inconclusive", interval=[None, 1.5]), row("K4", "sim_a@net", "supported", side="above"),
    row("K4", "busi", "inconclusive", data="real", withheld=True), row("A3", "busi", "not tested", effect=None),
    row("L4", "all", "contradicted", parts=[{"name": "a cell", "effect": 0.5, "interval": [0.2, 0.7], "side": "above",
                                             "line": 2.0, "distance": 1.5, "detectable": None}]),
]  # fmt: skip


class Page(HTMLParser):
    """What a page holds that a reader or a program can follow."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[int] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open, self.empty = "", 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        self.ids += [str(given["id"])] if "id" in given else []
        self.links += [str(given["href"])] if tag == "a" else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.open = tag if tag == "th" else self.open

    def handle_data(self, data: str) -> None:
        self.open = "" if data.strip() else self.open

    def handle_endtag(self, tag: str) -> None:
        self.empty += tag == "th" and self.open == "th"

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def folder(study_home: Path) -> Path:
    """A folder of reports with planted pages, figures and ledger, and its gallery."""
    there = study_home / "reports" / "planted"
    for name, files in NOTEBOOKS.items():
        (there / name).mkdir(parents=True)
        for file in files:
            (there / name / file).touch()
        figures = "".join(f'<figure id="figure-{Path(file).stem}"></figure>' for file in files)
        (there / f"{name}.html").write_text(figures)
        card = Card(name, f"Title of {name}", "Its lead.", "ok", "1 s", "")
        (there / f"{name}.card.json").write_text(json.dumps(card.__dict__))
    (there / "claims.json").write_text(json.dumps(LEDGER))
    results = {"task": ["sim_a", "busi"], "title": ["a title", "breasts"], "status": "done", "arithmetic": "float32"}
    frame = pd.DataFrame(results | {"device": "cpu (1 core)", "strategy": "scratch", "chosen": True})
    frame.to_csv(there / "results.csv", index=False)
    write_gallery(there, title="Planted", commit="abc", finished="today", results=frame)
    write_suites()
    return there


@pytest.fixture
def compared(folder: Path) -> Path:
    """The page of two ledgers that differ."""
    other = folder.parent / "other"
    other.mkdir()
    changed = [{**LEDGER[0], "verdict": "contradicted", "effect": 1.5, "interval": [1.2, 1.9]}, *LEDGER[3:]]
    (other / "claims.json").write_text(json.dumps(changed))
    assert main(["claims", str(folder / "claims.json"), str(other)]) == 0
    return folder.parent / "compared" / "reports-planted_and_reports-other.html"


def every(folder: Path, compared: Path) -> list[Path]:
    return [folder / "index.html", folder / "ledger.html", folder.parent / "index.html", compared]


def test_links_lead_somewhere_and_ids_are_unique(folder: Path, compared: Path):
    followed = 0
    for file in every(folder, compared):
        page = Page(file.read_text())
        assert len(page.ids) == len(set(page.ids)), file
        assert all(re.fullmatch(r"[\w@.-]+", each) for each in page.ids)
        for link in page.links:
            address, _, fragment = unquote(link).partition("#")
            target = file.parent / address if address else file
            assert target.exists(), f"{file.name} links to {link}"
            assert not fragment or fragment in Page(target.read_text()).ids, f"{file.name} links to {link}"
            followed += 1
    assert followed > 40


def test_a_row_leads_to_its_figure_its_data_its_notebook_and_its_rule(folder: Path):
    text = (folder / "ledger.html").read_text()
    cells = text[text.index('id="K1-sim_a"') :].split("</tr>")[0]
    for link in ("03_transfer_value.html#figure-time_to_plateau", "03_transfer_value/time_to_plateau.csv",
                 "03_transfer_value.html", "#rule-K1"):  # fmt: skip
        assert f'href="{link}"' in cells
    assert "06_filter_change.html#figure-angle_sim_a" in text
    assert "06_filter_change.html#figure-angle_busi" in text
    rule = text[text.index('id="rule-K1"') :].split("</section>")[0]
    assert "statement of K1" in rule
    assert "the claim has no size: any saving supports it" in rule
    assert "a.test" in rule


def test_a_page_needs_no_script(folder: Path):
    text = (folder / "ledger.html").read_text()
    page = Page(text)
    assert [tag for tag, attrs in page.tags if "hidden" in attrs] == ["form"], (
        "controls wait for the script, rows do not"
    )
    for each in LEDGER:
        assert each["note"] in text
    assert len(re.findall(r"<tbody", text)) == 6
    assert "Not tested here: 1 rows (A3)" in text
    assert 'li id="A3-busi"' in text
    assert "0.5 [0.25, 0.75]" in text
    assert "<b>−</b> contradicted, fragile" in text
    assert "support withheld" in text
    assert "a cell: 0.5 [0.2, 0.7], holds above 2" in text


def test_the_policy_knows_the_one_script(folder: Path):
    text = (folder / "ledger.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert "script" not in (folder / "index.html").read_text().replace("<style>", "").split("</style>")[1]


def test_pages_can_be_read_by_ear_and_key(folder: Path, compared: Path):
    seen = 0
    for file in every(folder, compared):
        page = Page(file.read_text())
        steps = [after - before for before, after in zip(page.headings, page.headings[1:], strict=False)]
        assert page.headings[0] == 1
        assert page.headings.count(1) == 1
        assert max(steps, default=0) <= 1, f"{file.name} leaves out a level of headings"
        assert page.empty == 0
        assert all(each.get("scope") in ("col", "row") for each in page.of("th"))
        assert len(page.of("caption")) == len(page.of("table"))
        for each in page.of("div"):
            if each.get("class") == "scroll":
                assert (each["tabindex"], each["role"]) == ("0", "region")
                assert each["aria-labelledby"] in page.ids
                seen += 1
        assert all(each.get("aria-hidden") == "true" for each in page.of("svg") if each.get("class") != "mark")
    assert seen >= 4


def test_the_gallery_answers_on_its_first_screen(folder: Path):
    text = (folder / "index.html").read_text()
    assert text.index("<h1>Planted</h1>") < text.index("What does transfer do?") < text.index("Reports</h2>")
    assert "<b>+</b> 2 supported" in text
    assert "<b>−</b> 2 contradicted" in text
    assert "5 of 6" not in text
    assert "4 of 6 rows that were tested are decided" in text
    assert "simulated data, real data" in text
    assert "the paper: 2.06 dB" in text
    assert 'class="status"' not in text, "all are ok"
    found = json.loads((folder / "findings.json").read_text())
    sentence = found["notebooks"]["03_transfer_value"][0]["sentences"][0]
    card = text[text.index('href="03_transfer_value.html">\n<div class="thumb') :].split("</a>")[0]
    assert sentence.replace("'", "&#39;") in card


def test_a_folder_without_a_ledger_has_only_cards(folder: Path):
    for name in ("claims.json", "ledger.html", "findings.json"):
        (folder / name).unlink()
    text = write_gallery(folder, title="A probe", commit="abc", finished="today", results=None).read_text()
    assert not (folder / "ledger.html").exists()
    assert "What does transfer do?" not in text
    assert "ledger" not in text.split("</style>")[1]
    assert "Its lead." in text


def test_all_suites_are_listed_and_a_damaged_one_says_so(folder: Path):
    text = write_suites().read_text()
    cells = text[text.index("planted/index.html") :].split("</tr>")[0]
    assert re.findall(r"<td>(.*?)</td>", cells) == ["simulated and real", "2", "2", "2", "1", "1", "2", "today"]
    (folder / "findings.json").write_text('{"title": 3}')
    assert "make the report again" in write_suites().read_text()
    (folder / "index.html").unlink()
    assert "No suite has a report yet" in write_suites().read_text()


def test_two_ledgers_show_what_changed_and_what_stayed(compared: Path):
    text = compared.read_text()
    changed, rest = text.split("<h2>What stayed</h2>")
    stayed, claims = rest.split("<h2>Claim by claim</h2>")
    assert "decided rows of" in changed
    assert "opposite word; intervals do not meet" in changed
    assert "sim a</b>" not in changed
    assert '<b title="statement of K1">K1</b> sim_a'.replace("_", " ") in changed
    assert "same word" in stayed
    assert "K4" in stayed
    assert "needs fewer steps" in claims
    assert "needs more steps" in claims
    assert "there in one only" in claims, "rows that one of the two does not have are folded at the end"
    main_page = (compared.parent.parent / "index.html").read_text()
    assert 'href="compared/reports-planted_and_reports-other.html">reports-planted and reports-other</a>' in main_page


# ---- in a browser ---------------------------------------------------------------------------------------------------


def test_the_ledger_filters_sorts_and_shows_notes_by_click_and_key(folder: Path, page: Browsed):
    page.goto((folder / "ledger.html").as_uri())
    rows = page.locator("#rows tbody:visible")
    assert rows.count() == 6
    assert page.locator("output").inner_text() == "6 of 6 rows"
    page.select_option("[name=verdict]", "contradicted")
    assert rows.count() == 2
    page.select_option("[name=letter]", "L")
    assert [rows.count(), page.locator("output").inner_text()] == [1, "1 of 6 rows"]
    page.select_option("[name=letter]", "")
    page.select_option("[name=verdict]", "")
    page.fill("[name=text]", "NOTE ON BUSI")
    assert rows.count() == 1
    page.fill("[name=text]", "")
    by_effect = page.locator("thead button", has_text="Effect [interval]")
    by_effect.press("Enter")
    by_effect.press("Enter")
    assert by_effect.locator("xpath=..").get_attribute("aria-sort") == "descending"
    assert "1.5 [1.2, 1.9]" in rows.first.inner_text()
    note = rows.first.locator("button")
    assert not rows.first.locator(".more").is_visible()
    note.press("Space")
    assert rows.first.locator(".more").is_visible()
    assert note.get_attribute("aria-expanded") == "true"
    page.select_option("[name=verdict]", "supported")
    page.goto((folder / "ledger.html").as_uri() + "#K4-busi")
    assert page.locator("#K4-busi").is_visible(), "an address shows its row, whatever the filter"
    page.goto((folder / "ledger.html").as_uri() + "#A3-busi")
    assert page.locator("#A3-busi").is_visible(), "also where it was folded"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_runs_off_a_page(folder: Path, compared: Path, page: Browsed, width: int):
    page.set_viewport_size({"width": width, "height": 800})
    for file in every(folder, compared):
        page.goto(file.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{file.name} is {wide} pixels wide"


# ---- pictures and links --------------------------------------------------------------------------------------------


def test_a_picture_puts_numbers_where_they_belong():
    one = row("K1", "a", "supported", effect=1.0, interval=[0.5, 2.0], line=2.0)
    on = axis([one])
    assert on is not None
    assert on.log, "steps / steps is a ratio"
    assert (on.low, on.high) == (0.5, 2.0)
    assert on.at(1.0) == pytest.approx(50.0)
    drawn = plot(one, on)
    assert 'class="holds" x="0.0%" width="96.0%"' in drawn
    assert 'class="line" x1="96.0%"' in drawn
    assert 'class="mark" x="50.0%"' in drawn
    assert 'x1="4.0%" x2="96.0%"' in drawn
    assert "<circle" in drawn
    assert "<path" in plot({**one, "data": "real"}, on)
    assert 'x1="0.0%" x2="96.0%"' in plot({**one, "interval": [None, 2.0]}, on), "an open end reaches the edge"
    assert "fragile" in plot({**one, "fragile": True}, on)
    above = plot({**one, "side": "above"}, on)
    assert 'class="holds" x="96.0%" width="4.0%"' in above
    linear = axis([row("L4", "a", "supported", effect=0.0, interval=[-1.0, 1.0])])
    assert linear is not None
    assert not linear.log
    assert linear.at(0.0) == pytest.approx(50.0)
    assert axis([row("L4", "a", "not tested", effect=None, interval=[None, None], line=None)]) is None
    assert plot(one, None) == ""
    assert ">0.5, 0.55</text>" in scale(axis([row("L4", "a", "supported", effect=0.0, interval=[-1, 9])]), [0.5, 0.55])


def test_figures_are_found_by_the_task_of_the_row():
    files = {"n": frozenset({"gap_sim_a@4.png", "gap_busi.png", "gap_busi.csv", "sep_breast, real.png", "end.csv"})}
    beside = Published(frozenset({"n"}), files, {"busi": "breast, real"})

    def links(figure: str, task: str) -> tuple[str, str]:
        return figure_links({"notebook": "n", "figure": figure, "task": task}, beside)

    assert links("gap_{task}", "sim_a") == ("n.html#figure-gap_sim_a%404", "")
    assert links("gap_{task}", "busi@net") == ("n.html#figure-gap_busi", "n/gap_busi.csv")
    assert links("sep_{title}", "busi") == ("n.html#figure-sep_breast%2C%20real", "")
    assert links("gap", "busi") == ("n.html#figure-gap_busi", "n/gap_busi.csv")
    assert links("end", "all") == ("", "n/end.csv")
    assert links("nothing", "busi") == links("", "busi") == ("", "")


def test_rows_of_one_name_have_ids_of_their_own():
    rows = viewed([row("K1", "a b", "supported"), row("K1", "a-b", "supported")], Published())
    assert [each["anchor"] for each in rows] == ["K1-a-b", "K1-a-b-2"]
