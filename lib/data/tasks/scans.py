"""Real volumes as reconstruction tasks: which there are, their slices, and folds by person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common.errors import StudyError, nearest
from lib.data.cards import Card, all_cards, root_note
from lib.imaging.volumes import read_nifti, square_slices

SLICES = 24  # at most, of one volume
BLOCKS = 3  # of neighboring slices, where a task shows one person only


@dataclass(frozen=True)
class Scan:
    """One volume that lies in the data root: its file, whose it is, and the fold of that person."""

    file: Path
    subject: str
    fold: int


@dataclass(frozen=True)
class ScanTask:
    """Slices of one region, contrast and direction, from every set that has them."""

    name: str
    region: str
    contrast: str
    direction: str
    folds: int
    cards: tuple[Card, ...]

    @property
    def title(self) -> str:
        """As figures call it."""
        return f"{self.region} {self.contrast}, {self.direction}"

    def scans(self) -> list[Scan]:
        """The volumes of this task that are in the data root, by set and person."""
        found = []
        for card in self.cards:
            ending = next(each.ending for each in card.contrasts if each.name == self.contrast)
            files = [(card.path / f"{subject.name}_{ending}.nii.gz", subject) for subject in card.subjects]
            found += [Scan(file, subject.name, subject.fold) for file, subject in files if file.is_file()]
        return found


@dataclass(frozen=True)
class Slices:
    """Slices float32 (n, s, s) in [0, 1], where 1 is the top of the volume, with names, persons and folds of each."""

    images: np.ndarray
    ids: list[str]
    groups: list[str]
    folds: np.ndarray


def scan_files(card: Card) -> list[Path]:
    """The files of a card of volumes, or of k-space, that are in the data root, in the order of the card."""
    if card.goal == "measured":
        return [file for file in sorted(card.path.glob("*")) if file.suffix in (".npz", ".h5", ".hdf5")]
    names = [f"{subject.name}_{each.ending}.nii.gz" for subject in card.subjects for each in card.contrasts]
    return [card.path / name for name in names if (card.path / name).is_file()]


def scan_tasks() -> dict[str, ScanTask]:
    """Every reconstruction task that the cards describe, by name: region_contrast, and _direction if not axial.

    Persons have the same fold in all tasks of a region, so that a test subject of one is in no other's training set.
    """
    parts: dict[tuple[str, str, str], list[Card]] = {}
    for card in all_cards().values():
        for contrast in card.contrasts:
            for direction in card.directions:
                parts.setdefault((card.region, contrast.name, direction), []).append(card)
    tasks = {}
    where: dict[tuple[str, str], tuple[int, str]] = {}
    for card in (card for cards in parts.values() for card in cards):
        for subject in card.subjects:
            fold, other = where.setdefault((card.region, subject.name), (subject.fold, card.name))
            if fold != subject.fold:
                raise StudyError(
                    f"{card.file}: {subject.name} is in fold {subject.fold} here and in fold {fold} in the card of "
                    f"{other}, and would be both a training and a test subject of {card.region!r}; give one fold"
                )
    for (region, contrast, direction), cards in parts.items():
        name = f"{region}_{contrast.lower()}" + (f"_{direction}" if direction != "axial" else "")
        folds = {card.split.folds for card in cards}
        if len(folds) != 1:
            files = ", ".join(str(card.file) for card in cards)
            raise StudyError(f"task {name}: the cards of one region must agree on split.folds, got {folds} in {files}")
        tasks[name] = ScanTask(name, region, contrast, direction, folds.pop(), tuple(cards))
    return tasks


def present_task(name: str) -> ScanTask:
    """The reconstruction task of that name, of which at least one volume lies in the data root.

    Raises:
        StudyError: unknown task, or no volume of it.
    """
    tasks = scan_tasks()
    if name not in tasks:
        raise StudyError(f"{nearest('reconstruction task', name, tasks)}; {root_note()}")
    task = tasks[name]
    if not task.scans():
        folders = ", ".join(str(card.path) for card in task.cards)
        raise StudyError(f"{name}: no volume of it in {folders}; {root_note()}")
    return task


def load_slices(name: str, size: int) -> Slices:
    """The slices of a task, those of one volume together and in order.

    A task of one person has no person to spare for a test: its folds are blocks of neighboring slices instead, each a
    group of its own, and what is learned on it may not hold for other people.

    Raises:
        StudyError: unknown task, no volume of it in the data root, or a file that cannot be read.
    """
    task = present_task(name)
    scans = task.scans()
    images, ids, groups, folds = [], [], [], []
    alone = len({scan.subject for scan in scans}) == 1
    for scan in scans:
        content = scan.file.read_bytes()
        volume = read_nifti(content, str(scan.file))
        try:
            found, numbers = square_slices(volume, task.direction, size, SLICES)
        except StudyError as error:
            raise StudyError(f"{scan.file}: {error}") from error
        block = np.arange(len(found)) * BLOCKS // max(1, len(found))
        images.append(found)
        ids += [f"{scan.subject}_{number:03d}" for number in numbers]
        groups += [f"{scan.subject} part {each + 1}" if alone else scan.subject for each in block]
        folds += block.tolist() if alone else [scan.fold] * len(found)
    return Slices(np.concatenate(images), ids, groups, np.array(folds, dtype=np.int64))
