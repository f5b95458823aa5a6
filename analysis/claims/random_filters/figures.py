"""Figures of the randomness battery and of frozen random encoders. Table in, axes out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from torch import Tensor

from analysis.figures.charts import heat_map
from analysis.figures.style import (
    ARM_STYLES,
    INTERVAL,
    NOTE_COLOR,
    arm_style,
    axes,
    empty_axes,
    legend_beside,
    limits_around,
    mean_mark,
    percent,
    seed_points,
    seeds_text,
    study_style,
    task_title,
    title_and_note,
    volume_text,
    volume_with_unit,
)
from analysis.filters.kernels import read_layers
from analysis.filters.randomness.battery import TESTS
from analysis.statistics import random_matrices

SURE = 4  # -log10 p at which a cell is as dark as can be
SHADE = "Oranges"
COLORS = {"start": ARM_STYLES["scratch"].color, "end": ARM_STYLES["full_finetuning"].color}


def spectrum_table(start: Mapping[str, Tensor], end: Mapping[str, Tensor], layer: str) -> pd.DataFrame:
    """Squared singular values of a layer's matrix, scaled to mean 1: layer, checkpoint, rows, columns, value."""
    tables = []
    for name, weights in {"start": start, "end": end}.items():
        matrix = read_layers({f"{layer}.weight": weights[f"{layer}.weight"]})[layer].rows()
        rows, columns = sorted(matrix.shape)
        own = random_matrices.squared_singular_values(matrix)
        about = {"layer": layer, "checkpoint": name, "rows": rows, "columns": columns}
        tables.append(pd.DataFrame({**about, "value": own / own.sum() * rows}))  # mean 1, as under the law
    return pd.concat(tables, ignore_index=True)


@study_style
def spectra(start: Mapping[str, Tensor], end: Mapping[str, Tensor], layer: str, *, ax: Axes | None = None) -> Axes:
    """Singular values squared of a layer's matrix at the start and at the end, with the Marchenko-Pastur law.

    Both scaled so that a random matrix lies between the edges, whatever its scale.
    """
    ax = axes(ax, width=9)
    table = spectrum_table(start, end, layer)
    rows, columns = (int(table[name].iloc[0]) for name in ("rows", "columns"))
    low, high = random_matrices.marchenko_pastur_edges(rows, columns)
    top = max(high * 1.15, 1.05 * table.value.max())
    for name, own in table.groupby("checkpoint", sort=False):
        sns.histplot(
            own, x="value", stat="density", bins=40, binrange=(0, top), element="step", color=COLORS[str(name)],
            alpha=0.35, linewidth=0, label=name, ax=ax,
        )  # fmt: skip
    x = np.linspace(low, high, 400)
    ax.plot(x, random_matrices.marchenko_pastur_density(x, rows, columns), color="black", label="Marchenko-Pastur law")
    ax.axvline(high, color="black", linestyle="--", linewidth=1.2, label="its edge")
    table = table.assign(over=np.maximum(table.value - high, 0))
    sums = table.groupby("checkpoint", sort=False)[["over", "value"]].sum()
    told = ", ".join(f"{name} {share:.1%}" for name, share in (sums.over / sums.value).items())
    ax.set(xlabel="squared singular value, mean 1", ylabel="density")
    title_and_note(ax, f"{layer}: {rows} x {columns} matrix", f"energy beyond the edge: {told}")
    legend_beside(ax)
    return ax


@study_style
def battery_results(table: pd.DataFrame, title: str, *, ax: Axes | None = None) -> Axes:
    """P-values of the battery, tests across and layers down: the darker, the less random; a cross: survives Holm.

    Args:
        table: from `battery.battery`, of one checkpoint.
    """
    layers, names = list(dict.fromkeys(table.layer)), list(dict.fromkeys(table.test))
    ax = axes(ax, width=10, height=2.2 + 0.3 * len(layers))
    p = table.pivot(index="layer", columns="test", values="p").loc[layers, names]
    adjusted = table.pivot(index="layer", columns="test", values="p_holm").loc[layers, names]
    with np.errstate(divide="ignore"):
        strength = -np.log10(p)
    words = np.select([p.isna(), adjusted < 0.05], ["–", "x"], "")
    picture = heat_map(ax, strength.clip(upper=SURE), 0, SURE, colors=SHADE, words=words)
    labels = ["\n".join(textwrap.wrap(TESTS[name].title, 15)) for name in names]
    ax.set_xticks(ax.get_xticks(), labels, rotation=40, ha="right")
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(picture, ax=ax, label="-log10 p (4 and more)", shrink=0.7)
    title_and_note(ax, title, "x: rejected at 5 % after Holm's correction over the table; –: the test does not apply")
    return ax


@study_style
def level_of_tests(level: pd.DataFrame, *, alpha: float = 0.05, ax: Axes | None = None) -> Axes:
    """How often each test rejects truly random layers, a mark per shape; the band is what chance gives.

    Args:
        level: from `calibration.level`, or its record.
    """
    names = list(dict.fromkeys(level.test))
    ax = axes(ax, width=10, height=1.9 + 0.5 * len(names))
    shapes = list(dict.fromkeys(level["shape"]))
    styles = list(ARM_STYLES.values())
    for place, shape in enumerate(shapes):
        own = level[level["shape"] == shape]
        y = np.array([names.index(name) for name in own.test]) + 0.1 * (place - (len(shapes) - 1) / 2)
        style = styles[place % len(styles)]
        ax.plot(100 * own.rate, y, color=style.color, marker=style.marker, linestyle="none", label=shape)
    ax.axvspan(100 * level.low.min(), 100 * level.high.max(), color="#DDDDDD", zorder=0)
    ax.axvline(100 * alpha, color="black", linewidth=1, zorder=1)
    ax.set_yticks(range(len(names)), [TESTS[name].title for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel(f"random layers rejected at {percent(alpha)} (%)")
    ax.legend(title="filters x inputs x kernel", loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)
    layers = sorted(set(level.layers))
    title_and_note(ax, "Does each test keep its word?",
               f"{' to '.join(map(str, dict.fromkeys([layers[0], layers[-1]])))} random layers each; band: 99 of 100 "
               "such counts of an exact test")  # fmt: skip
    return ax


@study_style
def power_of_tests(table: pd.DataFrame, shape: str, *, ax: Axes | None = None) -> Axes:
    """Share of layers that each test rejects at 5 %, by kind and strength of planted structure, as numbers.

    Args:
        table: from `calibration.power`, or its record; `shape` one of its shapes.
    """
    own = table[table["shape"] == shape]
    rates = own.pivot_table(index="test", columns=["structure", "strength"], values="rate", sort=False)
    ax = axes(ax, width=1.6 + 0.72 * rates.shape[1] + 2, height=2.4 + 0.42 * len(rates))
    words = rates.map(lambda rate: "" if np.isnan(rate) else f"{rate:.2f}".lstrip("0") if rate < 1 else "1")
    rates = rates.rename(index={name: TESTS[name].title for name in rates.index})
    rates.columns = [f"{structure}\n{strength:g}" for structure, strength in rates.columns]
    heat_map(ax, rates, 0, 1.3, colors=SHADE, words=words.to_numpy())
    ax.tick_params(axis="x", rotation=45)
    layers = int(own.layers.iloc[0])
    title_and_note(ax, f"Power on {shape} layers",
               f"share of {layers} layers rejected at 5 %; below: structure and its share of the energy")  # fmt: skip
    return ax


@study_style
def non_inferiority(losses: pd.DataFrame, margin: float, *, ax: Axes | None = None) -> Axes:
    """Dice of frozen encoders and their controls minus that of the reference, a row each; the margin is dashed.

    Args:
        losses: of one task and volume, from `frozen_encoder.losses`.
    """
    title = "What a frozen random encoder loses"
    if not len(losses):
        return empty_axes(axes(ax), title, "no pair of runs to compare; the suite has no frozen random encoder")
    rows = losses.reset_index(drop=True)
    names = ["\n".join(textwrap.wrap(f"{row.what}, against {row.reference}", 44)) for row in rows.itertuples()]
    ax = axes(ax, width=10.5, height=1.9 + 0.52 * max(2, len(rows)))
    for place, row in enumerate(rows.itertuples()):
        style = arm_style(row.arm)
        mean_mark(ax, row.effect, place, row.low, row.high, style, across=True)
        seed_points(ax, row.values, np.full(len(row.values), place), style.color, across=True)
        seeds = seeds_text(row.seeds, 0)
        ax.text(1.02, place, seeds, transform=ax.get_yaxis_transform(), va="center", fontsize=11)
    ax.axvline(0, color="black", linewidth=1, zorder=1)
    ax.axvline(-margin, color=NOTE_COLOR, linestyle="--", linewidth=1.2, zorder=1)
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    every = np.concatenate([*rows["values"], [0.0, -margin]])
    beyond = limits_around(ax.set_xlim, every, rows.low, rows.high)
    ax.set_xlabel("Dice - Dice of the reference, same seed")
    volume = volume_text(str(rows.volume_label.iloc[0]), float(rows.volume.iloc[0]))
    note = f"{INTERVAL}; dots: single seeds; dashed: the margin of claim K6, {margin:g}{beyond}"
    title_and_note(ax, f"{task_title(rows)}, {volume_with_unit(rows, volume)}", note)
    return ax
