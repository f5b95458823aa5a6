"""Figures of sets of layers: which to tune, at what cost, where the advantage comes from. Table in, axes out."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.claims.which_layers.agreement import JUDGED, REFERENCES
from analysis.claims.which_layers.layer_sets import CONDITION
from analysis.figures.charts import heat_map
from analysis.figures.style import (
    ARM_STYLES,
    INTERVAL,
    NOTE_COLOR,
    ArmStyle,
    axes,
    empty_axes,
    legend_below,
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
from analysis.statistics.intervals import mean_interval

# Ends of an ordering look like the halves of the network that they grow into.
SIDES = {
    "shallow": ARM_STYLES["encoder_only"],
    "deep": ARM_STYLES["decoder_only"],
    "single": ARM_STYLES["layer_subset"],
    "whole": ARM_STYLES["full_finetuning"],
}
ORDERS = {"path": "along the path", "level": "by level"}


@study_style
def layer_map(cells: pd.DataFrame, task: str, *, ax: Axes | None = None) -> Axes:
    """Test Dice of every set of layers of a task: a row per set and volume, by ordering; `cells` of `layer_sets`."""
    rows = cells[(cells.task == task) & (cells.seeds > 0)]
    if not len(rows):
        return empty_axes(axes(ax), task, "no set of layers was trained on this task")
    place = {"": 0, "path": 1, "level": 2}
    rows = rows.assign(first=rows.order.map(place), name=[_name(row, rows) for row in rows.itertuples()])
    rows = rows.sort_values(["volume", "matched", "first", "count", "side"], ascending=[True, True, True, True, False])
    ax = axes(ax, width=9.5, height=2.2 + 0.36 * len(rows))
    for at, cell in enumerate(rows.itertuples()):
        mean_mark(ax, cell.mean, at, cell.low, cell.high, SIDES[cell.side], across=True)
        _beside(ax, at, f"{int(cell.trainable):,} · {seeds_text(cell.seeds, cell.diverged)}")
    for at in np.flatnonzero(np.diff(rows.volume.to_numpy(dtype=np.float64))):
        ax.axhline(at + 0.5, color=NOTE_COLOR, linewidth=1)
    _beside(ax, -0.8, "parameters that move · seeds", NOTE_COLOR)
    _legend(ax, rows.side)
    ax.set_yticks(range(len(rows)), rows.name.tolist())
    ax.set_ylim(len(rows) - 0.5, -1.0)
    ax.set_xlabel("Dice on test images")
    beyond = limits_around(ax.set_xlim, rows["mean"], rows.low, rows.high)
    title_and_note(ax, f"Which layers to tune: {task_title(rows)}", f"{INTERVAL}{beyond}")
    legend_below(ax)
    return ax


def _name(row: Any, rows: pd.DataFrame) -> str:
    several = rows.source.nunique() > 1
    volume = volume_text(str(row.volume_label), float(row.volume))
    return f"{row.label}, {volume_with_unit(rows, volume)}" + (f", from {row.source}" if several else "")


def _beside(ax: Axes, at: float, text: str, color: str = "black") -> None:
    """Words at the right of a row."""
    ax.text(1.02, at, text, transform=ax.get_yaxis_transform(), va="center", fontsize=11, color=color)


def _legend(ax: Axes, sides: pd.Series) -> None:
    words = {
        "shallow": "from the shallow end",
        "deep": "from the deep end",
        "single": "chosen stages",
        "whole": "all layers",
    }
    for side, style in SIDES.items():
        if (sides == side).any():
            ax.plot([], [], color=style.color, marker=style.marker, linestyle="none", label=words[side])


@study_style
def cumulative_curves(cells: pd.DataFrame, task: str, volume_label: str, *, ax: Axes | None = None) -> Axes:
    """Test Dice against the share of groups that move, from either end and under both orderings; whole sets only."""
    ax = axes(ax, width=9)
    rows = cells[(cells.task == task) & (cells.volume_label == volume_label) & (cells.matched == 0) & (cells.seeds > 0)]
    ends = rows[rows.side == "whole"]
    rows = rows[rows.side.isin(["shallow", "deep"])]
    if not len(rows):
        return empty_axes(ax, task, f"no set of layers was trained on this task at volume {volume_label}")
    source = rows.source.iloc[0]
    rows, ends = rows[rows.source == source], ends[ends.source == source]
    lines = list(rows.groupby(["order", "side"]))
    for number, ((order, side), own) in enumerate(lines):
        style, own = SIDES[str(side)], own.sort_values("count")
        shift = 0.006 * (number - (len(lines) - 1) / 2)
        share = [*(own["count"] / own.groups + shift), *[1.0] * len(ends)]
        line, label = "-" if order == "path" else "--", f"from the {side} end, {ORDERS[str(order)]}"
        ax.plot(
            share, [*own["mean"], *ends["mean"]], color=style.color, marker=style.marker, linestyle=line, label=label
        )
        for at, cell in zip(share, own.itertuples(), strict=False):
            mean_mark(ax, at, cell.mean, cell.low, cell.high, style, across=False)
    for cell in ends.itertuples():
        mean_mark(ax, 1.0, cell.mean, cell.low, cell.high, SIDES["whole"], across=False)
    ax.set_xlim(0, 1.05)
    shown = pd.concat([rows, ends])
    beyond = limits_around(ax.set_ylim, shown["mean"], shown.low, shown.high)
    ax.set(xlabel="share of groups of layers that move", ylabel="Dice on test images")
    volume = volume_text(volume_label, float(rows.volume.mean()))
    title_and_note(
        ax,
        f"{task_title(rows)}, {volume_with_unit(rows, volume)}",
        f"{INTERVAL}{beyond}; at 1: the whole network",
    )
    legend_beside(ax)
    return ax


@study_style
def advantage_forest(pairs: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Shallow - deep in test Dice, a row per task, volume, ordering and count; raw, and at equal size (open marks)."""
    title = "Shallow against deep"
    keys = ["title", "volume_label", "source", "order", "count", "groups", "matched"]
    rows = []
    for key, own in pairs[pairs.advantage.notna()].groupby(keys, sort=True):
        interval = mean_interval(own.advantage)
        about = {"task": own.task.iloc[0], "kind": own.kind.iloc[0], "volume": own.volume.mean()}
        values = own.advantage.to_numpy(dtype=np.float64)
        rows.append({**dict(zip(keys, key, strict=True)), **about, "values": values, "interval": interval})
    if not rows:
        return empty_axes(axes(ax), title, "no pair of shallow and deep sets with equal count")
    ax = axes(ax, width=9.5, height=2.0 + 0.42 * len(rows))
    several = len({row["source"] for row in rows}) > 1
    names = []
    for at, row in enumerate(rows):
        color = {"path": "#009E73", "level": "#0072B2"}[row["order"]]
        style = ArmStyle(color, "o" if row["matched"] == 0 else "s")
        estimate, low, high, count, _ = row["interval"]
        mean_mark(ax, estimate, at, low, high, style, across=True)
        if row["matched"]:
            ax.plot(estimate, at, marker="s", color=color, markerfacecolor="white", linestyle="none", zorder=5)
        seed_points(ax, row["values"], np.full(count, at), color, across=True)
        volume = volume_text(row["volume_label"], float(row["volume"]))
        size = f", {row['matched']:,} parameters" if row["matched"] else ""
        origin = f", from {row['source']}" if several else ""
        names.append(f"{row['task']}{origin}, {volume}: {row['order']}, {row['count']} of {row['groups']}{size}")
        _beside(ax, at, seeds_text(count, 0))
    for order, color in (("path", "#009E73"), ("level", "#0072B2")):
        if any(row["order"] == order for row in rows):
            ax.plot([], [], marker="o", color=color, linestyle="none", label=ORDERS[order])
    if any(row["matched"] for row in rows):
        ax.plot([], [], marker="s", color=NOTE_COLOR, markerfacecolor="white", linestyle="none",
                label="at equal size")  # fmt: skip
    ax.axvline(0, color="black", linewidth=1, zorder=1)
    ax.set_yticks(range(len(rows)), ["\n".join(textwrap.wrap(name, 62)) for name in names])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    bounds = np.array([row["interval"][1:3] for row in rows], dtype=np.float64)
    values = np.concatenate([*(row["values"] for row in rows), [0.0]])
    beyond = limits_around(ax.set_xlim, values, bounds[:, 0], bounds[:, 1])
    ax.set_xlabel("Dice on test images, shallow - deep, same seed")
    simulated = "; simulated data" if all(row["kind"] == "simulated" for row in rows) else ""
    title_and_note(ax, title, f"{INTERVAL}; dots: single seeds{beyond}{simulated}")
    legend_below(ax)
    return ax


@study_style
def texture_heatmap(cells: pd.DataFrame, count: int | None = None, *, ax: Axes | None = None) -> Axes:
    """The advantage of shallow layers over distance in grain and in shape; `cells` of `texture_map_summary`.

    Args:
        count: of stages on either side; default: the smallest there is.
    """
    title = "Where shallow layers pay (simulated ultrasound)"
    rows = cells[cells.on_map & (cells.seeds > 0)] if len(cells) else cells
    if not len(rows):
        return empty_axes(axes(ax), title, "no run on the map of grain and shape; the suite texture trains it")
    widest = rows.groupby("source").task.nunique().idxmax()
    rows = rows[rows.source == widest]
    count = int(rows["count"].min()) if count is None else count
    rows = rows[rows["count"] == count]
    wide = rows.pivot_table(index="shape", columns="grain", values="mean").sort_index(ascending=False)
    ax = axes(ax, width=7.5, height=5.0)
    reach = max(0.1, float(np.nanmax(np.abs(wide.to_numpy()))))  # noise of some hundredths stays pale
    words = wide.astype("object").map(lambda _: "")
    for row in rows.itertuples():
        interval = f"[{row.low:+.2f}, {row.high:+.2f}]" if row.seeds > 1 else "one seed"
        words.loc[row.shape, row.grain] = f"{row.mean:+.3f}\n{interval}"
    wide = wide.rename(index="{:.2g}".format, columns="{:.2g}".format)
    image = heat_map(ax, wide, -reach, reach, colors="PuOr_r", words=words.to_numpy())
    ax.set(xlabel="grain: speckle coarser than the source's (octaves)", ylabel="shape: lesions smaller (octaves)")
    title_and_note(
        ax, title, f"{count} first stages - {count} last, source {widest}; mean [95 % t interval over seeds]"
    )
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, ax=ax, label="Dice, shallow - deep", shrink=0.9)
    return ax


@study_style
def speed_by_set(summary: pd.DataFrame, *, fraction: float = 0.95, ax: Axes | None = None) -> Axes:
    """Steps to a fraction of the whole network's plateau, as a ratio; seconds and Dice lost stand at the right."""
    title = f"Steps to {percent(fraction)} of the whole network's plateau"
    rows = summary[np.isclose(summary.fraction.astype("float64"), fraction)]
    if not len(rows):
        return empty_axes(axes(ax), title, "no set of layers beside full fine-tuning")
    ax = axes(ax, width=9.5 + 0.2 * max(0, rows.task.str.len().max() - 20), height=2.0 + 0.4 * len(rows))
    several = rows.source.nunique() > 1
    names = []
    for at, row in enumerate(rows.itertuples()):
        side = "deep" if any(word in row.label for word in ("last", "bottom")) else "shallow"
        mean_mark(ax, row.steps, at, row.low, row.high, SIDES[side], across=True)
        never = f" · {row.never} of {row.seeds} never" if row.never else ""
        _beside(ax, at, f"{row.seconds:.2f} · {row.step_cost:.2f} · {row.lost_dice:+.3f}{never}")
        names.append(
            f"{row.task}, {volume_with_unit(rows, row.volume_label)}: {row.label}"
            + (f", from {row.source}" if several else "")
        )
    _beside(ax, -0.85, "seconds · per step · Dice lost", NOTE_COLOR)
    ax.axvline(1, color="black", linewidth=1, zorder=1)
    ax.set_xscale("log")
    ax.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    ax.minorticks_off()
    ax.set_xlim(min(0.45, 0.8 * rows.steps.min()), max(2.2, 1.25 * rows.steps.max()))
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.5, -1.1)
    ax.set_xlabel("steps, set / whole network (log scale)")
    note = "geometric mean and 95 % t interval of log ratios over seeds, some run out of the picture; runs that never "
    title_and_note(ax, title, note + "get there count with their budget; at the right: ratios, and test Dice lost")
    return ax


@study_style
def agreement_forest(rows: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Rank correlation of signals with test Dice, mean over conditions; `rows` of `agreement.ranking_agreement`."""
    title = "Would it have told which layers to tune?"
    if not len(rows):
        return empty_axes(axes(ax), title, "no condition with four trained sets of layers")
    means = rows.groupby(["signal", *CONDITION]).rho.mean()
    signals, count = [name for name in JUDGED if name in means], rows.groupby(CONDITION).ngroups
    ax = axes(ax, width=9, height=1.9 + 0.45 * len(signals))
    for at, signal in enumerate(signals):
        mean, low, high, _, _ = mean_interval(values := means[signal].to_numpy(dtype=np.float64))
        style = ARM_STYLES["full_finetuning" if signal in REFERENCES else "layer_subset"]
        mean_mark(ax, mean, at, max(low, -1), min(high, 1), style, across=True)  # no correlation lies beyond
        seed_points(ax, values, np.full(len(values), at), style.color, across=True)
        lost = rows[rows.signal == signal][["lost", "lost_by_chance"]].mean()
        _beside(ax, at, f"{lost.lost:.3f} · {lost.lost_by_chance:.3f}")
    _beside(ax, -0.85, "Dice lost: first choice · any set", NOTE_COLOR)
    ax.axvline(0, color="black", linewidth=1, zorder=1)
    ax.set_yticks(range(len(signals)), signals)
    ax.set(xlim=(-1.05, 1.05), ylim=(len(signals) - 0.5, -1.1), xlabel="rank correlation with test Dice after training")
    note = f"dots: {count} conditions, means over seeds; mean and 95 % t interval over conditions"
    title_and_note(ax, title, note + "; simulated data" * bool((rows.kind == "simulated").all()))
    return ax


@study_style
def signal_agreement(
    table: pd.DataFrame, truth: pd.Series | None = None, *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Sets of layers by what their first step promises, best at the top; `table` of `recommendation.rank_layer_sets`.

    Args:
        truth: test Dice by name of the set, where such runs were trained; stands at the right.
        title: what the recommendation is for.
    """
    ax = axes(ax, width=9, height=1.9 + 0.45 * len(table))
    best = float(table.gain.abs().max()) or 1.0
    known = pd.Series(dtype="float64") if truth is None else truth
    top = known.reindex(table["set"]).idxmax() if known.reindex(table["set"]).notna().any() else None
    for at, row in enumerate(table.itertuples()):
        ax.barh(at, row.gain / best, height=0.6, color=ARM_STYLES["layer_subset"].color, alpha=0.8 if at == 0 else 0.4)
        told = f" · Dice {known[row.set]:.3f}{' (best)' if row.set == top else ''}" if row.set in known.index else ""
        _beside(ax, at, f"{row.gradient:.3f} · {row.shift:.2f}{told}")
    _beside(ax, -0.85, "gradient · shift" + (" · truth" if len(known) else ""), NOTE_COLOR)
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(range(len(table)), table["set"].tolist())
    ax.set_ylim(len(table) - 0.5, -1.1)
    ax.set_xlabel("gain of a first step on unseen target images, relative to the largest")
    title_and_note(ax, title or "Which layers promise most", "before any training; no interval: one set of images")
    return ax
