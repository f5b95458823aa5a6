"""Figures of linear fine-tuning: leads, gain against loss, overfitting, factors. A tidy table in, axes out."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.claims.linear_finetuning.tables import lead_by_seed
from analysis.figures.charts import lines, values_so_far
from analysis.figures.style import (
    ARM_STYLES,
    INTERVAL,
    ArmStyle,
    arm_style,
    arms_in_order,
    axes,
    empty_axes,
    legend_beside,
    limits_around,
    mean_mark,
    seed_points,
    study_style,
    task_title,
    title_and_note,
    volume_text,
    volume_with_unit,
)
from analysis.statistics.intervals import mean_interval
from lib.runs.run import Run

RATE_COLORS = {3.0: "#56B4E9", 4.0: "#0072B2", 6.0: "#E69F00", 8.0: "#D55E00"}


@study_style
def lead_by_volume(pairs: pd.DataFrame, target: str, *, ax: Axes | None = None) -> Axes:
    """Lead of linear over full fine-tuning on one target against the number of volumes, a line per sampling rate.

    Args:
        pairs: from `tables.paired_leads`. target: a value of its column `images`.
    """
    ax = axes(ax, width=9)
    rows = pairs[(pairs.images == target) & pairs.lead.notna()]
    if not len(rows):
        return empty_axes(ax, target, "no pair of runs on this target")
    rates, parts, bounds, looks = sorted(rows.rate.unique()), [], [0.0], {}
    for place, rate in enumerate(rates):
        looks[f"rate {rate:g}"] = ArmStyle(RATE_COLORS.get(rate, "#444444"), "osD^"[place % 4])
        shift = 1.05 ** (place - (len(rates) - 1) / 2)
        for _, own in rows[rows.rate == rate].groupby("volume_label"):
            leads = lead_by_seed(own)
            bounds += mean_interval(leads)[1:3]
            x = float(own.volume.astype("float64").mean()) * shift
            parts.append(pd.DataFrame({"x": x, "lead": leads, "rate": f"rate {rate:g}"}))
    seeds = pd.concat(parts, ignore_index=True)
    lines(ax, seeds, "x", "lead", "rate", looks, bars=True)
    for name, own in seeds.groupby("rate"):
        seed_points(ax, own.x, own.lead, looks[str(name)].color, across=False)
    volumes = rows.groupby("volume_label").volume.mean().astype("float64").sort_values()
    ax.axhline(0, color="black", linewidth=1, zorder=1)
    ax.set_xscale("log")
    ax.set_xticks(volumes.tolist(), [volume_text(str(label), volume) for label, volume in volumes.items()])
    ax.minorticks_off()
    ax.set_xlim(volumes.min() / 1.4, volumes.max() * 1.4)
    beyond = limits_around(ax.set_ylim, [*rows.lead, 0.0], bounds, bounds, least=0.2)
    ax.set(xlabel="training subjects (log scale)", ylabel="lead of linear fine-tuning (dB)")
    title = str(rows.title.iloc[0]).rpartition(", rate")[0]
    title_and_note(ax, title, f"{INTERVAL}; dots: single seeds; above 0 linear fine-tuning is ahead{beyond}")
    legend_beside(ax)
    return ax


@study_style
def gain_and_loss(table: pd.DataFrame, task: str, volume_label: str, *, ax: Axes | None = None) -> Axes:
    """What each arm gains on the target against what it loses on the source, in dB, both from the source network.

    Args:
        table: from `results.run_table`. task: as tables name it, with its rate.
    """
    ax = axes(ax, width=9)
    rows = table[(table.task == task) & (table.volume_label == volume_label) & (table.status == "done")]
    moved = rows[rows.start_psnr.notna()]
    if not len(moved):
        return empty_axes(ax, task, f"no finished run from a source at volume {volume_label}")
    for arm in arms_in_order(moved.arm):
        own, style = moved[moved.arm == arm], arm_style(arm)
        x, y = own.source_after - own.source_before, own.psnr - own.start_psnr
        across, up = mean_interval(x), mean_interval(y)
        mean_mark(ax, across.estimate, up.estimate, across.low, across.high, style, across=True)
        mean_mark(ax, across.estimate, up.estimate, up.low, up.high, style, across=False)
        ax.plot([], [], color=style.color, marker=style.marker, linestyle="none", label=arm)
    scratch = rows[rows.arm == "scratch"]
    if len(scratch):
        joined = scratch.psnr.mean() - moved.start_psnr.mean()
        ax.axhline(joined, color=ARM_STYLES["scratch"].color, linestyle=":", label="scratch (has no source)")
    ax.axhline(0, color="black", linewidth=1, zorder=1)
    ax.axvline(0, color="black", linewidth=1, zorder=1)
    ax.set(
        xlabel="PSNR on source slices, after less before (dB)", ylabel="PSNR on target slices,\nafter less before (dB)"
    )
    title_and_note(
        ax,
        f"{task_title(rows)}, {volume_with_unit(rows, volume_label)}",
        f"{INTERVAL}; 0, 0: the source network",
    )
    legend_beside(ax)
    return ax


@study_style
def generalization_gaps(curves: pd.DataFrame, task: str, volume_label: str, *, ax: Axes | None = None) -> Axes:
    """PSNR on training slices less that on validation slices, by step, one line per arm with its band."""
    ax = axes(ax, width=9)
    rows = curves[(curves.task == task) & (curves.volume_label == volume_label) & curves.train_psnr.notna()]
    if not len(rows):
        return empty_axes(ax, task, f"no evaluation of this task at volume {volume_label}")
    rows = rows.assign(gap=rows.train_psnr - rows.val_psnr)
    rows = rows[rows.strategy != "scratch"]
    rows = rows.assign(growth=rows.gap - rows.run_id.map(rows[rows.step == 0].set_index("run_id").gap))
    looks = {arm: arm_style(arm) for arm in arms_in_order(rows.arm)}
    few = len(looks) <= 3
    lines(ax, values_so_far(rows, "growth", "arm"), "step", "growth", "arm", looks, intervals=few)
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in ax.lines] or [np.zeros(1)])
    ax.set_ylim(np.nanmin([0.0, *drawn]) - 0.3, np.nanmax([0.0, *drawn]) + 0.3)
    ax.axhline(0, color="black", linewidth=1, zorder=1)
    ax.set(xlabel="step", ylabel="growth of the gap\ntraining - validation (dB)")
    band = f"{INTERVAL} (band)" if few else "mean over seeds"
    title_and_note(
        ax, f"{task_title(rows)}, {volume_with_unit(rows, volume_label)}", f"{band}; 0: where the transfer began"
    )
    legend_beside(ax)
    return ax


@study_style
def factors_by_stage(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How far scales stand from 1, by layer: those that were learned, and those that fit full fine-tuning.

    Args:
        table: from `reconstructions.factor_table`.
    """
    if not len(table):
        return empty_axes(axes(ax), "Scales by layer", "no pair of linear and full fine-tuning")
    layers = list(dict.fromkeys(table.layer))
    ax = axes(ax, width=9, height=1.8 + 0.36 * len(layers))
    kinds = {"learned": ARM_STYLES["scale_shift"], "fitted": ARM_STYLES["full_finetuning"]}
    for (name, style), aside in zip(kinds.items(), (-0.14, 0.14), strict=True):
        for place, layer in enumerate(layers):
            each = mean_interval(table[table.layer == layer].groupby("seed")[name].mean())
            mean_mark(ax, each.estimate, place + aside, each.low, each.high, style, across=True)
        text = "learned by linear fine-tuning" if name == "learned" else "that fit full fine-tuning best"
        ax.plot([], [], color=style.color, marker=style.marker, linestyle="none", label=text)
    ax.set_yticks(range(len(layers)), layers)
    ax.set_ylim(len(layers) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel("median distance of a kernel's scale from 1")
    title_and_note(ax, "Scales by layer, input first", INTERVAL)
    legend_beside(ax)
    return ax


@study_style
def reconstruction_panels(images: Mapping[str, np.ndarray], title: str, *, worst: float = 0.2) -> NDArray[np.object_]:
    """One slice from every network, and below it what is wrong with it, all errors on one scale.

    Args:
        images: from `reconstructions.reconstructed_slices`, "reference" first. worst: error that is drawn black.

    Returns:
        The axes, (2, names).
    """
    truth = images["reference"]
    width = max(6.0, 1.75 * len(images))
    figure, grid = plt.subplots(2, len(images), figsize=(width, 4.6), squeeze=False)
    figure.suptitle(f"{title}; below: error, 0 (white) to {worst:g} of the range (black)", x=0.01, ha="left", wrap=True)
    for (name, image), (top, bottom) in zip(images.items(), grid.T, strict=True):
        top.imshow(image, cmap="gray", vmin=0, vmax=1)
        words = name.replace("_", " ").replace(" (", "\n(")
        if name != "reference":
            bottom.imshow(np.abs(image - truth), cmap="gray_r", vmin=0, vmax=worst)
            words += f"\n{_psnr(image, truth):.1f} dB"
        top.set_title(words, fontsize=10, loc="center", fontweight="normal")
        top.set_axis_off()
        bottom.set_axis_off()
    return grid


def panel_table(images: Mapping[str, np.ndarray], runs: Mapping[str, Run]) -> pd.DataFrame:
    """What `reconstruction_panels` shows, one row a picture: picture, run (if any), psnr in dB on this slice."""
    truth = images["reference"]
    rows = [
        {"picture": name, "run": runs[name].path.name if name in runs else "", "psnr": _psnr(image, truth)}
        for name, image in images.items()
        if name != "reference"
    ]
    return pd.DataFrame(rows)


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((image - truth) ** 2) / truth.max() ** 2))
