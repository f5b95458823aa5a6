"""The folder of a run while it is trained: its evaluations, its checkpoints, and the seal over all that was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.outside import parse_json
from lib.runs.run import checkpoint_name, step_of
from lib.runs.seal import Files, check_file, file_entry, sealed, spec_text
from lib.runs.spec import RunSpec
from lib.runs.tensor_files import changed, read_tensors, read_with_metadata, write_tensors, writing


def read_state(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A state to resume from and its tensors.

    Raises:
        StudyError: the file is damaged, or holds something else.
    """
    tensors, metadata = read_with_metadata(file)
    state = parse_json(metadata.get("state", "null"), f"the state in {file}")
    if (
        not isinstance(state, dict)
        or not {"step", "seconds", "best", "rows", "data", "source", "files"} <= state.keys()
    ):
        raise StudyError(f"{file} is no state to resume from; delete it to train the run from step 0 again")
    return state, tensors


class Record:
    """What a run has written so far: `files` as its seal will list them, `rows` as its metrics hold them.

    `start` are the tensors of the checkpoint of step 0, in the memory of the host.
    """

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path = path
        self.files: Files = {"spec.json": file_entry(spec_text(spec).encode())}
        self.rows: list[dict[str, Any]] = []
        self.start: dict[str, Tensor] = {}

    def write(self, name: str, text: str) -> None:
        """Write a file of the run, to be listed in its seal."""
        with writing(self.path):
            paths.write_atomic(self.path / name, text)
        self.files[name] = file_entry(text.encode())

    def add(self, row: dict[str, Any]) -> None:
        """Add an evaluation, as one line in metrics.jsonl."""
        self.rows.append(row)
        with writing(self.path), (self.path / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def write_metrics(self) -> None:
        """Write metrics.jsonl whole, whatever happened to the lines that were added one by one."""
        self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows))

    def saved(self, task: str, data: str, source: str | None) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """The state to resume from and its tensors, None where there is none; files and evaluations are as they were.

        Args:
            task: what the data are called. data: their digest now. source: that of the source's weights.

        Raises:
            StudyError: the state is damaged, or data or source are not those that the run began with.
        """
        file = self.path / "resume.safetensors"
        if not file.is_file():
            (self.path / "metrics.jsonl").unlink(missing_ok=True)
            return None
        state, tensors = read_state(file)
        if state["files"].get("spec.json") != self.files["spec.json"]:
            raise StudyError(f"{file} is the state of another run; delete it to train the run from step 0 again")
        named = ("data", data, f"the data of task {task!r}"), ("source", source, "the weights of the source")
        for name, now, what in named:
            if state[name] != now:
                raise StudyError(
                    f"{what} changed since {self.path.name} began; put the old ones back, or delete {self.path} to "
                    "train on the new"
                )
        self.files, self.rows = state["files"], state["rows"]
        check_file(self.path, checkpoint_name(0), self.files)
        self.start = read_tensors(self.path / checkpoint_name(0))
        self.write_metrics()
        return state, tensors

    def keep(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Write a checkpoint: everything at step 0, afterwards what differs from it."""
        here = {name: each.detach().cpu() for name, each in state.items()}  # where a comparison does not wait
        if step == 0:
            self.start = {name: each.clone() for name, each in here.items()}
        kept = changed(here, self.start) if step else here
        name = checkpoint_name(step)
        self.files[name] = write_tensors(self.path / name, kept, {"step": str(step), "run": self.path.name})

    def drop_later(self, step: int) -> None:
        """Delete the checkpoints past the best step: the last one is the run's outcome."""
        for later in [name for name in self.files if (step_of(name) or 0) > step]:
            (self.path / later).unlink(missing_ok=True)
            del self.files[later]

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result under its seal, and delete what a finished run needs no more."""
        self.write_metrics()
        self.write("result.json", json.dumps(sealed(result, self.files), allow_nan=False) + "\n")
        for leftover in ("resume.safetensors", "resume.next.safetensors", "best.safetensors"):
            (self.path / leftover).unlink(missing_ok=True)
