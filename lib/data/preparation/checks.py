"""Is a prepared folder whole, right, and divisible without leaks? Every finding is a line."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.cards import Card, Part, root_note
from lib.data.preparation.near_duplicates import alike, reduced
from lib.data.prepared_folder import (
    INDEX_COLUMNS,
    fits_labels,
    labeled,
    mask_rule,
    read_gray,
    read_picture,
    read_table,
    require_folder,
)
from lib.data.tasks.folds import assign_folds, shared_folds
from lib.data.tasks.scans import scan_files
from lib.imaging.kspace import read_kspace
from lib.imaging.volumes import read_volume, square_slices

SIDE = 64  # pixels, at which volumes are looked at
FEW = 3  # how many examples a finding names


@dataclass(frozen=True)
class Finding:
    """One thing that was found. Levels: "ok"; "note" and "warning" leave the data usable; "error" does not."""

    level: str
    text: str


def check_prepared(card: Card) -> list[Finding]:
    """Everything that can be said of a card's prepared folder.

    Files against the index, image against mask, values, hashes, counts against the card, groups against the split. Of
    volumes and k-space: that they can be read, hashes, and counts.
    """
    if card.goal != "segmentation":
        return _unmasked(card)
    try:
        folder = require_folder(card)
        rows = read_table(folder / "index.csv", INDEX_COLUMNS)
    except StudyError as error:
        return [Finding("error", str(error))]
    findings = _index(rows) + _files(rows, folder)
    hashes: dict[str, str] = {}
    small: dict[str, np.ndarray] = {}
    findings += _pictures(rows, folder, card.labels, card.channels, hashes, small)
    findings += _checksums(folder, card.folder)
    findings += _counts(card, rows)
    findings += _leaks(card, rows, hashes) + _near_duplicates(rows, hashes, small)
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
    findings += _checksums(card.path, card.folder)
    people = {subject.name for subject in card.subjects for file in files if file.name.startswith(f"{subject.name}_")}
    found = Part(name="", pairs=len(files), groups=len(people) if card.goal == "reconstruction" else len(files))
    return findings + _known(card, found, "volumes of", "persons")


def _some(examples: Sequence[object]) -> str:
    text = ", ".join(str(each) for each in examples[:FEW])
    return text if len(examples) <= FEW else f"{text} and {len(examples) - FEW} more"


def _index(rows: list[dict[str, str]]) -> list[Finding]:
    if not rows:
        return [Finding("error", "index.csv lists no image")]
    findings = []
    twice = [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]
    if twice:
        findings.append(Finding("error", f"index.csv lists an id more than once: {_some(twice)}"))
    nameless = [row["id"] for row in rows if not row["group"]]
    if nameless:
        findings.append(Finding("error", f"index.csv gives no group for {_some(nameless)}"))
    return findings


def _files(rows: list[dict[str, str]], folder: Path) -> list[Finding]:
    """Every row has its image and mask, and neither folder holds anything else."""
    findings = []
    expected = {f"{row['id']}.png" for row in rows}
    for kind in ("images", "masks"):
        there = {path.name for path in (folder / kind).iterdir()} if (folder / kind).is_dir() else set()
        if expected - there:
            lost = sorted(expected - there)
            findings.append(Finding("error", f"{len(lost)} of {len(rows)} {kind} are missing: {_some(lost)}"))
        if there - expected:
            extra = sorted(there - expected)
            findings.append(Finding("error", f"{kind}/ holds {len(extra)} files that index.csv lacks: {_some(extra)}"))
    return findings


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
        files = [folder / kind / f"{name}.png" for kind in ("images", "masks")]
        if not all(file.is_file() for file in files):
            continue  # said already
        try:
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
            faults.append(f"mask {name} must hold {mask_rule(labels)}, got {_some(np.unique(mask).tolist())}")
        elif not filled.any():
            empty.append(name)
        elif abs(_number(row["fg_fraction"]) - filled.mean()) > 0.001:
            faults.append(f"mask {name} has foreground {filled.mean():.4f}, index.csv says {row['fg_fraction']}")
    findings = [Finding("error", text) for text in faults[:FEW]]
    if len(faults) > FEW:
        findings.append(Finding("error", f"and {len(faults) - FEW} more faults of this kind in images and masks"))
    if empty:
        findings.append(Finding("note", f"{len(empty)} masks are empty: {_some(empty)}"))
    return findings


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")  # no number agrees with nothing


def _checksums(folder: Path, name: str) -> list[Finding]:
    """Files against `checksums.sha256` in the folder, else against that of the data root ("sha256  folder/path")."""
    inside, outside = folder / "checksums.sha256", paths.data_root() / "checksums.sha256"
    if inside.is_file():
        file, prefix = inside, ""
    elif outside.is_file():
        file, prefix = outside, f"{name}/"
    else:
        return [Finding("note", f"no checksums.sha256 in {folder} or {paths.data_root()}: bytes were not verified")]
    listed = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        digest, _, path = line.partition("  ")
        if path.startswith(prefix):
            listed[path.removeprefix(prefix)] = digest
    wrong = []
    for path, digest in listed.items():
        if (folder / path).is_file() and hashlib.sha256((folder / path).read_bytes()).hexdigest() != digest:
            wrong.append(path)
    lost = [path for path in listed if not (folder / path).is_file()]
    unlisted = [
        path.relative_to(folder).as_posix()
        for kind in ("images", "masks")
        for path in sorted((folder / kind).glob("*"))
        if path.relative_to(folder).as_posix() not in listed
    ]
    findings = []
    if not listed:
        return [Finding("note", f"{file} lists nothing of {name}: bytes were not verified")]
    if wrong:
        findings.append(Finding("error", f"{len(wrong)} files differ from {file}: {_some(wrong)}"))
    if lost:
        findings.append(Finding("error", f"{len(lost)} files that {file} lists are missing: {_some(lost)}"))
    if unlisted:
        findings.append(Finding("error", f"{len(unlisted)} files are not listed in {file}: {_some(unlisted)}"))
    return findings or [Finding("ok", f"{len(listed)} files agree with {file}")]


def _counts(card: Card, rows: list[dict[str, str]]) -> list[Finding]:
    return _known(
        card, Part(name="", pairs=len(rows), groups=len({row["group"] for row in rows})), "pairs in", "groups"
    )


def _known(card: Card, found: Part, of: str, groups: str) -> list[Finding]:
    """Whether the counts of what was found are those of all originals or of a named part."""
    known = (Part(name="all originals", pairs=card.pairs, groups=card.groups), *card.parts)
    for part in known:
        if (part.pairs, part.groups) == (found.pairs, found.groups):
            return [Finding("ok", f"{found.pairs} {of} {found.groups} {groups}: {part.name}")]
    texts = [f"{part.pairs} in {part.groups} ({part.name})" for part in known]
    text = f"{found.pairs} {of} {found.groups} {groups}, while the card knows {' or '.join(texts)}"
    return [Finding("warning", text)]


def _leaks(card: Card, rows: list[dict[str, str]], hashes: dict[str, str]) -> list[Finding]:
    """No group, source picture or image lies in two folds of the card's split."""
    groups = [row["group"] for row in rows]
    try:
        people = card.split.people
        fold = (
            shared_folds(groups, card.split.folds, people)
            if people
            else assign_folds(groups, card.split.folds, card.name)
        )
    except StudyError as error:
        return [Finding("error", str(error))]
    findings = []
    of_group: dict[str, set[int]] = {}
    for group, place in zip(groups, fold.tolist(), strict=True):
        of_group.setdefault(group, set()).add(place)
    crossing = [group for group, found in of_group.items() if len(found) > 1]
    if crossing:
        findings.append(Finding("error", f"{len(crossing)} groups cross a split: {_some(crossing)}"))
    keys = {
        "one source picture": [row["source"] for row in rows],
        "the same image": [hashes.get(row["id"], row["id"]) for row in rows],
    }
    for what, values in keys.items():
        held: dict[str, dict[str, str]] = {}
        for row, value in zip(rows, values, strict=True):
            held.setdefault(value, {}).setdefault(row["group"], row["id"])
        pairs = [" and ".join(list(ids.values())[:2]) for ids in held.values() if len(ids) > 1]
        if pairs:
            findings.append(Finding("error", f"{what} is in two groups, and may cross a split: {_some(pairs)}"))
    if not card.split.groups_known:
        findings.append(Finding("note", "groups are not known: the split is by image, and may be optimistic"))
    if not any(finding.level == "error" for finding in findings):
        sizes = np.bincount(fold, minlength=card.split.folds)
        text = f"{card.split.folds} folds of {_span(sizes.tolist())} images, no group in two of them"
        findings.append(Finding("ok", f"{text} (a group: {card.split.rule})"))
    return findings


def _near_duplicates(rows: list[dict[str, str]], hashes: dict[str, str], small: dict[str, np.ndarray]) -> list[Finding]:
    """Images of two groups that are nearly, and not exactly, the same."""
    names = [row["id"] for row in rows if row["id"] in small]
    group = {row["id"]: row["group"] for row in rows}
    found = [(names[a], names[b]) for a, b in alike([small[n] for n in names], [group[n] for n in names])]
    near = [f"{a} and {b}" for a, b in found if hashes[a] != hashes[b]]
    if not near:
        return []
    return [Finding("warning", f"nearly the same image is in two groups, and may cross a split: {_some(near)}")]


def _span(sizes: list[int]) -> str:
    return str(sizes[0]) if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
