"""An unrolled reconstruction network: small networks that take turns with consistency with the measured samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.common.errors import StudyError
from lib.imaging import mri
from lib.networks.stages import Staged
from lib.networks.unet import NORMS


def pack(kspace: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """A measurement as one tensor, complex (n, 2c + 1, h, w), so that it is cut, moved and counted like images.

    Args:
        kspace: complex (n, c, h, w). maps: complex (n, c, h, w). mask: measured lines, bool (n, w).
    """
    plane = mask.to(kspace.dtype)[:, None, None, :].expand(-1, 1, kspace.shape[-2], -1)
    return torch.cat([kspace, maps, plane], dim=1)


def unpack(measured: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """K-space (n, c, h, w), maps (n, c, h, w) and sampled plane (n, 1, h, w), as `lib.imaging.mri` takes them."""
    coils = measured.shape[1] // 2
    return measured[:, :coils], measured[:, coils:-1], measured[:, -1:].real


def zero_filled(measured: Tensor) -> Tensor:
    """The image, complex (n, h, w), in which every sample that was not measured counts as zero."""
    return mri.adjoint(*unpack(measured))


def to_channels(image: Tensor) -> Tensor:
    """Complex (n, h, w) as real (n, 2, h, w)."""
    return torch.view_as_real(image).movedim(-1, 1)


def to_complex(channels: Tensor) -> Tensor:
    """Real (n, 2, h, w) as complex (n, h, w)."""
    return torch.view_as_complex(channels.movedim(1, -1).contiguous())


class Correction(nn.Module):
    """One block: convolutions that correct the image, then the measured samples put back in their place.

    All convolutions are 3x3 at full resolution; normalization and ReLU follow each but the last.
    """

    def __init__(self, *, width: int, depth: int, norm: str) -> None:
        super().__init__()
        self.depth = depth
        for place in range(depth):
            last = place == depth - 1
            self.add_module(f"conv{place}", nn.Conv2d(width if place else 2, 2 if last else width, 3, padding=1))
            if not last:
                self.add_module(f"norm{place}", NORMS[norm](2, width))

    def forward(self, x: Tensor, kspace: Tensor, maps: Tensor, mask: Tensor) -> Tensor:  # (n, 2, h, w) -> the same
        correction = x
        for place in range(self.depth):
            correction = getattr(self, f"conv{place}")(correction)
            if place < self.depth - 1:
                correction = F.relu(getattr(self, f"norm{place}")(correction), inplace=True)
        image = to_complex(x + correction.float())
        return to_channels(mri.hard_consistency(image, kspace, maps, mask))


class Cascade(Staged):
    """A deep cascade (Schlemper et al., arXiv 1704.02422): blocks of convolutions and data consistency in turn.

    Stages in order along the data path: `block0 ... block{blocks-1}`. The first half of them (rounded up) is what
    strategies call the encoder; all work at full resolution, so there is one level. Departures from the paper:
    normalization by option, several coils by their maps, consistency always as if the samples had no noise.

    Args:
        blocks: how many times the image is corrected.
        width: channels inside a block. depth: convolutions of a block, at least 2.
        shared: one block, `block0`, is used every time: fewer parameters, the same amount of work.

    Raises:
        StudyError: an argument is out of range.
    """

    def __init__(self, *, blocks: int, width: int, depth: int, norm: str, shared: bool = False) -> None:
        super().__init__()
        if blocks < 1 or width < 1 or depth < 2:
            raise StudyError(
                f"a cascade needs at least 1 block, width 1 and depth 2, got {blocks=}, {width=}, {depth=}"
            )
        self.blocks = blocks
        for place in range(1 if shared else blocks):
            self.add_module(f"block{place}", Correction(width=width, depth=depth, norm=norm))

    @property
    def encoder(self) -> list[str]:
        """The first half of the blocks."""
        return self.stages[: (len(self.stages) + 1) // 2]

    @property
    def levels(self) -> list[list[str]]:
        """One level: every block works at full resolution."""
        return [self.stages]

    def forward(self, measured: Tensor) -> Tensor:  # complex (n, 2c + 1, h, w), see `pack` -> real (n, 2, h, w)
        kspace, maps, mask = unpack(measured)
        x = to_channels(mri.adjoint(kspace, maps, mask))
        for place in range(self.blocks):
            x = getattr(self, self.stages[place % len(self.stages)])(x, kspace, maps, mask)
        return x
