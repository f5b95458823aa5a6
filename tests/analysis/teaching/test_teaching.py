"""The teaching notebooks: answers are checked, exercises run unanswered, solutions answer everything."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest

from analysis.teaching.answers import check

TEACHING = Path(__file__).parents[3] / "notebooks" / "teaching"


@pytest.mark.parametrize(
    ("answer", "expected", "word"),
    [
        (..., 3, "Not answered yet"),
        (3, 3, "Right"),
        (3.0004, 3, "Right"),
        (3.1, 3, "Not yet"),
        ("Same ", "same", "Right"),
        ("lower", "same", "Not yet"),
        (1, "1", "Not yet"),
        ((6, 6), (6, 6), "Right"),
        ((6, 3), (6, 6), "Not yet"),
        (np.eye(3), np.eye(3), "Right"),
        (np.eye(2), np.eye(3), "Not yet"),
        ("three", 3, "Not yet"),
        (None, 3, "Not yet"),
    ],
)
def test_an_answer_is_checked(answer: object, expected: object, word: str, capsys: pytest.CaptureFixture[str]):
    check(answer, expected, "count them")
    printed = capsys.readouterr().out
    assert printed.startswith(word)
    assert ("Hint: count them" in printed) == (word == "Not yet")


def run(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], int]:
    """What the checks of a notebook say, run here; and how many checks it holds."""
    names: dict[str, object] = {}
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    for cell in cells:
        exec(cell.source, names)
    verdicts = ("Right.", "Not yet.", "Not answered yet")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(verdicts)]
    return lines, sum(cell.source.count("check(") for cell in cells)


def test_cka_by_hand_runs_unanswered(capsys: pytest.CaptureFixture[str]):
    lines, count = run(TEACHING / "t1_cka_by_hand.ipynb", capsys)
    assert len(lines) == count >= 10
    assert all(line.startswith("Not answered yet") for line in lines)


def test_cka_by_hand_is_solved(capsys: pytest.CaptureFixture[str]):
    lines, count = run(TEACHING / "solutions" / "t1_cka_by_hand.ipynb", capsys)
    assert lines == ["Right."] * count
    assert count >= 10


def test_the_solution_of_cka_by_hand_is_the_exercise_with_answers():
    name = "t1_cka_by_hand.ipynb"
    solved, asked = (nbformat.read(folder / name, as_version=4).cells for folder in (TEACHING / "solutions", TEACHING))
    assert len(solved) == len(asked)
    for one, other in zip(solved, asked, strict=True):
        if other.cell_type == "code" and "..." not in other.source:
            assert one.source == other.source
