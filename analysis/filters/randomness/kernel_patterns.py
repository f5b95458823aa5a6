"""Patterns that a kernel can be compared with: slow waves, neighbors and offsets.

For Gabor functions see `lib.networks.gabor`.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from lib.networks.gabor import kept_by_grid

Floats = NDArray[np.float64]
Used = NDArray[np.bool_]


@kept_by_grid
def slow_waves(used: Used) -> Floats:
    """An orthonormal basis, (r, taps in use), of the slow half of a kernel's frequencies.

    The cosine waves (DCT-II) whose orders, each over the side of its axis, add up to less than one half: for 3 x 3 the
    constant and the two gradients, for 2 x 2 the constant.
    """
    waves = []
    for orders in itertools.product(*map(range, used.shape)):
        if sum(order / side for order, side in zip(orders, used.shape, strict=True)) < 0.5:
            wave = np.ones(used.shape)
            for axis, (order, side) in enumerate(zip(orders, used.shape, strict=True)):
                values = np.cos(math.pi * order * (np.arange(side) + 0.5) / side)
                wave = wave * values.reshape([-1 if each == axis else 1 for each in range(used.ndim)])
            waves.append(wave[used])
    basis, sizes, _ = np.linalg.svd(np.array(waves).T, full_matrices=False)
    return basis[:, sizes > 1e-9 * sizes[0]].T


def neighbors(used: Used) -> NDArray[np.intp]:
    """Pairs of taps in use that lie side by side, (pairs, 2), as numbers among the taps in use."""
    places = np.argwhere(used)
    apart = np.abs(places[:, None] - places[None, :]).sum(axis=2)
    return np.argwhere(np.triu(apart == 1))


@kept_by_grid
def lags(used: Used) -> Floats:
    """For each offset of up to two taps along every axis (one of each opposite pair): its pairs of taps, as weights.

    Returns:
        (offsets, taps * taps) with rows that add up to 1: a product with the flattened Gram matrix of taps averages
        it over all pairs with that offset. Offsets that no pair of taps in use has are left out.
    """
    places = np.argwhere(used)
    apart = places[:, None] - places[None, :]
    rows = []
    for offset in itertools.product(range(-2, 3), repeat=used.ndim):
        pairs = (apart == offset).all(axis=2)
        if next((step for step in offset if step), 0) > 0 and pairs.any():
            rows.append(pairs.ravel() / pairs.sum())
    return np.array(rows)
