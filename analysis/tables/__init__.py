"""Finished runs, datasets and recorded measurements as tidy tables, one row per thing.

Read `run_row` (one run as one row; `arm_names` says what its arm is called), `results` (all runs, all evaluations),
`paired_gains` and `convergence`, `learning_rates` (what was tried and chosen), then `suite_grid`, `datasets` and
`recorded_measurements`; `readable` shows a table as readers see it.
"""

from __future__ import annotations

from analysis.tables.convergence import time_to_plateau
from analysis.tables.learning_rates import rate_table
from analysis.tables.paired_gains import difficulty, gain
from analysis.tables.readable import shown
from analysis.tables.recorded_measurements import read_record
from analysis.tables.results import (
    evaluation_table,
    finished_rows,
    label_table,
    run_and_evaluation_tables,
    run_table,
    summary,
    with_own_source,
)

__all__ = [
    "difficulty", "evaluation_table", "finished_rows", "gain", "label_table", "rate_table", "read_record",
    "run_and_evaluation_tables", "run_table", "shown", "summary", "time_to_plateau", "with_own_source",
]  # fmt: skip
