"""Small parameters added to convolutions, so that a network can be moved without touching its weights.

A convolution gets further parameters beside its `weight` and `bias`, under their own names; no parameter is renamed,
so that names stay the join key between checkpoints. What the LFT paper (Bi et al. 2023, doi 10.3389/fnins.2023.1202143)
leaves open is our choice and follows its likely ancestor (Sun et al., arXiv 1812.02391): the scale multiplies the
frozen weight, one scalar per kernel unless another granularity is asked for; the shift is added to the frozen bias,
one per output channel; both start as the identity (1 and 0); every convolution has them, transposed ones and the last
too. A convolution without a bias, as networks from elsewhere have them before a normalization, gets the scale alone.
What normalization layers may do is a policy of its own (`norm` of the strategy `scale_shift`): `frozen` (default) keeps
their affine parameters and running statistics, `affine` trains the parameters, `statistics` both. That ancestor trains
them, and so does not keep to "only the factors change".
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.common.errors import StudyError, nearest

GRANULARITIES = ("kernel", "channel", "layer")
FACTORS = ("scale", "shift", "low_a", "low_b")


class _Adapted:
    """A convolution whose weight and bias are corrected by its factors before every use."""

    def effective(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias with the factors applied."""
        weight, bias = self.weight, self.bias  # type: ignore[attr-defined]
        if hasattr(self, "scale"):
            weight = weight * self.scale  # type: ignore[attr-defined]
        if hasattr(self, "shift"):
            bias = bias + self.shift  # type: ignore[attr-defined]
        if hasattr(self, "low_a"):
            weight = weight + (self.low_b @ self.low_a).reshape(weight.shape)  # type: ignore[attr-defined]
        return weight, bias


class _Forward(_Adapted):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, *self.effective())  # type: ignore[attr-defined]


class AdaptedConv2d(_Forward, nn.Conv2d):
    """A 2-D convolution with factors."""


class AdaptedConv3d(_Forward, nn.Conv3d):
    """A 3-D convolution with factors."""


class AdaptedConvTranspose2d(_Adapted, nn.ConvTranspose2d):
    """A transposed 2-D convolution with factors."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, *self.effective(), **_geometry(self))


class AdaptedConvTranspose3d(_Adapted, nn.ConvTranspose3d):
    """A transposed 3-D convolution with factors."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose3d(x, *self.effective(), **_geometry(self))


def _geometry(module: nn.ConvTranspose2d | nn.ConvTranspose3d) -> dict[str, Any]:
    names = ("stride", "padding", "output_padding", "groups", "dilation")
    return {name: getattr(module, name) for name in names}


_ADAPTED: dict[type, type] = {
    nn.Conv2d: AdaptedConv2d,
    nn.Conv3d: AdaptedConv3d,
    nn.ConvTranspose2d: AdaptedConvTranspose2d,
    nn.ConvTranspose3d: AdaptedConvTranspose3d,
}


def add_scale_shift(model: nn.Module, granularity: str = "kernel") -> list[str]:
    """Give every convolution a `scale` (starts at 1) and a `shift` (starts at 0); returns the names of both.

    Args:
        granularity: one scale per `kernel` (each pair of output and input channel), per output `channel`, or per
            `layer`; the shift is per output channel, for `layer` one per layer.

    Raises:
        StudyError: the granularity is unknown.
    """
    if granularity not in GRANULARITIES:
        raise StudyError(nearest("granularity", granularity, GRANULARITIES))
    names = []
    for name, module in _adapt(model):
        weight: Tensor = module.weight  # type: ignore[assignment]
        transposed = isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d))
        rows, columns = weight.shape[:2]  # (out, in); (in, out) when transposed
        outputs = columns if transposed else rows
        per_channel = (1, outputs) if transposed else (outputs, 1)
        lead = {"kernel": (rows, columns), "channel": per_channel, "layer": (1, 1)}[granularity]
        module.scale = nn.Parameter(weight.new_ones(*lead, *[1] * (weight.dim() - 2)))
        names.append(f"{name}.scale")
        if module.bias is not None:
            module.shift = nn.Parameter(weight.new_zeros(1 if granularity == "layer" else outputs))
            names.append(f"{name}.shift")
    return names


def add_low_rank(model: nn.Module, rank: int, draw: torch.Generator) -> list[str]:
    """Give every convolution an additive update of low rank (Hu et al., arXiv 2106.09685); returns the names added.

    The weight, seen as a matrix with one row per leading index, gets `low_b @ low_a`; `low_b` starts at zero, so the
    network starts unchanged. Matrices with no room for the rank get the largest rank they have.

    Raises:
        StudyError: the rank is no positive whole number.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise StudyError(f"rank must be a whole number of at least 1, got {rank!r}")
    names = []
    for name, module in _adapt(model):
        weight: Tensor = module.weight  # type: ignore[assignment]
        rows, columns = weight.shape[0], math.prod(weight.shape[1:])
        inner = min(rank, rows, columns)
        start = torch.randn(inner, columns, generator=draw) / math.sqrt(columns)
        module.low_a = nn.Parameter(start.to(weight))
        module.low_b = nn.Parameter(weight.new_zeros(rows, inner))
        names += [f"{name}.low_a", f"{name}.low_b"]
    return names


def without_factors(weights: Mapping[str, Tensor], own: Container[str] = ()) -> dict[str, Tensor]:
    """The tensors of the network as it was before it got factors: what is left when they are switched off.

    Args:
        own: names of the network's own tensors, which are no factors whatever they are called.
    """
    return {name: value for name, value in weights.items() if name in own or name.rpartition(".")[2] not in FACTORS}


def merged(weights: Mapping[str, Tensor], own: Container[str] = ()) -> dict[str, Tensor]:
    """Tensors of a network without factors that computes what the network of these tensors, factors and all, does.

    Args:
        own: as of `without_factors`.
    """
    plain = without_factors(weights, own)
    for name, value in weights.items():
        layer, _, factor = name.rpartition(".")
        if name in own:
            continue
        if factor == "scale":
            plain[f"{layer}.weight"] = plain[f"{layer}.weight"] * value
        elif factor == "shift":
            plain[f"{layer}.bias"] = plain[f"{layer}.bias"] + value
        elif factor == "low_b":
            weight = plain[f"{layer}.weight"]
            plain[f"{layer}.weight"] = weight + (value @ weights[f"{layer}.low_a"]).reshape(weight.shape)
    return plain


def _adapt(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Turn every convolution into its kind with factors, in place, keeping its tensors; returns them by name."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, _Adapted):
            raise StudyError(f"layer {name!r} has factors already; add them to a network without")
        if isinstance(module, nn.modules.conv._ConvNd):
            if type(module) not in _ADAPTED or (module.transposed and module.groups != 1):
                kind = f"{'grouped ' if module.groups != 1 else ''}{type(module).__name__}"
                raise StudyError(f"layer {name!r}: there are no factors for a {kind}; choose another strategy")
            module.__class__ = _ADAPTED[type(module)]
            found.append((name, module))
    return found
