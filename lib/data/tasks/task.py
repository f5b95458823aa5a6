"""What a task is, and every task by its name: simulated, carded or scanned."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from lib.common import paths
from lib.common.errors import StudyError, nearest
from lib.common.registry import Registry
from lib.data.cards import all_cards, root_note
from lib.data.tasks import scans

FOLDS = 5
SCORE = {"segmentation": "dice", "reconstruction": "psnr"}  # by goal, what runs are selected and compared on


@dataclass(frozen=True)
class Task:
    """Something to be learned from images.

    Args:
        name: as specs call it. title: as figures call it. modality: what made the images.
        kind: `simulated` or `real`.
        folds: number of folds of groups.
        simulator, dials, images: for simulated tasks, what draws them, how it is set and how many there are.
        variant: one of many settings of a simulator; overviews leave it out.
        anatomy, contrast, direction: what a reconstruction task shows, and how it is sliced.
        goal: `segmentation`, or `reconstruction` of slices of 3-D volumes, whose groups are subjects.
        people: whose images these are; tasks of the same people have the same folds, so that a subject who is a test
            subject of one is never a training subject of another. Default: nobody else's.
        groups_known: whether it is known which images show one person.
        labels: what masks hold, where it is named: value 1 is the first of them, 0 background, 255 ignored. None: masks
            are binary. channels: of an image: 1, gray, or 3, red, green and blue.
    """

    name: str
    title: str
    kind: str
    modality: str
    folds: int = FOLDS
    simulator: str = ""
    dials: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    variant: bool = False
    goal: str = "segmentation"
    people: str = ""
    groups_known: bool = True
    labels: tuple[str, ...] = ()
    channels: int = 1
    anatomy: str = ""
    contrast: str = ""
    direction: str = ""

    @property
    def outputs(self) -> int:
        """Logits a pixel that a network gives: one where masks are binary, else background's and one a label."""
        if self.goal == "reconstruction":
            return 2  # real and imaginary part
        return 1 + len(self.labels) if self.labels else 1

    @property
    def inputs(self) -> int:
        """Channels of what a network is given."""
        return 2 if self.goal == "reconstruction" else self.channels


TASKS: Registry[Task] = Registry("task")


def get_task(name: str) -> Task:
    """The task of that name: an embedded one, or one that a card describes.

    Raises:
        StudyError: there is none; names the nearest.
    """
    if not isinstance(name, str) or name in TASKS:
        return TASKS[name]
    theirs = sorted(paths.data_root().glob("*/card.toml"))
    carded = _carded_tasks(tuple((str(file), file.stat().st_mtime_ns) for file in theirs))
    if name not in carded:
        raise StudyError(f"{nearest('task', name, [*TASKS, *carded])}; {root_note()}")
    return carded[name]


@functools.lru_cache(maxsize=4)
def _carded_tasks(theirs: tuple[tuple[str, int], ...]) -> dict[str, Task]:
    """Tasks of the real sets' cards; read again when a card of the user's own comes, goes or changes."""
    outlined = {
        card.name: Task(
            card.name,
            card.title,
            card.kind,
            card.modality,
            card.split.folds,
            people=card.split.people,
            groups_known=card.split.groups_known,
            labels=card.labels,
            channels=card.channels,
        )
        for card in all_cards().values()
        if card.kind == "real" and card.goal == "segmentation"
    }
    scanned = {
        name: Task(
            name, task.title, "real", "MRI", task.folds, goal="reconstruction", people=task.region,
            anatomy=task.region, contrast=task.contrast, direction=task.direction,
        )
        for name, task in scans.scan_tasks().items()
    }  # fmt: skip
    return outlined | scanned
