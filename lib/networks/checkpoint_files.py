"""Checkpoints as other programs write them: one file, or its shards, to named tensors and the step they are of.

No code in a file is run. Numbers, paths, namespaces and collections beside the tensors are read; any other class is
refused with the line that saves the weights anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.common.errors import StudyError, cut
from lib.common.outside import MB, inside, is_file, read_json
from lib.common.tensor_content import ANEW, tensor_content

ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
INDEX = ".index.json"
# Where networks lie in a file, the first preferred where two are of one size.
KEYS = (
    "state_dict",
    "model_state_dict",
    "network_weights",
    "model",
    "net",
    "network",
    "module",
    "ema",
    "state_dict_ema",
)
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # at any place of a name
_STEPS = ("global_step", "step", "steps", "iteration", "iter", "num_updates", "trainer_step")
_EPOCHS = ("epoch", "current_epoch", "epochs", "last_epoch")
_PASSED = ("optim", "sched", "scaler", "rng", "lr_")  # what is no network, by how its key begins
_DEEPEST = 4  # dictionaries in dictionaries
SHARED = 4  # tensors of a file may be views of one another, and together this many times as large as the file


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one network at one moment.

    Args:
        weights: name -> tensor, floating ones in float32 or float64; names without wrappers and without `prefix`.
        step: optimizer steps done, where the file says it.
        epoch: where the file says it.
        prefix: what all names began with, such as `model.`.
        said: what a reader should know of how it was found: the key, what else there was, what was left out.
    """

    weights: dict[str, Tensor]
    step: int | None
    epoch: int | None
    prefix: str
    said: tuple[str, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """A file, or the index of a sharded one (`*.index.json`), as a checkpoint.

    Raises:
        StudyError: no such file; it is damaged, holds code, no network, quantized or complex weights, or NaN.
    """
    if not is_file(path):
        raise StudyError(f"no checkpoint at {path}; give a file that ends in {', '.join(ENDINGS)} or {INDEX}")
    if path.name.endswith(INDEX):
        content: Any = _shards(path)
    else:
        content = tensor_content(path)
    if isinstance(content, torch.nn.Module):
        raise StudyError(f"{path} holds a whole network, not its weights; where it was made, save it anew: {ANEW}")
    found, said = _network(content, path)
    _fits(found, path)
    found, twice = _once(found)
    if twice:
        said = (*said, f"{twice} tensors stand under a second name, as modules that two others hold do; read once")
    weights = {_unwrapped(name): _plain(name, value, path) for name, value in found.items()}
    if len(weights) < len(found):
        raise StudyError(f"{path}: names fall together without {', '.join(WRAPPERS)}; save the unwrapped network")
    prefix = common_prefix(list(weights))
    weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    about = content if isinstance(content, Mapping) else {}
    return Checkpoint(weights, _count(about, _STEPS), _count(about, _EPOCHS), prefix, said)


def _fits(found: Mapping[str, Tensor], path: Path) -> None:
    """That tensors are of numbers that the file holds: a header can claim any size, and a step of 0 makes it true."""
    for name, value in found.items():
        if value.device.type != "cpu":
            raise StudyError(f"{path}: {name} is on {value.device} and holds no numbers; save it anew: {ANEW}")
    claimed = sum(value.numel() * value.element_size() for value in found.values())
    memory = [value.untyped_storage() for value in found.values()]
    held = sum({each.data_ptr(): each.nbytes() for each in memory}.values())
    if claimed > SHARED * held + MB:
        raise StudyError(f"{path}: its tensors claim {claimed / MB:,.0f} MB, and it holds {held / MB:,.1f} MB of them")


def common_prefix(names: Sequence[str]) -> str:
    """What all dotted names begin with, up to a dot: `model.` of `model.a.weight` and `model.b.weight`."""
    parts = [name.split(".")[:-1] for name in names]
    shared = 0
    while parts and all(len(each) > shared + 1 and each[shared] == parts[0][shared] for each in parts):
        shared += 1  # the module that holds a tensor keeps its own name
    return "".join(f"{part}." for part in parts[0][:shared]) if parts else ""


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    while name.startswith("module.") and name.count(".") > 1:
        name = name.removeprefix("module.")
    return name


def _shards(path: Path) -> dict[str, Tensor]:
    """The tensors that an index names, from the files beside it."""
    try:
        names = read_json(path)["weight_map"]
        files = dict.fromkeys(names.values())
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path} is no index of shards (no table weight_map); give the checkpoint's own file"
        ) from error
    found: dict[str, Tensor] = {}
    for file in files:
        if not isinstance(file, str) or Path(file).name != file:
            raise StudyError(
                f"{path} names {file!r}, which does not lie beside it; put index and shards into one folder"
            )
        shard = inside(path.parent, file, f"{path}: a shard")
        if not is_file(shard):
            raise StudyError(f"{path} names the shard {file}, which is missing; put it beside the index")
        part = tensor_content(shard)
        if not isinstance(part, Mapping):
            raise StudyError(f"{shard} holds a {type(part).__name__} and no named tensors; copy index and shards anew")
        found |= part
    missing = [name for name in names if name not in found]
    if missing:
        raise StudyError(
            f"{path} names {missing[0]!r}, which is not in {names[missing[0]]}; copy index and shards again"
        )
    return found


def _network(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The largest dictionary of named tensors inside, and what is to be said of it."""
    found = dict(_candidates(content, (), _DEEPEST, set()))
    if not found:
        kind = (
            f"a {type(content).__name__}"
            if not isinstance(content, Mapping)
            else f"the keys {cut(', '.join(map(str, content)))}"
            if content
            else "an empty dictionary"
        )
        raise StudyError(f"{path} holds {kind} and no dictionary of named tensors; save it anew: {ANEW}")

    def rank(key: tuple[str, ...]) -> tuple[int, int, int]:
        known = KEYS.index(key[-1]) if key and key[-1] in KEYS else len(KEYS)
        return -sum(each.numel() for each in found[key].values()), known, len(key)

    order = sorted(found, key=rank)
    chosen, others = order[0], [".".join(key) or "the top" for key in order[1:]]
    said = [f"weights under {'.'.join(chosen)}"] if chosen else []
    if others:
        said.append(f"{len(others)} smaller or later sets of tensors not read: {', '.join(others[:6])}")
    holder: Any = content
    for part in chosen:
        holder = holder[part]
    dropped = [str(name) for name in holder if name not in found[chosen]] if chosen else []
    if dropped:
        said.append(f"{len(dropped)} entries beside the weights are no tensors: {', '.join(dropped[:6])}")
    return found[chosen], tuple(said)


def _once(found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Tensors that share their memory under their first name only, and how many others there were."""
    kept: dict[Any, str] = {}
    for name, value in found.items():
        where = (value.untyped_storage().data_ptr(), value.storage_offset(), tuple(value.shape), value.stride())
        kept.setdefault(where if value.numel() else name, name)
    return {name: found[name] for name in kept.values()}, len(found) - len(kept)


def _candidates(
    content: Any, key: tuple[str, ...], depth: int, seen: set[tuple[Any, ...]]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dictionary inside that holds named tensors, with keys that lead to it; each once under each last key."""
    here = (id(content), *key[-1:])
    if not isinstance(content, Mapping) or here in seen or any(not isinstance(name, str) for name in content):
        return
    seen.add(here)
    held = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    tensors = {name: value for name, value in held.items() if value.layout is torch.strided}
    if any(value.ndim for value in tensors.values()):
        yield key, tensors
    for name, value in content.items():
        if depth and not name.lower().startswith(_PASSED):
            yield from _candidates(value, (*key, name), depth - 1, seen)


def _plain(name: str, value: Tensor, path: Path) -> Tensor:
    """A tensor as a network of real numbers can have it, floating ones in float32 at least."""
    small = value.dtype in (torch.int8, torch.uint8) and value.ndim > 1
    if value.is_complex() or value.is_quantized or small:
        raise StudyError(f"{path}: {name} is {value.dtype}; weights must be floating, so save the network unquantized")
    if not value.is_floating_point():
        return value.detach().clone()
    # a copy of its own: shards and views would keep whole files in memory
    value = value.detach().to(torch.promote_types(value.dtype, torch.float32), copy=True).contiguous()
    if not value.isfinite().all():
        bad = int((~value.isfinite()).sum())
        raise StudyError(f"{path}: {name} holds NaN or infinity in {bad} of {value.numel()} places: it diverged")
    return value


def _count(about: Mapping[Any, Any], keys: Sequence[str]) -> int | None:
    """The first of these counters that the top of a file holds."""
    for key in keys:
        value = about.get(key)
        if isinstance(value, Tensor) and value.device.type != "cpu":
            continue
        if isinstance(value, Tensor | np.generic | np.ndarray):
            value = value.item() if value.size == 1 or (isinstance(value, Tensor) and value.numel() == 1) else None
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if 0 <= value < 2**63 and value == int(value):
            return int(value)
    return None
