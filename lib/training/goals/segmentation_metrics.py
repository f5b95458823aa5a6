"""What a segmentation is worth: Dice and the 95th percentile Hausdorff distance, with their conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.data.prepared_folder import IGNORED

Mask = NDArray[np.bool_] | NDArray[np.uint8]
SCORES = ("dice", "hd95")


def dice(prediction: Mask, truth: Mask) -> float:
    """Dice overlap of two masks of one shape, in [0, 1]; 1 when both are empty (such images are counted apart)."""
    _check(prediction, truth)
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
    return 2.0 * int(np.count_nonzero(np.logical_and(prediction, truth))) / total if total else 1.0


def hd95(prediction: Mask, truth: Mask, spacing: Sequence[float] | None = None) -> float:
    """95th percentile Hausdorff distance: the larger of the two directed 95th percentiles over border pixels.

    In pixels, or in the units of `spacing`, the distance of neighbors along each axis. Border pixels are those that an
    erosion by the 4-neighborhood (6 in 3-D) removes. Two empty masks are 0 apart; one empty mask costs the diagonal of
    the image, so that a miss is never dropped from a mean.
    """
    from scipy import ndimage

    _check(prediction, truth)
    a, b = np.asarray(prediction, bool), np.asarray(truth, bool)
    if not a.any() or not b.any():
        sides = a.shape if spacing is None else np.multiply(a.shape, spacing)
        return 0.0 if a.any() == b.any() else float(np.linalg.norm(sides))
    near = tuple(
        slice(max(0, int(places.min()) - 1), int(places.max()) + 2) for places in np.nonzero(a | b)
    )  # borders and their distances lie within
    border_a, border_b = (each & ~np.asarray(ndimage.binary_erosion(each), bool) for each in (a, b))
    border_a, border_b = border_a[near], border_b[near]
    a_to_b = np.asarray(ndimage.distance_transform_edt(~border_b, sampling=spacing))[border_a]
    b_to_a = np.asarray(ndimage.distance_transform_edt(~border_a, sampling=spacing))[border_b]
    return float(max(np.percentile(a_to_b, 95), np.percentile(b_to_a, 95)))


@dataclass(frozen=True)
class Score:
    """One structure in one image: Dice, HD95, and whether the truth has it and the prediction draws it."""

    dice: float
    hd95: float
    filled: bool
    drawn: bool

    @staticmethod
    def of(prediction: Mask, truth: Mask, spacing: Sequence[float] | None = None) -> Score:
        """Of two masks, whose pixels are `spacing` apart."""
        near = dice(prediction, truth), hd95(prediction, truth, spacing)
        return Score(*near, bool(truth.any()), bool(prediction.any()))


def scores_of(
    prediction: Mask, truth: Mask, parts: Mapping[str, Sequence[int]], spacing: Sequence[float] | None = None
) -> dict[str, Score]:
    """The score of every part of an image, by its name; of a binary mask, where there are no parts, under "".

    Args:
        prediction, truth: uint8, of one shape; pixels whose truth is 255 count as background in both.
        parts: the values of a mask that make up each part.
    """
    if not parts:
        return {"": Score.of(prediction, truth, spacing)}
    known = truth != IGNORED
    return {
        name: Score.of(np.isin(prediction, values) & known, np.isin(truth, values), spacing)
        for name, values in parts.items()
    }


def summarize(scores: Sequence[dict[str, Score]], ids: Sequence[str], unit: str = "px") -> dict[str, Any]:
    """Mean scores of images and every image's: what `result.json` says under "test".

    `misses` counts structures of which nothing was drawn; `empty` images without any. Where images have parts, means
    are over parts, and `labels` says all of it for each by its name.

    Args:
        scores: of each image, from `scores_of`. unit: of distances.
    """
    each = {name: _of_part([image[name] for image in scores]) for name in scores[0]}
    parts = list(each.values())
    means = {score: np.mean([part["per_image"][score] for part in parts], axis=0).tolist() for score in SCORES}
    found = {
        **{score: float(np.mean([part[score] for part in parts])) for score in SCORES},
        "unit": unit,
        "misses": sum(part["misses"] for part in parts),
        "empty": sum(not any(part.filled for part in image.values()) for image in scores),
        "images": len(scores),
        "per_image": {"id": list(ids), **means},
    }
    return found if set(each) == {""} else {**found, "labels": each}


def _of_part(scores: Sequence[Score]) -> dict[str, Any]:
    values = {"dice": [each.dice for each in scores], "hd95": [each.hd95 for each in scores]}
    return {
        **{name: float(np.mean(each)) for name, each in values.items()},
        "misses": sum(each.filled and not each.drawn for each in scores),
        "empty": sum(not each.filled for each in scores),
        "images": len(scores),
        "per_image": values,
    }


def _check(prediction: Mask, truth: Mask) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction and truth must have one shape, got {prediction.shape} and {truth.shape}")
