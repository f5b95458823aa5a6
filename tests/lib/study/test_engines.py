"""Where runs execute: a dead worker costs its own run only, and nothing is left running."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
import tiny

from lib.common.errors import StudyError
from lib.common.progress import Progress, time_text
from lib.runs.run import Run, open_run, run_dir
from lib.runs.spec import run_id
from lib.study import engines
from lib.study.engines import ENGINES, TOGETHER, InProcess, LocalProcesses, RunFailed, work
from lib.training.together import train_stack

pytestmark = pytest.mark.usefixtures("blobs_as_data")


def long_spec(**changes: Any):
    """A run that takes far longer than the test."""
    return tiny.spec(steps=1_000_000, evaluations=100_000, checkpoints="ends", **changes)


def soon(condition: Callable[[], Any]) -> None:
    """Wait until the condition holds; the limit is for machines that are very busy."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_engines_are_found_by_name():
    assert list(ENGINES) == ["here", "local", "dask"]
    with pytest.raises(StudyError, match="unknown engine 'locl'; did you mean 'local'"):
        ENGINES["locl"]


# ---- here ---------------------------------------------------------------------------------------------------------


def test_here_trains_at_once_and_reports():
    events: list[dict[str, Any]] = []
    with InProcess(report=events.append) as engine:
        future = engine.submit(tiny.spec())
        assert future.done()
        assert future.result() == "done"
        assert engine.submit(tiny.spec(lr=1e30)).result() == "diverged"
    assert [event["kind"] for event in events].count("done") == 2


def test_here_puts_a_users_mistake_into_the_future():
    with InProcess() as engine:
        future = engine.submit(tiny.spec(fold=5))
    assert isinstance(future.exception(), StudyError)
    assert "fold must be between" in str(future.exception())


REFUSALS = {
    "No space left on device": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/simulated/a.npz"),
    "Read-only file system": OSError(errno.EROFS, os.strerror(errno.EROFS)),
    "not enough memory": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_the_system_refuses_fails_the_run_in_a_line_and_is_no_defect(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The images of a task cannot be kept, or do not fit: here, and in a worker that trains or draws."""

    def refused(*_: object) -> None:
        raise REFUSALS[what]

    monkeypatch.setattr("lib.training.loop.load_data", refused)
    monkeypatch.setattr(engines, "load_data", refused)
    with InProcess() as engine:
        error = engine.submit(tiny.spec()).exception()
    assert isinstance(error, StudyError)
    assert str(error).startswith(run_id(tiny.spec()))
    assert what in str(error)
    asked = [json.dumps([tiny.spec().to_dict()]), json.dumps({"draw": ["blobs", 16]})]
    work(asked, device="cpu")
    printed = capsys.readouterr()
    answers = [json.loads(line) for line in printed.out.splitlines()]
    reasons = [each["reason"] for each in answers if each["kind"] == "failed"]
    assert len(reasons) == 2
    assert all(what in reason and "the same command goes on" in reason for reason in reasons)
    assert "images of blobs" in reasons[1]
    assert "defect" not in printed.out
    assert printed.err == ""


def test_here_lets_a_defect_and_ctrl_c_through(monkeypatch: pytest.MonkeyPatch):
    for error in (KeyboardInterrupt, RuntimeError):

        def broken(*_: object, error: type[BaseException] = error, **__: object) -> None:
            raise error("planted")

        monkeypatch.setattr(engines, "train_stack", broken)
        with InProcess() as engine, pytest.raises(error, match="planted"):
            engine.submit(tiny.spec())


@pytest.mark.parametrize("engine", [InProcess, LocalProcesses])
def test_a_stack_is_trained_together_and_each_run_tells_its_end(engine: Any):
    specs = [tiny.spec(seed=1), tiny.spec(seed=2, lr=1e30), tiny.spec(seed=3)]
    events: list[dict[str, Any]] = []
    with engine(report=events.append, device="cpu") as pool:
        assert pool.submit_stack(specs).result() == TOGETHER
        assert [pool.submit(spec).result() for spec in specs] == ["done", "diverged", "done"]
    provenance = [json.loads((run_dir(spec) / "provenance.json").read_text()) for spec in specs]
    assert [each["stack"] for each in provenance] == [3, 3, 3]
    assert {event["run"] for event in events} == {run_id(spec) for spec in specs}


def test_a_run_that_cannot_be_trained_fails_its_stack_and_then_itself_alone():
    specs = [tiny.spec(seed=1), tiny.spec(fold=5)]
    with InProcess(device="cpu") as pool:
        with pytest.raises(StudyError, match="fold must be between"):
            pool.submit_stack(specs).result()
        assert pool.submit(specs[0]).result() == "done"
        with pytest.raises(StudyError, match="fold must be between"):
            pool.submit(specs[1]).result()


# ---- what a worker does -------------------------------------------------------------------------------------------


def answers(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_worker_trains_every_line_and_says_so(capsys: pytest.CaptureFixture[str]):
    specs = [tiny.spec(), tiny.spec(fold=5), tiny.spec(lr=1e30)]
    work((f"[{spec.text}]" for spec in specs), device="cpu")
    told = [event for event in answers(capsys.readouterr().out) if event["kind"] in ("result", "failed")]
    assert [event["kind"] for event in told] == ["result", "failed", "result"]
    assert (told[0]["status"], told[2]["status"]) == ("done", "diverged")
    assert "fold must be between" in told[1]["reason"]


def test_a_worker_survives_a_defect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(engines, "train_stack", broken)
        work([f"[{tiny.spec().text}]"], device="cpu")
    out, err = capsys.readouterr()
    assert answers(out) == [
        {"kind": "failed", "reason": "ZeroDivisionError: planted (a defect; its traceback is above)"}
    ]
    assert "Traceback" in err
    assert 'raise ZeroDivisionError("planted")' in err


def test_what_is_printed_while_training_is_no_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def chatty(*arguments: Any, **options: Any) -> list[Run]:
        print("a strategy says hello")
        return train_stack(*arguments, **options)

    monkeypatch.setattr(engines, "train_stack", chatty)
    work([f"[{tiny.spec().text}]"], device="cpu")
    out, err = capsys.readouterr()
    assert answers(out)[-1] == {"kind": "result", "status": "done"}
    assert "hello" in err


def test_a_worker_ends_when_nobody_listens(monkeypatch: pytest.MonkeyPatch):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    with pytest.raises(BrokenPipeError):
        work([f"[{tiny.spec().text}]"], device="cpu")
    assert Run(run_dir(tiny.spec())).result is None


# ---- local --------------------------------------------------------------------------------------------------------


def test_local_needs_a_worker():
    with pytest.raises(StudyError, match="workers must be at least 1, got 0"):
        LocalProcesses(workers=0)


def test_a_limit_of_threads_is_kept_and_cores_are_shared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines, "cores", lambda: 8)
    for given, workers, wanted in (("1", 2, 1), ("3", 2, 3), ("16", 2, 4), ("", 4, 2), ("4,2", 4, 2), ("0", 16, 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert engines.threads_each(workers) == wanted


def test_local_refuses_a_missing_device_before_it_starts_anything():
    with pytest.raises(StudyError, match="unknown device 'gpu'"):
        LocalProcesses(device="gpu")


def test_a_dead_worker_costs_its_own_run_only():
    events: list[dict[str, Any]] = []
    guard = threading.Lock()

    def report(event: dict[str, Any]) -> None:
        with guard:
            events.append(event)

    def seen(spec: Any) -> int:
        with guard:
            return sum(event["run"] == run_id(spec) and event["kind"] == "evaluation" for event in events)

    victim, broken = long_spec(), tiny.spec(seed=5)
    (open_run(broken).path / "metrics.jsonl").mkdir()  # what the system refuses, not the study
    others = [tiny.spec(seed=seed) for seed in (1, 2)]
    with LocalProcesses(report=report, workers=2, threads=1) as engine:
        futures = {run_id(spec): engine.submit(spec) for spec in (victim, *others, broken, tiny.spec(fold=5))}
        wait([future for name, future in futures.items() if name != run_id(victim)])  # all that the other worker does
        soon(lambda: seen(victim) > 2)
        workers = list(engine._alive)
        assert len(workers) == 2
        hit = next(worker for worker in workers if _trains(worker.pid, victim))
        os.kill(hit.pid, signal.SIGKILL)
        with pytest.raises(RunFailed, match=f"{run_id(victim)}: its worker was killed by SIGKILL .*resumes it"):
            futures[run_id(victim)].result(300)
        assert [futures[run_id(spec)].result(300) for spec in others] == ["done", "done"]
        with pytest.raises(RunFailed, match=r"metrics.jsonl: Is a directory; what was finished is kept"):
            futures[run_id(broken)].result(300)
        with pytest.raises(RunFailed, match="fold must be between 0 and 4"):
            futures[run_id(tiny.spec(fold=5))].result(300)

        # The worker that is left dies while it has nothing to do: nobody is the worse for it
        (idle,) = engine._alive
        idle.kill()
        idle.wait()
        late = engine.submit(tiny.spec(seed=3))
        assert late.result(300) == "done"
        still = engine.submit(victim)  # taken up again, and cut off by the end of the block
        before = seen(victim)
        soon(lambda: seen(victim) > before)
        last = list(engine._alive)
    assert isinstance(still.exception(), RunFailed)
    assert all(worker.returncode is not None for worker in [*workers, *last])
    assert all(Run(run_dir(spec)).result for spec in (*others, tiny.spec(seed=3)))
    assert Run(run_dir(victim)).result is None
    assert all(seen(spec) == 5 for spec in others)


def _trains(pid: int, spec: Any) -> bool:
    """Whether that process has the run's lock open."""
    lock = run_dir(spec) / "lock"
    return any(Path(f"/proc/{pid}/fd", fd).resolve() == lock for fd in os.listdir(f"/proc/{pid}/fd"))


def test_what_was_not_begun_is_cancelled_at_the_end(monkeypatch: pytest.MonkeyPatch):
    begun = threading.Event()

    def hangs(self: LocalProcesses, line: str, what: str) -> str:
        begun.set()
        time.sleep(0.2)
        self._worker()  # too late: a process started now would be nobody's
        return "done"

    monkeypatch.setattr(LocalProcesses, "_ask", hangs)
    with LocalProcesses(workers=1) as engine:
        futures = [engine.submit(tiny.spec(seed=seed)) for seed in range(3)]
        assert begun.wait(10)
    assert all(future.done() for future in futures)
    assert [future.cancelled() for future in futures[1:]] == [True, True]
    assert not engine._alive


# ---- progress -----------------------------------------------------------------------------------------------------


def test_the_clock_is_read_easily():
    assert [time_text(seconds) for seconds in (0, 4.4, 59.4, 59.6, 187, 3599.9, 7500)] == [
        "0 s", "4 s", "59 s", "1:00 min", "3:07 min", "1:00 h", "2:05 h",
    ]  # fmt: skip


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `Progress` sees; a test sets it."""
    time_now = [1000.0]
    monkeypatch.setattr("lib.common.progress.time.monotonic", lambda: time_now[0])
    return time_now


def evaluation(run: str, step: int, steps: int = 100) -> dict[str, Any]:
    return {"kind": "evaluation", "run": run, "step": step, "steps": steps, "val_dice": 0.5}


def done(run: str, status: str = "done", steps: int = 100) -> dict[str, Any]:
    return {"kind": "done", "run": run, "status": status, "steps": steps}


def test_progress_counts_runs_and_tells_the_time_left(now: list[float]):
    lines: list[str] = []
    progress = Progress({"a": 100, "b": 100}, lines.append, every_evaluation=True)
    moments = [0, 10, 20, 20, 30, 40]
    events = [evaluation("a", 0), evaluation("a", 50), done("a")]
    events += [evaluation("b", 0), evaluation("b", 50), done("b", "diverged")]
    for moment, event in zip(moments, events, strict=True):
        now[0] = 1000 + moment
        progress(event)
    assert lines == [
        "[0/2 runs] a step 0/100, validation Dice 0.500 (0 s so far, time left unknown yet)",
        "[0/2 runs] a step 50/100, validation Dice 0.500 (10 s so far, 30 s left)",
        "[1/2 runs] a done (20 s so far, 20 s left)",
        "[1/2 runs] b step 0/100, validation Dice 0.500 (20 s so far, 20 s left)",
        "[1/2 runs] b step 50/100, validation Dice 0.500 (30 s so far, 10 s left)",
        "[2/2 runs] b diverged (40 s so far, 0 s left)",
    ]


def test_a_quiet_progress_still_moves(now: list[float]):
    lines: list[str] = []
    progress = Progress({"a": 100}, lines.append)
    for at in range(0, 20):
        now[0] = 1000 + at
        progress(evaluation("a", at))
    assert 2 <= len(lines) <= 4
    assert lines[0].startswith("a step 6/100")
    progress({"kind": "waiting", "run": "a"})
    assert lines[-1] == "a: another process is training it; waiting for it to end"


def test_the_time_left_is_never_negative(now: list[float]):
    lines: list[str] = []
    progress = Progress({"a": 100, "b": 100}, lines.append, every_evaluation=True)
    events = [
        evaluation("a", 60), evaluation("a", 100), done("a"),  # resumed at 60
        evaluation("source", 0, 500), done("source", steps=500),  # not planned
        evaluation("b", 50), evaluation("b", 20),  # killed, and resumed from before
        done("elsewhere", steps=1000),  # another process trained it
        done("b"),
    ]  # fmt: skip
    for at, event in enumerate(events):
        now[0] = 1000 + at
        progress(event)
    assert len(lines) == len(events)
    assert not any("-" in line for line in lines)
    assert "[4/4 runs] b done" in lines[-1]
    assert "0 s left" in lines[-1]


def test_a_worker_that_dies_in_the_middle_of_a_word_is_a_dead_worker(monkeypatch: pytest.MonkeyPatch):
    pipe = subprocess.PIPE
    command = ["sh", "-c", 'read line; printf \'{"kind": "eval\'; kill -9 $$']
    worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    monkeypatch.setattr(LocalProcesses, "_worker", lambda self: worker)
    with LocalProcesses(device="cpu", workers=1) as engine:
        error = engine.submit(tiny.spec()).exception(60)
    assert isinstance(error, RunFailed)
    assert "was killed by SIGKILL (out of memory?)" in str(error)
