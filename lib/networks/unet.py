"""The U-Net and its normalizations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.common.errors import StudyError
from lib.common.registry import Registry
from lib.networks.initial_weights import initialize
from lib.networks.stages import Staged

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_POOL = {2: F.max_pool2d, 3: F.max_pool3d}
_BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

NORMS: Registry = Registry("normalization")
NORMS.add("group", lambda dim, channels: nn.GroupNorm(math.gcd(8, channels), channels))
NORMS.add("batch", lambda dim, channels: _BATCH[dim](channels))
NORMS.add("instance", lambda dim, channels: _INSTANCE[dim](channels, affine=True))
NORMS.add("none", lambda dim, channels: nn.Identity())


class Block(nn.Module):
    """Two 3x3 convolutions, each followed by normalization and ReLU; a decoder block upsamples first and takes a skip.

    Args:
        up: the block first doubles the resolution of its input of `inputs` channels, and concatenates the skip.
        flat: leave the last axis alone: kernels are 3x3x1, and the resolution is doubled along the others only.
    """

    def __init__(self, inputs: int, outputs: int, *, dim: int, norm: str, up: bool = False, flat: bool = False) -> None:
        super().__init__()
        if up:
            factors = _factors(dim, flat)
            self.up = _UP[dim](inputs, outputs, kernel_size=factors, stride=factors)
            inputs = 2 * outputs  # as many channels again come from the skip
        kernel = (3,) * (dim - 1) + (1 if flat else 3,)
        padding = tuple(side // 2 for side in kernel)
        self.conv1 = _CONV[dim](inputs, outputs, kernel_size=kernel, padding=padding)
        self.norm1 = NORMS[norm](dim, outputs)
        self.conv2 = _CONV[dim](outputs, outputs, kernel_size=kernel, padding=padding)
        self.norm2 = NORMS[norm](dim, outputs)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            x = torch.cat([self.up(x), skip], dim=1)
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(x)), inplace=True)


def _factors(dim: int, flat: bool) -> tuple[int, ...]:
    """By how much a change of level changes the resolution along each axis."""
    return (2,) * (dim - 1) + (1 if flat else 2,)


class UNet(Staged):
    """A U-Net (Ronneberger et al., arXiv 1505.04597) for 2-D or 3-D images of any size, with named stages.

    Stages in order along the data path: `enc0 ... enc{depth}` (the last is the bottleneck),
    `dec{depth-1} ... dec0`, `head`. Departures from the paper: padded convolutions, normalization, width by option.

    Args:
        inputs: channels of the input.
        outputs: channels of the output (logits).
        width: channels of `enc0`; every level has twice as many as the one above.
        depth: number of times the resolution is halved.
        norm: `batch` (default), `group` (up to eight groups), `instance` or `none`. In a trial on breast ultrasound
            (64 px, 400 steps, one seed) `batch` reached a validation Dice of 0.76 and `group` 0.68. Frozen stages
            keep their running statistics: see `lib.strategies.catalog`.
        dim: 2 or 3.
        flat: levels from the top, of a network for volumes, that leave the last axis alone: for voxels that are longer
            along it (Isensee et al., Nat Methods 18, 2021).

    `skips` (True) says whether the decoder gets what the skip connections carry, or zeros.

    Raises:
        StudyError: an argument is out of range.
    """

    def __init__(
        self,
        inputs: int = 1,
        outputs: int = 1,
        *,
        width: int = 16,
        depth: int = 4,
        norm: str = "batch",
        dim: int = 2,
        flat: int = 0,
    ) -> None:
        super().__init__()
        if dim not in _CONV or width < 1 or depth < 1 or inputs < 1 or outputs < 1:
            raise StudyError(
                "a UNet needs dim 2 or 3 and at least 1 for width, depth, inputs and outputs, "
                f"got {dim=}, {width=}, {depth=}, {inputs=}, {outputs=}"
            )
        if not 0 <= flat <= (depth if dim == 3 else 0):
            raise StudyError(f"flat must be between 0 and depth ({depth}) in 3-D, and 0 in 2-D, got {flat} at {dim=}")
        self.depth, self.skips = depth, True
        self.steps = [_factors(dim, level < flat) for level in range(depth)]
        for level in range(depth + 1):
            before = inputs if level == 0 else width * 2 ** (level - 1)
            self.add_module(f"enc{level}", Block(before, width * 2**level, dim=dim, norm=norm, flat=level < flat))
        for level in reversed(range(depth)):
            block = Block(width * 2 ** (level + 1), width * 2**level, dim=dim, norm=norm, up=True, flat=level < flat)
            self.add_module(f"dec{level}", block)
        self.head = _CONV[dim](width, outputs, kernel_size=1)

    @property
    def encoder(self) -> list[str]:
        """The contracting side with the bottleneck."""
        return [f"enc{level}" for level in range(self.depth + 1)]

    @property
    def levels(self) -> list[list[str]]:
        """The rows of the U: both sides of a resolution, the head in the top row, the bottleneck alone."""
        rows = [[f"enc{level}", f"dec{level}"] for level in range(self.depth)]
        rows[0].append("head")
        return [*rows, [f"enc{self.depth}"]]

    def forward(self, x: Tensor) -> Tensor:  # (n, inputs, *size) -> (n, outputs, *size)
        size = x.shape[2:]
        x = pad_to_multiple(x, [math.prod(each) for each in zip(*self.steps, strict=True)])
        skips: list[Tensor] = []
        for level in range(self.depth + 1):
            x = getattr(self, f"enc{level}")(_POOL[len(size)](x, self.steps[level - 1]) if level else x)
            skips.append(x if self.skips else torch.zeros_like(x))
        for level in reversed(range(self.depth)):
            x = getattr(self, f"dec{level}")(x, skips[level])
        x = self.head(x)
        return x[(..., *(slice(0, side) for side in size))]


def pad_to_multiple(x: Tensor, multiples: Sequence[int]) -> Tensor:
    """`x` with its spatial sides (all after the second) padded at the far end, by repeating the edge, to multiples."""
    missing = [-side % multiple for side, multiple in zip(x.shape[2:], multiples, strict=True)]
    if not any(missing):
        return x
    pads = [amount for missed in reversed(missing) for amount in (0, missed)]
    return F.pad(x, pads, mode="replicate")


def build(*, width: int, depth: int, norm: str, seed: int, dim: int = 2) -> UNet:
    """A freshly initialized UNet whose weights are a pure function of the arguments.

    Convolutions are drawn from He's normal law (arXiv 1502.01852; fan-in, biases zero): the law is part of the
    study, because later analyses ask whether trained filters still look like a draw from it.
    """
    return initialize(UNet(width=width, depth=depth, norm=norm, dim=dim), seed)
