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
        ("6 x 6", [6, 6]), ("(6, 6)", [6, 6]), ("6 rows and 6 columns", [6, 6]), ([6, 6], [6, 6]),
        (torch.Size([6, 6]), [6, 6]), (np.int64(3), 3), ("12 %", 0.12), ("1e-3", 0.001), ("-.5", -0.5),
        ("25/50", 0.5), ("3208 / 30,645", 3208 / 30645), (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
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


@pytest.mark.parametrize("answer", ["0,5", "10,5 %", "3,208", "6,6", "-0,25"])
def test_a_comma_is_asked_about(answer: str) -> None:
    """It may be a decimal comma, one of thousands, or between two numbers; none of them is taken for another."""
    with pytest.raises(NotUnderstood, match="a comma can mean several things"):
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
        (("better", "worse", "undecided"), "Undecided!", "undecided"), (("0", "0.5", "1"), "1/2", "0.5"),
        (("0", "0.5", "1"), -0.0, "0"), (("yes", "no"), np.True_, "yes"), (("yes", "no"), "No, they would not", "no"),
        (("near 0", "far above 0"), "far above zero", "far above 0"), (("input side", "output side"), "output-side",
        "output side"), (("0", "0.5", "1"), "One.", "1"),
    ],
)  # fmt: skip
def test_words_in_any_form(choices: tuple[str, ...], answer: object, value: str) -> None:
    assert one_of(*choices)(answer) == value


def test_words_that_turn_another_around_are_not_understood() -> None:
    alone = ("image alone", "without skip connections")
    known = [(("0", "1"), "far from 1"), (("0", "1"), "less than 1"), (("lower", "same"), "hardly lower")]
    for choices, answer in [*known, (alone, "skip connections")]:
        with pytest.raises(NotUnderstood, match="answer with one of"):
            one_of(*choices)(answer)


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
