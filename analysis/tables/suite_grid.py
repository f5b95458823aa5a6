"""The grid of a suite, and which of its cells hold most arms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.tables.arm_names import arm_name
from lib.study.suite import Suite


def plan_table(suite: Suite) -> pd.DataFrame:
    """The grid of a suite, one row per task, arm, source and number of seeds, with its volumes."""
    frame = pd.DataFrame(
        {
            "task": _task({**suite.run, **cell.run}, cell.task),
            "volume": cell.volume or "all",
            "arm": arm_name(cell.strategy, cell.options),
            "source": (cell.source or "") + (f" (seed {cell.source_seed})" if cell.source_seed is not None else ""),
            "seeds": len(cell.seeds),
        }
        for cell in suite.cells
    )
    per_arm = frame.groupby(["task", "arm", "source", "seeds"], sort=False).volume.agg(
        lambda each: ", ".join(map(str, each))
    )
    return per_arm.rename("volumes").reset_index()


def _task(run: Mapping[str, Any], task: str) -> str:
    """The task as `results.run_table` calls it: a network from elsewhere has tasks of its own."""
    return f"{task}@{run['model']}" if run.get("stage_map") else task


def largest_cells(table: pd.DataFrame) -> list[tuple[str, str]]:
    """For every task the volume with the most arms (the smaller of equals): (task, volume_label)."""
    best = _largest_first(table).drop_duplicates("task")
    return sorted(zip(best.task, best.volume_label, strict=True))


def largest_cell(table: pd.DataFrame) -> tuple[str, str]:
    """The task and volume with the most arms (of equals the smallest volume, then the first name); ("", "") if none."""
    ordered = _largest_first(table)
    return (str(ordered.task.iloc[0]), str(ordered.volume_label.iloc[0])) if len(ordered) else ("", "")


def _largest_first(table: pd.DataFrame) -> pd.DataFrame:
    counts = table.groupby(["task", "volume_label"], sort=False).agg(arms=("arm", "nunique"), volume=("volume", "min"))
    return counts.reset_index().sort_values(["arms", "volume", "task"], ascending=[False, True, True])


def smallest_volume(table: pd.DataFrame, task: str) -> str:
    """The label of a task's smallest volume."""
    rows = table[table.task == task]
    return str(rows.loc[rows.volume.astype("float64").idxmin(), "volume_label"])
