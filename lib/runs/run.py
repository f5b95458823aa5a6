"""A run on disk: its spec, its evaluations, its checkpoints and its result, each as it was written or refused."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
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
from lib.common.outside import TABLE_BYTES, is_file, json_lines, read_bytes
from lib.common.seeding import generator
from lib.data.tasks.images import data_digest, standardize
from lib.data.tasks.task import get_task
from lib.networks.foreign import first_line
from lib.networks.stages import Staged
from lib.runs.building import initial_network
from lib.runs.foreign_start import check_frozen, fitted_file, foreign_report
from lib.runs.outputs import masks_of, network_output
from lib.runs.seal import Brief, check_file, holds_spec, read_brief, read_record, read_result, spec_text
from lib.runs.spec import RunSpec, run_id, spec_from_dict
from lib.runs.tensor_files import read_step, writing
from lib.strategies.strategy import freeze, load_start

Digest = Callable[[str, int], str | None]
Sources = dict[str, tuple[str, str | None]]  # by name of a source run: its `start_digest`, and why it is outdated


class Run:
    """One run's folder.

    Args:
        path: a folder named after its spec. spec: that one, where it is known: its bytes need not be understood again.

    Raises:
        StudyError: the folder is no run, or its spec is damaged or belongs to another run.
    """

    def __init__(self, path: Path, spec: RunSpec | None = None) -> None:
        self.path = path
        file = path / "spec.json"
        if not is_file(file):
            raise StudyError(f"{path} is not a run: it has no spec.json. Move it away, or name another folder")
        if spec is None or not holds_spec(file, spec):
            table = read_record(file)
            try:
                spec = spec_from_dict(table)
            except StudyError as error:  # also a sound spec of a task or strategy that is not known here, now
                raise StudyError(f"{file} is no spec that can be read here: {error}") from error
        self.spec = spec
        if run_id(self.spec) != path.name:
            raise StudyError(
                f"{path} holds the spec of {run_id(self.spec)}: it was renamed, edited, or made by another version "
                "of the project. Delete it to train it again"
            )

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of the run, or None while it is unfinished; not to be written into.

        Raises:
            StudyError: `result.json` was damaged, edited, or is that of another run.
        """
        return read_result(self.path, self.spec)

    @property
    def brief(self) -> Brief | None:
        """What is asked of `result` again and again, without reading it again."""
        return read_brief(self.path, self.spec)

    def metrics(self) -> list[dict[str, Any]]:
        """One dictionary per evaluation, in order of steps; of an unfinished run without a line cut short by a crash.

        Raises:
            StudyError: the run is finished, and its evaluations are not those that it wrote.
        """
        file = self._file("metrics.jsonl")
        lines = read_bytes(file, TABLE_BYTES).decode(errors="replace").splitlines() if is_file(file) else []
        rows = json_lines(lines, sound=self.brief is not None)
        return [row for row in rows if isinstance(row, dict) and type(row.get("step")) is int]

    def _file(self, name: str) -> Path:
        """A file of the run; of a finished one as it was written, or an error."""
        result = self.result
        if result is not None:
            check_file(self.path, name, result["files"])
        return self.path / name

    def checkpoint(self, step: int) -> Path:
        """Its file, there or not."""
        return self.path / checkpoint_name(step)

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, ascending; of a finished run those that it wrote, there or not."""
        result = self.result
        return sorted(step for step in map(step_of, result["files"] if result else self._kept()) if step is not None)

    def _kept(self) -> list[str]:
        return [each.relative_to(self.path).as_posix() for each in self.path.glob("checkpoints/[!.]*")]

    def weights(self, step: int | None = None) -> dict[str, Tensor]:
        """All tensors of the model at a checkpoint (None: the last): those of step 0 with those that differ from it.

        Raises:
            StudyError: there is no such checkpoint, or its file is missing, damaged, or not the one that was written.
        """
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            raise StudyError(f"{self.path} has checkpoints at steps {steps}, got {step}")
        step = steps[-1] if step is None else step
        files = {each: self._file(checkpoint_name(each)) for each in sorted({0, step})}
        return {name: value for each, file in files.items() for name, value in read_step(file, each).items()}

    def outdated(self, digest: Digest = data_digest, sources: Sources | None = None) -> str | None:
        """Why the result is not one of the data, or of the source run, that are there now; None where it is.

        Data that do not lie here, and a source run that is not here, say nothing against a result.

        Args:
            digest, sources: for many runs a memory of `data_digest`, and one of source runs.
        """
        brief, again = self.brief, f"delete {self.path} to train it again"
        if brief is None:
            return None
        now = digest(self.spec.task, self.spec.size)
        if now is not None and now != brief.data:
            return (
                f"{self.path.name} was trained on other data than lie there now under the name {self.spec.task!r}: put "
                f"the old data back, or {again} on the new"
            )
        if self.spec.source is None:
            return None
        known, name = {} if sources is None else sources, run_id(self.spec.source)
        if name not in known:
            if not (run_dir(self.spec.source) / "result.json").is_file():
                return None
            source = Run(run_dir(self.spec.source), self.spec.source)
            known[name] = source.start_digest(), source.outdated(digest, known)
        weights, fault = known[name]
        if weights != brief.source:
            return f"{self.path.name} started from other weights than {name} has now: {again}"
        return fault

    def start_digest(self) -> str:
        """A sha256 of the final weights of a finished run, as its seal lists their files."""
        result, steps = self.result, self.steps()
        assert result is not None
        files = [result["files"][checkpoint_name(step)] for step in sorted({*steps[:1], *steps[-1:]})]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    def faults(self, digest: Digest = data_digest, sources: Sources | None = None) -> list[str]:
        """All that is wrong with a run's folder, a sentence each: every file checked, data and source compared."""
        try:
            result = self.result
        except StudyError as error:
            return [str(error)]
        if result is None:
            return []
        found = []
        for name in sorted({*result["files"], *self._kept()}):
            try:
                check_file(self.path, name, result["files"])
            except StudyError as error:
                found.append(str(error))
        try:
            outdated = self.outdated(digest, sources)
        except StudyError as error:
            outdated = str(error)
        return found + ([outdated] if outdated else [])

    def model(self, step: int | None = None) -> Staged:
        """The network at a checkpoint (None: the last), with the strategy's factors, in evaluation mode."""
        model = _frozen(_initialized(self.spec), self.spec)
        try:
            model.load_state_dict(self.weights(step))
        except RuntimeError as error:  # the first line says of what, the others name every tensor
            raise StudyError(f"checkpoints of {self.path} do not fit its network: {first_line(error)}") from error
        return model.eval()

    @torch.no_grad()
    def segment(self, images: Tensor, step: int | None = None) -> np.ndarray:
        """The masks that the network of a checkpoint (None: the last) draws, in float32 on the CPU.

        Args:
            images: float32 (n, c, h, w) in [0, 1]; of volumes windows (n, c, x, y, z) as `VolumeData` holds them.

        Returns:
            uint8 (n, h, w), or (n, x, y, z), of 0 and 1, or of labels by number where the task names them.
        """
        model, labels, volumes = self.model(step), get_task(self.spec.task).labels, self.spec.dim == 3
        parts = [part if volumes else standardize(part) for part in images.split(1 if volumes else 64)]
        return torch.cat([masks_of(network_output(model, part), labels) for part in parts]).numpy()


def checkpoint_name(step: int) -> str:
    """Where the checkpoint of a step lies in a run's folder."""
    return f"checkpoints/step-{step:06d}.safetensors"


def step_of(name: str) -> int | None:
    """The step of a checkpoint's name; None for another file's."""
    match = re.fullmatch(r"checkpoints/step-(\d{6,15})\.safetensors", name)
    return int(match[1]) if match and checkpoint_name(int(match[1])) == name else None


def run_dir(spec: RunSpec) -> Path:
    """The folder of a spec's run, there or not."""
    return paths.runs_dir() / run_id(spec)


def start_model(spec: RunSpec) -> Staged:
    """The model of a spec at step 0: initialized, given its source's final weights, its factors, and frozen as asked.

    The last stage of a network that starts from a file of weights moves under every strategy: it served another task.

    Raises:
        StudyError: the source run is not finished, or diverged, or the file of weights does not fit.
    """
    model, source, rows = _initialized(spec), None, []
    if spec.weights is not None:
        source, rows = fitted_file(model, spec.weights)
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
    model = _frozen(model, spec)
    if spec.weights is not None:
        check_frozen(model, rows, spec.strategy, spec.weights["file"])
    return model


def foreign_origin(spec: RunSpec) -> dict[str, Any]:
    """What a run's provenance says of a network or of weights from elsewhere."""
    return foreign_report(lambda: _initialized(spec), spec.stage_map, spec.weights)


def _frozen(model: Staged, spec: RunSpec) -> Staged:
    head = spec.weights is not None or (spec.source is not None and spec.source.outputs != spec.outputs)
    freeze(model, spec.strategy, spec.options, generator(spec.seed, 0x10A0), head=head)
    return model


def _initialized(spec: RunSpec) -> Staged:
    return initial_network(spec.seed, *spec.network_key)


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
            paths.write_atomic(folder / "spec.json", spec_text(spec))
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
