"""A figure in words, read off what is drawn in it: the alternative text of a page. Figure in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.charts import meshes

SERIES, PANELS, LETTERS = 8, 3, 900  # told one by one at most; letters of a text
Mark = tuple[str, float, float]  # the series, x and y


def described(figure: Figure, data: pd.DataFrame) -> str:
    """What a figure shows: its kind and subject, its axes, and the main numbers of what is drawn.

    Args:
        data: what is drawn, as published beside the figure; pictures and diagrams, without axes, are told from it.
    """
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>" and _drawn(ax)]
    head = figure.get_suptitle() or (_title(panels[0]) if panels else "")
    if not panels:
        said = [_plain(text.get_text()) for ax in figure.axes for text in ax.texts]
        head = head or next((_title(ax) for ax in figure.axes if _title(ax)), "")
        return _sentences([f"Nothing is drawn: {head}", *said])
    pictures = [ax for ax in panels if ax.images]
    if len(pictures) == len(panels):
        return _sentences([f"{_counted(len(panels), 'picture')}: {_plain(head)}", _captions(panels), _rows_of(data)])
    kinds = list(dict.fromkeys(_kind(ax) for ax in panels))
    several = f" in {len(panels)} panels" if len(panels) > 1 else ""
    told = [f"{' and '.join(kinds)}{several}: {_plain(head)}"]
    for ax in panels[:PANELS]:
        name = _plain(_title(ax)) if len(panels) > 1 else ""
        told += [f"{name}. {text}" if name else text for text in [_panel(ax, data)] if text]
    told += [f"{len(panels) - PANELS} more panels"] if len(panels) > PANELS else []
    return _sentences(told)


def _sentences(parts: Iterable[str]) -> str:
    text = ". ".join(part.strip().rstrip(".") for part in parts if part.strip()) + "."
    return text if len(text) <= LETTERS else text[: LETTERS - 2].rsplit(" ", 1)[0].rstrip(",;:") + " …"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _title(ax: Axes) -> str:
    return ax.get_title("left") or ax.get_title()


def _number(value: float) -> str:
    return f"{value:.3g}"


def _drawn(ax: Axes) -> bool:
    return bool(ax.images or meshes(ax) or _marks(ax) or _boxes(ax) or len(ax.patches) > 0)


def _kind(ax: Axes) -> str:
    if ax.images:
        return "Pictures"
    if meshes(ax):
        return "Heat map"
    if not _marks(ax):
        return "Boxes" if _boxes(ax) else "Histogram"
    if _named(ax, "y"):
        return "Rows of values"
    return "Values by column" if _named(ax, "x") else "Line chart"


def _names(ax: Axes, axis: str) -> list[str]:
    return [_plain(label.get_text()) for label in (ax.get_yticklabels() if axis == "y" else ax.get_xticklabels())]


def _named(ax: Axes, axis: str) -> bool:
    """Whether the ticks of an axis are words, so that each is a row or a column."""
    names = [name for name in _names(ax, axis) if name]
    return bool(names) and not all(_is_number(name) for name in names)


def _is_number(name: str) -> bool:
    return name.startswith(("$", "all (")) or name[:1] in "0123456789-−."


def _panel(ax: Axes, data: pd.DataFrame) -> str:
    if meshes(ax):
        return _heat_map(ax)
    if not _marks(ax):
        return (_texts(ax) if ax.axison else _rows_of(data)) if _boxes(ax) else _axes_words(ax)
    if _named(ax, "y"):
        return f"{_axes_words(ax)}: {_rows(ax)}"
    return f"{_axes_words(ax)}: {_lines(ax)}"


def _axes_words(ax: Axes) -> str:
    words = [f"{axis}: {_plain(label)}" for axis, label in (("x", ax.get_xlabel()), ("y", ax.get_ylabel())) if label]
    return "; ".join(words) or "no units"


def _heat_map(ax: Axes) -> str:
    values = np.ma.filled(np.ma.asarray(meshes(ax)[0].get_array(), dtype=np.float64), np.nan)
    rows, columns = _names(ax, "y"), _names(ax, "x")
    shape = f"{values.shape[0]} rows ({_ends(rows)}) by {values.shape[1]} columns ({_ends(columns)})"
    if not np.isfinite(values).any():
        return f"{shape}, no value"
    low, high = (np.unravel_index(find(values), values.shape) for find in (np.nanargmin, np.nanargmax))

    def told(at: Any) -> str:
        value = _number(float(values[at]))
        names = [each[place] for each, place in zip((rows, columns), at, strict=True) if len(each) > place]
        whole = len(rows) == values.shape[0] and len(columns) == values.shape[1]
        return f"{value} ({', '.join(names)})" if whole else value

    return f"{shape}; lowest {told(low)}, highest {told(high)}, mean {_number(float(np.nanmean(values)))}"


def _ends(names: Sequence[str]) -> str:
    named = [name for name in names if name]
    return "unnamed" if not named else named[0] if len(named) == 1 else f"{named[0]} to {named[-1]}"


def _boxes(ax: Axes) -> list[Rectangle]:
    return [each for each in ax.patches if isinstance(each, Rectangle) and each.get_width() and each.get_height()]


def _texts(ax: Axes) -> str:
    """What stands in boxes, by the names of their row and column where they have one."""
    rows, columns = ax.get_yticks(), ax.get_xticks()
    told = []
    for text in ax.texts:
        x, y = text.get_position()
        names = []
        for at, ticks, axis in ((y, rows, "y"), (x, columns, "x")):
            near = [name for tick, name in zip(ticks, _names(ax, axis), strict=False) if abs(tick - at) < 0.3 and name]
            names += near[:1]
        told.append(": ".join(filter(None, [", ".join(names), _plain(text.get_text())])))
    return _listed([each for each in told if each])


def _captions(panels: Sequence[Axes]) -> str:
    return _listed([_plain(_title(ax)) for ax in panels if _title(ax)])


def _rows_of(data: pd.DataFrame) -> str:
    """A table about pictures: what all rows share, then the first rows, numbers shortened."""
    drawn = ("value", "tap", "kernel", "line", "item", "measured")  # numbers by the hundred, of the picture itself
    about = data.drop(columns=[name for name in drawn if name in data]).drop_duplicates()
    shared = [name for name in about if about[name].nunique(dropna=False) == 1]
    rows = [_cells(row) for row in about.drop(columns=shared).head(SERIES).to_dict("records")]
    return _listed([_cells(about[shared].iloc[0].to_dict()) if len(about) else "", *rows])


def _cells(row: dict[Any, Any]) -> str:
    told = {key: value for key, value in row.items() if pd.notna(value) and value != ""}
    return ", ".join(f"{key} {_number(each) if isinstance(each, float) else each}" for key, each in told.items())


def _listed(items: Sequence[str]) -> str:
    items = [item for item in items if item]
    more = [f"{len(items) - SERIES} more"] if len(items) > SERIES else []
    return "; ".join([*items[:SERIES], *more])


def _labels(ax: Axes) -> dict[str, str]:
    """Color to the label of the legend."""
    found = {}
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
        color = getattr(handle, "get_color", lambda: None)()
        if isinstance(color, str | tuple):
            found.setdefault(to_hex(color), str(label))
    return found


def _marks(ax: Axes) -> list[Mark]:
    """Every point of a line or bar with the series it belongs to; lines across the whole axes are none."""
    labels, found = _labels(ax), []
    for line in ax.lines:
        label = str(line.get_label())
        x, y = (np.asarray(each, dtype=np.float64) for each in line.get_data())
        marked = line.get_marker() not in ("None", None, "", " ", "|", "_")  # the last two are caps of intervals
        if not len(x) or line.get_transform() != ax.transData or not (marked or len(x) > 2):
            continue
        name = labels.get(to_hex(line.get_color()), "") if label.startswith("_") else label
        found += [(name, float(a), float(b)) for a, b in zip(x, y, strict=True) if np.isfinite(a) and np.isfinite(b)]
    bars = [bar for group in ax.containers for bar in getattr(group, "patches", [])]
    return found + [("", bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in bars]


def _rows(ax: Axes) -> str:
    """The values of every named row, with the interval where the row has one."""
    marks, told = _marks(ax), []
    segments = [part for each in ax.collections if isinstance(each, LineCollection) for part in each.get_segments()]
    for at, name in zip(ax.get_yticks(), _names(ax, "y"), strict=False):
        own = sorted({x for _, x, y in marks if abs(y - at) < 0.45})
        bars = [sorted(part[:, 0]) for part in segments if len(part) == 2 and abs(part[:, 1] - at).max() < 0.45]
        if not own:
            continue
        middle = _number(own[0]) if len(own) == 1 else f"{_number(own[0])} to {_number(own[-1])}"
        interval = f" [{_number(bars[0][0])}, {_number(bars[0][1])}]" if len(own) == 1 and len(bars) == 1 else ""
        told.append(f"{name} {middle}{interval}")
    return _listed(told)


def _lines(ax: Axes) -> str:
    """Every series from its first point to its last, with its extremes where they lie between."""
    columns, words = dict(zip(ax.get_xticks(), _names(ax, "x"), strict=False)), _named(ax, "x")
    series: dict[str, list[tuple[float, float]]] = {}
    for name, x, y in _marks(ax):
        series.setdefault(name, []).append((x, y))
    told = []
    for name, points in series.items():
        points.sort()

        def at(x: float) -> str:
            reach = 0.45 if words else 0.08 * abs(x) * bool(ax.get_xscale() == "log")
            near = [word for tick, word in columns.items() if abs(tick - x) < reach and word]
            return near[0] if near else _number(x)

        (x0, first), (x1, last), values = points[0], points[-1], [y for _, y in points]
        text = f"{_number(first)} at {at(x0)}"
        if len(points) > 1:
            text = f"from {text} to {_number(last)} at {at(x1)}"
        if min(values) < min(first, last) or max(values) > max(first, last):
            text += f" (between {_number(min(values))} and {_number(max(values))})"
        told.append(f"{name} {text}".strip())
    return _listed(told)
