"""How figures look: the style file, one color and marker per strategy, titles with a note, labels of cells."""

from __future__ import annotations

import functools
import textwrap
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import offset_copy

STYLE = Path(__file__).with_name("study.mplstyle")
NOTE_COLOR = "#555555"
INTERVAL = "mean and 95 % t interval over seeds"
P = ParamSpec("P")
T = TypeVar("T")


class ArmStyle(NamedTuple):
    """A color and a marker, always together."""

    color: str
    marker: str


# Colors of Okabe and Ito and of Tol's muted set; the marker tells apart what a color might not. Matplotlib has fifteen
# filled shapes; glyphs make up the rest.
ARM_STYLES = {
    "scratch": ArmStyle("#444444", "o"),
    "full_finetuning": ArmStyle("#0072B2", "s"),
    "frozen_random_encoder": ArmStyle("#E69F00", "v"),
    "frozen_source_encoder": ArmStyle("#D55E00", "^"),
    "encoder_only": ArmStyle("#009E73", "<"),
    "decoder_only": ArmStyle("#CC79A7", ">"),
    "head_only": ArmStyle("#56B4E9", "D"),
    "scale_shift": ArmStyle("#882255", "P"),
    "layer_subset": ArmStyle("#117733", "X"),
    "norm_only": ArmStyle("#AA4499", "p"),
    "bias_only": ArmStyle("#999933", "h"),
    "low_rank": ArmStyle("#44AA99", "*"),
    "l2_sp": ArmStyle("#332288", "d"),
    "transplant": ArmStyle("#661100", "8"),
    "frozen_drawn_encoder": ArmStyle("#DDCC77", "H"),
    "without_skips": ArmStyle("#6A3D9A", r"$\spadesuit$"),
    "frozen_random_decoder": ArmStyle("#A6761D", r"$\clubsuit$"),
    "shuffled_labels": ArmStyle("#888888", r"$\heartsuit$"),
}


def arm_style(arm: str) -> ArmStyle:
    """The look of an arm: that of its strategy, or one drawn from the name for options and strategies of one's own.

    An arm "from" one of several sources keeps its color; its marker is drawn from the source. A pure function of the
    name, so that a color means the same in every figure.
    """
    if arm in ARM_STYLES:
        return ARM_STYLES[arm]
    kinds = list(ARM_STYLES.values())
    name, _, source = arm.partition(" from ")
    number = zlib.crc32((source or name).encode())
    marker = kinds[number // len(kinds) % len(kinds)].marker
    return ArmStyle(arm_style(name).color if source else kinds[number % len(kinds)].color, marker)


def study_style(draw: Callable[P, T]) -> Callable[P, T]:
    """A figure function that draws in the study's style and leaves matplotlib's settings as they were."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        with plt.style.context(STYLE):
            drawn = draw(*args, **kwargs)
            interactive = matplotlib.is_interactive()
        # A notebook's first figure turns on its display, which leaving the context would turn off for all later ones.
        matplotlib.interactive(interactive)
        return drawn

    return inner


def axes(ax: Axes | None, *, width: float = 8.0, height: float = 4.5) -> Axes:
    """The axes given, or those of a new figure of this size in inches."""
    return ax if ax is not None else plt.subplots(figsize=(width, height))[1]


def title_and_note(ax: Axes, title: str, note: str, *, lift: int = 0) -> None:
    """A title and below it, in gray, what the marks and intervals are, both wrapped; `lift` points above the axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    letters = int(figure.get_size_inches()[0] * ax.get_position().width * 8.4)  # bold, 13 points
    below = textwrap.wrap(note, max(30, int(letters * 1.15)))
    ax.set_title("\n".join(textwrap.wrap(title, max(26, letters))), loc="left", pad=8 + lift + 15 * len(below))
    ax.annotate(
        "\n".join(below), (0, 1), (0, 6 + lift), xycoords="axes fraction", textcoords="offset points", va="bottom",
        fontsize=11, color=NOTE_COLOR, annotation_clip=False,
    )  # fmt: skip


def empty_axes(ax: Axes, title: str, reason: str) -> Axes:
    """Axes that say why there is nothing to draw, in place of an empty frame; a figure of their own becomes low."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    if len(figure.axes) == 1:
        figure.set_figheight(1.4)
    ax.set_axis_off()
    ax.set_title(title, loc="left")
    ax.text(0.5, 0.5, "\n".join(textwrap.wrap(reason, 50)), ha="center", va="center", transform=ax.transAxes)
    return ax


def task_title(rows: pd.DataFrame) -> str:
    """Title of the one task of these rows; says *simulated* where the data are, if the title does not yet."""
    title, kind = str(rows.title.iloc[0]), str(rows.kind.iloc[0])
    return f"{title} (simulated)" if kind == "simulated" and "simulated" not in title else title


def volume_text(label: str, volume: float) -> str:
    """A volume as axes and rows call it: "20", or "all (240)"."""
    return f"all ({volume:.0f})" if label == "all" else label


def volume_with_unit(rows: pd.DataFrame, volume: str) -> str:
    """A volume with what it counts, as titles call it: "20 images", "1 subject"."""
    what = "subject" if "goal" in rows and rows.goal.iloc[0] == "reconstruction" else "image"
    return f"{volume} {what}" if volume == "1" else f"{volume} {what}s"


def arm_labels(rows: pd.DataFrame) -> list[str]:
    """Label of each row's arm; with its source where an arm comes from several."""
    several = rows[rows.source != ""].groupby("arm").source.nunique() > 1
    return [
        f"{arm} from {source}" if source and several.get(arm, False) else arm
        for arm, source in zip(rows.arm, rows.source, strict=True)
    ]


def arms_in_order(labels: Sequence[str]) -> list[str]:
    """Labels without repeats: the known strategies in their order, then the rest by name."""
    known = {name: place for place, name in enumerate(ARM_STYLES)}
    return sorted(set(labels), key=lambda label: (known.get(label.split(" ")[0], len(known)), label))


def seeds_text(seeds: int, diverged: int) -> str:
    """What a row rests on: "3 seeds", "1 seed: no interval", "2 seeds, 1 diverged"."""
    words = "1 seed: no interval" if seeds == 1 else f"{seeds} seeds"
    return f"{words}, {diverged} diverged" if diverged else words


def mean_mark(ax: Axes, x: float, y: float, low: float, high: float, style: ArmStyle, *, across: bool) -> None:
    """A mean with its interval, if there is one; `across`: the interval lies along x."""
    if np.isfinite(low):
        value = x if across else y
        reach = [[value - low], [high - value]]
        along = (None, reach) if across else (reach, None)
        ax.errorbar(x, y, *along, color=style.color, marker="none", linestyle="none", zorder=3)
    ax.plot(x, y, color=style.color, marker=style.marker, linestyle="none", zorder=4)


def seed_points(ax: Axes, x: Any, y: Any, color: str, *, across: bool) -> None:
    """Single seeds: small and pale, a little beside the mean and its interval."""
    aside = (0, -9) if across else (7, 0)
    place = offset_copy(ax.transData, ax.get_figure(root=True), *aside, units="points")
    ax.scatter(x, y, s=18, color=color, alpha=0.6, linewidths=0, zorder=2, transform=place)


def limits_around(
    set_limits: Callable[[float, float], Any], values: Any, lows: Any, highs: Any, *, least: float = 0.02
) -> str:
    """Set limits that show every value, with room for intervals of the usual width.

    Returns:
        Words for the note where an interval (two seeds give wide ones) still runs out of the picture.
    """
    values = np.asarray(values, dtype=np.float64)
    room = max(least, 0.5 * float(np.ptp(values)))
    low, high = float(values.min()) - room, float(values.max()) + room
    set_limits(low, high)
    return "; some intervals run out of the picture" if (np.nanmin([low, *lows]), np.nanmax([high, *highs])) != (
        low, high,
    ) else ""  # fmt: skip


def legend_beside(ax: Axes) -> None:
    """A legend at the right of the axes, where it covers nothing."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)


def legend_below(ax: Axes) -> None:
    """A legend below the label of the x axis, for figures with text at the right."""
    below = offset_copy(ax.transAxes, ax.get_figure(root=True), 0, -48, units="points")
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, 0), bbox_transform=below, ncols=3)


def percent(fraction: float) -> str:
    """A fraction as text: "95 %"."""
    return f"{100 * fraction:g} %"


def row_name(rows: pd.DataFrame) -> str:
    """Task and volume of a row of a figure, wrapped; the rows given share both."""
    volume = volume_text(str(rows.volume_label.iloc[0]), float(rows.volume.astype("float64").mean()))
    return "\n".join(textwrap.wrap(f"{task_title(rows)}, {volume_with_unit(rows, volume)}", 38))
