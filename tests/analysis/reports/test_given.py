"""A notebook's parameters in a running kernel: what is misspelt or of another type is told in one line."""

from __future__ import annotations

import ast

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from analysis.reports.given import check_given, check_parameters
from analysis.reports.parameters import KINDS, NOTEBOOKS, declared
from lib.common.errors import StudyError

KNOWN = {"task": str, "steps": int, "rate": float, "report": str}
CELL = 'task: str = "blobs"\nsteps: int = 50  # of the optimizer\nrate: float = 1\nreport: str = ""'
VALUES = {"task": "blobs", "steps": 50, "rate": 1, "report": ""}


def test_what_is_declared_passes_whatever_else_was_run():
    check_given(VALUES | {"other": 3}, ["import os", CELL, "other = 3", "!ls", "steps + 1"], KNOWN)
    check_given(VALUES, [], KNOWN)


@pytest.mark.parametrize(
    ("cell", "values", "wanted"),
    [
        (CELL + "\nstpes = 200", VALUES, "unknown parameter 'stpes'; did you mean 'steps'[?]"),
        (CELL.replace("steps", "stpes"), VALUES, "unknown parameter 'stpes'; did you mean 'steps'[?]"),
        (CELL, VALUES | {"steps": "many"}, "parameter steps must be int, got 'many' [(]str[)]"),
        (CELL, VALUES | {"steps": True}, "parameter steps must be int, got True [(]bool[)]"),
        (CELL, {}, "parameter task is missing"),
    ],
)
def test_a_mistake_is_named(cell: str, values: dict, wanted: str):
    with pytest.raises(StudyError, match=wanted):
        check_given(values, ["x = 1", cell], KNOWN)


def test_a_corrected_cell_counts_and_no_longer_the_one_before():
    check_given(VALUES, [CELL + "\nstpes = 200", CELL], KNOWN)


def test_a_kernel_shows_one_line_and_stops(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    shell = InteractiveShell()
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    shell.user_ns["check_parameters"] = check_parameters
    shell.run_cell('steps: int = 50\nstpes = 200\nreport = ""', store_history=True)
    result = shell.run_cell("check_parameters(steps=int, report=str)", store_history=True)
    assert isinstance(result.error_in_exec, StudyError)
    printed = "".join(capsys.readouterr())
    assert printed.strip() == "StudyError: unknown parameter 'stpes'; did you mean 'steps'? Known: report, steps"


def test_every_notebook_checks_its_own_parameters():
    paths = [path for path in sorted(NOTEBOOKS.rglob("*.ipynb")) if "checkpoint" not in str(path)]
    assert len(paths) >= 21
    for path in paths:
        cells = nbformat.read(path, as_version=4).cells
        at = next(n for n, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
        (call,) = [node for node in ast.walk(ast.parse(cells[at + 1].source)) if isinstance(node, ast.Call)]
        checked = {keyword.arg: KINDS[ast.unparse(keyword.value)] for keyword in call.keywords}
        assert ast.unparse(call.func) == "check_parameters"
        assert checked == {name: types for name, (types, _) in declared(path).items()}, path.stem
