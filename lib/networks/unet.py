"""The networks of the study, with named stages in order, and the loading of weights from elsewhere."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.errors import StudyError, nearest
from lib.provenance import generator
from lib.registry import Registry
from lib.stages import Network, Staged

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
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
    """

    def __init__(self, inputs: int, outputs: int, *, dim: int, norm: str, up: bool = False) -> None:
        super().__init__()
        if up:
            self.up = _UP[dim](inputs, outputs, kernel_size=2, stride=2)
            inputs = 2 * outputs  # as many channels again come from the skip
        self.conv1 = _CONV[dim](inputs, outputs, kernel_size=3, padding=1)
        self.norm1 = NORMS[norm](dim, outputs)
        self.conv2 = _CONV[dim](outputs, outputs, kernel_size=3, padding=1)
        self.norm2 = NORMS[norm](dim, outputs)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if skip is not None:
            x = torch.cat([self.up(x), skip], dim=1)
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(x)), inplace=True)


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
            keep their running statistics: see `lib.strategies`.
        dim: 2 or 3.

    `skips` (True) says whether the decoder gets what the skip connections carry, or zeros.

    Raises:
        StudyError: an argument is out of range.
    """

    def __init__(
        self, inputs: int = 1, outputs: int = 1, *, width: int = 16, depth: int = 4, norm: str = "batch", dim: int = 2
    ) -> None:
        super().__init__()
        if dim not in _CONV or width < 1 or depth < 1 or inputs < 1 or outputs < 1:
            raise StudyError(
                "a UNet needs dim 2 or 3 and at least 1 for width, depth, inputs and outputs, "
                f"got {dim=}, {width=}, {depth=}, {inputs=}, {outputs=}"
            )
        self.depth, self.skips = depth, True
        for level in range(depth + 1):
            before = inputs if level == 0 else width * 2 ** (level - 1)
            self.add_module(f"enc{level}", Block(before, width * 2**level, dim=dim, norm=norm))
        for level in reversed(range(depth)):
            self.add_module(
                f"dec{level}", Block(width * 2 ** (level + 1), width * 2**level, dim=dim, norm=norm, up=True)
            )
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
        x = pad_to_multiple(x, 2**self.depth)
        skips: list[Tensor] = []
        for level in range(self.depth + 1):
            x = getattr(self, f"enc{level}")(_halved(x) if level else x)
            skips.append(x if self.skips else torch.zeros_like(x))
        for level in reversed(range(self.depth)):
            x = getattr(self, f"dec{level}")(x, skips[level])
        x = self.head(x)
        return x[(..., *(slice(0, side) for side in size))]


def _halved(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2) if x.dim() == 4 else F.max_pool3d(x, 2)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """`x` with its spatial sides (all after the second) padded at the far end, by repeating the edge, to a multiple."""
    missing = [-side % multiple for side in x.shape[2:]]
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


def initialize(model: Network, seed: int) -> Network:
    """The network, with fresh weights that are a pure function of its shape and the seed; see `build`."""
    draw = generator(seed, 0x1417)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=draw)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return model


def stage_of(name: str) -> str:
    """The stage that a parameter or module belongs to: the first part of its dotted name."""
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
        row = counts[stage_of(name)]
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


@dataclass(frozen=True)
class LoadedTensor:
    """One row of what became of a weight: `status` is `loaded`, `missing`, `unexpected` or `mismatched`."""

    name: str
    status: str
    model_shape: tuple[int, ...] | None
    file_shape: tuple[int, ...] | None


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a PyTorch state dict read without running any code in it.

    Raises:
        StudyError: no such file, or it holds something other than named tensors.
    """
    if not path.is_file():
        raise StudyError(f"no weights at {path}; give the path of a .safetensors, .pt or .pth file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StudyError(
            f"{path} is damaged, or holds more than tensors, which may be code and is not run; "
            "save model.state_dict() and nothing else, best as .safetensors"
        ) from error
    except Exception as error:
        raise StudyError(f"{path} could not be read as weights ({type(error).__name__}: {error})") from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]  # the wrapping that many training frameworks add
    named = isinstance(found, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    if not named or not found:
        raise StudyError(f"{path} holds no dictionary of tensors; save model.state_dict() and nothing else")
    return found


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, allow_partial: bool = False) -> list[LoadedTensor]:
    """Copy weights into the model by name and tell what became of every tensor.

    Args:
        weights: name -> tensor.
        allow_partial: load what fits. By default nothing is loaded unless everything fits.

    Raises:
        StudyError: something does not fit (the message is the table), or nothing fits at all.
    """
    own = model.state_dict()
    rows = []
    for name in [*own, *(name for name in weights if name not in own)]:
        here = tuple(own[name].shape) if name in own else None
        there = tuple(weights[name].shape) if name in weights else None
        status = "missing" if there is None else "unexpected" if here is None else "loaded"
        if status == "loaded" and here != there:
            status = "mismatched"
        rows.append(LoadedTensor(name, status, here, there))
    fitting = [row.name for row in rows if row.status == "loaded"]
    if not fitting or (len(fitting) < len(rows) and not allow_partial):
        raise StudyError(
            f"the weights do not fit the model ({len(fitting)} of {len(own)} tensors do)"
            f"{'; load what fits with allow_partial=True' if fitting else ''}\n{loading_table(rows)}"
        )
    model.load_state_dict({name: weights[name] for name in fitting}, strict=False)
    return rows


def loading_table(rows: Sequence[LoadedTensor]) -> str:
    """The outcome of `load_weights` as text: one line per tensor that was not loaded, and a count of each outcome."""
    lines = [f"{'tensor':40} {'status':12} {'model':20} file"]
    for row in rows:
        if row.status != "loaded":
            lines.append(f"{row.name:40} {row.status:12} {row.model_shape or '-'!s:20} {row.file_shape or '-'}")
    outcomes = [row.status for row in rows]
    lines.append(", ".join(f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes)))
    return "\n".join(lines)
