"""A start from a file of weights that somebody else trained: which tensor goes where, said tensor by tensor.

The names of the file are those of the network, up to one common prefix on either side. A first layer that was trained
on red, green and blue fits other channels by a rule: on one channel its three kernels are summed, which is what the
network would make of a gray picture in color; on more (or two) they are repeated in turn and multiplied by 3 over the
number of channels, so that equal channels give the same sum.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lib.common import paths
from lib.common.errors import StudyError, check_keys, nearest
from lib.networks.foreign import origin
from lib.networks.stages import Staged
from lib.networks.weight_files import LoadedTensor, read_weights

_COLORS = 3
_COUNTS = "num_batches_tracked"  # of a normalization: no weight, and absent from many files


def check_weights(given: Any) -> dict[str, str]:
    """The field `weights` of a spec: name and sha256 of a file in the folder `weights` of the study's home.

    Args:
        given: the name of a file that is there, or name and sha256, of one that need not be there now.

    Raises:
        StudyError: it is neither, or there is no such file.
    """
    if isinstance(given, str):
        folder = paths.weights_dir()
        if not (folder / given).is_file():
            there = [each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()]
            raise StudyError(f"{nearest('file of weights', given, there)}. They lie in {folder}: copy yours there")
        given = {"file": given, "sha256": _digest(folder / given)}
    check_keys("key of weights", given, ("file", "sha256"))
    if not all(isinstance(given.get(key), str) for key in ("file", "sha256")):
        raise StudyError(f"weights need file and sha256, or the name of a file alone, got {dict(given)}")
    if Path(given["file"]).is_absolute() or ".." in Path(given["file"]).parts:
        raise StudyError(f"weights lie in {paths.weights_dir()} and are named from there, got {given['file']!r}")
    return dict(given)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_file(weights: Mapping[str, str]) -> Path:
    """The file that a spec's `weights` names.

    Raises:
        StudyError: it is not there, or is another than when the spec was made.
    """
    file = paths.weights_dir() / weights["file"]
    if not file.is_file():
        raise StudyError(f"no weights at {file}; put the file with sha256 {weights['sha256']} there")
    if _digest(file) != weights["sha256"]:
        raise StudyError(f"{file} is not the file that the spec was made with (sha256 {weights['sha256']})")
    return file


def fitted_file(model: Staged, weights: Mapping[str, str]) -> tuple[dict[str, Tensor], list[LoadedTensor]]:
    """What `fitted` makes of the file that a spec's `weights` names."""
    return fitted(model, read_weights(weights_file(weights)))


def fitted(model: Staged, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[LoadedTensor]]:
    """All tensors of the model, those that the file has from there, and what happened to each.

    Returns:
        Name to tensor; a row for every tensor of the model and, as `unexpected`, for those of the file alone. A first
        layer made to fit is `summed` or `repeated`.

    Raises:
        StudyError: no parameter of the model is in the file.
    """
    own, parameters = model.state_dict(), dict(model.named_parameters())
    cut, put = _prefixes(own, state)
    renamed = {_renamed(name, cut, put): (name, each) for name, each in state.items()}
    first, whole, rows = _first_layer(model), dict(own), list[LoadedTensor]()
    for name, here in own.items():
        found = renamed.get(name, (name, None))[1]
        if found is None:
            rows.append(LoadedTensor(name, "missing", tuple(here.shape), None))
            continue
        status = "loaded" if found.shape == here.shape else "mismatched"
        if status == "mismatched" and name == first and _colors(here, found):
            status, adapted = recolored(found, here.shape[1])
            whole[name] = adapted.to(here)
        elif status == "loaded":
            whole[name] = found.to(here)
        rows.append(LoadedTensor(name, status, tuple(here.shape), tuple(found.shape)))
    if not any(row.name in parameters and taken(row) for row in rows):
        raise StudyError(
            f"none of the {len(parameters)} parameters of the network is in the file: it begins with "
            f"{next(iter(parameters))!r} {tuple(next(iter(parameters.values())).shape)}, the file with "
            f"{next(iter(state))!r} {tuple(next(iter(state.values())).shape)}"
        )
    rows += [
        LoadedTensor(name, "unexpected", None, tuple(each.shape))
        for key, (name, each) in renamed.items()
        if key not in own
    ]
    return whole, rows


def taken(row: LoadedTensor) -> bool:
    """Whether a tensor came from the file."""
    return row.status in ("loaded", "summed", "repeated")


def recolored(weight: Tensor, channels: int) -> tuple[str, Tensor]:
    """A kernel (outputs, 3, *size) for red, green and blue as one for so many channels, and the word for the rule."""
    if channels == 1:
        return "summed", weight.sum(1, keepdim=True)
    return "repeated", weight[:, [place % _COLORS for place in range(channels)]] * (_COLORS / channels)


def _colors(here: Tensor, there: Tensor) -> bool:
    """Whether a kernel differs from the file's by the number of colors alone."""
    alike = here.ndim == there.ndim and here.shape[0] == there.shape[0] and here.shape[2:] == there.shape[2:]
    return alike and there.shape[1] == _COLORS


def _first_layer(model: nn.Module) -> str | None:
    kinds = (nn.Conv2d, nn.Conv3d)
    return next((f"{name}.weight" for name, each in model.named_modules() if isinstance(each, kinds)), None)


def _prefixes(own: Iterable[str], state: Mapping[str, Tensor]) -> tuple[str, str]:
    """What to take from the front of the file's names, and what to put there: that under which most names fit."""
    names = set(own)
    fronts = [["", *dict.fromkeys(front for name in each for front in _fronts(name))] for each in (state, own)]
    counts = Counter(
        {
            (cut, put): sum(_renamed(name, cut, put) in names for name in state)
            for cut in fronts[0]
            for put in fronts[1]
            if not (cut and put)
        }
    )
    return counts.most_common(1)[0][0]  # the plain names, where others fit no better


def _fronts(name: str) -> list[str]:
    parts = name.split(".")[:-1]
    return [".".join(parts[:length]) + "." for length in (1, 2) if length < len(parts)]


def _renamed(name: str, cut: str, put: str) -> str:
    return put + name.removeprefix(cut) if name.startswith(cut) else name


def check_frozen(model: Staged, rows: Iterable[LoadedTensor], strategy: str, file: str) -> None:
    """That no layer stays frozen which was neither loaded nor will be trained.

    Raises:
        StudyError: one does; names it.
    """
    moving = {name for name, each in model.named_parameters() if each.requires_grad}
    for key, module in model.named_modules():
        if getattr(module, "tracks", False):
            moving |= {f"{key}.{name}" for name in module.state_dict()}
    lost = [row.name for row in rows if row.model_shape is not None and not taken(row)]
    frozen = [name for name in lost if name not in moving and not name.endswith(_COUNTS)]
    if frozen:
        raise StudyError(
            f"strategy {strategy!r} freezes {frozen[0]}{f' and {len(frozen) - 1} more' if frozen[1:] else ''}, which "
            f"{file} does not have: neither trained nor to be trained. Choose a strategy that moves what is not there"
        )


def foreign_report(
    network: Callable[[], Staged], stage_map: Mapping[str, Any] | None, weights: Mapping[str, str] | None
) -> dict[str, Any]:
    """What the provenance of a run says of a network and of weights from elsewhere; nothing for the study's own.

    `network`: where its code comes from, and the sha256 of its stage map. `weights`: file, sha256, a count of each
    outcome of `fitted`, and the tensors of each.

    Args:
        network: makes the network as it was before it was loaded. stage_map, weights: fields of the spec.
    """
    found: dict[str, Any] = {}
    if stage_map is not None:
        text = json.dumps(stage_map, sort_keys=True).encode()
        found["network"] = {**origin(stage_map["network"]), "map": hashlib.sha256(text).hexdigest()}
    if weights is not None:
        tensors: dict[str, list[str]] = {}
        for row in fitted_file(network(), weights)[1]:
            tensors.setdefault(row.status, []).append(row.name)
        counts = {status: len(names) for status, names in tensors.items()}
        found["weights"] = {**weights, "counts": counts, "tensors": tensors}
    return found
