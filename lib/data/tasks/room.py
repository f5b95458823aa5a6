"""Room for the images of a task: in memory, in a file, or on a device."""

from __future__ import annotations

import math
import shutil
import tempfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.common import paths
from lib.common.device import memory_budget_mb
from lib.common.errors import StudyError


def room(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array to be filled: in memory, or beyond the budget in a file that no one else sees and nothing leaves behind.

    Raises:
        StudyError: the disk has no room for it.
    """
    need = math.prod(shape) * np.dtype(dtype).itemsize
    if need / 1e6 <= memory_budget_mb(torch.device("cpu")):
        return np.empty(shape, dtype)
    folder = paths.home() / "data"
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if need > free:  # told now: a write into a mapped file on a full disk would end the process
        raise StudyError(
            f"images at this size take {need / 1e9:.1f} GB, and the disk of {folder} has {free / 1e9:.1f} GB free"
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, shape=shape)


def placed(
    images: Tensor, masks: Tensor, device: torch.device, copies: dict[torch.device, tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Images and masks on a device, copied there once and kept in `copies`; as they lie where its memory is short."""
    if device.type == "cpu":
        return images, masks
    if device not in copies:
        fits = (images.nbytes + masks.nbytes) / 1e6 <= memory_budget_mb(device)
        copies[device] = (images.to(device), masks.to(device)) if fits else (images, masks)
    return copies[device]
