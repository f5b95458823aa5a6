"""Volumes of voxels: NIfTI files in one orientation, slice directions, and slices on a square of pixels."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from lib.common.errors import StudyError, nearest

# Axes of a volume point to the right, to the front and up, as in a NIfTI file in RAS order.
DIRECTIONS = {"sagittal": 0, "coronal": 1, "axial": 2}
NEGATIVE = 0.05  # of the brightest voxels: what interpolation between voxels makes of a sharp edge
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}  # by NIfTI code


@dataclass(frozen=True)
class Volume:
    """Voxels float32 (right, front, up), and their distances along these axes in millimeters."""

    voxels: np.ndarray
    spacing: tuple[float, float, float]


def read_nifti(content: bytes, name: str) -> Volume:
    """A 3-D volume from the bytes of a NIfTI-1 file (.nii or .nii.gz), turned to the axes nearest to right, front, up.

    Values are scaled as the header says. Written out here because it is little, so that training needs no further
    package; the tests plant every orientation.

    Raises:
        StudyError: not a NIfTI-1 file, cut short, not 3-D, without possible geometry, or of values that are not finite
            or not known numbers.
    """
    try:
        data = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{name}: damaged ({error})") from error
    order = next((mark for mark in "<>" if len(data) >= 352 and struct.unpack(mark + "i", data[:4])[0] == 348), None)
    if order is None or data[344:348] != b"n+1\0":
        raise StudyError(f"{name}: not a single-file NIfTI-1 volume")
    shape = struct.unpack(order + "8h", data[40:56])
    code = struct.unpack(order + "h", data[70:72])[0]
    offset, slope, shift = struct.unpack(order + "3f", data[108:120])
    if shape[0] < 3 or any(length != 1 for length in shape[4 : shape[0] + 1]) or min(shape[1:4]) < 1:
        raise StudyError(f"{name}: must hold one 3-D volume, got the shape {shape[1 : shape[0] + 1]}")
    if code not in _TYPES:
        raise StudyError(f"{name}: numbers of NIfTI type {code} are not read; known: {sorted(_TYPES)}")
    count = int(np.prod(shape[1:4]))
    if len(data) < offset + count * np.dtype(_TYPES[code]).itemsize:
        raise StudyError(f"{name}: cut short, {count} voxels do not fit into its {len(data)} bytes")
    voxels = np.frombuffer(data, order + _TYPES[code], count, int(offset)).reshape(shape[1:4], order="F")
    voxels = voxels.astype(np.float32)
    if np.isfinite(slope) and slope not in (0, 1):
        voxels *= np.float32(slope)
    if np.isfinite(shift) and np.isfinite(slope) and slope and shift:
        voxels += np.float32(shift)
    if not np.isfinite(voxels).all():
        raise StudyError(f"{name}: holds values that are not finite")
    return _canonical(voxels, _affine(data, order, name))


def _affine(data: bytes, order: str, name: str) -> np.ndarray:
    """Columns: how far in millimeters a step along each array axis goes to the right, to the front and up.

    The header may say so in three ways; the first that is possible counts.

    Raises:
        StudyError: none is: zeros, NaN, or axes that coincide.
    """
    qform, sform = struct.unpack(order + "2h", data[252:256])
    steps = np.array(struct.unpack(order + "8f", data[76:108]), np.float64)
    found = [np.diag(np.abs(steps[1:4]))]
    if qform > 0:
        found.insert(0, _quaternion(struct.unpack(order + "3f", data[256:268]), steps))
    if sform > 0:
        found.insert(0, np.array(struct.unpack(order + "12f", data[280:328]), np.float64).reshape(3, 4)[:, :3])
    for affine in found:
        if np.isfinite(affine).all():
            spacing = np.linalg.norm(affine, axis=0)
            if spacing.min() > 0 and abs(np.linalg.det(affine / spacing)) > 0.01:
                return affine
    raise StudyError(f"{name}: the header gives no possible geometry (sform, qform and pixdim are zero or no numbers)")


def _quaternion(parts: tuple[float, ...], steps: np.ndarray) -> np.ndarray:
    b, c, d = parts
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    return turn * np.array([steps[1], steps[2], steps[3] * (-1 if steps[0] < 0 else 1)])


def _canonical(voxels: np.ndarray, affine: np.ndarray) -> Volume:
    """Axes permuted and flipped so that they point, as nearly as may be, to the right, to the front and up."""
    from scipy.optimize import linear_sum_assignment

    spacing = np.linalg.norm(affine, axis=0)
    to, source = linear_sum_assignment(-np.abs(affine / spacing))  # the array axis for each direction in space
    turned = voxels.transpose(source)
    flips = tuple(int(axis) for axis in to if affine[axis, source[axis]] < 0)
    right, front, up = (float(spacing[axis]) for axis in source)
    return Volume(np.ascontiguousarray(np.flip(turned, flips)), (right, front, up))


def read_volume(file: Path) -> Volume:
    """The volume in a file; see `read_nifti`.

    Raises:
        StudyError: the file is missing or not readable as such a volume.
    """
    if not file.is_file():
        raise StudyError(f"{file} does not exist")
    return read_nifti(file.read_bytes(), str(file))


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
