"""Disks that are full, too small, read-only or broken: truly, where file systems can be mounted, and by error."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from faults.attempt import Inject, Try
from faults.processes import Child

REFUSALS = {
    "full": (errno.ENOSPC, errno.EDQUOT),
    "read-only": (errno.EROFS, errno.EACCES),
    "broken": (errno.EIO,),
}


def refused(kind: str, *steps: str, engine: list[str] | None = None) -> Inject:
    """The system refuses everything from a random event on, in every process that counts so far."""

    def inject(this: Try) -> list[Child]:
        command, at, number = this.begin(*steps), this.moment(), this.draw.choice(REFUSALS[kind])
        if engine:
            command, at = command[: command.index("--engine")] + engine, this.draw.randint(1, 40)
        this.note = f"{errno.errorcode[number]} from event {at} on"
        child = this.study.commands.run(this.home, command, {"do": "refuse", "errno": number, "at": at})
        this.landed = child.code != 0
        return [child]

    return inject


def can_mount() -> bool:
    """Whether file systems can be mounted here, which takes the rights of an administrator."""
    place = Path("/tmp" if not Path("/dev/shm").is_dir() else "/dev/shm") / f"mounted-{os.getpid()}"
    place.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(place)], capture_output=True)
        return mounted.returncode == 0 and not subprocess.run(["umount", str(place)], capture_output=True).returncode
    except FileNotFoundError:
        return False
    finally:
        place.rmdir()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def _disk(this: Try) -> Iterator[Path]:
    """The home on a file system of its own, as large as it is asked to be; its content lies in a folder afterwards."""
    mount, still = this.place / "disk", this.home.with_name("before")
    mount.mkdir()
    os.replace(this.home, still)
    _mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(mount))
    try:
        shutil.copytree(still, mount / "home", symlinks=True)
        this.home.symlink_to(mount / "home")
        yield mount
    finally:
        _mount("-o", "remount,rw,size=64m", str(mount))
        this.home.unlink(missing_ok=True)
        (mount / "ballast").unlink(missing_ok=True)
        shutil.copytree(mount / "home", this.home, symlinks=True)
        subprocess.run(["umount", "-l", str(mount)], check=True)


def _kilobytes(folder: Path) -> int:
    return int(subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True).stdout.split()[0])


def small_disk(*steps: str) -> Inject:
    """The home lies on a file system that has room for a random part of what the step writes."""

    def inject(this: Try) -> list[Child]:
        command = this.begin(*steps)
        with _disk(this) as mount:
            used, needed = _kilobytes(mount), _kilobytes(this.study.homes[this.step])
            size = used + int(max(8, needed - used) * this.draw.uniform(0.1, 0.9))
            this.note = f"{size - used} kB free"
            _mount("-o", f"remount,size={size}k", str(mount))
            child = this.study.commands.run(this.home, command)
            this.landed = child.code != 0
        return [child]

    return inject


def disk_filled(*steps: str) -> Inject:
    """At a random event the file system of the home is filled to its last byte."""

    def inject(this: Try) -> list[Child]:
        command, at = this.begin(*steps), this.moment()
        this.note = f"filled at event {at} of {this.study.events[this.step]}"
        with _disk(this) as mount:
            _mount("-o", "remount,size=8m", str(mount))
            table = {"do": "fill", "at": at, "mount": str(mount), "places": [f"{this.home}/", f"{mount}/home/"]}
            child = this.study.commands.run(this.home, command, table)
            this.landed = child.code != 0
        return [child]

    return inject


def disk_read_only(*steps: str) -> Inject:
    """Killed at a random event, and called again on a file system that has become read-only."""

    def inject(this: Try) -> list[Child]:
        command, at = this.begin(*steps), this.moment()
        this.note = f"killed before event {at} of {this.study.events[this.step]}, then a call on a read-only disk"
        with _disk(this) as mount:
            places = [f"{this.home}/", f"{mount}/home/"]
            this.study.commands.run(this.home, command, {"do": "kill", "at": at, "places": places})
            _mount("-o", "remount,ro", str(mount))
            child = this.study.commands.run(this.home, command)
            _mount("-o", "remount,rw", str(mount))
        return [child]

    return inject
