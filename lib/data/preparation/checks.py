"""Is a prepared folder whole, right, and divisible without leaks? Every finding is a line."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.common.errors import StudyError
from lib.common.outside import is_file, read_table
from lib.data.cards import Card, Part, root_note
from lib.data.preparation.findings import (
    Finding,
    checksum_findings,
    count_findings,
    fault_findings,
    file_findings,
    index_findings,
    leak_findings,
    number,
    part_findings,
    some,
)
from lib.data.preparation.near_duplicates import alike, reduced
from lib.data.preparation.volumes.checks import volume_findings
from lib.data.prepared_folder import (
    INDEX_COLUMNS,
    fits_labels,
    labeled,
    mask_rule,
    picture_file,
    read_gray,
    read_picture,
    require_folder,
)
from lib.data.tasks.scans import scan_files
from lib.imaging.kspace import read_kspace
from lib.imaging.volumes import read_volume, square_slices

SIDE = 64  # pixels, at which volumes are looked at


def check_prepared(card: Card) -> list[Finding]:
    """Everything that can be said of a card's prepared folder.

    Files against the index, image against mask, values, hashes, counts against the card, groups against the split. Of
    volumes without masks and of k-space: that they can be read, hashes, and counts.
    """
    if card.goal != "segmentation":
        return _unmasked(card)
    try:
        folder = require_folder(card)
        rows = read_table(folder / "index.csv", INDEX_COLUMNS)
    except StudyError as error:
        return [Finding("error", str(error))]
    if card.dim == 3:
        return volume_findings(card, rows)
    findings = index_findings(rows) + file_findings(rows, folder, {"images": ".png", "masks": ".png"})
    hashes: dict[str, str] = {}
    small: dict[str, np.ndarray] = {}
    findings += _pictures(rows, folder, card.labels, card.channels, hashes, small)
    findings += checksum_findings(folder, card.folder)
    findings += count_findings(card, rows)
    findings += leak_findings(card, rows, hashes) + _near_duplicates(rows, hashes, small)
    return findings


def _unmasked(card: Card) -> list[Finding]:
    """Volumes and k-space: every file of the card that is there can be read, and what is there is a known part."""
    files = scan_files(card)
    if not files:
        return [Finding("error", f"no file of {card.name} in {card.path}; {root_note()}")]
    findings = []
    for file in files:
        try:
            if card.goal == "measured":
                read_kspace(file)
                continue
            volume = read_volume(file)
            for direction in card.directions:
                square_slices(volume, direction, SIDE, 1)
        except StudyError as error:
            text = str(error)
            findings.append(Finding("error", text if str(file) in text else f"{file.name}: {text}"))
    findings += checksum_findings(card.path, card.folder)
    people = {subject.name for subject in card.subjects for file in files if file.name.startswith(f"{subject.name}_")}
    found = Part(name="", pairs=len(files), groups=len(people) if card.goal == "reconstruction" else len(files))
    return findings + part_findings(card, found, "volumes of", "persons")


def _pictures(
    rows: list[dict[str, str]],
    folder: Path,
    labels: Sequence[str],
    channels: int,
    hashes: dict[str, str],
    small: dict[str, np.ndarray],
) -> list[Finding]:
    """Both pictures of a pair are 8-bit gray, agree in size with each other and the index; the mask holds its labels.

    Fills `hashes` with a hash of each image's pixels and `small` with the image as near-duplicates are found, by id.
    """
    faults: list[str] = []
    empty: list[str] = []
    for row in rows:
        name = row["id"]
        try:
            files = [picture_file(folder, kind, name) for kind in ("images", "masks")]
            if not all(map(is_file, files)):
                continue  # said already
            image, mask = read_picture(files[0], channels), read_gray(files[1])
        except StudyError as error:
            faults.append(str(error))
            continue
        hashes[name] = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        small[name] = reduced(image)
        if image.shape[:2] != mask.shape:
            faults.append(f"image {name} is {_size(image)} and its mask {_size(mask)} (width x height)")
        if _size(image) != f"{row['width']} x {row['height']}":
            faults.append(f"image {name} is {_size(image)}, index.csv says {row['width']} x {row['height']}")
        filled = labeled(mask) if labels else mask > 0
        if not fits_labels(mask, labels):
            faults.append(f"mask {name} must hold {mask_rule(labels)}, got {some(np.unique(mask).tolist())}")
        elif not filled.any():
            empty.append(name)
        elif abs(number(row["fg_fraction"]) - filled.mean()) > 0.001:
            faults.append(f"mask {name} has foreground {filled.mean():.4f}, index.csv says {row['fg_fraction']}")
    return fault_findings(faults, empty)


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _near_duplicates(rows: list[dict[str, str]], hashes: dict[str, str], small: dict[str, np.ndarray]) -> list[Finding]:
    """Images of two groups that are nearly, and not exactly, the same."""
    names = [row["id"] for row in rows if row["id"] in small]
    group = {row["id"]: row["group"] for row in rows}
    found = [(names[a], names[b]) for a, b in alike([small[n] for n in names], [group[n] for n in names])]
    near = [f"{a} and {b}" for a, b in found if hashes[a] != hashes[b]]
    if not near:
        return []
    return [Finding("warning", f"nearly the same image is in two groups, and may cross a split: {some(near)}")]
