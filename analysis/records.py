"""Benchmarks and checks that were recorded once, because the peers they need are not installed here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib.errors import StudyError, nearest

RECORDS = Path(__file__).parent / "records"


def read(name: str) -> pd.DataFrame:
    """A recorded table; `about` in its `attrs` says what made it, and with which versions.

    Raises:
        StudyError: there is no such record.
    """
    file = RECORDS / f"{name}.csv"
    if not file.is_file():
        raise StudyError(nearest("record", name, [each.stem for each in RECORDS.glob("*.csv")]))
    table = pd.read_csv(file, comment="#", keep_default_na=False)
    lines = file.read_text().splitlines()
    table.attrs["about"] = "; ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
    return table
