"""Both command lines end with an exit code and a line, whatever happens to them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lib.common.command_line import run_command
from lib.common.errors import StudyError
from lib.common.paths import REPOSITORY

KEPT = "what was finished is kept, and the same command goes on"


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (StudyError("no such thing"), 2, "error: no such thing\n"),
        (OSError(28, "No space left on device", "runs/a"), 2, f"error: runs/a: No space left on device; {KEPT}\n"),
        (MemoryError(), 2, f"error: not enough memory; {KEPT}\n"),
        *[
            (RuntimeError(text), 2, f"error: not enough memory ({text}); {KEPT}\n")
            for text in (
                "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
                "CUDA out of memory. Tried to allocate 2.00 GiB",
                "could not create a primitive",  # as oneDNN says it
                "can't start new thread",
            )
        ],
        (KeyboardInterrupt(), 130, "\ninterrupted; the same command goes on from what was saved\n"),
    ],
)
def test_what_went_wrong_is_one_line(fault: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]):
    def command() -> int:
        raise fault

    assert run_command(command) == code
    assert capsys.readouterr().err == said


def test_a_defect_is_no_refusal_of_the_system():
    def command() -> int:
        raise RuntimeError("could not create a primitive descriptor for a convolution")  # of a kind that it lacks

    with pytest.raises(RuntimeError, match="descriptor"):
        run_command(command)


@pytest.mark.parametrize("code", [0, 1])
def test_the_code_of_the_command_is_kept(code: int):
    assert run_command(lambda: code) == code


@pytest.mark.parametrize("words", [["lib", "data", "list"], ["analysis", "claims", "smoke"]])
def test_a_reader_that_has_seen_enough_ends_the_command(words: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *words], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
    finally:
        os.close(writing)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
