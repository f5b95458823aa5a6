"""Laws that the kernels of an encoder can follow in place of He's: what a frozen encoder is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lib.common.registry import Registry
from lib.common.seeding import generator
from lib.networks.gabor import gabor_atoms
from lib.networks.stages import Network, Staged

# A law turns weights (outputs, inputs, *grid) drawn from He's law into weights of its own: the draw decides, and no
# further random number is needed, so that encoders of one seed are kin under every law.
LAWS: Registry[Callable[[Tensor], Tensor]] = Registry("law of an encoder")


def _orthogonal(weight: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows (or columns, where there are more filters than weights in one)."""
    left, _, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    return (left @ right).view_as(weight)


def _gabor(weight: Tensor) -> Tensor:
    """Every kernel replaced by its projection on that Gabor function which it is closest to; one of one tap stays."""
    atoms = torch.from_numpy(np.array(gabor_atoms(np.ones(tuple(weight.shape[2:]), dtype=bool)))).to(weight)
    if not len(atoms):  # on one tap there is no wave
        return weight
    products = weight.flatten(2) @ atoms.T  # (outputs, inputs, atoms)
    best = products.abs().argmax(dim=2, keepdim=True)
    return (products.gather(2, best) * atoms[best[..., 0]]).view_as(weight)


def _image(weight: Tensor) -> Tensor:
    """Even channels hand on the image, odd ones its negative, so that between them ReLU loses nothing of it.

    Every channel of every level is then the image at that level's resolution, halved by taking maxima.
    """
    passed = torch.zeros_like(weight)
    signs = [1.0 - 2.0 * (torch.arange(side) % 2) for side in weight.shape[:2]]
    passed[(..., *(side // 2 for side in weight.shape[2:]))] = signs[0][:, None] * signs[1]
    return passed


LAWS.add("orthogonal", _orthogonal)
LAWS.add("gabor", _gabor)
LAWS.add("image", _image)


def redraw_kernels(model: Staged, stages: Sequence[str], law: str) -> None:
    """Give the convolutions of the stages weights that follow a law; each layer keeps its energy.

    Raises:
        StudyError: the law is unknown.
    """
    for name, module in model.named_modules():
        if model.stage_of(name) in stages and isinstance(module, (nn.Conv2d, nn.Conv3d)):
            weight = module.weight.detach()
            drawn = LAWS[law](weight)
            weight.copy_(drawn * (weight.norm() / drawn.norm()))


def initialize(model: Network, seed: int) -> Network:
    """The network, with fresh weights that are a pure function of its shape and the seed; see `build`."""
    draw = generator(seed, 0x1417)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=draw)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return model
