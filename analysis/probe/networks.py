"""A user's network, found by its name, and which of its layers are looked at."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from analysis.representations.capture.activations import forward, watched
from lib.common.errors import StudyError, nearest
from lib.networks.foreign import COLLECTIONS, construct, named, planned
from lib.networks.stage_map import load_map

DOZEN = 12
FEW = 5  # with fewer, the layers one level further inside are taken


def load_network(text: str, folder: str) -> nn.Module:
    """The network of a name, in evaluation mode; what its framework draws is decided by a fixed seed.

    A network of several inputs or outputs wants an adapter of a few lines: a module whose `forward` takes one tensor of
    images and hands on what the network needs.

    Args:
        text: `package.module:function`, `monai:NAME`, `timm:NAME`, `smp:NAME`, `nnunet:NAME`, or the name or path of a
            stage map; after it keyword arguments, ARGUMENT=VALUE as in JSON, parted by spaces. A stage map also takes
            `inputs`, `outputs` (channels, 1 by default) and `dim` (2 by default), and other values of its arguments.
            Or `nnunet:FOLDER`, a folder of results of nnU-Net (see `lib.networks.foreign.planned`).
        folder: where modules are looked for first.

    Raises:
        StudyError: there is no such name, it cannot be imported, it fails, or it returns no network.
    """
    if folder and folder not in sys.path:
        sys.path.insert(0, folder)
    name, arguments = named(text)
    collection, colon, own = name.partition(":")
    results = Path(folder) / Path(own).expanduser()
    if collection == "nnunet" and (results.is_dir() or not own.isidentifier()):
        name, given = planned(results)
        return construct(name, {**given, **arguments}, seed=0).eval()
    if colon:
        return construct(name, arguments, seed=0).eval()
    _, found = load_map(name, ("package.module:function", *(f"{each}:NAME" for each in COLLECTIONS)))
    sizes = {"inputs": 1, "outputs": 1, "dim": 2}
    for each, usual in sizes.items():
        fixed = getattr(found, each)
        sizes[each] = arguments.pop(each, fixed if isinstance(fixed, int) else usual)
    return replace(found, arguments={**found.arguments, **arguments}).build(**sizes, seed=0).eval()


@dataclass(frozen=True)
class Called:
    """A layer that is called once in a forward pass: its name, and how many numbers it gives per image."""

    name: str
    features: int


def called_layers(model: nn.Module, image: Tensor) -> list[Called]:
    """Every layer that is called once and gives one tensor, in the order in which they end, found by one forward pass.

    Args:
        image: (1, c, *size).

    Raises:
        StudyError: the network does not take such an image.
    """
    names = [name for name, module in model.named_modules() if name and _is_called(module)]
    found: dict[str, int] = {}

    def consume(name: str, output: Tensor) -> None:
        if output.ndim >= 2 and len(output) == len(image) and output.is_floating_point():
            found[name] = output[0].numel()

    with watched(model, names, consume):
        forward(model, image)
    several = {name.split("#")[0].split("[")[0] for name in found if "#" in name or "[" in name}
    return [Called(name, features) for name, features in found.items() if name in names and name not in several]


def _is_called(module: nn.Module) -> bool:
    """Whether a forward pass can show it: lists of modules hold others only."""
    return not isinstance(module, nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict)


def choose_layers(model: nn.Module, pattern: str, called: Sequence[Called]) -> tuple[list[Called], str]:
    """Layers along the path of the data, and how they were chosen.

    Without a pattern: of the levels of modules in modules, the innermost with at most a dozen that hold weights;
    where that has fewer than five, a dozen of the next level, evenly spaced.

    Args:
        pattern: with `*` and `?`, several parted by commas; "" chooses automatically.

    Raises:
        StudyError: no layer fits the pattern, or none is called once.
    """
    known = [each.name for each in called]
    if pattern:
        parts = [each.strip() for each in pattern.split(",")]
        chosen = [each for each in called if any(fnmatch.fnmatch(each.name, part) for part in parts)]
        if not chosen:
            raise StudyError(nearest("layer", pattern, known))
        return chosen, f"{len(chosen)} layers that fit {pattern}"
    names = set(known)
    level, best = [""], list[str]()
    while True:
        inner = [each for name in level for each in (_inside(model, name, names) or [name])]
        inner = [name for name in known if name in inner]  # as they are called
        if not inner or inner == level:
            break
        level = inner
        if len(level) > DOZEN:
            if len(best) < FEW:
                best = [level[round(at * (len(level) - 1) / (DOZEN - 1))] for at in range(DOZEN)]
            break
        best = level
    if not best:
        raise StudyError("no layer of the network is called exactly once and gives one tensor; write an adapter for it")
    wanted = set(best)
    said = f"{len(best)} layers chosen automatically along the path of the data (--layers PATTERN chooses others)"
    return [each for each in called if each.name in wanted], said


def _inside(model: nn.Module, name: str, called: set[str]) -> list[str]:
    """The called modules with weights nearest inside a module."""
    found = []
    for child, module in model.get_submodule(name).named_children():
        whole = f"{name}.{child}" if name else child
        if not any(each.dim() >= 2 for each in module.parameters()):
            continue
        found += [whole] if whole in called else _inside(model, whole, called)
    return found


def input_channels(model: nn.Module) -> int | None:
    """Channels that the network says it takes (`in_channels`), or its first convolution; None where there is none."""
    said = getattr(model, "in_channels", None)
    if isinstance(said, int):
        return said
    first: Any = next((each for each in model.modules() if isinstance(each, nn.modules.conv._ConvNd)), None)
    return None if first is None else int(first.in_channels)


def on_cpu(model: nn.Module) -> nn.Module:
    """The network in float32 on the CPU."""
    return model.to(torch.device("cpu"), torch.float32)
