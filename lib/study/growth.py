"""Studies that grow: which look they are at, and how many seeds each cell has by now.

A suite with `until` begins with its `seeds` in every cell. Whoever looks at its ledger writes the next look into a
small file of the study's home (`analysis.claims.ledger.growth`), and `load_suite` reads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from lib.common import paths
from lib.common.errors import StudyError
from lib.study.suite import Cell, Look, Suite


def looks_file(name: str) -> Path:
    """Where the looks of a suite are kept."""
    return paths.home() / "looks" / f"{name}.json"


def grown(suite: Suite) -> Suite:
    """A suite as its file says it, with the seeds of the look that the study is at.

    Seeds that are added follow the largest that a cell has.

    Raises:
        StudyError: the file of looks is damaged, or belongs to another content of the suite.
    """
    looks = _read(suite)
    cells = tuple(_with_seeds(cell, count) for cell, count in zip(suite.cells, looks[-1].seeds, strict=True))
    return dataclasses.replace(suite, cells=cells, looks=looks)


def write_looks(suite: Suite, looks: Sequence[Look]) -> None:
    """Keep the looks of a suite that `load_suite` has read, the last one being that which is trained now."""
    content = {"suite": _content(suite), "looks": [dataclasses.asdict(look) for look in looks]}
    paths.write_atomic(looks_file(suite.name), json.dumps(content, indent=1) + "\n")


def can_grow(suite: Suite, cell: Cell) -> bool:
    """Whether a cell may get more seeds: one with fewer than the first look (a control) is to stay as it is."""
    return len(cell.seeds) >= len(suite.seeds)


def _read(suite: Suite) -> tuple[Look, ...]:
    file, first = looks_file(suite.name), Look(len(suite.seeds), tuple(len(cell.seeds) for cell in suite.cells), {})
    if not file.is_file():
        return (first,)
    again = "delete it to begin at the first look again (finished runs stay)"
    try:
        content = json.loads(file.read_text())
        looks = tuple(Look(each["at"], tuple(each["seeds"]), dict(each["rows"])) for each in content["looks"])
        own = content["suite"]
    except (ValueError, KeyError, TypeError):
        raise StudyError(f"{file} is damaged; {again}") from None
    if own != _content(suite):
        raise StudyError(
            f"{file} belongs to another content of {suite.name}: put the suite back as it was, give it another file "
            f"name, or {again.replace('it', 'the file', 1)}"
        )
    if not _sound(suite, first, looks):
        raise StudyError(f"{file} is damaged: its numbers of seeds do not follow from the suite; {again}")
    return looks


def _sound(suite: Suite, first: Look, looks: Sequence[Look]) -> bool:
    """Whether looks begin with the first, and each next one has more seeds where that is allowed, up to its own."""
    assert suite.until is not None
    numbers = [number for look in looks for number in (look.at, *look.seeds)]
    if not all(isinstance(each, int) for each in numbers) or {len(look.seeds) for look in looks} != {len(suite.cells)}:
        return False
    if (looks[0].at, looks[0].seeds) != (first.at, first.seeds):
        return False
    for before, after in itertools.pairwise(looks):
        if not before.at < after.at <= suite.until.seeds:
            return False
        for cell, old, new in zip(suite.cells, before.seeds, after.seeds, strict=True):
            if new not in (old, max(old, after.at) if can_grow(suite, cell) else old):
                return False
    return True


def _with_seeds(cell: Cell, count: int) -> Cell:
    after = max(cell.seeds) + 1
    return dataclasses.replace(cell, seeds=cell.seeds + tuple(range(after, after + count - len(cell.seeds))))


def _content(suite: Suite) -> str:
    """A digest of all that a suite trains, its seeds being those of the first look."""
    first = suite.looks[0].seeds if suite.looks else [len(cell.seeds) for cell in suite.cells]
    cells = [
        dataclasses.asdict(dataclasses.replace(cell, seeds=cell.seeds[:count]))
        for cell, count in zip(suite.cells, first, strict=True)
    ]
    assert suite.until is not None
    parts = [suite.seeds, suite.rates, suite.run, suite.sources, cells, dataclasses.asdict(suite.until)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
