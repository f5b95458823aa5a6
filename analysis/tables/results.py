"""Outcomes of runs as tidy tables: one row per run, per evaluation, per pair, per cell.

A *cell* is a task, an arm (a strategy with its options), a source and a volume; its replicates are seeds
(with folds). Where all seeds use one fold they share their test images, and the spread over them is that of
training alone. Where each has a fold of its own it is that of training and split; the training images of folds
overlap, so intervals over them are somewhat too narrow (Bengio and Grandvalet 2004).
"""

# pandas types every selection as "a table or a series", which no annotation can mend.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.rows import EVALUATION, IDENTITY, OUTCOMES, RECONSTRUCTION, SETTINGS, run_row
from analysis.stats import mean_interval
from lib.errors import StudyError
from lib.runs import Run
from lib.tasks import SCORE

PLATEAU_EVALUATIONS = 3
LEAST_PLATEAU = 0.05  # below this the scratch run has learned nothing, and fractions of it mean nothing

CELL = ["task", "volume_label", "arm", "source"]
PAIR = ["task", "volume_label", "seed", "fold"]


def table(runs: Iterable[Run]) -> pd.DataFrame:
    """Results, one row per run, with the columns IDENTITY + SETTINGS + OUTCOMES.

    `source` is the task of the source run, and says its seed where that is not the run's own: such runs share one
    source and make a cell of their own. `volume` is the number of training images ("all" resolved; of subjects where
    the goal is reconstruction), `volume_label` what the spec says; `score` is the metric of the goal, Dice or PSNR;
    `budget` are the steps of the spec, `steps` those that were done; `status` is done, diverged or unfinished; what
    a run does not have is missing.

    Raises:
        StudyError: a finished run on all images does not say how many they were.
    """
    frame = pd.DataFrame([run_row(run) for run in runs], columns=IDENTITY + SETTINGS + OUTCOMES)
    whole = ["volume", "seed", "fold", "budget", "batch", "size", "width", "depth", "steps", "trainable"]
    whole += ["parameters", "misses", "empty", "images", "source_seed"]
    numbers = ["lr", "seconds", "dice", "hd95", "peak_mb", *RECONSTRUCTION, "zero_filled_psnr", "start_psnr"]
    numbers += ["source_before", "source_after", "val_dice", "val_psnr", "score", "val_score"]
    frame = frame.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(numbers, "float64"))
    return frame.sort_values(["task", "volume", "strategy", "arm", "source", "lr", "fold", "seed"], ignore_index=True)


def curves(runs: Iterable[Run]) -> pd.DataFrame:
    """Evaluations during training, one row each: IDENTITY, status, EVALUATION, seconds and lr."""
    frames = []
    for run in runs:
        row = run_row(run)
        rows = pd.DataFrame(run.metrics()).reindex(columns=[*EVALUATION, "seconds", "lr"])
        rows["val_score"] = rows[f"val_{SCORE[run.spec.goal]}"]
        frames.append(rows.astype("float64").assign(**{key: row[key] for key in [*IDENTITY, "status"]}))
    columns = [*IDENTITY, "status", *EVALUATION, "seconds", "lr"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def own_source(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose source, if any, is that of their own seed: without the runs that share one source run.

    Those serve to tell apart the spread of sources and of trainings; among gains they would count one source twice.
    """
    return frame[frame.source_seed.isna() | (frame.source_seed == frame.seed)]


def finished(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that ran to an end, done or diverged, at most one per cell and replicate.

    Raises:
        StudyError: two runs stand for one cell, seed and fold (several learning rates, say): a mean over them would
            count a seed twice.
    """
    ended = frame[frame.status != "unfinished"]
    twice = ended[ended.duplicated([*CELL, "seed", "fold"], keep=False)]
    if len(twice):
        first = twice.iloc[0]
        same = twice[(twice[[*CELL, "seed", "fold"]] == first[[*CELL, "seed", "fold"]]).all(axis=1)]
        differ = [name for name in SETTINGS if same[name].nunique() > 1]
        raise StudyError(
            f"one run per cell and seed is needed; {first.task}, {first.volume_label} images, {first.arm}, "
            f"seed {first.seed} has {len(same)}, which differ in {', '.join(differ) or 'nothing in this table'}; "
            "pass the runs of one suite, as study.finished gives them"
        )
    return ended


def summary(frame: pd.DataFrame, metric: str = "score") -> pd.DataFrame:
    """One row per cell: mean of `metric` on test images with its 95 % t interval over replicates, and cost.

    Columns: CELL, title, kind, goal, strategy, volume, mean, low, high, seeds (done), diverged, seconds (mean),
    trainable.
    Diverged runs have no metric: they are counted, not averaged.
    """
    rows = []
    for key, cell in finished(frame).groupby(CELL, sort=False):
        done = cell[cell.status == "done"]
        interval = mean_interval(done[metric])
        rows.append(
            {
                **dict(zip(CELL, key, strict=True)),
                **{name: cell[name].iloc[0] for name in ("title", "kind", "goal", "strategy", "trainable")},
                "volume": float(cell.volume.mean()),
                "mean": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "seeds": interval.n,
                "diverged": len(cell) - len(done),
                "seconds": float(done.seconds.mean()),
            }
        )
    columns = [*CELL, "title", "kind", "goal", "strategy", "volume", "mean", "low", "high"]
    columns += ["seeds", "diverged", "seconds", "trainable"]
    return pd.DataFrame(rows, columns=columns)


def gain(frame: pd.DataFrame, strategy: str = "full_finetuning", reference: str = "scratch") -> pd.DataFrame:
    """Paired gain in test Dice, strategy - reference: one row per run of `strategy`.

    Pairs share task, volume, seed and fold.

    Columns: PAIR, title, kind, modality, arm, source, volume, reference_dice, dice, gain, status. `gain` is
    missing where status is not "done": the run diverged, or its reference diverged or was not run. Nothing
    is dropped.
    """
    ended = finished(frame)
    base = ended[ended.strategy == reference][[*PAIR, "dice", "status"]]
    keep = [*PAIR, "title", "kind", "modality", "arm", "source", "volume", "dice", "status"]
    merged = ended[ended.strategy == strategy][keep].merge(
        base.rename(columns={"dice": "reference_dice", "status": "reference_status"}),
        on=PAIR,
        how="left",
        validate="many_to_one",
    )
    own, other = merged.status, merged.pop("reference_status")
    merged["status"] = pair_status(own, other, reference)
    merged["gain"] = (merged.dice - merged.reference_dice).where(merged.status == "done")
    return merged


def pair_status(own: pd.Series, other: pd.Series, reference: str) -> np.ndarray:
    """What to say of pairs of finished runs: "done", or why there is no difference; `other` is missing without one."""
    return np.select(
        [own == "diverged", other.isna().to_numpy(), (other == "diverged").to_numpy()],
        ["diverged", f"no {reference} run", f"{reference} diverged"],
        "done",
    )


def difficulty(frame: pd.DataFrame) -> pd.DataFrame:
    """Difficulty of each task: 1 - mean test Dice of `scratch` on all training images.

    Fixed in advance, so that it does not depend on any transfer. Columns: task, title, kind, difficulty,
    seeds. Tasks without a finished scratch run on all images are not listed.
    """
    cells = summary(frame[frame.goal == "segmentation"], "dice")
    cells = cells[(cells.arm == "scratch") & (cells.volume_label == "all") & (cells.seeds > 0)]
    return cells.assign(difficulty=1 - cells["mean"])[["task", "title", "kind", "difficulty", "seeds"]].reset_index(
        drop=True
    )


def time_to_plateau(
    frame: pd.DataFrame,
    evaluations: pd.DataFrame,
    fractions: Sequence[float] = (0.90, 0.95, 0.99),
    reference: str = "scratch",
) -> pd.DataFrame:
    """When each run first comes up to a fraction of the plateau of `reference`: one row per run and fraction.

    The plateau is the mean validation Dice of the last three evaluations of the reference run of the same
    task, volume, seed and fold; where that has a source, pass the runs of one source. The time is where the
    straight lines between the run's evaluations first cross fraction * plateau; a run that is there at its
    first evaluation gets the step of that one, at least 1: the longest it can have taken. A later dip is not
    held against it, for transfer and reference alike.

    A run that never gets there, or diverges, is *censored*: `reached` is false and its steps are the budget
    of its spec, even where early stopping ended it before (it gave up, it was not faster); its seconds grow
    in proportion.

    Columns: PAIR, run_id, title, kind, strategy, arm, source, volume, fraction, plateau, steps, seconds,
    reached, status ("done", "diverged", or why there is no plateau, and then steps and seconds are
    missing).
    """
    ended = finished(frame)
    ordered = evaluations[np.isfinite(evaluations.val_dice.astype("float64"))].sort_values("step")
    by_run = {
        str(name): rows[["step", "seconds", "val_dice"]].to_numpy(dtype=np.float64).T
        for name, rows in ordered.groupby("run_id")
    }
    records = ended.to_dict("records")
    plateaus = {tuple(run[key] for key in PAIR): run for run in records if run["strategy"] == reference}
    described = [*PAIR, "run_id", "title", "kind", "strategy", "arm", "source", "volume"]
    rows = []
    for run in records:
        plateau, why = _plateau(plateaus.get(tuple(run[key] for key in PAIR)), by_run, reference)
        curve = by_run.get(run["run_id"], np.empty((3, 0)))
        for fraction in fractions:
            there = None if why or run["status"] == "diverged" else _first_reach(curve, fraction * plateau)
            steps, seconds = (math.nan, math.nan) if why else there or _budget(curve, run["budget"])
            measured = (fraction, plateau, steps, seconds, there is not None, why or run["status"])
            rows.append((*(run[key] for key in described), *measured))
    columns = [*described, "fraction", "plateau", "steps", "seconds", "reached", "status"]
    return pd.DataFrame(rows, columns=columns).astype({"reached": "bool"})


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
