"""What a task is, and every task by its name: simulated, carded or scanned."""

from __future__ import annotations

import functools
import math
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
        dim: 2, or 3 where images are volumes; then `spacing` is that of voxels in millimeters and `shape` the median
            number of voxels along each axis, both none where volumes are drawn at any size.
        regions: parts made of labels, by name, which are learned and judged in their place.
        labels: what masks hold, where it is named: value 1 is the first of them, 0 background, 255 ignored. None: masks
            are binary. channels: of an image: 1, gray, or 3, red, green and blue; of volumes, whatever they were
            imaged by.
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
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dim: int = 2
    spacing: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
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
    def parts(self) -> dict[str, tuple[int, ...]]:
        """What is learned and judged, by name: the values of a mask that make it up; regions, else labels by number."""
        return self.regions or {name: (number,) for number, name in enumerate(self.labels, start=1)}

    @property
    def widest(self) -> int:
        """The axis along which voxels lie farthest apart; the last where several do."""
        return max(range(3), key=lambda axis: (round(self.spacing[axis], 3), axis)) if self.spacing else 2

    @property
    def flat(self) -> int:
        """How often the resolution must be halved across the widest axis until voxels are about as long as wide.

        Kernels and pooling of these levels leave that axis alone, as in nnU-Net (Isensee et al., Nat Methods 18, 2021).
        """
        if not self.spacing:
            return 0
        ratio = self.spacing[self.widest] / min(self.spacing)
        return max(0, int(math.log2(ratio) + 1e-6))

    def patch(self, size: int) -> tuple[int, int, int]:
        """Voxels of what a network sees of a volume, its widest axis last: as many as a cube of `size` has, at most.

        Of the proportions of the median volume and no larger than that, in steps of 8 voxels, or 2 along a wide axis.
        """
        shape = list(self.shape or (size,) * 3)
        shape[self.widest], shape[2] = shape[2], shape[self.widest]
        steps = (8, 8, 2 if self.flat else 8)
        sides = [float(side) for side in shape]
        for _ in range(3):  # a side that is short already gives its share to the others
            free = [axis for axis in range(3) if sides[axis] > steps[axis]]
            excess = math.prod(sides) / size**3
            if excess <= 1 or not free:
                break
            for axis in free:
                sides[axis] = max(steps[axis], sides[axis] / excess ** (1 / len(free)))
        fits = math.prod(shape) <= size**3
        sides = [(math.ceil if fits else round)(side / step) * step for side, step in zip(sides, steps, strict=True)]
        x, y, z = (int(max(side, step)) for side, step in zip(sides, steps, strict=True))
        return x, y, z

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
            regions={region.name: region.labels for region in card.regions},
            dim=card.dim,
            spacing=card.spacing,
            shape=card.shape,
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
