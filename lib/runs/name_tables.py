"""A table of names for a start from a file: what is called so in the file is called so in the network.

A CSV with the columns `in_file` and `in_network`. A row names a tensor, or a module, which stands for all that is in
it; where several rows hold a tensor, the longest decides. Only what the table names is loaded.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lib.common.errors import StudyError

COLUMNS = ("in_file", "in_network")


def read_names(file: Path) -> dict[str, str]:
    """Name in the file of weights to name in the network, a pair for each row of a table.

    Raises:
        StudyError: there is no such table, it is none, or a name of the file stands in two rows.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), tuple(reader.fieldnames or ())
    except OSError as error:
        raise StudyError(f"no table of names at {file} ({error.strerror}); put it beside the weights") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{file} is no table of names ({error}); save it as CSV in UTF-8") from error
    if columns != COLUMNS or not rows:
        found = ", ".join(columns) or "nothing"
        raise StudyError(f"{file} must have the columns {', '.join(COLUMNS)} and a row per name, got {found}")
    names: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        theirs, ours = ((row[column] or "").strip() for column in COLUMNS)
        if not theirs or not ours:
            raise StudyError(f"{file}: row {line} needs a name in both columns, got {theirs!r} and {ours!r}")
        if theirs in names:
            raise StudyError(f"{file}: row {line} names {theirs!r} once more; leave one of the two rows out")
        names[theirs] = ours
    return names


def check_names(names: Any) -> dict[str, str]:
    """The pairs of a table as a spec holds them.

    Raises:
        StudyError: they are no names.
    """
    pairs = list(names.items()) if isinstance(names, Mapping) else []
    if not pairs or not all(isinstance(each, str) and each for pair in pairs for each in pair):
        raise StudyError(f"names of weights are a table of names in the file to names in the network, got {names!r}")
    return dict(pairs)


def told_names(first: Mapping[str, str], in_file: Iterable[str], names: Mapping[str, str]) -> dict[str, str]:
    """Name in the network to name in the file, of every tensor that a table names.

    Args:
        first: every name in the network to the first one of its tensor. in_file: names of the file. names: the table.

    Raises:
        StudyError: a name of the table is in neither, or two tensors of the file are for one of the network.
    """
    in_file = list(in_file)
    held: dict[str, list[str]] = {row: [] for row in names}
    for tensor in in_file:
        rows = [row for row in names if _holds(row, tensor)]
        if rows:
            held[max(rows, key=len)].append(tensor)
    found: dict[str, str] = {}
    for row, ours in names.items():
        if not any(_holds(row, tensor) for tensor in in_file):
            raise StudyError(f"the table of names has {row!r}, which the file does not have{_hint(row, in_file)}")
        if not any(_holds(ours, name) for name in first):
            raise StudyError(f"the table of names has {ours!r}, which the network does not have{_hint(ours, first)}")
        for tensor in held[row]:
            name = ours + tensor[len(row) :]
            name = first.get(name, name)
            if name in found:
                raise StudyError(
                    f"the table of names puts {found[name]!r} and {tensor!r} both into {name!r}; leave one of them out"
                )
            found[name] = tensor
    return found


def _holds(name: str, tensor: str) -> bool:
    return tensor == name or tensor.startswith(f"{name}.")


def _hint(name: str, tensors: Iterable[str]) -> str:
    """The nearest name of a tensor or of a module."""
    parts = [tensor.split(".") for tensor in tensors]
    known = dict.fromkeys(".".join(each[:length]) for each in parts for length in range(1, len(each) + 1))
    close = get_close_matches(name, known, n=1, cutoff=0.0)
    return f"; the nearest is {close[0]!r}" if close else ""
