"""Kinds of faults: how each is put into a command of the study, and how often it comes in a round.

A kind is a function of an attempt (`faults.attempt`) that puts the fault in and returns the commands that were hit. An
attempt has not `landed` where the fault came too late, and another moment is tried then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from importlib.util import find_spec

from faults.attempt import Inject, Try
from faults.disks import can_mount, disk_filled, disk_read_only, refused, small_disk
from faults.processes import Child, processes_of
from faults.surroundings import bad_download, cluster, not_its_own

WRITERS = ("train", "claims", "table", "bundle", "merge", "grow", "record", "prepare", "fetch")
LOCAL = ["--engine", "local", "--workers", "2", "--device", "cpu"]


def _killed_at_any_time(*steps: str, engine: list[str] | None = None) -> Inject:
    def inject(this: Try) -> list[Child]:
        command = this.begin(*steps)
        command = command[: command.index("--engine")] + engine if engine else command
        child = this.study.commands.begin(this.home, command)
        after = this.draw.uniform(0, 3.0 if engine else this.study.seconds[this.step])
        this.note = f"after {after:.2f} s"
        this.landed = this.study.commands.kill(child, after)
        return [child]

    return inject


def _killed_at_an_event(*steps: str) -> Inject:
    def inject(this: Try) -> list[Child]:
        command, at = this.begin(*steps), this.moment()
        this.note = f"before event {at} of {this.study.events[this.step]}"
        child = this.study.commands.run(this.home, command, {"do": "kill", "at": at})
        this.landed = child.code == -signal.SIGKILL
        return [child]

    return inject


def _clock_jumps(*steps: str) -> Inject:
    def inject(this: Try) -> list[Child]:
        command, at = this.begin(*steps), this.moment()
        seconds = this.draw.choice([-1, 1]) * this.draw.choice([60.0, 86_400.0, 1e9])
        files = [file for file in sorted(this.home.rglob("*")) if file.is_file()]
        for file in this.draw.sample(files, len(files) // 3):  # written by a machine whose clock was wrong
            os.utime(file, (time.time() + seconds,) * 2)
        this.note = f"by {seconds:g} s at event {at}, with a third of all files from then"
        return [this.study.commands.run(this.home, command, {"do": "jump", "at": at, "seconds": seconds})]

    return inject


def _together(*steps: str) -> Inject:
    """Two or three calls at once in one home; of three, one is killed."""

    def inject(this: Try) -> list[Child]:
        command, count = this.begin(*steps), this.draw.choice([2, 3])
        this.note = f"{count} at once" + (", one killed" if count == 3 else "")
        children = []
        for _ in range(count):
            children.append(this.study.commands.begin(this.home, command))
            time.sleep(this.draw.uniform(0, 0.2) * this.study.seconds[this.step])
        if count == 3:
            this.study.commands.kill(children[-1], this.draw.uniform(0, 0.5) * this.study.seconds[this.step])
        for child in children:
            this.study.commands.wait(child)
        return children

    return inject


def _little_memory(*steps: str) -> Inject:
    def inject(this: Try) -> list[Child]:
        command = this.begin(*steps)
        room = int(this.draw.uniform(0.2, 12) * 1e6)
        this.note = f"{room / 1e6:.1f} MB more than at its start"
        child = this.study.commands.run(this.home, command, {"room": room})
        this.landed = child.code != 0
        return [child]

    return inject


def _helper_killed(step: str, longest: float) -> Inject:
    """A worker, or a kernel, ends as the system ends a process that takes too much memory."""

    def inject(this: Try) -> list[Child]:
        command = this.begin(step)
        if step == "train":
            command = command[: command.index("--engine")] + LOCAL
        child, end = this.study.commands.begin(this.home, command), time.monotonic() + 60
        while not processes_of(this.home) and time.monotonic() < end:
            time.sleep(0.02)
        after = this.draw.uniform(0.2, longest)
        this.note = f"{after:.1f} s after it began"
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(this.draw.choice(processes_of(this.home)), signal.SIGKILL)
        this.study.commands.wait(child)
        this.landed = child.code != 0
        return [child]

    return inject


LOCAL_TRAIN = _killed_at_any_time("train", engine=LOCAL)
DISKS = ("train", "claims", "merge", "grow", "prepare", "fetch")
KINDS: dict[str, tuple[int, Inject]] = {  # how many of a round, which the costly ones have few of
    "killed in training": (4, _killed_at_any_time("train")),
    "killed in training by two workers": (2, LOCAL_TRAIN),
    "killed in growing": (3, _killed_at_any_time("grow")),
    "killed in writing": (6, _killed_at_an_event("train", "claims", "table", "bundle", "record", "prepare", "fetch")),
    "killed in merging": (5, _killed_at_an_event("merge")),
    "killed in rendering": (1, _killed_at_any_time("report")),
    "kernel of a report killed": (1, _helper_killed("report", 4.0)),
    "worker killed, as without memory": (2, _helper_killed("train", 6.0)),
    "little memory": (4, _little_memory("train", "claims", "merge", "prepare")),
    "disk too small": (4, small_disk(*DISKS, "bundle")),
    "disk filled by others": (4, disk_filled(*DISKS)),
    "disk full, by error": (6, refused("full", *WRITERS)),
    "disk full under two workers": (1, refused("full", "train", engine=LOCAL)),
    "disk read-only": (3, disk_read_only(*DISKS)),
    "folder read-only, by error": (6, refused("read-only", *WRITERS)),
    "disk broken, by error": (3, refused("broken", *WRITERS)),
    "report on a full or read-only disk": (1, refused("full", "report")),
    "two or three calls at once": (6, _together(*WRITERS)),
    "two or three reports at once": (1, _together("report")),
    "clock jumps": (4, _clock_jumps(*WRITERS)),
    "bad download": (5, bad_download),
    "files that are not the run's": (5, not_its_own),
    "cluster lost": (1, cluster),
}
MOUNTS = ("disk too small", "disk filled by others", "disk read-only")


def possible() -> list[str]:
    """The kinds that can be tried here; the others are named on standard error."""
    absent = {} if can_mount() else dict.fromkeys(MOUNTS, "no file system can be mounted here")
    if find_spec("distributed") is None:
        absent["cluster lost"] = "the package distributed is not installed"
    for kind, reason in absent.items():
        print(f"not tried: {kind}, {reason}", file=sys.stderr)
    return [kind for kind in KINDS if kind not in absent]
