"""The segmentation objective: Dice with cross-entropy, judged by mean Dice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.data.tasks.images import Data, standardize
from lib.data.tasks.splits import Split
from lib.networks.stages import Staged
from lib.runs.spec import RunSpec
from lib.strategies.strategy import training_masks
from lib.training.batches import Batches, StackedBatches
from lib.training.objective import Feed, Predict, Through
from lib.training.segmentation_metrics import summarize

AT_ONCE = 512  # test images whose outputs are in memory together


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy plus one minus soft Dice (Milletari et al., arXiv 1606.04797, per image, smoothed by 1).

    Args:
        logits: float32 (n, h, w). masks: uint8 (n, h, w) of 0/1.
    """
    truth = masks.to(logits.dtype)
    chance = logits.sigmoid()
    overlap, total = (chance * truth).sum(dim=(1, 2)), chance.sum(dim=(1, 2)) + truth.sum(dim=(1, 2))
    return F.binary_cross_entropy_with_logits(logits, truth) + 1 - ((2 * overlap + 1) / (total + 1)).mean()


def mean_dice(prediction: Tensor, truth: Tensor) -> float:
    """Mean over images of the Dice overlap of masks (n, h, w); 1 where both are empty, as in `dice`."""
    a, b = prediction.flatten(1).bool(), truth.flatten(1).bool()
    overlap, total = 2.0 * (a & b).sum(1), a.sum(1) + b.sum(1)
    return float(torch.where(total > 0, overlap / total.clamp_min(1), 1.0).mean())


class _Feed:
    """Standardized images and masks of several runs."""

    def __init__(self, runs: Sequence[Segmentation], steps: int) -> None:
        self.runs, self.batches = len(runs), StackedBatches([each.batches for each in runs], steps)
        self.recorded = self.batches.recorded

    def at(self, step: int, place: Tensor) -> tuple[Tensor, Tensor]:
        images, masks = self.batches.at(step, place)
        return standardize(images).unflatten(0, (self.runs, -1)), masks.unflatten(0, (self.runs, -1))


class Segmentation:
    """Masks from images: cross-entropy with Dice, selected on the mean Dice of validation images."""

    def __init__(self, spec: RunSpec, data: Data, parts: Split, device: torch.device) -> None:
        self.data, self.split, self.device = data, parts, device
        self.validated = (parts.val,)
        self.images, self.masks = data.on(device)
        labels = training_masks(spec.strategy, parts.train, spec.seed)
        self.batches = Batches(
            self.images, self.masks, parts.train, labels, spec.seed, spec.batch, spec.augment, device
        )

    @staticmethod
    def together(runs: Sequence[Segmentation], steps: int) -> Feed:
        return _Feed(runs, steps)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        images, masks = self.batches.at(step)
        return standardize(images), masks

    def inputs(self, index: np.ndarray) -> Tensor:
        return standardize(self._these(self.images, index))

    def _these(self, kept: Tensor, index: np.ndarray) -> Tensor:
        return kept[torch.from_numpy(index).to(kept.device)].to(self.device)

    def output(self, model: Staged, inputs: Tensor) -> Tensor:
        return model(inputs)[:, 0].float()

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        return segmentation_loss(output, truth)

    def validate(self, predict: Predict) -> dict[str, float]:
        output = predict(self.split.val)
        truth = self._these(self.masks, self.split.val)
        return {"val_loss": float(segmentation_loss(output, truth)), "val_dice": mean_dice(output > 0, truth)}

    def test(self, predict: Predict) -> dict[str, Any]:
        index = self.split.test
        parts = [index[first : first + AT_ONCE] for first in range(0, len(index), AT_ONCE)]
        found = torch.cat(
            [(predict(part) > 0).cpu() for part in parts]
        )  # masks, because outputs are four times as large
        truth = self.data.masks[torch.from_numpy(index)]
        return summarize(found.numpy(), truth.numpy(), [self.data.ids[each] for each in index])

    def further(self, model: Staged, start: Mapping[str, Tensor], through: Through) -> dict[str, Any]:
        return {}
