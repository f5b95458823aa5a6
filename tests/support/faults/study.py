"""The small running study that faults are injected into: its code, its commands in order, and what comes of each.

A command begins from the home that the commands before it left, and its outcome is what may not differ however often
it was disturbed: weights, results and evaluations bit for bit, tables and archives byte for byte, without times.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import tiny
import tiny_originals
from faults.processes import Child, Commands
from PIL import Image

from lib.common import paths
from lib.common.errors import StudyError
from lib.runs.run import Run

CODE = ("lib", "analysis", "notebooks", "results", "data_manifests")
DRAWN = 16  # images of a simulated set, in place of 400: drawing them would be most of the time
SUITE = """
title = "Faults: a study of seconds"
seeds = [0, 1, 2]
until = { replication = 0.9, seeds = 4 }
[run]
width = 2
depth = 2
size = 32
steps = 6
batch = 4
evaluations = 3
[tuning]
rates = [0.1]
[sources.natural]
task = "sim_natural"
lr = 0.01
[[grid]]
tasks = ["blobs"]
volumes = [6]
strategies = ["scratch"]
[[grid]]
tasks = ["blobs"]
volumes = [6]
source = "natural"
seeds = [0]
strategies = ["full_finetuning"]
"""
NOTEBOOK = """
from analysis.reports import publish
from analysis.tables import finished_rows, run_table, summary
from lib.study import finished_runs, load_suite
runs = finished_rows(run_table(finished_runs(load_suite(suite))))
publish("dice", runs[["task", "arm", "seed", "dice"]], report)
runs.plot.scatter("seed", "dice")
"""
ORIGINALS = {f"part {number}/{number}.bin": bytes([number]) * 40_000 for number in range(6)}


@dataclass(frozen=True)
class Step:
    """A command of the study.

    Args:
        command: module and arguments; {suite}, {home} and {originals} stand for where these are.
        outcome: what came of it, of a home.
        owns: folders of the home that the command may write anew; everything else that was there stays as it was.
        after: the step whose home it begins with.
        without: folders that are taken away first.
    """

    command: str
    outcome: Callable[[Path], Any]
    owns: tuple[str, ...] = ()
    after: str = ""
    without: tuple[str, ...] = ()


def runs(home: Path) -> dict[str, Any]:
    """Weights, evaluations, results and checkpoints of all runs of a home, but times, memory and the device's name."""
    found: dict[str, Any] = {}
    for folder in sorted((home / "runs").glob("*")):
        run = Run(folder)
        found[folder.name] = tiny.outcome(run) if run.result is not None else None
        if found[folder.name] is not None:
            del found[folder.name]["result"]["device"]  # says how many threads there were
    return found


def _files(home: Path, *patterns: str) -> dict[str, str]:
    found = {file for pattern in patterns for file in home.glob(pattern) if file.is_file()}
    return {str(file.relative_to(home)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(found)}


def _grown(home: Path) -> Any:
    return runs(home), _files(home, "looks/*.json")


def _bundle(home: Path) -> Any:
    with tarfile.open(home / "out" / "faults.tar.gz") as archive:
        return {member.name: hashlib.sha256(archive.extractfile(member).read()).hexdigest() for member in archive}  # pyright: ignore


def _report(home: Path) -> Any:
    folder = home / "reports" / "faults"
    card = json.loads((folder / "12_small.card.json").read_text())
    pages = [name for name in ("index.html", "12_small.html") if (folder / name).stat().st_size > 1000]
    return card["status"], pages, _files(home, "reports/faults/12_small/*", "reports/faults/*.csv")


def _record(repository: Path, home: Path) -> Any:
    return {**_files(repository, "results/faults/*"), "README": (repository / "README.md").read_text()}


def _prepared(home: Path) -> Any:
    return _files(home, "data/disks/**/[!o]*")  # but overview.png, which shows and decides nothing


@dataclass
class Study:
    """The study in a folder, done once undisturbed: `homes` and `outcomes` by step, `events` and `seconds` of each."""

    place: Path
    commands: Commands
    homes: dict[str, Path] = field(default_factory=dict)
    outcomes: dict[str, Any] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @functools.cached_property
    def steps(self) -> dict[str, Step]:
        """The commands by name, in their order."""
        suite, here = f"{self.place}/faults.toml", "--engine here --device cpu"
        return {
            "train": Step(f"lib train {suite} {here}", runs),
            "claims": Step(f"analysis claims {suite}", lambda home: _files(home, "reports/*/claims.json"),
                           ("reports", "cache"), after="train"),
            "table": Step(f"analysis table {suite}", lambda home: _files(home, "reports/*/results.csv"),
                          ("reports",), after="train"),
            "bundle": Step(f"lib bundle {suite} --out {{home}}/out", _bundle, after="train"),
            "merge": Step("lib merge {home}/out/faults.tar.gz", runs, after="bundle", without=("runs", "cache")),
            "grow": Step(f"analysis grow {suite} {here}", _grown, ("looks", "cache"), after="train"),
            "record": Step(f"analysis record {suite}", functools.partial(_record, self.commands.repository),
                           ("cache",), after="grow"),
            "report": Step(f"analysis report {suite} --notebook 12_small", _report, ("reports", "cache"),
                           after="train"),
            "prepare": Step("lib data card {home}/disks --name disks", _prepared, after="train"),
            "fetch": Step("lib data fetch busi --base {originals}",
                          lambda home: _files(home, "data/originals/**/*.bin")),
        }  # fmt: skip

    def command(self, name: str, home: Path, originals: str = "http://127.0.0.1:9/") -> list[str]:
        """What is typed for a step in a home."""
        return [word.format(home=home, originals=originals) for word in self.steps[name].command.split()]

    def home_before(self, name: str, place: Path) -> Path:
        """A copy of the home that a step begins with, in `place`."""
        step, home = self.steps[name], place / "home"
        shutil.copytree(self.homes[step.after], home, symlinks=True)
        for folder in step.without:
            shutil.rmtree(home / folder, ignore_errors=True)
        self.restore()
        return home

    def restore(self) -> None:
        """Take back what a step has written into the repository."""
        repository = self.commands.repository
        shutil.rmtree(repository / "results" / "faults", ignore_errors=True)
        shutil.copy(self.place / "README.md", repository / "README.md")

    def do(self, name: str, originals: str) -> None:
        """A step undisturbed, from which its home, outcome, events and seconds are known."""
        place, count = self.place / f"whole-{name}", self.place / f"events-{name}"
        place.mkdir()
        home = self.home_before(name, place)
        child = self.commands.begin(home, self.command(name, home, originals), count=count)
        began = time.monotonic()  # the first one waited until everything was imported
        code = self.commands.wait(child, 300)
        assert code == 0, f"{name} fails undisturbed:\n{child.said()}"
        self.seconds[name] = time.monotonic() - began
        self.homes[name], self.events[name] = home, int(count.read_text())
        self.outcomes[name] = self.steps[name].outcome(home)


def repository_copy(place: Path) -> Path:
    """The code in a folder of its own, so that what the study records there touches nothing; with one more notebook."""
    target = place / "repository"
    for name in CODE:
        shutil.copytree(paths.REPOSITORY / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml", "CITATION.cff"):
        shutil.copy(paths.REPOSITORY / name, target / name)
    catalog = target / "lib/data/tasks/catalog.py"
    fewer = catalog.read_text().replace("images=400", f"images={DRAWN}")
    assert fewer != catalog.read_text()
    catalog.write_text(fewer)
    (target / "COMMIT").write_text("0" * 12 + "\n")
    cells = [
        nbformat.v4.new_markdown_cell("# A small one\n\nIt shows what there is."),
        nbformat.v4.new_code_cell('suite: str = "class"\nreport: str = ""', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(NOTEBOOK.strip()),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, target / "notebooks" / "12_small.ipynb")
    tiny_originals.write_card("busi", ORIGINALS, target / "data_manifests")
    return target


def begun(place: Path, commands: Commands) -> Study:
    """The study before its first command: a suite, the images of one task, and pictures that are to be prepared."""
    study = Study(place, commands)
    (place / "faults.toml").write_text(SUITE)
    shutil.copy(commands.repository / "README.md", place / "README.md")
    first = study.homes[""] = place / "first"
    tiny.make_blobs(first / "data")
    for part in ("images", "masks"):
        for number in range(10):
            file = first / "disks" / part / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.open(first / "data" / "blobs" / part / f"{number:02d}.png").save(file)
    (first / "out").mkdir()
    return study


def kept(home: Path, owned: tuple[str, ...]) -> dict[str, str]:
    """The bytes, as digests, of all that is finished in a home and may not change: all but what a command owns.

    Of the runs those that are finished; of everything else every file.
    """
    found = {}
    for folder, _, names in os.walk(home):
        parts = Path(folder).relative_to(home).parts
        if parts[:1] in [(each,) for each in owned] or (parts[:1] == ("runs",) and not _finished(home, parts)):
            continue
        for name in names:
            if name != "lock" and not name.startswith(".") and name != "ballast":
                file = Path(folder, name)
                found[str(file.relative_to(home))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def _finished(home: Path, parts: tuple[str, ...]) -> bool:
    try:
        return len(parts) > 1 and Run(home / "runs" / parts[1]).result is not None
    except StudyError:
        return False


def ended_well(study: Study, name: str, child: Child) -> str:
    """What is wrong with a step that was called again, undisturbed; "" where its outcome is as it should be."""
    if child.code != 0:
        return f"the next call ended with {child.code}:\n{child.said()[-2000:]}"
    try:
        found = study.steps[name].outcome(child.home)
    except (OSError, StudyError, KeyError, ValueError) as error:
        return f"the next call left no outcome: {error}"
    return "" if found == study.outcomes[name] else "the next call left another outcome than the undisturbed study"
