"""What people write is read as what they mean, or told to be of another kind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.teaching.answers import NotUnderstood, close, letters, numbers, one_of, sentence


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (1, 1), (1.0, 1), ("1", 1), (" 1.0 ", 1), ([1], 1), ((1,), 1), (np.array([[1]]), 1), (torch.tensor(1), 1),
        (torch.tensor([1.0], requires_grad=True), 1), ([torch.tensor(6), 6], [6, 6]), ("one", 1), ("~ 1", 1),
        ("6 x 6", [6, 6]), ("6,6", [6, 6]), ("(6, 6)", [6, 6]), ("6 rows and 6 columns", [6, 6]), ([6, 6], [6, 6]),
        (torch.Size([6, 6]), [6, 6]), (np.int64(3), 3), ("12 %", 0.12), ("1e-3", 0.001), ("-.5", -0.5),
        (pd.Series([1.0, 2.0]), [1, 2]), (np.ones((6, 1)), np.ones(6)),
    ],
)  # fmt: skip
def test_numbers_in_any_form(answer: object, value: object) -> None:
    assert close(numbers(answer), value)


@pytest.mark.parametrize(
    "answer", ["three dogs", "", None, True, "abc", {"a": 1}, [1, [2, 3]], np.nan, [np.inf], print]
)
def test_what_is_no_number_is_told(answer: object) -> None:
    with pytest.raises(NotUnderstood, match="numbers are asked for"):
        numbers(answer)


def test_closeness_is_a_share_of_the_truth() -> None:
    assert close(numbers(0.53), 0.5301)
    assert not close(numbers(1e-4), 9e-4), "an absolute tolerance would let this pass"
    assert not close(numbers([1, 2]), [1, 2, 3])
    assert close(numbers(0), 0)
    assert not close(numbers(1), 0)


@pytest.mark.parametrize(
    ("choices", "answer", "value"),
    [
        (("same", "lower"), "Same ", "same"), (("same", "lower"), "it stays the same", "same"),
        (("same", "lower"), '"LOWER"', "lower"), (("0", "0.5", "1"), 1, "1"), (("0", "0.5", "1"), "near 1", "1"),
        (("0", "0.5", "1"), 1.0, "1"), (("0", "0.5", "1"), [0.5], "0.5"), (("0", "0.5", "1"), ".5", "0.5"),
        (("0", "0.5", "1"), torch.tensor(0), "0"), (("near 0", "far above 0"), "Far above", "far above 0"),
        (("near 0", "far above 0"), "far  above_0", "far above 0"), (("yes", "no"), True, "yes"),
        (("yes", "no"), "No.", "no"), (("input side", "output side"), "output", "output side"),
        (("better", "worse", "undecided"), "Undecided!", "undecided"),
    ],
)  # fmt: skip
def test_words_in_any_form(choices: tuple[str, ...], answer: object, value: str) -> None:
    assert one_of(*choices)(answer) == value


@pytest.mark.parametrize("answer", ["higher", "not the same", "same or lower", "", 7, None, "sam"])
def test_words_that_leave_it_open_are_not_understood(answer: object) -> None:
    with pytest.raises(NotUnderstood, match="answer with one of 'same', 'lower'"):
        one_of("same", "lower")(answer)


@pytest.mark.parametrize("answer", ["abba", "A, B, B, A", ["a", "B", "b", "A"], ("A", "B", "B", "A"), " ABBA "])
def test_letters_in_any_form(answer: object) -> None:
    assert letters(4)(answer) == "ABBA"


@pytest.mark.parametrize("answer", ["ABB", "ABBX", 4, None, ""])
def test_other_letters_are_told(answer: object) -> None:
    with pytest.raises(NotUnderstood, match="4 letters are asked for, each A or B"):
        letters(4)(answer)


def test_a_sentence_has_words() -> None:
    assert sentence(3)("  they  look\nrandom ") == "they look random"
    with pytest.raises(NotUnderstood, match="at least 3 words"):
        sentence(3)("random")
    with pytest.raises(NotUnderstood, match="at least 3 words"):
        sentence(3)(None)
