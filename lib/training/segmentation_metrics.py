"""What a segmentation is worth: Dice and the 95th percentile Hausdorff distance, with their conventions."""

from __future__ import annotations

from collections.abc import Sequence
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


def hd95(prediction: Mask, truth: Mask) -> float:
    """95th percentile Hausdorff distance in pixels: the larger of the two directed 95th percentiles over border pixels.

    Border pixels are those that an erosion by the 4-neighborhood (6 in 3-D) removes. Two empty masks are 0 apart; one
    empty mask costs the diagonal of the image, so that a miss is never dropped from a mean.
    """
    from scipy import ndimage

    _check(prediction, truth)
    a, b = np.asarray(prediction, bool), np.asarray(truth, bool)
    if not a.any() or not b.any():
        return 0.0 if a.any() == b.any() else float(np.linalg.norm(a.shape))
    border_a, border_b = (each & ~np.asarray(ndimage.binary_erosion(each), bool) for each in (a, b))
    a_to_b = np.asarray(ndimage.distance_transform_edt(~border_b))[border_a]
    b_to_a = np.asarray(ndimage.distance_transform_edt(~border_a))[border_b]
    return float(max(np.percentile(a_to_b, 95), np.percentile(b_to_a, 95)))


def segmentation_scores(predictions: Mask, truths: Mask) -> dict[str, list[float]]:
    """Dice and HD95 of every image: `{"dice": n values, "hd95": n values}` for masks of shape (n, h, w)."""
    pairs = list(zip(predictions, truths, strict=True))
    return {"dice": [dice(*pair) for pair in pairs], "hd95": [hd95(*pair) for pair in pairs]}


def summarize(predictions: Mask, truths: Mask, ids: Sequence[str]) -> dict[str, Any]:
    """Mean scores of masks (n, h, w), and every image's: what `result.json` says under "test".

    `misses` counts images with a structure of which nothing was drawn; `empty` those without one.
    """
    scores = segmentation_scores(predictions, truths)
    filled, drawn = truths.any(axis=(1, 2)), predictions.any(axis=(1, 2))
    return {
        "dice": float(np.mean(scores["dice"])),
        "hd95": float(np.mean(scores["hd95"])),
        "misses": int(np.count_nonzero(filled & ~drawn)),
        "empty": int(np.count_nonzero(~filled)),
        "images": len(truths),
        "per_image": {"id": list(ids), **scores},
    }


def summarize_labels(predictions: Mask, truths: Mask, ids: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """What `summarize` says, of masks (n, h, w) of labels: the mean over labels, and all of it for each by its name.

    Label 1 is the first of `labels`. Pixels whose truth is 255 count as background in both. A miss is counted for
    every label; `empty` counts images without any label.
    """
    known = truths != IGNORED
    each = {
        name: summarize((predictions == number) & known, truths == number, ids)
        for number, name in enumerate(labels, start=1)
    }
    parts = list(each.values())
    per_image = {score: np.mean([part["per_image"][score] for part in parts], axis=0).tolist() for score in SCORES}
    return {
        **{score: float(np.mean([part[score] for part in parts])) for score in SCORES},
        "misses": sum(part["misses"] for part in parts),
        "empty": int(np.count_nonzero(~((truths > 0) & known).any(axis=(1, 2)))),
        "images": len(truths),
        "per_image": {"id": list(ids), **per_image},
        "labels": {
            name: {**part, "per_image": {s: part["per_image"][s] for s in SCORES}} for name, part in each.items()
        },
    }


def _check(prediction: Mask, truth: Mask) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction and truth must have one shape, got {prediction.shape} and {truth.shape}")
