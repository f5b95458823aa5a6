"""Answers as people write them, read as what they mean: numbers, words, letters, sentences.

A reader takes what stands behind the equals sign and returns one plain value, or raises `NotUnderstood` with a line
that says what was expected. The number 1, "1", [1] and a tensor of 1 are one answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Reader = Callable[[Any], Any]
TOLERANCE = 1e-3  # of the largest number of the right answer
FIGURE = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
COUNTED = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
DENIALS = {"not", "no", "never", "isn't", "doesn't", "nor", "without", "except", "neither"}
DENIALS |= {"far", "less", "more", "than", "hardly", "barely", "below", "above", "rarely"}  # in words of one's own
COMMA = r"[-+]?\d+,\d+\s*%?"


class NotUnderstood(Exception):
    """An answer of another kind than was asked for; the text says what was."""


def numbers(answer: Any) -> Numbers:
    """Numbers without axes of length one: from numbers, lists, arrays, tensors, tables, or text as "6 x 6" or "12 %".

    Raises:
        NotUnderstood: no numbers, or one that is not finite.
    """
    if answer is None:
        raise NotUnderstood("numbers are asked for, got None: does the line before return anything")
    if isinstance(answer, str):
        answer = _written(answer)
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu().double().numpy()
    if isinstance(answer, list | tuple):
        answer = [each.detach().cpu().double().numpy() if hasattr(each, "detach") else each for each in answer]
    try:
        found = np.asarray(answer)
        found = np.asarray(found, dtype=np.float64) if found.dtype.kind in "iufO" else None
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None:
        raise NotUnderstood(f"numbers are asked for, got {_short(answer)}")
    if not np.isfinite(found).all():
        raise NotUnderstood("numbers are asked for, and one of yours is not finite")
    return found.squeeze()


def _written(text: str) -> list[float] | float | str:
    """The numbers of a text in which nothing else stands but what joins numbers; the text itself otherwise."""
    plain = text.strip().lower().rstrip(".")
    if plain in COUNTED:
        return float(COUNTED.index(plain))
    if re.fullmatch(COMMA, plain):  # a decimal comma, one of thousands, or two numbers
        raise NotUnderstood(f"a comma can mean several things in {text.strip()!r}: write 0.5, 3208, or 6 x 6")
    if fraction := re.fullmatch(r"(\d+)\s*/\s*([1-9]\d*)", plain.replace(",", "")):
        return int(fraction[1]) / int(fraction[2])
    found = [float(each) for each in re.findall(FIGURE, plain)]
    rest = re.sub(FIGURE, " ", plain)
    if not found or re.sub(r"\b(x|by|times|and|about|near|rows?|columns?)\b|[\s,;()\[\]~≈%×*.]", "", rest):
        return text
    if "%" in rest:
        found = [each / 100 for each in found]
    return found[0] if len(found) == 1 else found


def close(value: Numbers, truth: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether numbers have the shape of the truth, and differ from it by no more than a share of its largest."""
    wanted = np.asarray(truth, dtype=np.float64).squeeze()
    if value.shape != wanted.shape:
        return False
    scale = float(np.abs(wanted).max(initial=0.0)) or 1.0
    return bool(np.abs(value - wanted).max(initial=0.0) <= tolerance * scale)


def one_of(*choices: str) -> Reader:
    """A reader of one of these words: in any case, with more words around it, as a number where it is one.

    Words that leave it open which choice is meant, or deny one ("not the same"), are not understood.
    """

    def read(answer: Any) -> str:
        if isinstance(answer, bool | np.bool_):
            answer = "yes" if answer else "no"
        if not isinstance(answer, str):
            try:
                value = numbers(answer)
                answer = f"{float(value) + 0.0:g}" if value.ndim == 0 else ""  # + 0: of -0 and 0 one word
            except NotUnderstood:
                answer = ""
        said = _words(answer)
        names = {choice: _words(choice) for choice in choices}
        exact = [choice for choice, words in names.items() if words == said]
        if exact:
            return exact[0]
        inside = [choice for choice, words in names.items() if words <= said]
        inside = inside or [choice for choice, words in names.items() if said and said <= words]
        denied = (DENIALS & (said ^ names[inside[0]])) if len(inside) == 1 and inside != ["no"] else set()
        if len(inside) != 1 or denied:
            raise NotUnderstood(f"answer with one of {', '.join(map(repr, choices))}")
        return inside[0]

    return read


def _words(text: str) -> set[str]:
    """Words in small letters; numbers in their shortest form."""
    plain = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", text.lower().replace("_", " ").replace("≈", " "))
    return {_word(each.rstrip(".'")) for each in re.findall(r"[\w.'+/-]+", plain)}


def _word(text: str) -> str:
    if text in COUNTED:
        return str(COUNTED.index(text))
    if fraction := re.fullmatch(r"(\d+)/([1-9]\d*)", text):
        return f"{int(fraction[1]) / int(fraction[2]):g}"
    return f"{float(text) + 0.0:g}" if re.fullmatch(FIGURE, text) else text.strip("-/'.")


def letters(count: int, known: str = "AB") -> Reader:
    """A reader of so many letters: "abba", "A, B, B, A" or a list of them."""

    def read(answer: Any) -> str:
        joined = "".join(map(str, answer)) if isinstance(answer, list | tuple | np.ndarray) else str(answer)
        found = re.sub(r"[\s,;.-]", "", joined).upper()
        if len(found) != count or set(found) - set(known):
            raise NotUnderstood(f"{count} letters are asked for, each {' or '.join(known)}, got {_short(answer)}")
        return found

    return read


def sentence(least: int) -> Reader:
    """A reader of free text with at least so many words, which a teacher reads."""

    def read(answer: Any) -> str:
        text = " ".join(answer.split()) if isinstance(answer, str) else ""
        if len(text.split()) < least:
            raise NotUnderstood(f"a sentence of at least {least} words is asked for")
        return text

    return read


def matching(truth: Any, value: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether a value that was read is the right one."""
    if isinstance(value, str) or isinstance(truth, str):
        return value == truth
    return close(value, truth, tolerance)


def first_route(value: Any, routes: Sequence[tuple[Any, str]]) -> str:
    """The hint of the first typical wrong answer that this value is; nothing where it is none of them."""
    return next((hint for wrong, hint in routes if matching(wrong, value)), "")


def _short(answer: Any) -> str:
    text = " ".join(repr(answer).split())
    return text if len(text) <= 40 else f"{text[:37]}..."
