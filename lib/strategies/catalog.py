"""Every transfer strategy of the study, one entry each.

A strategy is two facts. `start` says where the weights come from: `random`, `drawn` (random, the encoder by the law in
its options), `source` (all of them), `encoder` (the encoder from the source, the rest random) or `stages` (those named
in its options from the source, the rest random). `mark` returns the names of all tensors that may change, normalization
statistics among them; it may add parameters and cut the skip connections, and never renames a tensor. Everything else
is frozen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lib.common.errors import StudyError, nearest
from lib.networks.initial_weights import LAWS
from lib.networks.stages import Staged, check_stages, layer_groups
from lib.networks.unet import UNet
from lib.strategies import adapters, partial_layers
from lib.strategies.strategy import STATISTICS, STRATEGIES, Mark, Strategy

_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._NormBase)


def _tensors(model: nn.Module) -> list[str]:
    return list(model.state_dict())


def _in_stages(model: Staged, stages: Sequence[str]) -> set[str]:
    wanted = set(check_stages(model, stages))
    return {name for name in _tensors(model) if model.stage_of(name) in wanted}


def _everything(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    return set(_tensors(model))


def _parts(*parts: str) -> Mark:
    """Marks parts of the network: its `encoder`, its `decoder`, its `last` stage."""

    def mark(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
        return _in_stages(model, [stage for part in parts for stage in getattr(model, part)])

    return mark


def _drawn_encoder(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    assert LAWS[options["law"]]  # an unknown law is an error already when a spec is made
    return _parts("decoder")(model, options, draw)


def _without_skips(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    parts = {"frozen": _parts("decoder"), "trained": _everything}
    if not isinstance(model, UNet):
        raise StudyError("strategy 'without_skips' needs a U-Net: no other network here has skip connections")
    if options["encoder"] not in parts:
        raise StudyError(nearest("encoder of without_skips", options["encoder"], parts))
    model.skips = False
    return parts[options["encoder"]](model, options, draw)


def _norm_tensors(model: nn.Module, *, affine: bool, statistics: bool) -> set[str]:
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, _NORMS):
            for key in module.state_dict():
                if statistics if key in STATISTICS else affine:
                    found.add(f"{name}.{key}")
    return found


def _norm_only(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    return _norm_tensors(model, affine=True, statistics=True)


def _bias_only(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.endswith(".bias")}


def _scale_shift(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    policies = ("frozen", "affine", "statistics")
    if options["norm"] not in policies:
        raise StudyError(nearest("norm policy of scale_shift", options["norm"], policies))
    names = set(adapters.add_scale_shift(model, options["granularity"]))
    if options["norm"] != "frozen":
        names |= _norm_tensors(model, affine=True, statistics=options["norm"] == "statistics")
    return names


def _low_rank(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    return set(adapters.add_low_rank(model, options["rank"], draw))


def _l2_sp(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    alpha = options["alpha"]
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha < math.inf:
        raise StudyError(f"alpha must be a number of at least 0, got {alpha!r}")
    return set(_tensors(model))


def _transplant(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    check_stages(model, options["stages"])
    return set(_tensors(model))


def subset_stages(model: Staged, options: Mapping[str, Any]) -> list[str]:
    """The stages that `layer_subset` with these options trains.

    Raises:
        StudyError: an option is out of range.
    """
    if options["stages"] is not None:
        return check_stages(model, options["stages"])
    groups, side, count = layer_groups(model, options["order"]), options["side"], options["count"]
    if side not in ("shallow", "deep"):
        raise StudyError(nearest("side", side, ("shallow", "deep")))
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(groups):
        raise StudyError(f"count must be between 1 and {len(groups)} under order {options['order']!r}, got {count!r}")
    chosen = groups[:count] if side == "shallow" else groups[-count:]
    return [stage for group in chosen for stage in group]


def _layer_subset(model: Staged, options: dict[str, Any], draw: torch.Generator) -> set[str]:
    stages = subset_stages(model, options)
    if options["parameters"] is None:
        return _in_stages(model, stages)
    return partial_layers.choose_channels(model, stages, options["parameters"], draw)


STRATEGIES.add("scratch", Strategy("from scratch", "random", _everything))
STRATEGIES.add("full_finetuning", Strategy("full fine-tuning", "source", _everything))
STRATEGIES.add(
    "scale_shift",
    Strategy("scale and shift", "source", _scale_shift, {"granularity": "kernel", "norm": "frozen"}),
)
_SUBSET = {"order": "path", "side": "shallow", "count": 1, "stages": None, "parameters": None}
STRATEGIES.add("layer_subset", Strategy("layer subset", "source", _layer_subset, _SUBSET))
STRATEGIES.add("encoder_only", Strategy("encoder only", "source", _parts("encoder")))
STRATEGIES.add("decoder_only", Strategy("decoder only", "source", _parts("decoder")))
STRATEGIES.add("head_only", Strategy("head only", "source", _parts("last")))
STRATEGIES.add(
    "frozen_random_encoder",
    Strategy("frozen random encoder", "random", _parts("decoder"), {"calibrate": True}),
)
STRATEGIES.add(
    "frozen_drawn_encoder",
    Strategy("frozen encoder of another law", "drawn", _drawn_encoder, {"law": "orthogonal", "calibrate": True}),
)
STRATEGIES.add(
    "without_skips",
    Strategy("no skip connections", "random", _without_skips, {"encoder": "frozen", "calibrate": True}),
)
STRATEGIES.add(
    "frozen_random_decoder",
    Strategy("frozen random decoder", "random", _parts("encoder", "last"), {"calibrate": True}),
)
STRATEGIES.add("shuffled_labels", Strategy("shuffled labels", "random", _everything, shuffled=True))
STRATEGIES.add("frozen_source_encoder", Strategy("frozen source encoder", "encoder", _parts("decoder")))
STRATEGIES.add("norm_only", Strategy("normalization only", "source", _norm_only))
STRATEGIES.add("bias_only", Strategy("biases only", "source", _bias_only))
STRATEGIES.add("low_rank", Strategy("low-rank update", "source", _low_rank, {"rank": 4}))
STRATEGIES.add("l2_sp", Strategy("L2 to the start", "source", _l2_sp, {"alpha": 0.01}, pull=True))
STRATEGIES.add("transplant", Strategy("transplant", "stages", _transplant, {"stages": None}))
