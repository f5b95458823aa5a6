"""Measurements that take too long, or need packages that are not installed here: small tables, and how each was made.

    calibration_level, _power, _controls   the tests of `randomness.battery` on layers whose answer is known
    randomness_peers                       the same layers through other people's tools
    similarity_conformance                 checks of `comparison.compare` that each similarity package passes
    seeds_until                            planted ledgers that grow where rows are open, beside fixed numbers of seeds
    similarity_cost, similarity_series     what layers, images and checkpoints cost, and beside a peer
    many_runs                              what commands take in a home of up to tens of thousands of finished runs

Each is a CSV in `analysis/tables/measured` whose first lines are comments: the command under tests/benchmarks that
makes it, the versions, the machine.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pandas as pd
import scipy

from lib.common.errors import StudyError, nearest
from lib.common.paths import write_atomic

RECORDS = Path(__file__).with_name("measured")


def record_names() -> list[str]:
    """Names of the records there are."""
    return sorted(path.stem for path in RECORDS.glob("*.csv"))


def read_record(name: str) -> pd.DataFrame:
    """The table of that record; `about` in its `attrs` says what made it, and with which versions.

    Raises:
        StudyError: there is no such record.
    """
    path = RECORDS / f"{name}.csv"
    if not path.is_file():
        raise StudyError(nearest("record", name, record_names()))
    table = pd.read_csv(path, comment="#")
    lines = path.read_text().splitlines()
    table.attrs["about"] = "; ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
    return table


def write_record(path: Path, table: pd.DataFrame, command: str) -> None:
    """Write a record: the table, and in the first line the command, a file of the repository, that made it."""
    versions = ", ".join(f"{name} {module.__version__}" for name, module in (("numpy", np), ("scipy", scipy)))
    line = f"# {command}; Python {platform.python_version()}, {versions}, {platform.machine()}\n"
    write_atomic(path, line + table.to_csv(index=False))
