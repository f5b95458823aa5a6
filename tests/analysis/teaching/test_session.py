"""A session checks, hints, counts and hands in; a folder of what was handed in is tallied."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.teaching.answers import letters, numbers, one_of
from analysis.teaching.hand_in import seed_of, tally
from analysis.teaching.session import Question, Session, against
from lib.common.errors import StudyError


def session(student: str = "Ada") -> Session:
    made = [
        Question("two", numbers, against(lambda: 2, lambda: [(4, "You squared.")], "Count."), lambda value: "Well."),
        Question("half", numbers, against(lambda: 1, lambda: [], "Half of it."), needs=("two",)),
        Question("word", one_of("yes", "no"), against(lambda: "yes", lambda: [], "Think.")),
        Question("guess", letters(2), lambda value: "", lambda value: f"You said {value}.", first_counts=True),
    ]
    return Session("t0_planted", student, {each.name: each for each in made})


def test_one_line_says_what_came_of_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    planted = session()
    for answer in (..., 4, 3, "three dogs", 2, "2"):
        planted.check("two", answer)
    assert capsys.readouterr().out.splitlines() == [
        "two: Not yet. No answer so far: put yours in the place of the three dots.",
        "two: Not yet. You squared.",
        "two: Not yet. Count.",
        "two: Not yet. Numbers are asked for, got 'three dogs'.",
        "two: Right. Well.",
        "two: Right. Well.",
    ]
    assert (planted.states["two"].solved, planted.states["two"].tries) == (True, 4)


def test_an_answer_that_was_right_and_is_wrong_now_is_not_solved() -> None:
    planted = session()
    for answer, solved in ((2, True), (4, False), (2, True), ("x", False), (2, True), (..., False)):
        planted.check("two", answer)
        assert planted.states["two"].solved is solved
    planted.check("two", 4)
    planted.check("two", "three dogs")
    assert (planted.states["two"].value, planted.states["two"].tries) == (4, 5), "what was judged last is handed in"


def test_of_a_guess_the_first_counts(capsys: pytest.CaptureFixture[str]) -> None:
    planted = session()
    for answer in ("X", "ab", "BB", "?"):
        planted.check("guess", answer)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "guess: Noted. You said AB."
    assert lines[2] == "guess: your first answer, AB, counts. You said AB."
    assert (planted.states["guess"].value, planted.states["guess"].tries) == ("AB", 1)


def test_an_error_in_a_block_becomes_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"planted": session(), "half": 7}
    exec("with planted.answer('two', 'half'):\n    two = 4\n    half = [1, 2] @ [3]", names)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "two: Not yet. You squared."
    assert said[1].startswith("half: Not yet. Python stopped: unsupported operand type(s) for @")
    assert said[1].endswith("First solve two.")
    assert names["half"] is ..., "an answer of an earlier run must not count"
    exec("with planted.answer('two', 'half'):\n    two = ...\n    half = two / 2", names)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("two, half: Not yet. Python stopped: it uses something that is not answered yet.")
    assert "First solve" not in said[0], "both stand in this block"
    exec("with planted.answer('two', 'half'):\n    two = 2\n    half = two / 2", names)
    assert capsys.readouterr().out.splitlines() == ["two: Right. Well.", "half: Right."]
    planted = names["planted"]
    assert isinstance(planted, Session)
    exec("with planted.answer('word'):\n    word = yse", names)
    told = "Python knows nothing named yse. Is it misspelt, or a word that should stand in quotes?"
    assert capsys.readouterr().out == f"word: Not yet. {told}\n"
    exec("with planted.answer('two'):\n    two = 1 / 0", names)
    assert not planted.states["two"].solved, "it stopped where it was right before"
    exec("with planted.answer('two'):\n    del two", names)
    assert capsys.readouterr().out.splitlines()[-1].startswith("two: Not yet. No answer so far")
    with pytest.raises(KeyboardInterrupt):
        exec("with planted.answer('two'):\n    raise KeyboardInterrupt", names)
    with pytest.raises(StudyError, match=r"t0_planted has no question 'tow'; it has two, half"):
        exec("with planted.answer('tow'):\n    tow = 2", names)


def test_what_would_give_answers_away_waits(capsys: pytest.CaptureFixture[str]) -> None:
    planted = session()
    assert planted.waits_for("two", "word")
    assert capsys.readouterr().out == "Shown when two and word have an answer.\n"
    planted.check("two", 3)  # wrong, but an answer
    planted.check("word", "perhaps")  # none
    assert planted.waits_for("two", "word")
    assert capsys.readouterr().out.endswith("Shown when word has an answer.\n")
    planted.check("word", "no")
    assert not planted.waits_for("two", "word")


def test_every_name_has_a_seed_of_its_own_whatever_its_spelling() -> None:
    assert seed_of("") == seed_of("  ") == 0
    assert seed_of("Ada  Lovelace") == seed_of(" ada lovelace")
    assert seed_of("M\u00fcller") == seed_of("Mu\u0308ller"), "one letter, or a letter and its dots"
    assert len({seed_of(f"student {number}") for number in range(30)}) > 25


def test_without_a_name_nothing_is_handed_in(study_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert session("").hand_in() is None
    said = capsys.readouterr().out
    assert said.startswith("0 of 4 solved. Open: two, half, word, guess.\n")
    assert "put your name" in said
    assert not list(study_home.iterdir())


@pytest.fixture
def class_of_three(study_home: Path) -> Path:
    """Ada solves all, Bob squares, Cy does nothing."""
    for student, two, word in (("Ada", 2, "yes"), ("Bob", 4, "no"), ("Cy", ..., ...)):
        planted = session(student)
        for name, answer in (("two", two), ("half", two if two is ... else two / 2), ("word", word), ("guess", "AB")):
            planted.check(name, answer)
        planted.hand_in()
    return study_home / "handed_in"


def test_a_folder_is_tallied_by_one_command(class_of_three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tally", str(class_of_three)]) == 0
    capsys.readouterr()
    students = pd.read_csv(class_of_three / "tally.csv", keep_default_na=False)
    assert students.student.tolist() == ["Ada", "Bob", "Cy"]
    assert students.solved.tolist() == [4, 1, 1]
    assert students.seed.tolist() == [seed_of(name) for name in ("Ada", "Bob", "Cy")]
    assert set(students.questions) == {4}
    assert set(students.note) == {""}
    questions = pd.read_csv(class_of_three / "questions.csv", keep_default_na=False).set_index("question")
    assert questions.solved.to_dict() == {"two": 1, "half": 1, "word": 1, "guess": 3}
    assert questions.usual_mistake.to_dict() == {"two": "4.0", "half": "2.0", "word": '"no"', "guess": ""}
    assert main(["tally", str(class_of_three)]) == 0, "its own tables are not taken for answers"


def test_what_is_amiss_with_a_file_is_said(class_of_three: Path) -> None:
    files = {json.loads(path.read_text())["student"]: path for path in class_of_three.glob("*.json")}
    content = json.loads(files["Bob"].read_text())
    content["answers"]["two"]["passed"] = True
    files["Bob"].write_text(json.dumps(content))
    (class_of_three / "other.json").write_text("[1]")
    (class_of_three / "broken.json").write_text('{"student": "Di"')
    (class_of_three / "again").mkdir()
    (class_of_three / "again" / "ada.json").write_bytes(files["Ada"].read_bytes())
    students, questions = tally(class_of_three)
    notes = students.set_index("file").note.to_dict()
    assert notes[files["Bob"].name] == "changed after it was written"
    assert notes["other.json"] == notes["broken.json"] == "no file of a teaching notebook"
    assert notes[files["Ada"].name] == notes["ada.json"] == "handed in more than once"
    assert notes[files["Cy"].name] == ""
    assert set(questions.students) == {3}, "Bob's answers are not counted"


def test_less_does_not_take_the_place_of_more(class_of_three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel that was started anew knows of no answer, and its last cell is run all the same."""
    session("Ada").hand_in()
    assert "Kept is what you had written before, with 4 solved" in capsys.readouterr().out
    hidden = class_of_three / ".ipynb_checkpoints"
    hidden.mkdir()
    (hidden / "ada.json").write_bytes(next(class_of_three.glob("*ada*.json")).read_bytes())
    students, _ = tally(class_of_three)
    assert students.solved.tolist() == [4, 1, 1]
    assert set(students.note) == {""}
    assert session("A" * 300).hand_in() is not None


def test_the_seed_of_another_is_noticed(class_of_three: Path) -> None:
    planted = session("Ada")
    planted.check("two", 2)
    path = planted.hand_in()
    assert path is not None
    from analysis.teaching.hand_in import checksum

    content = json.loads(path.read_text())
    content["student"] = "Bob"
    content["checksum"] = checksum(content)
    path.write_text(json.dumps(content))
    assert "the seed is not that of the name" in set(tally(class_of_three)[0].note)


def test_an_empty_folder_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tally", str(tmp_path)]) == 2
    assert "must be a folder with files that were handed in" in capsys.readouterr().err
