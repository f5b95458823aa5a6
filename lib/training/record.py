"""The folder of a run while it is trained: its evaluations, its checkpoints, and the seal over all that was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lib.common import paths
from lib.runs.run import checkpoint_name, spec_text, step_of
from lib.runs.seal import Files, file_entry, sealed
from lib.runs.spec import RunSpec
from lib.runs.tensor_files import changed, write_tensors, writing


class Record:
    """What a run has written so far: `files` as its seal will list them, `rows` as its metrics hold them."""

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path = path
        self.files: Files = {"spec.json": file_entry(spec_text(spec).encode())}
        self.rows: list[dict[str, Any]] = []

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

    def keep(self, step: int, state: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
        """Write a checkpoint: everything at step 0, afterwards what differs from it."""
        kept = changed(state, start) if step else state
        name = checkpoint_name(step)
        self.files[name] = write_tensors(self.path / name, kept, {"step": str(step)})

    def drop_later(self, step: int) -> None:
        """Delete the checkpoints past the best step: the last one is the run's outcome."""
        for later in [name for name in self.files if (step_of(name) or 0) > step]:
            (self.path / later).unlink(missing_ok=True)
            del self.files[later]

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result under its seal, and delete what a finished run needs no more."""
        self.write_metrics()
        self.write("result.json", json.dumps(sealed(result, self.files), allow_nan=False) + "\n")
        for leftover in ("resume.safetensors", "best.safetensors"):
            (self.path / leftover).unlink(missing_ok=True)
