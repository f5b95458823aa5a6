"""Images to look at: sampled lines, embedded heads beside real ones, and measured k-space reconstructed."""

from __future__ import annotations

import numpy as np

from lib.common.errors import StudyError
from lib.data.cards import find_card, root_note
from lib.data.simulate import anatomy
from lib.data.tasks import scans
from lib.imaging import mri
from lib.imaging.coil_calibration import Reconstructions, reconstruct
from lib.imaging.kspace import Measured, read_kspace
from lib.imaging.volumes import read_volume, square_slices

# Region, contrast, direction, and the real person to show: one whose volume still has skin and skull.
PAIRS = (
    ("brain", "T1", "axial", "subjA"),
    ("brain", "T1", "sagittal", "subjA"),
    ("brain", "T1", "coronal", "subjA"),
    ("brain", "T2", "axial", "patient12"),
    ("brain", "FLAIR", "axial", "patient12"),
    ("knee", "PD", "sagittal", "knee_sag"),
)
BRAIN = "brain_8coil_undersampled.npz"
PLACE = 0.5  # of the way through the slices that tasks are made of


def sampled_lines(lines: int, *, acceleration: float, count: int = 4) -> dict[str, np.ndarray]:
    """Masks bool (count, lines) of the first items, by kind of sampling."""
    return {
        kind: np.stack(
            [mri.sampling_mask(kind, lines, acceleration=acceleration, seed=each).numpy() for each in range(count)]
        )
        for kind in mri.SAMPLING
    }


def simulated_and_real_slices(size: int) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """(what it shows, simulated slice, real slice or None where the data root has no such volume), each (size, size).

    Both are the slice in the middle of those that tasks are made of, of the first simulated subject and of a person.
    """
    found = []
    for region, contrast, direction, person in PAIRS:
        simulated = anatomy.slices(region, 0, contrast, direction, 7, size=size)
        task = scans.scan_tasks()[f"{region}_{contrast.lower()}" + (f"_{direction}" if direction != "axial" else "")]
        files = [scan.file for scan in task.scans() if scan.subject == person]
        real = None
        if files:
            images, _ = square_slices(read_volume(files[0]), direction, size, scans.SLICES)
            real = images[round(PLACE * (len(images) - 1))]
        found.append((f"{region} {contrast}, {direction}", simulated[round(PLACE * 6)], real))
    return found


def kspace_at_hand() -> bool:
    """Whether the data root holds the measured brain."""
    return (find_card("kspace").path / BRAIN).is_file()


def measured_brain() -> tuple[Measured, Reconstructions]:
    """The 8-coil brain of the card `kspace`, of which one sample in eight was measured, and what can be made of it.

    Raises:
        StudyError: the data root does not hold it; says how to get it.
    """
    card = find_card("kspace")
    file = card.path / BRAIN
    if not file.is_file():
        raise StudyError(f"no {file}; {' '.join(card.manual.split())}; {root_note()}")
    measured = read_kspace(file)
    return measured, reconstruct(measured)
