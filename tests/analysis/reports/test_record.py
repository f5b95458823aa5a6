"""The record that the repository carries: complete, small, and what the README says."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree
from pathlib import Path

import pandas as pd
import pytest

from analysis.claims.ledger.findings import with_data
from analysis.reports.recorded import explained, figure, record
from lib.common import paths
from lib.common.errors import StudyError

FOLDERS = sorted(file.parent for file in record.records_folder().glob("*/provenance.json"))


def test_the_readme_says_what_the_records_say():
    text = (paths.REPOSITORY / "README.md").read_text()
    told = text.partition(record.BEGIN)[2].partition(record.END)[0].strip()
    assert told == record.summary_text().strip(), "python -m analysis record"


@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_a_record_is_whole(folder: Path):
    about = json.loads((folder / "provenance.json").read_text())
    runs = pd.read_csv(folder / "runs.csv")
    ledger = json.loads((folder / "claims.json").read_text())
    assert (about["runs"], about["chosen"]) == (len(runs), int(runs.chosen.sum()))
    assert about["suite"] == folder.name
    assert sum(about["commits_of_runs"].values()) == len(runs)
    assert {entry["task"] for entry in about["data"]} == set(runs.task)
    real = runs[runs.kind == "real"]
    assert all(entry["sha256"] for entry in about["data"] if entry["kind"] == "real") or not len(real)
    told = record.findings_text(about, with_data(ledger, about))
    assert (folder / "findings.json").read_text() == told, "python -m analysis record"
    seeds = runs[runs.chosen].seed.nunique()
    for row in ledger:
        assert row["seeds"] <= seeds
        low, high = row["interval"]
        if row["verdict"] in ("supported", "contradicted") and low is not None:
            beyond = low > row["line"] if row["side"] == "above" else high < row["line"]
            assert beyond == (row["verdict"] == "supported")


def test_records_stay_small():
    files = [file for file in record.records_folder().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 5_000_000


def test_a_claim_is_counted_by_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def row(name: str, word: str, *, fragile: bool = False, seeds: int = 3) -> dict[str, object]:
        known = {"id": name, "task": "all", "verdict": word, "fragile": fragile, "seeds": seeds, "replication": 0.9}
        return known | {"effect": 1.0, "interval": [0.5, 1.5], "line": 0.0, "side": "above"}

    planted = tmp_path / "results" / "planted"
    planted.mkdir(parents=True)
    rows = [row("K1", "supported"), row("K1", "supported", fragile=True), row("K1", "contradicted", seeds=5),
            row("K2", "not tested", seeds=0)]  # fmt: skip
    (planted / "claims.json").write_text(json.dumps(rows))
    about = {"suite": "planted", "runs": 1234, "data": [{"kind": "real"}]}
    (planted / "provenance.json").write_text(json.dumps(about))
    pd.DataFrame({"lr": [0.01, 0.01]}).to_csv(planted / "runs.csv", index=False)
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    assert "In `planted` all runs had one learning rate" in record.summary_text().splitlines()[1]
    pd.DataFrame({"lr": [0.01, 0.001]}).to_csv(planted / "runs.csv", index=False)
    lines = record.summary_text().splitlines()
    assert "learning rate" not in lines[1]
    asked = "- **What does transfer do?** In 2 of 3 tasks"
    assert lines[0].startswith(asked), lines[0]
    assert lines[0].endswith("(`planted`, real data)")
    assert lines[1].startswith("- **How sure is that?** 3 of 3 rows that were tested are decided.")
    lines = lines[3:]
    assert lines[2] == "| `planted` | real | 1,234 | 3–5 | 3 of 3 | 1 |"
    assert lines[-1] == "| K1: a source saves steps | supported 2 (1 fragile), contradicted 1 |"
    readme = tmp_path / "README.md"
    readme.write_text("before\n")
    with pytest.raises(StudyError, match="no place for the record"):
        record.write_summary()
    readme.write_text(f"before\n{record.BEGIN}\nlast time\n{record.END}\nafter\n")
    record.write_summary()
    found = json.loads((planted / "findings.json").read_text())
    assert (found["suite"], found["data"], found["counts"]["supported"]) == ("planted", ["real"], 2)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{record.END}\nafter\n")
    assert "last time" not in text
    shutil.rmtree(planted)


def test_records_of_one_study_share_a_column_and_tell_which_words_came_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def row(task: str, word: str, *, fragile: bool = False) -> dict[str, object]:
        known = {"id": "K1", "task": task, "verdict": word, "fragile": fragile, "seeds": 3, "replication": 0.9}
        return known | {"effect": 1.0, "interval": [0.5, 1.5], "line": 0.0, "side": "above"}

    ledgers = {
        "plain": [row("a", "supported"), row("b", "contradicted", fragile=True), row("c", "inconclusive")],
        "plain_again": [row("a", "supported"), row("b", "supported"), row("c", "inconclusive")],
        "other": [row("a", "inconclusive")],
    }
    for name, ledger in ledgers.items():
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        (folder / "claims.json").write_text(json.dumps(ledger))
        (folder / "runs.csv").write_text("lr\n0.01\n0.001\n")
        about = {"suite": name, "runs": 9, "data": [{"kind": "simulated"}]}
        (folder / "provenance.json").write_text(json.dumps(about))
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    lines = record.summary_text().splitlines()
    assert "| claim | `other` | `plain` |" in lines
    assert lines[-4:-2] == [
        "| `plain` | `plain_again` | 1 of 3 | 1 of 2 | 1 of 1 | 0.9 | 1 |",
        "| `plain_again` | `plain` | 1 of 3 | 1 of 2 | 1 of 2 | 1.8 | 1 |",
    ]


def test_the_figure_has_a_mark_for_every_row_that_was_tested():
    row = {"id": "K1", "task": "a", "verdict": "supported", "fragile": True}
    other = {"id": "L2", "task": "all", "verdict": "contradicted", "fragile": False}
    open_row = {"id": "K1", "task": "b", "verdict": "inconclusive", "fragile": False}
    untested = {"id": "K2", "task": "all", "verdict": "not tested", "fragile": False}
    about = [
        {"suite": name, "data": [{"kind": kind}]} for name, kind in (("second_a", "simulated"), ("first_b", "real"))
    ]
    marks = figure.verdict_marks([(about[0], [other, row]), (about[1], [open_row, untested])])
    assert marks.claim.tolist() == ["K1", "K1", "L2"]
    assert marks.verdict.tolist() == ["supported", "inconclusive", "contradicted"]
    ax = figure.verdict_figure(marks)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["second a\n(simulated)", "first b\n(real)"]
    assert [label.get_text()[-2:] for label in ax.get_yticklabels()] == ["K1", "L2"]
    drawn = [line for line in ax.lines if line.get_marker() != "None"]
    at = [
        (round(float(line.get_xdata()[0])), line.get_marker(), line.get_markerfacecolor() == "white") for line in drawn
    ]
    assert at == [(0, "s", True), (1, "o", True), (0, "X", False)]
    many = figure.verdict_marks([(about[0], [row] * 7 + [other] * 6 + [{**row, "verdict": "contradicted"}])])
    ax = figure.verdict_figure(many)
    assert len([line for line in ax.lines if line.get_marker() != "None"]) == 2 + 6
    assert {text.get_text() for text in ax.texts} >= {"× 7", "× 1"}


def test_the_figure_is_that_of_the_records():
    marks = figure.verdict_marks(record.once(record.records()))
    text = (record.records_folder() / record.FIGURE).read_text()
    told = xml.etree.ElementTree.fromstring(text).find(".//{http://purl.org/dc/elements/1.1/}description")
    assert told is not None
    assert told.text == marks.to_csv(index=False), "python -m analysis record"


def test_every_contradicted_claim_is_explained_beside_its_rows(tmp_path: Path):
    text = (record.records_folder() / "README.md").read_text()
    why = explained.explanations(record.records_folder())
    assert text == explained.explained_text(record.once(record.records()), why), "python -m analysis record"
    assert "Nobody has said yet" not in text
    row = {"id": "L2", "task": "a", "verdict": "contradicted", "effect": 1.0, "interval": [0.9, None], "line": 0.5}
    row |= {"side": "below", "replication": 0.5, "fragile": True, "agreement": 0.25, "seeds": 3}
    planted = [({"suite": "planted"}, [row, {**row, "id": "L1", "verdict": "inconclusive"}])]
    told = explained.explained_text(planted, {"L2": "Because."})
    numbers = "1 | – | – | below 0.5 | 3 | – | 0.50, fragile | 0.25 |"
    assert f"| `planted` | a | {numbers}\n\nBecause.\n" in told
    before, after = told.split(explained.ALL)
    assert "L1" not in before
    assert f"| L2 | `planted` | a | contradicted, fragile | {numbers}\n" in after
    assert "| L1 | `planted` | a | inconclusive, fragile | 1 |" in after
    row |= {"parts": [{"name": "here", "effect": 1.0, "line": 0.5, "side": "below"}]}
    assert "| 1 (here) | –" in explained.explained_text([({"suite": "planted"}, [row])], {})
    assert "Nobody has said yet" in explained.explained_text(planted, {"L1": "Not this one."})
    assert explained.explanations(tmp_path) == {}
    for content, match in (("[L99]\nwhy = 'x'", "unknown claim"), ("[L2]\nwho = 'x'", "L2 wants one text")):
        (tmp_path / explained.EXPLAINED).write_text(content)
        with pytest.raises(StudyError, match=match):
            explained.explanations(tmp_path)
