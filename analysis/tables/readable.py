"""A table as a reader sees it: names and units in words, numbers with as many digits as they have, gaps as dashes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from html import escape
from numbers import Integral, Real
from typing import Any

import pandas as pd
from IPython.display import HTML

NAMES = {
    "volume_label": "training set", "volume": "training set", "lr": "learning rate", "low": "95 % from",
    "high": "95 % to", "trainable": "trained parameters", "seconds": "time (s)", "psnr": "PSNR (dB)", "ssim": "SSIM",
    "nmse": "NMSE", "dice": "Dice", "rho": "rank correlation", "p": "p", "p_holm": "p (Holm)",
    "adjusted": "p (adjusted)", "kilobytes": "size (kB)", "angle": "angle (°)", "angle_median": "angle, median (°)",
    "independent": "angle of independent filters (°)", "energy_top1": "energy in first direction",
    "energy_top1_random": "the same, random", "sign_flips_median": "sign flips, median",
    "relative_change_median": "relative change, median", "norm_ratio_median": "ratio of norms, median",
    "rank_before": "rank before", "rank_after": "rank after", "rank_random": "rank, random",
    "dead_after": "dead filters", "lost": "Dice lost", "lost_by_chance": "Dice lost by chance",
    "ratio": "time over scratch", "gain": "gain", "peak_mb": "memory (MB)", "start_psnr": "PSNR unadapted (dB)",
    "zero_filled_psnr": "PSNR zero-filled (dB)",
}  # fmt: skip
PERCENT = frozenset({"agreement", "foreground"})
P_VALUES = frozenset({"p", "p_holm", "adjusted", "p (adjusted)"})
DIGITS = {
    "psnr": 2, "start_psnr": 2, "zero_filled_psnr": 2, "seconds": 1, "kilobytes": 1, "lr": None, "angle": 1,
    "angle_median": 1, "independent": 1, "rank_before": 1, "rank_after": 1, "rank_random": 1,
}  # fmt: skip
LEAST_P = 1e-4


def shown(table: pd.DataFrame, caption: str, *, name: str = "", names: Mapping[str, str] | None = None) -> HTML:
    """A table to read in a notebook and on its page, where columns sort by a click.

    Args:
        caption: what the rows are. name: what it is published by; gives it an address on the page.
        names: words for columns that `NAMES` does not know or calls otherwise; others lose their underscores.
    """
    named = [level for level in table.index.names if level is not None]
    table = table.reset_index(named) if named else table
    words = NAMES | dict(names or {})
    columns = [_column(column, words) for column in table.columns]
    number = [pd.api.types.is_numeric_dtype(table.dtypes.iloc[at]) for at in range(table.shape[1])]
    heads = [
        f'<th scope="col"{_kind(numeric)}>{escape(text)}</th>' for text, numeric in zip(columns, number, strict=True)
    ]
    rows = []
    for row in table.itertuples(index=False):
        cells = []
        for at, (value, column) in enumerate(zip(row, table.columns, strict=True)):
            tag, scope = ("th", ' scope="row"') if at == 0 else ("td", "")
            order = f' data-order="{float(value):.9g}"' if isinstance(value, Real) and not _missing(value) else ""
            cells.append(f"<{tag}{scope}{_kind(number[at])}{order}>{escape(cell_text(value, str(column)))}</{tag}>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    empty = "" if rows else f'<tr><td colspan="{max(1, len(columns))}">no row</td></tr>'
    address = f' id="table-{escape(name)}"' if name else ""
    return HTML(
        f'<div class="table" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="shown"{address}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{''.join(heads)}</tr></thead>"
        f"<tbody>{''.join(rows)}{empty}</tbody></table></div>"
    )


def p_text(p: float) -> str:
    """A p-value as text; one too small for its digits is not 0."""
    return f"< {LEAST_P:.4f}" if p < LEAST_P else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def cell_text(value: Any, column: str) -> str:
    """A cell as text, by the kind of its value and the name of its column."""
    if isinstance(value, list | tuple):
        return ", ".join(cell_text(each, column) for each in value) or "–"
    if _missing(value):
        return "–"
    if type(value).__name__ in ("bool", "bool_"):  # NumPy's has had both names
        return "yes" if value else "no"
    if column in PERCENT and isinstance(value, Real):
        return f"{100 * float(value):.0f} %"
    if column in P_VALUES and isinstance(value, Real):
        return p_text(float(value))
    if isinstance(value, Integral):
        return f"{int(value):,}" if column not in ("seed", "step") else str(int(value))
    if isinstance(value, Real):
        return _number(float(value), DIGITS.get(column, 3))
    return _title(str(value)) if column in ("task", "target") else str(value)


def _number(value: float, digits: int | None) -> str:
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    if value == round(value) and abs(value) < 1e15 and abs(value) >= 10:
        return f"{value:,.0f}"
    if digits is None or 0 < abs(value) < 10.0**-digits:
        return f"{value:.2g}"
    return f"{value:,.{digits if abs(value) < 100 else 1}f}"


def _missing(value: Any) -> bool:
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or value == ""
        or (isinstance(value, float) and math.isnan(value))
    )


def _kind(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _column(column: Any, words: Mapping[str, str]) -> str:
    parts = [str(part) for part in (column if isinstance(column, tuple) else (column,)) if str(part)]
    return ", ".join(words.get(part, part.replace("_", " ")) for part in parts)


@functools.cache
def _title(task: str) -> str:
    """The title of a task that is known by this name, with its sampling rate where it has one."""
    from lib.common.errors import StudyError
    from lib.data.tasks.task import get_task

    name, rate, value = task.partition("@")
    try:
        return get_task(name).title + (f", rate {value}" if rate else "")
    except StudyError:
        return task
