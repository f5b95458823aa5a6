"""Charts that seaborn draws, in the look of the study: tables as heat maps, lines with the interval over seeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh

from analysis.figures.style import NOTE_COLOR, ArmStyle
from analysis.statistics.intervals import mean_interval

COLORS = "viridis"  # of a similarity, 0 to 1


def heat_map(
    ax: Axes, values: pd.DataFrame, low: float, high: float, *, colors: Any = COLORS, words: Any = None,
    square: bool = False,
) -> ScalarMappable:  # fmt: skip
    """A table as colored cells with the names of its rows and columns; what is missing stays white.

    Args:
        low, high: values of the ends of the scale.
        words: what stands in the cells, in the shape of the table.

    Returns:
        What a scale of colors can be made of.
    """
    sns.heatmap(
        values, ax=ax, vmin=low, vmax=high, cmap=colors, annot=words, fmt="", annot_kws={"fontsize": 10}, cbar=False,
        square=square, xticklabels=True, yticklabels=True,
    )  # fmt: skip
    if words is not None:  # seaborn writes into cells with a value only
        for y, x in np.argwhere(values.isna().to_numpy()):
            ax.text(x + 0.5, y + 0.5, words[y][x], ha="center", va="center", fontsize=10, color=NOTE_COLOR)
    ax.set(xlabel="", ylabel="")
    ax.grid(visible=False)
    ax.tick_params(length=0, rotation=0)
    return meshes(ax)[0]


def meshes(ax: Axes) -> list[QuadMesh]:
    """The heat maps of axes."""
    return [each for each in ax.collections if isinstance(each, QuadMesh)]


def lines(
    ax: Axes, rows: pd.DataFrame, x: str, y: str, line: str, looks: Mapping[str, ArmStyle], *, bars: bool = False,
    intervals: bool = True, dashed: Collection[str] = (), **how: Any,
) -> None:  # fmt: skip
    """The mean of the rows at every x with its 95 % t interval, a line per value of the column `line`.

    Args:
        looks: color and marker of every line, in the order of the legend.
        bars: intervals as bars, and not as a band.
        intervals: whether there are any. dashed: lines that are. how: of the lines, as matplotlib has it.
    """

    dashes: dict[str, Any] = {name: (4, 2) if name in dashed else "" for name in looks}

    def interval(values: pd.Series) -> tuple[float, float]:
        found = mean_interval(values)
        return found.low, found.high

    sns.lineplot(
        rows, x=x, y=y, hue=line, style=line, hue_order=list(looks), style_order=list(looks), ax=ax, dashes=dashes,
        palette={name: look.color for name, look in looks.items()}, markeredgewidth=0,
        markers={name: look.marker for name, look in looks.items()}, errorbar=interval if intervals else None,
        err_style="bars" if bars else "band", err_kws={} if bars else {"alpha": 0.15, "linewidth": 0}, **how,
    )  # fmt: skip
    drawn = ax.get_legend()
    if drawn is not None:  # over the lines; figures have theirs beside the axes, of the same names
        drawn.remove()


def values_so_far(curves: pd.DataFrame, value: str, line: str) -> pd.DataFrame:
    """Rows for `lines` with the columns line, run_id, step and value: a run that stopped early keeps its last value."""
    parts = []
    for name, own in curves.groupby(line):
        wide = own.pivot_table(index="run_id", columns="step", values=value).ffill(axis=1)
        parts.append(wide.reset_index().melt("run_id", var_name="step", value_name=value).assign(**{line: name}))
    return pd.concat(parts, ignore_index=True) if parts else curves[[line, "run_id", "step", value]]
