"""Intervals against their lines, as small SVG pictures that stretch with the page and take its colors.

A picture holds shapes only, placed in percent of its width: words and numbers stand beside it as text, so that none is
too small to read at any width. Filled diamonds are real data, open circles simulated ones, crosses are on both or not
known; the tinted side is the one on which the claim holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from analysis.claims.ledger.table import number_text
from analysis.claims.verdicts import VERDICTS

HEIGHT, MIDDLE = 18, 9
EDGE = 4.0  # percent of the width that stay free at both ends
NEAR = 22.0  # percent: labels closer than that would touch
MARKS = {"simulated": '<circle class="open" r="4"/>', "real": '<path d="M0-5.5 5.5 0 0 5.5-5.5 0z"/>'}
CROSS = '<path class="open" d="M-4-4 4 4M-4 4 4-4"/>'


class Axis(NamedTuple):
    """A common axis of some rows: its ends, in the unit of the effect, and whether it is one of ratios."""

    low: float
    high: float
    log: bool

    def at(self, value: float) -> float:
        """Where a value lies, in percent of the width."""
        low, high, value = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        return EDGE + (100 - 2 * EDGE) * (value - low) / (high - low)


def axis(rows: Sequence[Mapping[str, Any]]) -> Axis | None:
    """The axis that holds all effects, intervals and lines of rows of one unit; None where there is no number."""
    values = [row.get(key) for row in rows for key in ("effect", "line")]
    values += [bound for row in rows for bound in row.get("interval") or ()]
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    ratios = all(" / " in str(row.get("unit") or "") for row in rows) and min(known) > 0
    low, high = min(known), max(known)
    if low == high:
        low, high = (low / 2, high * 2) if ratios else (low - 1, high + 1)
    return Axis(low, high, ratios)


def plot(row: Mapping[str, Any], on: Axis | None) -> str:
    """One row: the side where the claim holds, the line, the interval, the effect; nothing where it has no number."""
    if on is None or row.get("effect") is None:
        return ""
    shapes = []
    if row.get("line") is not None:
        line = on.at(row["line"])
        left, width = (line, 100 - line) if row.get("side") == "above" else (0.0, line)
        shapes.append(f'<rect class="holds" x="{left:.1f}%" width="{width:.1f}%" height="{HEIGHT}"/>')
        shapes.append(f'<line class="line" x1="{line:.1f}%" x2="{line:.1f}%" y2="{HEIGHT}"/>')
    low, high = row.get("interval") or (None, None)
    if low is not None or high is not None:  # an open end reaches to the edge
        ends = [0.0 if low is None else on.at(low), 100.0 if high is None else on.at(high)]
        kind = "interval fragile" if row.get("fragile") else "interval"
        shapes.append(f'<line class="{kind}" x1="{ends[0]:.1f}%" x2="{ends[1]:.1f}%" y1="{MIDDLE}" y2="{MIDDLE}"/>')
    mark = MARKS.get(str(row.get("data")), CROSS)
    shapes.append(f'<svg class="mark" x="{on.at(row["effect"]):.1f}%" y="{MIDDLE}">{mark}</svg>')
    verdict = row.get("verdict")
    return _svg(f"plot {verdict}" if verdict in VERDICTS else "plot", shapes)


def scale(on: Axis | None, lines: Sequence[float]) -> str:
    """The numbers below the rows of one axis: the lines, together where they touch; the ends where there is room."""
    if on is None:
        return ""
    places: list[tuple[float, str]] = []
    for value in sorted(set(lines)):
        if places and on.at(value) - places[-1][0] < NEAR:
            places[-1] = ((places[-1][0] + on.at(value)) / 2, f"{places[-1][1]}, {number_text(float(value))}")
        else:
            places.append((on.at(value), number_text(float(value))))
    for value in (on.low, on.high):
        if all(abs(on.at(value) - place) > NEAR for place, _ in places):
            places.append((on.at(value), number_text(value)))
    anchors = ((NEAR, "start"), (100 - NEAR, "middle"), (math.inf, "end"))
    labels = [
        f'<text x="{place:.1f}%" y="11" text-anchor="{next(name for end, name in anchors if place <= end)}">'
        f"{text}</text>"
        for place, text in places
    ]
    return _svg("scale", labels)


def _svg(kind: str, shapes: Sequence[str]) -> str:
    head = f'<svg class="{kind}" width="100%" height="{HEIGHT}" aria-hidden="true" focusable="false">'
    return head + "".join(shapes) + "</svg>"
