"""How the volumes of a folder are prepared, decided on all of them: labels, spacing, normalization."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lib.common.errors import StudyError
from lib.data.preparation.own.mask_values import IGNORE, foreground_values, label_values, numbered, one_label
from lib.data.preparation.own.new_card import Wishes
from lib.data.preparation.volumes.described import Described
from lib.data.preparation.volumes.resampling import Window
from lib.data.preparation.volumes.survey import Seen
from lib.imaging.grids import Grid


@dataclass(frozen=True)
class Plan:
    """How every case of a folder is prepared.

    `chosen` are the values of masks that are foreground, or labels in their order, named by `labels`; none are named
    where masks are binary. `regions` are made of numbers of labels. `windows` are those of channels of CT.
    """

    chosen: Sequence[int]
    labels: Mapping[int, str] | None
    regions: Mapping[str, Sequence[int]]
    windows: Sequence[Window | None]
    spacing: tuple[float, float, float]

    @property
    def named(self) -> list[str]:
        """The names of labels, in the order of their numbers."""
        return [self.labels[value] for value in self.chosen if self.labels[value] != IGNORE] if self.labels else []

    @property
    def masks(self) -> str:
        """What masks hold, in words."""
        if self.named:
            return f"labels {', '.join(self.named)}" + (f"; regions {', '.join(self.regions)}" if self.regions else "")
        return f"mask values {', '.join(map(str, self.chosen))} as foreground"

    def mask(self, masks: Sequence[Grid], name: str) -> np.ndarray:
        """The masks of a case as one, uint8 (x, y, z): labels by number, or 0 and 1."""
        if self.labels is None:
            return np.logical_or.reduce([np.isin(mask.voxels[0], self.chosen) for mask in masks]).astype(np.uint8)
        return one_label([numbered(mask.voxels[0], self.chosen, self.labels) for mask in masks], name)

    def in_words(self) -> str:
        """The preparation as the card states it."""
        steps = " x ".join(f"{step:.4g}" for step in self.spacing)
        text = (
            "Axes turned to the right, front and up; cropped to what is not zero in any channel; intensities "
            f"normalized ({self._normalization()}); resampled to {steps} mm unless within 1 % of that (images: cubic "
            "splines; masks: the label that is largest after linear interpolation of each)."
        )
        values = ", ".join(map(str, self.chosen))
        return f"{text} {'Labels are mask values' if self.named else 'Foreground is mask value'} {values}."

    def _normalization(self) -> str:
        own = "mean 0 and standard deviation 1 of each volume within the body"
        texts = [
            own if window is None else
            f"clipped to {window.low:.5g} and {window.high:.5g}, less {window.mean:.5g}, by {window.spread:.5g}: "
            "percentiles 0.5 and 99.5, mean and standard deviation of foreground in all volumes"
            for window in self.windows
        ]  # fmt: skip
        if len(set(texts)) == 1:
            return texts[0]
        return "; ".join(f"channel {number}: {text}" for number, text in enumerate(texts, start=1))


def labels_of(wishes: Wishes, about: Described) -> Mapping[int, str] | None:
    """Names of mask values: what a user says counts before what a description does."""
    if wishes.labels or wishes.foreground:
        return wishes.labels
    return about.labels or None


def inside_of(wishes: Wishes, about: Described) -> Callable[[np.ndarray], np.ndarray] | None:
    """Where a mask is foreground, if that decides how intensities are normalized: a channel is of CT."""
    if not any(_of_ct(wishes, about, max(1, len(about.channels)))):
        return None
    labels = labels_of(wishes, about)
    values = [value for value, name in labels.items() if name != IGNORE] if labels else wishes.foreground
    return (lambda mask: np.isin(mask, values)) if values else (lambda mask: mask != 0)


def plan_of(seen: Sequence[Seen], wishes: Wishes, about: Described) -> tuple[Plan, list[str]]:
    """The plan for cases, and what is to be said of labels that no mask holds.

    Raises:
        StudyError: values of masks do not fit what is named or chosen, or nothing is foreground.
    """
    labels, told = labels_of(wishes, about), []
    of_file = {file: values for each in seen for file, values in each.values.items()}
    if labels is None:
        chosen = foreground_values(of_file, wishes.foreground)
    else:
        chosen = label_values(of_file, labels, held=labels is wishes.labels)
        held = set().union(*of_file.values())
        told = [f"no mask holds {labels[value]} (value {value})" for value in chosen if value not in held]
        if not held & {value for value in chosen if labels[value] != IGNORE}:
            raise StudyError("no mask holds any of the labels: is this the right folder?")
    ct = _of_ct(wishes, about, seen[0].channels)
    pooled = np.concatenate([each.foreground for each in seen], 1)
    windows = [Window.of(values) if one else None for one, values in zip(ct, pooled, strict=True)]
    x, y, z = np.median([each.spacing for each in seen], axis=0).round(6).tolist()
    regions = {}
    if labels is not None and labels is about.labels:
        counted = [value for value in chosen if labels[value] != IGNORE]
        number = {value: place for place, value in enumerate(counted, start=1)}
        regions = {
            name: [number[value] for value in values if value in number] for name, values in about.regions.items()
        }
    return Plan(chosen, labels, regions, windows, wishes.spacing or (x, y, z)), told


def _of_ct(wishes: Wishes, about: Described, channels: int) -> list[bool]:
    """Which channels are of CT: what a user says counts before what a description does."""
    names = [wishes.modality] * channels if wishes.modality or not about.channels else about.channels
    return [re.search(r"\bct\b", name.lower()) is not None for name in names]
