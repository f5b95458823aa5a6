"""Filters of many runs as tables for figures: how far they moved, by stage and step, and between seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import pandas as pd

from analysis.claims.per_run_test import SPATIAL, once_per_run
from analysis.filters.change import filter_change_of_run, filter_change_over_training
from analysis.filters.kernels import geometry_of_run
from analysis.filters.matching import matched
from analysis.statistics.intervals import mean_interval
from analysis.tables.results import run_table, with_own_source
from lib.common.errors import StudyError
from lib.runs.run import Run

ABOUT = ["run_id", "task", "title", "kind", "goal", "arm", "source", "volume", "volume_label", "seed", "fold", "lr"]
COSINES = ["task", "volume_label", "arm", "source", "lr", "mean", "low", "high", "seeds"]


def runs_of_arms(runs: Iterable[Run], task: str, volume_label: str, arms: Sequence[str]) -> list[Run]:
    """Runs of some arms that were trained to their end on a task and volume; none that shares another seed's source."""
    runs = list(runs)
    rows = with_own_source(run_table(runs))
    rows = rows[(rows.task == task) & (rows.volume_label == volume_label) & rows.arm.isin(arms)]
    wanted = set(rows[rows.status == "done"].run_id)
    return [run for run in runs if run.path.name in wanted]


def change_table(runs: Sequence[Run], *, trajectory: bool = False) -> pd.DataFrame:
    """How far convolutions moved, one row per run and stage (and step): `change.filter_change` and what the run is.

    Upsampling and pointwise layers are left out, as a stage should stand for filters of one shape.

    Args:
        trajectory: every checkpoint after the first, of the runs that have any between the first and the last.
    """
    used = [run for run in runs if not trajectory or len(run.steps()) > 2]
    if not used:
        return pd.DataFrame(columns=[*ABOUT, "stage", "step"])
    measured = [
        filter_change_over_training(run, by="stage") if trajectory else filter_change_of_run(run, by="stage")
        for run in used
    ]
    table = pd.concat(measured, ignore_index=True)
    identity = run_table(used)[ABOUT]  # whose `kind` says whether the data are simulated, not what a layer is
    return table[table["kind"] == "convolution"].drop(columns="kind").merge(identity, on="run_id")


@once_per_run
def median_cosine(run: Run) -> float:
    """Median over the filters with kernels of the cosine between the start and the end of a run."""
    table = filter_change_of_run(run, by="filter")
    return float(table[table.kind.isin(SPATIAL)].cosine.median())


def cosine_by_rate(runs: Iterable[Run]) -> pd.DataFrame:
    """The median filter's cosine, which claim K4 is about, at every learning rate: a row per cell and rate.

    Args:
        runs: finished ones at all rates, as `lib.study.runs_at_all_rates` gives them; diverged ones are left out.

    Returns:
        task, volume_label, arm, source, lr, the mean over seeds with its 95 % t interval (mean, low, high), and seeds.
    """
    by_name = {run.path.name: run for run in runs}
    table = with_own_source(run_table(by_name.values()))
    table = table[table.status == "done"]
    rows = []
    for key, own in table.groupby(COSINES[:5], sort=False):
        found = mean_interval([median_cosine(by_name[name]) for name in own.run_id])
        rows.append([*key, found.estimate, found.low, found.high, found.n])
    return pd.DataFrame(rows, columns=COSINES)


def matched_between_seeds(runs: Sequence[Run], *, draws: int = 19) -> pd.DataFrame:
    """Filters of two seeds of one arm matched one to one at the end of training: a row per pair and layer.

    Columns of `matching.matched`, and arm, seeds ("0 and 1").

    Raises:
        StudyError: the runs are of different arms.
    """
    arms = set(run_table(list(runs)).arm)
    if len(arms) > 1:
        raise StudyError(f"filters are matched between seeds of one arm, got {', '.join(sorted(arms))}")
    found = []
    for first, second in combinations(sorted(runs, key=lambda run: run.spec.seed), 2):
        table = matched(first.weights(), second.weights(), model=geometry_of_run(first), draws=draws)
        found.append(table.assign(arm=min(arms), seeds=f"{first.spec.seed} and {second.spec.seed}"))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
