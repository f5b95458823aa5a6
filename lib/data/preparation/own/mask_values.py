"""What the values of a user's masks stand for: foreground, labels, or nothing that counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lib.common.errors import StudyError
from lib.data.preparation.pictures import shown_value
from lib.data.prepared_folder import IGNORED

IGNORE = "ignore"  # the name of what is no label
EDGES = 16  # how far from its ends a lossy or smoothed mask of 0 and 255 strays


def foreground_values(of_file: Mapping[Path, set[int]], chosen: Sequence[int] | None) -> list[int]:
    """Which values of the masks are foreground: those chosen, else the one value that they hold besides 0.

    Args:
        of_file: the values that each mask holds.

    Raises:
        StudyError: nothing was chosen and the masks hold more than one value besides 0; a chosen value is in none; or
            values are those of edges that were smoothed or saved with loss.
    """
    found = sorted(set().union(*of_file.values()))
    text = listed(found)
    if chosen:
        absent = [value for value in chosen if value not in found]
        if absent:
            raise StudyError(f"no mask holds the value {absent[0]}; the values found are {text}")
        if blurred := _blurred(found):
            raise StudyError(
                f"the other values would become background, those of the edges too; the values found are {text}"
                f"{_culprits(of_file)}; {blurred}"
            )
        return list(chosen)
    besides = [value for value in found if value != 0]
    if len(besides) != 1:
        raise StudyError(
            f"masks must be binary (0 and one other value), the values found are {text}{_culprits(of_file)}; "
            f"{_advice(of_file)}"
        )
    return besides


def listed(values: Sequence[int]) -> str:
    """Values of masks as text, the first twelve one by one."""
    return ", ".join(map(shown_value, values[:12])) + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def _culprits(of_file: Mapping[Path, set[int]]) -> str:
    """Which masks hold more than two values, where only some do."""
    many = sorted((file for file, values in of_file.items() if len(values) > 2), key=lambda file: -len(of_file[file]))
    if not many or len(many) == len(of_file):
        return ""
    return f", more than two of them in {len(many)} of {len(of_file)} masks, such as {many[0].name}"


def label_values(of_file: Mapping[Path, set[int]], labels: Mapping[int, str], *, held: bool = True) -> list[int]:
    """The values of the masks in the order in which they were named, which numbers them; every one has a name.

    Args:
        of_file: the values that each mask holds. held: whether each value that is named must be in a mask.

    Raises:
        StudyError: two labels of one name or none of any, a value that is named and in no mask, or one in the masks
            that is not named.
    """
    names = [name for name in labels.values() if name != IGNORE]
    if not names or len(set(labels.values())) < len(labels) or not all(labels.values()) or 0 in labels:
        raise StudyError(f"labels must be different names of values other than 0, which is background, got {labels}")
    found = sorted(set().union(*of_file.values()))
    odd = [value for value in found if value and value not in labels]
    absent = [value for value in labels if value not in found and held]
    if odd or absent:
        value = shown_value((odd or absent)[0])
        what = f"masks hold the value {value}, which has no name" if odd else f"no mask holds the value {value}"
        named = ", ".join(map(shown_value, labels))
        raise StudyError(f"{what}; the values found are {listed(found)}, those named are {named}")
    return list(labels)


def numbered(values: np.ndarray, chosen: Sequence[int], labels: Mapping[int, str]) -> np.ndarray:
    """Labels by number, in the order in which they were named, and `IGNORED`."""
    mask = np.zeros(values.shape, np.uint8)
    number = 0
    for value in chosen:
        number += labels[value] != IGNORE
        mask[values == value] = IGNORED if labels[value] == IGNORE else number
    return mask


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
    if blurred := _blurred(found):
        return blurred
    named = ", ".join(f"{value}=NAME" for value in found[:4] if value)
    return f'name them with --labels "{named}" (the name ignore for a rim), or choose with --foreground'


def _blurred(found: Sequence[int]) -> str:
    """What to do about masks whose values, in ascending order, are no labels; nothing where they may be."""
    between = set(range(2, EDGES + 1)) | set(range(255 - EDGES, 255))
    if found[-1] >= 255 - EDGES and between & set(found) and all(min(v, abs(255 - v)) <= EDGES for v in found):
        return "they look like 0 and 255 saved with loss; save them again as PNG, cut at 127"
    sides = [sum(1 <= abs(value - end) <= EDGES for value in found) for end in (0, 255)]
    if len(found) > 50 or min(sides) > 3:
        return (
            "they look like a photograph, or like edges that were smoothed; save masks as PNG with one value per label"
        )
    return ""


def one_label(masks: Sequence[np.ndarray], name: str) -> np.ndarray:
    """The masks of a picture as one, where no pixel has two labels."""
    whole = masks[0]
    for mask in masks[1:]:
        if ((whole > 0) & (mask > 0) & (whole != mask)).any():
            raise StudyError(f"{name}: its masks give a pixel two labels; save one mask with one value each")
        whole = np.maximum(whole, mask)
    return whole
