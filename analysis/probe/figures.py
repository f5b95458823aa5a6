"""Figures of the report `probe`. Table in, axes out; similarity has one scale, 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import NOTE_COLOR, axes, empty_axes, legend_beside, study_style, title_and_note

COLORS = "viridis"
VERDICTS = {"looks random": 0.0, "no verdict": 0.5, "not random": 1.0}


@study_style
def filters_over_checkpoints(table: pd.DataFrame) -> Axes:
    """Median angle of filters to the first checkpoint, layers down and checkpoints across, a panel a series.

    Args:
        table: from `weights_alone.moves`.
    """
    if not len(table):
        return empty_axes(axes(None), "How far filters moved", "there is one checkpoint only; give a folder of several")
    names = list(dict.fromkeys(table.series))
    layers = list(dict.fromkeys(table.layer))
    _, grid = plt.subplots(
        1, len(names), figsize=(3.5 + 4.2 * len(names), 1.8 + 0.24 * len(layers)), sharey=True, squeeze=False
    )
    for ax, name in zip(grid[0], names, strict=True):
        own = table[table.series == name]
        checkpoints = list(dict.fromkeys(own.checkpoint))
        values = own.pivot(index="layer", columns="checkpoint", values="angle_median").reindex(layers)[checkpoints]
        values["independent"] = own.groupby("layer").angle_random_q05.first()
        checkpoints.append("independent")
        ax.imshow(values, cmap=COLORS, vmin=0, vmax=90, aspect="auto")
        ax.axvline(len(checkpoints) - 1.5, color="white", linewidth=3)
        ax.set_title(name, loc="left", fontsize=12)
        ax.set_xticks(range(len(checkpoints)), checkpoints, rotation=60, ha="right")
        ax.set_yticks(range(len(layers)), layers)
        ax.grid(visible=False)
    note = "median over a layer's filters; last column: what 95 % of independent random filters exceed"
    return _framed(grid, "Angle of filters to the first checkpoint", note, label="degrees", shrink=0.8, size=11)


@study_style
def verdicts_by_layer(table: pd.DataFrame, null: str) -> Axes:
    """Whether filters look random, layers down and checkpoints across: light random, dark not, gray no verdict.

    Args:
        table: verdicts from `weights_alone.randomness`.
        null: what it was tested against.
    """
    columns = list(dict.fromkeys(zip(table.series, table.checkpoint, strict=True)))
    layers = list(dict.fromkeys(table.layer))
    values = np.full((len(layers), len(columns)), np.nan)
    for row in table.itertuples():
        kind = str(row.verdict).split(":")[0]
        values[layers.index(row.layer), columns.index((row.series, row.checkpoint))] = VERDICTS[kind]
    ax = axes(None, width=5 + 1.2 * len(columns), height=2.4 + 0.24 * len(layers))
    ax.imshow(values, cmap="cividis_r", vmin=0, vmax=1.2, aspect="auto")
    ax.set_xticks(range(len(columns)), [f"{series}\n{checkpoint}" for series, checkpoint in columns])
    ax.set_yticks(range(len(layers)), layers)
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            ax.text(x, y, {0.0: "random", 0.5: "?", 1.0: "not random"}[value], ha="center", va="center", fontsize=9,
                    color="white" if value == 1 else "black")  # fmt: skip
    ax.grid(visible=False)
    title_and_note(ax, "Do filters look random?", f"null: {null}; at 5 % after Holm's correction; ?: no verdict")
    return ax


@study_style
def layer_maps(maps: Mapping[str, pd.DataFrame], note: str) -> Axes:
    """Every layer against every layer, a panel a pair of checkpoints."""
    count = len(maps)
    columns = min(3, count)
    rows = -(-count // columns)
    _, grid = plt.subplots(rows, columns, figsize=(2.4 + 4.1 * columns, 0.8 + 4.6 * rows), squeeze=False)
    for ax, (name, values) in zip(grid.ravel(), maps.items(), strict=False):
        ax.imshow(values, cmap=COLORS, vmin=0, vmax=1)
        ax.set_title("\n".join(name.split(" | ")), loc="left", fontsize=11)
        ax.set_xticks(range(values.shape[1]), list(values.columns), rotation=90, fontsize=8)
        ax.set_yticks(range(values.shape[0]), list(values.index), fontsize=8)
        ax.grid(visible=False)
    for ax in grid.ravel()[count:]:
        ax.set_axis_off()
    return _framed(grid, "Layers against layers", note, shrink=0.7)


@study_style
def layers_over_checkpoints(table: pd.DataFrame, note: str) -> Axes:
    """Similarity of each layer to itself at the first and at the last checkpoint, a row of panels a series.

    Args:
        table: from `with_images.to_ends`.
    """
    names = list(dict.fromkeys(table.series))
    layers = list(dict.fromkeys(table.layer))
    _, grid = plt.subplots(
        len(names), 2, figsize=(11, 1.2 + (1.2 + 0.3 * len(layers)) * len(names)), sharey=True, squeeze=False
    )
    for row, name in zip(grid, names, strict=True):
        own = table[table.series == name]
        checkpoints = list(dict.fromkeys(own.checkpoint))
        for ax, column in zip(row, ("start", "end"), strict=True):
            values = own.pivot(index="layer", columns="checkpoint", values=column).reindex(layers)[checkpoints]
            ax.imshow(values, cmap=COLORS, vmin=0, vmax=1, aspect="auto")
            ax.set_title(f"{name}, to its {column}", loc="left", fontsize=12)
            ax.set_xticks(range(len(checkpoints)), checkpoints, rotation=60, ha="right")
            ax.set_yticks(range(len(layers)), layers)
            ax.grid(visible=False)
    return _framed(grid, "Layers over checkpoints", note, shrink=0.8)


def _framed(grid: np.ndarray, title: str, note: str, *, label: str = "CKA", shrink: float, size: int = 10) -> Axes:
    """Title, note and the scale of colors that all panels share; the first of them.

    Args:
        label: what colors stand for. shrink: length of the scale, in heights. size: of the note's letters, in points.
    """
    figure, image = grid[0, 0].figure, grid[0, 0].images[0]
    figure.colorbar(image, ax=grid, label=label, shrink=shrink)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(note, fontsize=size, color=NOTE_COLOR)
    return grid[0, 0]


@study_style
def dimension_over_depth(table: pd.DataFrame) -> Axes:
    """Effective dimension of representations over depth, a line for the first and the last checkpoint of a series.

    Args:
        table: from `with_images.dimensions`.
    """
    ax = axes(None, width=10)
    layers = list(dict.fromkeys(table.layer))
    colors = plt.get_cmap("tab10").colors  # pyright: ignore[reportAttributeAccessIssue]
    for number, name in enumerate(dict.fromkeys(table.series)):
        own = table[table.series == name]
        ends = list(dict.fromkeys(own.checkpoint))
        for end, line in zip(dict.fromkeys((ends[0], ends[-1])), ("--", "-"), strict=False):
            values = own[own.checkpoint == end].set_index("layer").dimension.reindex(layers)
            ax.plot(range(len(layers)), values, line, color=colors[number], marker="o", markersize=4,
                    label=f"{name}, {end}")  # fmt: skip
    ax.set_xticks(range(len(layers)), layers, rotation=60, ha="right")
    ax.set_ylim(bottom=0)
    ax.set_ylabel("effective dimension")
    title_and_note(ax, "Effective dimension over depth",
                   f"of the images' representations; at most {int(table.most.iloc[0])}")  # fmt: skip
    legend_beside(ax)
    return ax
