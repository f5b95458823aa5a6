"""From fields of a spec to its network."""

from __future__ import annotations

import functools
import json
from typing import Any

import torch

from lib.common.seeding import generator
from lib.networks.cascade import Cascade
from lib.networks.stages import Staged
from lib.networks.unet import UNet
from lib.strategies.strategy import freeze


def build_network(
    goal: str,
    dim: int,
    inputs: int,
    width: int,
    depth: int,
    norm: str,
    model: str,
    blocks: int,
    shared: bool,
    flat: int | None,
    outputs: int,
) -> Staged:
    """A network with weights that mean nothing yet; the arguments are fields of a spec."""
    if model == "cascade":
        return Cascade(blocks=blocks, width=width, depth=depth, norm=norm, shared=shared)
    return UNet(inputs, outputs, width=width, depth=depth, norm=norm, dim=dim, flat=flat or 0)


@functools.lru_cache(maxsize=256)
def check_marks(strategy: str, options: str, *shape: Any) -> None:
    """Let the strategy mark a network without memory: a wrong option is an error now and not after a first training."""
    with torch.device("meta"):
        model = build_network(*shape)
    freeze(model, strategy, json.loads(options), generator(0))
