"""A figure's colors for a dark page: ink becomes light and paper dark, pictures and colored cells stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex, to_rgba, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.text import Annotation, Text

from analysis.figures.charts import meshes

PAPER, INK = "#15181c", "#e4e6e9"  # as in the style sheet of pages
GRAY = 0.06  # channels of a gray differ by less
DIM = 0.2  # relative luminance below which a color is hard to see on the paper (its contrast is under about 4)


def on_dark(color: Any) -> str:
    """A color as it is to be on a dark page: grays turned around, dim colors lightened, alpha kept."""
    *rgb, alpha = to_rgba(color)
    channels = np.array(rgb)
    if np.ptp(channels) < GRAY:
        ink, paper = (np.array(to_rgba(each)[:3]) for each in (INK, PAPER))
        channels = ink + channels.mean() * (paper - ink)
    else:
        while (channels**2.2) @ (0.2126, 0.7152, 0.0722) < DIM:
            channels = channels + 0.1 * (1 - channels)
    return to_hex((*channels, alpha), keep_alpha=True)


def darken(figure: Figure) -> None:
    """Give a figure that was drawn once the colors of a dark page.

    What stands on a picture or on a colored cell keeps its color, as the ground below it does.
    """
    grounds = [artist.get_window_extent() for ax in figure.axes for artist in _grounds(ax)]
    texts = [each for each in figure.findobj(Text) if not _stands_on(each, grounds)]
    kept = {id(line) for ax in figure.axes if ax.images or meshes(ax) for line in ax.lines}
    for text in texts:
        text.set_color(on_dark(text.get_color()))
    for line in figure.findobj(Line2D):
        if id(line) not in kept:
            line.set_markerfacecolor(on_dark(line.get_markerfacecolor()))
            line.set_markeredgecolor(on_dark(line.get_markeredgecolor()))
            line.set_color(on_dark(line.get_color()))
    for marks in figure.findobj(lambda artist: isinstance(artist, LineCollection | PathCollection)):
        _recolor(marks)
    for arrow in figure.findobj(FancyArrowPatch):
        arrow.set_color(on_dark(arrow.get_edgecolor()))
    for ax in figure.axes:
        if not ax.images and not meshes(ax):  # elsewhere the ground is what cells without a value show
            ax.set_facecolor(PAPER)
        for spine in ax.spines.values():
            spine.set_edgecolor(on_dark(spine.get_edgecolor()))
        for band in ax.patches:
            if band.get_zorder() <= 0:
                band.set_alpha(0.18)
    figure.set_facecolor(PAPER)


def _recolor(marks: Any) -> None:
    faces, edges = (to_rgba_array(each) for each in (marks.get_facecolor(), marks.get_edgecolor()))
    if len(faces):
        marks.set_facecolor([on_dark(each) for each in faces])
    if len(edges):
        marks.set_edgecolor([on_dark(each) for each in edges])


def _grounds(ax: Axes) -> list[Artist]:
    """What text may stand on: pictures, and cells and bars that are filled."""
    boxes = [each for each in ax.patches if isinstance(each, Rectangle) and each.get_zorder() > 0]
    filled = (each for each in boxes if to_rgba(each.get_facecolor())[3] > 0.3 and each.get_width())
    return [*ax.images, *meshes(ax), *filled]


def _stands_on(text: Text, grounds: list[Any]) -> bool:
    """Whether the middle of a text lies on one of these; an arrow without words stands nowhere."""
    if isinstance(text, Annotation) and not text.get_text():
        return False
    box = text.get_window_extent()
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    return any(ground.contains(x, y) for ground in grounds)
