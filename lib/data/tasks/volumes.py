"""The volumes of a task: one after another in memory, windows cut out of them, and what their masks were drawn on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lib.data.cards import find_card
from lib.data.prepared_folder import IGNORED
from lib.data.prepared_volumes import VolumeIndex, original_mask, prepared_volume
from lib.data.tasks.room import placed, room
from lib.data.tasks.task import Task
from lib.imaging.grids import Grid, aligned, covered

KEPT = 4096  # voxels of every label of a volume that windows may be laid around


@dataclass(frozen=True)
class VolumeData:
    """The volumes of a task, of any sizes, with the group of each; axes are right, front, up, the widest one last.

    Args:
        images: float32 (c, voxels): all volumes one after another, each in C order, as networks are given them.
        masks: uint8 (voxels,), 0, labels, and 255 where a voxel is ignored.
        shapes: int64 (n, 3), of each volume. firsts: int64 (n,), where it begins.
        affines: (n, 4, 4), from a volume's indices, axes right, front, up, to millimeters; None: drawn, not imaged.
        widest: the axis that is last here, of right, front and up.
        around: int64 (n, parts, KEPT), voxels of each part, counted within the volume; -1 where it has none.
        index: of the prepared folder; None where volumes are drawn.
    """

    images: Tensor
    masks: Tensor
    shapes: np.ndarray
    firsts: np.ndarray
    ids: list[str]
    groups: list[str]
    digest: str
    widest: int
    around: np.ndarray
    affines: np.ndarray | None = None
    index: VolumeIndex | None = None
    folds: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    _copies: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def flip(self) -> int:
        """The axis that goes from left to right."""
        return 2 if self.widest == 0 else 0

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """All images and masks on a device, copied there once; as they lie here where its memory is short of that."""
        return placed(self.images, self.masks, device, self._copies)

    def image(self, place: int) -> Tensor:
        """One volume, float32 (c, x, y, z)."""
        return self._one(self.images, place)

    def mask(self, place: int) -> Tensor:
        """The mask of one volume, uint8 (x, y, z)."""
        return self._one(self.masks, place)

    def _one(self, kept: Tensor, place: int) -> Tensor:
        first, shape = int(self.firsts[place]), self.shapes[place].tolist()
        return kept[..., first : first + math.prod(shape)].unflatten(-1, shape)

    def as_drawn(self, place: int, scores: Tensor) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
        """The mask that scores stand for, and the one that was drawn, at the voxels of the latter, and their spacing.

        Scores are interpolated linearly, and beyond the volume that was prepared there is background.

        Args:
            scores: float32 (k, x, y, z) at the voxels of the volume: of background and each label, or of one label,
                where more than 0 is foreground.

        Returns:
            Two masks, uint8, axes right, front, up, and millimeters along these; 1 where volumes are not imaged.
        """
        values = _swapped(scores.float().cpu().numpy(), self.widest)
        if self.index is None or self.affines is None:
            return _highest(values), _swapped(self.mask(place).numpy(), self.widest), (1.0, 1.0, 1.0)
        drawn, affine = original_mask(self.index, place), self.affines[place]
        there = (aligned(Grid(each[None], affine), drawn.affine, drawn.shape, order=1)[0] for each in values)
        beyond = ~covered(Grid(values[:1], affine), drawn)
        found = _highest(there)
        found[beyond] = 0
        return found, drawn.voxels[0], drawn.spacing


def _highest(scores: Iterable[np.ndarray]) -> np.ndarray:
    """The number of the highest of several scores at each voxel, or of a single one whether it is more than 0."""
    best, mask = np.zeros(0), np.zeros(0, np.uint8)
    for number, score in enumerate(scores):
        if number == 0:
            best, mask = score.copy(), np.zeros(score.shape, np.uint8)
        else:
            mask[score > best] = number
            np.maximum(best, score, out=best)
    return mask if number else (best > 0).astype(np.uint8)


def _swapped(values: np.ndarray, widest: int) -> np.ndarray:
    """With the widest and the last of three axes, the last ones of an array, exchanged."""
    return np.swapaxes(values, values.ndim - 3 + widest, values.ndim - 1)


def windows_at(kept: Tensor, firsts: Tensor, shapes: Tensor, starts: Tensor, patch: Sequence[int]) -> Tensor:
    """Windows of volumes that lie one after another; 0 where a window reaches beyond its volume.

    Args:
        kept: (c, voxels) or (voxels,). firsts (n,), shapes (n, 3), starts (n, 3): int64, of the volume of each window
            and of the window in it. patch: voxels along each axis.

    Returns:
        (n, c, *patch) or (n, *patch).
    """
    inside, index = _places(starts, shapes, firsts, patch)
    found = kept[..., index] * inside
    return found.movedim(1, 0) if kept.ndim == 2 else found


def _places(starts: Tensor, shapes: Tensor, firsts: Tensor, patch: Sequence[int]) -> tuple[Tensor, Tensor]:
    inside: Tensor | None = None
    index = firsts.view(-1, 1, 1, 1)
    for axis, side in enumerate(patch):
        line = torch.arange(side, device=starts.device) + starts[:, axis : axis + 1]  # (n, side)
        within = (line >= 0) & (line < shapes[:, axis : axis + 1])
        step = shapes[:, axis + 1 :].prod(1, keepdim=True)
        view = [-1, 1, 1, 1]
        view[axis + 1] = side
        index = index + (line.clamp_min(0).minimum(shapes[:, axis : axis + 1] - 1) * step).view(view)
        inside = within.view(view) if inside is None else inside & within.view(view)
    assert inside is not None
    return inside, index


def middle_windows(data: VolumeData, index: np.ndarray, patch: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Of each volume at `index` the window in the middle of what is labeled in it, with its mask, to look at.

    Returns:
        images float32 (n, c, *patch) and masks uint8 (n, *patch), axes as in `VolumeData`.
    """
    middles = []
    for place in index:
        shape, voxels = data.shapes[place], data.around[place]
        voxels = voxels[voxels >= 0]
        middle = np.mean(np.unravel_index(voxels, shape), axis=1) if len(voxels) else shape / 2
        middles.append(start_of(middle, shape, patch))
    starts, firsts, shapes = (
        torch.from_numpy(np.array(each)) for each in (middles, data.firsts[index], data.shapes[index])
    )
    images, masks = (windows_at(kept, firsts, shapes, starts, patch) for kept in (data.images, data.masks))
    return images, masks


def start_of(middle: np.ndarray, shape: np.ndarray, patch: Sequence[int]) -> np.ndarray:
    """Where a window around a voxel begins, so that it stays in the volume; a shorter side lies in its middle."""
    sides = np.array(patch)
    room_left = shape - sides
    inside = np.clip(np.round(np.asarray(middle) - sides / 2).astype(np.int64), 0, np.maximum(room_left, 0))
    return np.where(room_left < 0, -(-room_left // 2), inside)


def read_volumes(task: Task, digest: str) -> VolumeData:
    """The volumes of a prepared folder.

    Raises:
        StudyError: see `VolumeIndex.of`, `prepared_volume` and `room`.
    """
    index = VolumeIndex.of(find_card(task.name))
    shapes = _swapped_shapes(np.array(index.shapes), task.widest)
    firsts = np.concatenate([[0], np.cumsum(shapes.prod(1))])
    images = room((task.channels, int(firsts[-1])), np.float32)
    masks = room((int(firsts[-1]),), np.uint8)
    affines = []
    for place in range(len(index.ids)):
        image, mask = prepared_volume(index, place)
        part = slice(firsts[place], firsts[place + 1])
        images[:, part] = _swapped(image.voxels, task.widest).reshape(task.channels, -1)
        masks[part] = _swapped(mask, task.widest).reshape(-1)
        affines.append(image.affine)
    empty = sum(not _filled(masks[firsts[at] : firsts[at + 1]]) for at in range(len(index.ids)))
    notes = (f"{task.name}: {empty} of {len(index.ids)} masks have no label",) if empty else ()
    return VolumeData(
        torch.from_numpy(images), torch.from_numpy(masks), shapes, firsts[:-1], index.ids, index.groups, digest,
        task.widest, _around(task, masks, firsts), np.stack(affines), index, notes=notes,
    )  # fmt: skip


def drawn_volumes(task: Task, images: np.ndarray, masks: np.ndarray, digest: str) -> VolumeData:
    """Simulated volumes, uint8 (n, s, s, s), each at mean 0 and standard deviation 1, as prepared ones are."""
    count, shape = len(images), images.shape[1:]
    flat = images.reshape(count, -1).astype(np.float32)
    flat = (flat - flat.mean(1, keepdims=True)) / np.maximum(flat.std(1, keepdims=True), 1e-3)
    firsts = np.arange(count + 1) * math.prod(shape)
    names = [f"{index:02d}" for index in range(count)]
    return VolumeData(
        torch.from_numpy(flat.reshape(1, -1)), torch.from_numpy(masks.reshape(-1)), np.tile(shape, (count, 1)),
        firsts[:-1], names, names, digest, 2, _around(task, masks.reshape(-1), firsts),
    )  # fmt: skip


def _swapped_shapes(shapes: np.ndarray, widest: int) -> np.ndarray:
    shapes = shapes.copy()
    shapes[:, [widest, 2]] = shapes[:, [2, widest]]
    return shapes


def _filled(mask: np.ndarray) -> bool:
    return bool(((mask > 0) & (mask < IGNORED)).any())


def _around(task: Task, masks: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """Voxels of every part of every volume, evenly among them, as `VolumeData.around` holds them."""
    parts = task.parts or {"foreground": (1,)}
    found = np.full((len(firsts) - 1, len(parts), KEPT), -1, np.int64)
    for place in range(len(found)):
        mask = masks[firsts[place] : firsts[place + 1]]
        for at, values in enumerate(parts.values()):
            voxels = np.flatnonzero(np.isin(mask, values))
            if len(voxels):
                found[place, at] = voxels[np.linspace(0, len(voxels) - 1, KEPT).astype(np.int64)]
    return found
