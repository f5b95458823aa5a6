"""Two ledgers side by side, on planted ones: the words that came again are counted, and so is what truly differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.claims.ledger.compare import compare_ledgers, compared_lines, read_ledger, repeat
from analysis.claims.ledger.decide import decide
from analysis.claims.means import Mean
from analysis.claims.verdicts import Claim, Finding
from lib.common.errors import StudyError

CLAIM = Claim("X", "a paper", "a statement", "a_test", "Dice", "10_claims", "none", {})


def study(truths: list[float], seed: int, seeds: int = 8) -> list[dict[str, Any]]:
    """The ledger of a study whose effects lie at these places above a line at 0, in standard deviations of a seed."""
    rng = np.random.default_rng(seed)
    means = [Mean("mean", rng.normal(truth, 1, seeds), 0.0, True, "Dice") for truth in truths]
    return decide([Finding(CLAIM, f"task{at}", "", mean, seeds) for at, mean in enumerate(means)], 0.05)


def row(task: str, verdict: str, **changes: Any) -> dict[str, Any]:
    known = {"id": "X", "task": task, "verdict": verdict, "fragile": False, "effect": 1.0, "interval": [0.5, 1.5]}
    return known | {"replication": 0.9, "seeds": 3, "line": 0.0, "side": "above"} | changes


def test_words_are_named_by_what_became_of_them():
    first = [row("a", "supported"), row("b", "supported", fragile=True, replication=0.6), row("c", "contradicted"),
             row("d", "inconclusive"), row("e", "not tested", effect=None, interval=[None, None]),
             row("f", "supported", replication=None)]  # fmt: skip
    second = [row("a", "supported"), row("b", "inconclusive", interval=[1.6, 1.9]), row("c", "supported"),
              row("d", "contradicted"), row("e", "supported"), row("g", "supported")]  # fmt: skip
    table = compare_ledgers(first, second)
    words = ["same", "open", "opposite", "decided", "not tested", "absent", "absent"]
    assert table.words.tolist() == words
    assert table.task.tolist() == list("abcdefg")
    assert table.apart.tolist() == [False, True] + [False] * 5
    found = repeat(table)
    assert found == (4, 3, 3, 1, 1, 2, 1, pytest.approx(1.8), 1)
    lines = compared_lines(("one", "other"), table)
    assert len(lines) == 7  # four rows, a line for each ledger on rows of its own, and the count
    assert lines[5] == "rows that are in other only: 1"
    told = " ".join(lines[0].split())
    assert told == "X b supported, fragile 1 [0.5, 1.5] -> inconclusive 1 [1.6, 1.9]; intervals do not meet"
    assert "4 rows tested in both, 3 with another word; of 3 decided rows of one 1 have the same word" in lines[-1]


def test_numbers_of_different_parts_are_not_held_against_each_other():
    """A claim of two parts shows the one that decides, which may be another one in a study of other seeds."""
    parts = [{"name": "slope", "effect": -0.3, "line": -0.1, "side": "above"},
             {"name": "height", "effect": 0.2, "line": 0.0, "side": "above"}]  # fmt: skip
    slope = row("a", "contradicted", effect=-0.3, interval=[-0.4, -0.2], line=-0.1, parts=parts)
    height = row("a", "supported", effect=0.2, interval=[0.1, 0.3], line=0.0, parts=parts)
    table = compare_ledgers([slope], [height])
    assert table[["part_1", "part_2", "apart"]].values.tolist() == [["slope", "height", False]]
    told = " ".join(compared_lines(("one", "other"), table)[0].split())
    assert told == "X a contradicted -0.3 [-0.4, -0.2] (slope) -> supported 0.2 [0.1, 0.3] (height)"
    again = row("a", "contradicted", effect=-0.3, interval=[-0.9, -0.5], line=-0.1, parts=parts)
    assert compare_ledgers([slope], [again]).apart.tolist() == [True]


def test_a_repetition_keeps_as_many_firm_words_as_they_promise():
    truths = [0.0] * 12 + [3.0] * 6 + [-3.0] * 6 + [1.0] * 6
    found = [
        repeat(compare_ledgers(study(truths, 2 * place), study(truths, 2 * place + 1))) for place in range(12)
    ]  # fmt: skip
    firm, kept, expected = (sum(getattr(each, key) for each in found) for key in ("firm", "firm_kept", "expected"))
    assert firm > 90
    assert kept / firm > 0.9
    assert abs(kept - expected) / firm < 0.06
    assert sum(each.turned for each in found) == 0


def test_a_study_of_another_truth_is_told_apart():
    same, other = study([4.0, -4.0, 4.0], 0), study([-4.0, -4.0, 4.0], 1)
    table = compare_ledgers(same, other)
    assert table.words.tolist() == ["opposite", "same", "same"]
    assert table.apart.tolist() == [True, False, False]


def test_ledgers_are_read_from_files_folders_and_suites(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "claims.json").write_text(json.dumps(study([4.0], 0)))
    for name in (folder, folder / "claims.json"):
        told, rows = read_ledger(str(name))
        assert (told, len(rows)) == (str(name), 1)
    assert main(["claims", str(folder), str(folder / "claims.json")]) == 0
    assert "1 rows tested in both, 0 with another word" in capsys.readouterr().out


def test_ledgers_on_other_tasks_have_no_row_in_common():
    table = compare_ledgers([row("a", "supported")], [row("b", "supported"), row("a", "not tested")])
    assert compared_lines(("one", "other"), table)[-1] == "no row is tested in both one and other"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        {},
        [1],
        [{"id": "K1"}],
        [row("a", "perhaps")],
        [row("a", "supported", effect="x")],
        [row("a", "supported", interval=[1])],
        [row("a", "supported", interval=2)],
        [row("a", "supported", id=3)],
    ],
)
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, rows: object):
    (tmp_path / "claims.json").write_text(json.dumps(rows))
    with pytest.raises(StudyError, match=r"claims\.json holds no claims ledger"):
        read_ledger(str(tmp_path))


@pytest.mark.parametrize("name", ["clas", "nowhere/claims.json", "nowhere.toml"])
def test_what_is_not_there_is_told(name: str, capsys: pytest.CaptureFixture[str]):
    assert main(["claims", "class", name]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
