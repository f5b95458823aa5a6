"""Reading of prepared folders: index, images and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.common.errors import StudyError, cut
from lib.common.outside import inside, is_file, read_bytes, read_table
from lib.data.cards import Card, root_note
from lib.imaging.picture_files import decode

IGNORED = 255  # value of pixels that count neither in training nor in scores, where labels are named
INDEX_COLUMNS = ("id", "source", "group", "cls", "width", "height", "fg_fraction")


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset in memory, in the order of its index.

    Images are uint8 (h, w) gray or (h, w, 3) in color, masks uint8 (h, w) as `Data` holds them; sizes differ.
    """

    images: list[np.ndarray]
    masks: list[np.ndarray]
    ids: list[str]
    groups: list[str]


def require_folder(card: Card) -> Path:
    """The prepared folder of a card.

    Raises:
        StudyError: it is not there; says where it was looked for and how to get it.
    """
    if card.kind == "simulated":
        raise StudyError(f"{card.name} is simulated: it is drawn on demand and has no folder")
    if not (card.path / "index.csv").is_file():
        state = "has no index.csv" if card.path.is_dir() else "does not exist"
        raise StudyError(
            f"{card.name}: the prepared folder {card.path} {state}; {root_note()}. Point STUDY_DATA at the folder "
            f"that holds {card.folder}/, or run: python -m lib data fetch {card.name}, then "
            f"python -m lib data prepare {card.name}"
        )
    return card.path


def prepared_files(card: Card) -> list[Path]:
    """Every file that `read_prepared` reads: the index, then image and mask of each row.

    Raises:
        StudyError: the folder is not there, or its index cannot be read.
    """
    folder = require_folder(card)
    rows = read_table(folder / "index.csv", ("id", "group"))
    files = (picture_file(folder, kind, row["id"]) for row in rows for kind in ("images", "masks"))
    return [folder / "index.csv", *files]


def picture_file(folder: Path, kind: str, name: str) -> Path:
    """Where a picture of a prepared folder lies, there or not.

    Raises:
        StudyError: the name leads out of the folder.
    """
    return inside(folder / kind, f"{name}.png", f"{folder / 'index.csv'}: an id")


@dataclass(frozen=True)
class Index:
    """What the index of a prepared folder says: id, group and (height, width) of each picture, in order.

    `originals` are (height, width) of the pictures before preparation, where the index tells; else `sizes`.
    """

    folder: Path
    ids: list[str]
    groups: list[str]
    sizes: list[tuple[int, int]]
    originals: list[tuple[int, int]]
    labels: tuple[str, ...]
    channels: int

    @staticmethod
    def of(card: Card) -> Index:
        """The index of a card's folder.

        Raises:
            StudyError: the folder is not there, or its index cannot be read or lists nothing.
        """
        folder = require_folder(card)
        rows = read_table(folder / "index.csv", INDEX_COLUMNS)
        if not rows:
            raise StudyError(f"{folder / 'index.csv'} lists no image; {root_note()}")
        try:
            sizes, originals = (
                [(int(row.get(f"{of}height", row["height"])), int(row.get(f"{of}width", row["width"]))) for row in rows]
                for of in ("", "original_")
            )
        except ValueError as error:
            said = f"height and width must be whole numbers: {cut(str(error))}"
            raise StudyError(f"{folder / 'index.csv'}: {said}") from None
        return Index(
            folder,
            [row["id"] for row in rows],
            [row["group"] for row in rows],
            sizes,
            originals,
            card.labels,
            card.channels,
        )


def prepared_pictures(index: Index) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Image, uint8 (h, w) or (h, w, 3), and mask (h, w) of each row of an index; masks as `Data` holds them.

    Raises:
        StudyError: a file is missing, not of the kind and size that card and index say, or a mask holds other values;
            the message names the file, the data root and its origin.
    """
    for name, size in zip(index.ids, index.sizes, strict=True):
        image = read_picture(picture_file(index.folder, "images", name), index.channels)
        mask = read_gray(picture_file(index.folder, "masks", name))
        if image.shape[:2] != mask.shape:
            raise StudyError(
                f"{index.folder}: image {name} is {image.shape[:2]} and its mask {mask.shape} (height, width); "
                f"they must agree; {root_note()}"
            )
        if image.shape[:2] != size:
            raise StudyError(
                f"{index.folder}: image {name} is {image.shape[:2]} (height, width), and its index says {size}; "
                f"prepare the folder anew; {root_note()}"
            )
        if not fits_labels(mask, index.labels):
            raise StudyError(
                f"{index.folder / 'masks' / name}.png: a mask must hold {mask_rule(index.labels)}, got the "
                f"values {np.unique(mask)[:8].tolist()}; {root_note()}"
            )
        yield image, mask if index.labels else (mask > 0).astype(np.uint8)


def read_prepared(card: Card) -> Prepared:
    """Read a prepared folder: every image and mask of the index.

    Raises:
        StudyError: see `Index.of` and `prepared_pictures`.
    """
    index = Index.of(card)
    images, masks = zip(*prepared_pictures(index), strict=True)
    return Prepared(list(images), list(masks), index.ids, index.groups)


def values_of(mask: np.ndarray) -> set[int]:
    """The values that a uint8 mask holds; counted, which is far faster than sorting them."""
    return set(np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist())


def labeled(mask: Any) -> Any:
    """Where a mask of labels, an array or a tensor, has one: neither background nor ignored."""
    return (mask > 0) & (mask < IGNORED)


def majority(mask: np.ndarray, cover: Callable[[np.ndarray], Any]) -> np.ndarray:
    """A mask of labels at another size: of every pixel the value that covers most of it.

    Args:
        cover: how much of each pixel of that size a bool mask covers.
    """
    first, *others = sorted(values_of(mask))
    most = np.asarray(cover(mask == first))
    found = np.full(most.shape, first, np.uint8)
    for value in others:  # one after the other: a volume of many labels would not fit into memory many times
        covered = np.asarray(cover(mask == value))
        found[covered > most] = value
        most = np.maximum(most, covered)
    return found


def fits_labels(mask: np.ndarray, labels: Sequence[str]) -> bool:
    """Whether a uint8 mask holds nothing but what `mask_rule` says."""
    values = values_of(mask)
    if labels:
        return values <= {*range(len(labels) + 1), IGNORED}
    return values <= {0, 255} or values <= {0, 1}


def mask_rule(labels: Sequence[str]) -> str:
    """What a mask of these labels must hold, in words; none are named where masks are binary."""
    return f"0 to {len(labels)} ({', '.join(labels)}) or {IGNORED}, ignored" if labels else "0 and one of 1 or 255"


def read_gray(file: Path) -> np.ndarray:
    """An 8-bit gray picture as uint8 (h, w); see `read_picture`."""
    return read_picture(file, 1)


def read_picture(file: Path, channels: int) -> np.ndarray:
    """An 8-bit picture as uint8 (h, w), or of 3 channels (h, w, 3).

    Raises:
        StudyError: the file is missing, unreadable, or not of 8 bits and so many channels.
    """
    if not is_file(file):
        raise StudyError(f"{file} is listed in the index but missing; {root_note()}")
    try:
        picture = decode(read_bytes(file), str(file))
    except StudyError as error:
        raise StudyError(f"{error}; {root_note()}") from error
    mode, what = ("L", "8-bit gray (mode L)") if channels == 1 else ("RGB", "8-bit color (mode RGB)")
    if picture.mode != mode:
        raise StudyError(f"{file}: must be {what}, got mode {picture.mode}; {root_note()}")
    return np.asarray(picture)
