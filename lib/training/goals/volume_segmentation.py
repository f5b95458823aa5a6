"""The segmentation of volumes: trained on windows, judged on whole volumes where their masks were drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.data.tasks.splits import Split
from lib.data.tasks.task import get_task
from lib.data.tasks.volumes import VolumeData, windows_at
from lib.networks.stages import Staged
from lib.runs.outputs import masks_of, network_output
from lib.runs.spec import RunSpec
from lib.strategies.strategy import training_masks
from lib.training.goals.segmentation import (
    mean_dice,
    part_dice,
    regions_table,
    segmentation_loss,
)
from lib.training.goals.segmentation_metrics import scores_of, summarize
from lib.training.goals.windows import Mosaic, WindowBatches, WindowFeed, window_starts, window_weights
from lib.training.objective import Feed, Predict, Through

AT_ONCE = 5e8  # bytes of what a network makes of windows that are in memory together


class VolumeSegmentation:
    """Masks of volumes: the loss and the selection of `Segmentation`, in three dimensions.

    A step sees windows of the size of the spec's `patch`. Validation and test go over whole volumes in windows that
    overlap by half, with Gaussian weights. Validation is at the voxels that were prepared; for the test, what the
    network found is carried to the voxels at which the mask was drawn.
    """

    def __init__(self, spec: RunSpec, data: VolumeData, parts: Split, device: torch.device) -> None:
        self.data, self.split, self.device, self.patch = data, parts, device, spec.patch
        self.task = task = get_task(spec.task)
        self.regions = regions_table(task, device)
        assert spec.foreground is not None
        self.batches = WindowBatches(
            data,
            parts.train,
            training_masks(spec.strategy, parts.train, spec.seed),
            seed=spec.seed,
            batch=spec.batch,
            patch=self.patch,
            foreground=spec.foreground,
            varied=spec.augment,
            upright=task.flat > 0,
            mirrored=not any(side in name.lower() for name in task.labels for side in ("left", "right")),
            device=device,
        )
        self.starts = [window_starts(shape, self.patch) for shape in data.shapes.tolist()]
        self.first = np.cumsum([0, *map(len, self.starts)])  # number of the first window of each volume
        self.volume_of = np.repeat(np.arange(len(self.starts)), np.diff(self.first))
        self.start_of = torch.from_numpy(np.concatenate(self.starts))
        self.weights = window_weights(self.patch).to(device)
        self.typical = self.first[parts.train] + np.diff(self.first)[parts.train] // 2
        windows = np.concatenate([self._windows(volume) for volume in parts.val])
        self.validated = (windows,) if len(windows) <= self._most() else ()

    def _windows(self, volume: int) -> np.ndarray:
        """Numbers of the windows of a volume."""
        return np.arange(self.first[volume], self.first[volume + 1])

    def _most(self) -> int:
        """How many windows are predicted at once."""
        return max(1, int(AT_ONCE / (4 * self.task.outputs * math.prod(self.patch))))

    @staticmethod
    def together(runs: Sequence[VolumeSegmentation], steps: int) -> Feed:
        return WindowFeed([each.batches for each in runs], steps)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.batches.at(step)

    def inputs(self, index: np.ndarray) -> Tensor:
        """Windows (n, c, *patch) by number."""
        feed, home = self.batches, self.batches.images.device
        volumes = torch.from_numpy(self.volume_of[index]).to(home)
        starts = self.start_of[torch.from_numpy(index)].to(home)
        return windows_at(feed.images, feed.firsts[volumes], feed.shapes[volumes], starts, self.patch).to(self.device)

    def output(self, model: Staged, inputs: Tensor) -> Tensor:
        return network_output(model, inputs)

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        return segmentation_loss(output, truth, self.regions)

    def whole(self, volumes: np.ndarray, predict: Predict) -> Iterator[Tensor]:
        """Outputs of whole volumes, (1, *shape) or (1, outputs, *shape), one after another."""
        index = np.concatenate([self._windows(volume) for volume in volumes])
        together = predict(index) if np.array_equal([index], self.validated) else None
        for volume in volumes:
            mosaic = Mosaic(self.task.outputs, self.data.shapes[volume].tolist(), self.weights)
            numbers, starts = self._windows(volume), self.starts[volume]
            if together is not None:
                mosaic.add(together[np.flatnonzero(self.volume_of[index] == volume)], starts)
            else:
                for first in range(0, len(numbers), self._most()):
                    part = slice(first, first + self._most())
                    mosaic.add(predict(numbers[part]), starts[part])
            whole = mosaic.volume()
            yield whole if self.task.outputs == 1 else whole.unsqueeze(0)

    def validate(self, predict: Predict) -> dict[str, float]:
        rows = []
        for volume, output in zip(self.split.val, self.whole(self.split.val, predict), strict=True):
            truth = self.data.mask(volume).to(self.device).unsqueeze(0)
            found, parts = masks_of(output, self.task.labels), self.task.parts
            dice = part_dice(found, truth, parts) if parts else {"val_dice": mean_dice(found, truth)}
            rows.append({"val_loss": float(self.loss(output, truth)), **dice})
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def test(self, predict: Predict) -> dict[str, Any]:
        scores = []
        for volume, output in zip(self.split.test, self.whole(self.split.test, predict), strict=True):
            found, truth, spacing = self.data.as_drawn(volume, output.reshape(-1, *output.shape[-3:]))
            scores.append(scores_of(found, truth, self.task.parts, spacing))
        ids = [self.data.ids[each] for each in self.split.test]
        return summarize(scores, ids, "px" if self.data.affines is None else "mm")

    def further(self, model: Staged, start: Mapping[str, Tensor], through: Through) -> dict[str, Any]:
        return {}
