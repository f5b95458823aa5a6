"""The one exception for a user's mistake, how a misspelt name is told, and what the system refuses."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping

_SHORT = ("can't allocate memory", "not enough memory", "out of memory", "can't start new thread")
GOES_ON = "what was finished is kept, and the same command goes on"


class StudyError(ValueError):
    """A mistake that the user can mend; command lines print it without a traceback and exit with code 2."""


def cut(text: str, most: int = 300) -> str:
    """A text, or the beginning of a long one with its length: an error is one line, whatever a file holds."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} letters)"


def shown(value: object) -> str:
    """A value as errors name it."""
    return cut(repr(value))


def refusal(error: BaseException) -> str | None:
    """What the system refused, a file or memory, in one line; None for an error that is none of the system's."""
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # whoever reads has gone: no refusal
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    # PyTorch (and oneDNN in it) raises RuntimeErrors where memory ends, and Python where there is none for a thread
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, RuntimeError) and (text == "could not create a primitive" or any(w in text for w in _SHORT)):
        return f"not enough memory ({cut(text)})"
    return "not enough memory" if isinstance(error, MemoryError) else None


@contextlib.contextmanager
def telling_refusals(what: str) -> Iterator[None]:
    """Turn what the system refuses, a file or memory, into a `StudyError` that names `what` was being done."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        refused = refusal(error)
        if refused is None:
            raise
        raise StudyError(f"{what}: {refused}; {GOES_ON}") from error


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
