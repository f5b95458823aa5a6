"""Volumes of voxels: slice directions and how a slice is shown."""

from __future__ import annotations

import numpy as np

from lib.errors import StudyError, nearest

# Axes of a volume point to the right, to the front and up, as in a NIfTI file in RAS order.
DIRECTIONS = {"sagittal": 0, "coronal": 1, "axial": 2}


def cut(volume: np.ndarray, direction: str) -> np.ndarray:
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
