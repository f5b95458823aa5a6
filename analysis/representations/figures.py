"""Figures of representations by layer: what training keeps, how layers evolve, every layer against every layer.

Similarity has one scale in all of them, 0 to 1, with one color map; the bottleneck is marked wherever stages are.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from analysis.figures.charts import COLORS, heat_map, lines
from analysis.figures.style import ARM_STYLES, NOTE_COLOR, ArmStyle, legend_beside, study_style
from analysis.representations.comparison.compare import Map
from analysis.representations.run_similarity import LayerMaps, bottleneck

GROUPS = {
    "own": "from a source", "random": "from random weights", "shared": "from one source",
    "shuffled": "shuffled labels", "untrained": "untrained",
}  # fmt: skip
GROUP_STYLES = {
    "own": ARM_STYLES["full_finetuning"], "random": ARM_STYLES["scratch"], "shared": ArmStyle("#56B4E9", "D"),
    "shuffled": ArmStyle("#CC79A7", "X"), "untrained": ArmStyle("#999999", "."),
}  # fmt: skip


def mark_stages(ax: Axes, layers: Sequence[str], *, names: bool = True) -> None:
    """Stages along x, the bottleneck marked."""
    ax.set_xticks(range(len(layers)), list(layers) if names else [""] * len(layers), rotation=60)
    ax.axvline(bottleneck(layers), color=NOTE_COLOR, linestyle=":", linewidth=1.2, zorder=1)
    ax.set_xlim(-0.5, len(layers) - 0.5)


def interval_line(ax: Axes, x: pd.Series, rows: pd.DataFrame, group: str, label: str) -> None:
    """Means along x with their intervals, in the look of a group; `rows` has mean, low and high."""
    style = GROUP_STYLES[group]
    ax.plot(x, rows["mean"], color=style.color, marker=style.marker, label=label)
    for at, row in zip(x, rows.itertuples(), strict=True):
        if np.isfinite(row.low):
            ax.plot([at, at], [row.low, row.high], color=style.color, linewidth=1.4, zorder=2)


@study_style
def similarity_over_training(table: pd.DataFrame, title: str, note: str) -> Axes:
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
            image = heat_map(ax, own.reindex(index=layers, columns=steps), 0, 1)
            ax.set_title(f"{GROUPS[group]}, {words}", loc="left", fontsize=12)
            ax.axhline(bottleneck(layers) + 0.5, color="white", linestyle=":", linewidth=1.2)
    for ax in grid[-1]:
        ax.set_xlabel("step")
    assert image is not None
    figure.colorbar(image, ax=grid, label="CKA", shrink=0.8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(note, fontsize=11, color=NOTE_COLOR)
    return grid[0, 0]


@study_style
def layer_by_layer(maps: Mapping[str, Map], title: str, note: str) -> Axes:
    """Every stage against every stage, a panel a pair of checkpoints, all on one scale; bottleneck marked."""
    figure, grid = plt.subplots(
        1, len(maps), figsize=(1.6 + 3.3 * len(maps), 4.8), sharex=True, sharey=True, squeeze=False
    )
    image = None
    for ax, (name, found) in zip(grid[0], maps.items(), strict=True):
        rows, columns = ([label.layer for label in side] for side in (found.rows, found.columns))
        image = heat_map(ax, pd.DataFrame(found.values, rows, columns), 0, 1, square=True)
        ax.set_title("\n".join(name.split(" | ")), loc="left", fontsize=12)
        ax.tick_params(axis="x", rotation=90)
        ax.axvline(bottleneck(columns) + 0.5, color="white", linestyle=":", linewidth=1.2)
        ax.axhline(bottleneck(rows) + 0.5, color="white", linestyle=":", linewidth=1.2)
    assert image is not None
    figure.colorbar(image, ax=grid, label="CKA", shrink=0.7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(note, fontsize=11, color=NOTE_COLOR)
    return grid[0, 0]


def map_table(maps: Mapping[str, Map]) -> pd.DataFrame:
    """What `layer_by_layer` draws, one row a cell: panel, and the columns of `Map.table`."""
    return pd.concat([found.table().assign(panel=name.replace(" | ", ", ")) for name, found in maps.items()])


@study_style
def comparison_cost(table: pd.DataFrame, note: str) -> Axes:
    """Seconds to represent and to compare, against layers, images and checkpoints, on one logarithmic scale."""
    axes = list(dict.fromkeys(table.axis))
    figure, grid = plt.subplots(1, len(axes), figsize=(12, 4.4), sharey=True, squeeze=False)
    words = {"representing": "forward passes and Gram matrices", "comparing": "comparing all pairs"}
    looks = dict(zip(words.values(), (ARM_STYLES["full_finetuning"], ARM_STYLES["encoder_only"]), strict=True))
    for ax, axis in zip(grid[0], axes, strict=True):
        own = table[table.axis == axis].rename(columns=words)
        long = own.melt("value", list(words.values()), var_name="what", value_name="seconds")
        lines(ax, long, "value", "seconds", "what", looks, intervals=False)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(own.value, [str(value) for value in own.value])
        ax.set_xlabel(axis)
    grid[0, 0].set_ylabel("CPU seconds (log scale)")
    legend_beside(grid[0, -1])
    figure.suptitle("What a map costs", x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel("\n".join(textwrap.wrap(note, 120)), fontsize=11, color=NOTE_COLOR)
    return grid[0, 0]


def by_group(maps: LayerMaps) -> list[tuple[str, int, int]]:
    """Checkpoints as (group, seed, place), groups in a fixed order, every checkpoint once; untrained ones last."""
    found: dict[int, tuple[str, int, int]] = {}
    for group in ("own", "shared", "random", "shuffled"):
        for seed, place in maps.places(group).items():
            found.setdefault(place, (group, seed, place))
    for seed, place in maps.places("random", "start").items():
        found.setdefault(place, ("untrained", seed, place))
    return list(found.values())


def coordinates(similarity: np.ndarray) -> np.ndarray:
    """Places (n, 2) of items in a plane whose distances are those of a similarity (n, n) as well as a plane can.

    Classical scaling (Torgerson 1952) of the squared distances 2 - 2 s; exact for s = inner products in a plane.
    """
    count = len(similarity)
    centering = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(centering @ similarity @ centering)
    return vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0))


def run_pair_table(maps: LayerMaps) -> pd.DataFrame:
    """What `run_by_run` draws, one row a cell: layer, group, seed and run of both networks, CKA."""
    order, tables = by_group(maps), []
    a, b = (each.ravel() for each in np.indices((len(order), len(order))))
    about = {
        f"{what}_{side}": [value(order[at]) for at in which]
        for side, which in (("a", a), ("b", b))
        for what, value in _about(maps).items()
    }
    for layer in _three(maps):
        tables.append(pd.DataFrame({"layer": maps.layers[layer], **about, "cka": _in_order(maps, layer).ravel()}))
    return pd.concat(tables, ignore_index=True)


def embedding_table(maps: LayerMaps) -> pd.DataFrame:
    """What `embedding` draws, one row a point: layer, group, seed, run, x, y."""
    order, tables = by_group(maps), []
    about = {what: [value(each) for each in order] for what, value in _about(maps).items()}
    for layer in _three(maps):
        x, y = _points(maps, layer).T
        tables.append(pd.DataFrame({"layer": maps.layers[layer], **about, "x": x, "y": y}))
    return pd.concat(tables, ignore_index=True)


def _about(maps: LayerMaps) -> dict[str, Callable[[tuple[str, int, int]], object]]:
    """What is told of a checkpoint of `by_group`, by column."""
    runs = maps.checkpoints.run_id
    return {"group": lambda each: GROUPS[each[0]], "seed": lambda each: each[1], "run": lambda each: runs[each[2]]}


def _in_order(maps: LayerMaps, layer: int) -> np.ndarray:
    """Similarity of checkpoints at a layer, in the order of `by_group`."""
    places = [place for _, _, place in by_group(maps)]
    return maps.values[layer][np.ix_(places, places)]


def _points(maps: LayerMaps, layer: int) -> np.ndarray:
    similarity = _in_order(maps, layer)
    np.fill_diagonal(similarity, 1)
    return coordinates(similarity)


@study_style
def run_by_run(maps: LayerMaps, title: str) -> Axes:
    """Every run against every run at three stages: the first, the bottleneck, the last; groups in blocks."""
    groups = [group for group, _, _ in by_group(maps)]
    layers = _three(maps)
    figure, grid = plt.subplots(1, 3, figsize=(13.5, 5.0), sharey=True)
    image = None
    edges = [at for at in range(1, len(groups)) if groups[at] != groups[at - 1]]
    for ax, layer in zip(grid, layers, strict=True):
        image = heat_map(ax, pd.DataFrame(_in_order(maps, layer)), 0, 1, square=True)
        ax.set_title(maps.layers[layer], loc="left", fontsize=12)
        for edge in edges:
            ax.axhline(edge, color="white", linewidth=1.5)
            ax.axvline(edge, color="white", linewidth=1.5)
        starts = [0, *edges, len(groups)]
        centers = [(a + b) / 2 for a, b in itertools.pairwise(starts)]
        ax.set_yticks(centers, [GROUPS[groups[int(each)]] for each in starts[:-1]])
        ax.set_xticks([])
    assert image is not None
    figure.colorbar(image, ax=grid, label="CKA", shrink=0.8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(f"one row and column a network, by seed within its group; {maps.about}", fontsize=11,
                     color=NOTE_COLOR)  # fmt: skip
    return grid[0]


@study_style
def runs_clustered(maps: LayerMaps, title: str) -> Axes:
    """Every run against every run at the bottleneck, put in order by their similarity alone, which is drawn as a tree.

    Clusters join by the mean of 1 - CKA over their pairs. Colors at the edge tell how a network started, and took no
    part.
    """
    order, values = by_group(maps), _in_order(maps, maps.bottleneck)
    apart = 1 - (values + values.T) / 2
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform(np.maximum(apart, 0), checks=False), method="average", optimal_ordering=True)
    names = [f"{GROUPS[group]}, seed {seed}" for group, seed, _ in order]
    origin = pd.Series([GROUP_STYLES[group].color for group, _, _ in order], index=names, name="start")
    side = 3.6 + 0.24 * len(order)
    width, height = side + 3.9, side + 1.2  # inches
    with plt.rc_context({"figure.constrained_layout.use": False}):  # seaborn places the parts itself
        grid: Any = sns.clustermap(
            pd.DataFrame(values, names, names), row_linkage=tree, col_linkage=tree, row_colors=origin, vmin=0, vmax=1,
            cmap=COLORS, xticklabels=False, yticklabels=True, figsize=(width, height),
            dendrogram_ratio=(0.16, 0.02), cbar_kws={"label": "CKA"},
        )  # fmt: skip
    grid.gs.update(left=0.02, right=1 - 3.6 / width, bottom=1.0 / height, top=1 - 0.5 / height)
    grid.ax_cbar.set_position([1 - 0.9 / width, (1 + 0.3 * side) / height, 0.16 / width, 0.4 * side / height])
    grid.ax_col_dendrogram.set_visible(False)
    ax = grid.ax_heatmap
    ax.tick_params(length=0, labelsize=10)
    for key in (grid.ax_row_colors, grid.ax_cbar):
        key.set_label("<colorbar>")  # as matplotlib names its own: no panel of the figure
        key.tick_params(length=0)
    grid.figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    grid.figure.supxlabel(f"in the order of a tree of 1 - CKA, average linkage;\n{maps.about}", fontsize=11,
                          color=NOTE_COLOR)  # fmt: skip
    return ax


@study_style
def embedding(maps: LayerMaps, title: str) -> Axes:
    """Runs as points in a plane, near where their representations are alike, at three stages; groups by color."""
    order = by_group(maps)
    figure, grid = plt.subplots(1, 3, figsize=(13.5, 4.8), sharex=True, sharey=True)
    for ax, layer in zip(grid, _three(maps), strict=True):
        points = _points(maps, layer)
        for group in dict.fromkeys(group for group, _, _ in order):
            at = [place for place, each in enumerate(order) if each[0] == group]
            style = GROUP_STYLES[group]
            ax.plot(*points[at].T, linestyle="none", color=style.color, marker=style.marker, label=GROUPS[group])
            for place in at:
                ax.annotate(str(order[place][1]), points[place], (5, 3), textcoords="offset points", fontsize=9,
                            color=style.color)  # fmt: skip
        ax.set_title(maps.layers[layer], loc="left", fontsize=12)
        ax.set_aspect("equal")
        ax.tick_params(labelbottom=False, labelleft=False)
        ax.margins(0.12)
    legend_beside(grid[-1])
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel("classical scaling of 2 - 2 CKA, one scale in all panels; numbers: seeds; axes have no meaning "
                     "of their own", fontsize=11, color=NOTE_COLOR)  # fmt: skip
    return grid[0]


def _three(maps: LayerMaps) -> list[int]:
    return [0, maps.bottleneck, len(maps.layers) - 1]
