"""Learning rates that were tried, and which one each seed of a cell chose."""

from __future__ import annotations

import pandas as pd

from analysis.tables.results import run_table
from lib.study.plan import chosen_runs, runs_at_all_rates
from lib.study.suite import Suite


def rate_table(suite: Suite) -> pd.DataFrame:
    """Finished runs of a suite but sources, a row per cell, seed and rate: the columns of `run_table`, and `chosen`.

    `lr` is the rate, `val_score` decided between the rates of a seed, `score` is on its test images, which took no
    part. `chosen` is true for the run that counts for its seed; a seed whose runs are not all finished has chosen none.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    return with_chosen(suite, run_table(runs_at_all_rates(suite, goal=None)))


def with_chosen(suite: Suite, table: pd.DataFrame) -> pd.DataFrame:
    """A table of runs of a suite with the column `chosen` of `rate_table`."""
    return table.assign(chosen=table.run_id.isin(chosen_runs(suite)))
