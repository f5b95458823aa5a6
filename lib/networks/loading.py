"""Named tensors into a network: which name there is which here, loaded, and what loaded told tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.networks.checkpoint_files import common_prefix

LEAST_SHARE = 0.5  # of a model's numbers: with fewer loaded it is nearly as it was drawn


@dataclass(frozen=True)
class LoadedTensor:
    """What happened to one weight: `status` is `loaded`, `missing`, `unexpected` or `mismatched`.

    Args:
        file_name: what the file calls it, where that was asked for.
    """

    name: str
    status: str
    model_shape: tuple[int, ...] | None
    file_shape: tuple[int, ...] | None
    file_name: str | None = None


def names_of_tensors(model: nn.Module) -> dict[str, str]:
    """Every name in a network's state to the first name of that tensor: modules that two others hold have several."""
    first: dict[tuple[int, torch.Size], str] = {}
    state = model.state_dict()
    return {
        name: first.setdefault((value.data_ptr(), value.shape), name) if value.numel() else name
        for name, value in state.items()
    }


def names_in_file(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in a network to name in a file whose names may begin otherwise, for every tensor of the file.

    Of all beginnings that names of the two have, that pair is taken off and put on under which most numbers fit by name
    and shape. A tensor that the network holds under several names has the first of them.
    """
    own = {name: value.shape for name, value in model.state_dict().items()}
    first, shared = names_of_tensors(model), common_prefix(list(own))
    offs, ons = (["", *sorted(_beginnings(names), key=len)] for names in (weights, own))
    pairs = [(off, on) for off in offs for on in ons if not off or shared.startswith(on)]

    def fitting(pair: tuple[str, str]) -> int:
        off, on = pair
        inside = ((on + name[len(off) :], value) for name, value in weights.items() if name.startswith(off))
        return sum(value.numel() for name, value in inside if own.get(name) == value.shape)

    off, on = max(pairs, key=fitting)  # the plain names, where others fit no better
    found: dict[str, str] = {}
    for name in sorted(weights, key=lambda name: not name.startswith(off)):  # those beside yield to those within
        here = on + name[len(off) :] if name.startswith(off) else name
        found.setdefault(first.get(here, here), name)
    return found


def _beginnings(names: Iterable[str]) -> set[str]:
    """What names begin with, up to a dot and but for the module that holds the tensor."""
    parts = [name.split(".")[:-1] for name in names]
    return {".".join(each[:length]) + "." for each in parts for length in range(1, len(each))}


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
