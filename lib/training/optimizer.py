"""Learning rate by step, checkpoint steps, and the state of the optimizer by name."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lib.runs.spec import RunSpec

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW


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
