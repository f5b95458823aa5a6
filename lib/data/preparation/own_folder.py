"""A user's own folder of images and masks, made into a prepared folder with a card."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.cards import all_cards, root_note
from lib.data.preparation.conversion import Item, merged_masks, shrink, shrink_labels, shrink_mask, write_folder
from lib.data.preparation.overview import Overview
from lib.data.preparation.pairing import Pair, pairs_in
from lib.data.preparation.pictures import COLOR, Palette, color_values, mask_values, shown_value, to_color, to_gray
from lib.data.prepared_folder import IGNORED

IGNORE = "ignore"  # the name of what is no label
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


def label_values(pairs: Sequence[Pair], labels: Mapping[int, str]) -> list[int]:
    """The values of the masks in the order in which they were named, which numbers them; every one has a name.

    Raises:
        StudyError: two labels of one name or none of any, a value that is named and in no mask, or one in the masks
            that is not named.
    """
    names = [name for name in labels.values() if name != IGNORE]
    if not names or len(set(labels.values())) < len(labels) or not all(labels.values()) or 0 in labels:
        raise StudyError(f"labels must be different names of values other than 0, which is background, got {labels}")
    read = _reader(labels)
    found = sorted({int(v) for pair in pairs for file in pair.masks for v in np.unique(read(file))})
    odd = [value for value in found if value and value not in labels]
    absent = [value for value in labels if value not in found]
    if odd or absent:
        value = shown_value((odd or absent)[0])
        what = f"masks hold the value {value}, which has no name" if odd else f"no mask holds the value {value}"
        some = ", ".join(map(shown_value, found[:12])) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
        named = ", ".join(map(shown_value, labels))
        raise StudyError(f"{what}; the values found are {some}, those named are {named}")
    return list(labels)


def _reader(labels: Mapping[int, str] | None) -> Callable[[Path], np.ndarray]:
    """How the masks of a set are read: as colors where colors are named, else as gray values."""
    if labels and max(labels) >= COLOR:
        return color_values
    palette: Palette = {}
    return lambda file: mask_values(file, palette)


def _numbered(values: np.ndarray, chosen: Sequence[int], labels: Mapping[int, str]) -> np.ndarray:
    """Labels by number, in the order in which they were named, and `IGNORED`."""
    mask = np.zeros(values.shape, np.uint8)
    number = 0
    for value in chosen:
        number += labels[value] != IGNORE
        mask[values == value] = IGNORED if labels[value] == IGNORE else number
    return mask


def _one_label(masks: Sequence[np.ndarray], pair: Pair) -> np.ndarray:
    """The masks of a picture as one, where no pixel has two labels."""
    whole = masks[0]
    for mask in masks[1:]:
        if ((whole > 0) & (mask > 0) & (whole != mask)).any():
            raise StudyError(f"{pair.image.name}: its masks give a pixel two labels; save one mask with one value each")
        whole = np.maximum(whole, mask)
    return whole


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
    named = ", ".join(f"{value}=NAME" for value in found[:4] if value)
    return f'name them with --labels "{named}" (the name ignore for a rim), or choose with --foreground'


def add_own_folder(
    folder: Path,
    *,
    name: str | None = None,
    licence: str = "",
    modality: str = "",
    foreground: Sequence[int] | None = None,
    labels: Mapping[int, str] | None = None,
    color: bool = False,
    show: Callable[[str], None] = print,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Make a user's folder a dataset of the study: a prepared folder and its card in the data root.

    Args:
        name: the task's name; by default the folder's, in lowercase letters, digits and "_".
        licence: as it should stand in reports.
        foreground: mask values that count as foreground; needed when masks are not binary.
        labels: instead, a name for each mask value but 0, which is background; the name "ignore" is for pixels that
            are to count neither in training nor in scores.
        color: keep red, green and blue; networks then have three input channels.
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
    if foreground and labels:
        raise StudyError("masks have labels or a foreground, not both; leave out --foreground or --labels")
    chosen = foreground_values(pairs, foreground) if labels is None else label_values(pairs, labels)
    grouped = bool(pairs[0].group)
    groups = {pair.group or pair.name for pair in pairs}
    if len(groups) < 3:
        raise StudyError(f"{len(groups)} groups are too few to divide into training, validation and test; 3 are needed")
    named = [] if labels is None else [labels[value] for value in chosen if labels[value] != IGNORE]
    card = _card(name, title, len(pairs), len(groups), licence, modality, chosen, named, color, grouped)
    overview = Overview()
    count, _ = write_folder(_items(pairs, chosen, labels, color, step, overview), target, {"card.toml": card})
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
    what = f"labels {', '.join(named)}" if named else f"mask values {', '.join(map(str, chosen))} as foreground"
    show(f"{count} pairs in {len(groups)} groups, {what}: {target}")
    show(f"{overview.summary()}; look at {target / 'overview.png'}")
    show(f"the task {name!r} can be used now; the card is {target / 'card.toml'}")
    return target


def _items(
    pairs: Sequence[Pair],
    chosen: Sequence[int],
    labels: Mapping[int, str] | None,
    color: bool,
    step: Callable[[int, int], None],
    overview: Overview,
) -> Iterator[Item]:
    read = _reader(labels)
    for done, pair in enumerate(pairs):
        step(done, len(pairs))
        picture, found = (to_color if color else to_gray)(pair.image), [read(file) for file in pair.masks]
        masks = [np.isin(values, chosen) if labels is None else _numbered(values, chosen, labels) for values in found]
        for file, mask in zip(pair.masks, masks, strict=True):
            if mask.shape != picture.size[::-1]:
                raise StudyError(
                    f"{pair.image.name} is {picture.size[0]} x {picture.size[1]} and its mask {file.name} "
                    f"{mask.shape[1]} x {mask.shape[0]} (width x height); they must agree"
                )
        whole = merged_masks(masks) if labels is None else _one_label(masks, pair)
        small = shrink_mask(whole) if labels is None else shrink_labels(whole)
        item = Item(pair.name, pair.group or pair.name, "own", shrink(picture), small)
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
    named: Sequence[str],
    color: bool,
    grouped: bool,
) -> str:
    rule = "by the groups that came with the folder" if grouped else "by image: no groups were given"
    lines = {
        "name": name, "title": title, "what": "a user's own images and masks", "kind": "real",
        "modality": modality or "not stated", "licence": licence or "not stated", "citation": "not stated",
        "preparation": ("Color" if color else "Gray")
        + "; longer side at most 256 px (images: area average where at least halved, Lanczos otherwise; more than 8 "
        + "bits are scaled by each picture's own range; masks: the label that covers most of a pixel). "
        + (f"Labels are mask values {', '.join(map(shown_value, chosen))}." if named else
           f"Foreground is mask value {', '.join(map(str, chosen))}."),
    }  # fmt: skip
    text = "".join(f"{key} = {_quoted(value)}\n" for key, value in lines.items())
    text += f"labels = [{', '.join(map(_quoted, named))}]\n" if named else ""
    text += "channels = 3\n" if color else ""
    return (
        f"{text}pairs = {pairs}\ngroups = {groups}\n\n[split]\nfolds = {min(5, groups)}\nrule = {_quoted(rule)}\n"
        + ("" if grouped else "groups_known = false\n")
    )


def _quoted(text: str) -> str:
    """A text as a TOML basic string."""
    special = {"\\": "\\\\", '"': '\\"'}
    return '"' + "".join(special.get(c, f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in text) + '"'
