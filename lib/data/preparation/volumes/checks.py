"""Is a prepared folder of volumes whole, right, and divisible without leaks?"""

from __future__ import annotations

import hashlib

import numpy as np

from lib.common.errors import StudyError
from lib.data.cards import Card
from lib.data.preparation.findings import (
    Finding,
    checksum_findings,
    count_findings,
    fault_findings,
    file_findings,
    index_findings,
    leak_findings,
    number,
)
from lib.data.preparation.volumes.resampling import CLOSE
from lib.data.prepared_folder import labeled
from lib.data.prepared_volumes import KINDS, VolumeIndex, original_mask, prepared_volume
from lib.imaging.grids import read_grid, turns


def volume_findings(card: Card, rows: list[dict[str, str]]) -> list[Finding]:
    """Everything that can be said of a prepared folder of volumes but which of them are nearly the same."""
    findings = index_findings(rows) + file_findings(rows, card.path, KINDS)
    try:
        index = VolumeIndex.of(card)
    except StudyError as error:
        return [*findings, Finding("error", str(error))]
    hashes: dict[str, str] = {}
    findings += _volumes(index, rows, hashes)
    findings += checksum_findings(card.path, card.folder) + count_findings(card, rows)
    return findings + leak_findings(card, rows, hashes)


def _volumes(index: VolumeIndex, rows: list[dict[str, str]], hashes: dict[str, str]) -> list[Finding]:
    """Files of a case are of the size, place and values that card and index say.

    Fills `hashes` with a hash of each image's voxels, by id.
    """
    faults, empty = [], []
    for place, (name, row) in enumerate(zip(index.ids, rows, strict=True)):
        if not all(index.file(kind, name).is_file() for kind in KINDS):
            continue  # said already
        try:
            image, mask = prepared_volume(index, place)
            original = original_mask(index, place)
        except StudyError as error:
            faults.append(str(error))
            continue
        hashes[name] = hashlib.sha256(repr(image.voxels.shape).encode() + image.voxels.tobytes()).hexdigest()
        if turns(image.affine) != ([0, 1, 2], ()):
            faults.append(f"image {name}: its axes must point to the right, front and up")
        if not np.allclose(image.spacing, index.card.spacing, rtol=CLOSE):
            faults.append(f"image {name} has voxels of {_mm(image.spacing)}, the card says {_mm(index.card.spacing)}")
        if not np.allclose(read_grid(index.file("masks", name)).affine, image.affine, atol=1e-3):
            faults.append(f"image {name} and its mask do not lie in one place: their headers differ")
        part = float(labeled(mask).mean())
        if not labeled(original.voxels).any():
            empty.append(name)
        elif abs(number(row["fg_fraction"]) - part) > 1e-5:
            faults.append(f"mask {name} has foreground {part:.6f}, index.csv says {row['fg_fraction']}")
    return fault_findings(faults, empty)


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{step:.4g}" for step in spacing) + " mm"
