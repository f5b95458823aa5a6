"""One student at one exercise: a seed from the name, questions, what is solved, and a file to hand in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.teaching.answers import NotUnderstood, Reader, first_route, matching
from analysis.teaching.hand_in import seed_of, write_answers
from lib.common.errors import StudyError


@dataclass(frozen=True)
class Question:
    """What is asked under a name.

    read: from an answer to its value (`answers`). judge: of a value, nothing where it is right and a hint otherwise.
    told: of a right value, what is said with it. needs: questions that it builds on. first_counts: the first answer
    stands, since judging it gives the truth away.
    """

    name: str
    read: Reader
    judge: Callable[[Any], str]
    told: Callable[[Any], str] = lambda value: ""
    needs: tuple[str, ...] = ()
    first_counts: bool = False


def against(truth: Callable[[], Any], routes: Callable[[], Sequence[tuple[Any, str]]], hint: str) -> Any:
    """A judge that compares with a truth, computed when asked, and knows typical wrong answers.

    Args:
        routes: (what somebody gets who goes wrong there, what to say); the first that fits is said.
        hint: for any other wrong answer.
    """

    def judge(value: Any) -> str:
        return "" if matching(truth(), value) else first_route(value, routes()) or hint

    return judge


@dataclass
class State:
    """What became of a question: the last value, whether it is right, and how many answers were judged."""

    value: Any = None
    solved: bool = False
    tries: int = 0


@dataclass
class Session:
    """The questions of one exercise, put to one student."""

    exercise: str
    student: str
    questions: dict[str, Question]
    states: dict[str, State] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return seed_of(self.student)

    def answer(self, *names: str) -> Attempt:
        """`with session.answer("x"): x = ...` checks `x` at the end of the block; an error in it becomes a hint."""
        for name in names:
            if name not in self.questions:
                raise StudyError(f"{self.exercise} has no question {name!r}; it has {', '.join(self.questions)}")
        return Attempt(self, names)

    def check(self, name: str, answer: Any) -> None:
        """Judge an answer and say what came of it in one line; never raises because of an answer."""
        question, state = self.questions[name], self.states.setdefault(name, State())
        if answer is ...:
            self._take_back(name)
            print(f"{name}: Not yet. No answer so far: put yours in the place of the three dots.")
            return
        try:
            value = question.read(answer)
            if question.first_counts and state.tries:
                print(f"{name}: your first answer, {state.value}, counts. {question.told(state.value)}".rstrip())
                return
            hint = question.judge(value)
            words = "" if hint else question.told(value)
        except (NotUnderstood, StudyError) as error:
            self._take_back(name)
            print(f"{name}: Not yet. {str(error)[0].upper()}{str(error)[1:]}.")
            return
        state.value, state.solved, state.tries = value, not hint, state.tries + 1
        praise = "Noted" if question.first_counts else "Right"
        print(f"{name}: Not yet. {hint}" if hint else f"{name}: {praise}. {words}".rstrip())

    def stopped(self, names: Sequence[str], error: Exception) -> None:
        """Say that Python stopped in a block, and what may be wrong before it."""
        said = " ".join(str(error).split()) or type(error).__name__
        for name in names:
            self._take_back(name)
        unknown = getattr(error, "name", None) if isinstance(error, NameError) else None
        if unknown and unknown not in self.questions:
            told = f"Python knows nothing named {unknown}. Is it misspelt, or a word that should stand in quotes?"
            print(f"{', '.join(names)}: Not yet. {told}")
            return
        if "ellipsis" in said.lower() or isinstance(error, NameError):
            said = "it uses something that is not answered yet"
        before = [need for name in names for need in self.questions[name].needs]
        needs = [need for need in before if need not in names and not self._solved(need)]
        back = (
            f" First solve {' and '.join(dict.fromkeys(needs))}." if needs else " Look at the shapes of what goes in."
        )
        print(f"{', '.join(names)}: Not yet. Python stopped: {said[:200]}.{back}")

    def waits_for(self, *names: str) -> bool:
        """Whether these questions have no answer yet; says so, since what follows would give them away."""
        open_ones = [name for name in names if not self.states.get(name, State()).tries]
        if open_ones:
            print(f"Shown when {' and '.join(open_ones)} {'has' if len(open_ones) == 1 else 'have'} an answer.")
        return bool(open_ones)

    def _take_back(self, name: str) -> None:
        """A question is not solved any more, unless its first answer counts."""
        state = self.states.setdefault(name, State())
        state.solved = state.solved and self.questions[name].first_counts

    def _solved(self, name: str) -> bool:
        return self.states.get(name, State()).solved

    def hand_in(self) -> Path | None:
        """Say what is solved, and write the file to hand in, where there is a name."""
        solved = [name for name in self.questions if self._solved(name)]
        rest = [name for name in self.questions if name not in solved]
        print(f"{len(solved)} of {len(self.questions)} solved." + (f" Open: {', '.join(rest)}." if rest else ""))
        if not self.student.strip():
            print("To hand in, put your name into the cell with the parameters, and run all cells again.")
            return None
        states = {name: self.states.get(name, State()) for name in self.questions}
        answers = {
            name: {"answer": _plain(state.value), "passed": state.solved, "tries": state.tries}
            for name, state in states.items()
        }
        path, before = write_answers(self.exercise, self.student, self.seed, answers)
        if before > len(solved):
            print(f"Kept is what you had written before, with {before} solved; delete it to hand in less.")
        print(f"Hand in {path}")
        return path


class Attempt:
    """The block in which a student answers: names are open at its start and checked at its end."""

    def __init__(self, session: Session, names: tuple[str, ...]) -> None:
        self.session, self.names = session, names
        self.place: dict[str, Any] = {}

    def __enter__(self) -> None:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        self.place = frame.f_back.f_globals  # a cell's names; an answer of an earlier run must not count
        self.place.update(dict.fromkeys(self.names, ...))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is not None and not isinstance(error, Exception):
            return False  # an interrupt is for Python
        open_ones = [name for name in self.names if self.place.get(name, ...) is ...]
        for name in self.names:
            if error is None or name not in open_ones:
                self.session.check(name, self.place.get(name, ...))
        if error is not None:
            self.session.stopped(open_ones or self.names, error)
        return True


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; numbers to six digits."""
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value] if value.ndim else float(f"{float(value):.6g}")
    return float(f"{value:.6g}") if isinstance(value, float) else value
