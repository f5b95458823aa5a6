"""Figures of representations by layer: what training keeps, how layers evolve, every layer against every layer.

Similarity has one scale in all of them, 0 to 1, with one color map; the bottleneck is marked wherever stages are.
"""

# pandas types every selection as "a table or a series", which no annotation can mend.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import looks
from analysis.compare import Map
from analysis.looks import styled
from analysis.series import bottleneck

COLORS = "viridis"
GROUPS = {
    "own": "from a source", "random": "from random weights", "shared": "from one source",
    "shuffled": "shuffled labels", "untrained": "untrained",
}  # fmt: skip
GROUP_LOOKS = {
    "own": looks.LOOKS["full_finetuning"], "random": looks.LOOKS["scratch"], "shared": looks.Look("#56B4E9", "D"),
    "shuffled": looks.Look("#CC79A7", "X"), "untrained": looks.Look("#999999", "."),
}  # fmt: skip


def mark_stages(ax: Axes, layers: Sequence[str], *, names: bool = True) -> None:
    """Stages along x, the bottleneck marked."""
    ax.set_xticks(range(len(layers)), list(layers) if names else [""] * len(layers), rotation=60)
    ax.axvline(bottleneck(layers), color=looks.NOTE_COLOR, linestyle=":", linewidth=1.2, zorder=1)
    ax.set_xlim(-0.5, len(layers) - 0.5)


@styled
def reuse_profiles(profiles: pd.DataFrame, untrained: pd.DataFrame | None = None) -> Axes:
    """Per task, above: similarity before and after training by stage; below: the difference, which is the reuse.

    Args:
        profiles: of `reuse.profile`, with a column task (a title).
        untrained: task, layer, value: similarity between untrained networks, as a floor to compare with.
    """
    tasks = list(dict.fromkeys(profiles.task))
    height = 7.2
    figure, grid = plt.subplots(2, len(tasks), figsize=(1.6 + 4.2 * len(tasks), height), sharey="row", squeeze=False)
    for column, task in enumerate(tasks):
        rows = profiles[profiles.task == task]
        layers = list(dict.fromkeys(rows.layer))
        places = dict(zip(layers, range(len(layers)), strict=True))
        for quantity, group, axis in (("tuned", "own", 0), ("random", "random", 0), ("reuse", "own", 1)):
            own = rows[rows.quantity == quantity]
            interval_line(grid[axis, column], own.layer.map(places), own, group, GROUPS[group])
        if untrained is not None:
            floor = untrained[untrained.task == task]
            grid[0, column].plot(
                floor.layer.map(places), floor.value, linestyle=":", color=GROUP_LOOKS["untrained"].color,
                label="two untrained networks",
            )  # fmt: skip
        top, below = grid[:, column]
        seeds = int(rows.seeds.min())
        looks.head(top, task, f"{seeds} seeds")
        mark_stages(top, layers, names=False)
        mark_stages(below, layers)
        early = int(rows[rows.early].layer.nunique())
        below.axvspan(-0.5, early - 0.5, color="#f0e6d2", zorder=0)
        below.axhline(0, color="black", linewidth=1)
        top.set_ylim(-0.05, 1.05)
    low, high = profiles[profiles.quantity == "reuse"]["mean"].agg(["min", "max"])
    grid[1, 0].set_ylim(min(-0.3, low - 0.15), max(0.3, high + 0.15))
    grid[0, 0].set_ylabel("CKA, before\nagainst after")
    grid[1, 0].set_ylabel("reuse: source\nminus random")
    looks.legend_beside(grid[0, -1])
    figure.supxlabel(
        f"stage along the data path; dotted: bottleneck; shaded: early encoder; bars: {looks.INTERVAL}", fontsize=11,
        color=looks.NOTE_COLOR,
    )  # fmt: skip
    return grid[0, 0]


def interval_line(ax: Axes, x: pd.Series, rows: pd.DataFrame, group: str, label: str) -> None:
    """Means along x with their intervals, in the look of a group; `rows` has mean, low and high."""
    look = GROUP_LOOKS[group]
    ax.plot(x, rows["mean"], color=look.color, marker=look.marker, label=label)
    for at, row in zip(x, rows.itertuples(), strict=True):
        if np.isfinite(row.low):
            ax.plot([at, at], [row.low, row.high], color=look.color, linewidth=1.4, zorder=2)


@styled
def evolution(table: pd.DataFrame, title: str, note: str) -> Axes:
    """Similarity of every stage to its own start and to its own end, against step: a row of panels an arm.

    A step at which an arm kept no checkpoint stays blank.

    Args:
        table: group, layer, step, start, end (similarity to the first and to the last checkpoint).
    """
    groups = list(dict.fromkeys(table.group))
    layers = list(dict.fromkeys(table.layer))
    steps = sorted(table.step.unique())
    figure, grid = plt.subplots(
        len(groups), 2, figsize=(11, 1.6 + 2.9 * len(groups)), sharex=True, sharey=True, squeeze=False
    )
    image = None
    for row, group in enumerate(groups):
        for column, (quantity, words) in enumerate((("start", "to its start"), ("end", "to its end"))):
            ax = grid[row, column]
            own = table[table.group == group].pivot(index="layer", columns="step", values=quantity)
            image = ax.imshow(own.reindex(index=layers, columns=steps), cmap=COLORS, vmin=0, vmax=1, aspect="auto")
            ax.set_title(f"{GROUPS[group]}, {words}", loc="left", fontsize=12)
            ax.set_yticks(range(len(layers)), layers)
            ax.set_xticks(range(len(steps)), [str(step) for step in steps])
            ax.axhline(bottleneck(layers), color="white", linestyle=":", linewidth=1.2)
            ax.grid(visible=False)
    for ax in grid[-1]:
        ax.set_xlabel("step")
    assert image is not None
    figure.colorbar(image, ax=grid, label="CKA", shrink=0.8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(note, fontsize=11, color=looks.NOTE_COLOR)
    return grid[0, 0]


@styled
def layer_by_layer(maps: Mapping[str, Map], title: str, note: str) -> Axes:
    """Every stage against every stage, a panel a pair of checkpoints, all on one scale; bottleneck marked."""
    figure, grid = plt.subplots(
        1, len(maps), figsize=(1.6 + 3.3 * len(maps), 4.8), sharex=True, sharey=True, squeeze=False
    )
    image = None
    for ax, (name, found) in zip(grid[0], maps.items(), strict=True):
        rows, columns = ([label.layer for label in side] for side in (found.rows, found.columns))
        image = ax.imshow(found.values, cmap=COLORS, vmin=0, vmax=1)
        ax.set_title("\n".join(name.split(" | ")), loc="left", fontsize=12)
        ax.set_xticks(range(len(columns)), columns, rotation=90)
        ax.set_yticks(range(len(rows)), rows)
        ax.axvline(bottleneck(columns), color="white", linestyle=":", linewidth=1.2)
        ax.axhline(bottleneck(rows), color="white", linestyle=":", linewidth=1.2)
        ax.grid(visible=False)
    assert image is not None
    figure.colorbar(image, ax=grid, label="CKA", shrink=0.7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(note, fontsize=11, color=looks.NOTE_COLOR)
    return grid[0, 0]


@styled
def cost(table: pd.DataFrame, note: str) -> Axes:
    """Seconds to represent and to compare, against layers, images and checkpoints, on one logarithmic scale."""
    axes = list(dict.fromkeys(table.axis))
    figure, grid = plt.subplots(1, len(axes), figsize=(12, 4.4), sharey=True, squeeze=False)
    words = {"representing": "forward passes and Gram matrices", "comparing": "comparing all pairs"}
    for ax, axis in zip(grid[0], axes, strict=True):
        own = table[table.axis == axis]
        for quantity, look in zip(words, (looks.LOOKS["full_finetuning"], looks.LOOKS["encoder_only"]), strict=True):
            ax.plot(own.value, own[quantity], color=look.color, marker=look.marker, label=words[quantity])
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(own.value, [str(value) for value in own.value])
        ax.set_xlabel(axis)
    grid[0, 0].set_ylabel("CPU seconds (log scale)")
    looks.legend_beside(grid[0, -1])
    figure.suptitle("What a map costs", x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel("\n".join(textwrap.wrap(note, 120)), fontsize=11, color=looks.NOTE_COLOR)
    return grid[0, 0]
