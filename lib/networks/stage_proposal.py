"""A stage map proposed for a network from elsewhere, by one forward pass: order of execution and sizes of maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.networks.foreign import construct, first_line, parameters_of
from lib.networks.stage_map import Mapped, MappedStage, StageMap

# How the packages call the arguments that the task sets, in the order of preference.
_CALLED = {
    "dim": ("spatial_dims", "dim", "dimension", "ndim", "dimensions"),
    "inputs": ("in_channels", "input_channels", "in_chans", "inputs", "n_channels"),
    "outputs": ("out_channels", "num_classes", "classes", "outputs", "n_classes"),
}


@dataclass(frozen=True)
class Step:
    """One layer with parameters, at its first use: its name, and the voxels of the maps that go in and come out."""

    name: str
    before: int
    after: int


def propose(network: str, arguments: dict[str, Any], *, inputs: int, outputs: int, dim: int, size: int) -> StageMap:
    """A stage map of the network: the encoder down to the smallest maps, the decoder up from them, the last layer.

    A stage begins where maps get smaller, on the way down, or larger, on the way up; what lies beside the way (a
    shortcut with a convolution of its own) belongs to the stage in which it is used. The last layer is the head.

    Args:
        arguments: keyword arguments beside those that take inputs, outputs and dim; these are found by their names.
        size: side in pixels of the image that is sent through the network.

    Raises:
        StudyError: the network cannot be made or cannot take such an image, or its maps never get smaller.
    """
    declared, given = parameters_of(network), dict(arguments)
    wanted: dict[str, int] = {"dim": dim, "inputs": inputs, "outputs": outputs}
    set_by: dict[str, str | int] = {}
    for name, value in wanted.items():
        called = next((each for each in _CALLED[name] if each in declared and each not in given), None)
        set_by[name] = value if called is None else called
        if called is not None:
            given[called] = value
    module = construct(network, given, seed=0)
    stages = _stages(module, trace(module, torch.zeros(1, inputs, *[size] * dim)))
    Mapped(module, stages)  # fits, or says what does not
    return StageMap(network, set_by["dim"], set_by["inputs"], set_by["outputs"], dict(arguments), stages)


@torch.no_grad()
def trace(network: nn.Module, x: Tensor) -> list[Step]:
    """The layers that hold parameters of their own, in the order of their first use.

    Raises:
        StudyError: the network cannot take the input.
    """
    steps: dict[str, Step] = {}
    sizes = [x[0, 0].numel()]

    def hook(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            after = output.shape[2:].numel() if isinstance(output, Tensor) and output.ndim > 2 else 1
            after = after if after > 1 else sizes[-1]  # what weighs channels by their means is no level of its own
            given = inputs[0] if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim > 2 else None
            before = sizes[-1] if given is None else given.shape[2:].numel()
            steps.setdefault(name, Step(name, before, after))
            sizes.append(after)

        return note

    hooks = [
        module.register_forward_hook(hook(name))
        for name, module in network.named_modules()
        if name and any(True for _ in module.parameters(recurse=False))
    ]
    training = network.training
    try:
        network.eval()(x)
    except Exception as error:
        raise StudyError(
            f"the network cannot take an image of {tuple(x.shape[1:])}: {type(error).__name__}: {first_line(error)}; "
            "give another --size, --inputs or --dim"
        ) from error
    finally:
        network.train(training)
        for each in hooks:
            each.remove()
    return list(steps.values())


def _stages(network: nn.Module, steps: Sequence[Step]) -> tuple[MappedStage, ...]:
    names, groups, sizes, side = [step.name for step in steps], list[list[str]](), list[int](), list[bool]()
    smallest = min((step.after for step in steps), default=0)
    bottom = max((place for place, step in enumerate(steps) if step.after == smallest), default=0)
    for place, step in enumerate(steps):
        down, last = place <= bottom, place == len(steps) - 1
        if not groups or last or side[-1] != down or step.after != sizes[-1]:
            groups.append([])
            sizes.append(step.after)
            side.append(down)
        groups[-1].append(step.name)
    if len(set(sizes)) < 2 or all(side):
        raise StudyError(
            "the maps of this network do not get smaller and larger again, so that no stages can be proposed; write "
            "its stage map by hand (see lib/networks/stage_map.py)"
        )
    unused = [name for name, _ in network.named_parameters() if name.rpartition(".")[0] not in names]
    levels = {size: level for level, size in enumerate(sorted(set(sizes), reverse=True))}
    labels = _labels([levels[size] for size in sizes], side)
    whole = _prefixes(network, groups)
    stages = [
        MappedStage(label, tuple(entries), levels[size], down)
        for label, entries, size, down in zip(labels, whole, sizes, side, strict=True)
    ]
    covered = [entry for entries in whole for entry in entries]
    lost = [name for name in unused if not any(name.startswith(f"{each}.") or name == each for each in covered)]
    if lost:  # not used by this pass: beside the last stage, where the user sees them first
        stages[-1] = MappedStage(stages[-1].name, (*stages[-1].modules, *lost), stages[-1].level, False)
    return tuple(stages)


def _labels(levels: Sequence[int], side: Sequence[bool]) -> list[str]:
    """Names of stages: `enc0`, `enc1`, ..., `dec1`, `dec0`, `head`; further ones of a level get a letter."""
    found: list[str] = []
    for place, (level, down) in enumerate(zip(levels, side, strict=True)):
        name = "head" if place == len(levels) - 1 else f"{'enc' if down else 'dec'}{level}"
        more = sum(each == name or each.startswith(f"{name}.") for each in found)
        found.append(f"{name}.{more + 1}" if more else name)
    return found


def _prefixes(network: nn.Module, groups: Sequence[Sequence[str]]) -> list[list[str]]:
    """The layers of each group, told by the largest modules that hold layers of that group alone, in order of use."""
    owner = {name: place for place, group in enumerate(groups) for name in group}
    found = []
    for place, group in enumerate(groups):
        entries: list[str] = []
        for name in group:
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                prefix = ".".join(parts[:length])
                inside = {owner[each] for each in owner if each == prefix or each.startswith(f"{prefix}.")}
                if inside == {place}:
                    entries.append(prefix)
                    break
        found.append(list(dict.fromkeys(entries)))
    return found
