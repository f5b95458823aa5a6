"""Parts of layers: output channels drawn at random until an exact number of parameters moves; the rest stays.

Sets of layers differ in size by orders of magnitude. To tell "this layer is better" from "more parameters are better",
a set may be cut down to the size of another: see the option `parameters` of the strategy `layer_subset`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.networks.stages import MOVES, Staged, moving_in_part

_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_NORMS = (nn.GroupNorm, nn.modules.batchnorm._NormBase)


def choose_channels(model: Staged, stages: Sequence[str], count: int, draw: torch.Generator) -> set[str]:
    """Let exactly `count` parameters of these stages move, in whole output channels drawn at random, but for the last.

    A channel is its row of the convolution's weight, its bias, and its factor and offset in the normalization of as
    many channels that the network holds right after the convolution. Parameters of other layers stay. Of the channel
    at which the number is met, only the first parameters move. `hold_channels` keeps the rest.

    Returns:
        Names of the tensors of which at least one entry moves. Statistics of normalizations are not among them: they
        are no parameters, and sets of equal size must not differ in them.

    Raises:
        StudyError: the count is no whole number between 1 and the parameters of these stages.
    """
    units = _channels(model, stages)
    most = sum(part.numel() for unit in units for _, part in unit)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= most:
        raise StudyError(
            f"parameters must be a whole number between 1 and {most}, as many as {', '.join(stages)} have, "
            f"got {count!r}"
        )
    left = count
    for place in torch.randperm(len(units), generator=draw).tolist():
        for _, part in units[place]:
            part.copy_((torch.arange(part.numel()) < left).view(part.shape))
            left = max(0, left - part.numel())
    return {name for name, mask in moving_in_part(model).items() if mask.any()}


def _channels(model: Staged, stages: Sequence[str]) -> list[list[tuple[str, Tensor]]]:
    """Every output channel of the stages: names of its parameters, and views of their fresh masks, at this channel."""
    units = []
    layers = [(name, each) for name, each in model.named_modules() if isinstance(each, (*_CONVOLUTIONS, *_NORMS))]
    for place, (name, module) in enumerate(layers):
        if model.stage_of(name) not in stages or not isinstance(module, _CONVOLUTIONS):
            continue
        transposed = isinstance(module, _TRANSPOSED)
        if transposed and module.groups > 1:
            raise StudyError(f"layer {name!r} is transposed and grouped, so that its channels cannot be told apart")
        parts = [(name, module, "weight", int(transposed)), (name, module, "bias", 0)]
        after, norm = layers[place + 1] if place + 1 < len(layers) else ("", None)
        if isinstance(norm, _NORMS) and getattr(norm.weight, "shape", None) == (module.out_channels,):
            parts += [(after, norm, "weight", 0), (after, norm, "bias", 0)]
        masks = []
        for owner, each, key, dim in parts:
            if getattr(each, key) is None:
                continue
            mask = torch.zeros(getattr(each, key).shape, dtype=torch.bool)
            each.register_buffer(key + MOVES, mask, persistent=False)
            masks.append((f"{owner}.{key}", mask, dim))
        channels = module.out_channels
        units += [[(key, mask.select(dim, at)) for key, mask, dim in masks] for at in range(channels)]
    return units


@torch.no_grad()
def hold_channels(model: nn.Module, start: Mapping[str, Tensor]) -> None:
    """Put every entry that must not move back to its start, bit for bit: weight decay moves what has no gradient."""
    for name, mask in moving_in_part(model).items():
        parameter = model.get_parameter(name)
        parameter.copy_(torch.where(mask, parameter, start[name]))
