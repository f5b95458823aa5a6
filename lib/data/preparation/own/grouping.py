"""Which images of a user's folder share a group: a table beside them, or an expression that is found in their names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from lib.common.errors import StudyError
from lib.common.outside import is_file, read_table

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pnm")
VOLUMES = (".nii.gz", ".nii")
TABLES = ("groups.csv", "index.csv")
NAMES = ("id", "name", "file", "image", "source")  # columns of a table that may name the image


def bare(name: str) -> str:
    """A file's name without the ending of a picture or a volume, if it has one."""
    ending = next((each for each in (*PICTURES, *VOLUMES) if name.lower().endswith(each)), "")
    return name.removesuffix(name[len(name) - len(ending) :]) if ending else name


def key_of(name: str) -> str:
    """A name as it is compared: without case, and however its accents are written."""
    return unicodedata.normalize("NFC", name).casefold()


def groups_of(folder: Path, names: Sequence[str], expression: str | None) -> tuple[dict[str, str], list[str]]:
    """The group of every image, or nothing where nothing tells; and what is to be said of that.

    Args:
        expression: a regular expression; what it matches in a name, or its first parentheses do, is the group. None:
            groups come from a table of `TABLES`.

    Raises:
        StudyError: no regular expression, one that is not found in every name, or see `_of_table`.
    """
    if expression is not None:
        groups, told = _matched(names, expression), []
        told += [
            f"{table} was not read: groups come from --groups" for table in TABLES[:1] if (folder / table).exists()
        ]
    else:
        groups, told = _tabled(folder, names)
    if groups:
        found = sorted(set(groups.values()))
        told.append(f"{len(found)} groups: {', '.join(found[:4])}" + (" ..." if len(found) > 4 else ""))
    return groups, told


def _matched(names: Sequence[str], expression: str) -> dict[str, str]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise StudyError(f"--groups must be a regular expression, got {expression!r}: {error}") from None
    found = {name: pattern.search(name) for name in names}
    groups = {name: match[min(1, pattern.groups)] or "" for name, match in found.items() if match}
    without = [name for name in names if not groups.get(name)]
    if without:
        some = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
        raise StudyError(f"--groups {expression!r} finds no group in {len(without)} of {len(names)} names: {some}")
    return groups


def _tabled(folder: Path, stems: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    told = []
    for table in TABLES:
        file = folder / table
        rows = read_table(file, ("group",) if table == "groups.csv" else ()) if is_file(file) else []
        if rows and "group" in rows[0]:
            groups, unused = _of_table(file, rows, stems)
            if unused:
                told.append(f"{len(unused)} rows of {table} name no image here, the first {unused[0]!r}")
            return groups, told
        if rows:
            told.append(f"{table} was left out: it has no column 'group' ({', '.join(rows[0])})")
    return {}, told


def _of_table(file: Path, rows: Sequence[dict[str, str]], stems: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The group of every image, and what the rows say that name no image."""
    columns = [name for name in NAMES if name in rows[0]]
    if not columns:
        raise StudyError(f"{file} must name the image of each row in a column called {', '.join(NAMES[:-1])} or source")
    readings = {column: _reading(file, rows, column, stems) for column in columns}
    most = max(map(len, readings.values()))
    best = [column for column in columns if len(readings[column]) == most]
    if any(readings[column] != readings[best[0]] for column in best):
        raise StudyError(
            f"{file}: the columns {' and '.join(best)} both name images and give other groups; keep one of them"
        )
    found = readings[best[0]]
    without = [stem for stem in stems if not found.get(stem)]
    if without:
        raise StudyError(f"{file} gives no group for {len(without)} images, the first is {without[0]}")
    spelled: dict[str, str] = {}
    for group in found.values():
        other = spelled.setdefault(key_of(" ".join(group.split())), group)
        if other != group:
            raise StudyError(
                f"{file}: the groups {other!r} and {group!r} differ in case or blanks only; write one name"
            )
    column = best[0]
    known = {key_of(name) for stem in stems for name in (stem, Path(stem).name)}
    unused = [row[column] for row in rows if not known & _names(row[column])]
    return found, unused


def _names(cell: str) -> set[str]:
    """The names of an image that a cell may stand for: with the ending that it has, and without."""
    text = cell.strip()
    return {key_of(text), key_of(bare(text))}


def _reading(file: Path, rows: Sequence[dict[str, str]], column: str, stems: Sequence[str]) -> dict[str, str]:
    """The group of every image that a column names."""
    named: dict[str, str] = {}
    for row in rows:
        group = row["group"].strip()
        for name in _names(row[column]):
            if named.setdefault(name, group) != group:
                raise StudyError(
                    f"{file}: {row[column].strip()!r} is in the groups {named[name]!r} and {group!r}; give it one"
                )
    found = {}
    for stem in stems:
        for name in (stem, Path(stem).name):
            if named.get(key_of(name)):
                found[stem] = named[key_of(name)]
                break
    return found
