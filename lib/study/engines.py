"""Where runs execute: in this process, or in worker processes that each train one run at a time.

An engine is a context manager with `submit(spec) -> concurrent.futures.Future[str]`; the future's value is the run's
status. `submit_stack(specs)` brings runs of one computation as far as they go together (see `lib.training.together`);
what came of each of them, its own `submit` tells. What a run reports while it trains goes to the `report` that the
engine was made with.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from lib.common import paths
from lib.common.errors import StudyError, telling_refusals
from lib.common.registry import Registry
from lib.data.tasks.images import load_data
from lib.runs.spec import RunSpec, run_id, spec_from_dict
from lib.training.loop import Report, silent
from lib.training.together import train_stack

TOGETHER = "together"  # what the future of a stack holds


class RunFailed(StudyError):
    """A run that could not be trained to a result; the message says why and what to do."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(workers: int | None) -> None:
    """That there is one at least, or that their number is left to the engine.

    Raises:
        StudyError: it is not.
    """
    if workers is not None and workers < 1:
        raise StudyError(f"workers must be at least 1, got {workers}")


def threads_each(workers: int) -> int:
    """CPU threads of each of some workers: the cores shared out, and no more than `OMP_NUM_THREADS` allows."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores() // workers)
    return min(share, int(given)) if given.isdecimal() and int(given) > 0 else share


class InProcess:
    """Train in this process, one run after the other, at the moment it is submitted."""

    def __init__(self, *, device: str = "auto", report: Report = silent) -> None:
        self.device, self.report = device, report

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def submit(self, spec: RunSpec) -> Future[str]:
        """Train the run; a failure is in the future."""
        future: Future[str] = Future()
        try:
            result = train_stack([spec], device=self.device, report=self.report)[0].result
            future.set_result((result or {})["status"])
        except StudyError as error:
            future.set_exception(error)
        return future

    def submit_stack(self, specs: Sequence[RunSpec]) -> Future[str]:
        """Train the runs together; a failure is in the future."""
        future: Future[str] = Future()
        try:
            train_stack(specs, device=self.device, report=self.report)
            future.set_result(TOGETHER)
        except StudyError as error:
            future.set_exception(error)
        return future


class LocalProcesses:
    """Train in `workers` processes on this machine.

    A worker imports torch once and then trains run after run. When one dies (killed, out of memory), the run that it
    was training fails with the reason, and a new worker takes its place; no other run is touched.

    Args:
        workers: how many; None is one per core on a CPU, one on a GPU.
        threads: CPU threads of each worker, set before torch is imported; None: `threads_each`.
    """

    def __init__(
        self, *, device: str = "auto", report: Report = silent, workers: int | None = None, threads: int | None = None
    ) -> None:
        if workers is None:
            from lib.common.device import pick_device

            workers = cores() if pick_device(device).type == "cpu" else 1
        check_workers(workers)
        self.device, self.report = device, report
        self.threads = threads or threads_each(workers)
        self._idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="run")
        self._alive: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._guard = threading.Lock()

    def __enter__(self) -> LocalProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._guard:
            self._closed = True  # a thread that is about to start a worker must not
            alive = list(self._alive)
        for worker in alive:
            worker.terminate()  # an interrupted run resumes from its last saved state
        self._pool.shutdown(wait=True)
        for worker in alive:
            _release(worker)

    def submit(self, spec: RunSpec) -> Future[str]:
        """Train the run in the next free worker."""
        return self._pool.submit(self._ask, f"[{spec.text}]", run_id(spec))

    def submit_stack(self, specs: Sequence[RunSpec]) -> Future[str]:
        """Train the runs together in the next free worker."""
        more = f" and {len(specs) - 1} more" if len(specs) > 1 else ""
        return self._pool.submit(self._ask, f"[{','.join(spec.text for spec in specs)}]", run_id(specs[0]) + more)

    def draw(self, task: str, size: int) -> Future[str]:
        """Draw the images of a simulated task in the next free worker, so that all find them drawn."""
        return self._pool.submit(self._ask, json.dumps({"draw": [task, size]}), f"images of {task}")

    def _ask(self, line: str, what: str) -> str:
        """Hand a free worker a line, and report what it answers until it is done; `what` names it in messages."""
        worker = self._worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(line + "\n")
            worker.stdin.flush()
        except BrokenPipeError:
            return self._died(worker, what)
        for answer in worker.stdout:
            if not answer.endswith("\n"):
                break  # it died in the middle of a word
            event: dict[str, Any] = json.loads(answer)
            if event["kind"] == "failed":
                self._idle.put(worker)
                raise RunFailed(event["reason"])
            if event["kind"] == "result":
                self._idle.put(worker)
                return event["status"]
            self.report(event)
        return self._died(worker, what)

    def _worker(self) -> subprocess.Popen[str]:
        with contextlib.suppress(queue.Empty):
            while True:
                worker = self._idle.get_nowait()
                if worker.poll() is None:
                    return worker
                self._forget(worker)  # it died while it had nothing to do
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": os.pathsep.join([str(paths.REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        # -P: a folder `lib` where the command was given is not ours. A process group of its own: Ctrl-C reaches this
        # process alone, which then ends its workers.
        command = [sys.executable, "-P", "-m", "lib", "worker", "--device", self.device]
        pipe = subprocess.PIPE
        with self._guard:
            if self._closed:
                raise CancelledError
            worker = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, text=True, env=environment, bufsize=1, process_group=0
            )
            self._alive.add(worker)
        return worker

    def _forget(self, worker: subprocess.Popen[str]) -> int:
        with self._guard:
            self._alive.discard(worker)
        return _release(worker)

    def _died(self, worker: subprocess.Popen[str], what: str) -> str:
        code = self._forget(worker)
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        raise RunFailed(f"{what}: its worker {cause}{hint}; the same command resumes it from its last saved state")


def _release(worker: subprocess.Popen[str]) -> int:
    """Close the pipes of a worker that is ending, and wait for it; returns its exit code."""
    for pipe in (worker.stdin, worker.stdout):
        with contextlib.suppress(BrokenPipeError):  # what it was never told
            if pipe is not None:
                pipe.close()
    return worker.wait()


ENGINES: Registry[Any] = Registry("engine")
ENGINES.add("here", InProcess)
ENGINES.add("local", LocalProcesses)


def _drawn(task: str, size: int) -> str:
    with telling_refusals(f"images of {task}"):
        load_data(task, size)
    return "drawn"


def _trained(specs: list[dict[str, Any]], device: str, report: Report) -> str:
    runs = train_stack([spec_from_dict(each) for each in specs], device=device, report=report)
    return TOGETHER if len(runs) > 1 else (runs[0].result or {})["status"]


def work(lines: Iterable[str], *, device: str) -> None:
    """What a worker process does: train the specs of every input line, or draw its images; answers are JSON lines."""
    channel, guard = sys.stdout, threading.Lock()  # members of a stack report side by side

    def tell(event: dict[str, Any]) -> None:
        with guard:
            print(json.dumps(event), file=channel, flush=True)

    for line in lines:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a user's strategy prints is no message to the engine
                asked = json.loads(line)
                status = _drawn(*asked["draw"]) if "draw" in asked else _trained(asked, device, tell)
            tell({"kind": "result", "status": status})
        except StudyError as error:
            tell({"kind": "failed", "reason": str(error)})
        except BrokenPipeError:  # the engine is gone
            raise
        except Exception as error:
            import traceback

            traceback.print_exc(file=sys.stderr)
            tell({"kind": "failed", "reason": f"{type(error).__name__}: {error} (a defect; its traceback is above)"})
