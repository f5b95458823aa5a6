"""A user's own folder of images and masks, made into a prepared folder with a card."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.cards import all_cards, root_note
from lib.data.preparation.conversion import Item, mask_values, shrink, shrink_mask, to_gray, write_folder
from lib.data.prepared_folder import read_table

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
TABLES = ("groups.csv", "index.csv")
NAMES = ("id", "name", "file", "image", "source")  # columns of a table that may name the image


@dataclass(frozen=True)
class Pair:
    """A picture, its mask, and the group that it must share a fold with."""

    name: str
    image: Path
    mask: Path
    group: str  # "" where no table tells; then the image is its own group


def pairs_in(folder: Path) -> list[Pair]:
    """Pairs in `images/` and `masks/` under the same names, or side by side as `name` and `name_mask`.

    Groups come from `index.csv` or `groups.csv` in the folder (a column `group`, and one that names the image);
    without such a table every image is its own group.

    Raises:
        StudyError: no pairs, an image without mask or the reverse, or a table that leaves an image out.
    """
    if not folder.is_dir():
        raise StudyError(
            f"no folder {folder}; name one that holds images/ and masks/, or NAME.png beside NAME_mask.png"
        )
    apart = (folder / "images").is_dir() and (folder / "masks").is_dir()
    if apart:
        images, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
        masks = {stem.removesuffix("_mask") if stem not in images else stem: file for stem, file in masks.items()}
    else:
        both = _by_stem(folder)
        masks = {stem.removesuffix("_mask"): file for stem, file in both.items() if stem.endswith("_mask")}
        images = {stem: file for stem, file in both.items() if not stem.endswith("_mask")}
    if not images or not masks:
        raise StudyError(
            f"{folder} holds {len(images)} images and {len(masks)} masks; it must hold images/ and masks/ with the "
            f"same names, or NAME.png beside NAME_mask.png ({', '.join(SUFFIXES)})"
        )
    for these, those, what in ((images, masks, "image"), (masks, images, "mask")):
        lone = sorted(set(these) - set(those))
        if lone:
            other = "mask" if what == "image" else "image"
            raise StudyError(f"{len(lone)} {what}s in {folder} have no {other}, the first is {these[lone[0]].name}")
    groups = _groups(folder, sorted(images))
    return [Pair(stem, images[stem], masks[stem], groups.get(stem, "")) for stem in sorted(images)]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            if file.stem in found:
                raise StudyError(f"{file} and {found[file.stem].name} have the same name but for the ending; keep one")
            found[file.stem] = file
    return found


def _groups(folder: Path, stems: Sequence[str]) -> dict[str, str]:
    """The group of every image, or nothing where no table tells."""
    for table in TABLES:
        file = folder / table
        rows = read_table(file, ("group",) if table == "groups.csv" else ()) if file.is_file() else []
        if rows and "group" in rows[0]:
            break
    else:
        return {}
    column = next((name for name in NAMES if name in rows[0]), None)
    if column is None:
        raise StudyError(f"{file} must name the image of each row in a column called {', '.join(NAMES[:-1])} or source")
    named = {Path(row[column]).stem: row["group"] for row in rows} | {row[column]: row["group"] for row in rows}
    without = [stem for stem in stems if not named.get(stem)]
    if without:
        raise StudyError(f"{file} gives no group for {len(without)} images, the first is {without[0]}")
    return {stem: named[stem] for stem in stems}


def foreground_values(pairs: Sequence[Pair], chosen: Sequence[int] | None) -> list[int]:
    """Which values of the masks are foreground: those chosen, else the one value that they hold besides 0.

    Raises:
        StudyError: nothing was chosen and the masks hold more than one value besides 0, or a chosen value is in none.
    """
    found = np.unique(np.concatenate([np.unique(mask_values(pair.mask)) for pair in pairs]))
    text = ", ".join(f"{value:g}" for value in found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
    if chosen:
        absent = [value for value in chosen if value not in found]
        if absent:
            raise StudyError(f"no mask holds the value {absent[0]}; the values found are {text}")
        return list(chosen)
    besides = [value for value in found if value != 0]
    if len(besides) != 1:
        hint = (
            "they look like a photograph or a lossy JPEG; save masks as PNG"
            if len(found) > 50
            else (f"choose which count as foreground, for example --foreground {besides[0] if besides else 1:g}")
        )
        raise StudyError(f"masks must be binary (0 and one other value), the values found are {text}; {hint}")
    return [int(besides[0])]


def add_own_folder(
    folder: Path,
    *,
    name: str | None = None,
    licence: str = "",
    modality: str = "",
    foreground: Sequence[int] | None = None,
    show: Callable[[str], None] = print,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Make a user's folder a dataset of the study: a prepared folder and its card in the data root.

    Args:
        name: the task's name; by default the folder's, in lowercase letters, digits and "_".
        licence: as it should stand in reports.
        foreground: mask values that count as foreground; needed when masks are not binary.
        show: told what was done, and what is doubtful.
        step: told (done, of how many).

    Raises:
        StudyError: the name is taken, the folder does not hold pairs, or a pair does not fit together.
    """
    title = name or folder.resolve().name
    name = name or re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name):
        raise StudyError(f"a dataset's name is lowercase letters, digits and '_', got {name!r}; choose one with --name")
    known = all_cards()
    if name.startswith("sim_") or name in ("originals", "simulated"):
        raise StudyError(f"the name {name!r} is reserved; choose another with --name")
    if name in known or any(card.folder == name for card in known.values()):
        raise StudyError(f"the name {name!r} is taken already; choose another with --name; {root_note()}")
    target = paths.data_root() / name
    if folder.resolve() == target:
        raise StudyError(
            f"{folder} lies where the prepared set {name!r} would go; move your folder out of {paths.data_root()}, or "
            "choose another name with --name"
        )
    pairs = pairs_in(folder)
    chosen = foreground_values(pairs, foreground)
    grouped = bool(pairs[0].group)
    groups = {pair.group or pair.name for pair in pairs}
    if len(groups) < 3:
        raise StudyError(f"{len(groups)} groups are too few to divide into training, validation and test; 3 are needed")
    card = _card(name, title, len(pairs), len(groups), licence, modality, chosen, grouped)
    count, _ = write_folder(_items(pairs, chosen, step), target, {"card.toml": card})
    if not grouped:
        show(
            "warning: no groups were given, so every image is its own group. If several images show one patient, a "
            "split would leak: add groups.csv (columns: name, group) to the folder and make the card again"
        )
    if licence == "":
        show("note: no licence was given; reports will say 'not stated' (--licence)")
    show(f"{count} pairs in {len(groups)} groups, mask values {', '.join(map(str, chosen))} as foreground: {target}")
    show(f"the task {name!r} can be used now; the card is {target / 'card.toml'}")
    return target


def _items(pairs: Sequence[Pair], chosen: Sequence[int], step: Callable[[int, int], None]) -> Iterator[Item]:
    for done, pair in enumerate(pairs):
        step(done, len(pairs))
        picture, labels = to_gray(pair.image), mask_values(pair.mask)
        if labels.shape != picture.size[::-1]:
            raise StudyError(
                f"{pair.image.name} is {picture.size[0]} x {picture.size[1]} and its mask {labels.shape[1]} x "
                f"{labels.shape[0]} (width x height); they must agree"
            )
        yield Item(pair.name, pair.group or pair.name, "own", shrink(picture), shrink_mask(np.isin(labels, chosen)))


def _card(
    name: str,
    title: str,
    pairs: int,
    groups: int,
    licence: str,
    modality: str,
    chosen: Sequence[int],
    grouped: bool,
) -> str:
    rule = "by the groups that came with the folder" if grouped else "by image: no groups were given"
    lines = {
        "name": name, "title": title, "what": "a user's own images and masks", "kind": "real",
        "modality": modality or "not stated", "licence": licence or "not stated", "citation": "not stated",
        "preparation": "Gray; longer side at most 256 px (images: area average where at least halved, Lanczos "
        "otherwise; more than 8 bits are scaled by each picture's own range; masks: area average, threshold 0.5). "
        f"Foreground is mask value {', '.join(map(str, chosen))}.",
    }  # fmt: skip
    text = "".join(f"{key} = {_quoted(value)}\n" for key, value in lines.items())
    return f"{text}pairs = {pairs}\ngroups = {groups}\n\n[split]\nfolds = {min(5, groups)}\nrule = {_quoted(rule)}\n"


def _quoted(text: str) -> str:
    """A text as a TOML basic string."""
    special = {"\\": "\\\\", '"': '\\"'}
    return '"' + "".join(special.get(c, f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in text) + '"'
