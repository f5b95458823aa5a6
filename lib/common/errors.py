"""The one exception for a user's mistake, and the wording of a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StudyError(ValueError):
    """A mistake that the user can mend; command lines print it without a traceback and exit with code 2."""


def nearest(kind: str, value: object, options: Iterable[str]) -> str:
    """The message for an unknown name: what came, the closest known name, and the full list."""
    known = sorted(options)
    close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"unknown {kind} {value!r}{hint} Known: {', '.join(known) or 'none'}"
