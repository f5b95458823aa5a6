"""Rows of the ledger in words and numbers: the verdict table of notebooks and pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from IPython.display import HTML

NUMBERS = ("effect", "line", "detectable", "seeds", "p", "adjusted", "replication")
TEXTS = ("side", "id", "paper", "statement", "task", "verdict", "unit", "note", "notebook", "figure", "test")


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
    said += ", support withheld" if claim.get("withheld") else ""
    level = claim.get("level")
    share = claim.get("agreement")
    agree = "–" if share is None else f"{100 * share:.0f} %"
    shown = {"interval": interval_text(claim), "holds": side, "said": said, "agreement": agree}
    shown["part"] = deciding_part(claim)
    return {**texts, **shown, "level": f"{100 * level:.3g} %" if level else ""}


def interval_text(claim: Mapping[str, Any]) -> str:
    """The interval of a row, or of a part of one, in brackets; nothing where there is none."""
    interval = claim.get("interval") or ()
    known = any(number_text(bound) != "–" for bound in interval)
    return f"[{', '.join(map(number_text, interval))}]" if known else ""


def row_numbers(claim: Mapping[str, Any]) -> str:
    """The effect of a row, or of a part of one, with its interval."""
    return f"{number_text(claim.get('effect'))} {interval_text(claim)}".rstrip()


def deciding_part(claim: Mapping[str, Any]) -> str:
    """The name of the part whose numbers a row shows, as it decides; nothing where the row rests on one number."""
    shown = [claim.get(key) for key in ("effect", "line", "side")]
    return next((p["name"] for p in claim.get("parts", ()) if [p["effect"], p["line"], p["side"]] == shown), "")


def part_lines(claim: Mapping[str, Any]) -> list[str]:
    """What a row rests on where that is more than one number: each with its interval and its line."""
    return [
        f"{part['name']}: {row_numbers(part)}, holds {part['side']} {number_text(part['line'])}"
        for part in claim.get("parts", ())
    ]


def ledger_lines(claims: Iterable[Mapping[str, Any]]) -> list[str]:
    """The ledger as lines to print: claim by claim its rows, each with the interval that decides and its level."""
    lines = []
    for (name, statement, unit), rows in groupby(claims, lambda row: (row["id"], row["statement"], row["unit"])):
        lines += [f"{name} {statement}", f"   effect: {unit}"]
        for row in map(claim_row, rows):
            if row["verdict"] == "not tested":
                lines.append(f"   {row['task']:24} not tested: {row['note'] or 'no runs'}")
                continue
            level = f" at {row['level']}" if row["level"] else ""
            holds = f", holds {row['holds']}" if row["holds"] else ""
            part = f" ({row['part']})" if row["part"] else ""
            numbers = f"{row['effect']} {row['interval']}{level}{holds}{part}, {row['seeds']} seeds"
            lines.append(f"   {row['task']:24} {row['said']:22} {numbers}")
    return lines


_SHOWN = {
    "id": "id", "task": "task", "said": "verdict", "effect": "effect", "interval": "interval",
    "level": "level", "holds": "holds", "adjusted": "adjusted p", "replication": "comes again",
    "agreement": "other choices", "seeds": "seeds", "detectable": "detectable",
}  # fmt: skip


def verdict_table(claims: Sequence[Mapping[str, Any]]) -> HTML:
    """Claims of the ledger as a table to read in a notebook; below each row its unit, parts and note in full.

    Markup in names is text.
    """
    lines = [
        "<table><thead><tr>",
        *(f'<th scope="col">{name}</th>' for name in _SHOWN.values()),
        "</tr></thead><tbody>",
    ]
    for claim in claims:
        row = claim_row(claim)
        lines += ["<tr>", *(f'<td style="text-align: left">{escape(row[key])}</td>' for key in _SHOWN), "</tr>"]
        decides = f"Decides: {row['part']}" if row["part"] else ""
        told = "<br>".join(map(escape, filter(None, (row["unit"], decides, *part_lines(claim), row["note"]))))
        lines.append(f'<tr><td></td><td colspan="{len(_SHOWN) - 1}" style="text-align: left">{told}</td></tr>')
    return HTML("\n".join([*lines, "</tbody></table>"]))
