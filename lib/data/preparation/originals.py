"""The table of a dataset's original files, and which of them lie in a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from lib.common import paths
from lib.common.errors import StudyError, shown
from lib.common.outside import inside, read_table
from lib.data.cards import Card


@dataclass(frozen=True)
class Original:
    """One original file: where it comes from and what it must be."""

    repository: str
    commit: str
    path: str
    bytes: int
    sha256: str


def originals(card: Card) -> list[Original]:
    """The file table of a card: one row per original that preparation needs; empty where the card has none.

    Raises:
        StudyError: the table lacks a column, or a row is not what it should be.
    """
    file = card.file.with_suffix(".csv")
    if card.file.name == "card.toml" or not file.exists():
        return []
    rows = []
    for number, row in enumerate(read_table(file, [f.name for f in dataclasses.fields(Original)]), start=2):
        if not re.fullmatch("[0-9]{1,15}", row["bytes"]) or not re.fullmatch("[0-9a-f]{64}", row["sha256"]):
            raise StudyError(
                f"{file}, line {number}: bytes must be a whole number and sha256 64 hex digits, got {shown(row)}"
            )
        for name in ("repository", "commit", "path"):  # each a part of where the file is put
            inside(originals_dir(card), row[name], f"{file}, line {number}: {name}")
        rows.append(Original(row["repository"], row["commit"], row["path"], int(row["bytes"]), row["sha256"]))
    return rows


def originals_dir(card: Card) -> Path:
    """Where `fetch` puts the originals of a dataset, and `prepare` looks for them."""
    return paths.home() / "data" / "originals" / card.name


def places(row: Original) -> tuple[Path, Path]:
    """Where an original may lie in a folder of originals: under repository and commit, or just by its path."""
    return Path(row.repository, row.commit, row.path), Path(row.path)


def intact(row: Original, file: Path) -> bool:
    """Whether that file holds exactly the bytes of the original."""
    if not file.is_file() or file.stat().st_size != row.bytes:
        return False
    return hashlib.sha256(file.read_bytes()).hexdigest() == row.sha256


def table_of(card: Card) -> list[Original]:
    """The file table of a card that has one.

    Raises:
        StudyError: the dataset is simulated, a user's own, or its originals have to be got by hand.
    """
    if card.kind == "simulated":
        raise StudyError(f"{card.name} is simulated: it is drawn on demand, and there is nothing to fetch or prepare")
    if card.fetch == "manual":
        raise StudyError(f"{card.name} cannot be fetched automatically: {card.manual}")
    rows = originals(card)
    if not rows:
        raise StudyError(f"{card.name} has no table of originals ({card.file}); there is nothing to fetch or prepare")
    return rows


def locate(rows: list[Original], folder: Path) -> tuple[dict[str, Path], list[Original]]:
    """Which originals lie in `folder`, by path, and which do not.

    Raises:
        StudyError: a file is there but not the original.
    """
    found, missing = {}, []
    for row in rows:
        file = next((folder / place for place in places(row) if (folder / place).is_file()), None)
        if file is None:
            missing.append(row)
        elif intact(row, file):
            found[row.path] = file
        else:
            raise StudyError(
                f"{file} is not the original: it must have {row.bytes} bytes and sha256 {row.sha256[:12]}…, got "
                f"{file.stat().st_size} bytes; delete it and fetch it again"
            )
    return found, missing
