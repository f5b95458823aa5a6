"""What training asks of a network from elsewhere: seeded random layers, and whether runs of it can be stacked."""

from __future__ import annotations

import functools
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from lib.common.seeding import generator
from lib.networks.stage_map import Mapped
from lib.networks.stages import Staged
from lib.runs.building import build_network
from lib.runs.spec import RunSpec
from lib.strategies.frozen_normalization import set_training_mode
from lib.strategies.strategy import freeze


def seed_random_layers(model: Staged, seed: int, step: int) -> None:
    """Make what a network from elsewhere draws in a step (dropout) a pure function of seed and step.

    The study's own networks draw nothing.
    """
    if isinstance(model, Mapped):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator(seed, step, 0xD0))))


def call_with(network: nn.Module, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """The output of a network with other tensors in the places of its own, each tensor named once.

    A module that the network holds twice is one place: replaced under both of its names, it could not be put back.
    """
    return functional_call(network, state, (inputs,), tie_weights=False)


def why_alone(spec: RunSpec) -> str | None:
    """Why runs of a network from elsewhere cannot be stacked (see `lib.training.stack`); None where they can."""
    if spec.stage_map is None:
        return None
    options = json.dumps(spec.options, sort_keys=True)
    return _why_alone(spec.strategy, options, (2, spec.inputs, *spec.patch), spec.network_key)


@functools.lru_cache(maxsize=64)
def _why_alone(strategy: str, options: str, shape: tuple[int, ...], network: tuple[Any, ...]) -> str | None:
    model = build_network(*network)
    freeze(model, strategy, json.loads(options), generator(0))
    set_training_mode(model)
    places = [each for module in model.modules() for each in module.parameters(recurse=False)]
    if len({id(each) for each in places}) < len(places):
        return "two of its layers share a weight"
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    moving = {name for name, each in model.named_parameters() if each.requires_grad}
    state = {name: torch.stack([each.detach()] * 2) for name, each in tensors.items()}

    def loss(own: dict[str, Tensor], others: dict[str, Tensor], x: Tensor) -> Tensor:
        return call_with(model.core, {**own, **others}, x).sum()

    own, others = ({k: v for k, v in state.items() if (k in moving) == side} for side in (True, False))
    try:
        vmap(grad(loss))(own, others, torch.zeros(2, *shape))
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return None
