"""Named stages of a network in order: which parameters belong to a stage, and which may move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor, nn

from lib.common.errors import StudyError, nearest

Network = TypeVar("Network", bound="Staged")


class Staged(nn.Module):
    """A network of stages, in order along the data path; strategies speak of nothing else.

    Its children are the stages, unless a stage map tells them (`lib.networks.stage_map`).
    """

    @property
    def stages(self) -> list[str]:
        """Names of the stages in order along the data path."""
        return [name for name, _ in self.named_children()]

    @property
    def encoder(self) -> list[str]:
        """The stages of the first part."""
        raise NotImplementedError

    @property
    def decoder(self) -> list[str]:
        """The stages after the encoder."""
        return [stage for stage in self.stages if stage not in self.encoder]

    @property
    def last(self) -> list[str]:
        """The last stage, alone."""
        return self.stages[-1:]

    @property
    def levels(self) -> list[list[str]]:
        """The stages by resolution, from the full one down."""
        raise NotImplementedError

    @property
    def core(self) -> nn.Module:
        """The module that computes, whose tensors have the names that they have here."""
        return self

    def stage_of(self, name: str) -> str:
        """The stage that a parameter or module belongs to; empty for a module that holds several."""
        return stage_of(name)

    def modules_of(self, stage: str) -> list[nn.Module]:
        """The modules that are called in a stage."""
        return [self.get_submodule(stage)]


def layer_groups(model: Staged, order: str) -> list[list[str]]:
    """The stages from shallow to deep under one of two orderings.

    `path` follows the data: the input side is shallow, the output side deep. `level` follows the resolution: the top
    row on both sides of the U, with the head, is shallow; the bottleneck is deep. Amiri et al. (doi
    10.1109/TUFFC.2020.3015081) used two definitions whose text was not at hand; these are ours.

    Raises:
        StudyError: the order is unknown.
    """
    if order == "path":
        return [[stage] for stage in model.stages]
    if order == "level":
        return model.levels
    raise StudyError(nearest("order", order, ("path", "level")))


def stage_of(name: str) -> str:
    """The stage of a parameter or module of the study's own networks: the first part of its dotted name."""
    return name.split(".", 1)[0]


MOVES = "_moves"


def moving_in_part(model: nn.Module) -> dict[str, Tensor]:
    """Which entries may move of the parameters that move in part: boolean masks by the name of the parameter.

    A mask is a buffer `weight_moves` beside `weight`, in no checkpoint, that follows its module everywhere.
    """
    return {name.removesuffix(MOVES): mask for name, mask in model.named_buffers() if name.endswith(MOVES)}


def moving_entries(model: nn.Module) -> dict[str, int]:
    """Number of entries that may change, of every parameter: all, some or none."""
    part = moving_in_part(model)
    return {
        name: 0 if not each.requires_grad else int(part[name].sum()) if name in part else each.numel()
        for name, each in model.named_parameters()
    }


def parameters_by_stage(model: Staged) -> dict[str, dict[str, int]]:
    """Number of parameters, and of trainable ones, per stage in order: `{stage: {"parameters": n, "trainable": m}}`."""
    counts = {stage: {"parameters": 0, "trainable": 0} for stage in model.stages}
    moving = moving_entries(model)
    for name, parameter in model.named_parameters():
        row = counts[model.stage_of(name)]
        row["parameters"] += parameter.numel()
        row["trainable"] += moving[name]
    return counts


def check_stages(model: Staged, stages: Sequence[str]) -> list[str]:
    """`stages` as a list, each a stage of the model.

    Raises:
        StudyError: a stage is unknown, or none is given.
    """
    if not stages or isinstance(stages, str):
        raise StudyError(f"stages must be a list with at least one of {', '.join(model.stages)}, got {stages!r}")
    for stage in stages:
        if stage not in model.stages:
            raise StudyError(nearest("stage", stage, model.stages))
    return list(stages)
