"""Figures of images: grids with the outlines of masks, volumes as three planes, and real beside simulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.figures.style import study_style
from lib.data.prepared_folder import IGNORED, labeled
from lib.data.tasks.images import first_images
from lib.data.tasks.task import Task, get_task

OUTLINES = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00")  # by label (Okabe and Ito)
LINES = ("-", "--", ":")  # of the first, second and third time that a color is used
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}  # and the axis, of right, front and up, that they are cut across
Images = Sequence[np.ndarray] | np.ndarray


class _Panel(NamedTuple):
    """A picture with its mask: values from `low` to `high`, pixels `aspect` times as high as wide."""

    image: np.ndarray
    mask: np.ndarray
    caption: str
    low: float
    high: float
    aspect: float = 1.0


@study_style
def image_grid(
    images: Images,
    masks: Images,
    title: str,
    *,
    columns: int = 6,
    captions: Sequence[str] = (),
    task: Task | None = None,
) -> NDArray[np.object_]:
    """Images in a grid with their masks outlined, and a legend of labels where masks have several.

    A volume is shown as three planes, axial, coronal and sagittal, which cross in the labeled voxel that is nearest to
    the middle of all that is labeled, in gray from the 1st to the 99th percentile of its values. The person's right,
    or in the sagittal plane the front, is at the right; up, or in the axial plane the front, is at the top.

    Args:
        images: n arrays (h, w), (1, h, w) or in color (h, w, 3), uint8 or float in [0, 1]; or volumes (x, y, z) or
            (c, x, y, z), of which the first channel is shown.
        masks: n arrays (h, w) or (x, y, z) of 0 and 1, or of labels, which get a color each; what is ignored (255) has
            no outline.
        columns: pictures in a row, at most; for volumes at least the three of one.
        captions: one line above each image, if any; "mask empty" is added where it is.
        task: whose images these are; names the labels, and of volumes the axes, as `VolumeData` orders them, and the
            distances of voxels along them. None: axes are right, front and up, and voxels cubes.

    Returns:
        The axes, (rows, columns); those without a picture are switched off.

    Raises:
        ValueError: images and masks are not equally many, or none.
    """
    if not len(images) or len(images) != len(masks) or (captions and len(captions) != len(images)):
        raise ValueError(
            f"as many images as masks (and captions) are needed, at least one, got {len(images)}, {len(masks)}"
            + (f" and {len(captions)}" if captions else "")
        )
    shown = [
        _panels(*each, captions[place] if captions else "", task)
        for place, each in enumerate(zip(images, masks, strict=True))
    ]
    each, panels = len(shown[0]), [panel for panels in shown for panel in panels]
    columns = min(max(columns // each, 1) * each, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(max(4.5, 1.6 * columns), 1.75 * rows + 0.5), squeeze=False)
    figure.suptitle(_title(title, masks, task), x=0.01, ha="left", fontweight="bold", wrap=True)
    for ax in grid.flat:
        ax.set_axis_off()
    for ax, panel in zip(grid.flat, panels, strict=False):
        _picture(ax, panel)
    _legend(figure, masks, task)
    return grid


def picture_table(masks: Images, **about: Any) -> pd.DataFrame:
    """What is to be said of pictures beside a figure of them: one row each.

    Args:
        masks: as in `image_grid`. about: columns of one value or of one for each picture.

    Returns:
        Those of `about`, then height, width (of a volume with depth), share outlined and the labels that the mask has.
    """
    rows = []
    for mask in masks:
        sides = dict(zip(("height", "width", "depth"), np.shape(np.squeeze(mask)), strict=False))
        outlined = float(labeled(np.asarray(mask)).mean())
        rows.append({**sides, "outlined": outlined, "labels": " ".join(map(str, _labels([mask])))})
    table = pd.DataFrame(rows)
    return table.assign(**about)[[*about, *table]]


def example_table(name: str, size: int) -> pd.DataFrame:
    """What `example_grid` shows, one row a picture: task, number, size, share outlined."""
    _, masks = _examples(name, size)
    return picture_table(masks, task=name, kind=get_task(name).kind, picture=range(1, len(masks) + 1))


def _examples(name: str, size: int) -> tuple[Images, Images]:
    count, side = (6, size) if get_task(name).dim == 2 else (2, size // 2)
    return first_images(name, count, side)


def example_grid(name: str, size: int) -> NDArray[np.object_]:
    """The first images of a task with their outlines: six, or two volumes drawn with half as many voxels a side."""
    task = get_task(name)
    return image_grid(*_examples(name, size), task.title, task=task)


@study_style
def real_and_simulated(
    real: tuple[Images, Images],
    simulated: tuple[Images, Images],
    *,
    real_title: str,
    simulated_title: str,
    count: int = 5,
) -> NDArray[np.object_]:
    """Real images above simulated ones, each as (images, masks), at most `count` of each; axes (2, count).

    Volumes are shown as three planes each, as in `image_grid`, with axes right, front and up.
    """
    panels = [
        [panel for each in list(zip(images, masks, strict=False))[:count] for panel in _panels(*each, "", None)]
        for images, masks in (real, simulated)
    ]
    most = max(map(len, panels))
    figure = plt.figure(figsize=(max(4.5, 1.7 * most), 4.4))
    parts = figure.subfigures(2, 1, squeeze=False)[:, 0]
    grid = np.array([part.subplots(1, most, squeeze=False)[0] for part in parts])
    titles = (f"real: {real_title}", f"simulated: {simulated_title.removesuffix(' (simulated)')}")
    for part, row, title, own, (_, masks) in zip(parts, grid, titles, panels, (real, simulated), strict=True):
        part.suptitle(_title(title, masks, None), x=0.01, ha="left", fontweight="bold")
        for ax, panel in zip(row, own, strict=False):
            _picture(ax, panel)
        for ax in row:
            ax.set_axis_off()
        _legend(part, masks, None)
    return grid


def _panels(image: np.ndarray, mask: np.ndarray, caption: str, task: Task | None) -> list[_Panel]:
    """What is shown of an image: itself, or the planes of a volume."""
    image, mask = np.asarray(image), np.asarray(mask).squeeze()
    if mask.ndim == 2:
        return [_Panel(image.squeeze(), mask, caption, 0, 255 if image.dtype == np.uint8 else 1)]
    image = image[0] if image.ndim == 4 else image
    spacing = task.spacing if task and task.spacing else (1.0, 1.0, 1.0)
    if task:  # the widest axis comes last in `VolumeData`, in the place of the axis that stands in its own
        image, mask = (np.swapaxes(each, task.widest, 2) for each in (image, mask))
    low, high = np.percentile(image, [1, 99])
    places = np.argwhere(labeled(mask))
    middle = np.array(mask.shape) // 2
    if len(places):
        middle = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
    panels = []
    for plane, axis in PLANES.items():
        across, up = (each for each in range(3) if each != axis)
        picture, outlined = (each.take(middle[axis], axis).T[::-1] for each in (image, mask))
        words = f"{caption if plane == 'axial' else ''}\n{plane}" if caption else plane
        panels.append(_Panel(picture, outlined, words, low, high, spacing[up] / spacing[across]))
    return panels


def _labels(masks: Images) -> list[int]:
    """The labels that masks have, without background and what is ignored."""
    return sorted(set[int]().union(*(np.unique(np.asarray(mask)).tolist() for mask in masks)) - {0, IGNORED})


def _title(title: str, masks: Images, task: Task | None) -> str:
    """The title, with what the outlines are."""
    several = bool(task and task.labels) or max(_labels(masks), default=0) > 1
    return f"{title} (outlines: labels)" if several else f"{title} (outline: mask)"


def _legend(figure: Figure | SubFigure, masks: Images, task: Task | None) -> None:
    """Which outline is which label, below the pictures; none where masks are binary and nobody named the label."""
    names = task.labels if task else ()
    found = _labels(masks)
    if not names and max(found, default=0) <= 1:
        return
    handles = []
    for label in found:
        color, line = _outline(label)
        name = names[label - 1] if label <= len(names) else f"label {label}"
        handles.append(Line2D([], [], color=color, linestyle=line, label=name))
    if handles:
        longest = max(len(str(each.get_label())) for each in handles)
        across = figure.bbox.width / figure.dpi / (0.7 + 0.09 * longest)  # inches that an entry takes
        figure.legend(handles=handles, loc="outside lower left", ncols=max(1, int(across)))


def _outline(label: int) -> tuple[str, Any]:
    """The color and the line of a label."""
    again, place = divmod(label - 1, len(OUTLINES))
    return OUTLINES[place], LINES[again % len(LINES)]


def _picture(ax: Axes, panel: _Panel) -> None:
    image, mask, caption = panel.image, panel.mask, panel.caption
    ax.imshow(image, vmin=panel.low, vmax=panel.high, aspect=panel.aspect)
    if not mask.any():
        caption = f"{caption} mask empty".strip()
    else:
        # A border of zeros closes the outline of a mask that touches the edge, or fills the image.
        height, width = mask.shape
        grid = np.arange(-1, width + 1), np.arange(-1, height + 1)
        for label in _labels([mask]):
            color, line = _outline(label)
            ax.contour(*grid, np.pad(mask == label, 1), [0.5], colors=color, linestyles=line, linewidths=1.5)
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_title(caption, loc="center", fontsize=11, fontweight="normal")
