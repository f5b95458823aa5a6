"""Figures of what transfer is worth: time to the plateau, gains, and the ledger of claims. Table in, axes out."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from analysis.figures.style import (
    ARM_STYLES,
    INTERVAL,
    NOTE_COLOR,
    arm_labels,
    arm_style,
    arms_in_order,
    axes,
    empty_axes,
    legend_below,
    legend_beside,
    limits_around,
    mean_mark,
    percent,
    row_name,
    seed_points,
    seeds_text,
    study_style,
    task_title,
    title_and_note,
)
from analysis.statistics.intervals import mean_interval, time_ratio


@study_style
def plateau_times(times: pd.DataFrame, *, fraction: float = 0.95, ax: Axes | None = None) -> Axes:
    """Steps to a fraction of the plateau, a row per task and volume, a mark per seed, pairs joined by a line.

    With two arms, both are timed to the plateau that the two share, and the ratio of restricted times stands at the
    right; with more, each is timed to the one that it shares with its reference. Open marks with an arrow are runs that
    never got there, at their whole budget.
    """
    title = f"Steps to {percent(fraction)} of the plateau"
    rows = times[np.isclose(times.fraction.astype("float64"), fraction) & times.steps.notna()]
    rows = _at_shared_levels(rows.assign(label=arm_labels(rows)))
    cells = list(dict.fromkeys(zip(rows.task, rows.volume_label, strict=True)))
    ax = axes(ax, width=10, height=1.8 + max(0.62, 0.13 * rows.label.nunique()) * max(2, len(cells)))
    if not cells:
        return empty_axes(ax, title, "no run with a plateau")
    labels = arms_in_order(rows.label)
    lanes = dict(zip(labels, np.linspace(-0.26, 0.26, len(labels)) if len(labels) > 1 else [0.0], strict=True))
    for place, (task, volume_label) in enumerate(cells):
        own = rows[(rows.task == task) & (rows.volume_label == volume_label)]
        for _, pair in own.groupby(["seed", "fold"]):
            pair = pair.assign(lane=place + pair.label.map(lanes)).sort_values("lane")
            if len(labels) == 2 and len(pair) == 2:
                ax.plot(pair.steps, pair.lane, color="#BBBBBB", linewidth=1, zorder=1)
            for run in pair.itertuples():
                style = arm_style(run.label)
                face = style.color if run.reached else "white"
                ax.plot(run.steps, run.lane, marker=style.marker, color=style.color, markerfacecolor=face, zorder=3)
                if not run.reached:
                    ax.annotate("", (run.steps, run.lane), (20, 0), textcoords="offset points",
                                arrowprops={"arrowstyle": "<-", "color": style.color, "shrinkB": 5})  # fmt: skip
        if len(labels) == 2:
            ax.text(1.02, place, _ratio_text(own, labels), transform=ax.get_yaxis_transform(), va="center", fontsize=11)
    for label in labels:
        style = arm_style(label)
        ax.plot([], [], marker=style.marker, color=style.color, linestyle="none", label=label)
    if not rows.reached.all():
        ax.plot([], [], marker="o", color=NOTE_COLOR, markerfacecolor="white", linestyle="none",
                label="never reached (at its budget)")  # fmt: skip
    names = [row_name(rows[(rows.task == task) & (rows.volume_label == volume)]) for task, volume in cells]
    ax.set_yticks(range(len(cells)), names)
    ax.set_ylim(len(cells) - 0.5, -0.5)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7), numticks=40))
    ax.xaxis.set_major_formatter(lambda step, _: f"{step:g}")
    ax.minorticks_off()
    ax.set_xlabel("optimizer steps (log scale)")
    ax.grid(False, axis="y")
    note = f"one mark per seed; at the right: steps of {labels[-1]} / {labels[0]}, 95 % t interval of log ratios"
    title_and_note(ax, title, note if len(labels) == 2 else "one mark per seed")
    legend_below(ax)
    return ax


def _at_shared_levels(rows: pd.DataFrame) -> pd.DataFrame:
    """With two arms, the times of the reference to the level of its pair instead of to its own."""
    if rows.label.nunique() != 2:
        return rows
    other = rows[rows.strategy != "scratch"]
    of_reference = {name: other[f"reference_{name}"] for name in ("steps", "reached")}
    label = rows.label[rows.strategy == "scratch"]
    if not len(other) or not len(label):
        return rows
    return pd.concat([other.assign(**of_reference, label=label.iloc[0], strategy="scratch"), other], ignore_index=True)


def _ratio_text(own: pd.DataFrame, labels: Sequence[str]) -> str:
    wide = own.pivot_table(index=["seed", "fold"], columns="label", values="steps")
    wide = wide.reindex(columns=list(labels)).dropna()
    ratio = time_ratio(wide[labels[1]], wide[labels[0]])
    if ratio.n == 0:
        return "no pair"
    if ratio.n == 1:
        return f"{ratio.estimate:.2f} (1 seed)"
    return f"{ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _gain_cells(gains: pd.DataFrame) -> pd.DataFrame:
    """One row per task, volume, arm and source: mean gain, interval, seeds, and how many have no gain."""
    rows = []
    for _, own in gains.groupby(["task", "volume_label", "arm", "source"], sort=False):
        done = own.gain.dropna().astype("float64")
        first = own.iloc[0]
        interval = mean_interval(done)
        rows.append({
            **first[["task", "title", "kind", "volume_label", "arm", "source"]], "name": row_name(own),
            "volume": float(own.volume.astype("float64").mean()), "values": done.to_numpy(), "mean": interval.estimate,
            "low": interval.low, "high": interval.high, "seeds": interval.n, "lost": len(own) - len(done),
        })  # fmt: skip
    return pd.DataFrame(rows)


@study_style
def gain_forest(gains: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Gain in test Dice by task, volume and source, a row each, largest at the top; zero is marked."""
    cells = _gain_cells(gains)
    title = "Gain in test Dice over scratch"
    if not len(cells):
        return empty_axes(axes(ax), title, "no pair of runs to compare")
    cells = cells.sort_values("mean", ascending=False, ignore_index=True, na_position="last")
    several = cells.source.nunique() > 1
    names = [f"{cell.name}\nfrom {cell.source}" if several else str(cell.name) for cell in cells.itertuples()]
    lines = max(name.count("\n") + 1 for name in names)
    ax = axes(ax, width=9.5, height=1.9 + max(0.45, 0.22 * lines) * max(2, len(cells)))
    for place, cell in enumerate(cells.itertuples()):
        style = arm_style(cell.arm)
        if cell.seeds:
            mean_mark(ax, cell.mean, place, cell.low, cell.high, style, across=True)
            seed_points(ax, cell.values, np.full(len(cell.values), place), style.color, across=True)
        rest = f"{seeds_text(cell.seeds, 0)}" + (f", {cell.lost} without a gain" if cell.lost else "")
        ax.text(1.02, place, rest, transform=ax.get_yaxis_transform(), va="center", fontsize=11)
    ax.axvline(0, color="black", linewidth=1, zorder=1)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_yticks(range(len(cells)), names)
    ax.set_ylim(len(cells) - 0.5, -0.5)
    beyond = limits_around(ax.set_xlim, np.concatenate([*cells["values"], [0.0]]), cells.low, cells.high)
    ax.set_xlabel(f"Dice of {' or '.join(arms_in_order(cells.arm))} - Dice of scratch, same seed")
    title_and_note(ax, title, f"{INTERVAL}; dots: single seeds{beyond}")
    return ax


@study_style
def gain_by_difficulty(
    gains: pd.DataFrame, difficulty: pd.DataFrame, *, large: float | None = None, hard: float | None = None,
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Gain in test Dice against the difficulty of the task, a color per volume; tasks are numbered and listed.

    Args:
        gains, difficulty: from `paired_gains.gain` and `paired_gains.difficulty`.
        large, hard: thresholds of the claims ledger, drawn as dashed lines.
    """
    ax = axes(ax, width=9.5)
    cells = _gain_cells(gains)
    title = "Gain by difficulty of the task"
    if len(cells):
        cells = cells[cells.seeds > 0].merge(difficulty[["task", "difficulty"]], on="task")
    if not len(cells):
        return empty_axes(ax, title, "no gain on a task whose difficulty is known (scratch on all images)")
    by_volume = cells.groupby("volume_label").volume.mean().sort_values()
    kinds = [ARM_STYLES[name] for name in ("frozen_source_encoder", "full_finetuning", "encoder_only", "head_only")]
    width = max(0.1, float(np.ptp(cells.difficulty)))
    for place, label in enumerate(by_volume.index):
        style = kinds[place % len(kinds)]
        own = cells[cells.volume_label == label].sort_values("difficulty")
        shift = 0.028 * width * (place - (len(by_volume) - 1) / 2)
        for cell in own.itertuples():
            mean_mark(ax, cell.difficulty + shift, cell.mean, cell.low, cell.high, style, across=False)
            seed_points(ax, np.full(len(cell.values), cell.difficulty + shift), cell.values, style.color, across=False)
        ax.plot([], [], color=style.color, marker=style.marker, linestyle="none", label=f"{label} images")
    tasks = cells.drop_duplicates("task").sort_values("difficulty", ignore_index=True)
    _number_tasks(ax, tasks.difficulty.to_numpy(), width)
    names = [f"{place + 1}  {task_title(tasks.iloc[[place]])}" for place in range(len(tasks))]
    for name in names:
        ax.plot([], [], linestyle="none", label="\n".join(textwrap.wrap(name, 34, subsequent_indent="    ")))
    ax.axhline(0, color="black", linewidth=1, zorder=1)
    for value, line in ((large, ax.axhline), (hard, ax.axvline)):
        if value is not None:
            line(value, color=NOTE_COLOR, linestyle="--", linewidth=1, zorder=1)
    beyond = limits_around(ax.set_ylim, np.concatenate([*cells["values"], [0.0]]), cells.low, cells.high)
    ax.set_xlim(cells.difficulty.min() - 0.15 * width, cells.difficulty.max() + 0.15 * width)
    ax.set(xlabel="difficulty: 1 - Dice of scratch on all images", ylabel="gain in Dice")
    dashed = [
        text for text, value in ((f"large gain {large}", large), (f"hard task {hard}", hard)) if value is not None
    ]
    note = f"{INTERVAL}; dots: single seeds{beyond}" + (f"; dashed: {', '.join(dashed)}" if dashed else "")
    title_and_note(ax, title, note, lift=14)
    legend_beside(ax)
    return ax


def _number_tasks(ax: Axes, places: np.ndarray, width: float) -> None:
    """The numbers of tasks along the upper edge, pushed apart where difficulties are nearly equal."""
    spread = places.astype(np.float64).copy()
    for each in range(1, len(spread)):
        spread[each] = max(spread[each], spread[each - 1] + 0.035 * width)
    for number, (place, x) in enumerate(zip(places, spread, strict=True), start=1):
        ax.axvline(place, color="#F0F0F0", linewidth=1, zorder=0)
        ax.text(x, 1.01, str(number), transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=11)
