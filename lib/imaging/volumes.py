"""Volumes of voxels in one orientation, slice directions, and slices on a square of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from lib.common.errors import StudyError, nearest
from lib.common.outside import read_bytes
from lib.imaging.grids import canonical, decoded

# Axes of a volume point to the right, to the front and up, as in a NIfTI file in RAS order.
DIRECTIONS = {"sagittal": 0, "coronal": 1, "axial": 2}
NEGATIVE = 0.05  # of the brightest voxels: what interpolation between voxels makes of a sharp edge


@dataclass(frozen=True)
class Volume:
    """Voxels float32 (right, front, up), and their distances along these axes in millimeters."""

    voxels: np.ndarray
    spacing: tuple[float, float, float]


def read_nifti(content: bytes, name: str) -> Volume:
    """A 3-D volume from the bytes of a NIfTI-1 file (.nii or .nii.gz), turned to the axes nearest to right, front, up.

    Raises:
        StudyError: see `lib.imaging.grids.decoded`; or the file holds more than one volume.
    """
    grid = canonical(decoded(content, name))
    if len(grid.voxels) != 1:
        raise StudyError(f"{name}: must hold one 3-D volume, got {len(grid.voxels)} of the shape {grid.shape}")
    return Volume(np.ascontiguousarray(grid.voxels[0], np.float32), grid.spacing)


def read_volume(file: Path) -> Volume:
    """The volume in a file; see `read_nifti`.

    Raises:
        StudyError: the file is missing or not readable as such a volume.
    """
    return read_nifti(read_bytes(file), str(file))


def slices_along(volume: np.ndarray, direction: str) -> np.ndarray:
    """All slices (n, h, w) of a volume in RAS order, from the left, back or bottom, a view.

    Rows run from top to bottom, or from front to back in an axial slice; columns from left to right, or from back to
    front in a sagittal one.

    Raises:
        StudyError: no such direction; names the nearest.
    """
    if direction not in DIRECTIONS:
        raise StudyError(nearest("slice direction", direction, DIRECTIONS))
    planes = np.moveaxis(volume, DIRECTIONS[direction], 0)
    return planes.transpose(0, 2, 1)[:, ::-1]


def square_slices(volume: Volume, direction: str, size: int, count: int) -> tuple[np.ndarray, list[int]]:
    """At most `count` slices float32 (n, size, size) in [0, 1], evenly spread over those that show much; their numbers.

    1 is the 99.9th percentile of the volume; brighter voxels are clipped. A slice shows much if at least 15 % of the
    square is brighter than 0.1. Slices are padded to a square in millimeters and averaged down, or interpolated up.

    Raises:
        StudyError: the volume holds negative values that are no rounding (z-scores, CT), or shows much in no slice.
    """
    low, high = (float(np.percentile(volume.voxels, each)) for each in (0.1, 99.9))
    if high <= 0 or low < -NEGATIVE * high:
        raise StudyError(
            f"values must be magnitudes from 0 (99.8 % of them lie between {low:.3g} and {high:.3g}); negative ones "
            "would be cut off: take the volume before it was normalized, or shift it so that air is 0"
        )
    planes = np.clip(slices_along(volume.voxels, direction) / max(high, 1e-6), 0, 1)
    across = [spacing for axis, spacing in enumerate(volume.spacing) if axis != DIRECTIONS[direction]]
    height, width = planes.shape[1] * across[1], planes.shape[2] * across[0]
    side = max(height, width)
    rows, columns = (max(1, round(size * length / side)) for length in (height, width))
    small = F.interpolate(
        torch.from_numpy(planes.copy())[:, None], (rows, columns), mode="bilinear", antialias=True, align_corners=False
    )[:, 0].numpy()
    top, left = (size - rows) // 2, (size - columns) // 2
    square = np.pad(small, ((0, 0), (top, size - rows - top), (left, size - columns - left)))
    shown = np.flatnonzero((square > 0.1).mean(axis=(1, 2)) >= 0.15)
    chosen = shown[np.unique(np.round(np.linspace(0, len(shown) - 1, min(count, len(shown)))).astype(int))]
    if not len(chosen):
        share = float((square > 0.1).mean(axis=(1, 2)).max())
        raise StudyError(
            f"no {direction} slice shows anything in 15 % of its square ({share:.0%} at most): either a few voxels are "
            f"far brighter than all others (the 99.9th percentile is {high:.3g}, the median "
            f"{float(np.median(volume.voxels)):.3g}), or the field of view is too large; clip or crop the volume, or "
            "leave it out of the card"
        )
    return np.ascontiguousarray(square[chosen], np.float32), chosen.tolist()
