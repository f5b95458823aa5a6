"""The weights of a network as filters: one per output channel, whatever the kind of its layer.

Weights fall into four kinds that no table mixes. `convolution` and `transposed` have kernels with a spatial extent.
`pointwise` (1x1 convolutions and dense layers) have none: whatever asks about the arrangement of taps does not
apply to them. Everything else (biases, normalization scales, shifts and statistics) is no filter at all; see
`analysis.filters.other_tensors.other_tensor_change`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.networks.stages import Staged, stage_of
from lib.runs.run import Run
from lib.strategies.adapters import merged

Floats = NDArray[np.float64]
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PARTS = ("up", "conv1", "conv2")  # of a stage, in the order in which data pass
_PARTED = (  # weight normalization, old and new: ending by which it is known, then length and direction
    (".weight_g", ".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)
_UPWARD = re.compile(r"(?i)(^|[._])(up|upconv|deconv|tconv|trans(pose[d]?)?)[a-z]*\d*([._]|$)")
_OWN = re.compile(r"(enc|dec)\d+\.(up|conv1|conv2)|head")
STRAY_ZEROS = 0.01  # more zeros than this that fill neither a filter nor a tap: the layer was pruned


@dataclass(frozen=True)
class FilterLayer:
    """The filters of one layer.

    Args:
        name: dotted name of the module.
        kind: `convolution`, `transposed` or `pointwise`.
        kernels: float64 (filters, inputs, *grid); one filter is all kernels that feed one output channel. In a
            grouped layer `inputs` are the channels of its own group. A pointwise layer has the grid (1,).
        stage: of the network, that the layer belongs to.
    """

    name: str
    kind: str
    kernels: Floats
    stage: str = ""

    @property
    def filters(self) -> int:
        """Number of filters, which is that of output channels."""
        return self.kernels.shape[0]

    @property
    def inputs(self) -> int:
        """Number of kernels in a filter."""
        return self.kernels.shape[1]

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of a kernel."""
        return self.kernels.shape[2:]

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Shape of the grid: which taps are in use. A tap that is exactly zero in every kernel is masked."""
        used = (self.kernels != 0).any(axis=(0, 1))
        return used if used.any() else np.ones(self.grid, dtype=bool)

    def rows(self, used: NDArray[np.bool_] | None = None) -> Floats:
        """One row per filter: (filters, inputs * taps in use)."""
        return self.taps(used).reshape(self.filters, -1)

    def taps(self, used: NDArray[np.bool_] | None = None) -> Floats:
        """(filters, inputs, taps in use), in the order of the grid."""
        return np.ascontiguousarray(self.kernels[:, :, self.used if used is None else used])

    def alive(self) -> FilterLayer:
        """The layer without filters that are exactly zero.

        Raises:
            StudyError: more than 1 % of the weights that are left are zero and no whole tap is: the layer was
                pruned weight by weight, and nothing here is calibrated for that.
        """
        living = replace(self, kernels=self.kernels[self.kernels.any(axis=tuple(range(1, self.kernels.ndim)))])
        zeros = float((living.taps() == 0).mean()) if living.filters else 0.0
        if zeros > STRAY_ZEROS:
            raise StudyError(
                f"layer {self.name}: {zeros:.1%} of the weights are exactly zero and fill neither a filter nor a tap; "
                "tests of randomness are calibrated for layers that were not pruned. Leave the layer out"
            )
        return living


@dataclass(frozen=True)
class Geometry:
    """What a network knows of its layers and their weights do not tell, by the names of modules.

    Args:
        shapes: (transposed, groups) of every convolution; None where the network is not known.
        stages: the stage of a layer or tensor; those that are not in it get the first part of their name.
    """

    shapes: Mapping[str, tuple[bool, int]] | None = None
    stages: Mapping[str, str] = field(default_factory=dict)


def geometry(model: nn.Module | Geometry | None) -> Geometry:
    """What a network says of its layers, for `read_layers`; stages where it is `Staged`, as by a stage map.

    What is a `Geometry` already comes back as it is, and None as one that knows nothing.
    """
    if model is None or isinstance(model, Geometry):
        return model or Geometry()
    shapes = {
        name: (isinstance(module, _TRANSPOSED), module.groups)
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd)
    }
    names = [name for name, _ in (*model.named_modules(), *model.named_parameters(), *model.named_buffers())]
    return Geometry(shapes, {name: model.stage_of(name) for name in names} if isinstance(model, Staged) else {})


def geometry_of_run(run: Run) -> Geometry:
    """What the network of a run says of its layers; nothing where it is of this study, whose names tell all."""
    return geometry(None if run.spec.stage_map is None else run.model(0))


def read_layers(weights: Mapping[str, Tensor], known: Geometry | None = None) -> dict[str, FilterLayer]:
    """The layers of a checkpoint by name, with factors of `scale_shift` and the like multiplied in.

    Those of our own networks come in order along the data path (files hold them by the alphabet), others as they are.

    Args:
        weights: name -> tensor of any floating type, memory layout and device.
        known: what `geometry` says of the network. A tensor does not tell whether its layer is transposed, or
            grouped as well; without this, layers called `up` are taken for transposed, as in `lib.networks.unet.UNet`,
            and no transposed layer for grouped. (For other layers groups change nothing.)

    Raises:
        StudyError: there is no layer, a weight is not finite, or `known` does not fit the weights.
    """
    known = known or Geometry()
    shapes, layers = known.shapes, {}
    for key, tensor in _composed(merged(weights)).items():
        name, _, part = key.rpartition(".")
        if part == "weight" and tensor.dim() >= 2:
            own = _OWN.fullmatch(name) is not None
            if shapes is None and not own and tensor.dim() > 2 and _UPWARD.search(name):
                raise StudyError(
                    f"layer {name} may be a transposed convolution, which a tensor does not tell; give what `geometry` "
                    "says of the network, or name the layers as lib.networks.unet does"
                )
            transposed, groups = (shapes or {}).get(name, (name.rpartition(".")[2] == "up" and tensor.dim() > 2, 1))
            found = _layer(name, tensor.detach().cpu().double().numpy(), transposed, groups)
            layers[name] = replace(found, stage=known.stages.get(name) or stage_of(name))
    if not layers:
        raise StudyError(f"there must be a weight with two axes or more, got {', '.join(weights) or 'nothing'}")
    missing = sorted(set(shapes or ()) - set(layers))
    if missing:
        raise StudyError(f"the network has layers that the weights lack: {', '.join(missing)}")
    if not all(_OWN.fullmatch(name) for name in layers):
        return layers
    return dict(sorted(layers.items(), key=lambda item: _along(item[0])))


def _composed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with those that are kept in parts put together, as the layers use them.

    Raises:
        StudyError: a layer is normalized by its spectrum, whose norm cannot be had from its parts alone.
    """
    whole = dict(weights)
    for name in weights:
        for ending, length, direction in _PARTED:
            if name.endswith(ending):
                layer = name.removesuffix(ending)
                v, g = whole.pop(layer + direction), whole.pop(layer + length)
                norm = v.flatten(1).norm(dim=1).reshape(-1, *[1] * (v.dim() - 1))
                whole[f"{layer}.weight"] = v * (g / norm)
        if name.endswith((".weight_orig", ".parametrizations.weight.original")):
            raise StudyError(
                f"{name}: the layer is parametrized (spectral norm, pruning or the like) and its weight is not in the "
                "file; save it with torch.nn.utils.parametrize.remove_parametrizations, or leave the layer out"
            )
    return whole


def _along(name: str) -> tuple[int, int, int]:
    """Where a layer of `lib.networks.unet.UNet` stands on the way of the data."""
    stage, _, part = name.partition(".")
    if stage == "head":
        return 2, 0, 0
    level = int(stage[3:])
    return (0, level, _PARTS.index(part)) if stage.startswith("enc") else (1, -level, _PARTS.index(part))


def _layer(name: str, weight: Floats, transposed: bool, groups: int) -> FilterLayer:
    if not weight.size or not np.isfinite(weight).all():
        raise StudyError(f"layer {name} holds no weights, NaN or infinity; leave diverged runs out first")
    if transposed:  # (inputs, outputs / groups, *grid) -> (outputs, inputs / groups, *grid)
        if weight.shape[0] % groups:
            raise StudyError(f"layer {name}: {weight.shape[0]} input channels do not fall into {groups} groups")
        parts = np.split(weight, groups)
        weight = np.concatenate([part.swapaxes(0, 1) for part in parts])
    taps = math.prod(weight.shape[2:])
    if taps == 1:
        return FilterLayer(name, "pointwise", np.ascontiguousarray(weight).reshape(*weight.shape[:2], 1))
    return FilterLayer(name, "transposed" if transposed else "convolution", np.ascontiguousarray(weight))


def layer_pairs(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], known: Geometry | None = None
) -> list[tuple[FilterLayer, FilterLayer]]:
    """The layers of two checkpoints of one network side by side.

    Raises:
        StudyError: a layer is missing on one side, or has another shape there.
    """
    first, second = read_layers(before, known), read_layers(after, known)
    alone = sorted(set(first) ^ set(second))
    if alone:
        raise StudyError(f"both checkpoints must hold the same layers, but {', '.join(alone)} stand in one only")
    for name, layer in first.items():
        if layer.kernels.shape != second[name].kernels.shape:
            raise StudyError(
                f"layer {name} must have one shape in both checkpoints, got {layer.kernels.shape} and "
                f"{second[name].kernels.shape} (filters, inputs, *taps); compare networks of one width"
            )
    return [(layer, second[name]) for name, layer in first.items()]
