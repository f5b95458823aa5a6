"""Figures of runs against runs: who is alike, how far groups lie apart, how much runs of a group differ."""

# pandas types every selection as "a table or a series", which no annotation can mend.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import looks
from analysis.figures_layers import COLORS, GROUP_LOOKS, GROUPS, interval_line, mark_stages
from analysis.looks import styled
from analysis.series import LayerMaps
from analysis.variability import Separation


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


@styled
def run_by_run(maps: LayerMaps, title: str) -> Axes:
    """Every run against every run at three stages: the first, the bottleneck, the last; groups in blocks."""
    order = by_group(maps)
    places = [place for _, _, place in order]
    groups = [group for group, _, _ in order]
    layers = _three(maps)
    figure, grid = plt.subplots(1, 3, figsize=(13.5, 5.0), sharey=True)
    image = None
    edges = [at for at in range(1, len(groups)) if groups[at] != groups[at - 1]]
    for ax, layer in zip(grid, layers, strict=True):
        image = ax.imshow(maps.values[layer][np.ix_(places, places)], cmap=COLORS, vmin=0, vmax=1)
        ax.set_title(maps.layers[layer], loc="left", fontsize=12)
        for edge in edges:
            ax.axhline(edge - 0.5, color="white", linewidth=1.5)
            ax.axvline(edge - 0.5, color="white", linewidth=1.5)
        starts = [0, *edges, len(groups)]
        centers = [(a + b - 1) / 2 for a, b in itertools.pairwise(starts)]
        ax.set_yticks(centers, [GROUPS[groups[int(each)]] for each in starts[:-1]])
        ax.set_xticks([])
        ax.grid(visible=False)
    assert image is not None
    figure.colorbar(image, ax=grid, label="CKA", shrink=0.8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(f"one row and column a network, by seed within its group; {maps.about}", fontsize=11,
                     color=looks.NOTE_COLOR)  # fmt: skip
    return grid[0]


@styled
def embedding(maps: LayerMaps, title: str) -> Axes:
    """Runs as points in a plane, near where their representations are alike, at three stages; groups by color."""
    order = by_group(maps)
    places = [place for _, _, place in order]
    figure, grid = plt.subplots(1, 3, figsize=(13.5, 4.8), sharex=True, sharey=True)
    for ax, layer in zip(grid, _three(maps), strict=True):
        similarity = maps.values[layer][np.ix_(places, places)].copy()
        np.fill_diagonal(similarity, 1)
        points = coordinates(similarity)
        for group in dict.fromkeys(group for group, _, _ in order):
            at = [place for place, each in enumerate(order) if each[0] == group]
            look = GROUP_LOOKS[group]
            ax.plot(*points[at].T, linestyle="none", color=look.color, marker=look.marker, label=GROUPS[group])
            for place in at:
                ax.annotate(str(order[place][1]), points[place], (5, 3), textcoords="offset points", fontsize=9,
                            color=look.color)  # fmt: skip
        ax.set_title(maps.layers[layer], loc="left", fontsize=12)
        ax.set_aspect("equal")
        ax.tick_params(labelbottom=False, labelleft=False)
        ax.margins(0.12)
    looks.legend_beside(grid[-1])
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel("classical scaling of 2 - 2 CKA, one scale in all panels; numbers: seeds; axes have no meaning "
                     "of their own", fontsize=11, color=looks.NOTE_COLOR)  # fmt: skip
    return grid[0]


def _three(maps: LayerMaps) -> list[int]:
    return [0, maps.bottleneck, len(maps.layers) - 1]


@styled
def separation(found: Separation, title: str, *, ax: Axes | None = None) -> Axes:
    """Mean similarity by stage within each group and between them; stages that differ by themselves are starred."""
    ax = looks.axes(ax, width=9)
    table = found.layers
    x = np.arange(len(table))
    lines = (("within", "own", "within: from a source"), ("within_random", "random", "within: random"))
    for column, group, label in lines:
        look = GROUP_LOOKS[group]
        ax.plot(x, table[column], color=look.color, marker=look.marker, label=label)
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
    looks.head(ax, title, note)
    looks.legend_beside(ax)
    return ax


@styled
def spread_ratios(table: pd.DataFrame, title: str, *, factor: float = 1.25, ax: Axes | None = None) -> Axes:
    """Spread of fine-tuned over that of random-start networks by stage, log scale; the band is what counts as equal."""
    ax = looks.axes(ax, width=9)
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
    looks.head(ax, title, f"spread: 1 - mean CKA of two networks; bars: 95 % jackknife t intervals over seeds; band: "
               f"within a factor of {factor:g}")  # fmt: skip
    looks.legend_beside(ax)
    return ax


@styled
def parts_of_a_source(parts: pd.DataFrame) -> Axes:
    """What stages of a source are worth: gain in test Dice, and time to the plateau, a row per task and arm.

    Args:
        parts: of `reuse.transplants`.
    """
    rows = parts.reset_index(drop=True)
    figure, grid = plt.subplots(1, 2, figsize=(12, 2.0 + 0.5 * len(rows)), sharey=True)
    for ax, name, neutral in zip(grid, ("gain", "ratio"), (0, 1), strict=True):
        ax.axvline(neutral, color="black", linewidth=1)
        for row in rows.itertuples():
            look = looks.look(row.arm.split(" ")[0])
            value, low, high = (getattr(row, each) for each in (name, f"{name}_low", f"{name}_high"))
            looks.mean_mark(ax, value, row.Index, low, high, look, across=True)
        ax.locator_params(axis="x", nbins=5)
        shown = rows[name].dropna()
        if len(shown):
            reach = [*shown, neutral]
            looks.limits(ax.set_xlim, reach, rows[f"{name}_low"], rows[f"{name}_high"], least=0.1)
    several = rows.task.nunique() > 1
    labels = [f"{row.arm}\n{row.task}" if several else row.arm for row in rows.itertuples()]
    grid[0].set_yticks(range(len(rows)), labels)
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    grid[0].set_xlabel("gain in test Dice over scratch")
    grid[1].set_xlabel("time to 95 % of the scratch plateau,\nover that of scratch")
    title = looks.task_title(rows) if not several else "Parts of a source"
    figure.suptitle(f"{title}: what parts of a source are worth", x=0.01, ha="left", fontsize=13, fontweight="bold")
    seeds = f"{looks.count_text(int(rows.seeds.min()), 0)} at least; wide intervals run out of the picture"
    figure.supxlabel(f"{looks.INTERVAL}; {seeds}", fontsize=11, color=looks.NOTE_COLOR)
    return grid[0]
