"""Simulated grey-level photographs: dead leaves behind one articulated object.

A dead-leaves image is a pile of shapes that hide one another, with radii drawn from a power law; with density r^-3 it
is nearly scale invariant and shares statistics of edges with photographs (Lee, Mumford and Huang, Int. J. Comput. Vis.
41, 2001). Networks pretrained on such images learn features of use on real ones (Baradad et al., Learning to See by
Looking at Noise, arXiv:2106.05963). Here the leaves have textures, shading and a common illumination and lie before a
wall and a ground, and one object of several textured limbs stands whole in front of them.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.data.simulate.fields import (
    check,
    check_whole,
    fractal,
    generators,
    outline,
    positions,
    radius_at,
    reduce,
    smooth,
)

_SMALLEST, _LARGEST = 0.03, 0.35  # radii of leaves, fraction of the image

# Limbs of the objects: start (down, across), end, radius at either end, all in heights of the object about its middle;
# the number of the part whose tone it shares; how far a joint may stray.
_BIPED = (
    ((0.02, -0.06), (0.24, -0.08), 0.085, 0.065, 1, 0.03),
    ((0.24, -0.08), (0.47, -0.09), 0.06, 0.045, 1, 0.04),
    ((0.02, 0.06), (0.24, 0.08), 0.085, 0.065, 1, 0.03),
    ((0.24, 0.08), (0.47, 0.09), 0.06, 0.045, 1, 0.04),
    ((-0.24, 0.0), (0.04, 0.0), 0.13, 0.12, 0, 0.02),
    ((-0.27, -0.13), (-0.08, -0.19), 0.05, 0.045, 0, 0.05),
    ((-0.08, -0.19), (0.06, -0.15), 0.042, 0.035, 2, 0.07),
    ((-0.27, 0.13), (-0.08, 0.19), 0.05, 0.045, 0, 0.05),
    ((-0.08, 0.19), (0.06, 0.15), 0.042, 0.035, 2, 0.07),
    ((-0.33, 0.0), (-0.42, 0.0), 0.05, 0.075, 2, 0.02),
)
_QUADRUPED = (
    ((0.0, -0.3), (0.4, -0.33), 0.09, 0.045, 1, 0.05),
    ((0.0, -0.2), (0.4, -0.17), 0.08, 0.045, 1, 0.05),
    ((0.0, 0.2), (0.4, 0.17), 0.08, 0.045, 1, 0.05),
    ((0.0, 0.3), (0.4, 0.33), 0.09, 0.045, 1, 0.05),
    ((-0.03, -0.28), (-0.03, 0.28), 0.17, 0.15, 0, 0.03),
    ((-0.08, 0.3), (-0.3, 0.42), 0.09, 0.08, 0, 0.05),
    ((-0.3, 0.4), (-0.28, 0.56), 0.09, 0.05, 2, 0.04),
)


def draw(
    index: int,
    *,
    size: int = 128,
    seed: int = 0,
    leaves: int = 150,
    exponent: float = 3.0,
    contrast: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """One simulated photograph and the mask of the object in front.

    Scene and object come from separate generators: no dial changes the mask.

    Args:
        index: which image of the set, from 0.
        size: pixels per side, from 32. Up to 128 a smaller image is the larger one, averaged.
        seed: which set.
        leaves: shapes in the background, 0 to 2000.
        exponent: of the power law of the radii, 1 (large shapes rule) to 5 (small shapes rule).
        contrast: how far the object's tones keep from the mean of what it hides, 0 (toned like any leaf) to 2.

    Returns:
        image float32 (size, size) in [0, 1], mask uint8 (size, size) of 0 and 1.

    Raises:
        StudyError: a dial is out of range.
    """
    size = check_whole("size", size, 32)
    leaves = check_whole("leaves", leaves, 0, 2000)
    exponent = check("exponent", exponent, 1, 5)
    contrast = check("contrast", contrast, 0, 2)
    scene, figure, camera = generators(index, seed, 3)

    points = 2 * max(size, 128)  # edges are hard, so they are drawn fine and averaged
    textures = _textures(scene, points)
    image = _ground(scene, points, textures)
    for radius in _radii(scene, leaves, exponent):
        _leaf(scene, image, textures, radius)
    blur = camera.uniform(0, 0.005) * points
    if blur > 0.5:  # the background lies out of focus
        image = gaussian_filter(image, blur, truncate=2.5)
    mask = _object(figure, image, textures, contrast)

    light = 1 + 0.2 * smooth(camera, image.shape, (1, 1))
    image = reduce(image * np.clip(light, 0.5, 1.5), size)
    image += camera.uniform(0, 0.015) * camera.standard_normal(image.shape, dtype=np.float32)
    low, high = np.quantile(image, [0.02, 0.96])
    image = np.clip((image - low) / max(high - low, 0.05), 0, 1) ** camera.uniform(0.6, 1.1)
    image = image * camera.uniform(0.85, 1.0) + camera.uniform(0.0, 0.12)
    return np.clip(image, 0, 1).astype(np.float32), (reduce(mask, size) >= 0.5).astype(np.uint8)


def _textures(rng: np.random.Generator, points: int) -> list[np.ndarray]:
    """Ten square textures of mean about 0 and height about 1: plain, grain, stripes, checks, bricks, spots."""
    shape = (points, points)
    at = positions(points)
    grain = fractal(rng, shape, (6, 6), 6, gain=0.8)
    fine = fractal(rng, shape, (24, 24), 4, gain=0.9)
    drape = fractal(rng, shape, (2, 12), 3)  # folds that hang down
    waves = []
    for _ in range(3):
        turn, period = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)]), rng.uniform(0.02, 0.08)
        phase = (at[:, None] * np.sin(turn) + at[None, :] * np.cos(turn)) / period
        waves.append(np.sin(2 * np.pi * phase, dtype=np.float32))
    tall, wide = rng.uniform(0.03, 0.06), rng.uniform(0.07, 0.14)
    course = np.floor(at / tall)
    joint = (at[:, None] / tall - course[:, None] < 0.15) | (
        (at[None, :] / wide + 0.5 * (course[:, None] % 2)) % 1 < 0.08
    )
    bricks = 0.4 - 1.6 * joint.astype(np.float32) + 0.4 * fine
    spots = np.clip(1.5 * smooth(rng, shape, (16, 16)) - 1.0, -1, 1)
    plain = 0.15 * grain
    checks = 0.7 * np.sign(waves[1]) * np.sign(waves[2]) + 0.2 * fine
    return [plain, plain, grain, fine, drape, waves[0] + 0.2 * fine, np.sign(waves[1]), checks, bricks, spots]


def _patch(rng: np.random.Generator, textures: list[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """A random cut-out of a random texture, of random height."""
    texture = textures[rng.integers(len(textures))]
    top, left = rng.random(2)
    top, left = int(top * (texture.shape[0] - rows + 1)), int(left * (texture.shape[1] - columns + 1))
    return np.float32(rng.uniform(0.01, 0.13)) * texture[top : top + rows, left : left + columns]


def _ground(rng: np.random.Generator, points: int, textures: list[np.ndarray]) -> np.ndarray:
    """A wall, and often a ground that begins at a horizon."""
    down = positions(points)[:, None]
    tones = rng.beta(1.2, 1.0, 2)
    image = tones[0] + rng.normal(0, 0.15) * (down - 0.5) + _patch(rng, textures, points, points)
    horizon = rng.uniform(0.45, 0.85) if rng.random() < 0.75 else 1.0
    floor = tones[1] + rng.normal(0, 0.4) * (down - horizon) + _patch(rng, textures, points, points)
    return np.where(down > horizon, floor, image).astype(np.float32)


def _radii(rng: np.random.Generator, count: int, exponent: float) -> np.ndarray:
    """`count` radii, fraction of the image, of density proportional to r^-exponent, in the order of drawing."""
    share = rng.random(count)
    if abs(exponent - 1) < 1e-6:
        return _SMALLEST * (_LARGEST / _SMALLEST) ** share
    power = 1 - exponent
    return (_SMALLEST**power + share * (_LARGEST**power - _SMALLEST**power)) ** (1 / power)


def _leaf(rng: np.random.Generator, image: np.ndarray, textures: list[np.ndarray], radius: float) -> None:
    """Draw one shape over `image`: an ellipse, a box or a blob with its own tone, texture and shading."""
    points = image.shape[0]
    kind = rng.integers(3)
    middle, turn, stretch = rng.uniform(-0.05, 1.05, 2), rng.normal(0, 0.5), rng.uniform(0.35, 1.0)
    tone, slope = rng.beta(0.9, 0.9), rng.normal(0, 0.12, 2)
    radii = outline(rng, 0.2, last=8) if kind == 2 else None

    reach = radius * (1.45 if kind else 1.0)
    first = np.clip(((middle - reach) * points).astype(int), 0, points)
    last = np.clip(((middle + reach) * points).astype(int) + 1, 0, points)
    patch = _patch(rng, textures, *(last - first))
    if patch.size == 0:
        return
    y = ((np.arange(first[0], last[0], dtype=np.float32) + 0.5) / points - middle[0])[:, None] / radius
    x = ((np.arange(first[1], last[1], dtype=np.float32) + 0.5) / points - middle[1])[None, :] / radius
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along, across = y * cos + x * sin, (x * cos - y * sin) / np.float32(stretch)
    if kind == 0:
        within = along**2 + across**2 < 1
    elif radii is None:
        within = (np.abs(along) < 1) & (np.abs(across) < 1)
    else:
        within = along**2 + across**2 < radius_at(radii, along, across) ** 2
    paint = tone + slope[0].astype(np.float32) * along + slope[1].astype(np.float32) * across + patch
    np.copyto(image[first[0] : last[0], first[1] : last[1]], paint, where=within, casting="same_kind")


def _limbs(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray, float, float, int]]:
    """Limbs, back to front, of a two-legged, four-legged or lobed object: ends, radii (heights of the object), part."""
    kind = rng.choice(["biped", "quadruped", "lobes"], p=[0.55, 0.2, 0.25])
    if kind == "lobes":
        lobes = []
        at = np.zeros(2)
        for part in range(rng.integers(3, 7)):
            to = np.clip(at + rng.normal(0, 0.2, 2), -0.3, 0.3)
            lobes.append((at, to, *rng.uniform(0.08, 0.2, 2), part % 3))
            at = to if rng.random() < 0.6 else at
        return lobes
    limbs = []
    strays: dict[tuple[float, float], np.ndarray] = {}
    stout = rng.uniform(0.8, 1.2)
    for start, end, r0, r1, part, stray in _BIPED if kind == "biped" else _QUADRUPED:
        for joint in (start, end):  # limbs that meet in a joint stray together
            if joint not in strays:
                strays[joint] = joint + rng.normal(0, stray, 2)
        limbs.append((strays[start], strays[end], r0 * stout, r1 * stout, part))
    if kind == "biped" and rng.random() < 0.4:  # a skirt or a coat
        limbs.insert(4, (strays[_BIPED[4][1]], np.array([rng.uniform(0.12, 0.3), 0.0]), 0.12 * stout, 0.19, 0))
    if rng.random() < 0.35:  # something carried
        hand = limbs[-2][1]
        limbs.append((hand, hand + rng.normal([0.08, 0], 0.03), *rng.uniform(0.05, 0.1, 2), 3))
    return limbs


def _object(rng: np.random.Generator, image: np.ndarray, textures: list[np.ndarray], contrast: float) -> np.ndarray:
    """Draw the object over `image` and return its mask (points, points), bool."""
    points = image.shape[0]
    limbs = _limbs(rng)
    height, flip = rng.uniform(0.72, 1.02), rng.choice([-1, 1])
    middle = np.array([rng.uniform(0.47, 0.55), rng.normal(0.5, 0.07)])
    lean = rng.normal(0, 0.08)
    turn = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]]) * height
    bent = 0.07 * smooth(rng, image.shape, (12, 12)) + 0.05 * smooth(rng, image.shape, (30, 30))

    hidden = float(image[points // 5 : -points // 5, points // 3 : -points // 3].mean())
    tones = rng.beta(0.9, 0.9, 4)
    tones = np.clip(tones + 0.2 * contrast * np.sign(tones - hidden), -0.1, 1.1).astype(np.float32)
    patches = [_patch(rng, textures, points, points) for _ in range(4)]
    light = rng.normal(0, 0.12)
    shadow = np.hypot((positions(points)[:, None] - middle[0] - 0.47 * height) / 0.05,
                      (positions(points)[None, :] - middle[1]) / 0.25)  # fmt: skip
    image *= 1 - np.float32(rng.uniform(0, 0.5)) * np.clip(1 - shadow, 0, 1)

    mask = np.zeros(image.shape, bool)
    for start, end, r0, r1, part in limbs:
        a, b = (middle + turn @ (np.asarray(joint) * [1, flip]) for joint in (start, end))
        reach = max(r0, r1) * height * 1.4
        first = np.clip(((np.minimum(a, b) - reach) * points).astype(int), 0, points)
        last = np.clip(((np.maximum(a, b) + reach) * points).astype(int) + 1, 0, points)
        box = (slice(first[0], last[0]), slice(first[1], last[1]))
        y = ((np.arange(first[0], last[0], dtype=np.float32) + 0.5) / points - a[0])[:, None]
        x = ((np.arange(first[1], last[1], dtype=np.float32) + 0.5) / points - a[1])[None, :]
        axis = (b - a).astype(np.float32)
        t = np.clip((y * axis[0] + x * axis[1]) / max(float(axis @ axis), 1e-6), 0, 1)
        radius = np.float32(height) * (np.float32(r0) + np.float32(r1 - r0) * t)
        off = np.hypot(y - t * axis[0], x - t * axis[1]) / radius
        within = off + bent[box] < 1
        side = (x - t * axis[1]) / radius
        paint = tones[part] + patches[part][box] + np.float32(light) * side - np.float32(0.12) * off**2
        np.copyto(image[box], paint, where=within, casting="same_kind")
        mask[box] |= within
    return mask
