"""Rows of the ledger in words and numbers: the verdict table of notebooks and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

NUMBERS = ("effect", "line", "detectable", "seeds", "p", "adjusted", "replication")
TEXTS = ("side", "id", "paper", "statement", "task", "verdict", "unit", "note", "notebook", "figure", "test")


def by_claim(claims: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Rows of the ledger under the claim that they speak of, in the order in which the claims come."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for claim in claims:
        row: dict[str, Any] = {**claim_row(claim), "parts": part_lines(claim)}
        found.setdefault((row["id"], row["statement"]), []).append(row)
    return [(rows[0], rows) for rows in found.values()]


def number_text(value: Any) -> str:
    """A number to three digits, and a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def claim_row(claim: Mapping[str, Any]) -> dict[str, str]:
    """A claim of the ledger as text for one row of a table; `said` is its verdict with how far to trust it."""
    texts = {key: number_text(claim.get(key)) for key in NUMBERS}
    texts |= {key: str(claim.get(key) or "") for key in TEXTS}
    side = f"{texts['side']} {texts['line']}" if texts["side"] else ""
    said = texts["verdict"] + (", fragile" if claim.get("fragile") else "")
    level = claim.get("level")
    share = claim.get("agreement")
    agree = "–" if share is None else f"{100 * share:.0f} %"
    shown = {"interval": interval_text(claim), "holds": side, "said": said, "agreement": agree}
    return {**texts, **shown, "level": f"{100 * level:.3g} %" if level else ""}


def interval_text(claim: Mapping[str, Any]) -> str:
    """The interval of a row, or of a part of one, in brackets; nothing where there is none."""
    interval = claim.get("interval") or ()
    known = any(number_text(bound) != "–" for bound in interval)
    return f"[{', '.join(map(number_text, interval))}]" if known else ""


def part_lines(claim: Mapping[str, Any]) -> list[str]:
    """What a row rests on where that is more than one number: each with its interval and its line."""
    return [
        f"{part['name']}: {number_text(part['effect'])} {interval_text(part)}, holds {part['side']} "
        f"{number_text(part['line'])}"
        for part in claim.get("parts", ())
    ]


def verdict_table(claims: Sequence[Mapping[str, Any]]) -> Styler:
    """Claims of the ledger as a table to read in a notebook, parts and notes in full; markup in names is text."""
    columns = {
        "id": "id", "task": "task", "said": "verdict", "effect": "effect", "interval": "interval", "level": "level",
        "holds": "holds", "adjusted": "adjusted p", "replication": "comes again",
        "agreement": "other choices", "seeds": "seeds",
        "detectable": "detectable", "unit": "unit", "note": "note",
    }  # fmt: skip
    rows = [claim_row(claim) | {"note": "; ".join([*part_lines(claim), claim["note"]])} for claim in claims]
    table = pd.DataFrame(rows, columns=list(columns)).rename(columns=columns)
    text: Any = [{"selector": "td, th", "props": "text-align: left; vertical-align: top; white-space: normal"}]
    text += [{"selector": "td:last-child", "props": "min-width: 15em"}]
    return table.style.format(escape="html").hide(axis="index").set_table_styles(text)
