"""What goes wrong inside a process of the harness: Python imports this at its start, where its folder is on the path.

`FAULT` is a JSON table. Every *event*, a file opened for writing, a rename, a deletion, a new folder, a flush to the
disk (fsync), is counted where it concerns `places`; the one with the number `at` is the moment of the fault:

    {"do": "kill"}                      SIGKILL before the event
    {"do": "refuse", "errno": N}        an OSError there and, but for deletions on a full disk, at every later event
    {"do": "jump", "seconds": S}        all clocks of Python jump by S
    {"do": "read only", "mount": M}     the file system M becomes read-only, as the kernel means it
    {"do": "fill", "mount": M}          the file system M is filled up to its last byte

`room` (bytes, alone) is all the memory that the process may take beside what it has, and `haste` makes the clock of
`perf_counter` run so many times as fast, so that a state is saved at every evaluation of a run of a second.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.truncate": 1}  # event: paths in front


class Fault:
    """A fault that waits for its moment; `seen` counts the events so far."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.table, self.seen, self.busy = table, 0, False

    def event(self, name: str, paths: tuple[Any, ...]) -> None:
        """Count an event, and do what is to be done at it."""
        places = tuple(self.table.get("places", ()))
        mine = [each for each in paths if isinstance(each, (str, os.PathLike)) and str(each).startswith(places)]
        if self.busy or not mine or not places:
            return
        self.seen += 1
        at, what = self.table.get("at"), self.table.get("do")
        if at is None or self.seen < at:
            return
        if what == "refuse":
            if self.table["errno"] in (errno.ENOSPC, errno.EDQUOT) and name in ("os.remove", "os.rmdir"):
                return
            raise OSError(self.table["errno"], os.strerror(self.table["errno"]), str(mine[0]))
        if self.seen == at:
            self.busy = True
            try:
                self.strike(what)
            finally:
                self.busy = False

    def strike(self, what: Any) -> None:
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "jump":
            jump(self.table["seconds"])
        elif what == "read only":
            subprocess.run(["mount", "-o", "remount,ro", self.table["mount"]], check=True, capture_output=True)
        elif what == "fill":
            with contextlib.suppress(OSError), Path(self.table["mount"], "ballast").open("wb", buffering=0) as stream:
                while stream.write(bytes(1024)):
                    pass


def jump(seconds: float) -> None:
    """Let every clock of the module `time` jump, now."""
    for name in ("time", "monotonic", "perf_counter"):
        setattr(time, name, later(getattr(time, name), seconds))
    time.time_ns = later(time.time_ns, int(seconds * 1e9))


def later(clock: Callable[[], Any], by: float) -> Callable[[], Any]:
    """A clock that shows another time."""
    return lambda: clock() + by


def arm(text: str) -> Fault:
    """Begin to count, and to wait for the moment of a fault."""
    fault = Fault(json.loads(text))
    haste, real = fault.table.get("haste"), time.perf_counter
    if haste:
        time.perf_counter = lambda: real() * haste

    def heard(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            if arguments[2] is not None and arguments[2] & WRITES:
                fault.event(name, arguments[:1])
        elif name in CHANGES:
            fault.event(name, arguments[: CHANGES[name]])

    sys.addaudithook(heard)
    real_fsync = os.fsync

    def fsync(handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        fault.event("fsync", (os.readlink(f"/proc/self/fd/{number}"),))
        real_fsync(handle)

    os.fsync = fsync
    if fault.table.get("room"):
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + fault.table["room"],) * 2)
    return fault


if os.environ.get("FAULT"):
    arm(os.environ["FAULT"])
