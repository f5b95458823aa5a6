"""Reading of prepared folders of volumes: index, images, masks, and masks as they were before preparation.

A folder holds, for every row `ID` of its `index.csv`:

- `images/ID.nii`: intensities as networks are given them (resampled, cropped, normalized), float32; axes point to the
  right, front and up, a fourth is that of channels;
- `masks/ID.nii.gz`: labels at the same voxels, uint8;
- `originals/ID.nii.gz`: labels, numbered in the same way, at the voxels that they were drawn at, on which predictions
  are judged. Headers say where all these voxels lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common.errors import StudyError, cut
from lib.common.outside import inside, read_table
from lib.data.cards import Card, root_note
from lib.data.prepared_folder import INDEX_COLUMNS, fits_labels, mask_rule, require_folder
from lib.imaging.grids import Grid, canonical, read_grid

VOLUME_COLUMNS = (*INDEX_COLUMNS, "depth")  # width, height and depth: voxels to the right, front and up
KINDS = {"images": ".nii", "masks": ".nii.gz", "originals": ".nii.gz"}


@dataclass(frozen=True)
class VolumeIndex:
    """What the index of a prepared folder of volumes says, in order; `sources` are the names of the user's images."""

    card: Card
    ids: list[str]
    sources: list[str]
    groups: list[str]
    shapes: list[tuple[int, int, int]]

    @staticmethod
    def of(card: Card) -> VolumeIndex:
        """The index of a card's folder.

        Raises:
            StudyError: the folder is not there, or its index cannot be read or lists nothing.
        """
        folder = require_folder(card)
        rows = read_table(folder / "index.csv", VOLUME_COLUMNS)
        if not rows:
            raise StudyError(f"{folder / 'index.csv'} lists no volume; {root_note()}")
        try:
            shapes = [(int(row["width"]), int(row["height"]), int(row["depth"])) for row in rows]
        except ValueError as error:
            raise StudyError(f"{folder / 'index.csv'}: sides must be whole numbers: {cut(str(error))}") from None
        ids, sources, groups = ([row[column] for row in rows] for column in ("id", "source", "group"))
        return VolumeIndex(card, ids, sources, groups, shapes)

    def file(self, kind: str, name: str) -> Path:
        """Where a volume lies; kinds are those of `KINDS`."""
        return volume_file(self.card.path, kind, name)


def volume_file(folder: Path, kind: str, name: str) -> Path:
    """Where a volume of a prepared folder lies, there or not.

    Raises:
        StudyError: the name leads out of the folder.
    """
    return inside(folder / kind, f"{name}{KINDS[kind]}", f"{folder / 'index.csv'}: an id")


def volume_files(card: Card) -> list[Path]:
    """Every file that a task of this card is read from: the index, then the volumes of each row.

    Raises:
        StudyError: see `VolumeIndex.of`.
    """
    index = VolumeIndex.of(card)
    return [card.path / "index.csv", *(index.file(kind, name) for name in index.ids for kind in KINDS)]


def prepared_volume(index: VolumeIndex, place: int) -> tuple[Grid, np.ndarray]:
    """The image of a row, and its mask (x, y, z) as `VolumeData` holds it.

    Raises:
        StudyError: a file is missing or damaged, not of the kind and size that card and index say, or a mask holds
            other values; the message names the file and the data root.
    """
    name, shape, card = index.ids[place], index.shapes[place], index.card
    image, mask = (_read(index.file(kind, name)) for kind in ("images", "masks"))
    for kind, grid in (("images", image), ("masks", mask)):
        if grid.shape != shape:
            raise StudyError(f"{index.file(kind, name)} has {grid.shape} voxels, index.csv says {shape}; {root_note()}")
    if len(image.voxels) != card.channels:
        raise StudyError(
            f"{index.file('images', name)} must have the card's {card.channels} channels, got {len(image.voxels)}"
        )
    return image, _labels(index, "masks", name, mask).voxels[0]


def original_mask(index: VolumeIndex, place: int) -> Grid:
    """The mask of a row as it was before preparation, uint8, its axes turned to the right, front and up.

    Raises:
        StudyError: see `prepared_volume`.
    """
    name = index.ids[place]
    return canonical(_labels(index, "originals", name, _read(index.file("originals", name))))


def _labels(index: VolumeIndex, kind: str, name: str, grid: Grid) -> Grid:
    if grid.voxels.dtype != np.uint8 or len(grid.voxels) != 1 or not fits_labels(grid.voxels, index.card.labels):
        values = np.unique(grid.voxels)[:8].tolist()
        raise StudyError(
            f"{index.file(kind, name)}: a mask must hold {mask_rule(index.card.labels)}, as bytes of one channel, got "
            f"the values {values} as {grid.voxels.dtype}; {root_note()}"
        )
    return grid if index.card.labels else Grid((grid.voxels > 0).astype(np.uint8), grid.affine)


def _read(file: Path) -> Grid:
    try:
        return read_grid(file)
    except StudyError as error:
        raise StudyError(f"{error}; {root_note()}") from error
