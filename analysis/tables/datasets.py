"""Datasets at hand, and their folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.data.cards import all_cards
from lib.data.prepared_folder import labeled
from lib.data.tasks.images import load_data
from lib.data.tasks.scans import scan_files
from lib.data.tasks.splits import split
from lib.data.tasks.task import TASKS, get_task

FOLD_SIZE = {2: 64, 3: 32}  # sides by dimension: folds do not depend on it, and these are drawn for training anyway


def present_tasks() -> list[str]:
    """Names of the real sets, the project's and the user's, whose prepared folders lie in the data root."""
    return [card.name for card in all_cards().values() if card.kind == "real" and (card.path / "index.csv").is_file()]


def embedded_tasks() -> list[str]:
    """Names of the simulated sets, without the many variants of one."""
    return [name for name, task in TASKS.items() if not task.variant and task.goal == "segmentation"]


def dataset_table() -> pd.DataFrame:
    """One row per set: name, what it is, kind, dimensions, number of labels, licence, and whether it is at hand."""
    at_hand = present_tasks()
    return pd.DataFrame(
        {"set": card.name, "what": card.title, "kind": card.kind, "dimensions": card.dim}
        | {"labels": max(1, len(card.labels)) if card.goal == "segmentation" else 0, "licence": card.licence}
        | {"at hand": card.kind == "simulated" or card.name in at_hand or bool(scan_files(card))}
        for card in all_cards().values()
    )


def fold_table(tasks: Sequence[str]) -> pd.DataFrame:
    """One row per task: images, groups, images per split of each fold, mean foreground, and groups in two splits.

    Columns: task, kind, dimensions, labels (how many), images (in 3-D volumes), groups, train / val / test (fewest to
    most over the folds), foreground (mean share of the image, of all labels together), crossing (groups that stand in
    more than one split of a fold; must be 0).
    """
    rows = []
    for name in tasks:
        task = get_task(name)
        data = load_data(name, FOLD_SIZE[task.dim])
        groups = np.array(data.groups)
        splits = [
            split(name, data.groups, fold=fold, volume=None, seed=0, folds=data.folds) for fold in range(task.folds)
        ]
        sizes = {part: [len(getattr(each, part)) for each in splits] for part in ("train", "val", "test")}
        crossing = 0
        for each in splits:
            train, val, test = (set(groups[part]) for part in (each.train, each.val, each.test))
            crossing += len(train & val) + len(train & test) + len(val & test)
        row = {"task": name, "kind": task.kind, "dimensions": task.dim, "labels": max(1, len(task.labels))}
        row |= {"images": len(groups), "groups": len(set(groups))}
        row |= {part: _from_to(found) for part, found in sizes.items()}
        rows.append(
            row
            | {
                "foreground": round(int(labeled(data.masks).sum()) / data.masks.numel(), 3),
                "crossing": crossing,
            }
        )
    return pd.DataFrame(rows)


def _from_to(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
