"""The segmentation objective: Dice with cross-entropy, judged by mean Dice."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.data.prepared_folder import IGNORED
from lib.data.tasks.images import Data, standardize
from lib.data.tasks.splits import Split
from lib.data.tasks.task import Task, get_task
from lib.networks.stages import Staged
from lib.runs.outputs import masks_of, network_output
from lib.runs.spec import RunSpec
from lib.strategies.strategy import training_masks
from lib.training.batches import Batches, StackedBatches
from lib.training.goals.segmentation_metrics import scores_of, summarize
from lib.training.objective import Feed, Predict, Through

AT_ONCE = 512  # test images whose outputs are in memory together


def segmentation_loss(logits: Tensor, masks: Tensor, regions: Tensor | None = None) -> Tensor:
    """Cross-entropy plus one minus soft Dice (Milletari et al., arXiv 1606.04797, per image, smoothed by 1).

    Args:
        logits: float32 (n, h, w) of one label, or (n, 1 + labels, h, w), background first; then Dice is the mean over
            labels. masks: uint8 (n, h, w) of 0/1, or of labels and 255, which is ignored. Or all of these in 3-D.
        regions: float32 (regions, 1 + labels), 1 where a region has a label; then Dice is the mean over regions, whose
            chance is the sum of that of their labels.
    """
    if logits.ndim > masks.ndim:
        return _labels_loss(logits, masks, regions)
    truth = masks.to(logits.dtype)
    chance = logits.sigmoid()
    space = tuple(range(1, masks.ndim))
    overlap, total = (chance * truth).sum(space), chance.sum(space) + truth.sum(space)
    return F.binary_cross_entropy_with_logits(logits, truth) + 1 - ((2 * overlap + 1) / (total + 1)).mean()


def _labels_loss(logits: Tensor, masks: Tensor, regions: Tensor | None) -> Tensor:
    masks, known = masks.unsqueeze(1), (masks != IGNORED).unsqueeze(1)
    number = torch.arange(logits.shape[1], device=masks.device).view(-1, *[1] * (masks.ndim - 2))
    truth, log = (masks == number).to(logits.dtype), logits.log_softmax(dim=1)
    space = tuple(range(2, logits.ndim))
    chance, entropy = log.exp() * known, -(log * truth).sum() / known.sum().clamp_min(1)
    if regions is not None:
        chance, truth = (torch.einsum("rl,nl...->nr...", regions, each) for each in (chance, truth))
    overlap, total = (chance * truth).sum(space), chance.sum(space) + truth.sum(space)
    dice = (2 * overlap + 1) / (total + 1)
    return entropy + 1 - (dice if regions is not None else dice[:, 1:]).mean()


def regions_table(task: Task, device: torch.device) -> Tensor | None:
    """Which labels make up each region of a task, as `segmentation_loss` takes it; None where it states none."""
    if not task.regions:
        return None
    labels = torch.arange(1 + len(task.labels)).tolist()
    rows = [[float(label in values) for label in labels] for values in task.regions.values()]
    return torch.tensor(rows, device=device)


def values_in(masks: Tensor, values: Sequence[int]) -> Tensor:
    """Where masks have one of some values."""
    return functools.reduce(torch.logical_or, (masks == value for value in values))


def part_dice(found: Tensor, truth: Tensor, parts: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Mean Dice over images of each part of masks of labels, as a line of metrics.jsonl names them, and their mean."""
    known = truth != IGNORED
    dice = {name: mean_dice(values_in(found, each) & known, values_in(truth, each)) for name, each in parts.items()}
    return {"val_dice": sum(dice.values()) / len(dice), **{f"val_dice_{name}": value for name, value in dice.items()}}


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
        self.validated, self.typical, self.task = (parts.val,), parts.train, get_task(spec.task)
        self.regions = regions_table(self.task, device)
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
        return network_output(model, inputs)

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        return segmentation_loss(output, truth, self.regions)

    def validate(self, predict: Predict) -> dict[str, float]:
        output = predict(self.split.val)
        truth = self._these(self.masks, self.split.val)
        loss, found = float(self.loss(output, truth)), masks_of(output, self.task.labels)
        if not self.task.labels:
            return {"val_loss": loss, "val_dice": mean_dice(found, truth)}
        return {"val_loss": loss, **part_dice(found, truth, self.task.parts)}

    def test(self, predict: Predict) -> dict[str, Any]:
        index, labels = self.split.test, self.task.labels
        groups = [index[first : first + AT_ONCE] for first in range(0, len(index), AT_ONCE)]
        found = torch.cat([masks_of(predict(group), labels).cpu() for group in groups]).numpy()  # far smaller
        truth, ids = self.data.masks[torch.from_numpy(index)].numpy(), [self.data.ids[each] for each in index]
        pairs = zip(found, truth, strict=True)
        pixels = [None] * len(index) if self.data.pixels is None else self.data.pixels[index].tolist()
        scores = [scores_of(*pair, self.task.parts, side) for pair, side in zip(pairs, pixels, strict=True)]
        return summarize(scores, ids)

    def further(self, model: Staged, start: Mapping[str, Tensor], through: Through) -> dict[str, Any]:
        return {}
