"""The committed notebooks, executed as a user would: the whole smoke suite, from nothing to the gallery."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.reports.execution import execute
from analysis.reports.parameters import Job, check_parameters, declared
from analysis.teaching.hand_in import tally
from lib.study.plan import load_suite

VERDICTS = {"supported", "contradicted", "inconclusive", "not tested"}
FIELDS = {"id", "paper", "statement", "task", "verdict", "effect", "interval", "unit", "seeds", "detectable"}
FOLDER = Path(__file__).parent.parent / "notebooks"
VISITED, NO_BROWSER = Path(__file__).parent / "support" / "visited.py", 77
NOTEBOOKS = [path for folder in (FOLDER, FOLDER / "teaching") for path in sorted(folder.glob("*.ipynb"))]


def text_of(path: Path) -> str:
    """What an executed notebook has printed."""
    outputs = [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
    return "".join(out.get("text", "") for out in outputs)


@pytest.mark.notebook
def test_the_smoke_suite_from_nothing_to_the_gallery(study_home: Path, capfd: pytest.CaptureFixture[str]):
    code = main(["report", "smoke"])
    printed = capfd.readouterr().out
    assert code == 0, printed
    assert "left)" in printed  # it says how far it is
    folder = study_home / "reports" / "smoke"

    suite = load_suite("smoke")
    results = pd.read_csv(folder / "results.csv")
    cells = sum(len(cell.seeds) for cell in suite.cells)
    shared = sum(cell.source_seed is not None for cell in suite.cells)  # one run of such a cell is another cell's, too
    assert len(results) == cells - shared
    assert set(results.status) == {"done"}
    assert results[results.goal == "segmentation"].dice.between(0, 1).all()
    assert results[results.goal == "reconstruction"].psnr.between(0, 60).all()

    ledger = json.loads((folder / "claims.json").read_text())
    assert {row["id"] for row in ledger} >= {"K1", "K2", "K3"}
    assert all(row.keys() >= FIELDS and row["verdict"] in VERDICTS for row in ledger)
    # Two seeds are fewer than any claim asks for: whoever says more made it up. L8 is exact, and holds of every run.
    assert {row["verdict"] for row in ledger if row["id"] != "L8"} <= {"inconclusive", "not tested"}
    assert [row["verdict"] for row in ledger if row["id"] == "L8"] == ["supported"]

    gallery = (folder / "index.html").read_text()
    assert len(NOTEBOOKS) >= 5
    for notebook in NOTEBOOKS:
        assert f"{notebook.stem}.html" in gallery
        executed = nbformat.read(folder / notebook.name, as_version=4)
        outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
        figures = [output.metadata["palimpsest"] for output in outputs if "palimpsest" in output.get("metadata", {})]
        assert figures, f"{notebook.stem} has no figure"
        assert not [output for output in outputs if "image/png" in output.get("data", {})], "drawn and not published"
        page = (folder / f"{notebook.stem}.html").read_text()
        for figure in figures:
            for kind in ("png", "svg", "csv"):
                assert (folder / notebook.stem / f"{figure['name']}.{kind}").stat().st_size > 10
            assert f'<figure id="figure-{figure["name"]}">' in page
            assert len(figure["alt"]) > 40
            assert figure["caption"]
        assert len({figure["alt"] for figure in figures}) == len(figures), f"alternative texts of {notebook.stem}"
        assert not [output for output in outputs if output.get("name") == "stderr"]

    visited = subprocess.run(
        [sys.executable, str(VISITED), str(folder)], capture_output=True, text=True, check=False, timeout=600
    )
    assert visited.returncode in (0, NO_BROWSER), visited.stdout + visited.stderr
    assert visited.returncode == NO_BROWSER or " with 4 explorers, 0 faults" in visited.stderr

    exercises = sorted((FOLDER / "teaching").glob("*.ipynb"))
    assert len(exercises) == 4
    for exercise in exercises:
        printed = text_of(folder / exercise.name)
        assert "Not yet. No answer so far" in printed
        assert "Right." not in printed, f"{exercise.stem} gives an answer away"
        path = exercise.parent / "solutions" / exercise.name
        given = {"student": "Ada", **({"suite": "smoke"} if "suite" in declared(path) else {})}
        job = Job(path, check_parameters(path, given), frozenset(given))
        outcome = execute(job, study_home / path.name, lambda line: None, None, lambda process: None)
        assert outcome.status == "ok", outcome.message
        assert "Not yet." not in text_of(study_home / path.name)
    students, _ = tally(study_home / "handed_in")
    assert students.exercise.tolist() == [exercise.stem for exercise in exercises]
    assert (students.solved == students.questions).all()


def test_every_published_figure_has_its_data_and_its_caption():
    every = [*NOTEBOOKS, FOLDER / "probe" / "probe.ipynb", *sorted((FOLDER / "teaching" / "solutions").glob("*.ipynb"))]
    figures = 0
    for path in every:
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        calls = [node for cell in cells for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call)]
        published = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "publish"]
        for call in published:
            given = {keyword.arg for keyword in call.keywords}
            assert given in (set(), {"data", "caption"}), f"{path.stem}: {ast.unparse(call)}"
            figures += bool(given)
        assert any(call.keywords for call in published), f"{path.stem} publishes no figure"
    assert figures >= 60
