"""Train, validation and test images of a task, by group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.common.errors import StudyError
from lib.data.tasks.folds import assign_folds, shared_folds
from lib.data.tasks.task import get_task


@dataclass(frozen=True)
class Split:
    """Indices into `Data` of the training, validation and test images; no group is in two of them."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def split(
    name: str, groups: list[str], *, fold: int, volume: int | None, seed: int, folds: np.ndarray | None = None
) -> Split:
    """The split of a task: test images are those of `fold`, validation images those of the next, the rest train.

    Args:
        groups: group of each image; a group is never divided.
        volume: how many training images to keep, a choice by `seed` that is nested (20 are among the 50); None: all.
            In a reconstruction task it is the number of subjects, all of whose slices are kept.
        folds: the fold of each image where the data fix it (`Data.folds`); None: groups are dealt out.

    Raises:
        StudyError: no such fold, one without images, or fewer training images than asked for.
    """
    task = get_task(name)
    if not 0 <= fold < task.folds:
        raise StudyError(f"fold must be between 0 and {task.folds - 1} for task {name!r}, got {fold}")
    where = folds
    if where is None and task.people and task.kind == "real":
        where = shared_folds(groups, task.folds, task.people)
    elif where is None:
        where = assign_folds(groups, task.folds, task.people or name)
    test, val = (np.flatnonzero(where == each) for each in (fold, (fold + 1) % task.folds))
    train = np.flatnonzero((where != fold) & (where != (fold + 1) % task.folds))
    if not (len(test) and len(val) and len(train)):
        raise StudyError(f"every fold of {name!r} needs images, but their folds are {sorted(set(where.tolist()))}")
    if volume is not None:
        if volume < 1:
            raise StudyError(f"volume must be at least 1, got {volume}")
        by_subject = task.goal == "reconstruction"
        owner = np.array(groups)[train] if by_subject else train
        choice = np.unique(owner)
        if volume > len(choice):
            what = "subjects" if by_subject else "images"
            raise StudyError(f"volume must be at most {len(choice)}, the training {what} of {name!r}, got {volume}")
        chosen = choice[np.random.default_rng([seed, 0x501]).permutation(len(choice))[:volume]]
        train = train[np.isin(owner, chosen)] if by_subject else chosen
    return Split(train, val, test)
