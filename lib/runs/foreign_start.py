"""A start from a file of weights that somebody else trained: which tensor goes where, said tensor by tensor.

The names of the file are those of the network, up to one common prefix on either side, or a table tells them (see
`lib.runs.name_tables`). Layers that take the image fit other channels by a rule, if they were trained on red, green and
blue or on gray: on one channel the kernels are summed, which is what the network would make of a gray picture in color;
on any other number they are repeated in turn and multiplied by the file's number of channels over the network's. Equal
channels then give the same sum as before where the one number is a multiple of the other, and nearly so elsewhere (the
rule of timm's `adapt_input_conv`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lib.common import paths
from lib.common.errors import StudyError, check_keys, nearest
from lib.networks.checkpoint_files import Checkpoint, read_checkpoint
from lib.networks.foreign import origin
from lib.networks.loading import LoadedTensor, names_in_file, names_of_tensors
from lib.networks.stages import Staged
from lib.runs.name_tables import check_names, read_names, told_names

_IMAGES = (1, 3)  # channels of gray and of color
_COUNTS = "num_batches_tracked"  # of a normalization: no weight, and absent from many files


def check_weights(given: Any) -> dict[str, Any]:
    """The field `weights` of a spec: name and sha256 of a file in the folder `weights` of the study's home.

    Args:
        given: the name of a file that is there, or a table: `file`; `sha256`, of one that need not be there now;
            `names`, where a table tells them: what it holds, or its own name in that folder.

    Raises:
        StudyError: it is neither, or there is no such file or table.
    """
    folder, given = paths.weights_dir(), {"file": given} if isinstance(given, str) else given
    check_keys("key of weights", given, ("file", "sha256", "names"))
    file, names = given.get("file"), given.get("names")
    if not isinstance(file, str) or not isinstance(given.get("sha256", ""), str):
        raise StudyError(f"weights need the name of a file, got {dict(given)}")
    for name in (file, names):
        if isinstance(name, str) and (Path(name).is_absolute() or ".." in Path(name).parts):
            raise StudyError(f"weights lie in {folder} and are named from there, got {name!r}")
    if "sha256" not in given:
        if not (folder / file).is_file():
            there = [each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()]
            raise StudyError(f"{nearest('file of weights', file, there)}. They lie in {folder}: copy yours there")
        given = {**given, "sha256": _digest(folder / file)}
    if names is None:
        return {"file": file, "sha256": given["sha256"]}
    told = read_names(folder / names) if isinstance(names, str) else check_names(names)
    return {"file": file, "sha256": given["sha256"], "names": told}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_file(weights: Mapping[str, Any]) -> Path:
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


def fitted_file(model: Staged, weights: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[LoadedTensor]]:
    """What `fitted` makes of the file that a spec's `weights` names."""
    return fitted(model, read_checkpoint(weights_file(weights)), weights.get("names"))


def fitted(
    model: Staged, found: Checkpoint, names: Mapping[str, str] | None = None
) -> tuple[dict[str, Tensor], list[LoadedTensor]]:
    """All tensors of the model, those that the file has from there, and what happened to each.

    Args:
        names: what a table of names holds; without one, names differ by their beginnings at most.

    Returns:
        Name to tensor; a row for every tensor of the model and, as `unexpected`, for those of the file alone. A first
        layer made to fit is `summed` or `repeated`.

    Raises:
        StudyError: no parameter of the model is in the file, or the table does not fit the two.
    """
    own, parameters = model.state_dict(), dict(model.named_parameters())
    state = {found.prefix + name: value for name, value in found.weights.items()}
    if names is None:
        told = {name: found.prefix + theirs for name, theirs in names_in_file(model.core, found.weights).items()}
    else:
        told = told_names(names_of_tensors(model.core), state, names)
    first, whole, rows = _first_kernels(model), dict(own), list[LoadedTensor]()
    for name, here in own.items():
        theirs = told.get(name)
        there = None if theirs is None else state[theirs]
        status = "missing" if there is None else "loaded" if there.shape == here.shape else "mismatched"
        if there is not None and status == "mismatched" and name in first and _same_but_channels(here, there):
            status, adapted = recolored(there, here.shape[1])
            whole[name] = adapted.to(here)
        elif there is not None and status == "loaded":
            whole[name] = there.to(here)
        elif there is not None and names is not None:
            raise StudyError(
                f"the table of names puts {theirs!r} {tuple(there.shape)} into {name!r} {tuple(here.shape)}, of "
                "another shape; take it out of the table, or name the tensors beside it one by one"
            )
        shapes = tuple(here.shape), None if there is None else tuple(there.shape)
        rows.append(LoadedTensor(name, status, *shapes, theirs))
    if not any(row.name in parameters and taken(row) for row in rows):
        raise StudyError(
            f"none of the {len(parameters)} parameters of the network is in the file: it begins with "
            f"{next(iter(parameters))!r} {tuple(next(iter(parameters.values())).shape)}, the file with "
            f"{next(iter(state))!r} {tuple(next(iter(state.values())).shape)}; where all names differ, a table tells "
            "them (names = TABLE.csv beside the weights)"
        )
    used = {row.file_name for row in rows}
    rows += [
        LoadedTensor(name, "unexpected", None, tuple(each.shape), name)
        for name, each in state.items()
        if name not in used
    ]
    return whole, rows


def taken(row: LoadedTensor) -> bool:
    """Whether a tensor came from the file."""
    return row.status in ("loaded", "summed", "repeated")


def recolored(weight: Tensor, channels: int) -> tuple[str, Tensor]:
    """A kernel (outputs, inputs, *size) as one for so many channels, and the word for the rule."""
    given = weight.shape[1]
    if channels == 1:
        return "summed", weight.sum(1, keepdim=True)
    return "repeated", weight[:, [place % given for place in range(channels)]] * (given / channels)


def _same_but_channels(here: Tensor, there: Tensor) -> bool:
    """Whether a kernel differs from the file's, of gray or of colors, by the number of channels alone."""
    alike = here.ndim == there.ndim and here.shape[0] == there.shape[0] and here.shape[2:] == there.shape[2:]
    return alike and there.shape[1] in _IMAGES


def _first_kernels(model: Staged) -> set[str]:
    """Names of the kernels that take the image: in the first stage, those with as many inputs as its first one."""
    kinds = (nn.Conv2d, nn.Conv3d)
    layers = {
        name: each
        for name, each in model.named_modules()
        if isinstance(each, kinds) and each.groups == 1 and model.stage_of(name) == model.stages[0]
    }
    least = {next(iter(layers.values())).in_channels} if layers else set()
    return {f"{name}.weight" for name, each in layers.items() if each.in_channels in least}


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
    network: Callable[[], Staged], stage_map: Mapping[str, Any] | None, weights: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the provenance of a run says of a network and of weights from elsewhere; nothing for the study's own.

    `network`: where its code comes from, and the sha256 of its stage map. `weights`: file, sha256, a count of each
    outcome of `fitted`, the tensors of each, `renamed` (name in the network to name in the file, where they differ),
    and what the reader said of the file.

    Args:
        network: makes the network as it was before it was loaded. stage_map, weights: fields of the spec.
    """
    found: dict[str, Any] = {}
    if stage_map is not None:
        text = json.dumps(stage_map, sort_keys=True).encode()
        found["network"] = {**origin(stage_map["network"]), "map": hashlib.sha256(text).hexdigest()}
    if weights is not None:
        tensors: dict[str, list[str]] = {}
        read = read_checkpoint(weights_file(weights))
        rows = fitted(network(), read, weights.get("names"))[1]
        for row in rows:
            tensors.setdefault(row.status, []).append(row.name)
        counts = {status: len(names) for status, names in tensors.items()}
        renamed = {row.name: row.file_name for row in rows if taken(row) and row.file_name != row.name}
        file = {key: weights[key] for key in ("file", "sha256")}
        found["weights"] = {**file, "counts": counts, "tensors": tensors, "renamed": renamed, "said": list(read.said)}
    return found
