"""Reading of a user's volumes, and what is in them: geometry, values of masks, intensities; all faults at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common.errors import StudyError
from lib.data.preparation.own.pairing import Pair
from lib.imaging.grids import Grid, canonical, read_grid

FAR = 1e-3  # entries of the affine maps of an image and its mask, in millimeters, may differ by so much
ROUNDED = 1e-4  # how far from a whole number a value of a mask may be that is one
SAMPLED = 20_000_000  # foreground voxels of all volumes, at most, that intensities of CT are judged on
FEW = 5  # how many faults are told in full


@dataclass(frozen=True)
class Seen:
    """What was seen of a case: spacing of its canonical axes, what each mask holds, and intensities of foreground.

    `foreground` is (channels, n), evenly picked; n is 0 where nobody asks.
    """

    spacing: tuple[float, float, float]
    channels: int
    values: dict[Path, set[int]]
    foreground: np.ndarray


def read_case(case: Pair, channels: int) -> tuple[Grid, list[Grid]]:
    """The image of a case, its channels put together, and its masks (values as in the files), in the files' order.

    Args:
        channels: how many the image must have; 0 where nothing says so.

    Raises:
        StudyError: a file cannot be read, sizes or geometry differ, or a mask holds no whole numbers.
    """
    parts = [read_grid(file) for file in case.images]
    if len(parts) == 1 and len(parts[0].voxels) > 1 and not channels:
        raise StudyError(
            f"{case.image.name} has {len(parts[0].voxels)} volumes along a fourth axis: where these are channels, name "
            'them in a dataset.json ("channel_names"); of points in time, save the one that the mask belongs to'
        )
    if len(parts) > 1:
        for file, part in zip(case.images, parts, strict=True):
            if len(part.voxels) > 1:
                raise StudyError(f"{file.name} is one channel of several and must be 3-D, got {len(part.voxels)} in it")
    whole = parts[0]
    masks = [read_grid(file) for file in case.masks]
    for file, part in zip((*case.images, *case.masks), (*parts, *masks), strict=True):
        _agree(case.image, whole, file, part)
    labels = [_whole_numbers(file, mask) for file, mask in zip(case.masks, masks, strict=True)]
    image = Grid(np.concatenate([part.voxels.astype(np.float32) for part in parts]), whole.affine)
    if channels and len(image.voxels) != channels:
        raise StudyError(f"{case.image.name} has {len(image.voxels)} channels; the set has {channels}")
    if not image.voxels.any():
        raise StudyError(f"{case.image.name} holds nothing but zeros")
    return image, labels


def _whole_numbers(file: Path, mask: Grid) -> Grid:
    """A mask whose values are whole numbers; what scaling in the header leaves beside them is rounded."""
    if len(mask.voxels) > 1:
        raise StudyError(f"{file.name}: a mask must be 3-D, got {len(mask.voxels)} volumes along a fourth axis")
    if mask.voxels.dtype.kind != "f":
        return mask
    whole = np.rint(mask.voxels)
    odd = mask.voxels[np.abs(mask.voxels - whole) > ROUNDED]
    if odd.size:
        some = ", ".join(f"{value:.4g}" for value in odd[:3])
        raise StudyError(f"{file.name}: a mask must hold whole numbers, got {some}; was it interpolated or smoothed?")
    return Grid(whole.astype(np.int32), mask.affine)


def _agree(first: Path, one: Grid, second: Path, other: Grid) -> None:
    if one.shape != other.shape:
        raise StudyError(f"{first.name} has {_times(one.shape)} voxels and {second.name} {_times(other.shape)}")
    apart = np.abs(one.affine - other.affine)
    if apart.max() > FAR:
        row, column = np.unravel_index(apart.argmax(), apart.shape)
        what = "origins" if column == 3 else "axes"
        raise StudyError(
            f"{first.name} and {second.name} do not lie in one place: their {what} differ by {apart.max():.4g} mm "
            f"({one.affine[row, column]:.6g} and {other.affine[row, column]:.6g}); give both the header of the image"
        )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def survey(
    cases: Sequence[Pair],
    channels: int,
    inside: Callable[[np.ndarray], np.ndarray] | None,
    step: Callable[[int], None],
) -> list[Seen]:
    """What is in every case.

    Args:
        channels: see `read_case`; where it is 0, all cases have as many as the first.
        inside: which voxels of a mask are foreground, if intensities there are wanted.
        step: told how many cases are done.

    Raises:
        StudyError: some cases cannot be used; says why of the first few, and counts them.
    """
    seen, faults = [], []
    for done, case in enumerate(cases):
        step(done)
        try:
            image, masks = read_case(case, channels)
            if seen and len(image.voxels) != seen[0].channels:
                raise StudyError(
                    f"{case.image.name} has {len(image.voxels)} channels, {cases[0].image.name} {seen[0].channels}"
                )
            seen.append(_seen(case, image, masks, inside, SAMPLED // len(cases)))
        except StudyError as error:
            faults.append(str(error))
    if faults:
        more = f"\n  and {len(faults) - FEW} more" if len(faults) > FEW else ""
        lines = "".join(f"\n  {fault}" for fault in faults[:FEW])
        raise StudyError(f"{len(faults)} of {len(cases)} cases cannot be used:{lines}{more}")
    return seen


def _seen(
    case: Pair, image: Grid, masks: Sequence[Grid], inside: Callable[[np.ndarray], np.ndarray] | None, most: int
) -> Seen:
    values = {
        file: set(np.unique(mask.voxels).astype(int).tolist()) for file, mask in zip(case.masks, masks, strict=True)
    }
    picked = np.empty((len(image.voxels), 0), np.float32)
    if inside is not None:
        where = np.logical_or.reduce([inside(mask.voxels[0]) for mask in masks])
        picked = image.voxels[:, where]
        picked = picked[:, :: max(1, -(-picked.shape[1] // most))]
    return Seen(canonical(image).spacing, len(image.voxels), values, picked)
