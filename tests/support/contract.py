"""What tests of strategies share: what moved in two steps, and what the model says may move."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.networks.stages import Staged
from lib.strategies.frozen_normalization import set_training_mode
from lib.strategies.partial_layers import hold_channels
from lib.strategies.strategy import STATISTICS


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model as they are now."""
    return {key: value.clone() for key, value in model.state_dict().items()}


def differing(before: Mapping[str, Tensor], model: nn.Module) -> set[str]:
    """Names of the tensors that are others than before."""
    after = model.state_dict()
    return {key for key, value in before.items() if not torch.equal(value, after[key])}


def two_steps(model: Staged, x: Tensor) -> None:
    """Train a model on images x (n, 1, *size) and their bright halves, as the loop does."""
    moving = [each for each in model.parameters() if each.requires_grad]
    optimizer, start = torch.optim.AdamW(moving, lr=1e-2, weight_decay=1e-2, fused=True), snapshot(model)
    for _ in range(2):
        set_training_mode(model)
        optimizer.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(model(x), (x > 0.5).float()).backward()
        optimizer.step()
        hold_channels(model, start)


def marked(model: nn.Module) -> set[str]:
    """What the model itself says may move: parameters with gradients, and statistics of tracking normalizations."""
    names = {key for key, each in model.named_parameters() if each.requires_grad}
    for key, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None and module.tracks:
            names |= {f"{key}.{statistic}" for statistic in STATISTICS}
    return names
