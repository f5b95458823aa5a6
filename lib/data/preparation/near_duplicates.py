"""Pictures that are nearly the same: found in what a user brings, reduced to one in the sets that are prepared here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 32  # pixels, at which edges are compared
ALIKE = 0.8  # cosine of edges: other pictures of seven real sets reach 0.77, the same ones saved again 0.84 and more
ROWS = 1024  # pictures that are held against all others at once


def reduced(image: np.ndarray) -> np.ndarray:
    """A picture, uint8 (h, w) or (h, w, 3), as `alike` compares it: gray, float32 (SIDE, SIDE), by area average."""
    from PIL import Image

    small = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def alike(pictures: Sequence[np.ndarray], groups: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of positions, first before second, of pictures in two groups that are nearly the same.

    Found are pictures saved again with loss, at another size, brightness or contrast, and those mirrored or turned by
    quarters, as augmented copies are. Not found: those cut out by several percent, or turned by other angles. A picture
    without any edge is like no other.

    Args:
        pictures: as `reduced` gives them.
        groups: of each picture.
    """
    if not len(pictures):
        return []
    owner = np.unique(list(groups), return_inverse=True)[1]
    straight = np.stack([_edges(picture) for picture in pictures])
    found = set()
    for first in range(0, len(pictures), ROWS):
        some = pictures[first : first + ROWS]
        for quarters in range(8):
            turned = [np.rot90(each if quarters < 4 else each.T, quarters % 4) for each in some]
            close = np.stack([_edges(each) for each in turned]) @ straight.T >= ALIKE
            close &= owner[first : first + ROWS, None] != owner
            found |= {(min(a + first, b), max(a + first, b)) for a, b in np.argwhere(close).tolist()}
    return sorted(found)


def _edges(picture: np.ndarray) -> np.ndarray:
    """Differences of neighbors as a vector of length 1; their roots, so that no single edge decides."""
    steps = np.concatenate([np.diff(picture, axis=axis).ravel() for axis in (0, 1)])
    steps = np.sign(steps) * np.sqrt(np.abs(steps))
    length = np.linalg.norm(steps)
    return steps / length if length > 0 else steps


def fingerprint(picture: Image) -> np.ndarray:
    """256 bits, bool (256,), that near-duplicates nearly share: does brightness rise from left to right?

    The picture is reduced to 17 x 16 gray values; a bit compares two neighbors of a row (a difference hash).
    """
    from PIL import Image

    small = np.asarray(picture.resize((17, 16), Image.Resampling.BILINEAR))
    return (small[:, 1:] > small[:, :-1]).ravel()


def chains(prints: Sequence[np.ndarray], distance: int) -> np.ndarray:
    """The cluster of each fingerprint, int (n,): two that differ in at most `distance` bits are in one, and so on.

    Clusters are numbered in the order of their first members.
    """
    from scipy.sparse.csgraph import connected_components

    if not len(prints):
        return np.zeros(0, dtype=np.int64)
    bits = np.stack(prints).astype(np.float32)
    differing = bits.shape[1] - bits @ bits.T - (1 - bits) @ (1 - bits).T
    labels = connected_components(differing <= distance, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def first_of_chain(prints: Sequence[np.ndarray], distance: int) -> list[int]:
    """The positions that remain when near-duplicates are reduced to the first of each cluster."""
    labels = chains(prints, distance)
    return sorted(np.unique(labels, return_index=True)[1].tolist())
