"""A user's own folder of images and masks, made into a prepared folder with a card."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.preparation.conversion import Item, merged_masks, shrink, shrink_labels, shrink_mask, write_folder
from lib.data.preparation.own.grouping import PICTURES, VOLUMES
from lib.data.preparation.own.mask_values import IGNORE, foreground_values, label_values, listed, numbered, one_label
from lib.data.preparation.own.new_card import Wishes, card_text, closing_notes, enough_groups, new_name
from lib.data.preparation.own.overview import Overview
from lib.data.preparation.own.pairing import Pair, files_in, pairs_in
from lib.data.preparation.pictures import COLOR, Palette, color_values, mask_values, shown_value, to_color, to_gray
from lib.data.preparation.volumes.own_volumes import add_volumes


def add_own_folder(
    folder: Path,
    *,
    name: str | None = None,
    licence: str = "",
    modality: str = "",
    foreground: Sequence[int] | None = None,
    labels: Mapping[int, str] | None = None,
    groups: str | None = None,
    people: str = "",
    color: bool = False,
    spacing: tuple[float, float, float] | None = None,
    show: Callable[[str], None] = print,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Make a user's folder a dataset of the study: a prepared folder and its card in the data root.

    Args:
        name: the task's name; by default the folder's, in lowercase letters, digits and "_".
        licence: as it should stand in reports.
        modality: what made the images; of volumes, CT are normalized in their own way.
        foreground: mask values that count as foreground; needed when masks are not binary.
        labels: instead, a name for each mask value but 0, which is background; the name "ignore" is for pixels that
            are to count neither in training nor in scores.
        groups: a regular expression that finds the group in the name of each image.
        people: whose images these are; sets of the same people have the same folds, group by group.
        color: keep red, green and blue; networks then have three input channels.
        spacing: of prepared volumes, in millimeters to the right, front and up; by default the median of all volumes.
        show: told what was done, and what is doubtful.
        step: told (done, of how many).

    Raises:
        StudyError: the name is taken, the folder does not hold pairs, or a pair does not fit together.
    """
    title, name = name or folder.resolve().name, new_name(folder, name)
    if foreground and labels:
        raise StudyError("masks have labels or a foreground, not both; leave out --foreground or --labels")
    wishes = Wishes(
        licence=licence, modality=modality, foreground=foreground, labels=labels, groups=groups, people=people,
        color=color, spacing=spacing,
    )  # fmt: skip
    add = add_volumes if _are_volumes(folder) else _add_pictures
    return add(folder, name, title, wishes, show, step)


def _are_volumes(folder: Path) -> bool:
    """Whether a folder is one of volumes: it holds more of them than pictures."""
    names = [file.name.lower() for file in files_in(folder)]
    return sum(name.endswith(VOLUMES) for name in names) > sum(name.endswith(PICTURES) for name in names)


def _add_pictures(
    folder: Path,
    name: str,
    title: str,
    wishes: Wishes,
    show: Callable[[str], None],
    step: Callable[[int, int], None],
) -> Path:
    if wishes.spacing:
        raise StudyError("pictures have no spacing; leave out --spacing, which is for volumes")
    pairs, told = pairs_in(folder, groups=wishes.groups)
    labels, read = wishes.labels, _reader(wishes.labels)
    of_file = {file: {int(v) for v in np.unique(read(file))} for pair in pairs for file in pair.masks}
    chosen = foreground_values(of_file, wishes.foreground) if labels is None else label_values(of_file, labels)
    groups = enough_groups(pairs)
    named = [] if labels is None else [labels[value] for value in chosen if labels[value] != IGNORE]
    preparation = (
        ("Color" if wishes.color else "Gray")
        + "; longer side at most 256 px (images: area average where at least halved, Lanczos otherwise; more than 8 "
        + "bits are scaled by each picture's own range; masks: the label that covers most of a pixel). "
        + (
            f"Labels are mask values {', '.join(map(shown_value, chosen))}."
            if named
            else f"Foreground is mask value {', '.join(map(str, chosen))}."
        )
    )
    values = {"labels": named, "channels": 3 if wishes.color else 0}
    card = card_text(
        name, title, wishes, what="a user's own images and masks", preparation=preparation, values=values, pairs=pairs
    )
    target, overview = paths.data_root() / name, Overview()
    count, _ = write_folder(_items(pairs, chosen, wishes, step, overview), target, {"card.toml": card})
    overview.save(target / "overview.png")
    if labels is None and (rest := sorted(set().union(*of_file.values()) - {0, *chosen})):
        show(f"note: masks hold {listed(rest)} too, which --foreground does not name: background")
    for line in told + overview.notes():
        show(f"note: {line}")
    closing_notes(pairs, wishes, show)
    what = f"labels {', '.join(named)}" if named else f"mask values {', '.join(map(str, chosen))} as foreground"
    show(f"{count} pairs in {len(groups)} groups, {what}: {target}")
    show(f"{overview.summary()}; look at {target / 'overview.png'}")
    show(f"the task {name!r} can be used now; the card is {target / 'card.toml'}")
    return target


def _reader(labels: Mapping[int, str] | None) -> Callable[[Path], np.ndarray]:
    """How the masks of a set are read: as colors where colors are named, else as gray values."""
    if labels and max(labels) >= COLOR:
        return color_values
    palette: Palette = {}
    return lambda file: mask_values(file, palette)


def _items(
    pairs: Sequence[Pair],
    chosen: Sequence[int],
    wishes: Wishes,
    step: Callable[[int, int], None],
    overview: Overview,
) -> Iterator[Item]:
    labels, read = wishes.labels, _reader(wishes.labels)
    for done, pair in enumerate(pairs):
        step(done, len(pairs))
        picture = (to_color if wishes.color else to_gray)(pair.image)
        found = [read(file) for file in pair.masks]
        masks = [np.isin(values, chosen) if labels is None else numbered(values, chosen, labels) for values in found]
        for file, mask in zip(pair.masks, masks, strict=True):
            if mask.shape != picture.size[::-1]:
                raise StudyError(
                    f"{pair.image.name} is {picture.size[0]} x {picture.size[1]} and its mask {file.name} "
                    f"{mask.shape[1]} x {mask.shape[0]} (width x height); they must agree"
                )
        whole = merged_masks(masks) if labels is None else one_label(masks, pair.image.name)
        small = shrink_mask(whole) if labels is None else shrink_labels(whole)
        size = {"original_width": str(picture.size[0]), "original_height": str(picture.size[1])}
        item = Item(pair.name, pair.group or pair.name, "own", shrink(picture), small, size)
        overview.add(pair.image, pair.masks, item, whole)
        yield item
