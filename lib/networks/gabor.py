"""Gabor functions on the grid of a kernel: oriented waves under a bell, what first layers learn from photographs."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Used = NDArray[np.bool_]


def kept_by_grid(make: Callable[[Used], Floats]) -> Callable[[Used], Floats]:
    """A function of the taps in use whose answers are kept: a battery asks for the same few grids again and again."""

    @functools.lru_cache(maxsize=64)
    def kept(shape: tuple[int, ...], used: bytes) -> Floats:
        made = make(np.frombuffer(used, dtype=bool).reshape(shape))
        made.flags.writeable = False
        return made

    return functools.wraps(make)(lambda used: kept(used.shape, used.tobytes()))


@kept_by_grid
def gabor_atoms(used: Used) -> Floats:
    """A dictionary of Gabor functions on the taps in use, (atoms, taps in use); each has mean 0 and length 1.

    Waves in every direction that steps of at most two taps can name (8 in the plane, 49 in space), even and odd, with
    wavelengths of two and of four thirds of the kernel's longest side (never below two taps), under a Gaussian of a
    third of that side. Functions that coincide on the grid are taken once; none is left on a single tap. A grid with
    a side of one tap has no direction along it: 3 x 3 x 1 has the functions of 3 x 3.

    Args:
        used: shape of the grid; False for masked taps.
    """
    side, axes = max(used.shape), [axis for axis, length in enumerate(used.shape) if length > 1]
    places = (np.argwhere(used) - (np.array(used.shape) - 1) / 2)[:, axes]  # (taps, axes)
    envelope = np.exp(-(places**2).sum(axis=1) / (2 * (side / 3) ** 2))
    atoms: list[Floats] = []
    for direction in _directions(len(axes)):
        along = places @ (direction / np.linalg.norm(direction))
        for length, phase in itertools.product((2 / 3, 4 / 3), (0.0, math.pi / 2)):
            atom = envelope * np.cos(2 * math.pi * along / max(2.0, length * side) - phase)
            atom = atom - atom.mean()
            size = np.linalg.norm(atom)
            if size > 1e-6 and all(abs(atom @ other) < 0.999 * size for other in atoms):
                atoms.append(atom / size)
    return np.array(atoms).reshape(len(atoms), len(places))


def _directions(axes: int) -> list[Floats]:
    """Directions with whole coordinates of -2 to 2, one of each opposite pair, none twice."""
    found = []
    for steps in itertools.product(range(-2, 3), repeat=axes):
        first = next((step for step in steps if step), 0)
        if first > 0 and math.gcd(*steps) == 1:
            found.append(np.array(steps, dtype=np.float64))
    return found
