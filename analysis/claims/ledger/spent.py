"""What a study has spent on seeds, and how its rows ended: tables of notebook 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.claims.ledger.growth import row_name
from analysis.tables.arm_names import arm_name
from lib.study.plan import load_suite
from lib.study.suite import Look, Suite

ENDS = ("decided", "futile", "cap", "open")


def looks_taken(suite: str, ledger: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per look at a suite; one alone where its seeds are fixed.

    Columns: look, seeds (that cells may have by then), cells (that were trained for it), added (their seeds), runs (at
    all rates, without sources), and how many rows of the ledger ended there as `rows_ended` says.
    """
    read, ends = load_suite(suite), rows_ended(suite, ledger)
    rows, before = [], [0] * len(read.cells)
    for number, each in enumerate(_looks(read), start=1):
        added = [(new - old, len(cell.rates)) for cell, old, new in zip(read.cells, before, each.seeds, strict=True)]
        spent = {
            "look": number, "seeds": each.at, "cells": sum(count > 0 for count, _ in added),
            "added": sum(count for count, _ in added), "runs": sum(count * rates for count, rates in added),
        }  # fmt: skip
        rows.append(spent | {end: int(((ends.look == number) & (ends.ended == end)).sum()) for end in ENDS})
        before = list(each.seeds)
    return pd.DataFrame(rows)


def rows_ended(suite: str, ledger: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per tested row of the ledger: how it ended, and at which look.

    ended: `decided` or `futile` since that look, `cap` where it was open to the end, `open` while the study grows. Of a
    suite whose seeds are fixed, rows are decided or at their cap. Columns: id, task, ended, look, verdict, seeds,
    replication.
    """
    read = load_suite(suite)
    told = [each for each in _looks(read) if each.rows]
    over = bool(read.looks and read.looks[-1].rows)
    rows = []
    for row in ledger:
        if row["verdict"] == "not tested":
            continue
        ended, look = "cap" if row["verdict"] == "inconclusive" else "decided", max(1, len(told))
        if read.until is not None:
            state = told[-1].rows.get(row_name(row), "open") if told else "open"
            while state != "open" and look > 1 and told[look - 2].rows.get(row_name(row)) == state:
                look -= 1
            ended = "cap" if state == "open" and over else state
        rows.append({**{key: row[key] for key in ("id", "task")}, "ended": ended, "look": look}
                    | {key: row[key] for key in ("verdict", "seeds", "replication")})  # fmt: skip
    return pd.DataFrame(rows, columns=["id", "task", "ended", "look", "verdict", "seeds", "replication"])


def seeds_spent(suite: str) -> pd.DataFrame:
    """One row per cell of a suite: task, volume, arm, source, first (seeds at the first look), seeds (now), runs."""
    read = load_suite(suite)
    first = _looks(read)[0].seeds
    rows = [
        {
            "task": cell.task, "volume": "all" if cell.volume is None else str(cell.volume),
            "arm": arm_name(cell.strategy, cell.options), "source": cell.source or "", "first": count,
            "seeds": len(cell.seeds), "runs": len(cell.seeds) * len(cell.rates),
        }
        for cell, count in zip(read.cells, first, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _looks(suite: Suite) -> Sequence[Look]:
    return suite.looks or (Look(len(suite.seeds), tuple(len(cell.seeds) for cell in suite.cells), {}),)
