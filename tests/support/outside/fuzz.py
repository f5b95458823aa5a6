"""What becomes of damaged copies of valid files, parser by parser.

    python tests/support/outside/fuzz.py --count 1000       # the table of SECURITY.md: a process per parser

A copy is read, or refused by a `StudyError`. Whatever else comes of it is counted: a traceback, or a hang, which is
`LIMIT` seconds; and a process may take no more than `ROOM` bytes beside what it took before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[1])]
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MPLBACKEND": "Agg", "STUDY_TRUST": ""}

from outside.mutations import mutant
from outside.parsers import PARSERS

from lib.common.errors import StudyError

LIMIT, ROOM = 20.0, 3 << 30  # seconds for one input, bytes for all inputs of a parser


@dataclass
class Tally:
    """What became of inputs: how many were `valid`, `refused`, a `traceback` or a `hang`, and examples of the last."""

    outcomes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    peak_mb: float = 0.0


class Hang(BaseException):
    """The time for one input is over; no handler of exceptions may catch it."""


def outcome(read: Callable[[], Any]) -> tuple[str, str]:
    """What became of reading: a word of `Tally`, and what was said."""

    def late(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what a library warns of is nothing that a user can mend
            read()
        return "valid", ""
    except StudyError as error:
        return "refused", str(error)
    except Hang:
        return "hang", traceback.format_exc(limit=-3)
    except Exception:
        return "traceback", traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tried(name: str, count: int, seed: int, place: Path) -> Tally:
    """What became of so many damaged copies of the files of a parser; the valid ones must be read."""
    parser, tally, draw = PARSERS[name], Tally(), random.Random(f"{name} {seed}")
    files = parser.files()
    for number in range(count + 1):
        folder = place / "in"
        shutil.rmtree(folder, ignore_errors=True)
        damaged = draw.choice(sorted(parser.damaged or files)) if number else None
        for each, content in files.items():
            file = folder / each
            file.parent.mkdir(parents=True, exist_ok=True)
            if parser.read.__qualname__.startswith("_all") and damaged not in (None, each):
                continue  # of files that are read one by one, the damaged one alone
            file.write_bytes(mutant(each, content, draw) if each == damaged else content)
        if number:
            parser.after(folder)
        word, said = outcome(lambda folder=folder: parser.read(folder))
        if not number:
            assert word == "valid", f"{name}: the valid files are not read: {said}"
            continue
        tally.outcomes[word] += 1
        if word in ("traceback", "hang"):
            tally.examples.append(f"input {number}, {damaged}: {said}")
    return tally


def _one(name: str, count: int, seed: int) -> None:
    """In a process of its own: try one parser, and print what became of it as JSON."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["STUDY_HOME"], os.environ["STUDY_DATA"] = str(Path(place) / "home"), str(Path(place) / "data")
        tried(name, 1, seed, Path(place))  # everything is imported now
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, held + ROOM))
        tally = tried(name, count, seed, Path(place))
        tally.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    print(json.dumps({"outcomes": tally.outcomes, "examples": tally.examples, "peak_mb": tally.peak_mb}))


def measured(name: str, count: int, seed: int) -> dict[str, Any]:
    """What `_one` prints; a process that died is a traceback, as nobody could have caught it."""
    called = subprocess.run(
        [sys.executable, __file__, "--only", name, "--count", str(count), "--seed", str(seed)],
        capture_output=True, text=True, timeout=3600,
    )  # fmt: skip
    if called.returncode:
        return {"outcomes": {"traceback": 1}, "examples": [called.stderr[-2000:]], "peak_mb": float("nan")}
    return json.loads(called.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=PARSERS)
    options = parser.parse_args()
    if options.only:
        _one(options.only, options.count, options.seed)
        return
    print("| parser | inputs | read | refused | tracebacks | hangs | peak memory, MB |\n|---|---|---|---|---|---|---|")
    for name in PARSERS:
        found = measured(name, options.count, options.seed)
        counts = [found["outcomes"].get(word, 0) for word in ("valid", "refused", "traceback", "hang")]
        print(
            f"| {name} | {sum(counts):,} | {' | '.join(f'{each:,}' for each in counts)} | {found['peak_mb']:.0f} |",
            flush=True,
        )
        for example in found["examples"][:5]:
            print(example, file=sys.stderr)


if __name__ == "__main__":
    main()
