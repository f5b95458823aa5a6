"""What is to be learned: images, masks and groups of every task, and their splits."""

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

from lib import manifests, paths, scans, simulate
from lib.errors import StudyError, nearest
from lib.registry import Registry
from lib.simulate import anatomy

FOLDS = 5
SCORE = {"segmentation": "dice", "reconstruction": "psnr"}  # by goal, what runs are selected and compared on
SUBJECTS, SLICES = 25, 8  # of a simulated reconstruction task: volumes, and slices of each


@dataclass(frozen=True)
class Task:
    """Something to be learned from images.

    Args:
        name: as specs call it. title: as figures call it. modality: what made the images.
        kind: `simulated` or `real`.
        folds: number of folds of groups.
        simulator, dials, images: for simulated tasks, what draws them, how it is set and how many there are.
        variant: one of many settings of a simulator; overviews leave it out.
        anatomy, contrast, direction: what a reconstruction task shows, and how it is sliced.
        goal: `segmentation`, or `reconstruction` of slices of 3-D volumes, whose groups are subjects.
        people: whose images these are; tasks of the same people have the same folds, so that a subject who is a test
            subject of one is never a training subject of another. Default: the task's own name.
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
    goal: str = "segmentation"
    people: str = ""
    anatomy: str = ""
    contrast: str = ""
    direction: str = ""


@dataclass(frozen=True)
class Data:
    """A task at one size: images float32 (n, 1, s, s) in [0, 1], masks uint8 (n, s, s) of 0/1, group of each image.

    Where images are to be reconstructed, 1 is the top of the volume that they are slices of, and all masks are 0.
    `folds` is the fold of each image where a card fixes it.
    """

    images: Tensor
    masks: Tensor
    ids: list[str]
    groups: list[str]
    digest: str
    folds: np.ndarray | None = None


@dataclass(frozen=True)
class Split:
    """Indices into `Data` of the training, validation and test images; no group is in two of them."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


TASKS: Registry[Task] = Registry("task")


def _simulated(name: str, title: str, modality: str, simulator: str, **dials: Any) -> None:
    TASKS.add(name, Task(name, f"{title} (simulated)", "simulated", modality, FOLDS, simulator, dials, images=400))


def _scanned(region: str, contrast: str, direction: str = "axial") -> None:
    """A reconstruction task on simulated volumes; those of one region show the same subjects."""
    name = f"sim_{region}_{contrast.lower()}" + (f"_{direction}" if direction != "axial" else "")
    title = f"{region} {contrast}, {direction} (simulated)"
    TASKS.add(
        name,
        Task(
            name, title, "simulated", "MRI", simulator="anatomy", images=SUBJECTS * SLICES, goal="reconstruction",
            people=f"sim_{region}", anatomy=region, contrast=contrast, direction=direction,
        ),
    )  # fmt: skip


_simulated("sim_natural", "natural scenes", "natural images", "natural")
_simulated("sim_ultrasound_easy", "ultrasound, easy", "ultrasound", "ultrasound", contrast=-14.0)
_simulated("sim_ultrasound", "ultrasound", "ultrasound", "ultrasound", contrast=-8.0)
_simulated("sim_ultrasound_hard", "ultrasound, hard", "ultrasound", "ultrasound", contrast=-3.0)
_simulated("sim_radiograph", "chest radiographs", "chest X-ray", "radiograph")
for _contrast in ("T1", "T2", "FLAIR"):
    _scanned("brain", _contrast)
_scanned("brain", "T1", "sagittal")
_scanned("brain", "T1", "coronal")
_scanned("knee", "PD", "sagittal")

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
    if not isinstance(name, str) or name in TASKS:
        return TASKS[name]
    theirs = sorted(paths.data_root().glob("*/card.toml"))
    carded = _carded_tasks(tuple((str(file), file.stat().st_mtime_ns) for file in theirs))
    if name not in carded:
        raise StudyError(f"{nearest('task', name, [*TASKS, *carded])}; {manifests.root_note()}")
    return carded[name]


@functools.lru_cache(maxsize=4)
def _carded_tasks(theirs: tuple[tuple[str, int], ...]) -> dict[str, Task]:
    """Tasks of the real sets' cards; read again when a card of the user's own comes, goes or changes."""
    outlined = {
        card.name: Task(card.name, card.title, card.kind, card.modality, card.split.folds)
        for card in manifests.cards().values()
        if card.kind == "real" and card.goal == "segmentation"
    }
    scanned = {
        name: Task(
            name, task.title, "real", "MRI", task.folds, goal="reconstruction", people=task.region,
            anatomy=task.region, contrast=task.contrast, direction=task.direction,
        )
        for name, task in scans.scan_tasks().items()
    }  # fmt: skip
    return outlined | scanned


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
        images, masks = _draw(task, count, size)
        return images / np.float32(255), masks
    data = load(name, size)
    return data.images[:count, 0].numpy(), data.masks[:count].numpy()


@functools.lru_cache(maxsize=8)
def _load(name: str, size: int, data_root: str, home: str) -> Data:
    task = get_task(name)
    if task.kind == "simulated":
        images, masks, digest = _simulate(task, size)
        ids = groups = [f"{index:04d}" for index in range(len(images))]
        if task.goal == "reconstruction":
            groups = [f"{index // SLICES:02d}" for index in range(len(images))]
            ids = [f"{group}-{index % SLICES}" for index, group in enumerate(groups)]
        image_tensor, mask_tensor = torch.from_numpy(images).float() / 255, torch.from_numpy(masks)
    elif task.goal == "reconstruction":
        found = scans.load_slices(name, size)
        images = torch.from_numpy(found.images).unsqueeze(1)
        no_masks = torch.zeros(len(images), size, size, dtype=torch.uint8)
        return Data(images, no_masks, found.ids, found.groups, found.digest, found.folds)
    else:
        prepared = manifests.read(manifests.find(name))
        ids, groups, digest = prepared.ids, prepared.groups, prepared.digest
        image_tensor = torch.stack([_shrink(image, size) for image in prepared.images]) / 255
        mask_tensor = torch.stack([_shrink_mask(mask, size) for mask in prepared.masks])
    return Data(image_tensor.unsqueeze(1).contiguous(), mask_tensor.contiguous(), ids, groups, digest)


def _simulate(task: Task, size: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Draw a simulated set, or read it where it was drawn before by the very same code and settings."""
    drawing = anatomy if task.simulator == "anatomy" else simulate.SIMULATORS[task.simulator]
    shared = sorted(Path(inspect.getfile(simulate)).parent.glob("*.py"))
    code = [inspect.getsource(drawing), *(file.read_text() for file in shared)]
    key = hashlib.sha256(repr((task.dials, task.images, size, code, np.__version__)).encode()).hexdigest()[:12]
    file = paths.home() / "data" / "simulated" / f"{task.name}-{size}-{key}.npz"
    if file.is_file():
        try:
            with np.load(io.BytesIO(file.read_bytes())) as stored:
                images, masks = stored["images"], stored["masks"]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise StudyError(f"{file} is damaged ({error}); delete it, and it is drawn again") from error
    else:
        images, masks = _draw(task, task.images, size)
        buffer = io.BytesIO()
        np.savez(buffer, images=images, masks=masks)
        paths.write_atomic(file, buffer.getvalue())
    return images, masks, hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest()


def _draw(task: Task, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` images and masks of a simulated task, uint8 (n, size, size)."""
    if task.goal == "segmentation":
        return simulate.simulate(task.simulator, count, size=size, **task.dials)
    view = (task.contrast, task.direction, SLICES)
    volumes = [anatomy.slices(task.anatomy, subject, *view, size=size) for subject in range(-(-count // SLICES))]
    images = np.rint(np.concatenate(volumes)[:count] * 255).astype(np.uint8)
    return images, np.zeros_like(images)


def _shrink(image: np.ndarray, size: int) -> Tensor:
    whole = torch.from_numpy(image.copy()).float()[None, None]
    return F.interpolate(whole, (size, size), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _shrink_mask(mask: np.ndarray, size: int) -> Tensor:
    whole = torch.from_numpy(mask.copy()).float()[None, None]
    return (F.interpolate(whole, (size, size), mode="area")[0, 0] >= 0.5).to(torch.uint8)


def split(
    name: str, groups: list[str], *, fold: int, volume: int | None, seed: int, folds: np.ndarray | None = None
) -> Split:
    """The split of a task: test images are those of `fold`, validation images those of the next, the rest train.

    Args:
        groups: group of each image; a group is never divided.
        volume: how many training images to keep, a choice by `seed` that is nested (20 are among the 50); None: all.
            In a reconstruction task it is the number of subjects, all of whose slices are kept.
        folds: the fold of each image where the data fix it (`Data.folds`); None: groups are dealt out.

    Raises:
        StudyError: no such fold, one without images, or fewer training images than asked for.
    """
    task = get_task(name)
    if not 0 <= fold < task.folds:
        raise StudyError(f"fold must be between 0 and {task.folds - 1} for task {name!r}, got {fold}")
    where = manifests.folds(groups, task.folds, task.people or name) if folds is None else folds
    test, val = (np.flatnonzero(where == each) for each in (fold, (fold + 1) % task.folds))
    train = np.flatnonzero((where != fold) & (where != (fold + 1) % task.folds))
    if not (len(test) and len(val) and len(train)):
        raise StudyError(f"every fold of {name!r} needs images, but their folds are {sorted(set(where.tolist()))}")
    if volume is not None:
        if volume < 1:
            raise StudyError(f"volume must be at least 1, got {volume}")
        by_subject = task.goal == "reconstruction"
        owner = np.array(groups)[train] if by_subject else train
        choice = np.unique(owner)
        if volume > len(choice):
            what = "subjects" if by_subject else "images"
            raise StudyError(f"volume must be at most {len(choice)}, the training {what} of {name!r}, got {volume}")
        chosen = choice[np.random.default_rng([seed, 0x501]).permutation(len(choice))[:volume]]
        train = train[np.isin(owner, chosen)] if by_subject else chosen
    return Split(train, val, test)


def standardize(images: Tensor) -> Tensor:
    """Every image of (n, 1, h, w) at mean 0 and standard deviation 1; a constant image becomes 0."""
    spread, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / spread.clamp_min(1e-3)
