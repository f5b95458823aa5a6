"""Time to plateau: when each run comes up to a fraction of what its reference run ends at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.paired_gains import PAIR
from analysis.tables.results import finished_rows

PLATEAU_EVALUATIONS = 3


LEAST_PLATEAU = 0.05  # below this the scratch run has learned nothing, and fractions of it mean nothing


def time_to_plateau(
    frame: pd.DataFrame,
    evaluations: pd.DataFrame,
    fractions: Sequence[float] = (0.90, 0.95, 0.99),
    reference: str = "scratch",
) -> pd.DataFrame:
    """When each run first comes up to a fraction of a plateau that it shares with its reference, and when that does.

    A run's plateau is the mean validation Dice of its last three evaluations. Its level is the fraction of the mean of
    its own and that of the reference run of the same task, volume, seed and fold; where that has a source, pass the
    runs of one source. (A level of the reference's alone would favor the reference, which by construction gets to
    where it ends, and the other need not.) The time is where the straight lines between the run's evaluations first
    cross the level; a run that is there at its first evaluation gets the step of that one, at least 1: the longest it
    can have taken. A later dip is not held against it.

    A run that never gets there is *censored*: `reached` is false and its steps are the budget
    of its spec, even where early stopping ended it before (it gave up, it was not faster); its seconds grow
    in proportion. So is one that diverged, and its level is that of the reference alone.

    Columns: PAIR, run_id, title, kind, strategy, arm, source, volume, fraction, plateau (the mean of both), steps,
    seconds, reached, reference_steps, reference_seconds, reference_reached (of the reference run, to the same level),
    status ("done", "diverged", or why there is no plateau, and then all times are missing). One row per run and
    fraction; the reference has itself as its reference.
    """
    ended = finished_rows(frame)
    by_run = _curves(evaluations[np.isfinite(evaluations.val_dice.astype("float64"))].sort_values("step"))
    records = ended.to_dict("records")
    references = {tuple(run[key] for key in PAIR): run for run in records if run["strategy"] == reference}
    described = [*PAIR, "run_id", "title", "kind", "strategy", "arm", "source", "volume"]
    rows = []
    for run in records:
        other = references.get(tuple(run[key] for key in PAIR))
        plateau, why = _plateau(other, by_run, reference)
        own, unknown = _plateau(run, by_run, "the run")
        level = plateau if unknown else (plateau + own) / 2
        for fraction in fractions:
            times = [_time(each, by_run, fraction * level) if each and not why else _NONE for each in (run, other)]
            measured = (fraction, level, *times[0], *times[1], why or run["status"])
            rows.append((*(run[key] for key in described), *measured))
    times = [f"{whose}{name}" for whose in ("", "reference_") for name in ("steps", "seconds", "reached")]
    columns = [*described, "fraction", "plateau", *times, "status"]
    return pd.DataFrame(rows, columns=columns).astype({"reached": "bool", "reference_reached": "bool"})


_NONE = (math.nan, math.nan, False)


def _curves(ordered: pd.DataFrame) -> dict[str, np.ndarray]:
    """By run, its evaluations in the order of the rows: (3, evaluations) of step, seconds, Dice."""
    codes, names = pd.factorize(ordered.run_id)
    values = ordered[["step", "seconds", "val_dice"]].to_numpy(dtype=np.float64)[np.argsort(codes, kind="stable")]
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    return (
        {str(name): part.T for name, part in zip(names, np.split(values, ends[:-1]), strict=True)} if len(names) else {}
    )


def _time(run: dict[str, Any], by_run: dict[str, np.ndarray], level: float) -> tuple[float, float, bool]:
    """Steps and seconds to a level, or of the whole budget, and whether the run got there."""
    curve = by_run.get(run["run_id"], np.empty((3, 0)))
    there = None if run["status"] == "diverged" else _first_reach(curve, level)
    steps, seconds = there or _budget(curve, run["budget"])
    return steps, seconds, there is not None


def _plateau(run: dict[str, Any] | None, by_run: dict[str, np.ndarray], name: str) -> tuple[float, str]:
    """The plateau and "", or NaN and why there is none."""
    if run is None:
        return math.nan, f"no {name} run"
    if run["status"] == "diverged":
        return math.nan, f"{name} diverged"
    values = by_run.get(run["run_id"], np.empty((3, 0)))[2]
    if len(values) < PLATEAU_EVALUATIONS:
        return math.nan, f"{name} has fewer than {PLATEAU_EVALUATIONS} evaluations"
    plateau = float(values[-PLATEAU_EVALUATIONS:].mean())
    return (plateau, "") if plateau >= LEAST_PLATEAU else (math.nan, f"{name} plateau below {LEAST_PLATEAU}")


def _first_reach(curve: np.ndarray, level: float) -> tuple[float, float] | None:
    """Steps and seconds at which a curve (3, evaluations) of step, seconds, Dice first reaches `level`, or None."""
    dice = curve[2]
    above = np.flatnonzero(dice >= level)
    if not len(above):
        return None
    after = int(above[0])
    steps, seconds = curve[:2, after]
    if after > 0:
        part = (level - dice[after - 1]) / (dice[after] - dice[after - 1])
        steps, seconds = (1 - part) * curve[:2, after - 1] + part * curve[:2, after]
    if steps < 1 and curve.shape[1] > 1:  # there at the start, which is step 0: one step and its time
        return 1.0, float(curve[1, 1] / curve[0, 1])
    return max(float(steps), 1.0), float(seconds)


def _budget(curve: np.ndarray, budget: int) -> tuple[float, float]:
    """Steps and seconds of the whole budget, the seconds in proportion to those of the steps done."""
    done = curve[:, -1] if curve.shape[1] else np.zeros(3)
    return float(budget), float(done[1] * budget / done[0]) if done[0] else math.nan
