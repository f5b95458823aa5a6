"""What networks with and without a source draw on test images, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from analysis.claims.verdicts import with_runs
from analysis.figures.explorers import outlines_explorer
from analysis.figures.images import image_grid, picture_table
from analysis.figures.style import arms_in_order
from analysis.tables.suite_grid import largest_cell
from lib.data.prepared_folder import labeled
from lib.data.tasks.images import images_at, load_data
from lib.data.tasks.splits import split
from lib.data.tasks.task import get_task
from lib.runs.run import Run
from lib.training.goals.segmentation_metrics import dice


class Drawings(NamedTuple):
    """Test images of one fold and the masks of its networks, all of them 0 outside and 1 inside.

    Args:
        images: float (n, h, w) in [0, 1], colors averaged. truth: uint8 (n, h, w). drawn: arm -> masks as `truth`.
        names: of the images, n of them.
    """

    title: str
    images: np.ndarray
    truth: np.ndarray
    drawn: dict[str, np.ndarray]
    names: list[str]

    def table(self) -> pd.DataFrame:
        """One row per mask: task, image, arm, its size, share outlined, and Dice with the truth (1 for the truth)."""
        masks = {"truth": self.truth, **self.drawn}
        return pd.concat(
            [
                picture_table(own, task=self.title, image=self.names, arm=arm, dice=self._dice(own))
                for arm, own in masks.items()
            ],
            ignore_index=True,
        ).drop(columns="labels")

    def figure(self) -> Axes:
        """The images in a row per arm, outlined by it, the truth first, with the Dice of each."""
        masks, captions = [self.truth], [f"truth, {name}" for name in self.names]
        for arm, own in self.drawn.items():
            masks.append(own)
            captions += [f"{arm}\nDice {each:.2f}" for each in self._dice(own)]
        images = np.concatenate([self.images] * len(masks))
        columns = len(self.images)
        grid = image_grid(
            images, np.concatenate(masks), f"{self.title}: what is drawn", columns=columns, captions=captions
        )
        return grid[0, 0]

    def explorer(self) -> HTML:
        """The same, one image at a time, with all outlines in one picture."""
        return outlines_explorer(self.images, self.truth, self.drawn, self.names, self.title)

    def _dice(self, masks: np.ndarray) -> list[float]:
        return [dice(*each) for each in zip(masks, self.truth, strict=True)]


def drawings(results: pd.DataFrame, runs: Sequence[Run], *, count: int = 6) -> Drawings | None:
    """What the networks of one seed draw on its first test images, one per strategy; None where there is none to draw.

    The task and volume are those with the most arms among the images that are outlined, not volumes or reconstructions.

    Args:
        results: rows of `run_table`. runs: those behind them. count: of images.
    """
    plane = {run.path.name: run for run in runs if run.spec.dim == 2 and run.spec.goal == "segmentation"}
    rows = with_runs(results[results.status == "done"], plane)
    task, volume_label = largest_cell(rows)
    rows = rows[(rows.task == task) & (rows.volume_label == volume_label)]
    rows = rows[rows.seed == rows.seed.min()].drop_duplicates("strategy")
    id_of = dict(zip(rows.strategy, rows.run_id, strict=True))
    chosen = [plane[id_of[arm]] for arm in arms_in_order(list(id_of))]
    if not chosen:
        return None
    spec = chosen[0].spec
    data = load_data(spec.task, spec.size)
    test = split(spec.task, data.groups, fold=spec.fold, volume=spec.volume, seed=spec.seed, folds=data.folds).test
    images, truth = images_at(spec.task, spec.size, test[:count])
    drawn = {run.spec.strategy: _inside(run.segment(images)) for run in chosen}
    names = [f"test image {place + 1}" for place in range(len(images))]
    title = f"{get_task(spec.task).title}, seed {spec.seed}"
    return Drawings(title, images.mean(dim=1).numpy(), _inside(truth.numpy()), drawn, names)


def _inside(masks: np.ndarray) -> np.ndarray:
    return labeled(masks).astype(np.uint8)
