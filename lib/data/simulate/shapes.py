"""Signed distances of bodies in space, in millimeters and negative inside, and painting of tissues by them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from lib.data.simulate.fields import spline

Points = np.ndarray  # float32 (3, n): right, front, up


def ellipsoid(at: Points, center: Sequence[float], radii: Sequence[float], *, pitch: float = 0.0) -> np.ndarray:
    """Distance to an ellipsoid (first-order accurate), whose front is raised by `pitch` degrees."""
    x, y, z = (at[axis] - np.float32(center[axis]) for axis in range(3))
    if pitch:
        cosine, sine = np.float32(np.cos(np.radians(pitch))), np.float32(np.sin(np.radians(pitch)))
        y, z = cosine * y + sine * z, cosine * z - sine * y
    a, b, c = (np.float32(1 / radius) for radius in radii)
    x, y, z = x * a, y * b, z * c
    near = np.sqrt(x * x + y * y + z * z)
    slope = np.sqrt((x * a) ** 2 + (y * b) ** 2 + (z * c) ** 2)
    return (near - 1) * np.maximum(near, 1e-6) / np.maximum(slope, 1e-6 / max(radii))


def tube(at: Points, knots: Sequence[Sequence[float]]) -> np.ndarray:
    """Distance to a chain of cones with rounded ends; every knot is (right, front, up, radius)."""
    nearest = np.full(at.shape[1], 1e3, np.float32)
    for first, last in itertools.pairwise(knots):
        start = np.array(first[:3], np.float32)[:, None]
        axis = np.array(last[:3], np.float32)[:, None] - start
        offset = at - start
        along = np.clip((offset * axis).sum(axis=0) / float((axis**2).sum()), 0, 1)
        radius = np.float32(first[3]) + along * np.float32(last[3] - first[3])
        offset -= along * axis
        np.minimum(nearest, np.sqrt((offset * offset).sum(axis=0)) - radius, out=nearest)
    return nearest


def blend(first: np.ndarray, second: np.ndarray, width: float) -> np.ndarray:
    """Union of two bodies whose seam is rounded over `width` millimeters."""
    near = np.clip(0.5 + 0.5 * (second - first) / width, 0, 1)
    return second + (first - second) * near - width * near * (1 - near)


def smooth_volume(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Gaussian random field, float32 (size, size, size), variance about 1, with `cells` bumps along each axis.

    A function of position, so that the same generator gives the same field at any size.
    """
    weights = spline(size, cells)
    field = rng.standard_normal((cells + 3,) * 3, dtype=np.float32) / np.float32(0.479**1.5)
    for _ in range(3):  # each turn handles the last axis and brings the next one there
        field = np.moveaxis(field @ weights.T, -1, 0)
    return field


def folds(
    at: Points, rng: np.random.Generator, wavelength: float, waves: int, spread: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """A random field with bumps of one size, and its slope per millimeter: where it is zero lie winding sheets.

    The sum of `waves` plane waves of random directions (isotropic Gaussian field), at points (3, n).
    """
    direction = rng.standard_normal((waves, 3)).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    number = (2 * np.pi / wavelength * (1 + spread * rng.standard_normal(waves))).astype(np.float32)
    direction *= number[:, None]
    start = rng.uniform(0, 2 * np.pi, waves).astype(np.float32)
    value = np.zeros(at.shape[1], np.float32)
    slope = np.zeros_like(at)
    for wave, phase in zip(direction, start, strict=True):
        angle = wave @ at + phase
        value += np.cos(angle)
        slope -= wave[:, None] * np.sin(angle)
    return value, np.sqrt((slope * slope).sum(axis=0))


class Canvas:
    """Fractions of tissues in voxels, painted body over body; every voxel's fractions sum to 1.

    Args:
        at: voxel centers. voxel: their distance, over which an edge is spread. tissues: their names, the first of which
            fills the empty canvas.
    """

    def __init__(self, at: Points, voxel: float, tissues: Sequence[str]) -> None:
        self.at, self.voxel, self.tissues = at, voxel, list(tissues)
        self.fractions = np.zeros((len(tissues), at.shape[1]), np.float32)
        self.fractions[0] = 1
        self.where = np.arange(at.shape[1])

    def part(self, chosen: np.ndarray) -> Canvas:
        """A canvas of the chosen voxels alone, to be painted and then `put` back: most bodies are small."""
        part = Canvas(self.at[:, chosen], self.voxel, self.tissues)
        part.where = np.flatnonzero(chosen)
        part.fractions = self.fractions[:, part.where]
        return part

    def put(self, part: Canvas) -> None:
        """Take over what was painted on a `part` of this canvas."""
        self.fractions[:, part.where] = part.fractions

    def paint(self, tissue: str, distance: np.ndarray, within: np.ndarray | None = None) -> None:
        """Cover what lies inside the body with a tissue; `within` limits it to a coverage that was made before."""
        cover = self.coverage(distance)
        if within is not None:
            cover *= within
        hit = np.flatnonzero(cover)
        part = self.fractions[:, hit] * (1 - cover[hit])
        part[self.tissues.index(tissue)] += cover[hit]
        self.fractions[:, hit] = part

    def coverage(self, distance: np.ndarray) -> np.ndarray:
        """The fraction of each voxel that lies inside a body, from its distance."""
        return np.clip(0.5 - distance / np.float32(self.voxel), 0, 1)
