"""Figures of task performance: a tidy table in, axes out; every interval is named in the figure.

Each function draws on `ax`, or makes a figure of its own, and neither shows nor saves anything.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from analysis.figures.charts import lines, values_so_far
from analysis.figures.style import (
    INTERVAL,
    NOTE_COLOR,
    ArmStyle,
    arm_labels,
    arm_style,
    arms_in_order,
    axes,
    empty_axes,
    legend_beside,
    limits_around,
    mean_mark,
    row_name,
    seed_points,
    seeds_text,
    study_style,
    task_title,
    title_and_note,
    volume_text,
    volume_with_unit,
)
from analysis.tables.results import finished_rows, summary
from lib.common.errors import StudyError

NAMES = {"dice": "Dice on test images", "psnr": "PSNR on test slices (dB)"}
UNITS = {"px": "pixels", "mm": "mm"}  # of distances
NAMES |= {"ssim": "SSIM on test slices", "nmse": "NMSE on test slices"}


def _name(rows: pd.DataFrame, metric: str) -> str:
    """What an axis is called; a score is the metric of the goal that the rows share.

    Raises:
        StudyError: distances in pixels and in millimeters would share the axis.
    """
    dice = rows.goal.iloc[0] != "reconstruction"
    if metric == "val_score":
        return "Dice on validation images" if dice else "PSNR on validation slices (dB)"
    if metric == "hd95":
        units = sorted(set(rows.hd95_unit[rows.hd95.notna()])) or ["px"]
        if len(units) > 1:
            raise StudyError(
                f"distances in one figure must have one unit, got {' and '.join(units)}; draw a figure each"
            )
        return f"HD95 on test images ({UNITS[units[0]]})"
    return NAMES[("dice" if dice else "psnr") if metric == "score" else metric]


@study_style
def accuracy_by_volume(table: pd.DataFrame, task: str, *, metric: str = "score", ax: Axes | None = None) -> Axes:
    """A metric of one task against the number of training images (log scale), one line per arm."""
    ax = axes(ax, width=9)
    rows = table[table.task == task]
    cells = summary(rows, metric)
    if not len(cells) or not cells.seeds.any():
        return empty_axes(ax, task, "no finished run of this task")
    rows, looks = _named(finished_rows(rows))
    volumes = cells.groupby("volume_label").volume.mean().sort_values()
    done = rows[rows.status == "done"]
    places = {name: place - (len(looks) - 1) / 2 for place, name in enumerate(looks)}
    aside = 1.035 ** done.legend.map(places)  # side by side, so that no interval hides another
    done = done.assign(x=done.volume_label.map(volumes) * aside)
    lines(ax, done, "x", metric, "legend", looks, bars=True)
    for name, own in done.groupby("legend"):
        seed_points(ax, own.x, own[metric], looks[str(name)].color, across=False)
    ax.set_xscale("log")
    ax.set_xticks(volumes.tolist(), [volume_text(str(label), volume) for label, volume in volumes.items()])
    ax.minorticks_off()
    ax.set_xlim(volumes.min() / 1.4, volumes.max() * 1.4)
    what = "subjects" if rows.goal.iloc[0] == "reconstruction" else "images"
    ax.set(xlabel=f"training {what} (log scale)", ylabel=_name(rows, metric))
    title_and_note(ax, task_title(cells), f"{INTERVAL}; dots: single seeds")
    legend_beside(ax)
    return ax


def _named(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, ArmStyle]]:
    """Rows with the `legend` of their arm, which counts its diverged runs, and the look of each."""
    rows = rows.assign(label=arm_labels(rows))
    lost = rows[rows.status == "diverged"].groupby("label").run_id.nunique()
    names = {each: f"{each} ({lost[each]} diverged)" if each in lost else each for each in arms_in_order(rows.label)}
    return rows.assign(legend=rows.label.map(names)), {name: arm_style(label) for label, name in names.items()}


@study_style
def learning_curves(
    curves: pd.DataFrame, task: str, volume_label: str, *, fractions: Sequence[float] = (0.90, 0.95, 0.99),
    ax: Axes | None = None,
) -> Axes:  # fmt: skip
    """Validation score (Dice or PSNR) against step, one line per arm with its band.

    Fractions of the scratch plateau are dotted lines.

    A run that stopped early keeps its last value; diverged runs are counted in the legend and drawn as far as they got.
    """
    ax = axes(ax, width=9)
    rows = curves[(curves.task == task) & (curves.volume_label == volume_label)]
    if not len(rows):
        return empty_axes(ax, task, f"no evaluation of this task at volume {volume_label}")
    rows, looks = _named(rows)
    for _, run in rows[rows.status == "diverged"].groupby("run_id"):
        ax.plot(run.step, run.val_score, color=looks[run.legend.iloc[0]].color, linestyle=":", linewidth=1)
    kept = values_so_far(rows[rows.status != "diverged"], "val_score", "legend")
    lines(ax, kept, "step", "val_score", "legend", looks, markevery=max(1, kept.step.nunique() // 6))
    drawn = [line for line in ax.lines if line.get_linestyle() == "-"]
    note = f"{INTERVAL} (band)"
    base = rows[(rows.strategy == "scratch") & (rows.status != "diverged")].sort_values("step")
    if len(base):
        plateau = float(base.groupby("run_id").val_score.apply(lambda score: score.iloc[-3:].mean()).mean())
        for fraction in fractions:
            ax.axhline(fraction * plateau, color=NOTE_COLOR, linestyle=":", linewidth=1.2, zorder=1)
        note += f"; dotted: {', '.join(f'{100 * each:g}' for each in fractions)} % of the scratch plateau"
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in drawn] or [np.zeros(0)])
    if np.isfinite(values).any():  # bands of two seeds reach far out of the picture
        low, high = np.nanmin(values), np.nanmax(values)
        if rows.goal.iloc[0] == "reconstruction":
            ax.set_ylim(low - 1, high + 1)
        else:
            ax.set_ylim(max(-0.02, low - 0.08), min(1.02, high + 0.08))
    ax.set(xlabel="step", ylabel=_name(rows, "val_score"))
    volume = rows.volume.dropna()
    images = volume_text(volume_label, float(volume.mean()) if len(volume) else float("nan"))
    title_and_note(ax, f"{task_title(rows)}, {volume_with_unit(rows, images)}", note)
    legend_beside(ax)
    return ax


@study_style
def learning_rates(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How learning rates were chosen: a row per cell, a column per rate, a strip per seed and the mean over seeds.

    The darker a strip, the further its validation score lies below the best of its seed; the chosen one is framed.
    Frames at the edge say that a better rate may lie beyond, frames in several columns that seeds do not agree.

    Args:
        table: all finished runs at every rate, of `analysis.tables.rate_table`.
    """
    if not len(table):
        return empty_axes(axes(ax), "Learning rates", "no finished run")
    rows = table.assign(label=arm_labels(table))
    cells = list(rows.groupby(["task", "volume_label", "label"], sort=False))
    rates = sorted(rows.lr.unique())
    names = [f"{row_name(own)}, {own.label.iloc[0]}".replace("\n", " ") for _, own in cells]
    names = ["\n".join(textwrap.wrap(name, 56)) for name in names]
    lines = max(name.count("\n") + 1 for name in names)
    ax = axes(ax, width=6.5 + 1.2 * len(rates), height=1.7 + (0.24 + 0.2 * lines) * len(cells))
    for place, (_, own) in enumerate(cells):
        seeds = sorted(own.seed.unique())
        width, best = 0.92 / len(seeds), own.groupby("seed").val_score.max()
        for run in own.itertuples():
            scale = 1.0 if run.goal == "reconstruction" else 0.1  # dB, Dice
            diverged = run.status == "diverged"
            shade = 1 - 0.45 * (1.0 if diverged else min(1.0, (best[run.seed] - run.val_score) / scale))
            corner = rates.index(run.lr) - 0.46 + width * seeds.index(run.seed), place
            strip = Rectangle(corner, width, 0.42, facecolor=(shade, shade, 1.0), edgecolor="white", linewidth=0.5)
            if run.chosen:
                strip.set(edgecolor="black", linewidth=1.6, zorder=3)
            ax.add_patch(strip)
        for rate, runs in own.groupby("lr"):
            gone = int((runs.status == "diverged").sum())
            text = f"{runs.val_score.mean():.3f}" if gone < len(runs) else ""
            text += f" {gone} diverged" if gone else ""
            ax.text(rates.index(rate), place - 0.21, text.strip(), ha="center", va="center", fontsize=10, zorder=4)
    ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    ax.set_yticks(range(len(cells)), names, fontsize=10)
    ax.set(xlim=(-0.5, len(rates) - 0.5), ylim=(len(cells) - 0.5, -0.5), xlabel="learning rate")
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    what = " or ".join(dict.fromkeys(_name(own, "val_score") for _, own in cells))
    title_and_note(ax, "Learning rates", f"{what}, mean over seeds; a strip per seed, framed: its choice")
    return ax


@study_style
def strategy_scores(
    table: pd.DataFrame, task: str, volume_label: str, *, metric: str = "score", ax: Axes | None = None
) -> Axes:
    """A metric by arm, best at the top, with the number of parameters that each trains at the right."""
    rows = table[(table.task == task) & (table.volume_label == volume_label)]
    cells = summary(rows, metric)
    if not len(cells):
        return empty_axes(axes(ax), task, f"no finished run of this task at volume {volume_label}")
    cells = cells.assign(label=arm_labels(cells)).sort_values(
        "mean", ascending=metric.startswith("hd"), ignore_index=True
    )
    ax = axes(ax, width=9, height=1.9 + 0.42 * len(cells))
    for place, cell in enumerate(cells.itertuples()):
        style = arm_style(cell.label)
        mean_mark(ax, cell.mean, place, cell.low, cell.high, style, across=True)
        same = (rows.arm == cell.arm) & (rows.source == cell.source) & (rows.status == "done")
        seed_points(ax, rows[same][metric], np.full(int(same.sum()), place), style.color, across=True)
        rest = f"{_short(cell.trainable)} · {seeds_text(cell.seeds, cell.diverged)}"
        ax.text(1.02, place, rest, transform=ax.get_yaxis_transform(), va="center", fontsize=11)
    ax.text(1.02, -0.75, "trained parameters · seeds", transform=ax.get_yaxis_transform(), va="center", fontsize=11,
            color=NOTE_COLOR)  # fmt: skip
    ax.set_yticks(range(len(cells)), cells.label.tolist())
    ax.set_ylim(len(cells) - 0.5, -0.9)
    ax.set_xlabel(_name(rows, metric))
    beyond = ""
    if cells.seeds.any():
        least = 0.02 if metric != "hd95" else 1.0
        beyond = limits_around(ax.set_xlim, rows[rows.status == "done"][metric], cells.low, cells.high, least=least)
    volume = volume_text(volume_label, float(cells.volume.iloc[0]))
    title_and_note(
        ax, f"{task_title(cells)}, {volume_with_unit(cells, volume)}", f"{INTERVAL}; dots: single seeds{beyond}"
    )
    return ax


def _short(count: float) -> str:
    """A count in three digits: 870, 12.3 k, 1.95 M."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"
