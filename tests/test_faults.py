"""A small running study under faults: what is finished is kept, the next call ends well, and nothing is a traceback.

What is tried, and how, stands in `tests/support/faults`; SECURITY.md holds the counts of the whole.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import harness
from faults.attempt import Try
from faults.disks import can_mount
from faults.harness import injected, row, shares, undisturbed
from faults.kinds import KINDS, MOUNTS, possible
from faults.originals import Originals
from faults.processes import Child
from faults.study import Study

STEPS = ("train", "table", "bundle", "merge", "prepare", "fetch")  # the quick ones
SLICE = (
    "killed in training", "killed in writing", "killed in merging", "little memory", "disk too small",
    "disk filled by others", "disk full, by error", "disk read-only", "folder read-only, by error",
    "disk broken, by error", "two or three calls at once", "clock jumps", "bad download",
    "files that are not the run's",
)  # fmt: skip
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc and fork")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Study, Originals]]:
    """The study, done once; the variables of the tests are put back afterwards."""
    before = os.environ.get("STUDY_DATA")
    with undisturbed(tmp_path_factory.mktemp("faults"), STEPS) as found:
        os.environ.pop("STUDY_DATA")
        yield found
    if before is not None:
        os.environ["STUDY_DATA"] = before


@pytest.fixture
def study(whole: tuple[Study, Originals], monkeypatch: pytest.MonkeyPatch) -> tuple[Study, Originals]:
    monkeypatch.setenv("STUDY_DATA", str(whole[0].homes[""] / "data"))
    return whole


@pytest.mark.parametrize("kind", SLICE)
def test_a_fault_costs_nothing_that_was_finished(kind: str, study: tuple[Study, Originals]):
    if kind in MOUNTS and not can_mount():
        pytest.skip("no file system can be mounted here")
    found = injected(kind, *study, random.Random(kind))
    assert not found.lost, f"{found.about}: {found.lost}"
    assert not found.traceback, f"{found.about}: {found.traceback}"
    assert found.told, found.about
    assert not found.hang, found.about


def test_what_is_lost_would_be_seen(study: tuple[Study, Originals], monkeypatch: pytest.MonkeyPatch):
    whole, originals = study
    monkeypatch.setitem(whole.outcomes, "merge", {"another": "outcome"})
    found = injected("killed in merging", whole, originals, random.Random(0))
    assert found.died
    assert "another outcome than the undisturbed study" in found.lost


def test_what_was_finished_and_is_not_what_it_was_would_be_seen(
    study: tuple[Study, Originals], monkeypatch: pytest.MonkeyPatch
):
    """The next call is one that changes a file of a finished run."""
    whole, originals = study
    real = whole.commands.run

    def spoiling(home: Path, command: list[str], fault: object = None) -> object:
        child = real(home, command, fault)  # pyright: ignore[reportArgumentType]
        if fault is None and "table" in command:
            next((home / "runs").glob("*/metrics.jsonl")).write_text("")
        return child

    monkeypatch.setattr(whole.commands, "run", spoiling)
    monkeypatch.setitem(KINDS, "planted", (1, _table))
    found = injected("planted", whole, originals, random.Random(0))
    assert "what was finished is not what it was" in found.lost
    assert "metrics.jsonl" in found.lost


def _table(this: Try) -> list[Child]:
    command = this.begin("table")
    return [this.study.commands.run(this.home, command, {"at": None})]


def test_a_traceback_and_an_end_without_a_word_would_be_seen(study: tuple[Study, Originals]):
    whole, originals = study
    kinds = {"traceback": "raise KeyError", "untold": "raise SystemExit(3)"}
    for name, code in kinds.items():
        KINDS[name] = (1, lambda this, code=code: _broken(this, code))
        try:
            found = injected(name, whole, originals, random.Random(0))
        finally:
            del KINDS[name]
        assert bool(found.traceback) == (name == "traceback")
        assert not found.told


def _broken(this: Try, code: str) -> list[Child]:
    this.begin("table")
    output = this.place / "said.txt"
    with output.open("w") as stream:
        ended = subprocess.run([sys.executable, "-c", code], stdout=stream, stderr=subprocess.STDOUT)
    return [Child(0, this.home, output, ended.returncode)]


def test_what_cannot_be_tried_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("faults.kinds.can_mount", lambda: False)
    monkeypatch.setattr("faults.kinds.find_spec", lambda name: None)
    assert set(possible()) == set(KINDS) - {*MOUNTS, "cluster lost"}
    assert capsys.readouterr().err.count("not tried: ") == 4


def test_rounds_hold_every_kind_as_often_as_it_says_and_rows_count():
    kinds = list(KINDS)
    one_round = sum(times for times, _ in KINDS.values())
    dealt = shares(2 * one_round, kinds)
    assert {kind: dealt.count(kind) for kind in kinds} == {kind: 2 * times for kind, (times, _) in KINDS.items()}
    found = [
        harness.Injection("k", "", died=True, told=True),
        harness.Injection("k", "", died=False, told=False, lost="x", traceback="y"),
    ]
    assert row("k", found) == "| k | 2 | 1 | 1 | 1 | 1 | 1 | 0 |"


@pytest.mark.slow
def test_two_hundred_faults_cost_nothing():
    done = subprocess.run(
        [sys.executable, harness.__file__, "--count", "200", "--seed", "2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert re.search(r"^\| all \| 200 \| \d+ \| \d+ \| 0 \| 0 \| 0 \| 0 \|$", done.stdout, re.M), done.stdout
