"""Figures of the scanner's side: sampled lines, embedded beside real images, measured k-space, classical baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from analysis.figures.style import ArmStyle, axes, empty_axes, mean_mark, study_style, task_title, title_and_note
from lib.imaging.coil_calibration import Reconstructions
from lib.imaging.kspace import Measured

METHODS = {
    "zero-filled": ArmStyle("#999999", "v"),
    "total variation": ArmStyle("#E69F00", "s"),
    "U-Net": ArmStyle("#56B4E9", "D"),
    "cascade": ArmStyle("#0072B2", "o"),
}
NAMES = {"psnr": "PSNR on test slices (dB)", "ssim": "SSIM on test slices"}


@study_style
def sampling_masks(lines: Mapping[str, np.ndarray], acceleration: float) -> NDArray[np.object_]:
    """Sampled lines of k-space by kind, one strip per item: black is measured.

    Args:
        lines: from `example_images.sampled_lines`, bool (items, lines) by kind.

    Returns:
        The axes, (kinds,).
    """
    figure, grid = plt.subplots(len(lines), 1, figsize=(8, 1.25 * len(lines) + 0.8), squeeze=False)
    total = next(iter(lines.values())).shape[1]
    title = f"Which of {total} lines are measured at rate {acceleration:g} (black), four items each"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    for ax, (kind, measured) in zip(grid[:, 0], lines.items(), strict=True):
        ax.imshow(measured, cmap="gray_r", vmin=0, vmax=1, aspect="auto")
        ax.grid(False)
        for place in range(1, len(measured)):
            ax.axhline(place - 0.5, color="white", linewidth=3)
        ax.set_yticks([])
        ax.set_xticks([0, total // 2, total - 1], ["edge", "middle of k-space", "edge"])
        ax.tick_params(length=0, labelbottom=kind == list(lines)[-1])
        ax.set_ylabel(kind, rotation=0, ha="right", va="center")
    return grid[:, 0]


def line_table(lines: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """What `sampling_masks` draws, one row per line of an item: kind, item, line, measured (0 or 1)."""
    tables = []
    for kind, measured in lines.items():
        item, line = (each.ravel() for each in np.indices(measured.shape))
        tables.append(
            pd.DataFrame({"kind": kind, "item": item, "line": line, "measured": measured.ravel().astype(int)})
        )
    return pd.concat(tables, ignore_index=True)


def slice_table(pairs: Sequence[tuple[str, np.ndarray, np.ndarray | None]]) -> pd.DataFrame:
    """What `simulated_beside_real` shows, one row a picture: slice, kind, at_hand, mean and spread of grays."""
    rows = []
    for name, *pictures in pairs:
        for kind, image in zip(("simulated", "real"), pictures, strict=True):
            grays = {} if image is None else {"mean": float(image.mean()), "spread": float(image.std())}
            rows.append({"slice": name, "kind": kind, "at_hand": "no" if image is None else "yes", **grays})
    return pd.DataFrame(rows)


def measured_table(data: Measured, found: Reconstructions) -> pd.DataFrame:
    """What `measured_kspace` shows: coils and share of samples, and the mean and spread of each reconstruction."""
    about = {"coils": len(data.kspace), "samples": float(data.mask.mean())}
    kinds = {"zero-filled": found.zero_filled, "SENSE": found.least_squares, "total variation": found.total_variation}
    rows = [
        {"picture": name, **about, "mean": float(at.mean()), "spread": float(at.std())} for name, at in kinds.items()
    ]
    return pd.DataFrame(rows)


@study_style
def simulated_beside_real(pairs: Sequence[tuple[str, np.ndarray, np.ndarray | None]]) -> NDArray[np.object_]:
    """Simulated slices above real ones of the same kind, if there are any; a place says where there is none.

    Args:
        pairs: from `example_images.simulated_and_real_slices`.

    Returns:
        The axes, (1 or 2, pairs).
    """
    rows = {"simulated": 1, "real": 2} if any(real is not None for _, _, real in pairs) else {"simulated": 1}
    figure = plt.figure(figsize=(1.75 * len(pairs), 0.2 + 2.35 * len(rows)))
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    grid = np.array([part.subplots(1, len(pairs), squeeze=False)[0] for part in parts])
    for part, row, (name, which) in zip(parts, grid, rows.items(), strict=True):
        part.suptitle(name, x=0.01, ha="left", fontweight="bold")
        for ax, pair in zip(row, pairs, strict=True):
            ax.set_axis_off()
            image = pair[which]
            if image is None:
                ax.text(0.5, 0.5, "not in the\ndata root", ha="center", va="center", transform=ax.transAxes)
            else:
                ax.imshow(image, vmin=0, vmax=1)
            ax.set_title(pair[0].replace(", ", ",\n"), loc="center", fontsize=11, fontweight="normal")
    return grid


@study_style
def measured_kspace(data: Measured, found: Reconstructions) -> NDArray[np.object_]:
    """Measured k-space: samples, reconstructions at one scale, and the maps of two coils; axes (6,)."""
    figure, grid = plt.subplots(1, 6, figsize=(12.5, 3.5))
    coils, share = len(data.kspace), 100 * data.mask.mean()
    title = f"Measured, {coils} coils, {share:.1f} % of the samples (real; there is no full reference)"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    panels = {
        "samples": data.mask,
        "zero-filled": found.zero_filled,
        "least squares\n(SENSE)": found.least_squares,
        "total variation": found.total_variation,
        "map of coil 1": np.abs(found.maps[0]),
        f"map of coil {coils}": np.abs(found.maps[-1]),
    }
    for ax, (name, image) in zip(grid, panels.items(), strict=True):
        ax.imshow(image, vmin=0, vmax=1)
        ax.set_axis_off()
        ax.set_title(name, loc="center", fontsize=11, fontweight="normal")
    return grid


@study_style
def method_scores(table: pd.DataFrame, task: str, *, metric: str = "psnr", ax: Axes | None = None) -> Axes:
    """A score of one task by method: networks beside zero-filling and total variation on the same slices.

    Args:
        table: from `classical_baselines.method_table`.
    """
    rows = table[table.task == task]
    if not len(rows):
        return empty_axes(axes(ax), task, "no network trained from scratch on all data")
    rows = rows.assign(place=[list(METHODS).index(each) for each in rows.method]).sort_values("place")
    ax = axes(ax, width=9, height=1.8 + 0.5 * len(rows))
    for place, row in enumerate(rows.itertuples()):
        low, high = getattr(row, f"{metric}_low"), getattr(row, f"{metric}_high")
        mean_mark(ax, getattr(row, metric), place, low, high, METHODS[row.method], across=True)
        text = f"{row.networks} trained" if row.networks else f"weight {row.weight:.2g}" if row.weight > 0 else ""
        ax.text(1.02, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=11)
    ax.set_yticks(range(len(rows)), rows.method.tolist())
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(NAMES[metric])
    counts = f"{rows.slices.iloc[0]} slices of {rows.subjects.iloc[0]} subjects"
    note = f"mean and 95 % t interval over {counts}; for other people it would be wider"
    title_and_note(ax, task_title(rows), note)
    return ax
