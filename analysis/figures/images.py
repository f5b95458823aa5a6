"""Figures of images: grids with the outline of each mask, and real beside simulated."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.figures.style import study_style
from lib.data.prepared_folder import IGNORED

OUTLINES = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00")  # by label (Okabe and Ito)
Images = Sequence[np.ndarray] | np.ndarray


@study_style
def image_grid(
    images: Images, masks: Images, title: str, *, columns: int = 6, captions: Sequence[str] = ()
) -> NDArray[np.object_]:
    """Images in a grid with their masks outlined.

    Args:
        images: n arrays (h, w), (1, h, w) or in color (h, w, 3), uint8 or float in [0, 1].
        masks: n arrays (h, w) of 0 and 1, or of labels, which get a color each; what is ignored (255) has no outline.
        captions: one line above each image, if any; "mask empty" is added where it is.

    Returns:
        The axes, (rows, columns); those without an image are switched off.

    Raises:
        ValueError: images and masks are not equally many, or none.
    """
    if not len(images) or len(images) != len(masks) or (captions and len(captions) != len(images)):
        raise ValueError(
            f"as many images as masks (and captions) are needed, at least one, got {len(images)}, {len(masks)}"
            + (f" and {len(captions)}" if captions else "")
        )
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(max(4.5, 1.6 * columns), 1.75 * rows + 0.5), squeeze=False)
    figure.suptitle(f"{title} (outline: mask)", x=0.01, ha="left", fontweight="bold", wrap=True)
    for place, ax in enumerate(grid.flat):
        ax.set_axis_off()
        if place < len(images):
            _picture(ax, images[place], masks[place], captions[place] if captions else "")
    return grid


@study_style
def real_and_simulated(
    real: tuple[Images, Images],
    simulated: tuple[Images, Images],
    *,
    real_title: str,
    simulated_title: str,
    count: int = 5,
) -> NDArray[np.object_]:
    """Real images above simulated ones, each as (images, masks), at most `count` of each; axes (2, count)."""
    count = min(count, max(len(real[0]), len(simulated[0])))
    figure = plt.figure(figsize=(max(4.5, 1.7 * count), 4.4))
    parts = figure.subfigures(2, 1, squeeze=False)[:, 0]
    grid = np.array([part.subplots(1, count, squeeze=False)[0] for part in parts])
    titles = (f"real: {real_title}", f"simulated: {simulated_title.removesuffix(' (simulated)')}")
    for part, row, title, (images, masks) in zip(parts, grid, titles, (real, simulated), strict=True):
        part.suptitle(f"{title} (outline: mask)", x=0.01, ha="left", fontweight="bold")
        for ax, image, mask in zip(row, images, masks, strict=False):
            _picture(ax, image, mask, "")
        for ax in row:
            ax.set_axis_off()
    return grid


def _picture(ax: Axes, image: np.ndarray, mask: np.ndarray, caption: str) -> None:
    image, mask = np.asarray(image).squeeze(), np.asarray(mask).squeeze()
    ax.imshow(image, vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
    if not mask.any():
        caption = f"{caption} mask empty".strip()
    else:
        # A border of zeros closes the outline of a mask that touches the edge, or fills the image.
        height, width = mask.shape
        grid = np.arange(-1, width + 1), np.arange(-1, height + 1)
        for label in sorted(set(np.unique(mask).tolist()) - {0, IGNORED}):
            color = OUTLINES[(label - 1) % len(OUTLINES)]
            ax.contour(*grid, np.pad(mask == label, 1), [0.5], colors=color, linewidths=1.5)
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_title(caption, loc="center", fontsize=11, fontweight="normal")
