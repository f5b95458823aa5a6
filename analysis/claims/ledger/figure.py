"""The ledger as a figure, and the colors of verdicts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from analysis.claims.ledger.table import interval_text, number_text
from analysis.figures.style import axes, empty_axes, study_style

VERDICT_COLORS = {"supported": "#9FD3C7", "contradicted": "#F2B6A0", "inconclusive": "#E3E3E3", "not tested": "#FFFFFF"}
SIGNS = {"supported": "+", "contradicted": "−", "inconclusive": "?", "not tested": ""}  # colors are one gray in print


@study_style
def ledger_figure(rows: Sequence[dict[str, Any]], *, ax: Axes | None = None) -> Axes:
    """The verdicts on the claims of one paper: claims down, tasks across, the verdict as color.

    In each cell the sign of the verdict (+, − or ?) and the effect, below it the interval that decides, and what it is
    held against; units stand in the table, as claims have units of their own. A fragile verdict is hatched.
    """
    if not rows:
        return empty_axes(axes(ax), "Claims ledger", "no claim")
    claims = list(dict.fromkeys(row["id"] for row in rows))
    tasks = sorted(dict.fromkeys(row["task"] for row in rows), key=lambda task: (task != "all", task))
    ax = axes(ax, width=max(6.0, 1.5 + 1.2 * len(tasks)), height=2.6 + 0.62 * len(claims))
    for row in rows:
        x, y = tasks.index(row["task"]), claims.index(row["id"])
        color = VERDICT_COLORS[row["verdict"]]
        hatch = "///" if row["fragile"] else None
        cell = Rectangle((x - 0.48, y - 0.45), 0.96, 0.9, facecolor=color, edgecolor="#CCCCCC", hatch=hatch)
        ax.add_patch(cell)
        text = "" if row["verdict"] == "not tested" else "–"
        if row["effect"] is not None:
            effect = f"{SIGNS[row['verdict']]}  {number_text(row['effect'])}"
            text = "\n".join(filter(None, (effect, interval_text(row), _line(row))))
        ax.text(x, y, text, ha="center", va="center", fontsize=9)
    ax.set_xticks(
        range(len(tasks)), ["\n".join(textwrap.wrap(task.replace("_", " "), 13)) for task in tasks], fontsize=10
    )
    ax.set_yticks(range(len(claims)), claims)
    ax.xaxis.tick_top()
    ax.set(xlim=(-0.5, len(tasks) - 0.5), ylim=(len(claims) - 0.5, -0.5))
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    marks = [(f"{SIGNS[word]}  {word}".strip(), color, None) for word, color in VERDICT_COLORS.items()]
    marks += [("fragile", "#FFFFFF", "///")]
    for word, color, hatch in marks:
        ax.add_patch(Rectangle((0, 0), 0, 0, facecolor=color, edgecolor="#CCCCCC", hatch=hatch, label=word))
    columns = 5 if len(tasks) > 5 else 3  # a legend wider than the axes would squeeze them
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.02 - 0.06 / len(claims)), ncols=columns, borderaxespad=0)
    return ax


def _line(row: dict[str, Any]) -> str:
    return "" if row["side"] is None else f"holds {row['side']} {number_text(row['line'])}"
