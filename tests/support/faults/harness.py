"""What becomes of a small running study under faults: every kind of fault, at random moments, told as a table.

    python tests/support/faults/harness.py --count 220 --seed 1     # the table of SECURITY.md

The study is done once undisturbed. Then a fault is put into one of its commands, and the command is called again: it
must end well, with the outcome of the undisturbed study bit for bit, and what was finished before the fault, or is
found finished after it, keeps its bytes. A command that outlives a fault without its outcome says so in a line.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[1])]
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MPLBACKEND": "Agg", "STUDY_TRUST": ""}

from faults.attempt import Try
from faults.kinds import KINDS, possible
from faults.originals import Originals
from faults.processes import Commands, end_all, settled
from faults.study import ORIGINALS, Study, begun, ended_well, kept, repository_copy

TRIES = 12  # moments that are tried where a fault comes too late
LANES = 4  # injections side by side: they wait as much as they work
TOLD = re.compile(
    r"^(error|failed|refused): |^interrupted|\] \w+ (failed|killed|timed out), |verified, \d+ faults", re.M
)


@dataclass
class Injection:
    """What became of one fault: `died` with it, or else `told` of it; and what is wrong, nothing at best."""

    kind: str
    about: str
    died: bool
    told: bool
    lost: str = ""
    traceback: str = ""
    hang: bool = False


@contextlib.contextmanager
def undisturbed(place: Path, steps: Sequence[str] | None = None) -> Iterator[tuple[Study, Originals]]:
    """The study in `place`, done once; `STUDY_DATA` is set to the images that its runs are read with."""
    with Commands(repository_copy(place)) as commands, Originals(ORIGINALS) as originals:
        study = begun(place, commands)
        os.environ["STUDY_DATA"] = str(study.homes[""] / "data")
        for name in steps or study.steps:
            study.do(name, originals.address)
        yield study, originals


def injected(kind: str, study: Study, originals: Originals, draw: random.Random) -> Injection:
    """Put a fault of a kind into the study, call the command again, and say what became of it.

    Raises:
        AssertionError: every fault came too late.
    """
    for _ in range(TRIES):
        place = Path(tempfile.mkdtemp(dir=study.place, prefix="fault-"))
        this = Try(study, place, draw, originals)
        try:
            children = KINDS[kind][1](this)
            if this.landed:
                return _judged(kind, this, children)
        finally:
            end_all(place / "home")
            shutil.rmtree(place, ignore_errors=True)
    raise AssertionError(f"{kind}: {TRIES} faults came too late")


def _judged(kind: str, this: Try, children: Sequence) -> Injection:
    study, home, name = this.study, this.home, this.step
    found = Injection(
        kind, f"{name}, {this.note}", any(each.code is not None and each.code < 0 for each in children), True
    )
    found.hang = any(each.code is None for each in children)
    for child in children:
        said = child.said()
        if child.code is not None and child.code > 0:
            found.told &= bool(TOLD.search(said))
        found.traceback = found.traceback or (said if "Traceback (most recent" in said else "")
    helpers = settled(home)
    finished = kept(home, study.steps[name].owns)
    again = study.commands.run(home, study.command(name, home, this.originals.address))
    there = "exists; name another" in again.said() or "is taken already" in again.said()
    finds_it = name in ("bundle", "prepare") and again.code == 2 and there
    if finds_it:  # it was whole before the fault came: the command says that it is there, and leaves it
        again.code = 0
    found.lost = this.wrong or ("" if helpers else "processes were left behind")
    found.lost = found.lost or ended_well(study, name, again)
    now = kept(home, study.steps[name].owns)
    gone = [file for file, digest in finished.items() if now.get(file) != digest]
    found.lost = found.lost or (f"what was finished is not what it was: {', '.join(gone[:3])}" if gone else "")
    found.traceback = found.traceback or (again.said() if "Traceback (most recent" in again.said() else "")
    found.hang |= again.code is None
    if found.lost or not found.told:
        found.lost += "".join(f"\n--- said at the fault:\n{child.said()[-1500:]}" for child in children)
    return found


def shares(count: int, kinds: Sequence[str]) -> list[str]:
    """The kinds of `count` injections: rounds in which each comes as often as `KINDS` says."""
    most = max(KINDS[kind][0] for kind in kinds)
    one_round = [kind for turn in range(most) for kind in kinds if turn < KINDS[kind][0]]
    return [one_round[number % len(one_round)] for number in range(count)]


def row(kind: str, found: Sequence[Injection]) -> str:
    """A line of the table."""
    counts = (
        len(found), sum(each.died for each in found), sum(not each.died for each in found),
        sum(not each.told for each in found), sum(bool(each.lost) for each in found),
        sum(bool(each.traceback) for each in found), sum(each.hang for each in found),
    )  # fmt: skip
    return f"| {kind} | " + " | ".join(map(str, counts)) + " |"


HEAD = (
    "| fault | injected | process died | process went on, or ended by itself | of these untold | lost | tracebacks | "
    "hangs |\n|---|---|---|---|---|---|---|---|"
)


def side_by_side(wanted: list[tuple[int, str]], seed: int, study: Study, originals: Originals) -> list[Injection]:
    """What became of numbered injections, in `LANES` that each have a copy of the code to themselves."""
    left, found, guard = iter(wanted), list[Injection](), threading.Lock()

    def lane(number: int) -> None:
        place = study.place / f"lane{number}"
        with Commands(repository_copy(place)) as commands, Originals(ORIGINALS) as own:
            mine = dataclasses.replace(study, commands=commands)
            while True:
                with guard:
                    at, kind = next(left, (-1, ""))
                if not kind:
                    return
                try:
                    each = injected(kind, mine, own, random.Random(f"{seed} {at} {kind}"))
                except Exception:
                    each = Injection(kind, "the harness failed", False, True, lost=traceback.format_exc())
                with guard:
                    found.append(each)
                    tell(each, f"{len(found)}/{len(wanted)}")

    with ThreadPoolExecutor(LANES) as lanes:
        list(lanes.map(lane, range(LANES)))
    return found


def tell(each: Injection, count: str) -> None:
    """Say how far it is, and all of what is wrong."""
    bad = [word for word in ("lost", "traceback", "hang") if getattr(each, word)] + ["untold"] * (not each.told)
    print(f"{count} {each.kind}: {each.about} {' '.join(bad)}", file=sys.stderr, flush=True)
    if bad:
        print(each.lost, each.traceback[-2500:], file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    kinds = possible()
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as place, undisturbed(Path(place)) as whole:
        found = side_by_side(list(enumerate(shares(options.count, kinds))), options.seed, *whole)
    print(HEAD)
    for kind in kinds:
        print(row(kind, [each for each in found if each.kind == kind]))
    print(row("all", found))
    sys.exit(any(each.lost or each.traceback or each.hang or not each.told for each in found))


if __name__ == "__main__":
    main()
