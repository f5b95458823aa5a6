"""Simulated breast ultrasound: layered tissue with one lesion, speckle from scatterers, attenuation, log compression.

The echo is the linear model behind B-mode imaging: scatterers with random reflectivity, convolved with the point-spread
function of the beam on a grid of the complex (analytic) signal; its modulus is the envelope. With many scatterers per
resolution cell the envelope is Rayleigh distributed, mean / standard deviation = 1.91 (Burckhardt, IEEE Trans. Sonics
Ultrason. 25, 1978; Wagner et al., same journal 30, 1983); with few it is rougher. Building speckle by such a
convolution follows Meunier and Bertrand (IEEE Trans. Med. Imaging 14, 1995). Left out are the transducer's elements,
frequency-dependent attenuation, refraction and multiple scattering; Field II (Jensen, Med. Biol. Eng. Comput. 34
suppl. 1, 1996) computes the field of a real aperture and is the more exact and far slower alternative.

Depth and breadth are fractions of the image; think of 40 mm each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter1d

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
    spline,
)

_MARGIN = 0.125  # breadth simulated beyond either side of the image, so that no edge is seen in the speckle
_AXIAL, _LATERAL = 0.0046, 0.0105  # standard deviations at the focus: half-height widths 0.4 and 1.0 mm


@dataclass(frozen=True)
class Anatomy:
    """What there is to insonify, on the grid (rows, columns): everything but the speckle."""

    level: np.ndarray  # echogenicity, dB relative to glandular tissue
    interfaces: np.ndarray  # amplitude of specular echoes from fascia and capsules
    loss: np.ndarray  # attenuation on the way there and back that time-gain compensation left over, dB
    mask: np.ndarray  # the lesion, bool
    focus: float  # depth of the focus
    grey: float  # of glandular tissue in the picture, 0 to 1: the operator's gain
    residue: float  # noise floor, dB relative to glandular tissue


def draw(
    index: int,
    *,
    size: int = 128,
    seed: int = 0,
    contrast: float = -8.0,
    speckle: float = 1.0,
    density: float = 20.0,
    looks: int = 3,
    dynamic_range: float = 50.0,
    lesion: float = 1.0,
    irregularity: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """One simulated B-mode image with one lesion, and the lesion's mask.

    Anatomy and scatterers come from separate generators: of the dials, `contrast` changes only the lesion's echo,
    `speckle`, `density`, `looks` and `dynamic_range` only the texture (anatomy and mask stay bit for bit), `lesion`
    and `irregularity` only the lesion's geometry (tissue and scatterers stay).

    Args:
        index: which image of the set, from 0.
        size: pixels per side, from 32. Up to 128 a smaller image is the larger one, averaged.
        seed: which set.
        contrast: mean echogenicity of the lesion relative to the tissue around it, dB, -40 to 20; an image has its
            own value up to a quarter away from it.
        speckle: width of the point-spread function relative to a common breast scanner, 0.4 to 4.
        density: scatterers per resolution cell at the focus, 0.1 to 1000; from about 10 speckle is fully developed.
        looks: independent echoes averaged before compression (compounding, which all current scanners do), 1 to 9;
            speckle contrast falls as 1 / sqrt(looks), and 1 is raw speckle.
        dynamic_range: echo levels between black and white, dB, 20 to 100, about a middle that keeps its grey.
        lesion: lesion diameter relative to the usual, 0.4 to 2; it stays between a tenth and two thirds of the image.
        irregularity: departure of the outline from an ellipse relative to the usual, 0 to 3.

    Returns:
        image float32 (size, size) in [0, 1], mask uint8 (size, size) of 0 and 1.

    Raises:
        StudyError: a dial is out of range.
    """
    size = check_whole("size", size, 32)
    contrast = check("contrast", contrast, -40, 20, "dB")
    speckle = check("speckle", speckle, 0.4, 4)
    density = check("density", density, 0.1, 1000, "scatterers per resolution cell")
    looks = check_whole("looks", looks, 1, 9)
    dynamic_range = check("dynamic_range", dynamic_range, 20, 100, "dB")
    lesion = check("lesion", lesion, 0.4, 2)
    irregularity = check("irregularity", irregularity, 0, 3)
    geometry, scatterers = generators(index, seed, 2)

    across = 8 * -(-max(size, 128) // 8)
    margin = int(_MARGIN * across)
    shape = (2 * across, across + 2 * margin)  # the pulse is shorter than the beam is wide: rows twice as fine
    anatomy = insonified(geometry, shape, contrast=contrast, lesion=lesion, irregularity=irregularity)
    amplitude = 10 ** ((anatomy.level - anatomy.loss) / 20)
    specular = anatomy.interfaces * 10 ** (-anatomy.loss / 20)
    beam = {"speckle": speckle, "density": density, "focus": anatomy.focus}
    envelope = sum(echo(amplitude, specular, look, **beam) for look in scatterers.spawn(looks)) / looks
    floor = np.abs(scatterers.standard_normal(shape, dtype=np.float32))
    envelope = envelope + 10 ** (anatomy.residue / 20) * floor

    decibel = 20 * np.log10(envelope[:, margin:-margin])
    image = np.clip(anatomy.grey + decibel / dynamic_range, 0, 1)
    mask = reduce(anatomy.mask[:, margin:-margin], size) >= 0.5
    return np.clip(reduce(image, size), 0, 1), mask.astype(np.uint8)


def echo(
    amplitude: np.ndarray,
    specular: np.ndarray,
    rng: np.random.Generator,
    *,
    speckle: float = 1.0,
    density: float = 20.0,
    focus: float = 0.4,
) -> np.ndarray:
    """Envelope, float32 (rows, columns), of random scatterers and smooth interfaces as the beam shows them.

    A pixel holds a Poisson number of scatterers of complex Gaussian reflectivity; their sum is Gaussian with that
    number as variance. The lateral width grows away from the focus. Either kernel has unit energy, so the mean
    envelope depends neither on depth nor on the width: `amplitude` 1 gives mean square 1.

    Args:
        amplitude: root-mean-square reflectivity of the scatterers (rows, columns).
        specular: amplitude of interfaces much smoother than a wavelength, which add up in phase.
        rng: draws the scatterers.
        speckle, density: as in `draw`.
        focus: depth of the focus, fraction of the image.
    """
    rows, columns = amplitude.shape
    depth = positions(rows)
    breadth = 1 + 2 * _MARGIN
    axial = _AXIAL * speckle * rows
    lateral = _LATERAL * speckle * columns / breadth * np.sqrt(1 + ((depth - focus) / 0.35) ** 2)

    cell = 4 * np.pi * axial * lateral.min()  # equivalent area of the two-way kernel: 1 / its energy
    noise = rng.standard_normal((2, rows, columns), dtype=np.float32)
    number = rng.poisson(density / cell, amplitude.shape).astype(np.float32) * np.float32(cell / density)
    weight = amplitude * np.sqrt(number / 2)
    source = (weight * noise[0] + 1j * (weight * noise[1])).astype(np.complex64)

    # Each row has its own Gaussian beam: exact as a product after a Fourier transform along the row.
    frequency = fft.fftfreq(columns).astype(np.float32)
    beam = np.exp(-2 * (np.pi * lateral[:, None] * frequency) ** 2)
    beam /= np.sqrt((beam**2).mean(1, keepdims=True))
    steps = np.arange(rows, dtype=np.float32)
    pulse = np.exp(-(((steps[:, None] - steps) / axial) ** 2) / 2)
    pulse /= np.sqrt((pulse**2).sum(1, keepdims=True))
    # Interfaces add up over the whole beam; taking that sum out keeps their brightness when the beam widens.
    source += specular / (beam[:, :1] * pulse.sum(1, keepdims=True))
    spread = np.asarray(fft.ifft(np.asarray(fft.fft(source, axis=1)) * beam, axis=1))
    return np.hypot(pulse @ np.real(spread), pulse @ np.imag(spread))


def insonified(
    rng: np.random.Generator, shape: tuple[int, ...], *, contrast: float, lesion: float, irregularity: float
) -> Anatomy:
    """A breast, from the skin to the chest wall, with a cyst, a smooth solid lesion or a spiculated one."""
    layers, lumps, target, scan = rng.spawn(4)
    v = positions(shape[0])[:, None]
    u = positions(shape[1], -_MARGIN, 1 + _MARGIN)[None, :]
    level, interfaces, loss = _tissue(layers, shape, v, u)
    level += 1.0 * fractal(lumps, shape, (8, 5), 3)

    kind = target.choice(["cyst", "smooth", "spiculated"], p=[0.25, 0.4, 0.35])
    radius = np.clip(lesion * target.lognormal(np.log(0.155), 0.5), 0.05, 0.32)
    aspect = target.uniform(0.75, 1.3) if kind == "spiculated" else target.uniform(0.55, 1.0)
    tall, wide = radius * np.sqrt(aspect), radius / np.sqrt(aspect)
    middle = np.clip(target.normal(0.42, 0.12), tall + 0.05, max(0.9 - tall, tall + 0.06))
    center = target.uniform(min(wide, 0.45), max(1 - wide, 0.55))
    rough, last, decay = (0.17, 12, 1.1) if kind == "spiculated" else (0.06, 5, 1.5)
    radii = outline(target, irregularity * rough, last=last, decay=decay)
    turn = target.normal(0, 0.2)
    y = ((v - middle) * np.cos(turn) - (u - center) * np.sin(turn)) / tall
    x = ((v - middle) * np.sin(turn) + (u - center) * np.cos(turn)) / wide
    away = np.hypot(y, x) / radius_at(radii, y, x)  # 1 on the outline
    mask = away < 1

    margin = 0.12 if kind == "spiculated" else 0.03
    inside = np.clip(0.5 + (1 - away) / (2 * margin), 0, 1)
    around = (away > 1 + margin) & (away < 1.5)
    beside = float(10 * np.log10(np.mean(10 ** (level[around] / 10)))) if around.any() else 0.0
    own = beside + contrast * target.uniform(0.75, 1.25) + 2.0 * fractal(target, shape, (5, 4), 3)
    level += inside * (own - level)
    interfaces *= 1 - 0.85 * inside

    facing = np.abs(y) / np.maximum(np.hypot(y, x), 1e-3)  # 1 where the outline lies across the beam
    rim = np.exp(-(((away - 1) * tall / 0.006) ** 2)) * facing**3
    depth_below = np.cumsum(inside * (v < 1), axis=0) / (2 * tall * shape[0])
    if kind == "spiculated":
        level += target.uniform(0, 5) * np.exp(-(((away - 1.15) / 0.12) ** 2))
        loss += target.uniform(2, 18) * depth_below
    else:
        interfaces += target.uniform(0.5, 2.5) * rim
        loss -= target.uniform(6, 16) * depth_below if kind == "cyst" else target.uniform(-2, 5) * depth_below
        for side in (-1, 1):  # refraction at the flanks casts thin shadows
            flank = np.exp(-(((u - center - side * wide * 0.97) / 0.015) ** 2))
            loss += target.uniform(0, 7) * flank * np.clip((v - middle) / 0.1, 0, 1)

    loss = gaussian_filter1d(loss, 0.012 * shape[1], axis=1, mode="nearest")
    return Anatomy(
        level=level,
        interfaces=interfaces,
        loss=loss,
        mask=mask,
        focus=scan.uniform(0.25, 0.55),
        grey=scan.normal(0.53, 0.08),
        residue=scan.uniform(-40, -28),
    )


def _tissue(
    rng: np.random.Generator, shape: tuple[int, ...], v: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Level (dB), interfaces (amplitude) and loss (dB) of a breast without a lesion."""
    bends, septa, shadows, lots = rng.spawn(4)
    knots = bends.standard_normal((4, 6))
    waves = (knots @ spline(shape[1], 3).T) * np.array([0.004, 0.05, 0.06, 0.04])[:, None]
    tilt = lots.normal(0, 0.1) * (u - 0.5)
    thick = lots.uniform([0.02, 0.05, 0.3, 0.08], [0.045, 0.26, 0.5, 0.2])
    skin, fat, gland, muscle = [
        base + wave[None, :] + share * tilt
        for base, wave, share in zip(np.cumsum(thick), waves, (0.1, 0.6, 1, 1), strict=True)
    ]

    level = np.full(shape, lots.uniform(-16, -8), np.float32)  # behind the pleura
    for bound, of_layer in ((muscle, lots.uniform(-10, -5)), (gland, 0), (fat, lots.uniform(-10, -4)), (skin, 3)):
        level = np.where(v < bound, np.float32(of_layer), level)
    in_gland = (v >= fat) & (v < gland)
    mottle = fractal(septa, shape, (7, 3), 5, gain=0.85)
    level += mottle * np.where(in_gland, np.float32(lots.uniform(3, 8)), np.float32(3.0))

    # Fascia: curves where a smooth field is zero, broken up, and bright where they lie across the beam.
    interfaces = np.zeros(shape, np.float32)
    for cells, strength in (((7, 3), 11.0), ((16, 5), 8.0), ((34, 9), 7.0), ((64, 16), 6.0)):
        bent = smooth(septa, shape, cells)
        down, along = np.gradient(bent)
        down *= shape[0]
        along *= shape[1] / (1 + 2 * _MARGIN)
        steep = np.hypot(down, along) + 1e-3
        line = np.exp(-((bent / steep / 0.0028) ** 2)) * (np.abs(down) / steep) ** 3
        present = np.clip(fractal(septa, shape, (6, 4), 3, gain=0.9), 0, 1.5)
        interfaces += strength * lots.uniform(0.4, 1.4) * line * present
    interfaces *= np.where(v < fat, np.float32(1.0), np.float32(0.8)) * (v > skin)
    within = (v >= gland) & (v < muscle)
    fibers = np.cos(2 * np.pi * ((v - gland) / lots.uniform(0.03, 0.05) + 0.5 * smooth(septa, shape, (4, 3))))
    interfaces = np.where(within, lots.uniform(0.4, 1.2) * np.clip(fibers - 0.6, 0, 1) * 4, interfaces)
    for bound, height in ((skin, 1.5), (fat, lots.uniform(0, 1.5)), (gland, 3.0), (muscle, lots.uniform(3, 12))):
        interfaces += height * np.exp(-(((v - bound) / 0.005) ** 2))
    interfaces += 5 * np.exp(-(((v - 0.004) / 0.006) ** 2))  # the probe's face

    loss = v ** lots.uniform(1, 2.5) * lots.uniform(0, 28) + 3 * smooth(shadows, shape, (2, 2))
    contact = (shadows.standard_normal(11) @ spline(shape[1], 8).T)[None, :]
    loss += np.clip(contact / 0.7 - 1.2, 0, None) * lots.uniform(0, 9) * np.clip(v / 0.3, 0, 1)
    if lots.random() < 0.15:  # a rib: bright convex cap, nothing behind it
        middle, half = lots.uniform(0, 1), lots.uniform(0.15, 0.4)
        cap = muscle - 0.02 + 0.3 * (u - middle) ** 2 / half - lots.uniform(0, 0.08)
        over = np.clip((half - np.abs(u - middle)) / 0.03, 0, 1)
        interfaces += over * 6 * np.exp(-(((v - cap) / 0.008) ** 2))
        loss += over * lots.uniform(8, 20) * np.clip((v - cap - 0.01) / 0.08, 0, 1)
    return level, interfaces, loss
