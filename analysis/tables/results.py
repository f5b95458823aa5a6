"""Outcomes of runs as tidy tables: one row per run, per evaluation, per pair, per cell.

A *cell* is a task, an arm (a strategy with its options), a source and a volume; its replicates are seeds
(with folds). Where all seeds use one fold they share their test images, and the spread over them is that of
training alone. Where each has a fold of its own it is that of training and split; the training images of folds
overlap, so intervals over them are somewhat too narrow (Bengio and Grandvalet 2004).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.statistics.intervals import mean_interval
from analysis.tables.run_row import EVALUATION, IDENTITY, OUTCOMES, RECONSTRUCTION, SETTINGS, run_row
from lib.common.errors import StudyError
from lib.common.progress import counted
from lib.data.tasks.task import SCORE, get_task
from lib.runs.listing import current
from lib.runs.run import Run

LABEL_SCORES = ("dice", "hd95", "hd95_unit", "misses", "empty")
CELL = ["task", "volume_label", "arm", "source"]
_ABOUT, _MEASURED = [*IDENTITY, "status"], [*EVALUATION, "seconds", "lr"]  # of a run, and of each of its evaluations


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Results, one row per run, with the columns IDENTITY + SETTINGS + OUTCOMES.

    `source` is the task of the source run, and says its seed where that is not the run's own: such runs share one
    source and make a cell of their own. `volume` is the number of training images ("all" resolved; of subjects where
    the goal is reconstruction), `volume_label` what the spec says; `score` is the metric of the goal, Dice or PSNR;
    `budget` are the steps of the spec, `steps` those that were done; `status` is done, diverged or unfinished; what
    a run does not have is missing. A network from elsewhere has tasks of its own, "TASK@MODEL": no mean mixes two.

    Raises:
        StudyError: a run is damaged, or its data or source changed since; or a finished run on all images does not say
            how many they were.
    """
    return _run_table(map(run_row, current(runs, "reading results")))


def run_and_evaluation_tables(runs: Iterable[Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`run_table` and `evaluation_table` of the same runs, of which every file is read once for both.

    Raises:
        StudyError: see `run_table`.
    """
    rows, curves = [], []
    for run in current(runs, "reading results and learning curves"):
        rows.append(run_row(run))
        curves.append(_curve(run))
    return _run_table(rows), _evaluation_table(rows, curves)


def _run_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=IDENTITY + SETTINGS + OUTCOMES)
    whole = ["volume", "seed", "fold", "budget", "batch", "size", "width", "depth", "steps", "trainable"]
    whole += ["parameters", "misses", "empty", "images", "source_seed", "dim", "flat", *SETTINGS[-3:]]
    numbers = ["lr", "seconds", "dice", "hd95", "peak_mb", *RECONSTRUCTION, "zero_filled_psnr", "start_psnr"]
    numbers += ["foreground", "source_before", "source_after", "val_dice", "val_psnr", "score", "val_score"]
    frame = frame.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(numbers, "float64"))
    return frame.sort_values(["task", "volume", "strategy", "arm", "source", "lr", "fold", "seed"], ignore_index=True)


def named_labels(runs: Iterable[Run]) -> pd.DataFrame:
    """`label_table` of runs of which some task names its labels; empty where none does."""
    runs = list(runs)
    return label_table(runs if any(get_task(run.spec.task).labels for run in runs) else ())


def label_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Test scores by label, one row per finished run and label: IDENTITY, label, LABEL_SCORES.

    A label is a part that was judged, regions where the task states some; `hd95_unit` is `px` or `mm`.
    Of a task with one label that row says what `run_table` says. Reconstructions have no labels and no rows.
    """
    rows = []
    for run in runs:
        test = (run.result or {}).get("test") or {}
        if "dice" in test:
            row = run_row(run)
            named = test.get("labels") or {"foreground": test}
            for label, found in named.items():
                scores = {name: {**found, "hd95_unit": row["hd95_unit"]}[name] for name in LABEL_SCORES}
                rows.append({**{key: row[key] for key in IDENTITY}, "label": label, **scores})
    return pd.DataFrame(rows, columns=[*IDENTITY, "label", *LABEL_SCORES])


def evaluation_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Evaluations during training, one row each: IDENTITY, status, EVALUATION, seconds and lr."""
    rows, curves = [], []
    for run in counted(list(runs), "reading learning curves"):
        row = run_row(run)
        rows.append({name: row[name] for name in _ABOUT})
        curves.append(_curve(run))
    return _evaluation_table(rows, curves)


def _curve(run: Run) -> np.ndarray:
    """Evaluations of a run by what was measured, (evaluations, names), NaN for what was not."""
    score = f"val_{SCORE[run.spec.goal]}"
    names = [score if name == "val_score" else name for name in _MEASURED]
    values = [[each.get(name) for name in names] for each in run.metrics()]
    return np.array(values, dtype=np.float64).reshape(-1, len(names))


def _evaluation_table(rows: Sequence[Mapping[str, Any]], curves: Sequence[np.ndarray]) -> pd.DataFrame:
    """Of the rows of runs and their curves."""
    if not rows:
        return pd.DataFrame(columns=[*_ABOUT, *_MEASURED])
    counts = [len(curve) for curve in curves]
    told = {name: np.repeat(_column([row[name] for row in rows]), counts) for name in _ABOUT}
    whole = np.concatenate(curves)
    return pd.DataFrame({**told, **{name: whole[:, at] for at, name in enumerate(_MEASURED)}})


def _column(values: Sequence[Any]) -> np.ndarray:
    """Values of runs as an array: of whole numbers where all are, else as they are, None included."""
    return np.array(values, dtype=np.int64 if all(type(each) is int for each in values) else object)


def computed_on(frame: pd.DataFrame) -> list[str]:
    """The arithmetic and kind of device of finished runs, such as "float32 on cpu"."""
    rows = frame[frame.status != "unfinished"]
    kinds = rows.arithmetic + " on " + rows.device.str.extract(r"^(\w+)", expand=False).fillna("an unknown device")
    return sorted(set(kinds))


def with_own_source(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose source, if any, is that of their own seed: without the runs that share one source run.

    Those serve to tell apart the spread of sources and of trainings; among gains they would count one source twice.
    """
    return frame[frame.source_seed.isna() | (frame.source_seed == frame.seed)]


def finished_rows(frame: pd.DataFrame, *, every_rate: bool = False) -> pd.DataFrame:
    """The rows that ran to an end, done or diverged, at most one per cell and replicate, or one at each learning rate.

    Raises:
        StudyError: two runs stand for one cell, seed and fold (several learning rates, say): a mean over them would
            count a seed twice.
    """
    ended = frame[frame.status != "unfinished"]
    one = [*CELL, "seed", "fold", *(["lr"] if every_rate else [])]
    twice = ended[ended.duplicated(one, keep=False)]
    if len(twice):
        first = twice.iloc[0]
        same = twice[(twice[one] == first[one]).all(axis=1)]
        differ = [name for name in SETTINGS if same[name].nunique() > 1]
        raise StudyError(
            f"one run per cell and seed is needed; {first.task}, {first.volume_label} images, {first.arm}, "
            f"seed {first.seed} has {len(same)}, which differ in {', '.join(differ) or 'nothing in this table'}; "
            "pass the runs of one suite, as lib.study.finished_runs gives them"
        )
    return ended


def summary(frame: pd.DataFrame, metric: str = "score") -> pd.DataFrame:
    """One row per cell: mean of `metric` on test images with its 95 % t interval over replicates, and cost.

    Columns: CELL, title, kind, goal, strategy, volume, mean, low, high, seeds (done), diverged, seconds (mean),
    trainable.
    Diverged runs have no metric: they are counted, not averaged.
    """
    rows = []
    for key, cell in finished_rows(frame).groupby(CELL, sort=False):
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
