"""Frozen means frozen: normalizations whose statistics stay while a network trains, or are estimated once before."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from lib.networks.stages import Network


def tracking_norms(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Normalizations with running statistics, which move in a forward pass unless the layer is in evaluation mode."""
    return [(key, module) for key, module in model.named_modules() if getattr(module, "running_mean", None) is not None]


def set_training_mode(model: nn.Module) -> None:
    """Training mode, except for normalizations whose statistics are frozen: those keep using them and leave them be."""
    model.train()
    for _, module in tracking_norms(model):
        module.train(module.tracks)  # type: ignore[arg-type]


def calibrate(model: Network, batches: Iterable[Tensor], output: Callable[[Network, Tensor], Tensor]) -> None:
    """Give frozen normalizations the statistics of these inputs, as averages over the batches.

    Weights that are frozen at random never had their running statistics estimated: left at mean 0 and variance 1,
    they would normalize nothing, and a frozen random encoder would be judged by that defect.

    Args:
        output: what the network makes of inputs, as in training: those of a goal need not be what the network takes.
    """
    frozen = [module for _, module in tracking_norms(model) if not module.tracks]
    momenta = [module.momentum for module in frozen]
    model.eval()
    for module in frozen:
        module.train()
        module.momentum = None  # a plain average over the batches  # type: ignore[assignment]
    with torch.no_grad():
        for inputs in batches:
            output(model, inputs)
    for module, momentum in zip(frozen, momenta, strict=True):
        module.momentum = momentum
