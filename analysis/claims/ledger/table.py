"""Rows of the ledger in words and numbers: the verdict table of notebooks and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

TEXTS = ("id", "paper", "statement", "task", "verdict", "unit", "note", "notebook", "figure", "test")


def by_claim(claims: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, str], list[dict[str, str]]]]:
    """Rows of the ledger under the claim that they speak of, in the order in which the claims come."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in map(claim_row, claims):
        found.setdefault((row["id"], row["statement"]), []).append(row)
    return [(rows[0], rows) for rows in found.values()]


def number_text(value: Any) -> str:
    """A number to three digits, and a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def claim_row(claim: Mapping[str, Any]) -> dict[str, str]:
    """A claim of the ledger as text for one row of a table."""
    interval: Sequence[Any] | None = claim.get("interval")
    known = interval is not None and any(number_text(bound) != "–" for bound in interval)
    texts = {key: number_text(claim.get(key)) for key in ("effect", "detectable", "seeds")}
    texts |= {key: str(claim.get(key) or "") for key in TEXTS}
    return {**texts, "interval": f"[{', '.join(map(number_text, interval))}]" if known and interval else ""}


def verdict_table(claims: Sequence[Mapping[str, Any]]) -> Styler:
    """Claims of the ledger as a table to read in a notebook, notes in full."""
    columns = ["id", "task", "verdict", "effect", "interval", "seeds", "detectable", "unit", "note"]
    table = pd.DataFrame([claim_row(claim) for claim in claims], columns=columns)
    text: Any = [{"selector": "td, th", "props": "text-align: left; vertical-align: top; white-space: normal"}]
    text += [{"selector": "td:last-child", "props": "min-width: 15em"}]
    return table.style.hide(axis="index").set_table_styles(text)
