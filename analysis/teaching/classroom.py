"""One archive for a class: code, teaching notebooks, locked requirements, images and finished runs, without answers."""

from __future__ import annotations

from pathlib import Path

from lib.common.errors import StudyError
from lib.common.paths import REPOSITORY
from lib.study.bundle import check_absent, write_bundle
from lib.study.plan import load_suite, missing_runs

PARTS = ("analysis", "requirements", "Makefile", "pyproject.toml", "README.md", "LICENSE", "CITATION.cff")
PARTS += ("results/README.md", "results/verdicts.svg")  # which the README shows
START = """Once, with a network (Python 3.11, 3.12 or 3.13 and make):

    make setup

From then on no network is needed:

    make lab

JupyterLab opens a list of folders. Go to teaching, open t1, put your name into the cell with the parameters, run.
The last cell of each notebook writes a file into the folder handed_in. Send it to your teacher.
"""


def write_classroom(suite: str, folder: Path) -> tuple[Path, int]:
    """Write SUITE-classroom.tar.gz into a folder: what a class needs, with the finished runs of a suite.

    Solutions and the instructor's page stay at home.

    Returns:
        The archive and its size in bytes.

    Raises:
        StudyError: runs are missing, or the archive exists or cannot be written.
    """
    read = load_suite(suite)
    target = folder / f"{read.name}-classroom.tar.gz"
    check_absent(target)  # before all runs are looked at
    missing = len(missing_runs(read))
    if missing:
        raise StudyError(f"{missing} runs of {read.name} are missing; python -m lib train {suite} makes them")
    exercises = sorted((REPOSITORY / "notebooks" / "teaching").glob("*.ipynb"))
    parts = [REPOSITORY / each for each in PARTS]
    return target, write_bundle(read, target, more=[*parts, *exercises], notes={"START.txt": START})
