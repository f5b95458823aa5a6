"""A run on disk: its spec, its evaluations, its checkpoints and its result; and the listing of all of them."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.seeding import generator
from lib.data.tasks.images import standardize
from lib.networks.initial_weights import initialize
from lib.networks.stages import Staged
from lib.runs.spec import RunSpec, canonical, run_id, spec_from_dict
from lib.runs.tensor_files import read_tensors, writing
from lib.strategies.strategy import freeze, load_start


class Run:
    """One run's folder.

    Args:
        path: a folder named after its spec.

    Raises:
        StudyError: the folder is no run, or its spec is damaged or belongs to another run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        file = path / "spec.json"
        if not file.is_file():
            raise StudyError(f"{path} is not a run: it has no spec.json. Move it away, or name another folder")
        try:
            self.spec: RunSpec = spec_from_dict(json.loads(file.read_text()))
        except StudyError as error:  # also a sound spec of a task or strategy that is not known here, now
            raise StudyError(f"{file} is no spec that can be read here: {error}") from error
        except ValueError as error:
            raise StudyError(f"{file} is damaged ({error}); delete {path} to train the run again") from error
        if run_id(self.spec) != path.name:
            raise StudyError(
                f"{path} holds the spec of {run_id(self.spec)}: it was renamed, edited, or made by another version "
                "of the project. Delete it to train it again"
            )

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of the run, or None while it is unfinished."""
        file = self.path / "result.json"
        try:
            result = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StudyError(f"{file} is damaged ({error}); delete it to finish the run again") from error
        status = result.get("status") if isinstance(result, dict) else None
        needed = {"done": {"test", "val"}, "diverged": {"reason"}}.get(str(status))
        if needed is None or not needed <= result.keys():
            wanted = "status" if needed is None else " or ".join(sorted(needed))
            raise StudyError(f"{file} is damaged (it has no {wanted}); delete it to finish the run again")
        return result

    def metrics(self) -> list[dict[str, Any]]:
        """One dictionary per evaluation, in order of steps; a line cut short by a crash is left out.

        Raises:
            StudyError: the run is finished and has none.
        """
        file, rows = self.path / "metrics.jsonl", list[dict[str, Any]]()
        for line in file.read_text(errors="replace").splitlines() if file.is_file() else ():
            with contextlib.suppress(json.JSONDecodeError):
                rows += [row for row in [json.loads(line)] if isinstance(row, dict)]
        if not rows and (self.result or {}).get("status") == "done":
            raise StudyError(f"{file} is gone or empty although the run is done; delete {self.path} to train it again")
        return rows

    def checkpoint(self, step: int) -> Path:
        """The file of a checkpoint, there or not."""
        return self.path / "checkpoints" / f"step-{step:06d}.safetensors"

    def steps(self) -> list[int]:
        """Steps of which a checkpoint exists, ascending."""
        found = (re.fullmatch(r"step-(\d+)", file.stem) for file in self.path.glob("checkpoints/step-*.safetensors"))
        return sorted(int(match[1]) for match in found if match)

    def weights(self, step: int | None = None) -> dict[str, Tensor]:
        """All tensors of the model at a checkpoint (None: the last): those of step 0 with those that differ from it.

        Raises:
            StudyError: there is no such checkpoint, or its file is damaged.
        """
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            raise StudyError(f"{self.path} has checkpoints at steps {steps}, got {step}")
        step = steps[-1] if step is None else step
        merged = read_tensors(self.checkpoint(0))
        return merged if step == 0 else {**merged, **read_tensors(self.checkpoint(step))}

    def model(self, step: int | None = None) -> Staged:
        """The network at a checkpoint (None: the last), with the strategy's factors, in evaluation mode."""
        model = _frozen(_initialized(self.spec), self.spec)
        model.load_state_dict(self.weights(step))
        return model.eval()

    @torch.no_grad()
    def segment(self, images: Tensor, step: int | None = None) -> np.ndarray:
        """The masks that the network of a checkpoint (None: the last) draws, in float32 on the CPU.

        Args:
            images: float32 (n, 1, h, w) in [0, 1].

        Returns:
            uint8 (n, h, w) of 0 and 1.
        """
        model = self.model(step)
        logits = [model(standardize(part))[:, 0] for part in images.split(64)]
        return (torch.cat(logits) > 0).to(torch.uint8).numpy()


def run_dir(spec: RunSpec) -> Path:
    """The folder of a spec's run, there or not."""
    return paths.runs_dir() / run_id(spec)


def start_model(spec: RunSpec) -> Staged:
    """The model of a spec at step 0: initialized, given its source's final weights, its factors, and frozen as asked.

    Raises:
        StudyError: the source run is not finished, or diverged.
    """
    model = _initialized(spec)
    source = None
    if spec.source is not None:
        run = Run(run_dir(spec.source))
        if run.result is None:
            raise StudyError(f"the source run {run.path.name} has not been trained to its end; train it first")
        if run.result["status"] != "done":
            raise StudyError(
                f"the source run {run.path.name} {run.result['status']} ({run.result['reason']}), so nothing can "
                "start from it; choose another source, or a lower rate for it"
            )
        source = run.weights()
    load_start(model, spec.strategy, spec.options, source)
    return _frozen(model, spec)


def _frozen(model: Staged, spec: RunSpec) -> Staged:
    freeze(model, spec.strategy, spec.options, generator(spec.seed, 0x10A0))
    return model


def _initialized(spec: RunSpec) -> Staged:
    return initialize(spec.network(), spec.seed)


def list_runs(root: Path | None = None, warn: Callable[[str], None] | None = None) -> list[Run]:
    """Every run in a folder (default: the study's), by name; folders that are no runs are passed to `warn`."""
    root = paths.runs_dir() if root is None else root
    found = []
    for folder in sorted(each for each in root.glob("*") if each.is_dir()):
        try:
            found.append(Run(folder))
        except StudyError as error:
            if warn:
                warn(str(error))
    return found


def find_run(name: str, root: Path | None = None) -> Run:
    """The run of that name, or the only one whose name ends in it (the eight hex digits are enough).

    Raises:
        StudyError: none or several fit.
    """
    root = paths.runs_dir() if root is None else root
    names = [each.name for each in root.glob("*") if each.is_dir()]
    fitting = [each for each in names if each == name or each.endswith(name)]
    if len(fitting) > 1:
        raise StudyError(f"{len(fitting)} runs fit {name!r}; give more of the name")
    if not fitting:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        hint = f"; the nearest is {close[0]}" if close else ""
        raise StudyError(f"no run {name!r} in {root}{hint}. python -m lib runs lists them")
    return Run(root / fitting[0])


def open_run(spec: RunSpec) -> Run:
    """The folder of a spec's run, made if it is not there.

    Raises:
        StudyError: a folder of that name holds something else.
    """
    folder = run_dir(spec)
    if folder.is_dir() and not (folder / "spec.json").exists() and any(_visible(folder)):
        raise StudyError(
            f"{folder} exists, holds {', '.join(sorted(_visible(folder))[:3])} and no spec.json: it was not made by "
            "this study. Move it away to train the run"
        )
    if not (folder / "spec.json").exists():
        with writing(folder):
            paths.write_atomic(folder / "spec.json", canonical(spec) + "\n")
    return Run(folder)


def _visible(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if not each.name.startswith(".") and each.name != "lock"]


@contextlib.contextmanager
def locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a run's folder against other processes; if one has it, call `waiting` once and wait for it to end.

    The lock is the kernel's: it goes with the process that holds it, so a killed run leaves none behind.
    """
    with writing(folder):
        handle = (folder / "lock").open("a")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
