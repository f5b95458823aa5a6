"""Steps that every preparation shares: reduction, merging of masks, writing."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.common.errors import StudyError
from lib.data.cards import root_note
from lib.data.preparation.pictures import open_picture
from lib.data.prepared_folder import INDEX_COLUMNS, labeled, majority

if TYPE_CHECKING:
    from PIL.Image import Image

LONGER_SIDE = 256  # pixels; prepared pictures are at most this long


@dataclass(frozen=True)
class Item:
    """One pair as it goes into a prepared folder: image uint8 (h, w) or (h, w, 3), mask, and its cells in the index.

    The mask (h, w) is bool, or uint8 where it holds labels as `lib.data.tasks.carried.Data` does.
    """

    source: str
    group: str
    cls: str
    image: np.ndarray
    mask: np.ndarray
    extra: dict[str, str] = field(default_factory=dict)


def white(file: Path) -> np.ndarray:
    """A mask file's foreground, bool (h, w), where that is drawn in white on black."""
    return np.asarray(open_picture(file).convert("L")) > 127


def shrink(picture: Image) -> np.ndarray:
    """An 8-bit picture with its longer side at most `LONGER_SIDE`, uint8 (h, w), RGB (h, w, 3); never enlarged.

    Area average when at least halved, Lanczos otherwise (an area average over less than two pixels gives uneven
    weights from pixel to pixel).
    """
    from PIL import Image

    size, factor = _reduced(picture.size)
    if factor == 1:
        return np.asarray(picture)
    way = Image.Resampling.BOX if factor >= 2 else Image.Resampling.LANCZOS
    return np.asarray(picture.resize(size, way))


def shrink_mask(mask: np.ndarray) -> np.ndarray:
    """A bool (h, w) mask reduced as `shrink` reduces its image: foreground where it covers at least half of a pixel."""
    from PIL import Image

    size, _ = _reduced((mask.shape[1], mask.shape[0]))
    cover = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(cover) > 127


def shrink_labels(mask: np.ndarray) -> np.ndarray:
    """A uint8 (h, w) mask of labels reduced as `shrink` reduces its image: the label that covers most of a pixel."""
    from PIL import Image

    size, _ = _reduced((mask.shape[1], mask.shape[0]))
    return majority(mask, lambda part: Image.fromarray(part.astype(np.float32)).resize(size, Image.Resampling.BOX))


def filled(mask: np.ndarray) -> np.ndarray:
    """Where a mask is foreground, whatever the label, bool (h, w)."""
    return mask if mask.dtype == bool else labeled(mask)


def _reduced(size: tuple[int, int]) -> tuple[tuple[int, int], float]:
    factor = max(1.0, max(size) / LONGER_SIDE)
    return (max(1, round(size[0] / factor)), max(1, round(size[1] / factor))), factor


def merged_masks(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The union of several bool masks of one image."""
    return np.logical_or.reduce(masks)


def write_folder(items: Iterable[Item], folder: Path, extra_files: dict[str, str] | None = None) -> tuple[int, int]:
    """Write a prepared folder: images, masks, index.csv, checksums.sha256, and beside them `extra_files`.

    Extra files (name to text), such as a card, are meant to be edited, and have no checksum.

    Returns:
        Number of pairs and of groups.

    Raises:
        StudyError: there is no item, or see `in_making`.
    """
    with in_making(folder) as temporary:
        counts = _write_items(items, temporary)
        write_checksums(temporary)
        for name, text in (extra_files or {}).items():
            (temporary / name).write_text(text, encoding="utf-8")
    return counts


@contextmanager
def in_making(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which takes its name at the end, so that it is whole or absent.

    Raises:
        StudyError: the folder exists, or it cannot be written (disk full, no permission).
    """
    if folder.exists():
        raise StudyError(f"{folder} exists already; move or delete it first; {root_note()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise StudyError(f"cannot write in {folder.parent}: {error.strerror}; {root_note()}") from error
    try:
        yield temporary
        temporary.chmod(0o755)  # temporary folders are private; data are meant to be shared
        os.replace(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():  # another process was faster
            raise StudyError(f"{folder} exists already; move or delete it first; {root_note()}") from error
        raise StudyError(
            f"writing {folder} failed: {error.strerror or error}; nothing was left behind; {root_note()}"
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_items(items: Iterable[Item], folder: Path) -> tuple[int, int]:
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    rows, groups = [], set()
    for number, item in enumerate(items):
        name = f"{number:04d}"
        height, width = item.mask.shape
        if item.image.shape[:2] != item.mask.shape:
            raise StudyError(
                f"{item.source}: image {item.image.shape[:2]} and mask {item.mask.shape} (height, width) must agree"
            )
        (folder / "images" / f"{name}.png").write_bytes(_png(item.image))
        (folder / "masks" / f"{name}.png").write_bytes(
            _png(item.mask if item.mask.dtype == np.uint8 else item.mask.astype(np.uint8) * 255)
        )
        fixed = (name, item.source, item.group, item.cls, width, height, f"{filled(item.mask).mean():.4f}")
        rows.append(dict(zip(INDEX_COLUMNS, fixed, strict=True)) | item.extra)
        groups.add(item.group)
    if not rows:
        raise StudyError("no image was left to write; is this the right folder of originals?")
    if not any(float(row["fg_fraction"]) for row in rows):
        raise StudyError(
            f"none of the {len(rows)} masks holds any foreground at {LONGER_SIDE} pixels; is this the right label, and "
            "is it wide enough for that size?"
        )
    write_index(rows, folder)
    return len(rows), len(groups)


def write_index(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write index.csv, whose columns are those of the first row."""
    import csv

    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_checksums(folder: Path) -> None:
    """Write checksums.sha256 of all files that are there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    text = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files
    )
    (folder / "checksums.sha256").write_text(text, encoding="utf-8")
