"""Tests of a number measured on each run's checkpoints, judged per task (K4, K5, L7)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from analysis.claims.evidence import Alike, AllOf, Part, joined
from analysis.claims.means import mean
from analysis.claims.verdicts import (
    CONDITIONS,
    Claim,
    Finding,
    Runs,
    by_replicate,
    complete_replicates,
    data_kind,
    diverged_text,
    sentences,
    target_tasks,
    too_few,
    with_runs,
)
from analysis.tables.results import finished_rows
from lib.common.progress import counted
from lib.runs.run import Run

T = TypeVar("T")
SPATIAL = ("convolution", "transposed")  # pointwise layers have no kernels, and are left out


BOTH = ("scratch", "full_finetuning")


@dataclass(frozen=True)
class Measure:
    """A number of a run, and the side of which line the claim holds on; `name` and `unit` as in `means.Mean`."""

    name: str
    of: Callable[[Run], float]
    line: float
    above: bool
    unit: str


def once_per_run(measure: Callable[..., T]) -> Callable[..., T]:
    """A measure of a run's checkpoints that is computed once per process and run, as its seal says it is."""
    known: dict[Any, T] = {}

    @functools.wraps(measure)
    def kept(run: Run, *options: Any) -> T:
        result = run.result
        assert result is not None
        key = (run.path, result["seal"], options)
        if key not in known:
            known[key] = measure(run, *options)
        return known[key]

    return kept


def per_task(
    claim: Claim,
    frame: pd.DataFrame,
    runs: Runs,
    arms: Sequence[str],
    measures: Sequence[Measure],
    beside: Callable[[str], str],
) -> list[Finding]:
    """One finding per task: every measure must hold for every arm.

    How far a network moves depends on its learning rate, so each arm is told at every rate that it was trained with,
    and the rates must agree.
    """
    ended = finished_rows(frame, every_rate=True)
    found = []
    for task in target_tasks(frame):
        rows = ended[(ended.task == task) & ended.arm.isin(arms)]
        found.append(_on_task(claim, task, rows, runs, arms, measures, beside))
    return found or [Finding(claim, "all", "No finished run")]


def _on_task(
    claim: Claim, task: str, rows: pd.DataFrame, runs: Runs, arms: Sequence[str], measures: Sequence[Measure],
    beside: Callable[[str], str],
) -> Finding:  # fmt: skip
    done = with_runs(rows[rows.status == "done"], runs)
    parts, lacking, left_out, seeds = list[Part](), [], [], []
    for arm in arms:
        own = done[done.arm == arm]
        at_rates: dict[float, list[Part]] = {}
        missing = ""
        for rate, part in own.groupby("lr"):
            for measure in measures:
                names = counted(part.run_id.tolist(), f"{claim.id}, {task}, {arm}, rate {rate:g}: checkpoints of runs")
                values = part.assign(value=[measure.of(runs[name]) for name in names])
                values = by_replicate(values[values.value.notna()], "value", CONDITIONS)
                wide, words = complete_replicates(values, int(claim.value("min_seeds")))
                missing = too_few(wide, claim, f" of {arm}" + (f" at {rate:g}" if own.lr.nunique() > 1 else ""))
                if missing:
                    lacking.append(missing)
                    continue
                name = ", ".join(filter(None, (arm, measure.name, f"rate {rate:g}" if own.lr.nunique() > 1 else "")))
                each = mean(name, wide.mean(axis=1), measure.line, above=measure.above, unit=measure.unit)
                at_rates.setdefault(float(rate), []).append(each)  # type: ignore[arg-type]
                left_out.append(words and f"{arm}: {words}")
                seeds.append(len(wide))
        if not len(own):
            lacking.append(f"0 seeds of {arm}, {claim.value('min_seeds'):g} needed")
        by_rate = [joined(AllOf, each) for each in at_rates.values()]
        if by_rate:
            parts.append(joined(Alike, by_rate))
    volumes = ", ".join(dict.fromkeys(map(str, done.volume_label)))
    kept = (f"volumes {volumes}" if volumes else "", beside(task) if parts else "")
    words = (*dict.fromkeys(left_out), diverged_text(rows, tuple(arms)), data_kind(rows) if len(rows) else "")
    if not parts:
        return Finding(claim, task, sentences(*dict.fromkeys(lacking), *words))
    barred = sentences(*dict.fromkeys(lacking))
    return Finding(claim, task, sentences(*kept, *words), joined(AllOf, parts), min(seeds), barred)
