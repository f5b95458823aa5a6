"""What there is: sets at hand and their folds, the plan of a suite, and which of its cells say most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.arms import arm_name
from lib import manifests
from lib.scans import scan_files
from lib.suites import Suite
from lib.tasks import TASKS, get_task, load, split

FOLD_SIZE = 64  # pixels a side: folds do not depend on it, and this size is drawn for training anyway


def present_tasks() -> list[str]:
    """Names of the real sets, the project's and the user's, whose prepared folders lie in the data root."""
    return [
        card.name for card in manifests.cards().values() if card.kind == "real" and (card.path / "index.csv").is_file()
    ]


def embedded_tasks() -> list[str]:
    """Names of the simulated sets, without the many variants of one."""
    return [name for name, task in TASKS.items() if not task.variant and task.goal == "segmentation"]


def set_table() -> pd.DataFrame:
    """One row per set: name, what it is, kind, licence, and whether it is at hand."""
    at_hand = present_tasks()
    return pd.DataFrame(
        {"set": card.name, "what": card.title, "kind": card.kind, "licence": card.licence}
        | {"at hand": card.kind == "simulated" or card.name in at_hand or bool(scan_files(card))}
        for card in manifests.cards().values()
    )


def fold_table(tasks: Sequence[str]) -> pd.DataFrame:
    """One row per task: images, groups, images per split of each fold, mean foreground, and groups in two splits.

    Columns: task, kind, images, groups, train / val / test (fewest to most over the folds), foreground (mean share of
    the image), crossing (groups that stand in more than one split of a fold; must be 0).
    """
    rows = []
    for name in tasks:
        data = load(name, FOLD_SIZE)
        groups = np.array(data.groups)
        splits = [
            split(name, data.groups, fold=fold, volume=None, seed=0, folds=data.folds)
            for fold in range(get_task(name).folds)
        ]
        sizes = {part: [len(getattr(each, part)) for each in splits] for part in ("train", "val", "test")}
        crossing = 0
        for each in splits:
            train, val, test = (set(groups[part]) for part in (each.train, each.val, each.test))
            crossing += len(train & val) + len(train & test) + len(val & test)
        row = {"task": name, "kind": get_task(name).kind, "images": len(groups), "groups": len(set(groups))}
        row |= {part: _from_to(found) for part, found in sizes.items()}
        rows.append(row | {"foreground": round(float(data.masks.float().mean()), 3), "crossing": crossing})
    return pd.DataFrame(rows)


def _from_to(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def plan_table(suite: Suite) -> pd.DataFrame:
    """The grid of a suite, one row per task, arm, source and number of seeds, with its volumes."""
    frame = pd.DataFrame(
        {
            "task": cell.task,
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


def densest_cells(table: pd.DataFrame) -> list[tuple[str, str]]:
    """For every task the volume with the most arms (the smaller of equals): (task, volume_label)."""
    best = _densest_first(table).drop_duplicates("task")
    return sorted(zip(best.task, best.volume_label, strict=True))


def fullest_cell(table: pd.DataFrame) -> tuple[str, str]:
    """The task and volume with the most arms (of equals the smallest volume, then the first name); ("", "") if none."""
    ordered = _densest_first(table)
    return (str(ordered.task.iloc[0]), str(ordered.volume_label.iloc[0])) if len(ordered) else ("", "")


def _densest_first(table: pd.DataFrame) -> pd.DataFrame:
    counts = table.groupby(["task", "volume_label"], sort=False).agg(arms=("arm", "nunique"), volume=("volume", "min"))
    return counts.reset_index().sort_values(["arms", "volume", "task"], ascending=[False, True, True])


def smallest_volume(table: pd.DataFrame, task: str) -> str:
    """The label of a task's smallest volume."""
    rows = table[table.task == task]
    return str(rows.loc[rows.volume.astype("float64").idxmin(), "volume_label"])
