"""Weights from files: read without running code, loaded by name, and what loaded told tensor by tensor."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lib.common.errors import StudyError

LEAST_SHARE = 0.5  # of a model's numbers: with fewer loaded it is nearly as it was drawn


@dataclass(frozen=True)
class LoadedTensor:
    """What happened to one weight: `status` is `loaded`, `missing`, `unexpected` or `mismatched`."""

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

            return _sound(load_file(path), path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StudyError(
            f"{path} is damaged, or holds more than tensors, which may be code and is not run; "
            "save model.state_dict() and nothing else, best as .safetensors"
        ) from error
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(f"{path} could not be read as weights ({type(error).__name__}: {error})") from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]  # the wrapping that many training frameworks add
    named = isinstance(found, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())
    if not named or not found:
        raise StudyError(f"{path} holds no dictionary of tensors; save model.state_dict() and nothing else")
    return _sound(found, path)


def _sound(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights, if a network of real, finite numbers can have them."""
    for name, tensor in weights.items():
        counts = not tensor.is_floating_point() and not tensor.is_quantized and tensor.ndim < 2  # as of batches seen
        if tensor.is_complex() or not (tensor.is_floating_point() or counts):
            raise StudyError(f"{path}: {name} is {tensor.dtype}; weights must be floating, so save them unquantized")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise StudyError(f"{path}: {name} holds NaN or infinity in {bad} of {tensor.numel()} places: it diverged")
    return weights


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, allow_partial: bool = False) -> list[LoadedTensor]:
    """Copy weights into the model by name and say of every tensor whether it was loaded.

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
    learned = {name: tensor.numel() for name, tensor in own.items() if tensor.is_floating_point()}
    share = sum(learned.get(name, 0) for name in fitting) / sum(learned.values())
    if share < LEAST_SHARE or (len(fitting) < len(rows) and not allow_partial):
        partly = share >= LEAST_SHARE
        raise StudyError(
            f"the weights do not fit the model ({len(fitting)} of {len(own)} tensors, {share:.0%} of its numbers)"
            f"{_prefix_hint(own, weights)}{'; load what fits with allow_partial=True' if partly else ''}\n"
            f"{loading_table(rows)}"
        )
    model.load_state_dict({name: weights[name] for name in fitting}, strict=False)
    return rows


def _prefix_hint(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """That all names begin alike, as wrapped networks save them, and would fit without that."""
    start = next(iter(weights), "")
    for end in (at + 1 for at, letter in enumerate(start) if letter == "."):
        prefix = start[:end]
        if all(name.startswith(prefix) for name in weights) and any(name[end:] in own for name in weights):
            plain = f"{{name.removeprefix({prefix!r}): value for name, value in weights.items()}}"
            return f"; all names begin with {prefix!r}: give {plain}"
    return ""


def loading_table(rows: Sequence[LoadedTensor]) -> str:
    """The outcome of `load_weights` as text: one line per tensor that was not loaded, and a count of each outcome."""
    lines = [f"{'tensor':40} {'status':12} {'model':20} file"]
    for row in rows:
        if row.status != "loaded":
            lines.append(f"{row.name:40} {row.status:12} {row.model_shape or '-'!s:20} {row.file_shape or '-'}")
    outcomes = [row.status for row in rows]
    lines.append(", ".join(f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes)))
    return "\n".join(lines)
