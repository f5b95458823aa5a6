"""A volume as networks are given it: turned, cropped, normalized and resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.common.errors import StudyError
from lib.data.prepared_folder import labeled, majority
from lib.imaging.grids import VOXELS, Grid, aligned, canonical

CLOSE = 0.01  # a spacing that differs by less than this part of it is left as it is
AIR = 0.25  # part of a volume that must be zero for these zeros to mean that nothing was imaged there


@dataclass(frozen=True)
class Window:
    """How a channel of CT is normalized: limits, mean and standard deviation of foreground in all volumes."""

    low: float
    high: float
    mean: float
    spread: float

    @staticmethod
    def of(intensities: np.ndarray) -> Window:
        """The window of these intensities of foreground: all but the lowest and highest 0.5 % lie in it."""
        low, high = np.percentile(intensities, [0.5, 99.5]).tolist()
        values = intensities.astype(np.float64)
        return Window(low, high, float(values.mean()), max(float(values.std()), 1e-6))


@dataclass(frozen=True)
class Volume:
    """A case as it is written: image, mask (1, x, y, z) uint8 at its voxels, and what was lost on the way.

    `outside` is the part of labeled voxels that the crop cut away.
    """

    image: Grid
    mask: Grid
    outside: float


def prepared(image: Grid, mask: np.ndarray, windows: Sequence[Window | None], spacing: Sequence[float]) -> Volume:
    """An image and its mask, uint8 (x, y, z), both in the order of their file, at a spacing in millimeters.

    Args:
        windows: by channel, those of CT; the others are normalized by their own mean and standard deviation.
    """
    labels = canonical(Grid(mask[None], image.affine))
    image = canonical(image)
    full: np.ndarray = np.any(image.voxels != 0, 0)
    box = tuple(_span(np.any(full, axis)) for axis in ((1, 2), (0, 2), (0, 1)))
    all_labels = int(labeled(labels.voxels).sum())
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    image, labels = (Grid(each.voxels[(slice(None), *box)], affine) for each in (image, labels))
    body = full[box] if 1 - full.mean() >= AIR else np.ones(image.shape, bool)
    normal = np.stack([_normalized(each, body, window) for each, window in zip(image.voxels, windows, strict=True)])
    there, shape = resampled_geometry(image, spacing)
    voxels = aligned(Grid(normal, affine), there, shape, order=3)
    small = majority(
        labels.voxels[0], lambda part: aligned(Grid(part[None], affine), there, shape, order=1)[0]
    )  # of linear interpolation of each label, the largest: edges keep their place, and no label arises between others
    kept = int(labeled(labels.voxels).sum())
    return Volume(Grid(voxels, there), Grid(small[None], there), 1 - kept / max(1, all_labels))


def _span(used: np.ndarray) -> slice:
    places = np.flatnonzero(used)
    return slice(int(places[0]), int(places[-1]) + 1)


def _normalized(voxels: np.ndarray, body: np.ndarray, window: Window | None) -> np.ndarray:
    """One channel (x, y, z), float32.

    Numbers of CT mean the same in every scanner, so that all volumes share limits, mean and standard deviation: those
    of what is to be found, because air and table would decide them otherwise (Isensee et al., Nat Methods 18, 2021).
    Other intensities are in units of their own volume; there, mean and standard deviation are taken within the body,
    as else they would tell how much air there is around it. Air, where there is any, becomes 0, the mean of the body,
    so that neither the step at its edge nor the padding of a volume stands out.
    """
    if window is not None:
        return (np.clip(voxels, window.low, window.high) - np.float32(window.mean)) / np.float32(window.spread)
    inside = voxels[body]
    mean, spread = inside.mean(dtype=np.float64), max(inside.std(dtype=np.float64), 1e-6)
    return np.where(body, (voxels - np.float32(mean)) / np.float32(spread), np.float32(0))


def resampled_geometry(grid: Grid, spacing: Sequence[float]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The affine map (4, 4) and the shape that a canonical grid gets at a spacing, in millimeters.

    Its middle stays where it is, so that what lies at the edges of the volume does so to half a voxel.

    Raises:
        StudyError: it would get more than `VOXELS` voxels.
    """
    own = np.array(grid.spacing)
    if np.all(np.abs(own / np.array(spacing) - 1) < CLOSE):
        return grid.affine, grid.shape
    x, y, z = (max(1, round(side * step / new)) for side, step, new in zip(grid.shape, own, spacing, strict=True))
    if x * y * z > VOXELS:
        steps = " x ".join(f"{step:.4g}" for step in spacing)
        raise StudyError(
            f"a volume of {' x '.join(map(str, grid.shape))} voxels of {' x '.join(f'{step:.4g}' for step in own)} mm "
            f"would get {x * y * z:,} at {steps} mm, more than {VOXELS:,}: is its header right? Else choose --spacing"
        )
    affine = grid.affine.copy()
    affine[:3, :3] *= np.array(spacing) / own
    middle = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    affine[:3, 3] += middle - affine[:3, :3] @ ((np.array((x, y, z)) - 1) / 2)
    return affine, (x, y, z)
