"""Reports from tiny notebooks of known fate: what the runner decides, what the pages show, what it refuses."""

from __future__ import annotations

import html
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.__main__ import main
from analysis.claims.ledger.table import claim_row, verdict_table
from analysis.reports import execution, pages, parameters
from analysis.reports.build import Reporter, build_report, report_folder
from analysis.reports.published import publish
from lib.common import paths
from lib.common.errors import StudyError
from lib.runs.run import locked
from lib.study import engines
from lib.study.plan import load_suite

PARAMETERS = 'suite: str = "class"  # which runs = which suite\nreport: str = ""\nrate: float = 0.5\nnames: list = []'
CLAIM = {
    "id": "K1",
    "paper": "Karimi",
    "statement": "Transfer shortens training <b>",
    "task": "a_task",
    "verdict": "inconclusive",
    "effect": 1.23456,
    "interval": [0.9, 1.5],
    "unit": "ratio",
    "note": "few seeds",
    "seeds": 3,
    "detectable": None,
}
FATES = {
    "01_fine": [
        "print('step 1')\nprint('half\\rstep 2')",
        "import os, pathlib; print('folder', pathlib.Path.cwd().name); print('rate', rate, pathlib.Path(suite).name)",
        "print('threads', os.environ['OMP_NUM_THREADS'])",
        "import of_my_own; print('module', of_my_own.__name__)",
        "import matplotlib.pyplot as plt, pandas as pd; plt.plot([1, 2]); ax = plt.gca()",
        "from analysis.reports import publish\n"
        "publish('line', ax, report, data=pd.DataFrame({'x': [0, 1], 'y': [1, 2]}), caption='A line.')",
    ],
    "02_broken": ["x = 1", "import sys; print('a warning sign', file=sys.stderr); raise KeyError('lost')", "y = 2"],
    "03_killed": ["import os; os.write(2, b'last words\\n')", "os.kill(os.getpid(), 9)"],
    "04_slow": ["import time; time.sleep(60)"],
}


def write_notebook(path: Path, cells: list[str], parameters: str = PARAMETERS) -> None:
    title = nbformat.v4.new_markdown_cell(
        "# About a *thing*\n\nIt has, after Doe et al. (2020), one `lead`. And more.\n\nAnother paragraph."
    )
    declared = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[title, declared, *map(nbformat.v4.new_code_cell, cells)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


SUITE = """title = "A tiny suite"
seeds = [0]
tuning = {rates = [0.01]}
grid = [{tasks = ["sim_ultrasound"], volumes = [4], strategies = ["scratch"]}]
"""


def write_suite(folder: Path, text: str = "") -> str:
    file = folder / "tiny.toml"
    file.write_text(SUITE + text)
    return str(file)


@dataclass
class Built:
    folder: Path
    code: int
    printed: str

    def page(self, name: str) -> str:
        return (self.folder / f"{name}.html").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """One report over all four fates, made once for the whole module."""
    notebooks, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    for name, cells in FATES.items():
        write_notebook(notebooks / f"{name}.ipynb", cells)
    suite = write_suite(notebooks, "[notebooks.01_fine]\nrate = 2\n")
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_HOME", str(home))
        patch.setattr(parameters, "NOTEBOOKS", notebooks)
        patch.setattr("analysis.claims.ledger.kept.evaluate", lambda *tables, **more: [CLAIM])
        patch.setattr(Reporter, "say", lambda self, text: printed.append(text))
        patch.setattr(engines, "cores", lambda: 8)
        patch.delenv("OMP_NUM_THREADS")
        (home / "code").mkdir()
        (home / "code" / "of_my_own.py").write_text("")
        patch.setenv("PYTHONPATH", str(home / "code"))
        code = build_report(suite, names=["01_fine", "02_broken", "03_killed.ipynb"], jobs=2)
        build_report(suite, names=["04_slow"], timeout=1)  # apart, so that a busy machine stops no other
        yield Built(home / "reports" / "tiny", code, "\n".join(printed))


@pytest.fixture
def notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a notebook and `tiny.toml`, where no kernel may start; it is the current folder."""
    folder = tmp_path / "notebooks"
    write_notebook(folder / "01_one.ipynb", ["1"])
    write_suite(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(parameters, "NOTEBOOKS", folder)
    monkeypatch.setattr(execution, "execute", lambda *args: pytest.fail("a kernel was started"))
    return folder


def test_two_reports_of_one_suite_are_made_one_after_the_other(notebooks: Path, monkeypatch: pytest.MonkeyPatch):
    """Each begins by deleting the pages of its notebooks."""
    told, waiting = list[str](), threading.Event()

    def say(self: Reporter, text: str) -> None:
        told.append(text)
        if "waiting" in text:
            waiting.set()

    monkeypatch.setattr(Reporter, "say", say)
    monkeypatch.setattr(Reporter, "run", lambda self, job: told.append(f"{job.name} runs") or "ok")
    monkeypatch.setattr("analysis.claims.ledger.kept.evaluate", lambda *tables, **more: [CLAIM])
    with ThreadPoolExecutor(1) as pool:
        with locked(report_folder(load_suite("tiny.toml")), lambda: None):
            other = pool.submit(build_report, "tiny.toml")
            assert waiting.wait(60)
            assert told == ["another process makes these reports; waiting for it to end"]
        assert other.result(60) == 0
    assert "01_one runs" in told


def test_a_kernel_that_dies_before_its_first_word_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_notebook(tmp_path / "01_one.ipynb", ["1"])
    monkeypatch.setattr(execution.sys, "executable", shutil.which("false"))
    job = parameters.Job(tmp_path / "01_one.ipynb", {}, frozenset())
    outcome = execution.execute(job, tmp_path / "out.ipynb", print, None, lambda pid: None)
    assert (outcome.status, outcome.message) == ("killed", "The kernel died; was it out of memory?")


def test_a_folder_of_reports_belongs_to_one_suite_file(notebooks: Path, tmp_path: Path, study_home: Path):
    first = load_suite("tiny.toml")
    folder = report_folder(first)
    assert folder == report_folder(first) == study_home / "reports" / "tiny"
    (tmp_path / "elsewhere").mkdir()
    write_suite(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match=r"holds the reports of .*notebooks/tiny\.toml, not of .*elsewhere/tiny\.toml"):
        build_report(str(tmp_path / "elsewhere" / "tiny.toml"))
    assert main(["table", str(tmp_path / "elsewhere" / "tiny.toml")]) == 2
    (study_home / "reports" / "tiny" / ".suite").unlink()
    assert main(["table", str(tmp_path / "elsewhere" / "tiny.toml")]) == 0
    assert str(paths.REPOSITORY) not in (report_folder(load_suite("smoke")) / ".suite").read_text()


@pytest.mark.parametrize(
    ("name", "status"),
    [("01_fine", "ok"), ("02_broken", "failed"), ("03_killed", "killed"), ("04_slow", "timed out")],
)
def test_status_comes_from_the_exception(built: Built, name: str, status: str):
    assert f'<span class="status">{status}</span>' in built.page(name)
    gallery = built.page("index")
    card = gallery[gallery.index(f'class="card {status.replace(" ", "-")}" href="{name}.html"') :].split("</a>")[0]
    assert (f'<span class="status">{status}</span>' in card) == (status != "ok"), "a status is told where it is not ok"
    assert (f'<p class="amiss">{name}: {status}</p>' in gallery) == (status != "ok")
    assert f"{name} {status}" in built.printed


def test_one_failure_makes_the_exit_code_and_spares_the_others(built: Built):
    assert built.code == 1
    assert "1 ok, 2 not; open" in built.printed
    assert "0 ok, 1 not; open" in built.printed
    assert "index.html" in built.printed


def test_progress_of_a_notebook_is_relayed(built: Built):
    assert "01_fine | step 1" in built.printed
    assert "01_fine | step 2" in built.printed
    assert "half" not in built.printed


def test_parameters_arrive_and_are_shown(built: Built):
    assert "01_fine | rate 2 tiny.toml" in built.printed
    page = built.page("01_fine")
    assert re.search(r'title="set by the suite">rate = <code>2</code>', page)
    assert re.search(r'title="default">names = <code>\[\]</code>', page)
    assert "report = <code>'reports/tiny/01_fine'</code>" in html.unescape(page)


def test_a_notebook_runs_in_its_own_folder(built: Built):
    assert "01_fine | folder notebooks" in built.printed


def test_modules_are_found_where_pythonpath_says(built: Built):
    assert "01_fine | module of_my_own" in built.printed


def test_kernels_side_by_side_share_the_cores(built: Built):
    assert "01_fine | threads 4" in built.printed


def test_stderr_is_kept_for_a_failure(built: Built):
    assert "a warning sign" in built.printed
    assert "a warning sign" in built.page("02_broken")
    assert "KeyError: 'lost'" in built.printed
    assert "last words" in built.page("03_killed")
    assert "limit set by --timeout" in built.page("04_slow")


def test_the_failing_cell_is_linked_and_open(built: Built):
    page = built.page("02_broken")
    target = re.search(r'href="#(cell-\d+)"', page)
    assert target
    section = page[page.index(f'id="{target[1]}"') :]
    assert "broken" in page[page.index(f'id="{target[1]}"') - 60 : page.index(f'id="{target[1]}"')]
    assert section.index('<details class="code" open=""') < section.index("</section>")
    assert "lost" in section[: section.index("</section>")]
    assert "An Exception was encountered" not in page


def test_figures_are_inline_and_published(built: Built):
    assert 'src="data:image/png;base64,' in built.page("01_fine")
    assert (built.folder / "01_fine" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert 'class="thumb"><img src="data:image/png' in built.page("index")


def test_gallery_shows_title_lead_and_findings(built: Built):
    gallery = built.page("index")
    assert "About a *thing*" not in gallery
    assert "About a thing" in gallery
    assert "It has, after Doe et al. (2020), one lead." in gallery
    assert "And more" not in gallery
    assert "<h1>A tiny suite</h1>" in gallery
    for name in ("results.csv", "ledger.html", "findings.json", "../index.html"):
        assert f'href="{name}"' in gallery
    assert "It is open whether a network that starts from a source" in gallery
    ledger = built.page("ledger")
    assert "Transfer shortens training &lt;b&gt;" in ledger
    assert "1.23 [0.9, 1.5]" in ledger
    assert "few seeds" in ledger
    assert 'href="tiny/index.html"' in (built.folder.parent / "index.html").read_text()


class Loads(HTMLParser):
    """Collects every address that a browser would load when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "srcset", "data", "poster"} or (name == "href" and tag == "link"):
                self.found.append(value or "")


def test_pages_load_nothing_from_elsewhere(built: Built):
    files = sorted(built.folder.glob("*.html"))
    assert len(files) == len(FATES) + 2
    for path in files:
        page = path.read_text()
        loads = Loads()
        loads.feed(page)
        assert not [address for address in loads.found if not address.startswith("data:")]
        assert "default-src 'none'" in page
        assert not re.search(r"script-src[^;>]*unsafe", page)
        assert not re.search(r"@import|url\(|\bimport\(|http-equiv=.refresh", page)


def test_interrupt_ends_the_kernels(
    notebooks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    kernels = []

    def hang(job, output, say, timeout, started, threads):
        kernels.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
        started(kernels[0].pid)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as Ctrl-C does
        kernels[0].wait()
        return execution.Outcome("killed")

    monkeypatch.setattr(execution, "execute", hang)
    assert main(["report", "tiny.toml"]) == 130
    assert [kernel.returncode for kernel in kernels] == [-9]
    assert "the same command goes on" in capsys.readouterr().err


def test_a_notebook_that_trains_has_no_company(notebooks: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("02_two", "03_trains", "04_four", "05_five"):
        write_notebook(notebooks / f"{name}.ipynb", [])
    trains = nbformat.read(notebooks / "03_trains.ipynb", as_version=4)
    trains.metadata["palimpsest"] = {"alone": True}
    nbformat.write(trains, notebooks / "03_trains.ipynb")
    running: set[str] = set()
    company: dict[str, set[str]] = {}
    order: list[str] = []

    def record(job, *others):
        running.add(job.name)
        time.sleep(0.2)
        company[job.name] = set(running)
        running.remove(job.name)
        order.append(job.name)
        return execution.Outcome("ok")

    monkeypatch.setattr(execution, "execute", record)
    assert build_report("tiny.toml", jobs=2) == 0
    assert company["03_trains"] == {"03_trains"}
    assert set(order[:2]) == {"01_one", "02_two"}
    assert order[2] == "03_trains"


def test_unknown_parameter_stops_everything(notebooks: Path, capsys: pytest.CaptureFixture[str]):
    write_suite(notebooks, "[notebooks.01_one]\nrte = 0.1\n")
    assert main(["report", "tiny.toml"]) == 2
    assert "unknown parameter of 01_one 'rte'; did you mean 'rate'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("toml", "wanted"),
    [
        ('rate = "fast"', "rate of 01_one must be float or int, got 'fast' [(]str[)]"),
        ("rate = true", "rate of 01_one must be float or int, got True [(]bool[)]"),
        ("names = 2", "names of 01_one must be list, got 2"),
        ("names = [2020-01-01]", "names of 01_one must be list"),
        ("suite = 3", "suite of a report is set by whoever makes it"),
    ],
)
def test_wrong_type_is_refused(notebooks: Path, toml: str, wanted: str):
    write_suite(notebooks, f"[notebooks.01_one]\n{toml}\n")
    with pytest.raises(StudyError, match=wanted):
        build_report("tiny.toml")


def test_command_line_sets_and_checks_parameters(notebooks: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", "tiny.toml", "-p", 'rate="x"']) == 2
    assert "must be float or int" in capsys.readouterr().err
    assert parameters.plan("tiny.toml", overrides={"rate": 0.25})[0].parameters["rate"] == 0.25
    with pytest.raises(SystemExit, match="2"):
        main(["report", "tiny.toml", "-p", "rate"])
    assert "must read NAME=VALUE" in capsys.readouterr().err


def test_none_is_a_value_where_the_type_says_so(notebooks: Path):
    write_notebook(notebooks / "01_one.ipynb", [], 'suite: str = ""\nreport: str = ""\ncount: int | None = None')
    assert parameters.plan("tiny.toml")[0].parameters["count"] is None
    assert parameters.plan("tiny.toml", overrides={"count": 3})[0].parameters["count"] == 3


@pytest.mark.parametrize("line", ["x = 3", "x: int", "x: int = 2 + n", "x: Path = 'a'", "import os"])
def test_parameters_cell_holds_plain_declarations(notebooks: Path, line: str):
    write_notebook(notebooks / "01_one.ipynb", [], line)
    with pytest.raises(StudyError, match=r"01_one.ipynb: parameters must read `name: type = literal`.*; got `"):
        parameters.plan("tiny.toml")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["report", "clas"], "unknown suite 'clas'; did you mean 'class'?"),
        (["table", "clas"], "unknown suite 'clas'; did you mean 'class'?"),
        (["report", "tiny.toml", "--notebook", "01_on"], "unknown notebook '01_on'; did you mean '01_one'?"),
    ],
)
def test_unknown_names_get_the_nearest(notebooks: Path, capsys, arguments: list[str], wanted: str):
    assert main(arguments) == 2
    assert wanted in capsys.readouterr().err


def test_suite_file_knows_only_notebooks_that_exist(notebooks: Path):
    write_suite(notebooks, "[notebooks.01_two]\nrate = 0.1\n")
    with pytest.raises(StudyError, match=r"unknown notebook '01_two'; did you mean '01_one'\?"):
        parameters.plan("tiny.toml")


def test_suite_and_report_go_only_where_they_are_declared(notebooks: Path):
    write_notebook(notebooks / "01_one.ipynb", [], "size: int = 64")
    assert parameters.plan("tiny.toml")[0].parameters == {"size": 64}
    for own in ("suite", "report"):
        with pytest.raises(StudyError, match=f"leave out the parameter '{own}'"):
            parameters.plan("tiny.toml", overrides={own: "here"})


def test_an_empty_folder_is_an_error(notebooks: Path):
    (notebooks / "01_one.ipynb").unlink()
    with pytest.raises(StudyError, match="there must be at least one"):
        parameters.plan("tiny.toml")


def test_publish_writes_only_into_a_report(tmp_path: Path):
    table = pd.DataFrame({"a": [1, 2]})
    publish("table", table, "")
    publish("figure", Figure(), "", data=table, caption="Nothing.")
    assert not list(tmp_path.glob("*.*"))
    publish("table", table, str(tmp_path))
    assert (tmp_path / "table.csv").read_text() == "a\n1\n2\n"
    nested = table.assign(interval=[[0.5, None], np.arange(2)])
    publish("a figure", Figure(), str(tmp_path), data=nested, caption="Nothing.")
    for kind in (".png", "-dark.png", ".svg"):
        assert (tmp_path / f"a_figure{kind}").stat().st_size > 100
    assert pd.read_csv(tmp_path / "a_figure.csv").interval.tolist() == ["[0.5, null]", "[0, 1]"]


@pytest.mark.parametrize("given", [{}, {"data": pd.DataFrame()}, {"caption": "Words."}])
def test_a_figure_without_data_or_caption_is_refused(tmp_path: Path, given: dict):
    with pytest.raises(StudyError, match=r"give 'bare' data= \(a table\) and caption="):
        publish("bare", Figure(), str(tmp_path / "report"), **given)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.4, "59.4 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_duration(seconds: float, text: str):
    assert pages.duration(seconds) == text


def test_claim_without_numbers_shows_dashes():
    row = claim_row({"id": "K3", "verdict": "not tested", "effect": None, "interval": None, "detectable": float("nan")})
    assert (row["effect"], row["interval"], row["detectable"], row["verdict"]) == ("–", "", "–", "not tested")


def test_verdicts_are_read_in_full_and_without_gaps_in_words() -> None:
    note = "a long note " * 12
    claim = {"id": "K1", "task": "blobs", "verdict": "not tested", "effect": None, "interval": [None, None], "seeds": 2}
    html = verdict_table([{**claim, "note": note}]).data
    assert note.strip() in html
    assert "None" not in html
    assert "nan" not in html.lower()
    assert "K1" in html
    assert "detectable" in verdict_table([]).data
