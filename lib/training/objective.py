"""What a segmentation network minimizes and is judged by; learning rates, kept steps, the optimizer's state by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.batches import Batches
from lib.metrics import summarize
from lib.spec import RunSpec
from lib.stages import Staged
from lib.strategies import training_masks
from lib.tasks import Data, Split, standardize

Through = Callable[[Tensor], Tensor]  # network inputs -> output, batch by batch
Predict = Callable[[np.ndarray], Tensor]  # indices -> what the network makes of the images there


class Objective(Protocol):
    """What the training loop asks of a goal."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Network inputs and truth of a step, a pure function of (seed, step)."""
        ...

    def inputs(self, index: np.ndarray) -> Tensor:
        """Network inputs of the images at `index`, the same at every call."""
        ...

    def output(self, model: Staged, inputs: Tensor) -> Tensor:
        """What the network makes of inputs: logits (n, h, w), or images (n, 2, h, w)."""
        ...

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        """What a step minimizes."""
        ...

    def validate(self, predict: Predict) -> dict[str, float]:
        """`val_loss`, `val_` with the name of every score, and whatever else a line of metrics.jsonl should say."""
        ...

    def test(self, predict: Predict) -> dict[str, Any]:
        """What result.json says under "test"."""
        ...

    def further(self, model: Staged, start: Mapping[str, Tensor], through: Through) -> dict[str, Any]:
        """What else result.json says of a trained model against that of its `start`, in which it leaves it."""
        ...


def checkpoint_steps(steps: int, keep: str) -> set[int]:
    """Steps at which a checkpoint is kept: 0 and the end, and under `log` 1, 4, 16, ... between."""
    between = [4**power for power in range(16) if 4**power < steps] if keep == "log" else []
    return {0, *between, steps}


def learning_rate(spec: RunSpec, step: int) -> float:
    """Learning rate of the step after `step`: linear over the first 5 % of the steps, then a cosine down to 0."""
    warm = max(1, round(0.05 * spec.steps))
    if step < warm:
        return spec.lr * (step + 1) / warm
    return spec.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, spec.steps - warm)))


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
    """Mean over images of the Dice overlap of masks (n, h, w); 1 where both are empty, as in `lib.metrics.dice`."""
    a, b = prediction.flatten(1).bool(), truth.flatten(1).bool()
    overlap, total = 2.0 * (a & b).sum(1), a.sum(1) + b.sum(1)
    return float(torch.where(total > 0, overlap / total.clamp_min(1), 1.0).mean())


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's state under names of the form `optimizer/exp_avg/enc0.conv1.weight`."""
    return {
        f"optimizer/{key}/{name}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Put the tensors that `optimizer_tensors` named back, where and as the optimizer works with them."""
    for name, parameter in parameters.items():
        own = {key.split("/")[1]: value for key, value in tensors.items() if key.endswith(f"/{name}")}
        counter = "cpu" if parameter.device.type == "mps" else parameter.device  # a fused one counts where it works
        optimizer.state[parameter] = {
            key: value.to(counter) if key == "step" else torch.empty_like(parameter).copy_(value)
            for key, value in own.items()
        }


class Segmentation:
    """Masks from images: cross-entropy with Dice, selected on the mean Dice of validation images."""

    def __init__(self, spec: RunSpec, data: Data, parts: Split, device: torch.device) -> None:
        self.data, self.split, self.device = data, parts, device
        images, masks = (each[torch.from_numpy(parts.train)].to(device) for each in (data.images, data.masks))
        masks = training_masks(spec.strategy, masks, spec.seed)
        self.batches = Batches(images, masks, seed=spec.seed, batch=spec.batch, augmented=spec.augment)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        images, masks = self.batches.at(step)
        return standardize(images), masks

    def inputs(self, index: np.ndarray) -> Tensor:
        return standardize(self.data.images[torch.from_numpy(index)].to(self.device))

    def output(self, model: Staged, inputs: Tensor) -> Tensor:
        return model(inputs)[:, 0].float()

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        return segmentation_loss(output, truth)

    def validate(self, predict: Predict) -> dict[str, float]:
        output = predict(self.split.val)
        truth = self.data.masks[torch.from_numpy(self.split.val)].to(self.device)
        return {"val_loss": float(segmentation_loss(output, truth)), "val_dice": mean_dice(output > 0, truth)}

    def test(self, predict: Predict) -> dict[str, Any]:
        truth = self.data.masks[torch.from_numpy(self.split.test)].numpy()
        return summarize(
            (predict(self.split.test) > 0).cpu().numpy(), truth, [self.data.ids[each] for each in self.split.test]
        )

    def further(self, model: Staged, start: Mapping[str, Tensor], through: Through) -> dict[str, Any]:
        return {}
