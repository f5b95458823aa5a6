"""The specification curve of a claim: every row of the ledger under every choice, in order of effect."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.claims.ledger.choices.specifications import OWN
from analysis.figures.style import axes, empty_axes, limits_around, study_style, title_and_note

COLORS = {"supported": "#1B8A72", "contradicted": "#C8502B", "inconclusive": "#8A8A8A"}
GAP = 2  # places between two tasks


@study_style
def specification_curve(table: pd.DataFrame, claim: str, *, ax: Axes | None = None) -> Axes:
    """The effects of a claim under all choices, task by task in ascending order, with their intervals and lines.

    Named are the study's own choice and those that come to another verdict. A metric in another unit (HD95, SSIM)
    stands where it lies from its line in units of its interval: drawn as wide as the study's own, and hollow. Other
    measures of similarity share the range of CKA and stand as measured.

    Args:
        table: of `specifications`.
    """
    rows = table[(table.claim == claim) & table.effect.notna()]
    if not len(rows):
        return empty_axes(axes(ax), f"{claim} under other choices", "no row of this claim was tested")
    parts = [_drawn(own) for _, own in rows.groupby("task", sort=False)]
    width = sum(map(len, parts)) + GAP * (len(parts) - 1)
    ax = axes(ax, width=min(16.0, max(7.0, 2.0 + 0.22 * width)), height=5.2)
    ticks, names, heads, start = [], [], [], 0
    for part in parts:
        places = start + np.arange(len(part))
        for verdict, color in COLORS.items():
            chosen = (part.verdict == verdict).to_numpy()
            _marks(ax, places[chosen], part[chosen], color)
        ax.hlines(part.line, places - 0.45, places + 0.45, color="#222222", linewidth=1.2, zorder=2)
        told = (part.choice == OWN) | (part.agrees != "same")
        ticks += list(places[told.to_numpy()])
        names += ["\n".join(textwrap.wrap(name, 24)) for name in part.choice[told]]
        heads.append(textwrap.fill(str(part.task.iloc[0]).replace("_", " "), max(10, int(1.6 * len(part)))))
        ax.annotate(
            heads[-1], (start - 0.5, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
            fontsize=10,
        )  # fmt: skip
        start += len(part) + GAP
    ax.set_xticks(ticks, names, rotation=90, fontsize=8)
    own, drawn = rows[rows.choice == OWN].iloc[0], pd.concat(parts).astype({"low": "float64", "high": "float64"})
    outside = limits_around(ax.set_ylim, [*drawn.effect, *drawn.line], drawn.low, drawn.high)
    ax.set(xlim=(-1, start - GAP), ylabel="\n".join(textwrap.wrap(str(own.unit), 40)))
    ax.grid(visible=False, axis="x")
    for verdict, color in COLORS.items():
        ax.plot([], [], "o", color=color, label=verdict)
    ax.plot([], [], "D", color="white", markeredgecolor="black", label=OWN)
    ax.plot([], [], color="#222222", label=f"the line; holds {own.side}")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    note = "every choice with the interval that decides in its ledger; named: the study's own, and what says otherwise"
    if drawn.other.any():
        note += "; hollow: another unit, scaled to an interval of the same width"
    lines = 1 + max(head.count("\n") for head in heads)
    title_and_note(ax, f"{claim} under other choices", note + outside, lift=6 + 13 * lines)
    return ax


def _drawn(rows: pd.DataFrame) -> pd.DataFrame:
    """The specifications of one row of the ledger in order of effect, those in another unit on the scale of the own."""
    own = rows[rows.choice == OWN].iloc[0]
    other = ((rows.unit != own.unit) & (rows.changes == "metric")).to_numpy()
    numbers = ["effect", "low", "high", "line"]
    values = rows[numbers].to_numpy(dtype=np.float64, copy=True)
    wide = values[:, 2] - values[:, 1]
    scale = np.divide(own.high - own.low, wide, out=np.zeros(len(rows)), where=wide > 0)
    values[other] = own.line + (values[other] - values[other, 3:]) * scale[other, None]
    return rows.assign(other=other, **dict(zip(numbers, values.T, strict=True))).sort_values("effect", kind="stable")


def _marks(ax: Axes, places: np.ndarray, rows: pd.DataFrame, color: str) -> None:
    """Intervals and marks of one verdict; the study's own as a diamond with a black edge."""
    own, hollow = (rows.choice == OWN).to_numpy(), rows.other.to_numpy()
    ax.vlines(places, rows.low.astype("float64"), rows.high.astype("float64"), color=color, linewidth=1.6, zorder=3)
    for chosen, marker, face, edge in (
        (~own & ~hollow, "o", color, color), (hollow, "o", "white", color), (own, "D", color, "black"),
    ):  # fmt: skip
        ax.plot(
            places[chosen], rows.effect[chosen], marker, markerfacecolor=face, markeredgecolor=edge, markersize=5,
            linestyle="none", zorder=4,
        )  # fmt: skip
