"""What a suite will cost before it is trained: steps, bytes, and time from a measured minute on this machine."""

from __future__ import annotations

import contextlib
import heapq
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.common import paths
from lib.common.device import pick_device
from lib.common.progress import print_line
from lib.runs.run import checkpoint_name, run_dir
from lib.runs.spec import RunSpec, run_id
from lib.study.engines import LocalProcesses, cores
from lib.study.plan import draw_ahead
from lib.training.loop import Report, silent
from lib.training.optimizer import checkpoint_steps
from lib.training.together import computation, stacks

STEPS = 12  # of a run that is measured
Unit = list[RunSpec]  # what a worker is given: one run, or a stack


@dataclass(frozen=True)
class Cost:
    """What a unit of one kind costs, in seconds and, a run of it, in bytes, on the workers that it was measured on."""

    a_step: float
    an_evaluation: float
    beside: float  # beginning and end
    first_checkpoint: float
    later_checkpoint: float

    def seconds(self, unit: Unit) -> float:
        """Of a unit that is trained to its end."""
        longest = max(unit, key=lambda spec: spec.evaluations)
        return self.beside + longest.steps * self.a_step + (longest.evaluations + 1) * self.an_evaluation

    def bytes(self, unit: Unit) -> float:
        """Of the folders of finished runs."""
        later = sum(len(checkpoint_steps(spec.steps, spec.checkpoints)) - 1 for spec in unit)
        return len(unit) * self.first_checkpoint + later * self.later_checkpoint


def kind(unit: Unit) -> tuple[Any, ...]:
    """What the cost of a unit depends on: for a run all but seed, fold, volume, rate, and how long it trains."""
    few = {"steps": 1, "evaluations": 1, "checkpoints": "ends", "patience": None}
    common = computation(unit[0].but(**few))
    if len(unit) > 1:
        return len(unit), common
    plain = {"source": None, "strategy": "scratch", "options": {}, "seed": 0, "fold": 0, "volume": None, "lr": 1.0}
    return 1, common, unit[0].but(**few, **plain).text, unit[0].strategy


def units(phase: Sequence[RunSpec], device: str) -> list[Unit]:
    """Runs as workers are given them on a device."""
    return stacks(phase) if pick_device(device).type == "cuda" else [[spec] for spec in phase]


def measure(
    wanted: Iterable[Unit], *, device: str, workers: int | None = None, report: Report = silent
) -> dict[tuple[Any, ...], Cost]:
    """Train a few steps of one unit of each kind, in a folder that is deleted; the cost of a unit by `kind`.

    As many at once as there are workers, as in a training of the suite: they share the machine there too.
    """
    short = {kind(unit): [_shortened(spec) for spec in unit] for unit in wanted}
    sources = {run_id(spec.source): spec.source for unit in short.values() for spec in unit if spec.source is not None}
    # Simulated images are drawn now: that happens once, and is no cost of a run.
    draw_ahead([*sources.values(), *(spec for unit in short.values() for spec in unit)], workers or cores(), print_line)
    seen: list[tuple[float, dict[str, Any]]] = []

    def keep(event: dict[str, Any]) -> None:
        seen.append((time.perf_counter(), event))
        report(event)

    with _elsewhere(), LocalProcesses(device=device, workers=workers, report=keep) as pool:
        for future in [pool.submit(spec) for spec in sources.values()]:
            future.result()
        for future in [pool.submit_stack(unit) if len(unit) > 1 else pool.submit(unit[0]) for unit in short.values()]:
            future.result()
        return {key: _cost(seen, unit) for key, unit in short.items()}


def _shortened(spec: RunSpec) -> RunSpec:
    few = {"evaluations": 1, "checkpoints": "ends", "patience": None}
    source = None if spec.source is None else spec.source.but(steps=1, **few)
    return spec.but(source=source, steps=STEPS, **few)


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """A home of its own for runs that are only measured; data, drawn ones too, stay where they are."""
    before = {name: os.environ.get(name) for name in ("STUDY_HOME", "STUDY_DATA")}
    drawn = paths.home() / "data" / "simulated"
    drawn.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.home(), prefix=".plan.") as folder:
        (Path(folder) / "data").mkdir()
        (Path(folder) / "data" / "simulated").symlink_to(drawn)
        os.environ.update(STUDY_DATA=str(paths.data_root()), STUDY_HOME=folder)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _cost(seen: Sequence[tuple[float, dict[str, Any]]], unit: Unit) -> Cost:
    names = [run_id(spec) for spec in unit]
    own = [(when, event) for when, event in seen if event.get("run") in names]
    begins = min(when for when, event in own if event["kind"] == "begins")
    first = max(when for when, event in own if event["kind"] == "evaluation" and event["step"] == 0)
    last = max(when for when, event in own if event["kind"] == "evaluation")
    done = max(when for when, event in own if event["kind"] == "done")
    trained = sum(event["seconds"] for _, event in own if event["kind"] == "evaluation" and event["step"] == STEPS)
    an_evaluation = max(0.0, last - first - trained)
    sizes = [
        sum((run_dir(spec) / checkpoint_name(step)).stat().st_size for spec in unit) / len(unit) for step in (0, STEPS)
    ]
    return Cost(trained / STEPS, an_evaluation, max(0.0, done - begins - trained - 2 * an_evaluation), *sizes)


@dataclass(frozen=True)
class Forecast:
    """The cost of what is missing of a suite."""

    runs: int
    sources: int
    units: int
    steps: int
    bytes: float
    seconds: dict[int, float]  # by number of workers
    least: float  # of any number of workers: the longest unit of every phase, one after another


def forecast(
    phases: Sequence[Sequence[Unit]], costs: Mapping[tuple[Any, ...], Cost], workers: Sequence[int]
) -> Forecast:
    """Simulate a training: sources, then everything else, each phase a unit to every worker that is free.

    Args:
        costs: by `kind`, of every kind that is there.
    """
    lengths = [[costs[kind(unit)].seconds(unit) for unit in phase] for phase in phases]
    everything = [unit for phase in phases for unit in phase]
    return Forecast(
        runs=sum(map(len, everything)),
        sources=sum(map(len, phases[0])),
        units=len(everything),
        steps=sum(spec.steps for unit in everything for spec in unit),
        bytes=sum(costs[kind(unit)].bytes(unit) for unit in everything),
        seconds={count: sum(span(phase, count) for phase in lengths) for count in workers},
        least=sum(max(phase, default=0.0) for phase in lengths),
    )


def span(lengths: Sequence[float], workers: int) -> float:
    """How long `workers` need for units of these lengths, given out in this order to whoever is free."""
    free = [0.0] * workers
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)
