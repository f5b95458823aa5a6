"""Figures of the report `probe`. Table in, axes out; similarity has one scale, 0 to 1."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.charts import heat_map, meshes
from analysis.figures.style import NOTE_COLOR, axes, empty_axes, study_style

VERDICTS = {"looks random": 0.0, "no verdict": 0.5, "not random": 1.0}


def _layers(table: pd.DataFrame, name: str) -> list[str]:
    """The layers of a series, in their order."""
    return list(dict.fromkeys(table[table.series == name].layer))


def _side_by_side(table: pd.DataFrame, width: float, *, share: bool = True) -> tuple[list[str], np.ndarray]:
    """Names of the series, and a panel for each, with its layers down; `share`: named once where they are the same."""
    names = list(dict.fromkeys(table.series))
    own = [_layers(table, name) for name in names]
    tall = max(len(each) for each in own)
    share, size = share and own[0] == own[-1], (3.5 + width * len(names), 1.8 + 0.24 * tall)
    _, grid = plt.subplots(1, len(names), figsize=size, sharey=share, squeeze=False)
    return names, grid


@study_style
def filters_over_checkpoints(table: pd.DataFrame) -> Axes:
    """Median angle of filters to the first checkpoint, layers down and checkpoints across, a panel a series.

    Args:
        table: from `weights_alone.moves`.
    """
    if not len(table):
        return empty_axes(axes(None), "How far filters moved", "there is one checkpoint only; give a folder of several")
    names, grid = _side_by_side(table, 4.2)
    for ax, name in zip(grid[0], names, strict=True):
        own = table[table.series == name]
        checkpoints = list(dict.fromkeys(own.checkpoint))
        values = own.pivot(index="layer", columns="checkpoint", values="angle_median")
        values = values.reindex(_layers(table, name))[checkpoints]
        values["independent"] = own.groupby("layer").angle_random_q05.first()
        heat_map(ax, values, 0, 90)
        ax.axvline(len(checkpoints), color="white", linewidth=3)
        ax.set_title(name, loc="left", fontsize=12)
        _slanted(ax)
    note = "median over a layer's filters; last column: what 95 % of independent random filters exceed"
    return _framed(grid, "Angle of filters to the first checkpoint", note, label="degrees", shrink=0.8, size=11)


@study_style
def verdicts_by_layer(table: pd.DataFrame, null: str) -> Axes:
    """Whether filters look random, layers down and checkpoints across, a panel a series; gray no verdict.

    Args:
        table: verdicts from `weights_alone.randomness`.
        null: what it was tested against.
    """
    names, grid = _side_by_side(table, 3.4)
    for ax, name in zip(grid[0], names, strict=True):
        own, layers = table[table.series == name], _layers(table, name)
        own = own.assign(value=own.verdict.str.split(":").str[0].map(VERDICTS))
        values = own.pivot(index="layer", columns="checkpoint", values="value")
        values = values.reindex(layers)[list(dict.fromkeys(own.checkpoint))]
        words = values.astype("object").map(lambda value: {0.0: "random", 0.5: "?", 1.0: "not random"}.get(value, ""))
        heat_map(ax, values, 0, 1.2, colors="cividis_r", words=words.to_numpy())
        ax.set_title(name, loc="left", fontsize=12)
    note = textwrap.fill(f"null: {null}; at 5 % after Holm's correction; ?: no verdict", 60 + 30 * len(names))
    return _titled(grid, "Do filters look random?", note, size=10)


@study_style
def layer_maps(maps: Mapping[str, pd.DataFrame], note: str) -> Axes:
    """Every layer against every layer, a panel a pair of checkpoints."""
    count = len(maps)
    columns = min(3, count)
    rows = -(-count // columns)
    _, grid = plt.subplots(rows, columns, figsize=(2.4 + 4.1 * columns, 0.8 + 4.6 * rows), squeeze=False)
    for ax, (name, values) in zip(grid.ravel(), maps.items(), strict=False):
        heat_map(ax, values, 0, 1, square=True)
        ax.set_title("\n".join(name.split(" | ")), loc="left", fontsize=11)
        ax.tick_params(axis="x", rotation=90)
        ax.tick_params(labelsize=8)
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
    tall = [1.2 + 0.3 * len(_layers(table, name)) for name in names]
    _, grid = plt.subplots(
        len(names), 2, figsize=(11, 1.2 + sum(tall)), sharey="row", squeeze=False, height_ratios=tall
    )  # fmt: skip
    for row, name in zip(grid, names, strict=True):
        own, layers = table[table.series == name], _layers(table, name)
        checkpoints = list(dict.fromkeys(own.checkpoint))
        for ax, column in zip(row, ("start", "end"), strict=True):
            values = own.pivot(index="layer", columns="checkpoint", values=column).reindex(layers)[checkpoints]
            heat_map(ax, values, 0, 1)
            ax.set_title(f"{name}, to its {column}", loc="left", fontsize=12)
            _slanted(ax)
    return _framed(grid, "Layers over checkpoints", note, shrink=0.8)


@study_style
def corresponding_layers(table: pd.DataFrame, method: str) -> Axes:
    """The best match of each layer in the other network with its interval, and that of the untrained networks.

    Args:
        table: from `with_images.counterparts`. method: what the interval is.
    """
    names, grid = _side_by_side(table, 5.2, share=False)
    for ax, name in zip(grid[0], names, strict=True):
        own = table[table.series == name].reset_index(drop=True)
        ax.set_yticks(own.index, own.layer)
        ax.hlines(own.index, own.low, own.high, color="#0072B2", linewidth=1.6)
        ax.plot(own.similarity, own.index, "o", color="#0072B2", label="last checkpoints")
        if own.untrained.notna().any():
            ax.plot(own.untrained, own.index, "o", color=NOTE_COLOR, fillstyle="none", label="untrained, best match")
        beside = ax.secondary_yaxis("right")
        beside.set_yticks(own.index, own.counterpart)
        ax.set_xlim(0, 1.02)
        ax.set_ylim(len(own) - 0.5, -0.5)
        ax.set_xlabel("CKA")
        ax.grid(visible=True, axis="x")
        ax.set_title(f"{name} (left), best match in {own.other.iloc[0]} (right)", loc="left", fontsize=12)
    grid[0, 0].figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return _titled(grid, "Which layers of the two networks correspond?", f"bars: {method}", size=10)


def _slanted(ax: Axes) -> None:
    """Names of columns that are too long to stand side by side."""
    ax.set_xticks(ax.get_xticks(), [each.get_text() for each in ax.get_xticklabels()], rotation=60, ha="right")


def _titled(grid: np.ndarray, title: str, note: str, size: int) -> Axes:
    """Title over all panels and a note below them; the first of them. `size`: of the note's letters, in points."""
    figure = grid[0, 0].figure
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(note, fontsize=size, color=NOTE_COLOR)
    return grid[0, 0]


def _framed(grid: np.ndarray, title: str, note: str, *, label: str = "CKA", shrink: float, size: int = 10) -> Axes:
    """Title, note and the scale of colors that all panels share; the first of them.

    Args:
        label: what colors stand for. shrink: length of the scale, in heights. size: of the note's letters, in points.
    """
    figure, image = grid[0, 0].figure, meshes(grid[0, 0])[0]
    figure.colorbar(image, ax=grid, label=label, shrink=shrink)
    return _titled(grid, title, note, size)


@study_style
def dimension_over_depth(table: pd.DataFrame) -> Axes:
    """Effective dimension of representations over depth, a line for the first and the last checkpoint of a series.

    Args:
        table: from `with_images.dimensions`.
    """
    names = list(dict.fromkeys(table.series))
    alike = all(_layers(table, name) == _layers(table, names[0]) for name in names)
    panels = 1 if alike else len(names)
    _, grid = plt.subplots(1, panels, figsize=(3 + 7 * panels, 5), sharey=True, squeeze=False)
    colors = plt.get_cmap("tab10").colors  # pyright: ignore[reportAttributeAccessIssue]
    for number, name in enumerate(names):
        own, layers, ax = table[table.series == name], _layers(table, name), grid[0, number % panels]
        ends = list(dict.fromkeys(own.checkpoint))
        for end, line in zip(dict.fromkeys((ends[0], ends[-1])), ("--", "-"), strict=False):
            values = own[own.checkpoint == end].set_index("layer").dimension.reindex(layers)
            ax.plot(range(len(layers)), values, line, color=colors[number], marker="o", markersize=4,
                    label=f"{name}, {end}")  # fmt: skip
        ax.set_xticks(range(len(layers)), layers, rotation=60, ha="right")
        ax.set_ylim(bottom=0)
        ax.legend(fontsize=9, loc="lower left", handlelength=3)
    grid[0, 0].set_ylabel("effective dimension")
    note = f"of the images' representations; at most {int(table.most.iloc[0])}"
    return _titled(grid, "Effective dimension over depth", note, size=11)
