"""What a student hands in, one small JSON file per exercise, and the tally of a folder of them."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.outside import read_json

FIELDS = {"exercise": str, "student": str, "seed": int, "answers": dict}
LONGEST = 60  # letters of a name in that of a file
SEEDS = 1000  # as many students get data of their own


def seed_of(student: str) -> int:
    """The seed that belongs to a name, whatever its case and spaces; 0 without a name."""
    plain = " ".join(unicodedata.normalize("NFC", student).casefold().split())
    return 1 + int(hashlib.sha256(plain.encode()).hexdigest(), 16) % (SEEDS - 1) if plain else 0


def write_answers(exercise: str, student: str, seed: int, answers: Mapping[str, Mapping[str, Any]]) -> tuple[Path, int]:
    """Write the file to hand in under the study's home, in place of an earlier one of this student that has no more.

    Args:
        answers: by question: answer, passed, tries.

    Returns:
        The file, and how many questions were solved in it before; where those are more it is left as it was.
    """
    content = {"exercise": exercise, "student": " ".join(student.split()), "seed": seed, "answers": dict(answers)}
    name = re.sub(r"\W+", "-", content["student"].casefold()).strip("-") or "student"
    path = paths.home() / "handed_in" / f"{exercise}-{name[:LONGEST]}-{seed}.json"
    earlier, note = _read(path) if path.is_file() else ({}, "none")
    before = 0 if note else _passed(earlier["answers"])
    if before <= _passed(answers):
        text = json.dumps({**content, "checksum": checksum(content)}, indent=1, ensure_ascii=False)
        paths.write_atomic(path, text + "\n")
    return path, before


def _passed(answers: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(each["passed"] for each in answers.values())


def checksum(content: Mapping[str, Any]) -> str:
    """Sixteen digits over name, seed and answers. It finds slips and edits by hand; who reads this can forge it."""
    own = {key: content[key] for key in FIELDS}
    return hashlib.sha256(json.dumps(own, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def tally(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A folder of files handed in, with those in folders below it, as two tables.

    Returns:
        One row per file: student, exercise, solved, questions, tries, seed, note (what is amiss). And one row per
        question: exercise, question, students, solved, tries (mean), usual_mistake (the most frequent answer that did
        not pass).

    Raises:
        StudyError: there is no such folder, or no file in it.
    """
    files = sorted(Path(folder).rglob("*.json")) if Path(folder).is_dir() else []
    files = [each for each in files if not any(part.startswith(".") for part in each.relative_to(folder).parts)]
    if not files:
        raise StudyError(f"{folder} must be a folder with files that were handed in (*.json); found none")
    students, questions = [], []
    for file in files:
        content, note = _read(file)
        answers = content.get("answers", {})
        row = {key: content.get(key) for key in ("student", "exercise", "seed")}
        tries = sum(each["tries"] for each in answers.values())
        counts = {"solved": _passed(answers), "questions": len(answers), "tries": tries}
        students.append({**row, **counts, "note": note, "file": file.name})
        if not note:
            questions += [{**row, "question": name, **each} for name, each in answers.items()]
    table = pd.DataFrame(students).sort_values(["exercise", "student"], ignore_index=True, na_position="last")
    again = table.duplicated(["exercise", "student"], keep=False) & table.student.notna()
    table.loc[again & (table.note == ""), "note"] = "handed in more than once"
    return table, _by_question(questions)


def _by_question(rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = ["exercise", "question", "students", "solved", "tries", "usual_mistake"]
    found = []
    for (exercise, question), group in pd.DataFrame(rows).groupby(["exercise", "question"], sort=False) if rows else []:
        wrong = group.answer[~group.passed.astype(bool) & group.tries.gt(0)].map(json.dumps)
        usual = wrong.value_counts().index[0] if len(wrong) else ""
        usual = usual if len(usual) <= 40 else f"{usual[:37]}..."
        found.append((exercise, question, len(group), int(group.passed.sum()), float(group.tries.mean()), usual))
    return pd.DataFrame(found, columns=columns)


def _read(file: Path) -> tuple[dict[str, Any], str]:
    """What a file holds, and what is amiss with it, in words; a file that is none of ours holds nothing."""
    try:
        content = read_json(file)
        good = isinstance(content, dict) and all(isinstance(content.get(key), kind) for key, kind in FIELDS.items())
        good = good and all(
            "answer" in each and isinstance(each["passed"], bool) and isinstance(each["tries"], int)
            for each in content["answers"].values()
        )
    except (ValueError, TypeError, KeyError):
        good, content = False, {}
    if not good:
        return {}, "no file of a teaching notebook"
    if content.get("checksum") != checksum(content):
        return content, "changed after it was written"
    if content["seed"] != seed_of(content["student"]):
        return content, "the seed is not that of the name"
    return content, ""
