"""What every check of a prepared folder looks at: its index, files, hashes, counts, and leaks across the split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.cards import Card, Part
from lib.data.tasks.folds import assign_folds, shared_folds

FEW = 3  # how many examples a finding names


@dataclass(frozen=True)
class Finding:
    """One thing that was found. Levels: "ok"; "note" and "warning" leave the data usable; "error" does not."""

    level: str
    text: str


def some(examples: Sequence[object]) -> str:
    """The first of many, and how many more there are."""
    text = ", ".join(str(each) for each in examples[:FEW])
    return text if len(examples) <= FEW else f"{text} and {len(examples) - FEW} more"


def index_findings(rows: list[dict[str, str]]) -> list[Finding]:
    """An index lists something, nothing twice, and gives groups."""
    if not rows:
        return [Finding("error", "index.csv lists no image")]
    findings = []
    twice = [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]
    if twice:
        findings.append(Finding("error", f"index.csv lists an id more than once: {some(twice)}"))
    nameless = [row["id"] for row in rows if not row["group"]]
    if nameless:
        findings.append(Finding("error", f"index.csv gives no group for {some(nameless)}"))
    return findings


def file_findings(rows: list[dict[str, str]], folder: Path, kinds: Mapping[str, str]) -> list[Finding]:
    """Every row has its files, and no folder holds anything else; `kinds` are folders, and endings of files there."""
    findings = []
    for kind, ending in kinds.items():
        expected = {f"{row['id']}{ending}" for row in rows}
        there = {path.name for path in (folder / kind).iterdir()} if (folder / kind).is_dir() else set()
        if expected - there:
            lost = sorted(expected - there)
            findings.append(Finding("error", f"{len(lost)} of {len(rows)} {kind} are missing: {some(lost)}"))
        if there - expected:
            extra = sorted(there - expected)
            findings.append(Finding("error", f"{kind}/ holds {len(extra)} files that index.csv lacks: {some(extra)}"))
    return findings


def fault_findings(faults: Sequence[str], empty: Sequence[str]) -> list[Finding]:
    """Faults in images and masks, the first of them in full, and masks that are empty."""
    findings = [Finding("error", text) for text in faults[:FEW]]
    if len(faults) > FEW:
        findings.append(Finding("error", f"and {len(faults) - FEW} more faults of this kind in images and masks"))
    if empty:
        findings.append(Finding("note", f"{len(empty)} masks are empty: {some(empty)}"))
    return findings


def number(text: str) -> float:
    """A number in a table."""
    try:
        return float(text)
    except ValueError:
        return float("inf")  # no number agrees with nothing


def checksum_findings(folder: Path, name: str) -> list[Finding]:
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
        for kind in ("images", "masks", "originals")
        for path in sorted((folder / kind).glob("*"))
        if path.relative_to(folder).as_posix() not in listed
    ]
    findings = []
    if not listed:
        return [Finding("note", f"{file} lists nothing of {name}: bytes were not verified")]
    if wrong:
        findings.append(Finding("error", f"{len(wrong)} files differ from {file}: {some(wrong)}"))
    if lost:
        findings.append(Finding("error", f"{len(lost)} files that {file} lists are missing: {some(lost)}"))
    if unlisted:
        findings.append(Finding("error", f"{len(unlisted)} files are not listed in {file}: {some(unlisted)}"))
    return findings or [Finding("ok", f"{len(listed)} files agree with {file}")]


def count_findings(card: Card, rows: list[dict[str, str]]) -> list[Finding]:
    """Whether as many rows and groups are there as the card says."""
    return part_findings(
        card, Part(name="", pairs=len(rows), groups=len({row["group"] for row in rows})), "pairs in", "groups"
    )


def part_findings(card: Card, found: Part, of: str, groups: str) -> list[Finding]:
    """Whether the counts of what was found are those of all originals or of a named part."""
    known = (Part(name="all originals", pairs=card.pairs, groups=card.groups), *card.parts)
    for part in known:
        if (part.pairs, part.groups) == (found.pairs, found.groups):
            return [Finding("ok", f"{found.pairs} {of} {found.groups} {groups}: {part.name}")]
    texts = [f"{part.pairs} in {part.groups} ({part.name})" for part in known]
    text = f"{found.pairs} {of} {found.groups} {groups}, while the card knows {' or '.join(texts)}"
    return [Finding("warning", text)]


def leak_findings(card: Card, rows: list[dict[str, str]], hashes: dict[str, str]) -> list[Finding]:
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
        findings.append(Finding("error", f"{len(crossing)} groups cross a split: {some(crossing)}"))
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
            findings.append(Finding("error", f"{what} is in two groups, and may cross a split: {some(pairs)}"))
    if not card.split.groups_known:
        findings.append(Finding("note", "groups are not known: the split is by image, and may be optimistic"))
    if not any(finding.level == "error" for finding in findings):
        sizes = np.bincount(fold, minlength=card.split.folds)
        text = f"{card.split.folds} folds of {_span(sizes.tolist())} images, no group in two of them"
        findings.append(Finding("ok", f"{text} (a group: {card.split.rule})"))
    return findings


def _span(sizes: list[int]) -> str:
    return str(sizes[0]) if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
