"""What both command lines share: options of engines, and how they end.

Mistakes, interrupts and closed pipes become exit codes, never tracebacks.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lib.common.errors import GOES_ON, StudyError, refusal
from lib.common.progress import telling


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Where a suite is trained: the options of `lib.study.plan.train_suite`."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, or cuda:N (default: auto)")
    parser.add_argument("--engine", default="local", help="here, local or dask (default: local)")
    parser.add_argument("--workers", type=int, help="worker processes (default: one per core, or one on a GPU)")
    parser.add_argument("--cluster", help="of the engine dask: local, an address, or a TOML file of a batch system")


def engine_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """These options as keywords, for a command that trains; from now on a polite kill ends its workers too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C
    return {name: getattr(arguments, name) for name in ("device", "engine", "workers", "cluster")}


def told_failures(suite: str, failures: Sequence[str]) -> int:
    """Say whether all of a suite could be trained; the exit code."""
    print(f"suite {suite}: {f'{len(failures)} runs failed' if failures else 'complete'}")
    return 1 if failures else 0


def run_command(command: Callable[[], int]) -> int:
    """What `command` returns, for use as exit code; 2 after a `StudyError`, which is printed as one line on stderr.

    So is a system that refuses a file or memory, wherever that was not foreseen.
    130 after an interrupt, as shells count it; 0 where the reader of standard output (head, less) has seen enough.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with telling():
            code = command()
        sys.stdout.flush()  # here and not at exit, where a closed pipe could no longer be caught
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError, RuntimeError) as error:
        refused = refusal(error)
        if refused is None:
            raise
        print(f"error: {refused}; {GOES_ON}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from what was saved", file=sys.stderr)
        return 130
    return code
