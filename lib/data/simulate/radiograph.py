"""Simulated frontal chest radiographs: thickness maps of a parametric thorax, attenuation, scatter, noise, display.

The beam is parallel and of one effective energy: the primary exposure is exp(-sum of coefficient x thickness) by
Beer-Lambert. Scatter is a broad blur of the primary (Boone and Seibert, Med. Phys. 15, 1988, model it as such a
convolution), noise is that of the photon count, and the picture is the logarithm of the exposure through a sigmoid
characteristic curve, lungs dark. Coefficients are rounded from the tables of Hubbell and Seltzer (NISTIR 5632, 1995)
for about 70 keV. Left out are beam hardening, geometric magnification and the posterior recess below the domes.

Across and down are fractions of the image, thicknesses are cm. The mask holds both lungs, with the lung behind the
heart and down to the domes of the diaphragm, as in the V7 annotation of chest radiographs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

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

_SOFT, _BONE = 0.19, 0.42  # attenuation per cm: soft tissue, bone with its marrow
_LUNG = 0.06  # lung and its finest vessels, about a third of soft tissue


class Thorax(NamedTuple):
    """Where the landmarks of one person lie; every array is (rows, columns)."""

    x: np.ndarray  # across from the midline in units of the image, positive to the right of the picture
    y: np.ndarray  # down
    q: np.ndarray  # 0 at the inner, 1 at the outer border of the lung of that side
    h: np.ndarray  # 0 at the apex, 1 at the top of the dome
    inside: np.ndarray  # signed extent of the lungs: above 0 within
    top: float
    height: float
    half: float


def draw(
    index: int,
    *,
    size: int = 128,
    seed: int = 0,
    opacity: float = 0.35,
    scatter: float = 0.5,
    photons: float = 1e5,
) -> tuple[np.ndarray, np.ndarray]:
    """One simulated frontal chest radiograph and the mask of both lungs.

    Anatomy and noise come from separate generators: no dial changes the mask.

    Args:
        index: which image of the set, from 0.
        size: pixels per side, from 32. Up to 128 a smaller image is the larger one, averaged.
        seed: which set.
        opacity: how much of the lungs is consolidated at most, 0 to 1; an image has between none and this.
        scatter: scattered relative to primary exposure behind the middle of the body, 0 to 4.
        photons: photons detected per pixel (of a 128-pixel image) where nothing is in the way, 100 to 1e7.

    Returns:
        image float32 (size, size) in [0, 1], mask uint8 (size, size) of 0 and 1.

    Raises:
        StudyError: a dial is out of range.
    """
    size = check_whole("size", size, 32)
    opacity = check("opacity", opacity, 0, 1)
    scatter = check("scatter", scatter, 0, 4)
    photons = check("photons", photons, 100, 1e7, "per pixel")
    body, disease, exposure = generators(index, seed, 3)

    points = max(size, 128)
    thorax = _pose(body, points)
    tissue, lungs = _thicknesses(body, disease, thorax, opacity)
    primary = np.exp(-tissue)
    haze = gaussian_filter(primary, 0.08 * points, mode="nearest")
    light = primary + scatter * haze * exposure.uniform(0.7, 1.3)
    count = photons * (128 / points) ** 2
    light += np.sqrt(light / count) * exposure.standard_normal(light.shape, dtype=np.float32)

    image = _display(exposure, np.log(np.maximum(light, 0.5 / count)), thorax)
    mask = reduce(lungs, size) >= 0.5
    return np.clip(reduce(image, size), 0, 1).astype(np.float32), mask.astype(np.uint8)


def _soft_step(value: np.ndarray, width: float) -> np.ndarray:
    """1 where `value` is well above 0, 0 where well below, with a linear ramp of `width`."""
    return np.clip(0.5 + value / width, 0, 1)


def _pose(rng: np.random.Generator, points: int) -> Thorax:
    """One person's proportions, and how they stand before the detector."""
    down, across = positions(points)[:, None], positions(points)[None, :]
    turn = np.deg2rad(rng.normal(0, 2.5))
    middle = 0.5 + rng.normal(0, 0.02)
    x = (across - middle) * np.cos(turn) + (down - 0.5) * np.sin(turn)
    y = (down - 0.5) * np.cos(turn) - (across - middle) * np.sin(turn) + 0.5
    x = x + 0.012 * smooth(rng, x.shape, (2, 2))
    y = y + 0.012 * smooth(rng, y.shape, (2, 2))

    top = rng.uniform(0.03, 0.17)
    height = np.clip(rng.normal(0.65, 0.09), 0.42, 0.93 - top)
    half = np.clip(rng.normal(0.375, 0.04), 0.28, 0.46)  # of the rib cage, at its broadest
    yaw = rng.normal(0, 0.012)
    right = x < 0  # the patient's right lung is on the left of the picture
    h = (y - top) / height
    inner = np.where(right, rng.uniform(0.035, 0.07), rng.uniform(0.035, 0.075)) + 0.02 * h * rng.uniform(0, 1.5)
    inner = inner + np.where(right, -yaw, yaw)
    apex = rng.uniform(0.32, 0.5)  # how far out the apex lies
    spread = np.clip(h, 0, 1.4)
    flare = rng.uniform(0.0, 0.12)
    shape = (1 - (1 - np.minimum(spread / rng.uniform(0.75, 0.95), 1)) ** rng.uniform(2.2, 3.2)) ** 0.8
    outer = half * (apex + (1 - apex - flare) * shape + flare * spread) * np.where(right, rng.uniform(0.95, 1.05), 1)
    a = np.abs(x)
    q = (a - inner) / (outer - inner)

    dome = rng.uniform(0.06, 0.14) * height
    peak = rng.uniform(0.3, 0.5)
    away = q - peak
    fall = dome * np.where(away > 0, (away / (1 - peak)) ** 2 * 1.3, (away / peak) ** 2 * 0.45)
    floor = height * np.where(right, 1.0, 1.0 + rng.uniform(-0.01, 0.07)) + fall
    roof = 0.1 * height * np.clip(np.abs(q - 0.45) / 0.55, 0, 1) ** 3
    inside = np.minimum.reduce([a - inner, outer - a, y - top - roof, floor - (y - top)])
    return Thorax(x, y, q, h, inside, top, height, half)


def _thicknesses(
    rng: np.random.Generator, disease: np.random.Generator, t: Thorax, opacity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Line integral of attenuation (rows, columns) and the lungs as a bool array."""
    shape = t.x.shape
    a, left = np.abs(t.x), t.x > 0
    thick = rng.uniform(17, 25)
    tissue_rng, bone_rng, things = rng.spawn(3)

    # Body: an elliptic trunk with arms, shoulders that slope from the neck, nothing above them.
    shoulder = t.top - rng.uniform(0.04, 0.14)
    slope = shoulder + rng.uniform(0.1, 0.5) * np.maximum(a - rng.uniform(0.1, 0.2), 0) ** 1.2
    neck = _soft_step(rng.uniform(0.11, 0.17) + 0.4 * np.clip(t.y - shoulder + 0.08, 0, 1) - a, 0.05)
    breadth = t.half * rng.uniform(1.25, 1.7) + 0.12 * np.clip(0.35 - t.h, 0, 1) + 0.03 * np.clip(t.h - 0.8, 0, 1)
    trunk = np.sqrt(np.clip(1 - (a / breadth) ** 3.5, 0, 1)) * _soft_step(t.y - slope, 0.06)
    arm = 0.35 * _soft_step(a - breadth * 0.95, 0.03) * _soft_step(t.y - slope - 0.05, 0.1) * rng.integers(0, 2)
    body = thick * np.maximum.reduce([trunk, arm, 0.55 * neck * (t.h < 0.3)])
    body = body * (1 + 0.04 * smooth(tissue_rng, shape, (3, 3)))
    breast = rng.uniform(0, 4) * np.exp(-(((a - 0.24) / 0.11) ** 2) - ((t.h - rng.uniform(0.75, 0.95)) / 0.16) ** 2)
    body += breast * (trunk > 0)

    # Lungs: deep in the middle, thin at the borders; heart and great vessels in front take room from them.
    lungs = t.inside > 0
    edge = np.clip(t.inside / (0.16 * t.height), 0, 1)
    depth = 0.58 * thick * np.sqrt(edge * (2 - edge))
    heart_x = rng.uniform(0.035, 0.075)
    heart_wide, heart_tall = rng.uniform(0.16, 0.23), rng.uniform(0.17, 0.22)
    tilt = rng.uniform(0.3, 0.7)
    dx, dy = t.x - heart_x, (t.h - rng.uniform(0.76, 0.88)) * t.height
    along, across = dx * np.cos(tilt) + dy * np.sin(tilt), -dx * np.sin(tilt) + dy * np.cos(tilt)
    heart = 1 - (along / heart_wide) ** 2 - (across / (heart_tall * 0.75)) ** 2
    central = rng.uniform(0.055, 0.09) + 0.01 * np.sin(7 * t.h)
    knob = 1 - ((t.x - central - 0.005) / 0.045) ** 2 - ((t.h - rng.uniform(0.25, 0.34)) / 0.09) ** 2
    front = np.maximum.reduce(
        [np.sqrt(np.clip(heart, 0, 1)), 0.9 * _soft_step(central - a, 0.025), 0.5 * np.sqrt(np.clip(knob, 0, 1))]
    )
    lung = depth * (1 - rng.uniform(0.75, 0.95) * front)

    # Vessels: creases of a field drawn in polar coordinates about each hilum, so that they run outward.
    hilum_x, hilum_h = rng.uniform(0.09, 0.12), rng.uniform(0.42, 0.52)
    from_hilum = np.hypot(a - hilum_x, (t.h - hilum_h) * t.height)
    angle = np.arctan2((t.h - hilum_h) * t.height, (a - hilum_x)) / np.pi + np.where(left, 2.5, 0)
    vessels = np.zeros(shape, np.float32)
    for density, share in ((10, 1.0), (19, 0.7)):
        knots = tissue_rng.standard_normal((4 * density, 10), dtype=np.float32)
        at = np.stack([(angle + 1) * density, np.log1p(from_hilum * 18) * 3])
        crease = map_coordinates(knots, at, order=1, mode="grid-wrap")
        fading = np.exp(-from_hilum / 0.16) * np.clip(from_hilum / 0.05, 0, 1)
        vessels += share * fading * np.exp(-((crease / 0.22) ** 2))
    hilar = np.exp(-((from_hilum / 0.05) ** 2))
    marks = rng.uniform(2, 6) * vessels + rng.uniform(1, 3) * hilar + 1.2 * fractal(tissue_rng, shape, (10, 10), 3)

    # Consolidation: patches, more of them low and outward, where lung is filled up to soft tissue.
    amount = disease.uniform(0, opacity) if disease.random() < 0.6 else 0.0
    patches = fractal(disease, shape, (4, 4), 4, gain=0.6) + 1.2 * (t.h - 0.5) + disease.normal(0, 0.5) * np.sign(t.x)
    level = np.quantile(patches[lungs], 1 - amount) if amount else np.inf
    filled = disease.uniform(0.3, 0.9) * _soft_step(patches - level, 0.8) if amount else 0.0
    solid = np.clip(marks + filled * lung, 0, 0.9 * lung)
    lung = lung - solid

    gas = _gas(rng, t, left)
    attenuation = _SOFT * np.maximum(body - lung - gas, 0) + _LUNG * lung
    attenuation += (_BONE - _SOFT) * _bones(bone_rng, t) * _soft_step(trunk - 0.05, 0.1) + _things(things, t)
    return attenuation.astype(np.float32), lungs


def _gas(rng: np.random.Generator, t: Thorax, left: np.ndarray) -> np.ndarray:
    """Thickness of gas outside the lungs: windpipe, main bronchi, sometimes the stomach bubble."""
    carina = rng.uniform(0.32, 0.4)
    a = np.abs(t.x + 0.01)
    pipe = np.where(t.h < carina, 1 - (a / 0.022) ** 2, 1 - ((a - 0.6 * (t.h - carina)) / 0.018) ** 2)
    gas = 1.6 * np.sqrt(np.clip(pipe, 0, 1)) * (t.h < carina + 0.12)
    bubble = radius_at(outline(rng, 0.15, last=5), t.h - 1.13, (t.x - 0.2) * 1.3)
    seen = rng.uniform(0, 7) * (rng.random() < 0.6)
    return gas + seen * left * _soft_step(1 - np.hypot((t.h - 1.13) / 0.08, (t.x - 0.2) / 0.09) / bubble, 0.5)


def _band(d: np.ndarray) -> np.ndarray:
    """Thickness across a hollow tube, 0 outside |d| = 1: cortical edges brighter than the middle."""
    within = np.clip(1 - d * d, 0, 1)
    return np.sqrt(within) * (0.55 + 0.75 * d * d)


def _bones(rng: np.random.Generator, t: Thorax) -> np.ndarray:
    """Thickness of bone, cm: spine, ribs behind and in front, collarbones, shoulder blades, upper arms."""
    a = np.abs(t.x)
    spine = 3.0 * _soft_step(0.05 - a, 0.015) * (0.75 + 0.25 * np.cos(2 * np.pi * t.h * rng.uniform(11, 14)))
    bone = spine * rng.uniform(0.5, 1.0)

    spacing = rng.uniform(0.095, 0.115)  # of the height of the lung
    drop, arch = rng.uniform(0.12, 0.26), rng.uniform(0.03, 0.07)
    out = np.clip(t.q, -0.3, 1.3)
    cage = _soft_step(1.04 - t.q, 0.03) * _soft_step(t.h + 0.05, 0.05) * _soft_step(1.45 - t.h, 0.2)
    cage = cage * np.where(t.inside > 0, 1.0, 0.5)  # below the dome ribs drown in scatter and window
    rear = (t.h + arch * np.sin(np.pi * np.clip(out, 0, 1) ** 0.8) - drop * np.clip(out, 0, 2) ** 2.6) / spacing
    number = np.floor(rear)
    sway = rng.normal(0, 0.05, 40)[np.clip(number.astype(int) + 10, 0, 39)]
    behind = _band((rear - number - 0.5 + sway) / rng.uniform(0.28, 0.36))
    bone += rng.uniform(1.0, 2.0) * behind * cage * (1 + 0.8 * np.clip(out, 0, 1) ** 4)
    fall = rng.uniform(0.25, 0.4) * (1 - np.clip(out, 0, 1)) ** 1.3
    fore = (t.h - fall + rng.uniform(-0.05, 0.05)) / (1.25 * spacing)
    before = _band((fore - np.floor(fore) - 0.5) / 0.3) * _soft_step(out - 0.35, 0.25) * (t.h > 0.1)
    bone += rng.uniform(0.4, 1.2) * before * cage

    reach = (a - 0.03) / (t.half * 1.05)
    rise = rng.uniform(0.0, 0.14)
    line = t.top + rng.uniform(0.12, 0.2) * t.height - rise * reach + 0.022 * np.sin(2 * np.pi * reach)
    bone += 2.4 * _band((t.y - line) / 0.019) * _soft_step(1 - reach, 0.05) * _soft_step(reach, 0.05)

    blade = rng.uniform(0.85, 1.08) * t.half  # inner border of the shoulder blade
    border = blade - 0.25 * (t.h - 0.35)
    flat = _soft_step(a - border, 0.04) * _soft_step(0.62 - t.h + 0.8 * (a - blade), 0.08) * _soft_step(t.h - 0.05, 0.1)
    bone += rng.uniform(0.4, 1.0) * flat * _soft_step(1.35 * t.half - a, 0.1)
    bone += 1.6 * _band((a - border - 0.012) / 0.012) * _soft_step(0.62 - t.h, 0.05) * _soft_step(t.h - 0.12, 0.1)
    joint = np.hypot(a - 1.25 * t.half, t.y - t.top - 0.1)
    return bone + 2.5 * np.sqrt(np.clip(1 - (joint / 0.06) ** 2, 0, 1))


def _things(rng: np.random.Generator, t: Thorax) -> np.ndarray:
    """Line integral of what is not the patient: leads with electrodes, a tube in the windpipe or a port."""
    dense = np.zeros(t.x.shape, np.float32)
    for _ in range(rng.integers(1, 4) if rng.random() < 0.35 else 0):
        bend = rng.normal(0, [0.2, 0.25, 0.12, 0.05])
        path = 0.5 + bend[0] + 2 * bend[1] * t.x + bend[2] * np.sin(6 * t.x + 9 * bend[3])
        ends = _soft_step(0.35 + bend[3] - np.abs(t.x - bend[0]), 0.02)
        dense += 0.45 * np.exp(-(((t.y - path) / (0.004 * np.hypot(1, 2 * bend[1]))) ** 2)) * ends
        dense += 0.5 * _soft_step(0.014 - np.hypot(t.x - bend[0] - 0.3, t.y - path), 0.004)
    if rng.random() < 0.2:
        tip = rng.uniform(0.2, 0.35)
        dense += 0.4 * np.exp(-(((t.x - 0.01 * np.sin(8 * t.y)) / 0.004) ** 2)) * (t.h < tip)
    return dense


def _display(rng: np.random.Generator, exposure: np.ndarray, t: Thorax) -> np.ndarray:
    """Log exposure to grey, 0 to 1: window on the chest, sigmoid, sharpening, film borders and side marker."""
    points = exposure.shape[0]
    if rng.random() < 0.6:  # computed radiography flattens the slow changes and sharpens the edges
        slow = gaussian_filter(exposure, 0.07 * points, mode="nearest")
        exposure = exposure + rng.uniform(0.3, 1.8) * (exposure - slow)
    chest = (np.abs(t.x) < t.half) & (t.h > 0)
    low, high = np.quantile(exposure[chest], [0.02, 0.98])
    shade = (high - exposure) / (high - low)  # 0 in the clearest lung, 1 in the densest part
    middle, slope = rng.uniform(0.3, 0.5), rng.uniform(2.0, 5.0)
    image = 1 / (1 + np.exp(-slope * (shade - middle)))
    image = rng.uniform(0.0, 0.2) + rng.uniform(0.72, 0.85) * image

    if rng.random() < 0.2:  # collimator blades
        near, far = rng.uniform(0, 0.05, 2), 1 - rng.uniform(0, 0.05, 2)
        at = positions(points)
        open_ = ((at > near[0]) & (at < far[0]))[:, None] & ((at > near[1]) & (at < far[1]))
        image = np.where(open_, image, 0.02)
    if rng.random() < 0.5:
        x, y = rng.choice([-1, 1]) * rng.uniform(0.36, 0.45) + 0.5, rng.uniform(0.05, 0.15)
        row, column = int(y * points), int(x * points)
        tall = max(points // 26, 2)
        stroke = max(points // 128, 1)
        image[row : row + tall, column : column + stroke] = 0.97
        image[row + tall - stroke : row + tall, column : column + tall // 2 + 1] = 0.97
    return image
