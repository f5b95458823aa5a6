"""Images, masks and groups of a task at a size, drawn or read, and their standardization."""

from __future__ import annotations

import functools
import hashlib
import inspect
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.outside import OWN_BYTES, read_bytes, read_npz
from lib.data.cards import find_card
from lib.data.prepared_folder import IGNORED, Index, majority, prepared_files, prepared_pictures, values_of
from lib.data.prepared_volumes import volume_files
from lib.data.simulate import anatomy
from lib.data.simulate.catalog import SIMULATORS, simulate
from lib.data.tasks import carried, scans
from lib.data.tasks.carried import Data, intensities
from lib.data.tasks.catalog import SLICES
from lib.data.tasks.room import room
from lib.data.tasks.task import Task, get_task
from lib.data.tasks.volumes import VolumeData, drawn_volumes, middle_windows, read_volumes

SIMULATORS_CODE = Path(anatomy.__file__).parent  # where a change means that stored simulated images are drawn anew


def load_task(name: str, size: int) -> Data:
    """The task's images and masks at `size` pixels a side, kept in memory for the next call.

    Pictures that are not square are stretched to a square; images by antialiased bilinear interpolation, masks by
    area, foreground where at least half of a pixel is. Simulated sets are drawn at that size, once, and kept under
    `data/simulated` in the study's home. What takes more than the budget of `lib.common.device.memory_budget_mb` lies
    in a nameless file there, of which the system keeps in memory what is in use.

    Raises:
        StudyError: unknown task, or its prepared folder is missing or damaged.
    """
    task = get_task(name)
    if task.dim == 3:
        raise StudyError(f"{name!r} shows volumes, and images of {size} x {size} pixels were asked for")
    if is_carried(task, size):
        return carried.read(name, size, carried.state(name, size))
    return _load(task.name, size, str(paths.data_root()), str(paths.home()), _state(task))


def load_volumes(name: str, size: int) -> VolumeData:
    """The volumes of a task, kept in memory for the next call; simulated ones are drawn with `size` voxels a side.

    Raises:
        StudyError: see `load_task`.
    """
    task = get_task(name)
    drawn = size if task.kind == "simulated" else 0
    return _load_volumes(task.name, drawn, str(paths.data_root()), str(paths.home()), _state(task))


def load_data(name: str, size: int) -> Data | VolumeData:
    """What a task is learned from: see `load_task` and `load_volumes`."""
    return load_volumes(name, size) if get_task(name).dim == 3 else load_task(name, size)


@functools.lru_cache(maxsize=4)
def _load_volumes(name: str, size: int, data_root: str, home: str, state: tuple[Any, ...]) -> VolumeData:
    task = get_task(name)
    if task.kind == "simulated":
        return drawn_volumes(task, *_simulate(task, size))
    return read_volumes(task, _digest(name, data_root, state))


def is_carried(task: Task, size: int) -> bool:
    """Whether the images of a task come from a file that was carried here, because its set does not lie here."""
    if not carried.file_of(task.name, size).is_file():
        return False
    if task.kind == "simulated":
        return True
    if task.goal == "segmentation":
        return not (find_card(task.name).path / "index.csv").is_file()
    return not scans.scan_tasks()[task.name].scans()


def data_digest(name: str, size: int) -> str | None:
    """`Data.digest` of the data that lie there now, without reading a picture; None where they do not lie here.

    A sha256 over the bytes of a real set's files, or over the images of a simulated one, and over what else decides a
    split.
    """
    task = get_task(name)
    if task.kind == "simulated" or is_carried(task, size):
        return load_data(name, size).digest
    try:
        state = _state(task)
    except StudyError:
        return None
    return _digest(task.name, str(paths.data_root()), state)


def _files(task: Task) -> tuple[list[Path], str]:
    """The files that a real task is read from, in order, and what its card says about the split."""
    if task.goal == "segmentation":
        named = f" {task.labels}" if task.labels else ""
        if task.dim == 3:
            return volume_files(find_card(task.name)), f"{task.folds}{named} {task.regions} {task.spacing} {task.shape}"
        return prepared_files(find_card(task.name)), f"{task.folds}{named}"
    found = scans.present_task(task.name).scans()
    return [scan.file for scan in found], f"{task.folds} {[(scan.subject, scan.fold) for scan in found]}"


def _state(task: Task) -> tuple[Any, ...]:
    """Changes whenever a file of the task does: what was read before is then read again."""
    if task.kind == "simulated":
        return ()
    files, about = _files(task)
    stats = (file.stat() if file.is_file() else None for file in files)
    return (about, *(each and (each.st_size, each.st_mtime_ns, each.st_ino) for each in stats))


@functools.lru_cache(maxsize=64)
def _digest(name: str, data_root: str, state: tuple[Any, ...]) -> str:
    files, about = _files(get_task(name))
    digest = hashlib.sha256(about.encode())
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"missing")  # reading the task names the file
    return digest.hexdigest()


def first_images(name: str, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images, (n, s, s) or in color (n, s, s, 3), in [0, 1], and masks (n, s, s) of a task, for looking at.

    Draws no more than those. Of volumes that were imaged, windows (n, c, x, y, z) as networks are given them, around
    the middle of what is labeled, with masks (n, x, y, z); drawn ones whole, (n, s, s, s).
    """
    task = get_task(name)
    if task.kind == "simulated" and not is_carried(task, size):
        images, masks = _draw(task, count, size)
        return images / np.float32(255), masks
    if task.dim == 3:
        images, masks = images_at(name, size, np.arange(min(count, len(load_volumes(name, size).ids))))
        return images.numpy(), masks.numpy()
    data = load_task(name, size)
    images = intensities(data.images[:count]).movedim(1, -1).squeeze(-1)
    return images.numpy(), data.masks[:count].numpy()


def images_at(name: str, size: int, index: np.ndarray) -> tuple[Tensor, Tensor]:
    """Images (n, c, s, s) in [0, 1] and masks (n, s, s) at places of a task's data; of volumes see `middle_windows`."""
    data = load_data(name, size)
    if isinstance(data, VolumeData):
        return middle_windows(data, index, get_task(name).patch(size))
    places = torch.from_numpy(index)
    return intensities(data.images[places]), data.masks[places]


@functools.lru_cache(maxsize=8)
def _load(name: str, size: int, data_root: str, home: str, state: tuple[Any, ...]) -> Data:
    task = get_task(name)
    notes: tuple[str, ...] = ()
    pixels: np.ndarray | None = None
    if task.kind == "simulated":
        images, masks, digest = _simulate(task, size)
        ids = groups = [f"{index:04d}" for index in range(len(images))]
        if task.goal == "reconstruction":
            groups = [f"{index // SLICES:02d}" for index in range(len(images))]
            ids = [f"{group}-{index % SLICES}" for index, group in enumerate(groups)]
        image_tensor, mask_tensor = torch.from_numpy(images).unsqueeze(1), torch.from_numpy(masks)
    elif task.goal == "reconstruction":
        found = scans.load_slices(name, size)
        images = torch.from_numpy(found.images).unsqueeze(1)
        no_masks = torch.zeros(len(images), size, size, dtype=torch.uint8)
        return Data(images, no_masks, found.ids, found.groups, _digest(name, data_root, state), found.folds)
    else:
        index = Index.of(find_card(name))
        image_tensor, mask_tensor, notes = _read(name, index, size)
        ids, groups, digest = index.ids, index.groups, _digest(name, data_root, state)
        pixels = np.array(index.originals) / size
    return Data(image_tensor.contiguous(), mask_tensor.contiguous(), ids, groups, digest, None, notes, pixels)


def _read(name: str, index: Index, size: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images and masks of prepared pictures at a size, and what there is to say of them at that size.

    Bytes where every picture has that size, else float32 in [0, 1].
    """
    count, same = len(index.ids), all(sides == (size, size) for sides in index.sizes)
    images = room((count, index.channels, size, size), np.uint8 if same else np.float32)
    masks = room((count, size, size), np.uint8)
    smaller = lost = 0
    for at, (image, mask) in enumerate(prepared_pictures(index)):
        planes = np.moveaxis(image, 2, 0) if image.ndim == 3 else image[None]
        images[at] = planes if same else _shrink(planes, size) / 255
        if same:
            masks[at] = mask
        else:
            masks[at] = majority(mask, lambda part: _area(part, size)) if index.labels else _shrink_mask(mask, size)
        smaller += max(image.shape) < size
        lost += not same and bool(values_of(mask) - values_of(masks[at]) - {0, IGNORED})
    notes = []
    if smaller:
        notes.append(f"{name}: {smaller} of {count} pictures are smaller than {size} pixels, and were enlarged")
    if lost:
        what = "a label" if index.labels else "all of their foreground"
        notes.append(f"{name}: {lost} of {count} masks lose {what} at {size} pixels")
    return torch.from_numpy(images), torch.from_numpy(masks), tuple(notes)


def is_drawn(name: str, size: int) -> bool:
    """Whether a task's images need not be drawn: they are real, or carried here, or lie drawn."""
    task = get_task(name)
    return task.kind == "real" or is_carried(task, size) or drawn_file(task, size).is_file()


def drawn_file(task: Task, size: int) -> Path:
    """Where a simulated set is kept: a file named after the code and the settings that draw it."""
    drawing = anatomy if task.simulator == "anatomy" else SIMULATORS[task.simulator]
    shared = sorted(SIMULATORS_CODE.glob("*.py"))
    code = [inspect.getsource(drawing), *(file.read_text() for file in shared)]
    key = hashlib.sha256(repr((task.dials, task.images, size, code, np.__version__)).encode()).hexdigest()[:12]
    return paths.home() / "data" / "simulated" / f"{task.name}-{size}-{key}.npz"


def _simulate(task: Task, size: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Draw a simulated set, or read it where it was drawn before by the very same code and settings."""
    carried_here = task.dim == 3 and is_carried(task, size)
    file = carried.file_of(task.name, size) if carried_here else drawn_file(task, size)
    if file.is_file():
        try:
            stored = read_npz(read_bytes(file), str(file), most=OWN_BYTES)
            images, masks = stored["images"], stored["masks"]
        except (StudyError, KeyError) as error:
            raise StudyError(f"{file} is damaged ({error}); delete it, and it is drawn again") from error
    else:
        images, masks = _draw(task, task.images, size)
        buffer = io.BytesIO()
        np.savez(buffer, images=images, masks=masks)
        paths.write_atomic(file, buffer.getvalue())
    return images, masks, hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest()


def _draw(task: Task, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` images and masks of a simulated task, uint8 (n, size, size)."""
    if task.goal == "segmentation" and task.dim == 2:
        return simulate(task.simulator, count, size=size, **task.dials)
    if task.dim == 3:
        drawn = [anatomy.labeled_volume(task.anatomy, subject, task.contrast, size=size) for subject in range(count)]
        return np.stack([image for image, _ in drawn]), np.stack([mask for _, mask in drawn])
    view = (task.contrast, task.direction, SLICES)
    volumes = [anatomy.slices(task.anatomy, subject, *view, size=size) for subject in range(-(-count // SLICES))]
    images = np.rint(np.concatenate(volumes)[:count] * 255).astype(np.uint8)
    return images, np.zeros_like(images)


def _shrink(image: np.ndarray, size: int) -> Tensor:  # (c, h, w) -> (c, size, size)
    whole = torch.from_numpy(image.copy()).float()[None]
    return F.interpolate(whole, (size, size), mode="bilinear", antialias=True, align_corners=False)[0]


def _area(mask: np.ndarray, size: int) -> Tensor:
    whole = torch.from_numpy(mask.copy()).float()[None, None]
    return F.interpolate(whole, (size, size), mode="area")[0, 0]


def _shrink_mask(mask: np.ndarray, size: int) -> Tensor:
    return (_area(mask, size) >= 0.5).to(torch.uint8)


def standardize(images: Tensor) -> Tensor:
    """Every image (n, c, h, w) of `Data` at mean 0 and standard deviation 1; a constant image becomes 0."""
    images = intensities(images)
    spread, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / spread.clamp_min(1e-3)
