"""Runs and stacks killed at random moments, each taken up again: ends equal to those of runs never interrupted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from lib.common import paths
from lib.runs.run import Run, run_dir
from lib.runs.spec import RunSpec

KILLS = 80  # twenty of each kind

# A process that has imported torch and never used it forks a child for every training: a start costs milliseconds.
# It reads "<home> <specs>" and answers with the child's process id; after a second line, with the child's wait status.
PARENT = """
import json, os, sys
import PIL.Image, scipy.ndimage, torch._dynamo  # what a training imports on its way: most of its time otherwise
from lib.runs.spec import spec_from_dict
from lib.training.together import train_stack

for line in sys.stdin:
    home, text = line.split(" ", 1)
    child = os.fork()
    if child == 0:
        os.environ["STUDY_HOME"] = home
        train_stack([spec_from_dict(each) for each in json.loads(text)], device="cpu", save_every=0)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitpid(child, 0)[1], flush=True)
"""

# Every evaluation saves the state: plain, with early stopping, with a source (which may be hit as well) and factors,
# and a stack of which one run diverges and one stops early.
Kind = list[RunSpec]
SPECS: list[Callable[[], Kind]] = [
    lambda: [tiny.spec(steps=24, evaluations=12)],
    lambda: [tiny.spec(steps=24, evaluations=12, norm="batch", patience=6, lr=0.05, seed=2)],
    lambda: [
        tiny.spec(
            steps=12, evaluations=6, norm="group", strategy="low_rank",
            source=tiny.spec(steps=12, evaluations=6, norm="group"),
        )
    ],
    lambda: [
        tiny.spec(steps=24, evaluations=12, seed=1),
        tiny.spec(steps=24, evaluations=12, seed=2, patience=6, lr=0.05),
        tiny.spec(steps=24, evaluations=12, seed=3, strategy="frozen_random_decoder"),
        tiny.spec(steps=24, evaluations=12, seed=4, lr=1e30),
    ],
]  # fmt: skip


class Children:
    """Trainings in children of one process that has imported torch already."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, home: Path, specs: Kind) -> int:
        """Begin a training; returns its process id."""
        return self.ask(f"{home} [{','.join(spec.text for spec in specs)}]")

    def ask(self, line: str) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def finish(self, home: Path, specs: Kind) -> float:
        """Train to the end; returns the seconds that it took."""
        began = time.monotonic()
        self.start(home, specs)
        assert self.ask("its status") == 0
        return time.monotonic() - began

    def kill(self, home: Path, specs: Kind, after: float) -> bool:
        """Begin a training and kill it after so many seconds; whether it was still at work."""
        child = self.start(home, specs)
        time.sleep(after)
        os.kill(child, signal.SIGKILL)  # until its status is read, its number is nobody else's
        return os.WIFSIGNALED(self.ask("its status"))


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    environment = os.environ | {
        "PYTHONPATH": str(paths.REPOSITORY),
        "STUDY_DATA": str(tiny.make_blobs(tmp_path / "data")),
    }
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=pipe, stdout=pipe, text=True, env=environment
    ) as process:
        yield Children(process)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_at_random_moments(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    specs = [make() for make in SPECS]
    draw = random.Random(2)
    expected: list[list[dict[str, Any]]] = []
    seconds: list[float] = []
    for number, spec in enumerate(specs):
        home = tmp_path / f"whole{number}"
        children.finish(home, spec)
        seconds.append(children.finish(tmp_path / f"again{number}", spec))  # the first one may have warmed caches
        expected.append(_outcome(home, spec, monkeypatch))

    same, tried, steps = 0, 0, []
    for kill in range(KILLS):
        number = kill % len(specs)
        spec = specs[number]
        for attempt in range(20):  # one that came after the end is no kill: another moment, in a new home
            home = tmp_path / f"kill{kill}-{attempt}"
            tried += 1
            landed = children.kill(home, spec, draw.uniform(0, seconds[number]))
            folders = _folders(home, spec, monkeypatch)
            unfinished = any(not (each / "result.json").exists() for each in folders)
            if landed and unfinished:
                break
            seconds[number] *= 0.9  # the machine has become faster since that was measured
        else:
            pytest.fail("every kill came too late")
        steps.append(_steps_done(home, spec, monkeypatch))
        children.finish(home, spec)
        same += _outcome(home, spec, monkeypatch) == expected[number]
    with capsys.disabled():
        print(
            f"\n{same} of {KILLS} runs and stacks, killed while they trained and taken up again, ended with weights, "
            f"metrics and results bit for bit those of runs never interrupted ({tried} kills sent, {tried - KILLS} "
            f"came after the end and were repeated; the runs had evaluated up to step {sorted(steps)})"
        )
    assert same == KILLS
    assert len(set(steps)) > 8  # the moments were spread over the run


def _folders(home: Path, specs: Kind, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("STUDY_HOME", str(home))
    return [run_dir(spec) for spec in specs]


def _outcome(home: Path, specs: Kind, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    return [tiny.outcome(Run(folder)) for folder in _folders(home, specs, monkeypatch)]


def _steps_done(home: Path, specs: Kind, monkeypatch: pytest.MonkeyPatch) -> int:
    """The last step that was evaluated before the kill; -1 before the first."""
    folder = _folders(home, specs, monkeypatch)[0]
    if not (folder / "spec.json").exists():
        return -1
    return max((row["step"] for row in Run(folder).metrics()), default=-1)
