"""From fields of a spec to its network."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib.common.errors import StudyError, shown
from lib.common.outside import inside
from lib.common.seeding import generator
from lib.networks.cascade import Cascade
from lib.networks.foreign import first_line
from lib.networks.initial_weights import initialize
from lib.networks.stage_map import Mapped, load_map, stage_map
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
    mapped: str | None,
    outputs: int,
    seed: int = 0,
) -> Staged:
    """A network with weights that mean nothing yet; the arguments are fields of a spec.

    Args:
        mapped: the stage map as JSON, if the network is one from elsewhere: the seed then decides its weights.
    """
    if mapped is not None:
        return stage_map(json.loads(mapped)).build(inputs, outputs, dim, seed)
    if model == "cascade":
        return Cascade(blocks=blocks, width=width, depth=depth, norm=norm, shared=shared)
    return UNet(inputs, outputs, width=width, depth=depth, norm=norm, dim=dim, flat=flat or 0)


def initial_network(seed: int, *shape: Any) -> Staged:
    """The network with fresh weights that are a pure function of its shape and the seed.

    Those of the study's own are drawn from He's law (see `lib.networks.unet.build`), those of a network from elsewhere
    as its framework draws them (see `lib.networks.foreign.construct`).
    """
    model = build_network(*shape, seed=seed)
    return model if isinstance(model, Mapped) else initialize(model, seed)


def resolve_map(model: str, table: Mapping[str, Any] | None, others: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Name and content of a spec's stage map: what the spec holds, or what lies in a file of that path or name.

    Raises:
        StudyError: there is no such map, or it is none.
    """
    name, found = (model, stage_map(table)) if table is not None else load_map(model, others)
    if inside(Path(), f"{name}.toml", "model").name != f"{name}.toml":  # a bundle carries the map in a file so named
        raise StudyError(f"model is a name and no path, got {shown(name)}")
    return name, found.table()


@functools.lru_cache(maxsize=256)
def check_network(patch: tuple[int, ...], *shape: Any) -> None:
    """Send zeros through a network from elsewhere: what it cannot take is an error now and not after a first training.

    Raises:
        StudyError: it cannot take inputs of that size, or gives outputs of another shape than the task asks for.
    """
    model, inputs, outputs = build_network(*shape), shape[2], shape[-1]
    with torch.no_grad():
        try:
            out = model.to("meta").eval()(torch.zeros(1, inputs, *patch, device="meta"))
        except Exception:  # not every network can be told its sizes without numbers
            try:
                out = build_network(*shape).eval()(torch.zeros(1, inputs, *patch))
            except StudyError:
                raise
            except Exception as error:
                raise StudyError(
                    f"model {shape[6]!r} cannot take images of {inputs} channels and {'x'.join(map(str, patch))}: "
                    f"{type(error).__name__}: {first_line(error)}; choose another size"
                ) from error
    if out.shape != (1, outputs, *patch):
        raise StudyError(
            f"model {shape[6]!r} must give {outputs} channels of {'x'.join(map(str, patch))}, as the task asks for; it "
            f"gives {tuple(out.shape[1:])}"
        )


@functools.lru_cache(maxsize=256)
def check_marks(strategy: str, options: str, *shape: Any) -> None:
    """Let the strategy mark a network without memory: a wrong option is an error now and not after a first training."""
    with torch.device("meta"):
        model = build_network(*shape)
    freeze(model, strategy, json.loads(options), generator(0))
