"""Measurements that take too long to repeat in a notebook, kept as small tables; each says how it was made.

    calibration_level   how often each test of `analysis.randomness` rejects random layers (`calibration.level`)
    calibration_power   how often each finds planted structure (`calibration.power`)
    calibration_controls  p-values on layers that nobody would take for random (`calibration.controls`)
    randomness_peers    the same layers through other people's tools (tests/benchmarks/randomness_peers.py)

Each is a CSV whose first line is a comment: command, versions, machine. `tests/benchmarks/bench_filters.py` makes the
first three again; their numbers depend on the seed alone.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pandas as pd
import scipy

from lib.errors import StudyError, nearest
from lib.paths import write_atomic

RECORDS = Path(__file__).with_name("measured")


def names() -> list[str]:
    """Names of the records there are."""
    return sorted(path.stem for path in RECORDS.glob("*.csv"))


def record(name: str) -> pd.DataFrame:
    """The table of that record.

    Raises:
        StudyError: there is no such record.
    """
    return pd.read_csv(_path(name), comment="#")


def origin(name: str) -> str:
    """How a record was made, in one line."""
    return _path(name).read_text().splitlines()[0].removeprefix("# ")


def write(path: Path, table: pd.DataFrame, command: str) -> None:
    """Write a record: the table, and in the first line how it was made."""
    versions = ", ".join(f"{name} {module.__version__}" for name, module in (("numpy", np), ("scipy", scipy)))
    line = f"# {command}; Python {platform.python_version()}, {versions}, {platform.machine()}\n"
    write_atomic(path, line + table.to_csv(index=False))


def _path(name: str) -> Path:
    path = RECORDS / f"{name}.csv"
    if not path.is_file():
        raise StudyError(nearest("record", name, names()))
    return path
