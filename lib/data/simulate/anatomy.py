"""Embedded anatomy: tissue maps of simulated subjects, and the volumes that a scanner would make of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lib.common.errors import StudyError, nearest
from lib.data.simulate import brain, knee
from lib.data.simulate.fields import check_whole
from lib.data.simulate.shapes import Canvas, smooth_volume
from lib.imaging.volumes import slices_along


class Tissue(NamedTuple):
    """Relaxation times T1 and T2 in milliseconds at 3 T, and proton density relative to water."""

    t1: float
    t2: float
    density: float


# At 3 T. Gray and white matter: Wansapura et al., J Magn Reson Imaging 9 (1999) 531; fluid of the brain: Lin et al.,
# ibid. 13 (2001) 833. Muscle, fat, marrow, cartilage and synovial fluid: Gold et al., Am J Roentgenol 183 (2004) 343.
# Densities of the brain: Collins et al., IEEE Trans Med Imaging 17 (1998) 463. The others are our choice among these.
TISSUES = {
    "air": Tissue(1, 1, 0),
    "bone": Tissue(1000, 2, 0.15),
    "skin": Tissue(1100, 40, 0.75),
    "fat": Tissue(371, 133, 0.9),
    "marrow": Tissue(365, 133, 0.8),
    "muscle": Tissue(1420, 32, 0.85),
    "fluid": Tissue(4300, 1500, 1.0),
    "gray": Tissue(1331, 110, 0.86),
    "white": Tissue(832, 79.6, 0.77),
    "nuclei": Tissue(1180, 92, 0.84),
    "pallidum": Tissue(980, 68, 0.80),
    "stem": Tissue(950, 84, 0.80),
    "cartilage": Tissue(1240, 36.9, 0.8),
    "meniscus": Tissue(800, 8, 0.5),
    "synovia": Tissue(3620, 767, 1.0),
}
FATTY = ("fat", "marrow")


def _spoiled_echo(tissue: Tissue, *, repetition: float, echo: float, flip: float) -> float:
    """Signal of a spoiled gradient echo (Ernst and Anderson 1966); T2* is taken as half of T2."""
    decay, angle = np.exp(-repetition / tissue.t1), np.radians(flip)
    ernst = np.sin(angle) * (1 - decay) / (1 - decay * np.cos(angle))
    return tissue.density * ernst * np.exp(-2 * echo / tissue.t2)


def _spin_echo(tissue: Tissue, *, repetition: float, echo: float) -> float:
    return tissue.density * (1 - np.exp(-repetition / tissue.t1)) * np.exp(-echo / tissue.t2)


def _inversion_recovery(tissue: Tissue, *, repetition: float, echo: float, inversion: float) -> float:
    recovered = 1 - 2 * np.exp(-inversion / tissue.t1) + np.exp(-repetition / tissue.t1)
    return tissue.density * abs(recovered) * np.exp(-echo / tissue.t2)


# Times in milliseconds, flip angle in degrees. The inversion time of FLAIR nulls fluid.
CONTRASTS: dict[str, Callable[[Tissue], float]] = {
    "T1": lambda tissue: _spoiled_echo(tissue, repetition=20, echo=3, flip=25),
    "T2": lambda tissue: _spin_echo(tissue, repetition=4000, echo=100),
    "PD": lambda tissue: _spin_echo(tissue, repetition=5000, echo=20),
    "FLAIR": lambda tissue: _inversion_recovery(tissue, repetition=9000, echo=120, inversion=2480),
}
SUPPRESSED = {"T1": 0.6, "T2": 0.6, "PD": 1.0, "FLAIR": 0.2}  # what is left of the signal of fat


@dataclass(frozen=True)
class Anatomy:
    """A region of the body: how it is painted, side and center (mm) of the cube that shows it, and where slices lie.

    `spans` gives, for each direction, the part of the cube (0 to 1) from which slices are taken.
    """

    paint: Callable[[Canvas, np.random.Generator], None]
    field: float
    center: tuple[float, float, float]
    spans: dict[str, tuple[float, float]]


# What is outlined in a region, by name: the tissues that make it up.
LABELS = {
    "brain": {
        "fluid": ("fluid",), "gray matter": ("gray",), "white matter": ("white", "stem"),
        "deep nuclei": ("nuclei", "pallidum"),
    },
    "knee": {"bone": ("bone", "marrow"), "cartilage": ("cartilage",), "muscle": ("muscle",)},
}  # fmt: skip
LABELS["deep brain"] = LABELS["brain"]
_BRAIN_SPANS = {"sagittal": (0.26, 0.74), "coronal": (0.20, 0.78), "axial": (0.38, 0.82)}
_KNEE_SPANS = {"sagittal": (0.32, 0.68), "coronal": (0.36, 0.62), "axial": (0.30, 0.74)}
ANATOMIES = {
    "brain": Anatomy(brain.paint, brain.FIELD, brain.CENTER, _BRAIN_SPANS),
    "deep brain": Anatomy(brain.paint, 96.0, (0.0, 0.0, -4.0), _BRAIN_SPANS),
    "knee": Anatomy(knee.paint, knee.FIELD, knee.CENTER, _KNEE_SPANS),
}


@lru_cache(maxsize=2)
def tissue_maps(anatomy: str, subject: int, size: int) -> np.ndarray:
    """Fractions of the tissues of `TISSUES`, float32 (tissues, size, size, size), that sum to 1 in every voxel.

    Every subject has a head, or knee, of its own size, shape and pose; axes point right, front and up.
    """
    if anatomy not in ANATOMIES:
        raise StudyError(nearest("anatomy", anatomy, ANATOMIES))
    region = ANATOMIES[anatomy]
    body, shape = np.random.default_rng([0xB0D7, subject]).spawn(2)
    voxel = region.field / size
    line = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32) * np.float32(region.field)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij")).reshape(3, -1)
    grid = _turn(body.normal(0, 2.5, 3)) @ grid + body.normal(0, 2, (3, 1)).astype(np.float32)
    grid /= (1 + 0.03 * body.standard_normal((3, 1))).astype(np.float32)
    for axis, child in enumerate(body.spawn(3)):
        grid[axis] += 2.0 * smooth_volume(child, size, 3).reshape(-1)
    grid += np.array(region.center, np.float32)[:, None]
    canvas = Canvas(grid, voxel, list(TISSUES))
    region.paint(canvas, shape)
    maps = canvas.fractions.reshape(-1, size, size, size)
    maps.setflags(write=False)
    return maps


def _turn(degrees: np.ndarray) -> np.ndarray:
    """A small rotation about the three axes, float32 (3, 3)."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix().astype(np.float32)


def volume(anatomy: str, subject: int, contrast: str, *, size: int) -> np.ndarray:
    """A magnitude volume of a simulated subject, float32 (size, size, size) in [0, 1]; axes point right, front and up.

    Signals of the tissues follow from their relaxation times; then come variation within tissues, the bias of the
    receive coils and noise.

    Raises:
        StudyError: unknown anatomy or contrast, or a size or subject out of range.
    """
    check_whole("size", size, 32)
    check_whole("subject", subject, 0)
    if contrast not in CONTRASTS:
        raise StudyError(nearest("contrast", contrast, CONTRASTS))
    maps = tissue_maps(anatomy, subject, size)
    own, tune = np.random.default_rng([0x51671A, subject]).spawn(2)
    rng = np.random.default_rng([0x51671A, subject, list(CONTRASTS).index(contrast)])
    signals = np.array(
        [
            CONTRASTS[contrast](Tissue(each.t1 * a, each.t2 * b, each.density))
            * (SUPPRESSED[contrast] if name in FATTY else 1)
            for (name, each), (a, b) in zip(TISSUES.items(), tune.normal(1, 0.03, (len(TISSUES), 2)), strict=True)
        ],
        np.float32,
    )
    image = np.tensordot(signals, maps, 1)
    grain = np.zeros_like(image)
    for weight, cells, child in zip((0.6, 0.5, 0.6), (9, 18, 32), own.spawn(3), strict=True):
        grain += np.float32(weight) * smooth_volume(child, size, cells)
    image *= 1 + 0.045 * grain
    image *= np.exp(0.12 * smooth_volume(rng, size, 2))
    image /= np.percentile(image, 99.9)
    noise = 0.008 * rng.standard_normal((2, *image.shape), dtype=np.float32)
    return np.clip(np.hypot(image + noise[0], noise[1]), 0, 1)


def labeled_volume(anatomy: str, subject: int, contrast: str, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A magnitude volume of a simulated subject, and what is outlined in it, both uint8 (size, size, size).

    The mask numbers the labels of `LABELS` from 1; a voxel has the label, or none, of what fills most of it.

    Raises:
        StudyError: see `volume`.
    """
    image = volume(anatomy, subject, contrast, size=size)
    maps, names = tissue_maps(anatomy, subject, size), list(TISSUES)
    fractions = [maps[[names.index(each) for each in tissues]].sum(0) for tissues in LABELS[anatomy].values()]
    fractions.insert(0, 1 - np.sum(fractions, axis=0))
    return np.rint(image * 255).astype(np.uint8), np.argmax(fractions, axis=0).astype(np.uint8)


def slices(anatomy: str, subject: int, contrast: str, direction: str, count: int, *, size: int) -> np.ndarray:
    """`count` slices (count, size, size) of a volume, evenly spread over the part of it that `Anatomy.spans` names.

    Raises:
        StudyError: an unknown name, or a number out of range.
    """
    check_whole("count", count, 1, size)
    planes = slices_along(volume(anatomy, subject, contrast, size=size), direction)
    first, last = ANATOMIES[anatomy].spans[direction]
    return planes[np.round(np.linspace(first, last, count) * (size - 1)).astype(int)]
