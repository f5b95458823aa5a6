"""What a step minimizes, at which rate, which steps are kept, and the optimizer's state by name."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.spec import RunSpec


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
