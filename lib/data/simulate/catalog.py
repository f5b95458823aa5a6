"""Simulated sets by name: the registry of simulators of images with masks, and a set drawn from one."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

from lib.common.errors import StudyError, nearest
from lib.common.registry import Registry
from lib.data.simulate import natural, radiograph, ultrasound
from lib.data.simulate.fields import check_whole

SIMULATORS: Registry[Callable[..., tuple[np.ndarray, np.ndarray]]] = Registry("simulator")
SIMULATORS.add("natural", natural.draw)
SIMULATORS.add("ultrasound", ultrasound.draw)
SIMULATORS.add("radiograph", radiograph.draw)


def simulate(name: str, count: int, *, size: int = 128, seed: int = 0, **dials: float) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` images and masks of a simulated set.

    Args:
        name: key of `SIMULATORS`.
        count: how many; image i does not depend on it.
        size: pixels per side, from 32.
        seed: which set.
        dials: keyword arguments of that simulator's `draw`.

    Returns:
        images uint8 (count, size, size) and masks uint8 (count, size, size) of 0 and 1.

    Raises:
        StudyError: unknown simulator or dial, or a value out of range.
    """
    draw = SIMULATORS[name]
    known = set(inspect.signature(draw).parameters) - {"index", "size", "seed"}
    for dial in dials:
        if dial not in known:
            raise StudyError(nearest(f"dial of simulator {name!r}", dial, known))
    check_whole("count", count, 1)
    check_whole("size", size, 32)
    images = np.empty((count, size, size), np.uint8)
    masks = np.empty((count, size, size), np.uint8)
    for index in range(count):
        image, masks[index] = draw(index, size=size, seed=seed, **dials)
        images[index] = np.rint(image * 255)
    return images, masks
