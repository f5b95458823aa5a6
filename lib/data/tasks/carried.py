"""A task at one size in memory, and as one file, in which it can be carried to where its set is not."""

from __future__ import annotations

import functools
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.outside import OWN_BYTES, parse_json, read_bytes, read_npz
from lib.data.tasks.room import placed


@dataclass(frozen=True)
class Data:
    """A task at one size: images (n, c, s, s), gray or in color, masks uint8 (n, s, s), group of each image.

    Masks hold 0 and 1; where a task names labels, 0 to their number, and 255 where a pixel is to be ignored. Images are
    float32 in [0, 1], or, where they came as bytes of that size, uint8: see `intensities`. Where images are to be
    reconstructed, 1 is the top of the volume that they are slices of, and all masks are 0. `folds` is the fold of each
    image where a card fixes it, and `notes` say what the size does to pictures. `pixels` (n, 2) are height and width of
    a pixel of each image, in pixels of the picture that it was made from; None where images are drawn.
    """

    images: Tensor
    masks: Tensor
    ids: list[str]
    groups: list[str]
    digest: str
    folds: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    pixels: np.ndarray | None = None
    _copies: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """All images and masks on a device, copied there once; as they lie here where its memory is short of that."""
        return placed(self.images, self.masks, device, self._copies)


def intensities(images: Tensor) -> Tensor:
    """Images of a task as float32 in [0, 1], whether they are kept so or as bytes."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def file_of(name: str, size: int) -> Path:
    """Where a carried task lies: in the study's home."""
    return paths.home() / "data" / "carried" / f"{name}-{size}.npz"


def state(name: str, size: int) -> tuple[str, int, int]:
    """Changes whenever the file does."""
    file = file_of(name, size)
    about = file.stat()
    return str(file), about.st_size, about.st_mtime_ns


def content(data: Data) -> bytes:
    """A task as the bytes of its file."""
    about = {"ids": data.ids, "groups": data.groups, "digest": data.digest, "notes": data.notes}
    folds = np.zeros(0, np.int64) if data.folds is None else data.folds
    pixels = np.zeros(0) if data.pixels is None else data.pixels
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, images=data.images.numpy(), masks=data.masks.numpy(), folds=folds, pixels=pixels,
        about=np.array(json.dumps(about)),
    )  # fmt: skip
    return buffer.getvalue()


@functools.lru_cache(maxsize=8)
def read(name: str, size: int, state: tuple[Any, ...]) -> Data:
    """A carried task.

    Raises:
        StudyError: its file is damaged.
    """
    file = file_of(name, size)
    try:
        stored = read_npz(read_bytes(file), str(file), most=OWN_BYTES)
        images, masks, folds, pixels = (stored[key] for key in ("images", "masks", "folds", "pixels"))
        about = parse_json(str(stored["about"]), str(file))
        return Data(
            torch.from_numpy(images), torch.from_numpy(masks), about["ids"], about["groups"], about["digest"],
            folds if len(folds) else None, tuple(about["notes"]), pixels if len(pixels) else None,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{file} is damaged ({error}); unpack the bundle again") from error
