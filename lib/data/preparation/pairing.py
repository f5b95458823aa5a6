"""Which pictures of a user's folder belong together: image, mask or masks, and group; and what was left out."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.common.errors import StudyError
from lib.data.prepared_folder import read_table

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pnm")
TABLES = ("groups.csv", "index.csv")
NAMES = ("id", "name", "file", "image", "source")  # columns of a table that may name the image
_MASK = re.compile(r"(?i)^(?P<stem>.+?)[_\- ]?[_\-](masks?|seg|segmentation|labels?|gt|annotation)([_\-]?\d+)?$")
_CHANNEL = re.compile(r"^(?P<stem>.+)_(?P<channel>\d{4})$")  # as nnU-Net names the channels of an image


@dataclass(frozen=True)
class Pair:
    """A picture, its masks, of which the union counts, and the group that it must share a fold with."""

    name: str
    image: Path
    masks: tuple[Path, ...]
    group: str  # "" where no table tells; then the image is its own group


def pairs_in(folder: Path) -> tuple[list[Pair], list[str]]:
    """Pairs of a folder, and what is to be said of how they were found and of what was left out.

    Either `images/` and `masks/`, subfolders included, or images beside their masks. A mask has the name of its image,
    or that name and an ending in use (`_mask`, `_segmentation`, `_mask_1`, ...); several masks of one image are one.
    Names are compared without case and however their accents are written. Groups come from `groups.csv` or `index.csv`
    (a column `group`, and one that names the image); without such a table every image is its own group.

    Raises:
        StudyError: no pairs, an image without mask or the reverse, names that are one, or a table that leaves an image
            out or says two things of it.
    """
    if not folder.is_dir():
        raise StudyError(
            f"no folder {folder}; name one that holds images/ and masks/, or NAME.png beside NAME_mask.png"
        )
    apart = (folder / "images").is_dir() and (folder / "masks").is_dir()
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if (file.is_file() or file.is_symlink()) and not _hidden(file, folder)  # links that lead nowhere, or to folders
    ]
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    passed = [file for file in files if file not in pictures and not (file.parent == folder and file.name in TABLES)]
    if apart:
        sides = [[file for file in pictures if (folder / kind) in file.parents] for kind in ("images", "masks")]
        passed += [file for file in pictures if file not in sides[0] and file not in sides[1]]
        images, masks = _images(sides[0], folder / "images"), _keyed(sides[1], folder / "masks")
    else:
        is_mask = {file: _MASK.match(file.stem) is not None for file in pictures}
        images = _images([file for file in pictures if not is_mask[file]], folder)
        masks = _keyed([file for file in pictures if is_mask[file]], folder)
    if not images or not masks:
        raise StudyError(
            f"{folder} holds {len(images)} images and {len(masks)} masks; it must hold images/ and masks/ with the "
            f"same names, or NAME.png beside NAME_mask.png ({', '.join(SUFFIXES)})"
        )
    of_image: dict[str, list[Path]] = {key: [] for key in images}
    lone = []
    for key, file in masks.items():
        match = _MASK.match(key)
        stem = key if key in images else _key(match["stem"]) if match else key
        of_image.get(stem, lone).append(file)
    without = [images[key] for key, found in of_image.items() if not found]
    for these, what, others in ((without, "image", lone), (lone, "mask", without)):
        if these:
            other = {"image": "mask", "mask": "image"}[what]
            seen = f"; of no {what} is the {other} {others[0].name}" if others else ""
            raise StudyError(f"{len(these)} {what}s in {folder} have no {other}, the first is {these[0].name}{seen}")
    stems = {key: _stem(file, folder / "images" if apart else folder) for key, file in images.items()}
    groups, told = _groups(folder, list(stems.values()))
    pairs = [Pair(stems[key], images[key], tuple(of_image[key]), groups.get(stems[key], "")) for key in sorted(images)]
    several = sum(len(pair.masks) > 1 for pair in pairs)
    if several:
        told.append(f"{several} images have several masks, of which the union counts")
    if passed:
        names = ", ".join(str(file.relative_to(folder)) for file in passed[:3]) + (" ..." if len(passed) > 3 else "")
        told.append(f"{len(passed)} files were left out: {names}")
    if not groups and any("/" in pair.name for pair in pairs):
        told.append("images lie in subfolders; if each is of one patient, say so in groups.csv (columns: name, group)")
    return pairs, told


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _stem(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _key(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _keyed(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Files by the name under which they are compared."""
    found: dict[str, Path] = {}
    for file in files:
        other = found.setdefault(_key(_stem(file, folder)), file)
        if other is not file:
            raise StudyError(f"{file} and {other.name} have the same name but for ending, case or accents; keep one")
    return found


def _images(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Images by name, without the number of their only channel where all have one."""
    keyed = _keyed(files, folder)
    channels = {key: _CHANNEL.match(key) for key in keyed}
    if not keyed or not all(channels.values()):
        return keyed
    stems = Counter(match["stem"] for match in channels.values() if match)
    if max(stems.values()) > 1:
        stem = stems.most_common(1)[0][0]
        raise StudyError(
            f"{stem} has {stems[stem]} channels (_0000, _0001, ...); one image of one channel is read, keep one"
        )
    return {match["stem"]: keyed[key] for key, match in channels.items() if match}


def _groups(folder: Path, stems: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The group of every image, or nothing where no table tells; and what is to be said of a table without groups."""
    told = []
    for table in TABLES:
        file = folder / table
        rows = read_table(file, ("group",) if table == "groups.csv" else ()) if file.is_file() else []
        if rows and "group" in rows[0]:
            groups, unused = _of_table(file, rows, stems)
            if unused:
                told.append(f"{len(unused)} rows of {table} name no image here, the first {unused[0]!r}")
            return groups, told
        if rows:
            told.append(f"{table} was left out: it has no column 'group' ({', '.join(rows[0])})")
    return {}, told


def _of_table(file: Path, rows: Sequence[dict[str, str]], stems: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The group of every image, and what the rows say that name no image."""
    columns = [name for name in NAMES if name in rows[0]]
    if not columns:
        raise StudyError(f"{file} must name the image of each row in a column called {', '.join(NAMES[:-1])} or source")
    readings = {column: _reading(file, rows, column, stems) for column in columns}
    most = max(map(len, readings.values()))
    best = [column for column in columns if len(readings[column]) == most]
    if any(readings[column] != readings[best[0]] for column in best):
        raise StudyError(
            f"{file}: the columns {' and '.join(best)} both name images and give other groups; keep one of them"
        )
    found = readings[best[0]]
    without = [stem for stem in stems if not found.get(stem)]
    if without:
        raise StudyError(f"{file} gives no group for {len(without)} images, the first is {without[0]}")
    spelled: dict[str, str] = {}
    for group in found.values():
        other = spelled.setdefault(_key(" ".join(group.split())), group)
        if other != group:
            raise StudyError(
                f"{file}: the groups {other!r} and {group!r} differ in case or blanks only; write one name"
            )
    column = best[0]
    known = {_key(name) for stem in stems for name in (stem, Path(stem).name)}
    unused = [row[column] for row in rows if not known & _names(row[column])]
    return found, unused


def _names(cell: str) -> set[str]:
    """The names of an image that a cell may stand for: with the ending that it has, and without."""
    text = cell.strip()
    whole = text.removesuffix(Path(text).suffix) if Path(text).suffix.lower() in SUFFIXES else text
    return {_key(text), _key(whole)}


def _reading(file: Path, rows: Sequence[dict[str, str]], column: str, stems: Sequence[str]) -> dict[str, str]:
    """The group of every image that a column names."""
    named: dict[str, str] = {}
    for row in rows:
        group = row["group"].strip()
        for name in _names(row[column]):
            if named.setdefault(name, group) != group:
                raise StudyError(
                    f"{file}: {row[column].strip()!r} is in the groups {named[name]!r} and {group!r}; give it one"
                )
    found = {}
    for stem in stems:
        for name in (stem, Path(stem).name):
            if named.get(_key(name)):
                found[stem] = named[_key(name)]
                break
    return found
