"""What is to be learned: images, masks and groups of every task, their splits, and batches that live on the device."""

from __future__ import annotations

import functools
import hashlib
import inspect
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib import manifests, paths, simulate
from lib.errors import StudyError, nearest
from lib.provenance import generator
from lib.registry import Registry

FOLDS = 5


@dataclass(frozen=True)
class Task:
    """One segmentation task.

    Args:
        name: as specs call it. title: as figures call it. modality: what made the images.
        kind: `simulated` or `real`.
        folds: number of folds of groups.
        simulator, dials, images: for simulated tasks, what draws them, how it is set and how many there are.
        variant: one of many settings of a simulator; overviews leave it out.
    """

    name: str
    title: str
    kind: str
    modality: str
    folds: int = FOLDS
    simulator: str = ""
    dials: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    variant: bool = False


@dataclass(frozen=True)
class Data:
    """A task at one size: images float32 (n, 1, s, s) in [0, 1], masks uint8 (n, s, s) of 0/1, group of each image."""

    images: Tensor
    masks: Tensor
    ids: list[str]
    groups: list[str]
    digest: str


@dataclass(frozen=True)
class Split:
    """Indices into `Data` of the training, validation and test images; no group is in two of them."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


TASKS: Registry[Task] = Registry("task")


def _simulated(name: str, title: str, modality: str, simulator: str, **dials: Any) -> None:
    TASKS.add(name, Task(name, f"{title} (simulated)", "simulated", modality, FOLDS, simulator, dials, images=400))


_simulated("sim_natural", "natural scenes", "natural images", "natural")
_simulated("sim_ultrasound_easy", "ultrasound, easy", "ultrasound", "ultrasound", contrast=-14.0)
_simulated("sim_ultrasound", "ultrasound", "ultrasound", "ultrasound", contrast=-8.0)
_simulated("sim_ultrasound_hard", "ultrasound, hard", "ultrasound", "ultrasound", contrast=-3.0)
_simulated("sim_radiograph", "chest radiographs", "chest X-ray", "radiograph")

# Where does a set of layers pay? Sources, and targets that differ from the first source in their texture alone, in the
# shape of what is to be outlined alone, or in both. Sources show other breasts (seed 1): targets share theirs.
GRAINS = {"fine": 1.0, "medium": 1.6, "coarse": 2.5}  # of the speckle: `speckle` of the simulator
SHAPES = {"plain": (1.0, 1.0), "small": (0.7, 2.0), "tiny": (0.5, 3.0)}  # `lesion` and `irregularity`


def _variant(name: str, title: str, **dials: float) -> None:
    title = f"ultrasound, {title} (simulated)"
    dials = {"contrast": -8.0, **dials}
    TASKS.add(name, Task(name, title, "simulated", "ultrasound", FOLDS, "ultrasound", dials, images=200, variant=True))


for _grain, _speckle in GRAINS.items():
    _variant(f"sim_other_{_grain}", f"other breasts, {_grain} grain", speckle=_speckle, seed=1)
    for _shape, (_lesion, _irregularity) in SHAPES.items():
        _dials = {"speckle": _speckle, "lesion": _lesion, "irregularity": _irregularity}
        _variant(f"sim_{_grain}_{_shape}", f"{_grain} grain, {_shape} lesions", **_dials)
_variant("sim_sparse", "sparse scatterers", density=1.0)
_variant("sim_compressed", "hard log compression", dynamic_range=30.0)


def get_task(name: str) -> Task:
    """The task of that name: an embedded one, or one that a card describes.

    Raises:
        StudyError: there is none; names the nearest.
    """
    if name in TASKS:
        return TASKS[name]
    theirs = sorted(paths.data_root().glob("*/card.toml"))
    carded = _carded_tasks(tuple((str(file), file.stat().st_mtime_ns) for file in theirs))
    if name not in carded:
        raise StudyError(f"{nearest('task', name, [*TASKS, *carded])}; {manifests.root_note()}")
    return carded[name]


@functools.lru_cache(maxsize=4)
def _carded_tasks(theirs: tuple[tuple[str, int], ...]) -> dict[str, Task]:
    """Tasks of the real sets' cards; read again when a card of the user's own comes, goes or changes."""
    return {
        card.name: Task(card.name, card.title, card.kind, card.modality, card.split.folds)
        for card in manifests.cards().values()
        if card.kind == "real" and card.goal == "segmentation"
    }


def load(name: str, size: int) -> Data:
    """The task's images and masks at `size` pixels a side, kept in memory for the next call.

    Pictures that are not square are stretched to a square; images by antialiased bilinear interpolation, masks by
    area, foreground where at least half of a pixel is. Simulated sets are drawn at that size, once, and kept under
    `data/simulated` in the study's home.

    Raises:
        StudyError: unknown task, or its prepared folder is missing or damaged.
    """
    return _load(get_task(name).name, size, str(paths.data_root()), str(paths.home()))


def peek(name: str, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images (n, s, s) in [0, 1] and masks (n, s, s) of a task, for looking at; draws no more than those."""
    task = get_task(name)
    if task.kind == "simulated":
        images, masks = simulate.simulate(task.simulator, count, size=size, **task.dials)
        return images / np.float32(255), masks
    data = load(name, size)
    return data.images[:count, 0].numpy(), data.masks[:count].numpy()


@functools.lru_cache(maxsize=8)
def _load(name: str, size: int, data_root: str, home: str) -> Data:
    task = get_task(name)
    if task.kind == "simulated":
        images, masks, digest = _simulate(task, size)
        ids = [f"{index:04d}" for index in range(len(images))]
        groups = ids
        image_tensor, mask_tensor = torch.from_numpy(images).float() / 255, torch.from_numpy(masks)
    else:
        prepared = manifests.read(manifests.find(name))
        ids, groups, digest = prepared.ids, prepared.groups, prepared.digest
        image_tensor = torch.stack([_shrink(image, size) for image in prepared.images]) / 255
        mask_tensor = torch.stack([_shrink_mask(mask, size) for mask in prepared.masks])
    return Data(image_tensor.unsqueeze(1).contiguous(), mask_tensor.contiguous(), ids, groups, digest)


def _simulate(task: Task, size: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Draw a simulated set, or read it where it was drawn before by the very same code and settings."""
    shared = sorted(Path(inspect.getfile(simulate)).parent.glob("*.py"))
    code = [inspect.getsource(simulate.SIMULATORS[task.simulator]), *(file.read_text() for file in shared)]
    key = hashlib.sha256(repr((task.dials, task.images, size, code, np.__version__)).encode()).hexdigest()[:12]
    file = paths.home() / "data" / "simulated" / f"{task.name}-{size}-{key}.npz"
    if file.is_file():
        try:
            with np.load(io.BytesIO(file.read_bytes())) as stored:
                images, masks = stored["images"], stored["masks"]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise StudyError(f"{file} is damaged ({error}); delete it, and it is drawn again") from error
    else:
        images, masks = simulate.simulate(task.simulator, task.images, size=size, **task.dials)
        buffer = io.BytesIO()
        np.savez(buffer, images=images, masks=masks)
        paths.write_atomic(file, buffer.getvalue())
    return images, masks, hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest()


def _shrink(image: np.ndarray, size: int) -> Tensor:
    whole = torch.from_numpy(image.copy()).float()[None, None]
    return F.interpolate(whole, (size, size), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _shrink_mask(mask: np.ndarray, size: int) -> Tensor:
    whole = torch.from_numpy(mask.copy()).float()[None, None]
    return (F.interpolate(whole, (size, size), mode="area")[0, 0] >= 0.5).to(torch.uint8)


def split(name: str, groups: list[str], *, fold: int, volume: int | None, seed: int) -> Split:
    """The split of a task: test images are those of `fold`, validation images those of the next, the rest train.

    Args:
        groups: group of each image; a group is never divided.
        volume: how many training images to keep, a choice by `seed` that is nested (20 are among the 50); None: all.

    Raises:
        StudyError: no such fold, or fewer training images than asked for.
    """
    folds = get_task(name).folds
    if not 0 <= fold < folds:
        raise StudyError(f"fold must be between 0 and {folds - 1} for task {name!r}, got {fold}")
    where = manifests.folds(groups, folds, name)
    test, val = (np.flatnonzero(where == each) for each in (fold, (fold + 1) % folds))
    train = np.flatnonzero((where != fold) & (where != (fold + 1) % folds))
    if volume is not None:
        if volume < 1:
            raise StudyError(f"volume must be at least 1, got {volume}")
        if volume > len(train):
            raise StudyError(f"volume must be at most {len(train)}, the training images of {name!r}, got {volume}")
        train = train[np.random.default_rng([seed, 0x501]).permutation(len(train))[:volume]]
    return Split(train, val, test)


def batch_order(count: int, *, seed: int, step: int, batch: int) -> np.ndarray:
    """Which of `count` images make up a step's batch: passes over fresh shuffles, a pure function of (seed, step)."""
    places = np.arange(step * batch, (step + 1) * batch)
    order = {each: _shuffle(count, seed, each) for each in np.unique(places // count)}
    return np.array([order[place // count][place % count] for place in places])


@functools.lru_cache(maxsize=64)
def _shuffle(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 0x0DE2, epoch]).permutation(count)


def standardize(images: Tensor) -> Tensor:
    """Every image of (n, 1, h, w) at mean 0 and standard deviation 1; a constant image becomes 0."""
    spread, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / spread.clamp_min(1e-3)


def augment(images: Tensor, masks: Tensor, *, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """A batch flipped left to right, rotated (15 degrees), scaled (0.8 to 1.25), moved (10 %) and re-lit at random.

    Args:
        images: float32 (n, 1, h, w) in [0, 1]. masks: uint8 (n, h, w).

    Returns:
        The same shapes and ranges; a pure function of the batch and (seed, step). Drawn on the CPU, applied where the
        batch lives.
    """
    count, device = len(images), images.device
    draw = torch.rand(7, count, generator=generator(seed, 0xA06, step))
    flip = torch.where(draw[0] < 0.5, -1.0, 1.0)
    angle = (draw[1] * 2 - 1) * np.pi / 12
    scale = 0.8 * 1.5625 ** draw[2]  # log-uniform between 0.8 and 1.25
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    shift = (draw[3:5] * 2 - 1) * 0.2  # in half image sides
    rows = torch.stack([flip * cosine, -sine, shift[0], flip * sine, cosine, shift[1]], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3).to(device), list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    moved = F.grid_sample(
        masks.unsqueeze(1).to(images.dtype), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    power = (0.7 * 2.04 ** draw[5]).to(device).view(-1, 1, 1, 1)  # gamma, log-uniform between 0.7 and 1.43
    gain = (0.8 + 0.4 * draw[6]).to(device).view(-1, 1, 1, 1)
    return (images.clamp(0, 1) ** power * gain).clamp(0, 1), moved[:, 0].to(masks.dtype)


@dataclass(frozen=True)
class Batches:
    """Training images (n, 1, h, w) and masks (n, h, w) where they are used, and the batch of every step."""

    images: Tensor
    masks: Tensor
    seed: int
    batch: int
    augmented: bool

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The images and masks of a step, a pure function of (seed, step)."""
        order = batch_order(len(self.images), seed=self.seed, step=step, batch=self.batch)
        index = torch.from_numpy(order).to(self.images.device)
        images, masks = self.images[index], self.masks[index]
        return augment(images, masks, seed=self.seed, step=step) if self.augmented else (images, masks)
