"""What the teaching notebooks share: a check of the reader's answer, which never stops the notebook."""

from __future__ import annotations

from typing import Any

import numpy as np


def check(answer: Any, expected: Any, hint: str = "") -> None:
    """Say whether an answer is right: equal words, or numbers (arrays of them) that agree to a thousandth.

    Args:
        answer: `...` where the reader has not answered yet.
        hint: shown beside a wrong answer.
    """
    if answer is ...:
        print("Not answered yet: put your answer in the place of the three dots, and run the cell again.")
    elif _agree(answer, expected):
        print("Right.")
    else:
        print("Not yet." + (f" Hint: {hint}" if hint else ""))


def _agree(answer: Any, expected: Any) -> bool:
    if isinstance(expected, str):
        return isinstance(answer, str) and answer.strip().lower() == expected.lower()
    try:
        numbers = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    wanted = np.asarray(expected, dtype=np.float64)
    return numbers.shape == wanted.shape and bool(np.allclose(numbers, wanted, atol=1e-3))
