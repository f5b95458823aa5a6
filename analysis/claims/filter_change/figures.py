"""Figures of how far filters move: by stage, over training, between seeds, and as pictures. Table in, axes out."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from torch import Tensor

from analysis.figures.charts import lines
from analysis.figures.explorers import explorer, gray_bytes, rounded
from analysis.figures.style import (
    ARM_STYLES,
    INTERVAL,
    NOTE_COLOR,
    ArmStyle,
    arm_style,
    arms_in_order,
    axes,
    empty_axes,
    legend_beside,
    mean_mark,
    seeds_text,
    study_style,
    task_title,
    title_and_note,
    volume_text,
    volume_with_unit,
)
from analysis.filters.change import filter_change_over_training
from analysis.filters.kernels import read_layers
from analysis.statistics.intervals import mean_interval
from lib.runs.run import Run

NO_RUNS = "no run that was trained to its end; train them with: python -m lib train SUITE"
AFFINE = {"affine_share": "explained by scale and shift of the kernel", "affine_share_permuted": "of another kernel"}


@study_style
def change_by_stage(changes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Angle between a filter at the start and at the end, by stage, a color per arm; independent filters as a line.

    Args:
        changes: of one task and volume, from `tables.change_table`.
    """
    ax = axes(ax, width=10)
    if not len(changes):
        return empty_axes(ax, "Angle between start and end", NO_RUNS)
    stages, arms = list(dict.fromkeys(changes.stage)), arms_in_order(changes.arm)
    for place, arm in enumerate(arms):
        style, own = arm_style(arm), changes[changes.arm == arm]
        shift = 0.22 * (place - (len(arms) - 1) / 2)
        for x, stage in enumerate(stages):
            rows = own[own.stage == stage]
            low, high = rows.angle_q05.mean(), rows.angle_q95.mean()
            ax.plot([x + shift] * 2, [low, high], color=style.color, linewidth=5, alpha=0.22, solid_capstyle="butt")
            interval = mean_interval(rows.angle_median)
            mean_mark(ax, x + shift, interval.estimate, interval.low, interval.high, style, across=False)
        seeds = own.run_id.nunique()
        ax.plot([], [], color=style.color, marker=style.marker, linestyle="none",
                label=f"{arm} ({seeds_text(seeds, 0)})")  # fmt: skip
    chance = changes.groupby("stage", sort=False).angle_random_q05.mean()
    for x, stage in enumerate(stages):
        ax.plot([x - 0.4, x + 0.4], [chance[stage]] * 2, color=NOTE_COLOR, linestyle="--", linewidth=1.2)
    ax.plot([], [], color=NOTE_COLOR, linestyle="--", label="independent filters: 95 % above")
    ax.set_xticks(range(len(stages)), stages)
    ax.set(ylim=(0, 95), xlabel="stage, along the path of the data", ylabel="angle to the start (degrees)")
    note = "median over filters, mean and 95 % t interval over seeds; pale bars: 5 % to 95 % of the filters"
    title_and_note(ax, _cell_title(changes), note)
    legend_beside(ax)
    return ax


@study_style
def change_over_training(steps: pd.DataFrame, *, value: str = "angle_median", ax: Axes | None = None) -> Axes:
    """A statistic of the change since step 0 against step (log scale), a line per stage, a panel's worth of one arm.

    Args:
        steps: of one task, volume and arm, from `tables.change_table(..., trajectory=True)`.
        value: a column of it.
    """
    ax = axes(ax, width=9)
    if not len(steps):
        return empty_axes(ax, "Change over training", "no run with checkpoints between the first and the last")
    stages = list(dict.fromkeys(steps.stage))
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(stages)))
    looks = {stage: ArmStyle(to_hex(color), "o") for stage, color in zip(stages, colors, strict=True)}
    lines(ax, steps, "step", value, "stage", looks, intervals=False, markersize=4)
    ax.set_xscale("log")
    ax.set(xlabel="step (log scale)", ylabel="angle to step 0 (degrees)" if value == "angle_median" else value)
    ax.set_ylim(bottom=0)
    arm = steps.arm.iloc[0]
    title_and_note(ax, f"{arm}: {_cell_title(steps)}",
               f"median over filters, mean over {seeds_text(steps.run_id.nunique(), 0)}")  # fmt: skip
    legend_beside(ax)
    return ax


@study_style
def affine_shares(changes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Share of the change that one scale and one shift per kernel explain, by stage, beside its two nulls."""
    ax = axes(ax, width=10)
    if not len(changes):
        return empty_axes(ax, "Is the change a scale and a shift?", NO_RUNS)
    stages = list(dict.fromkeys(changes.stage))
    marks = [ARM_STYLES["full_finetuning"], ARM_STYLES["frozen_random_encoder"]]
    for place, (column, label) in enumerate(AFFINE.items()):
        style = marks[place]
        for x, stage in enumerate(stages):
            interval = mean_interval(changes[changes.stage == stage][column])
            at = x + 0.24 * (place - 0.5)
            mean_mark(ax, at, interval.estimate, interval.low, interval.high, style, across=False)
        ax.plot([], [], color=style.color, marker=style.marker, linestyle="none", label=label)
    chance = float(changes.affine_share_chance.mean())
    ax.axhline(chance, color=NOTE_COLOR, linestyle="--", linewidth=1.2, label=f"chance ({chance:.2f})")
    ax.axhline(0.5, color=NOTE_COLOR, linestyle=":", linewidth=1.2, label="claim L7: more than half")
    ax.set_xticks(range(len(stages)), stages)
    ax.set(ylim=(0, 1), xlabel="stage, along the path of the data", ylabel="share of the squared change")
    title_and_note(ax, f"{changes.arm.iloc[0]}: {_cell_title(changes)}", INTERVAL)
    legend_beside(ax)
    return ax


@study_style
def matched_filters(pairs: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Cosine of filters of two seeds in their best order, by layer, beside that of random filters and of no order."""
    ax = axes(ax, width=10)
    if not len(pairs):
        return empty_axes(ax, "Do two seeds find the same filters?", "fewer than two seeds of one arm")
    pairs = pairs.query("kind == 'convolution'")
    layers = list(dict.fromkeys(pairs.layer))
    words = {"cosine": "best order", "chance": "random filters, best order", "in_place": "as they stand"}
    names = ("full_finetuning", "scratch", "head_only")
    looks = {word: ARM_STYLES[name] for word, name in zip(words.values(), names, strict=True)}
    rows = pairs.rename(columns=words).melt("layer", list(words.values()), var_name="what", value_name="mean cosine")
    rows = rows.assign(x=rows.layer.map(layers.index))
    lines(ax, rows, "x", "mean cosine", "what", looks, intervals=False, dashed=[words["chance"]])
    ax.set_xticks(range(len(layers)), layers, rotation=60, ha="right")
    ax.set(xlabel="", ylabel="mean cosine of a pair of filters")
    note = f"mean over {pairs.seeds.nunique()} pairs of seeds; random: the same matching of fresh filters"
    title_and_note(ax, f"Do two seeds find the same filters? {pairs.arm.iloc[0]}", note)
    legend_beside(ax)
    return ax


@study_style
def filter_mosaic(
    panels: Mapping[str, Mapping[str, Tensor]], layer: str, *, difference: bool = False, most: int = 64
) -> NDArray[np.object_]:
    """Kernels of a layer side by side, a panel per network, on one gray scale; gray is zero. Returns the axes.

    A layer of many kernels shows its first `most`, row by row; a kernel in space is shown as its slices across the
    last axis, side by side, with two lines between kernels.

    Args:
        panels: title -> weights.
        difference: one more panel with the last minus the first, on a gray scale of its own.
    """
    pictures = {title: _tiles(weights, layer, most) for title, weights in panels.items()}
    scale = max(float(np.nanmax(np.abs(each))) for each in pictures.values()) or 1.0
    scales = dict.fromkeys(pictures, scale)
    if difference:
        first, *_, last = pictures.values()
        own = float(np.nanmax(np.abs(last - first))) or 1.0
        title = f"last - first, contrast x {scale / own:.1f}"
        pictures[title], scales[title] = last - first, own
    figure, grid = plt.subplots(1, len(pictures), figsize=(3.4 * len(pictures), 4.0), squeeze=False)
    for ax, (title, picture) in zip(grid[0], pictures.items(), strict=True):
        ax.imshow(picture, vmin=-scales[title], vmax=scales[title])
        ax.set_title(title, loc="center", fontsize=12, fontweight="normal")
        ax.set_axis_off()
    figure.set_layout_engine("constrained", wspace=0.08)
    in_space = any(_depth(weights[f"{layer}.weight"]) > 1 for weights in panels.values())
    words = ", each as its slices side by side; " if in_space else "; "
    figure.suptitle(f"{layer}: kernels{words}gray is zero", x=0.01, ha="left", fontweight="bold", wrap=True)
    return grid[0]


def mosaic_table(panels: Mapping[str, Mapping[str, Tensor]], layer: str, *, most: int = 64) -> pd.DataFrame:
    """What `filter_mosaic` draws, one row per weight: layer, panel, kernel (numbered row by row), tap, value."""
    tables = []
    for title, weights in panels.items():
        found = read_layers({f"{layer}.weight": weights[f"{layer}.weight"]})[layer].kernels
        flat = found.reshape(-1, int(np.prod(found.shape[2:])))[:most]
        kernel, tap = (each.ravel() for each in np.indices(flat.shape))
        tables.append(
            pd.DataFrame({"layer": layer, "panel": title, "kernel": kernel, "tap": tap, "value": flat.ravel()})
        )
    return pd.concat(tables, ignore_index=True)


def kernels_explorer(run: Run, most: int = 64) -> HTML:
    """The kernels of each layer of a run at every checkpoint, on one gray scale a layer, as something to explore."""
    steps = run.steps()
    weights = [run.weights(step) for step in steps]
    changes = filter_change_over_training(run)
    layers = []
    for layer in dict.fromkeys(changes[changes.kind == "convolution"].layer):
        tiles = [_tiles(each, layer, most) for each in weights]
        scale = max(float(np.nanmax(np.abs(each))) for each in tiles) or 1.0
        cosine = changes[changes.layer == layer].set_index("step").cosine_median.reindex(steps[1:])
        layers.append(
            {
                "name": layer, "width": tiles[0].shape[1], "frames": [gray_bytes(each / scale) for each in tiles],
                "cosine": [1.0, *rounded(cosine)],
            }
        )  # fmt: skip
    return explorer("filters", {"steps": steps, "layers": layers}, f"Kernels of {run.path.name} over training")


def _depth(weight: Tensor) -> int:
    """Slices of a kernel: taps along its third axis."""
    return weight.shape[4] if weight.ndim == 5 else 1


def _tiles(weights: Mapping[str, Tensor], layer: str, most: int) -> NDArray[np.float64]:
    """Kernels side by side in a picture as square as can be, with NaN between them."""
    found = read_layers({f"{layer}.weight": weights[f"{layer}.weight"]})[layer].kernels
    flat, gap = found.reshape(-1, *found.shape[2:])[:most], 1
    if flat.ndim == 2:
        flat = flat[:, None]
    elif flat.ndim == 4:
        gap = 2 if flat.shape[3] > 1 else 1
        lined = np.pad(flat, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=np.nan)  # a line after every slice
        flat = np.moveaxis(lined, 3, 2).reshape(*flat.shape[:2], -1)[:, :, :-1]
    height, width = flat.shape[1:]
    columns = int(np.ceil(np.sqrt(len(flat) * (height + gap) / (width + gap))))
    rows = -(-len(flat) // columns)
    picture = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for place, kernel in enumerate(flat):
        y, x = (step * (side + gap) for step, side in zip(divmod(place, columns), (height, width), strict=True))
        picture[y : y + height, x : x + width] = kernel
    return picture


def _cell_title(rows: pd.DataFrame) -> str:
    volume = volume_text(str(rows.volume_label.iloc[0]), float(rows.volume.astype("float64").mean()))
    return f"{task_title(rows)}, {volume_with_unit(rows, volume)}"
