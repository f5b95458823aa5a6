"""Suites that grow: what their file may say, and what the file of looks makes of them."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest

from lib.common.errors import StudyError
from lib.study.bundle import write_bundle
from lib.study.growth import looks_file, write_looks
from lib.study.plan import load_suite, missing_runs
from lib.study.suite import Look, Suite, Until

SUITE = """
seeds = [0, 1]
until = { replication = 0.9, seeds = 5 }

[run]
width = 2
depth = 1
size = 16
steps = 4
batch = 4
evaluations = 2

[tuning]
rates = [0.01, 0.001]

[[grid]]
tasks = ["sim_ultrasound_easy"]
volumes = [6, "all"]
strategies = ["scratch"]

[[grid]]
tasks = ["sim_ultrasound_easy"]
volumes = [6]
strategies = ["frozen_random_encoder"]
seeds = [4, 0, 2]

[[grid]]
tasks = ["sim_ultrasound_easy"]
volumes = [6]
strategies = ["shuffled_labels"]
seeds = [0]
"""


def suite_of(folder: Path, old: str = "", new: str = "") -> Suite:
    assert old in SUITE
    file = folder / "growing.toml"
    file.write_text(SUITE.replace(old, new, 1))
    return load_suite(str(file))


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ("0.9", "until must read { replication = 0.9, seeds = 20 }, got 0.9"),
        ("{ replication = 0.9 }", "until must read .* got {'replication': 0.9}"),
        ("{ replication = 0.9, seeds = 5, looks = 3 }", "until must read"),
        ("{ replication = 0.9, seeds = 5.5 }", "until must read"),
        ("{ replication = true, seeds = 5 }", "until must read"),
        ("{ replication = 1.0, seeds = 5 }", "replication of until is a chance from 0.5 to below 1, got 1.0"),
        ("{ replication = 0.4, seeds = 5 }", "replication of until is a chance .* got 0.4"),
        ("{ replication = 0.9, seeds = 2 }", "until.seeds must be more than the 2 seeds of the first look, got 2"),
    ],
)
def test_what_until_may_not_say(tmp_path: Path, until: str, message: str):
    with pytest.raises(StudyError, match=f"growing.toml: {message}") as error:
        suite_of(tmp_path, "{ replication = 0.9, seeds = 5 }", until)
    assert "\n" not in str(error.value)


def test_a_suite_begins_with_its_first_look_and_without_until_has_none(tmp_path: Path):
    suite = suite_of(tmp_path)
    assert suite.until == Until(0.9, 5)
    assert suite.looks == (Look(2, (2, 2, 3, 1), {}),)
    assert [cell.seeds for cell in suite.cells] == [(0, 1), (0, 1), (4, 0, 2), (0,)]
    fixed = suite_of(tmp_path, "until = { replication = 0.9, seeds = 5 }\n")
    assert (fixed.until, fixed.looks, fixed.cells) == (None, (), suite.cells)


def test_cells_have_the_seeds_of_the_last_look(tmp_path: Path):
    suite = suite_of(tmp_path)
    looked = dataclasses.replace(suite.looks[0], rows={"K1, all": "open"})
    write_looks(suite, [looked, Look(3, (2, 3, 3, 1), {})])
    again = load_suite(str(suite.file))
    assert again.looks == (looked, Look(3, (2, 3, 3, 1), {}))
    assert [cell.seeds for cell in again.cells] == [(0, 1), (0, 1, 2), (4, 0, 2), (0,)]
    write_looks(again, [*again.looks, Look(5, (2, 5, 5, 1), {})])  # the digest is that of the suite as it was written
    last = load_suite(str(suite.file))
    assert [cell.seeds for cell in last.cells] == [(0, 1), (0, 1, 2, 3, 4), (4, 0, 2, 5, 6), (0,)]
    assert len(missing_runs(last)) - len(missing_runs(suite)) == (3 + 2) * 2  # two rates
    assert {spec.fold for spec in missing_runs(last) if spec.seed == 6} == {1}


def test_titles_may_change_but_not_what_is_trained(tmp_path: Path):
    suite = suite_of(tmp_path)
    write_looks(suite, [*suite.looks, Look(5, (5, 5, 5, 1), {})])
    assert len(suite_of(tmp_path, "\nseeds = [0, 1]", '\ntitle = "Other"\nseeds = [0, 1]').cells[0].seeds) == 5
    for old, new in (
        ("steps = 4", "steps = 5"),
        ("seeds = 5 }", "seeds = 8 }"),
        ("[4, 0, 2]", "[4, 0, 1]"),
        ("0.001]", "0.002]"),
        ('volumes = [6, "all"]', "volumes = [6]"),
    ):
        with pytest.raises(StudyError, match=r"growing.json belongs to another content of growing: put") as error:
            suite_of(tmp_path, old, new)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: "{",
        lambda content: [],
        lambda content: {"suite": content["suite"]},
        lambda content: content | {"looks": []},
        lambda content: content | {"looks": [{"at": "two", "seeds": [2, 2, 3, 1], "rows": {}}]},
        lambda content: content | {"looks": [{"at": 3, "seeds": [3, 3, 3, 1], "rows": {}}]},  # not the first look
        lambda content: content | {"looks": [*content["looks"], {"at": 5, "seeds": [4, 2, 3, 1], "rows": {}}]},
        lambda content: content | {"looks": [*content["looks"], {"at": 5, "seeds": [5, 5, 5, 5], "rows": {}}]},
        lambda content: content | {"looks": [*content["looks"], {"at": 8, "seeds": [8, 8, 8, 1], "rows": {}}]},
        lambda content: content | {"looks": [*content["looks"], {"at": 5, "seeds": [5, 5], "rows": {}}]},
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, spoil):
    suite = suite_of(tmp_path)
    write_looks(suite, suite.looks)
    file = looks_file("growing")
    spoiled = spoil(json.loads(file.read_text()))
    file.write_text(spoiled if isinstance(spoiled, str) else json.dumps(spoiled))
    with pytest.raises(StudyError, match=r"growing.json is damaged.*delete it to begin at the first look") as error:
        load_suite(str(suite.file))
    assert "\n" not in str(error.value)
    file.unlink()
    assert load_suite(str(suite.file)).looks == suite.looks


def test_a_bundle_carries_the_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lib.study.bundle._images", lambda task, size: iter(()))
    suite = suite_of(tmp_path)
    write_looks(suite, [*suite.looks, Look(5, (5, 5, 5, 1), {})])
    write_bundle(load_suite(str(suite.file)), tmp_path / "b.tar.gz")
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        carried = archive.extractfile("growing/looks/growing.json")
        assert carried is not None
        assert carried.read() == looks_file("growing").read_bytes()
