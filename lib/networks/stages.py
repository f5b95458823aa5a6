"""What strategies know of a network: that it consists of named stages in order."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from lib.errors import StudyError, nearest

Network = TypeVar("Network", bound="Staged")


class Staged(nn.Module):
    """A network whose children are its stages, in order along the data path; strategies speak of nothing else."""

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
