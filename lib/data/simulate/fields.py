"""What the simulators share: random fields that look the same at any size, area reduction, outlines, dial checks."""

from __future__ import annotations

from functools import lru_cache
from numbers import Integral, Real

import numpy as np

from lib.common.errors import StudyError

_SPLINE_POWER = 0.479  # mean squared weight of a cubic B-spline basis, so that fields have unit variance


def check(name: str, value: object, low: float, high: float, unit: str = "") -> float:
    """A dial as a float, if it is a number from `low` to `high` (both included).

    Raises:
        StudyError: it is not; the message names the dial, the value, the range and the unit.
    """
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else float("nan")
    if not low <= number <= high:
        text = f"{name} must be a number from {low:g} to {high:g}{unit and ' ' + unit}, not {value!r}"
        raise StudyError(text)
    return number


def check_whole(name: str, value: object, low: int, high: int | None = None) -> int:
    """A whole number of at least `low` and, where there is a `high`, at most that.

    Raises:
        StudyError: it is not.
    """
    whole = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if whole is None or whole < low or (high is not None and whole > high):
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise StudyError(f"{name} must be a whole number {span}, not {value!r}")
    return whole


def generators(index: int, seed: int, count: int) -> list[np.random.Generator]:
    """`count` independent generators of image `index` of the set `seed`; no image depends on another."""
    check_whole("index", index, 0)
    check_whole("seed", seed, 0)
    return np.random.default_rng([seed, index]).spawn(count)


@lru_cache(maxsize=256)
def spline(points: int, cells: int) -> np.ndarray:
    """Cubic B-spline weights (points, cells + 3) of `points` pixel centers that span `cells` equal intervals."""
    at = (np.arange(points) + 0.5) / points * cells
    first = np.minimum(at.astype(int), cells - 1)
    t = at - first
    taps = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    ) / 6  # fmt: skip
    weights = np.zeros((points, cells + 3), np.float32)
    np.put_along_axis(weights, first[:, None] + np.arange(4), taps.astype(np.float32), axis=1)
    weights.setflags(write=False)
    return weights


def smooth(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, int]) -> np.ndarray:
    """Gaussian random field, float32 (rows, columns), mean 0, variance about 1, with `cells` bumps down and across.

    The field is a function of position in the image, so the same generator gives the same field at any `shape`.
    """
    knots = rng.standard_normal((cells[0] + 3, cells[1] + 3), dtype=np.float32) / _SPLINE_POWER
    return spline(shape[0], cells[0]) @ knots @ spline(shape[1], cells[1]).T


def fractal(
    rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, int], octaves: int, gain: float = 0.6
) -> np.ndarray:
    """Sum of `octaves` smooth fields, each of twice the frequency and `gain` times the height; variance about 1.

    Octaves finer than two pixels are left out, which is what averaging over the pixels would do to them.
    """
    heights = gain ** np.arange(octaves)
    heights /= np.sqrt((heights**2).sum())
    total = np.zeros(shape, np.float32)
    for octave, (height, child) in enumerate(zip(heights, rng.spawn(octaves), strict=True)):
        fine = (cells[0] << octave, cells[1] << octave)
        if 2 * fine[0] <= shape[0] and 2 * fine[1] <= shape[1]:
            total += np.float32(height) * smooth(child, shape, fine)
    return total


@lru_cache(maxsize=64)
def _areas(points: int, size: int) -> np.ndarray:
    """Weights (size, points) that average `points` equal pieces of a line into `size` equal pieces."""
    edges = np.linspace(0, points, size + 1)
    pieces = np.arange(points)
    overlap = np.minimum(edges[1:, None], pieces + 1) - np.maximum(edges[:-1, None], pieces)
    weights = (np.clip(overlap, 0, None) * size / points).astype(np.float32)
    weights.setflags(write=False)
    return weights


def reduce(image: np.ndarray, size: int) -> np.ndarray:
    """Area average of an image (rows, columns) on `size` x `size` pixels."""
    return _areas(image.shape[0], size) @ image.astype(np.float32, copy=False) @ _areas(image.shape[1], size).T


def positions(points: int, start: float = 0.0, stop: float = 1.0) -> np.ndarray:
    """Pixel centers, float32 (points,), of `points` equal pixels from `start` to `stop`."""
    return (start + (np.arange(points) + 0.5) * (stop - start) / points).astype(np.float32)


@lru_cache(maxsize=16)
def _turns(last: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (1024, orders) of 2 to `last` times the angles from -pi to pi."""
    angle = np.linspace(-np.pi, np.pi, 1024, endpoint=False)[:, None] * np.arange(2, last + 1)
    return np.cos(angle), np.sin(angle)


def outline(rng: np.random.Generator, roughness: float, last: int = 9, decay: float = 1.2) -> np.ndarray:
    """Radii (1024,), mean 1 and spread about `roughness`, of a star-shaped outline by angle from -pi to pi.

    Its waves are the 2nd to the `last` harmonic, with heights that fall as order^-`decay`.
    """
    order = np.arange(2, last + 1)
    height = rng.standard_normal((2, order.size)) * order**-decay
    height *= roughness / np.sqrt((order ** (-2 * decay)).sum())
    cosines, sines = _turns(last)
    radius = 1 + cosines @ height[0] + sines @ height[1]
    return np.clip(radius, 0.3, 2.0).astype(np.float32)


def radius_at(radii: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The outline's radius in the direction of each point (y, x) from its center."""
    turn = (np.arctan2(y, x) * (512 / np.pi)).astype(np.int32) + 512
    return radii[turn & 1023]
