"""The command line: exit codes, one line for a user's mistake, and nothing left running after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from lib import __main__
from lib.common import paths
from lib.runs.listing import list_runs
from lib.runs.run import Run, open_run, run_dir
from lib.runs.spec import run_id
from lib.study.plan import load_suite
from lib.training.loop import train

SUITE = """
seeds = [0, 1]
[run]
width = 2
depth = 1
size = 16
steps = 2
batch = 4
evaluations = 1
[tuning]
rates = [0.01]
[[grid]]
tasks = ["blobs"]
volumes = [6]
strategies = ["scratch", "frozen_random_encoder"]
"""
FIELDS = ["width=2", "depth=1", "size=16", "steps=8", "evaluations=4", "batch=4", "lr=0.01", "volume=6"]


pytestmark = pytest.mark.usefixtures("blobs_as_data")


@pytest.fixture
def lib(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`python -m lib` in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = __main__.main(list(arguments))
        except SystemExit as end:  # how argparse ends
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    file = tmp_path / "disks.toml"
    file.write_text(SUITE)
    return file


# ---- train --------------------------------------------------------------------------------------------------------


def test_one_run_from_fields(lib: Any):
    code, out, err = lib("train", "task=blobs", *FIELDS)
    assert (code, err) == (0, "")
    spec = tiny.spec()
    lines = out.splitlines()
    assert lines[0].startswith("device: ")
    assert str(paths.runs_dir()) in lines[0]
    assert lines[1].startswith(f"{run_id(spec)} begins")
    assert [line.split(",")[0] for line in lines[2:7]] == [f"{run_id(spec)} step {n}/8" for n in (0, 2, 4, 6, 8)]
    assert all(" left" in line for line in lines[1:8])
    assert lines[-1].startswith(f"{run_dir(spec)}: test Dice 0.")
    code, out, _ = lib("train", "task=blobs", *FIELDS)
    assert code == 0
    assert len(out.splitlines()) == 2  # nothing was trained


def test_one_run_from_a_file_with_its_source(lib: Any, tmp_path: Path):
    spec = tiny.spec(strategy="full_finetuning", source=tiny.spec(seed=1))
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec.to_dict()))
    code, _, err = lib("train", str(file), "--device", "cpu")
    assert (code, err) == (0, "")
    assert {run.path.name for run in list_runs()} == {run_id(spec), run_id(tiny.spec(seed=1))}


def test_a_source_is_given_by_its_last_digits(lib: Any):
    source = train(tiny.spec(seed=1))
    name = source.path.name
    code, _, err = lib("train", "task=blobs", "strategy=full_finetuning", f"source={name[-8:]}", *FIELDS)
    assert (code, err) == (0, "")
    assert run_dir(tiny.spec(strategy="full_finetuning", source=source.spec)).is_dir()


def test_a_diverged_run_says_so(lib: Any):
    code, out, err = lib("train", "task=blobs", *FIELDS, "lr=1e30")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith("diverged: the loss was not finite at step 1")


def test_a_suite_from_a_file(lib: Any, suite: Path):
    code, out, err = lib("train", str(suite), "--engine", "here")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"suite {suite}: complete"
    assert "[4/4 runs]" in out
    code, out, err = lib("train", str(suite))
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2  # no worker was started


def test_runs_that_failed_are_exit_code_1(lib: Any, suite: Path):
    plan = load_suite(str(suite))
    spec = plan.at_all_rates(plan.cells[0], 0)[0]
    run_dir(spec).mkdir(parents=True)
    (run_dir(spec) / "spec.json").write_text("{}")  # not that of a run
    code, out, err = lib("train", str(suite), "--engine", "here")
    assert (code, err) == (1, "")
    (failed,) = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert run_dir(spec).name in failed
    assert out.splitlines()[-1] == f"suite {suite}: 1 runs failed"


def test_data_that_do_not_suffice_are_told_before_anything_is_trained(lib: Any, suite: Path):
    suite.write_text(SUITE.replace("volumes = [6]", "volumes = [6, 19]"))  # more images than there are
    code, _, err = lib("train", str(suite), "--engine", "here")
    assert (code, err) == (2, "error: volume must be at most 18, the training images of 'blobs', got 19\n")
    assert list_runs() == []


def test_a_home_that_cannot_be_written_is_a_mistake(lib: Any, suite: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_HOME", "/proc/nothing")
    code, _, err = lib("train", str(suite))
    assert code == 2
    assert err.startswith("error: cannot write in /proc/nothing (")
    assert err.endswith("set STUDY_HOME to another folder\n")


MISTAKES = [
    (["train", "smoek"], "unknown suite 'smoek'; did you mean 'smoke'"),
    (["train", "no/such.toml"], "there is no file no/such.toml"),
    (["train", "smoke", "class"], "one suite at a time, got smoke class"),
    (["train", "no/such.json"], "no/such.json does not exist"),
    (["train", "task=blosb"], "unknown task 'blosb'; did you mean 'blobs'"),
    (["train", "task=blobs", "stpes=3"], "unknown field of a run spec 'stpes'; did you mean 'steps'"),
    (["train", "task=blobs", "steps"], "expected FIELD=VALUE, got 'steps'"),
    (["train", "task=blobs", "steps=many"], "steps must be a whole number of at least 1, got 'many'"),
    (["train", "task=blobs", "lr=fast"], "lr must be a"),
    (["train", "task=blobs", "lr=NaN"], "lr must be a"),
    (["train", "task=blobs", "options=3"], "options"),
    (["train", "task=blobs", "strategy=full_finetuning"], "strategy 'full_finetuning' needs a source"),
    (["train", "task=blobs", "strategy=full_finetuning", "source=12345678"], "no run '12345678'"),
    (["train", "steps=3"], "a run spec needs a task"),
    (["train", "task=blobs", "--device", "gpu"], "unknown device 'gpu'"),
    (["train", "task=blobs", "fold=9", *FIELDS], "fold must be between 0 and 4 for task 'blobs', got 9"),
    (["train", "smoke", "--engine", "locl"], "unknown engine 'locl'; did you mean 'local'"),
    (["train", "smoke", "--workers", "0"], "workers must be at least 1, got 0"),
    (["runs", "nothing"], "no run 'nothing'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(each) for each, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str, lib: Any):
    code, _, err = lib(*arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "[1]", '"task"', "", '{"task": 3}', '{"task": "blobs", "options": 3}'])
def test_a_spec_file_that_is_none_is_refused(text: str, lib: Any, tmp_path: Path):
    file = tmp_path / "spec.json"
    file.write_text(text)
    code, _, err = lib("train", str(file))
    assert code == 2
    assert len(err.splitlines()) == 1


def test_without_a_command_the_usage_is_shown(lib: Any):
    code, _, err = lib()
    assert code == 2
    assert "usage: python -m lib" in err
    code, out, _ = lib("train", "--help")
    assert code == 0
    assert "SUITE" in out


def test_ctrl_c_is_said_in_one_line(lib: Any, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "train_stack", interrupted)
    code, _, err = lib("train", "task=blobs", *FIELDS)
    assert code == 130
    assert err == "\ninterrupted; the same command goes on from what was saved\n"


# ---- runs and doctor ----------------------------------------------------------------------------------------------


def test_runs_are_listed_with_their_state(lib: Any):
    assert lib("runs") == (0, f"0 runs in {paths.runs_dir()}\n", "")
    finished, diverged = train(tiny.spec()), train(tiny.spec(lr=1e30))
    half = open_run(tiny.spec(seed=7))
    damaged = open_run(tiny.spec(seed=8))
    (damaged.path / "result.json").write_text("{")
    (paths.runs_dir() / "notes").mkdir()
    code, out, err = lib("runs")
    assert code == 0
    line = {line.split()[0]: line for line in out.splitlines()}
    assert "test Dice" in line[finished.path.name]
    assert "diverged: the loss was not finite" in line[diverged.path.name]
    assert "unfinished, step 0/8" in line[half.path.name]
    assert "is damaged" in line[damaged.path.name]
    assert out.splitlines()[-1] == f"4 runs in {paths.runs_dir()}"
    assert err.startswith("left out: ")
    assert "notes is not a run" in err


def test_one_run_is_shown_with_its_spec(lib: Any):
    run = train(tiny.spec())
    code, out, _ = lib("runs", run.path.name[-8:])
    assert code == 0
    assert json.loads(out[: out.rindex("}") + 1]) == run.spec.to_dict()
    assert out.splitlines()[-1].startswith(f"{run.path}: test Dice")


def test_doctor_tells_what_there_is(lib: Any, blobs: Path, study_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_HOME", str(study_home / "not" / "made" / "yet"))
    code, out, err = lib("doctor")
    assert (code, err) == (0, "")
    line = {line.split()[0]: line for line in out.splitlines()}
    assert {"device", "commit", "versions", "interpreter", "home", "data"} <= line.keys()
    assert sys.executable in line["interpreter"]
    assert str(study_home / "not" / "made" / "yet") in line["home"]
    assert str(blobs) in line["data"]
    assert "STUDY_DATA" in line["data"]
    assert not (study_home / "not").exists()


# ---- as a process -------------------------------------------------------------------------------------------------


def processes_of(home: Path) -> set[int]:
    """Living processes that work in this home."""
    mark = f"STUDY_HOME={home}\0".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            alive = folder.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            if alive and mark in folder.joinpath("environ").read_bytes() and int(folder.name) != os.getpid():
                found.add(int(folder.name))
        except OSError:  # it ended, or belongs to somebody else
            continue
    return found


def soon(condition: Callable[[], Any]) -> None:
    """Wait until the condition holds; the limit is for machines that are very busy."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_an_end_in_the_middle_of_a_suite_leaves_no_process_behind(end: signal.Signals, suite: Path, study_home: Path):
    suite.write_text(SUITE.replace("steps = 2", "steps = 1000000").replace("evaluations = 1", "evaluations = 100000"))
    command = [sys.executable, "-m", "lib", "train", str(suite), "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(paths.REPOSITORY)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        soon(lambda: len([run for run in list_runs() if len(run.metrics()) > 2]) == 2)
        assert len(processes_of(study_home)) == 3
        os.killpg(process.pid, end)  # as a terminal does
        out, err = process.communicate(timeout=300)
    assert process.returncode == (130 if end == signal.SIGINT else -end)
    soon(lambda: not processes_of(study_home))
    assert out.startswith("device: ")
    if end == signal.SIGINT:
        assert err == "\ninterrupted; the same command goes on from what was saved\n"
    assert all(run.result is None for run in list_runs())


@pytest.mark.parametrize("package", ["lib", "analysis"])
def test_an_interrupt_while_modules_load_has_no_traceback(package: str):
    code = f"""
import builtins, os, runpy, signal, sys
load = builtins.__import__

def interrupted(name, *rest, **more):
    if name == "lib.common":  # imported by the command line itself
        os.kill(os.getpid(), signal.SIGINT)
    return load(name, *rest, **more)

builtins.__import__ = interrupted
runpy.run_module({package!r}, run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""


def test_a_suite_is_trained_by_workers_from_anywhere(suite: Path, tmp_path: Path):
    (tmp_path / "lib").mkdir()  # a folder of that name where the command is given must not hide the study's
    (tmp_path / "lib" / "__init__.py").write_text("raise RuntimeError('the wrong lib')")
    code = f"import sys; sys.path[0] = {str(paths.REPOSITORY)!r}; from lib.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", suite.name, "--workers", "1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    assert "[4/4 runs]" in done.stdout
    assert [Run(run.path).result["status"] for run in list_runs()] == ["done"] * 4
