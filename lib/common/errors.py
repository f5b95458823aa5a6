"""The one exception for a user's mistake, and how a misspelt name is told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class StudyError(ValueError):
    """A mistake that the user can mend; command lines print it without a traceback and exit with code 2."""


def cut(text: str, most: int = 300) -> str:
    """A text, or the beginning of a long one with its length: an error is one line, whatever a file holds."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} letters)"


def shown(value: object) -> str:
    """A value as errors name it."""
    return cut(repr(value))


def nearest(kind: str, value: object, options: Iterable[str]) -> str:
    """The message for an unknown name: what came, the closest known name, and the full list."""
    known = sorted(options)
    close = difflib.get_close_matches(cut(str(value)), known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"unknown {kind} {shown(value)}{hint} Known: {', '.join(known) or 'none'}"


def check_keys(kind: str, table: object, known: Iterable[str]) -> None:
    """Refuse what is no table, and a key that is not known.

    Raises:
        StudyError: `table` is no mapping, or the first of its keys that is not among `known`, with the nearest name.
    """
    if not isinstance(table, Mapping):
        raise StudyError(f"expected a table ({kind} = value), got {shown(table)}")
    known = tuple(known)
    for key in table:
        if key not in known:
            raise StudyError(nearest(kind, key, known))
