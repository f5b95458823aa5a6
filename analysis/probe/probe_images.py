"""Images on which a user's network is looked at: a prepared task, a folder of pictures or volumes, or a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lib.common.errors import StudyError
from lib.common.outside import ARRAY_BYTES, read_bytes, read_npy
from lib.data.preparation.pictures import to_color, to_gray
from lib.data.tasks.images import images_at, load_data, standardize
from lib.data.tasks.task import get_task
from lib.imaging.grids import canonical, read_grid
from lib.networks.checkpoint_files import ENDINGS, read_checkpoint

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
IMAGES, WINDOWS = 96, 24
SIDE, CUBE = 128, 64  # pixels of a picture, voxels of a window


def read_images(where: str, channels: int | None) -> tuple[Tensor, str]:
    """Images float32 (n, c, *size), and what they are. Pictures and volumes stand at mean 0, standard deviation 1.

    Args:
        where: a prepared task; a folder of pictures (stretched to 128 x 128 pixels) or NIfTI volumes (64 voxels a side
            from their middle); or a tensor file, (n, c, *size) as the network takes them, in .npy, .pt or .safetensors.
        channels: that the network takes.

    Raises:
        StudyError: nothing of that kind is there, it holds no images, or they have other channels.
    """
    path = Path(where)
    if path.is_file():
        images, said = _tensor(path), f"images of {path.name}, as they are"
    elif path.is_dir():
        images, said = _folder(path, channels)
    else:
        images, said = _task(where)
    if images.ndim < 3 or not len(images) or not images.isfinite().all():
        raise StudyError(f"{where} must hold finite images (n, c, *size), got {tuple(images.shape)}")
    if channels is not None and images.shape[1] != channels:
        raise StudyError(
            f"the network takes {channels} channels and the images of {where} have {images.shape[1]}; give a tensor "
            "file (n, c, *size) of images as the network takes them"
        )
    return images.float(), f"{len(images)} {said}, {' x '.join(map(str, images.shape[2:]))}"


def _task(name: str) -> tuple[Tensor, str]:
    volumes = get_task(name).dim == 3
    size, most = (CUBE, WINDOWS) if volumes else (SIDE, IMAGES)
    count = len(load_data(name, size).groups)
    index = np.sort(np.random.default_rng(0).permutation(count)[:most])
    images = images_at(name, size, index)[0]
    return (images, f"windows of {name}") if volumes else (standardize(images), f"images of {name}, standardized")


def _tensor(path: Path) -> Tensor:
    if path.suffix == ".npy":
        return torch.from_numpy(np.ascontiguousarray(_plain(path)))
    if path.suffix not in ENDINGS:
        raise StudyError(f"{path}: tensor files end in .npy or {', '.join(ENDINGS)}")
    found = read_checkpoint(path).weights
    if len(found) != 1:
        raise StudyError(f"{path} must hold one tensor, such as {{'images': tensor}}, got {', '.join(found)}")
    return next(iter(found.values()))


def _plain(path: Path) -> np.ndarray:
    found = read_npy(read_bytes(path, ARRAY_BYTES), str(path))
    if found.dtype.kind not in "fiub":
        raise StudyError(f"{path} is no array of real numbers (it holds {found.dtype}); save one with numpy.save")
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def _folder(path: Path, channels: int | None) -> tuple[Tensor, str]:
    pictures = sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES)
    volumes = sorted(each for each in path.iterdir() if each.name.endswith((".nii", ".nii.gz")))
    if not pictures and not volumes:
        raise StudyError(f"{path} holds no pictures ({', '.join(PICTURES)}) and no volumes (.nii, .nii.gz)")
    if pictures:
        read = to_color if channels == 3 else to_gray
        kept = [_picture(read(each)) for each in _spread(pictures, IMAGES)]
        return torch.cat(kept), f"pictures of {path.name} (of {len(pictures)}), standardized"
    cubes = [_cube(canonical(read_grid(each)).voxels) for each in _spread(volumes, WINDOWS)]
    if len({each.shape for each in cubes}) > 1:
        raise StudyError(f"the volumes of {path} differ in their channels; give a folder of one kind")
    return torch.stack(cubes), f"windows from the middle of volumes of {path.name} (of {len(volumes)}), standardized"


def _spread(files: list[Path], most: int) -> list[Path]:
    """At most so many, evenly spaced."""
    if len(files) <= most:
        return files
    return [files[round(at * (len(files) - 1) / (most - 1))] for at in range(most)]


def _picture(image: Any) -> Tensor:
    values = torch.from_numpy(np.atleast_3d(np.asarray(image, dtype=np.float32))).movedim(-1, 0)[None] / 255
    return standardize(functional.interpolate(values, (SIDE, SIDE), mode="bilinear", antialias=True))


def _cube(voxels: np.ndarray) -> Tensor:
    """The middle of a volume (c, x, y, z), filled up with zeros after standardizing."""
    values = torch.from_numpy(voxels.astype(np.float32))
    values = (values - values.mean()) / values.std().clamp_min(1e-6)
    for axis in (1, 2, 3):
        side = values.shape[axis]
        if side > CUBE:
            values = values.narrow(axis, (side - CUBE) // 2, CUBE)
        elif side < CUBE:
            before = (CUBE - side) // 2
            pad = [0, 0] * (3 - axis) + [before, CUBE - side - before]
            values = functional.pad(values, pad)
    return values
