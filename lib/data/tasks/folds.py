"""Folds by group: which group falls into which fold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from lib.common.errors import StudyError


def assign_folds(groups: Sequence[str], count: int, name: str) -> np.ndarray:
    """The fold, 0 to `count` - 1, of every image; images of one group share a fold.

    Groups are taken in the order of sha256("name/group"), so the outcome does not depend on the order of the
    images, and each goes to the fold that holds the fewest images so far (the lowest number among equals).

    Args:
        groups: the group of each image.
        count: number of folds.
        name: the dataset's name; two datasets with equal group names get unrelated folds.

    Returns:
        int64 (n,).

    Raises:
        StudyError: fewer groups than folds, so that a fold would stay empty.
    """
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    if count < 1 or len(sizes) < count:
        raise StudyError(
            f"{name}: {count} folds need at least as many groups, got {len(sizes)} groups; "
            f"lower split.folds in the card, or give finer groups"
        )
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{name}/{group}".encode()).digest())
    held = [0] * count
    where = {}
    for group in order:
        fold = held.index(min(held))
        where[group] = fold
        held[fold] += sizes[group]
    return np.array([where[group] for group in groups], dtype=np.int64)


def shared_folds(groups: Sequence[str], count: int, people: str) -> np.ndarray:
    """The fold of every image, int64 (n,), by its group's name alone: the same in every set of the same people.

    Folds are as even as chance makes them, because no set may look at another to even them out.
    """
    digests = (hashlib.sha256(f"{people}/{group}".encode()).digest() for group in groups)
    return np.array([int.from_bytes(digest[:8]) % count for digest in digests], dtype=np.int64)
