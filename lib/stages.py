"""What strategies know of a network: that it consists of named stages in order."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

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
