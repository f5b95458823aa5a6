"""A suite of any number of finished runs, made in a minute: one run of each kind is trained, the others are its copies.

Copies have a spec, scores and curves of their own, written and sealed as the training loop does it, so that every
reader takes them for trained ones; they share weight files (hard links), and scores are those of the trained run with
noise. So tables, claims and reports have as much to read as with trained runs, and nothing that they say is of use.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from lib.common import paths  # noqa: E402
from lib.data.tasks.images import data_digest  # noqa: E402
from lib.runs.run import Run, run_dir  # noqa: E402
from lib.runs.seal import Files, spec_text  # noqa: E402
from lib.runs.spec import RunSpec, run_id  # noqa: E402
from lib.runs.tensor_files import read_tensors, write_tensors  # noqa: E402
from lib.study.plan import load_suite  # noqa: E402
from lib.study.suite import Suite  # noqa: E402
from lib.training.loop import train  # noqa: E402
from lib.training.record import Record  # noqa: E402

digest = functools.cache(data_digest)
SEGMENTED = ("sim_ultrasound", "sim_radiograph", "sim_ultrasound_hard", "sim_ultrasound_easy", "sim_sparse")
SEGMENTED += ("sim_compressed", "sim_fine_plain", "sim_medium_plain", "sim_coarse_plain", "sim_fine_small")
IMAGED = ("sim_brain_t2", "sim_knee_pd_sagittal", "sim_brain_t1_sagittal", "sim_brain_flair", "sim_brain_t1_coronal")
ARMS = """[
  "scratch", "full_finetuning", "frozen_random_encoder", "frozen_source_encoder", "encoder_only", "decoder_only",
  "head_only", "shuffled_labels",
  { name = "layer_subset", options = { order = "path", side = "shallow", count = 2 } },
  { name = "layer_subset", options = { order = "path", side = "deep", count = 2 } },
]"""
IMAGING_ARMS = '["scratch", "full_finetuning", "scale_shift", "decoder_only", "head_only"]'
GRIDS = {  # runs: tasks and volumes that are segmented in ten arms, and that are reconstructed in five
    500: (2, 1, 1, 1),
    3_000: (4, 3, 3, 2),
    5_000: (5, 4, 5, 2),
    50_000: (10, 20, 5, 20),
}


def suite_text(runs: int) -> str:
    """A suite file of so many runs beside its sources: more tasks and more volumes the more there are, ten seeds each.

    Args:
        runs: a key of GRIDS.
    """
    segmented, volumes, imaged, subjects = GRIDS[runs]
    return f"""
title = "{runs} runs"
seeds = {list(range(10))}
[run]
width = 4
depth = 2
size = 32
steps = 20
batch = 4
evaluations = 20
checkpoints = "ends"
validation = 8
[tuning]
rates = [0.01, 0.003]
[sources.scenes]
task = "sim_natural"
lr = 0.01
[sources.heads]
task = "sim_brain_t1"
lr = 0.01
[[grid]]
tasks = {json.dumps(SEGMENTED[:segmented])}
volumes = {list(range(4, 4 + volumes))}
source = "scenes"
strategies = {ARMS}
[[grid]]
tasks = {json.dumps(IMAGED[:imaged])}
volumes = {list(range(1, 1 + subjects))}
source = "heads"
strategies = {IMAGING_ARMS}
"""


def specs_of(suite: Suite) -> Iterator[RunSpec]:
    """All runs of a suite, those that others start from first."""
    yield from suite.source_specs()
    for cell in suite.cells:
        for seed in cell.seeds:
            yield from suite.at_all_rates(cell, seed)


def fill(suite: Suite) -> int:
    """Finish every run of a suite that is not; returns how many there are."""
    templates: dict[Any, Template] = {}
    sources: dict[str, str] = {}
    count = 0
    with mock.patch("os.fsync"):  # a crash of the machine would cost a benchmark, not a study
        for spec in specs_of(suite):
            count += 1
            if (run_dir(spec) / "result.json").is_file():
                continue
            kind = spec.goal, spec.strategy, json.dumps(spec.options, sort_keys=True), spec.source is None
            if kind not in templates:
                templates[kind] = Template(train(spec, device="cpu"))
                continue
            source = None
            if spec.source is not None:
                name = run_id(spec.source)
                source = sources.get(name) or Run(run_dir(spec.source)).start_digest()
                sources[name] = source
            templates[kind].copy(spec, source)
    return count


class Template:
    """A trained run, as what its copies are made of."""

    def __init__(self, run: Run) -> None:
        assert run.result is not None
        self.result, self.rows = run.result, run.metrics()
        self.folder, self.entries = paths.home() / "templates" / run.path.name, Files()
        for step in run.steps():  # once more and without the name of the run, so that many can share the file
            name = run.checkpoint(step).relative_to(run.path).as_posix()
            tensors = read_tensors(run.checkpoint(step))
            self.entries[name] = write_tensors(self.folder / name, tensors, {"step": str(step)})

    def copy(self, spec: RunSpec, source: str | None) -> None:
        """Write the folder of another run of this kind, finished."""
        draw = np.random.default_rng([spec.seed, int(run_id(spec)[-8:], 16)])
        moved = float(draw.normal(0, 0.03))
        record = Record(run_dir(spec), spec)
        record.write("spec.json", spec_text(spec))
        record.files |= self.entries
        for name in self.entries:
            file = record.path / name
            file.parent.mkdir(exist_ok=True)
            os.link(self.folder / name, file)
        record.rows = [_moved(row, moved) for row in self.rows]
        parts = {part: _moved(self.result[part], moved) for part in ("val", "test")}
        record.finish({**_unsealed(self.result), **parts, "data": digest(spec.task, spec.size), "source": source})


def _unsealed(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("files", "seal")}


def _moved(scores: Mapping[str, Any], by: float) -> dict[str, Any]:
    """Scores of another run: Dice in [0, 1] a little more or less, PSNR by ten times as many decibels."""
    found = dict(scores)
    for name, value in scores.items():
        if value is not None and name.endswith("dice"):
            found[name] = min(1.0, max(0.0, value + by))
        if value is not None and name.endswith("psnr"):
            found[name] = value + 10 * by
    return found


def make(home: Path, runs: int) -> Path:
    """A home with a suite of so many finished runs; returns the suite's file."""
    os.environ["STUDY_HOME"] = str(home)
    file = home / f"many_{runs}.toml"
    home.mkdir(parents=True, exist_ok=True)
    file.write_text(suite_text(runs))
    fill(load_suite(str(file)))
    return file


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), int(sys.argv[2])))
