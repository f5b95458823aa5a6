"""Test of K5: can a classifier tell trained filters from fresh ones?"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.claims.per_run_test import BOTH, SPATIAL, Measure, once_per_run, per_task
from analysis.claims.verdicts import TESTS, Claim, ClaimTest, Finding, Runs
from analysis.filters.kernels import geometry_of_run
from analysis.filters.randomness.battery import battery
from analysis.tables.results import finished_rows
from lib.runs.run import Run


@once_per_run
def classifier_auc(run: Run, step: int | None = None) -> float:
    """Mean over the filters with kernels of their layer's AUC against fresh filters; at the last checkpoint or `step`.

    0.5 is a guess. Layers with fewer than five filters have none and are left out.
    """
    table = battery(run.weights(step), names=["classifier"], model=geometry_of_run(run), draws=19)
    table = table[table.kind.isin(SPATIAL) & table.statistic.notna()]
    return float(np.average(table.statistic, weights=table.filters)) if len(table) else math.nan


def look_random(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per task: how well a classifier tells trained filters from fresh ones, below the threshold for both starts (K5).

    The note says what the same classifier makes of the random start of `scratch`, which must be near 0.5.
    """

    def beside(task: str) -> str:
        rows = finished_rows(frame, every_rate=True)
        rows = rows[(rows.task == task) & (rows.arm == "scratch")]
        starts = [classifier_auc(runs[name], 0) for name in rows.run_id if name in runs]
        return f"random start: {np.nanmean(starts):.2f}" if starts and np.isfinite(starts).any() else ""

    measure = Measure("", classifier_auc, claim.value("auc"), False, "AUC")
    return per_task(claim, frame, runs, BOTH, [measure], beside)


TESTS.add("look_random", ClaimTest(look_random, ("auc",), compares=False, every_rate=True, strategies=BOTH))
