"""Two ledgers side by side: which words came again, and what differs by more than the intervals allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.claims.ledger.findings import with_data
from analysis.claims.ledger.kept import suite_ledger
from analysis.claims.ledger.table import deciding_part, interval_text, number_text
from analysis.claims.verdicts import VERDICTS
from lib.common.errors import StudyError
from lib.common.outside import read_json
from lib.study.plan import load_suite

Ledger = Sequence[Mapping[str, Any]]
DECIDED = ("supported", "contradicted")
NUMBERS = ("effect", "line", "replication")


class Repeat(NamedTuple):
    """How the words of one ledger fared in another one.

    tested: rows tested in both. differ: of these, rows with another word. decided: rows decided in the first and tested
    in both; kept: of these, with the same word in the second; turned: with the opposite. firm: decided rows that the
    first does not call fragile; firm_kept: of these, with the same word; expected: as many as their `replication` adds
    up to. apart: rows whose two intervals do not meet.
    """

    tested: int
    differ: int
    decided: int
    kept: int
    turned: int
    firm: int
    firm_kept: int
    expected: float
    apart: int


def read_ledger(name: str) -> tuple[str, Ledger]:
    """A ledger and what to call it.

    Args:
        name: of a suite, its TOML file, a claims.json, or a folder that holds one, such as a record of `results/`.

    Raises:
        StudyError: there is nothing of that name, the file holds no ledger, or a run of the suite is damaged.
    """
    path = Path(name)
    file = path / "claims.json" if path.is_dir() else path
    if file.suffix not in (".json", ".toml") and len(path.parts) > 1:
        raise StudyError(
            f"there is no folder {name}; name a suite, or a folder with claims.json, such as results/class"
        )
    if file.suffix != ".json":
        return load_suite(name).name, suite_ledger(name)
    rows = read_json(file)
    if not isinstance(rows, list) or not rows or not all(map(_is_row, rows)):
        raise StudyError(f"{file} holds no claims ledger; python -m analysis claims SUITE writes one")
    about = file.with_name("provenance.json")  # of a record
    return name, with_data(rows, read_json(about)) if about.is_file() else rows


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not {"id", "task", "verdict", "effect", "interval", "fragile"} <= row.keys():
        return False
    interval = row["interval"]
    numbers = [*(interval if isinstance(interval, list) else ["none"]), *(row.get(key) for key in NUMBERS)]
    sound = all(each is None or isinstance(each, int | float) for each in numbers) and len(interval) == 2
    return sound and all(isinstance(row[key], str) for key in ("id", "task")) and row["verdict"] in VERDICTS


def compare_ledgers(first: Ledger, second: Ledger) -> pd.DataFrame:
    """One row per claim and task of either ledger, those of the first in its order.

    Columns: claim, task; verdict, fragile, effect, low, high, part (whose numbers these are, where a row has several),
    replication, seeds of each, ending in _1 and _2 and empty where a ledger has no such row; line and side (of the
    first that has them); words (same, decided: only in the second; open: only in the first; opposite; not tested: in
    one or both; absent: from one); apart (whether both intervals are known, of the same part, and do not meet).
    """
    found = [{(row["id"], row["task"]): row for row in ledger} for ledger in (first, second)]
    rows = []
    for key in dict.fromkeys([*found[0], *found[1]]):
        pair = [ledger.get(key) for ledger in found]
        told = [_told(row, place) for place, row in enumerate(pair, 1)]
        lined = next((row for row in pair if row and row.get("line") is not None), {})
        rows.append(
            {"claim": key[0], "task": key[1]}
            | told[0] | told[1]
            | {"line": lined.get("line"), "side": lined.get("side"), "words": _words(*pair), "apart": _apart(*pair)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def repeat(table: pd.DataFrame) -> Repeat:
    """How the words of the first of two ledgers fared in the second, from `compare_ledgers`."""
    both = table[~table.words.isin(["not tested", "absent"])]
    decided = both[both.verdict_1.isin(DECIDED)]
    firm = decided[~decided.fragile_1.astype(bool)]
    return Repeat(
        tested=len(both), differ=int((both.words != "same").sum()),
        decided=len(decided), kept=int((decided.words == "same").sum()),
        turned=int((decided.words == "opposite").sum()),
        firm=len(firm), firm_kept=int((firm.words == "same").sum()),
        expected=float(firm.replication_1.astype(float).fillna(1.0).sum()),  # a row without one was counted, not drawn
        apart=int(both.apart.sum()),
    )  # fmt: skip


def compared_lines(names: tuple[str, str], table: pd.DataFrame) -> list[str]:
    """What differs between two ledgers as lines to print: rows with another word, or intervals apart, and counts."""
    lines = []
    alone = table[table.words == "absent"]
    for row in table[differs(table) & (table.words != "absent")].to_dict("records"):
        sides = [_side_text(row, place) for place in (1, 2)]
        mark = "; intervals do not meet" if row["apart"] else ""
        lines.append(f"{row['claim']:4} {row['task']:24} {' -> '.join(sides)}{mark}")
    for name, other in ((names[0], "verdict_2"), (names[1], "verdict_1")):
        if only := int(alone[other].isna().sum()):
            lines.append(f"rows that are in {name} only: {only}")
    return [*lines, fared(names, table)]


def differs(table: pd.DataFrame) -> pd.Series:
    """Which rows of `compare_ledgers` have another word, or intervals that do not meet; not those tested in neither."""
    neither = (table.words == "not tested") & (table.verdict_1 == table.verdict_2)
    return ((table.words != "same") | table.apart) & ~neither


def fared(names: tuple[str, str], table: pd.DataFrame) -> str:
    """How the words of the first ledger fared in the second, in one sentence."""
    found = repeat(table)
    if not found.tested:
        return f"no row is tested in both {names[0]} and {names[1]}"
    return (
        f"{found.tested} rows tested in both, {found.differ} with another word; of {found.decided} decided rows of "
        f"{names[0]} {found.kept} have the same word in {names[1]} and {found.turned} the opposite; of {found.firm} "
        f"that are not fragile {found.firm_kept} ({found.expected:.1f} expected); {found.apart} rows with intervals "
        "that do not meet"
    )


def _told(row: Mapping[str, Any] | None, place: int) -> dict[str, Any]:
    row = row or {}
    low, high = row.get("interval") or (None, None)
    numbers = {key: row.get(key) for key in ("verdict", "fragile", "effect", "replication", "seeds")}
    numbers |= {"low": low, "high": high, "part": deciding_part(row)}
    return {f"{key}_{place}": value for key, value in numbers.items()}


def _words(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str:
    if one is None or other is None:
        return "absent"
    before, after = one["verdict"], other["verdict"]
    if "not tested" in (before, after):
        return "not tested"
    if before == after:
        return "same"
    if before in DECIDED and after in DECIDED:
        return "opposite"
    return "decided" if after in DECIDED else "open"


def _apart(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    bounds = [*(one or {}).get("interval", (None,)), *(other or {}).get("interval", (None,))]
    if None in bounds or deciding_part(one or {}) != deciding_part(other or {}):
        return False
    low, high, other_low, other_high = bounds
    return high < other_low or other_high < low


def _side_text(row: Mapping[str, Any], place: int) -> str:
    word = row[f"verdict_{place}"]
    if not isinstance(word, str):
        return "absent"
    fragile = ", fragile" if row[f"fragile_{place}"] else ""
    interval = interval_text({"interval": (row[f"low_{place}"], row[f"high_{place}"])})
    effect = "" if number_text(row[f"effect_{place}"]) == "–" else f" {number_text(row[f'effect_{place}'])} {interval}"
    part = f" ({row[f'part_{place}']})" if row["part_1"] != row["part_2"] and row[f"part_{place}"] else ""
    return f"{word}{fragile}{effect}{part}"
