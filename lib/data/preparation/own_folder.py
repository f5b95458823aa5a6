"""A user's own folder of images and masks, made into a prepared folder with a card."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.cards import all_cards, root_note
from lib.data.preparation.conversion import Item, merged_masks, shrink, shrink_mask, write_folder
from lib.data.preparation.overview import Overview
from lib.data.preparation.pairing import Pair, pairs_in
from lib.data.preparation.pictures import Palette, mask_values, to_gray

EDGES = 16  # how far from its ends a lossy or smoothed mask of 0 and 255 strays


def foreground_values(pairs: Sequence[Pair], chosen: Sequence[int] | None) -> list[int]:
    """Which values of the masks are foreground: those chosen, else the one value that they hold besides 0.

    Raises:
        StudyError: nothing was chosen and the masks hold more than one value besides 0, or a chosen value is in none.
    """
    palette: Palette = {}
    of_file = {file: {int(v) for v in np.unique(mask_values(file, palette))} for pair in pairs for file in pair.masks}
    found = sorted(set().union(*of_file.values()))
    text = ", ".join(map(str, found[:12])) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
    if chosen:
        absent = [value for value in chosen if value not in found]
        if absent:
            raise StudyError(f"no mask holds the value {absent[0]}; the values found are {text}")
        return list(chosen)
    besides = [value for value in found if value != 0]
    if len(besides) != 1:
        raise StudyError(
            f"masks must be binary (0 and one other value), the values found are {text}; {_advice(of_file)}"
        )
    return besides


def _advice(of_file: Mapping[Path, set[int]]) -> str:
    """What to do about masks that are not binary, by what their values look like."""
    found = sorted(set().union(*of_file.values()))
    if found == [0]:
        return "no mask outlines anything: is this the right folder?"
    if all(len(values) <= 2 for values in of_file.values()):
        kinds = sorted({max(values) for values in of_file.values()} - {0})
        return (
            f"each mask is binary, but they differ: {', '.join(map(str, kinds))}. If all of these are foreground, "
            f"give --foreground {','.join(map(str, kinds))}"
        )
    between = set(range(2, EDGES + 1)) | set(range(255 - EDGES, 255))
    if found[-1] >= 255 - EDGES and between & set(found) and all(min(v, abs(255 - v)) <= EDGES for v in found):
        return "they look like 0 and 255 saved with loss; save them again as PNG, cut at 127"
    if len(found) > 50:
        return (
            "they look like a photograph, or like edges that were smoothed; save masks as PNG with one value per label"
        )
    return "--foreground takes those that are foreground, with commas between (a rim that is to be ignored is none)"


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
    pairs, told = pairs_in(folder)
    chosen = foreground_values(pairs, foreground)
    grouped = bool(pairs[0].group)
    groups = {pair.group or pair.name for pair in pairs}
    if len(groups) < 3:
        raise StudyError(f"{len(groups)} groups are too few to divide into training, validation and test; 3 are needed")
    card = _card(name, title, len(pairs), len(groups), licence, modality, chosen, grouped)
    overview = Overview()
    count, _ = write_folder(_items(pairs, chosen, step, overview), target, {"card.toml": card})
    overview.save(target / "overview.png")
    for line in told + overview.notes():
        show(f"note: {line}")
    if not grouped:
        show(
            "warning: no groups were given, so every image is its own group. If several images show one patient, a "
            "split would leak: add groups.csv (columns: name, group) to the folder and make the card again"
        )
    if licence == "":
        show("note: no licence was given; reports will say 'not stated' (--licence)")
    show(f"{count} pairs in {len(groups)} groups, mask values {', '.join(map(str, chosen))} as foreground: {target}")
    show(f"{overview.summary()}; look at {target / 'overview.png'}")
    show(f"the task {name!r} can be used now; the card is {target / 'card.toml'}")
    return target


def _items(
    pairs: Sequence[Pair], chosen: Sequence[int], step: Callable[[int, int], None], overview: Overview
) -> Iterator[Item]:
    palette: Palette = {}
    for done, pair in enumerate(pairs):
        step(done, len(pairs))
        picture, masks = to_gray(pair.image), [np.isin(mask_values(file, palette), chosen) for file in pair.masks]
        for file, mask in zip(pair.masks, masks, strict=True):
            if mask.shape != picture.size[::-1]:
                raise StudyError(
                    f"{pair.image.name} is {picture.size[0]} x {picture.size[1]} and its mask {file.name} "
                    f"{mask.shape[1]} x {mask.shape[0]} (width x height); they must agree"
                )
        whole = merged_masks(masks)
        item = Item(pair.name, pair.group or pair.name, "own", shrink(picture), shrink_mask(whole))
        overview.add(pair.image, pair.masks, item, whole)
        yield item


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
    return (
        f"{text}pairs = {pairs}\ngroups = {groups}\n\n[split]\nfolds = {min(5, groups)}\nrule = {_quoted(rule)}\n"
        + ("" if grouped else "groups_known = false\n")
    )


def _quoted(text: str) -> str:
    """A text as a TOML basic string."""
    special = {"\\": "\\\\", '"': '\\"'}
    return '"' + "".join(special.get(c, f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in text) + '"'
