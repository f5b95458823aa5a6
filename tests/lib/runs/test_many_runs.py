"""Reading many runs: each file once or twice however many passes there are, damage told all the same, progress told."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny

from analysis.tables.results import run_table
from lib.__main__ import main
from lib.common import progress
from lib.common.errors import StudyError
from lib.runs import seal
from lib.runs.listing import check_current, list_runs
from lib.runs.run import Run, run_dir
from lib.runs.spec import RunSpec
from lib.study.plan import chosen_runs, finished_runs, load_suite, runs_at_all_rates

pytestmark = pytest.mark.usefixtures("blobs_as_data")
SUITE = """
seeds = {seeds}
[run]
width = 2
depth = 1
size = 16
steps = 8
evaluations = 4
batch = 4
[tuning]
rates = [0.01, 0.003]
[sources.first]
task = "blobs"
lr = 0.02
[[grid]]
tasks = ["blobs"]
volumes = [6]
source = "first"
strategies = ["scratch", "full_finetuning", "head_only"]
"""
OLD = 10**18  # nanoseconds: long ago, so that nobody can write once more within the same moment


class Opened(Counter[str]):
    """How often files of each name were opened."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        own = Path.open

        def counting(path: Path, *args: Any, **options: Any) -> Any:
            self[path.name] += 1
            return own(path, *args, **options)

        patch.setattr(Path, "open", counting)


def planted(folder: Path, seeds: int) -> Path:
    """A suite of blobs with so many seeds, all finished: two rates of three arms, and a source, of every seed."""
    file = folder / f"of_{seeds}.toml"
    file.write_text(SUITE.format(seeds=list(range(seeds))))
    suite = load_suite(str(file))
    for spec in [*suite.source_specs(), *(s for c in suite.cells for n in c.seeds for s in suite.at_all_rates(c, n))]:
        if not (run_dir(spec) / "result.json").is_file():
            tiny.plant(spec, dice=0.5 + spec.seed / 100)
        result = run_dir(spec) / "result.json"
        whole = json.loads(result.read_text()) | {"seconds": 1.0, "images": {"train": 8, "val": 2, "test": 2}}
        files = whole.pop("files")
        whole.pop("seal")
        result.write_text(json.dumps(seal.sealed(whole, files)))
        os.utime(result, ns=(OLD, OLD))
    seal.forget()
    return file


def reading(file: Path) -> None:
    """What a table and the ledger read of a suite."""
    suite = load_suite(str(file))
    runs = runs_at_all_rates(suite, goal=None)
    assert len(runs) == 6 * len(suite.seeds)
    assert len(chosen_runs(suite)) == len(finished_runs(suite)) == 3 * len(suite.seeds)
    assert len(run_table(runs)) == len(runs)


def test_a_result_is_read_once_and_specs_grow_with_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counts, made = {}, []
    checks = RunSpec.__post_init__
    monkeypatch.setattr(RunSpec, "__post_init__", lambda spec: (made.append(spec), checks(spec))[1])
    for seeds in (2, 4):
        file = planted(tmp_path, seeds)
        made.clear()
        with pytest.MonkeyPatch.context() as patch:
            opened = Opened(patch)
            reading(file)
        assert opened["result.json"] == 7 * seeds
        assert len(made) == 7 * seeds  # every run is one spec, its source another, and neither is made twice
        counts[seeds] = opened["spec.json"]
    assert counts[4] <= 2 * counts[2] <= 6 * 7 * 4


def test_a_list_reads_a_result_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    planted(tmp_path, 3)
    opened = Opened(monkeypatch)
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.count("test Dice 0.5") == 21
    assert opened["result.json"] == 21


def test_results_beyond_those_in_memory_are_read_again_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    planted(tmp_path, 2)
    runs = list_runs()
    first = [run.result for run in runs]
    seal._result.cache_clear()
    opened = Opened(monkeypatch)
    assert [run.result for run in runs] == first
    assert opened["result.json"] == len(runs) == 14


@pytest.mark.parametrize("recent", [True, False])
def test_a_result_that_changes_after_it_was_read_is_told(tmp_path: Path, recent: bool):
    """Of a file just written the time says nothing; of an old one, the time does."""
    planted(tmp_path, 2)
    file = list_runs()[0].path / "result.json"
    if recent:
        file.write_bytes(file.read_bytes())
    run, before = Run(file.parent), file.stat().st_mtime_ns
    assert run.result is not None
    check_current(list_runs())
    content = file.read_text()
    file.write_text(content.replace('"dice": 0.5', '"dice": 0.9'))
    assert content != file.read_text()
    if recent:
        os.utime(file, ns=(before, before))
    for ask in (lambda: run.result, lambda: run.brief, lambda: check_current(list_runs()), lambda: run_table([run])):
        with pytest.raises(StudyError, match="its seal does not fit"):
            ask()
    assert "its seal does not fit" in run.faults()[0]


def test_a_known_spec_saves_no_check_of_its_file(tmp_path: Path):
    planted(tmp_path, 2)
    run = list_runs()[0]
    file = run.path / "spec.json"
    assert Run(run.path, run.spec).spec is run.spec
    file.write_text(json.dumps({**json.loads(file.read_text()), "steps": 9}))
    with pytest.raises(StudyError, match="holds the spec of"):
        Run(run.path, run.spec)
    file.write_text("{")
    with pytest.raises(StudyError, match="is damaged"):
        Run(run.path, run.spec)


def test_long_readings_tell_how_far_they_are_in_commands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    planted(tmp_path, 2)
    assert main(["runs"]) == 0
    assert "reading runs" not in capsys.readouterr().err  # as it took no seconds
    monkeypatch.setattr(progress, "QUIET_SECONDS", -1.0)
    assert main(["runs"]) == 0
    assert "reading runs: 13 of 14 (" in capsys.readouterr().err
    assert main(["runs", "--verify"]) == 0
    assert "checking all files of runs: 13 of 14 (" in capsys.readouterr().err
    assert len(run_table(list_runs())) == 14
    assert capsys.readouterr().err == ""


def test_progress_is_told_every_few_seconds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.telling():
        for _ in progress.counted(range(1000), "reading"):
            clock[0] += 1 / 64
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" of ")[0] for line in lines] == ["reading: 321", "reading: 642", "reading: 963"]
    assert lines[0].endswith("of 1,000 (5 s so far, 11 s left)")


def test_what_has_just_begun_tells_no_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """As in a worker that checks one run after another, each of them at once."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.telling():
        for _ in range(10):
            clock[0] += 60
            list(progress.counted([1], "checking"))
    assert capsys.readouterr().err == ""
