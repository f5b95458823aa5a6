"""Commands of the study as children of one process that has imported everything: a start costs milliseconds."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSIDE = Path(__file__).parent / "inside"

# Reads a JSON line and answers with one. A child leads a session of its own; it ends without the handlers of exit.
SERVER = """
import json, os, signal, sys, time, traceback
import sitecustomize
import analysis.__main__, lib.__main__, lib.data.preparation.fetch
import analysis.claims.ledger.choices.specifications, analysis.claims.ledger.growth
import analysis.reports.build, analysis.reports.recorded.record
import PIL.Image, scipy.ndimage, torch._dynamo

def child(asked):
    os.setsid()
    out = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1), os.dup2(out, 2)
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    lib.data.preparation.fetch.SECONDS, lib.data.preparation.fetch.PAUSE = (1.0, 1.0), 0.05
    module = {"lib": lib, "analysis": analysis}[asked["command"][0]]
    code = 1
    try:
        fault = sitecustomize.arm(asked["environment"]["FAULT"])
        try:
            code = module.__main__.main(asked["command"][1:])
        finally:
            fault.busy = True
            if asked["count"]:
                open(asked["count"], "w").write(str(fault.seen))
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        end = time.monotonic() + asked["seconds"]
        done, status = os.waitpid(asked["wait"], os.WNOHANG)
        while not done and time.monotonic() < end:
            time.sleep(0.002)
            done, status = os.waitpid(asked["wait"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if done else None
    else:
        answer = os.fork()
        if not answer:
            child(asked)
    print(json.dumps(answer), flush=True)
"""


@dataclass
class Child:
    """A command that was begun; `code` is its exit code, negative for a signal, None while it runs."""

    pid: int
    home: Path
    output: Path
    code: int | None = None

    def said(self) -> str:
        """Standard output and standard error together."""
        return self.output.read_text(errors="replace") if self.output.is_file() else ""


class Commands:
    """Begins commands of the code in `repository`.

    Used as a context: at its end the process ends, and whatever it began.
    """

    def __init__(self, repository: Path) -> None:
        self.repository, self.numbers = repository, iter(range(10**9))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(repository), str(INSIDE)]),
            "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MPLBACKEND": "Agg", "NO_PROXY": "127.0.0.1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        for name in ("FAULT", "STUDY_DATA", "STUDY_TRUST"):
            environment.pop(name, None)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=pipe, stdout=pipe, text=True, env=environment, cwd=repository
        )

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:  # its standard input is closed, and it ends
            pass

    def _ask(self, asked: Mapping[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def begin(
        self, home: Path, command: list[str], fault: Mapping[str, Any] | None = None, count: Path | None = None
    ) -> Child:
        """Begin a command in a home, with a fault that waits in it; `count` gets the number of its events."""
        output = home.parent / f"said-{next(self.numbers)}.txt"
        table = {
            "places": [f"{home}/", f"{self.repository}/results/", f"{self.repository}/README"],
            "haste": 1000,
            **(fault or {}),
        }
        pid = self._ask({
            "command": command, "output": str(output), "folder": str(home.parent), "count": count and str(count),
            "environment": {"STUDY_HOME": str(home), "FAULT": json.dumps(table)},
        })  # fmt: skip
        return Child(pid, home, output)

    def wait(self, child: Child, seconds: float = 120.0) -> int | None:
        """The exit code of a command; None where it has not ended by then."""
        if child.code is None:
            child.code = self._ask({"wait": child.pid, "seconds": seconds})
        return child.code

    def run(self, home: Path, command: list[str], fault: Mapping[str, Any] | None = None) -> Child:
        """A command to its end, or for two minutes: then it hangs, and is killed."""
        child = self.begin(home, command, fault)
        if self.wait(child) is None:
            os.kill(child.pid, signal.SIGKILL)
            end_all(home)
            self.wait(child)
            child.code = None
        return child

    def kill(self, child: Child, after: float) -> bool:
        """Kill a command after so many seconds, not its helpers; whether it was still at work."""
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)  # until it is waited for, its number is nobody else's
        return self.wait(child) == -signal.SIGKILL


def processes_of(home: Path) -> list[int]:
    """Living processes that work in a home, by their environment; the commands themselves are known to `Commands`."""
    mark, found = f"STUDY_HOME={home}\0".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            alive = folder.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            if alive and mark in folder.joinpath("environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def end_all(home: Path) -> None:
    """Kill whatever works in a home."""
    for pid in processes_of(home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def settled(home: Path, seconds: float = 60.0) -> bool:
    """Wait until the helpers of a command that is gone (workers, kernels) have ended too; whether they have."""
    end = time.monotonic() + seconds
    while processes_of(home):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
