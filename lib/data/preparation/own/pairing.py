"""Which files of a user's folder belong together: image, mask or masks, and group; and what was left out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.common.errors import StudyError
from lib.data.preparation.own.grouping import PICTURES, TABLES, VOLUMES, bare, groups_of, key_of

SIDES = (("images", "masks"), ("images", "labels"), ("imagesTr", "labelsTr"))
_MASK = re.compile(r"(?i)^(?P<stem>.+?)[_\- ]?[_\-](masks?|seg|segmentation|labels?|gt|annotation)([_\-]?\d+)?$")
_CHANNEL = re.compile(r"^(?P<stem>.+)_(?P<channel>\d{4})$")  # as nnU-Net names the channels of an image


@dataclass(frozen=True)
class Pair:
    """An image, its masks, of which the union counts, and the group that it must share a fold with.

    A picture is one file; a volume may be one of each channel.
    """

    name: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    group: str  # "" where nothing tells; then the image is its own group

    @property
    def image(self) -> Path:
        """The file that stands for the image."""
        return self.images[0]


def pairs_in(
    folder: Path,
    endings: Sequence[str] = PICTURES,
    *,
    groups: str | None = None,
    listed: Collection[str] | None = None,
) -> tuple[list[Pair], list[str]]:
    """Pairs of a folder, and what is to be said of how they were found and of what was left out.

    Either `images/` and `masks/` (or another of `SIDES`), subfolders included, or images beside their masks. A mask has
    the name of its image, or that name and an ending in use (`_mask`, `_segmentation`, `_mask_1`, ...); several masks
    of one image are one. Names are compared without case and however their accents are written. Groups come from
    `groups.csv` or `index.csv` (a column `group`, and one that names the image); without such a table every image is
    its own group.

    Args:
        endings: of files that are read. groups: see `groups_of`.
        listed: the names, as `key_of` gives them, of the only images that count; by default all do.

    Raises:
        StudyError: no pairs, an image without mask or the reverse, names that are one, channels that differ, or groups
            that leave an image out or say two things of it.
    """
    if not folder.is_dir():
        raise StudyError(
            f"no folder {folder}; name one that holds images/ and masks/, or NAME.png beside NAME_mask.png"
        )
    apart = next((sides for sides in SIDES if all((folder / side).is_dir() for side in sides)), None)
    homes = [folder / side for side in apart] if apart else [folder, folder]
    files = files_in(folder)
    read = [file for file in files if file.name.lower().endswith(tuple(endings)) and file.is_file()]
    if apart:
        sides = [[file for file in read if home in file.parents] for home in homes]
    else:
        is_mask = {file: _MASK.match(bare(file.name)) is not None for file in read}
        sides = [[file for file in read if is_mask[file] == wanted] for wanted in (False, True)]
    masks = _keyed(sides[1], homes[1])
    images = _images(sides[0], homes[0], masks, several=endings is VOLUMES)
    if listed is not None:
        images = {key: found for key, found in images.items() if key in listed}
        masks = {key: file for key, file in masks.items() if key in listed}
    if not images or not masks:
        raise StudyError(
            f"{folder} holds {len(images)} images and {len(masks)} masks; it must hold images/ and masks/ with the "
            f"same names, or NAME{endings[0]} beside NAME_mask{endings[0]} ({', '.join(PICTURES)}, or volumes as "
            f"NIfTI: {', '.join(VOLUMES)})"
        )
    of_image = _of_images(images, masks, folder)
    stems = {key: _stem(found[0], homes[0]) for key, found in images.items()}
    stems = {key: stem if key_of(stem) == key else stem[: -len("_0000")] for key, stem in stems.items()}
    group, told = groups_of(folder, list(stems.values()), groups)
    pairs = [
        Pair(stems[key], tuple(images[key]), tuple(of_image[key]), group.get(stems[key], "")) for key in sorted(images)
    ]
    several = sum(len(pair.masks) > 1 for pair in pairs)
    if several:
        told.append(f"{several} images have several masks, of which the union counts")
    used = {file for pair in pairs for file in (*pair.images, *pair.masks)}
    told += left_out(folder, files, used)
    if not group and any("/" in pair.name for pair in pairs):
        told.append("images lie in subfolders; if each is of one patient, say so in groups.csv (columns: name, group)")
    return pairs, told


def files_in(folder: Path) -> list[Path]:
    """All files of a folder and its subfolders that are not hidden; links too, that lead nowhere or to folders.

    Raises:
        StudyError: the name of one cannot be written in UTF-8, as tables of the prepared folder are.
    """
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if (file.is_file() or file.is_symlink())
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    for file in found:
        name = str(file.relative_to(folder))
        if any(0xD800 <= ord(letter) < 0xE000 or ord(letter) < 32 for letter in name):
            raise StudyError(f"{folder} holds {name!r}, a name that is not UTF-8 or has control characters; rename it")
    return found


def left_out(folder: Path, files: Sequence[Path], used: Collection[Path]) -> list[str]:
    """What is to be said of files that are not used, tables and descriptions of the folder aside."""
    known = {folder / name for name in (*TABLES, "dataset.json")}
    passed = [str(file.relative_to(folder)) for file in files if file not in used and file not in known]
    some = ", ".join(passed[:3]) + (" ..." if len(passed) > 3 else "")
    return [f"{len(passed)} files were left out: {some}"] if passed else []


def _of_images(images: Mapping[str, list[Path]], masks: Mapping[str, Path], folder: Path) -> dict[str, list[Path]]:
    """The masks of every image."""
    found: dict[str, list[Path]] = {key: [] for key in images}
    lone = []
    for key, file in masks.items():
        match = _MASK.match(key)
        stem = key if key in images else key_of(match["stem"]) if match else key
        found.get(stem, lone).append(file)
    without = [images[key][0] for key, these in found.items() if not these]
    for these, what, others in ((without, "image", lone), (lone, "mask", without)):
        if these:
            other = {"image": "mask", "mask": "image"}[what]
            seen = f"; of no {what} is the {other} {others[0].name}" if others else ""
            raise StudyError(f"{len(these)} {what}s in {folder} have no {other}, the first is {these[0].name}{seen}")
    return found


def _stem(file: Path, folder: Path) -> str:
    return bare(file.relative_to(folder).as_posix())


def _keyed(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Files by the name under which they are compared."""
    found: dict[str, Path] = {}
    for file in files:
        other = found.setdefault(key_of(_stem(file, folder)), file)
        if other is not file:
            raise StudyError(f"{file} and {other.name} have the same name but for ending, case or accents; keep one")
    return found


def _images(files: Sequence[Path], folder: Path, masks: Collection[str], *, several: bool) -> dict[str, list[Path]]:
    """The files of every image, by its name: without the number of a channel where all have one and no mask does."""
    keyed = _keyed(files, folder)
    matches = {key: _CHANNEL.match(key) for key in keyed}
    if not keyed or not all(matches.values()) or any(key in masks for key in keyed):
        return {key: [file] for key, file in keyed.items()}
    found: dict[str, dict[str, Path]] = {}
    for key, match in matches.items():
        if match:
            found.setdefault(match["stem"], {})[match["channel"]] = keyed[key]
    most = max(found, key=lambda stem: len(found[stem]))
    if len(found[most]) > 1 and not several:
        raise StudyError(
            f"{most} has {len(found[most])} channels (_0000, _0001, ...); one image of one channel is read, keep one"
        )
    odd = [f"{stem} has {', '.join(sorted(each))}" for stem, each in found.items() if set(each) != set(found[most])]
    if odd and several:
        raise StudyError(
            f"all images must have the same channels; {most} has {', '.join(sorted(found[most]))}, but "
            f"{'; '.join(odd[:3])}" + (f"; and {len(odd) - 3} more differ" if len(odd) > 3 else "")
        )
    return {stem: [each[channel] for channel in sorted(each)] for stem, each in found.items()}
