"""What was read of a user's volumes, to look at: how much the masks cover, what is doubtful, and outlined slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.data.preparation.own.overview import SIDE, outlined, save_tiles
from lib.data.preparation.volumes.resampling import Volume
from lib.data.prepared_folder import labeled

SHOWN = 4  # volumes in the picture, in a line each


class VolumeOverview:
    """Gathers one volume after the other."""

    def __init__(self) -> None:
        self.covered: list[float] = []
        self.empty: list[str] = []
        self.lost: list[str] = []
        self.outside: list[str] = []
        self.tiles: list[np.ndarray] = []

    def add(self, name: str, volume: Volume, mask: np.ndarray) -> None:
        """Look at a volume, and at its mask before it was cropped and resampled."""
        inside = labeled(volume.mask.voxels[0])
        self.covered.append(float(inside.mean()))
        before = set(np.unique(mask[labeled(mask)]).tolist())
        if not before:
            self.empty.append(name)
        elif before - set(np.unique(volume.mask.voxels).tolist()):
            self.lost.append(name)
        if volume.outside > 0:
            self.outside.append(name)
        if len(self.tiles) < 3 * SHOWN:
            self.tiles += _planes(volume, inside)

    def summary(self) -> str:
        """How much the masks cover."""
        return (
            f"masks cover {np.mean(self.covered):.2%} of a volume on average, {min(self.covered):.2%} to "
            f"{max(self.covered):.2%}"
        )

    def notes(self) -> list[str]:
        """What is doubtful, a sentence each."""
        kinds = (
            (self.empty, "masks outline nothing"),
            (self.lost, "masks lost a label in the crop or at the new spacing"),
            (self.outside, "masks have labels outside of what is not zero in the image, which were cropped away"),
        )
        return [f"{len(names)} {what} ({', '.join(names[:3])})" for names, what in kinds if names]

    def save(self, file: Path) -> None:
        """Write the first volumes as one picture: from above, from the front and from the side, mask outlined."""
        save_tiles(self.tiles, 3, file)


def _planes(volume: Volume, inside: np.ndarray) -> list[np.ndarray]:
    """Tiles of the three planes through the middle of the labels, or of the volume where there are none."""
    from PIL import Image

    voxels, spacing = volume.image.voxels[0], volume.image.spacing
    low, high = np.percentile(voxels, [1, 99])
    gray = np.clip((voxels - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    tiles = []
    for axis in (2, 1, 0):
        where = np.flatnonzero(inside.any(tuple(other for other in range(3) if other != axis)))
        place = int(where[len(where) // 2]) if len(where) else voxels.shape[axis] // 2
        wide, high_axis = (other for other in range(3) if other != axis)
        sides = np.array([voxels.shape[wide] * spacing[wide], voxels.shape[high_axis] * spacing[high_axis]])
        width, height = np.maximum(1, np.rint(sides * SIDE / sides.max())).astype(int).tolist()
        image, mask = (np.take(each, place, axis).T[::-1] for each in (gray, inside))
        big = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BILINEAR)
        edge = Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
        tiles.append(outlined(np.asarray(big), np.asarray(edge) > 0))
    return tiles
