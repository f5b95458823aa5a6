"""What the dataset.json of a folder says, as the Medical Segmentation Decathlon and nnU-Net write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.common.errors import StudyError, shown
from lib.common.outside import inside, is_file, read_json
from lib.data.preparation.own.grouping import VOLUMES, bare, key_of
from lib.data.preparation.own.mask_values import IGNORE


@dataclass(frozen=True)
class Described:
    """What a description tells of a set of volumes; empty where it tells nothing.

    `labels` names values of masks, of which 0 is background; `regions` are made of such values; `channels` are names in
    order; `listed` are the names of the images that count, as `key_of` gives them, None where all do.
    """

    labels: dict[int, str] = field(default_factory=dict)
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    listed: frozenset[str] | None = None


def described(folder: Path) -> Described:
    """What the dataset.json in a folder says; nothing where there is none.

    Raises:
        StudyError: it cannot be read, or speaks of files that are not NIfTI or not there.
    """
    file = folder / "dataset.json"
    if not file.is_file():
        return Described()
    table = read_json(file)
    if not isinstance(table, dict):
        raise StudyError(f"{file} must hold a table in braces, got {type(table).__name__}")
    ending = table.get("file_ending", VOLUMES[0])
    if not isinstance(ending, str) or ending not in VOLUMES:
        raise StudyError(f"{file}: file_ending must be {' or '.join(VOLUMES)}, got {ending!r}; save volumes as NIfTI")
    labels, regions = _labels(file, table.get("labels", {}))
    channels = table.get("channel_names", table.get("modality", {}))
    if not isinstance(channels, dict) or sorted(channels) != sorted(map(str, range(len(channels)))):
        raise StudyError(f'{file}: channels must be named by number, such as {{"0": "T1"}}, got {shown(channels)}')
    names = tuple(str(channels[str(number)]) for number in range(len(channels)))
    return Described(labels, regions, names, _listed(file, table.get("training")))


def _labels(file: Path, table: Any) -> tuple[dict[int, str], dict[str, tuple[int, ...]]]:
    """Labels by value and regions by name, of {"0": "background", "1": "tumor"} or {"tumor": 1, "whole": [1, 2]}.

    Where one is a list, all that have a name are regions, since all are learned and judged in one way.
    """
    try:
        if not isinstance(table, Mapping):
            raise ValueError
        if all(key.isdecimal() and isinstance(name, str) for key, name in table.items()):
            named = {int(key): name for key, name in table.items() if int(key)}
            return dict(sorted(named.items())), {}
        values = {name: tuple(map(_whole, each if isinstance(each, list) else [each])) for name, each in table.items()}
        if not all(values.values()):
            raise ValueError
    except ValueError:
        raise StudyError(
            f'{file}: labels must be {{"1": "tumor"}} or {{"tumor": 1, "whole": [1, 2]}}, got {shown(table)}'
        ) from None
    parts = {name: each for name, each in values.items() if each != (0,)}
    labels = {value: f"label {value}" for value in sorted({v for each in parts.values() for v in each} - {0})}
    labels.update({parts[name][0]: name for name in parts if not isinstance(table[name], list)})
    if not any(isinstance(each, list) for each in table.values()):
        return labels, {}
    return labels, {name: each for name, each in parts.items() if name != IGNORE}


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _listed(file: Path, training: Any) -> frozenset[str] | None:
    """The images that a list names; files may have the number of a channel, which the list leaves out.

    Raises:
        StudyError: no list of images and labels, or files are missing: all of them are counted.
    """
    if not training:
        return None
    try:
        pairs = [(str(each["image"]), str(each["label"])) for each in training]
    except (TypeError, KeyError):
        raise StudyError(
            f'{file}: training must list images and labels, such as {{"image": "./imagesTr/a.nii.gz", "label": '
            '"./labelsTr/a.nii.gz"}'
        ) from None
    what = f"{file}: training"
    lost = [image for image, _ in pairs if not _stands_for(inside(file.parent, image, what))]
    lost += [label for _, label in pairs if not is_file(inside(file.parent, label, what))]
    if lost:
        some = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise StudyError(f"{file} lists {len(lost)} files that are missing: {some}")
    return frozenset(key_of(bare(Path(name).name)) for pair in pairs for name in pair)


def _stands_for(image: Path) -> bool:
    """Whether a listed image is there, or its first channel."""
    return image.is_file() or any((image.parent / f"{bare(image.name)}_0000{end}").is_file() for end in VOLUMES)
