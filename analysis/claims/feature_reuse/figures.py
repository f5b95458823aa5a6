"""Figures of reuse by layer, separation of groups, spread of runs, and parts of a source."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.claims.feature_reuse.variability import Separation
from analysis.figures.style import (
    INTERVAL,
    NOTE_COLOR,
    arm_style,
    axes,
    legend_beside,
    limits_around,
    mean_mark,
    seeds_text,
    study_style,
    task_title,
    title_and_note,
)
from analysis.representations.figures import GROUP_STYLES, GROUPS, interval_line, mark_stages


@study_style
def group_separation(found: Separation, title: str, *, ax: Axes | None = None) -> Axes:
    """Mean similarity by stage within each group and between them; stages that differ by themselves are starred."""
    ax = axes(ax, width=9)
    table = found.layers
    x = np.arange(len(table))
    lines = (("within", "own", "within: from a source"), ("within_random", "random", "within: random"))
    for column, group, label in lines:
        style = GROUP_STYLES[group]
        ax.plot(x, table[column], color=style.color, marker=style.marker, label=label)
    ax.plot(x, table["between"], color="#D55E00", marker="^", linestyle="--", label="between the two")
    for at, row in enumerate(table.itertuples()):
        if row.adjusted < 0.05:
            ax.annotate("*", (at, 1.0), ha="center", fontsize=16, xycoords=("data", "axes fraction"))
    mark_stages(ax, list(table.layer))
    ax.set_ylim(-0.05, 1.1)
    ax.set(xlabel="stage along the data path", ylabel="CKA of two networks")
    mean = found.difference
    note = (
        f"within - between, mean over stages: {mean.estimate:.3f} [{mean.low:.3f}, {mean.high:.3f}] ({mean.method}); "
        f"permutation p = {found.p:.3g}; star: p < 0.05, adjusted over stages; dotted: bottleneck"
    )
    title_and_note(ax, title, note)
    legend_beside(ax)
    return ax


@study_style
def spread_ratios(table: pd.DataFrame, title: str, *, factor: float = 1.25, ax: Axes | None = None) -> Axes:
    """Spread of fine-tuned over that of random-start networks by stage, log scale; the band is what counts as equal."""
    ax = axes(ax, width=9)
    layers = list(dict.fromkeys(table.layer))
    x = pd.Series(range(len(layers)), index=layers)
    for shift, group in zip((-0.08, 0.08), dict.fromkeys(table.group), strict=False):
        own = table[table.group == group].rename(columns={"ratio": "mean"})
        interval_line(ax, own.layer.map(x) + shift, own, group, f"{GROUPS[group]} ({int(own.seeds.iloc[0])} seeds)")
    ax.axhspan(1 / factor, factor, color="#e6efe6", zorder=0)
    ax.axhline(1, color="black", linewidth=1)
    ax.set_yscale("log")
    ticks = (0.1, 0.25, 0.5, 0.8, 1.25, 2, 4)
    low, high = min(0.4, 0.8 * float(table.ratio.min())), max(2.5, 1.25 * float(table.ratio.max()))
    ax.set_yticks(
        [each for each in ticks if low <= each <= high], [f"{each:g}" for each in ticks if low <= each <= high]
    )
    ax.minorticks_off()
    ax.set_ylim(low, high)
    mark_stages(ax, layers)
    ax.set(xlabel="stage along the data path", ylabel="spread / spread of\nrandom starts")
    title_and_note(ax, title, f"spread: 1 - mean CKA of two networks; bars: 95 % jackknife t intervals over "
               f"test folds; band: within a factor of {factor:g}")  # fmt: skip
    legend_beside(ax)
    return ax


@study_style
def parts_of_a_source(parts: pd.DataFrame) -> Axes:
    """What stages of a source are worth: gain in test Dice, and time to the plateau, a row per task and arm.

    Args:
        parts: of `layer_reuse.transplant_table`.
    """
    rows = parts.reset_index(drop=True)
    figure, grid = plt.subplots(1, 2, figsize=(12, 2.0 + 0.5 * len(rows)), sharey=True)
    for ax, name, neutral in zip(grid, ("gain", "ratio"), (0, 1), strict=True):
        ax.axvline(neutral, color="black", linewidth=1)
        for row in rows.itertuples():
            style = arm_style(row.arm.split(" ")[0])
            value, low, high = (getattr(row, each) for each in (name, f"{name}_low", f"{name}_high"))
            mean_mark(ax, value, row.Index, low, high, style, across=True)
        ax.locator_params(axis="x", nbins=5)
        shown = rows[name].dropna()
        if len(shown):
            reach = [*shown, neutral]
            limits_around(ax.set_xlim, reach, rows[f"{name}_low"], rows[f"{name}_high"], least=0.1)
    several = rows.task.nunique() > 1
    labels = [f"{row.arm}\n{row.task}" if several else row.arm for row in rows.itertuples()]
    grid[0].set_yticks(range(len(rows)), labels)
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    grid[0].set_xlabel("gain in test Dice over scratch")
    grid[1].set_xlabel("time to 95 % of the plateau of both,\nover that of scratch")
    title = task_title(rows) if not several else "Parts of a source"
    figure.suptitle(f"{title}: what parts of a source are worth", x=0.01, ha="left", fontsize=13, fontweight="bold")
    seeds = f"{seeds_text(int(rows.seeds.min()), 0)} at least; wide intervals run out of the picture"
    figure.supxlabel(f"{INTERVAL}; {seeds}", fontsize=11, color=NOTE_COLOR)
    return grid[0]


@study_style
def reuse_profiles(profiles: pd.DataFrame, untrained: pd.DataFrame | None = None) -> Axes:
    """Per task, above: similarity before and after training by stage; below: the difference, which is the reuse.

    Args:
        profiles: of `layer_reuse.reuse_profile`, with a column task (a title).
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
                floor.layer.map(places), floor.value, linestyle=":", color=GROUP_STYLES["untrained"].color,
                label="two untrained networks",
            )  # fmt: skip
        top, below = grid[:, column]
        seeds = int(rows.seeds.min())
        title_and_note(top, task, f"{seeds} seeds")
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
    legend_beside(grid[0, -1])
    figure.supxlabel(
        f"stage along the data path; dotted: bottleneck; shaded: early encoder; bars: {INTERVAL}", fontsize=11,
        color=NOTE_COLOR,
    )  # fmt: skip
    return grid[0, 0]
