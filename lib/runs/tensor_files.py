"""Safetensors with metadata, written whole or not at all, and what differs between two checkpoints."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.outside import parse_json
from lib.runs.seal import file_entry

HEADER = "palimpsest"  # the one entry of a file's metadata, as JSON: safetensors writes several in random order
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST}


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk, or a folder that may not be written, into a clear error; what was there stays there."""
    try:
        yield
    except OSError as error:
        if error.errno in _UNWRITABLE:
            raise StudyError(
                f"cannot write in {folder}: {os.strerror(error.errno)}. What was written before is intact: make room "
                "(or set STUDY_HOME to another disk), and the same command goes on from the last saved step"
            ) from error
        raise


def remove_orphans(folder: Path) -> None:
    """Delete the unfinished temporary files that a killed process left in a run's folder; only while it is locked."""
    for pattern in (".resume.*", ".best.*", ".metrics.*", "checkpoints/.*"):
        for file in folder.glob(pattern):
            file.unlink()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[Any]:
    """Write tensors as safetensors, whole or not at all, with a checksum of all that they hold.

    Returns:
        What a seal says of the file (see `lib.runs.seal`).
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {**metadata, "crc32": _checksum(plain, metadata)}
    content = save(plain, {HEADER: json.dumps(header, sort_keys=True)})
    with writing(path.parent):
        paths.write_atomic(path, content)
    return file_entry(content)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        StudyError: the file is missing or damaged.
    """
    return read_with_metadata(path)[0]


def read_with_metadata(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata.

    Raises:
        StudyError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            metadata = parse_json((stored.metadata() or {}).get(HEADER, "{}"), "its metadata")
    except (OSError, SafetensorError, ValueError, MemoryError) as error:
        raise StudyError(f"{path} is missing or damaged ({error}); {_remedy(path)}") from error
    texts = isinstance(metadata, dict) and all(isinstance(each, str) for each in metadata.values())
    if not texts or metadata.pop("crc32", None) != _checksum(tensors, metadata):
        raise StudyError(f"{path} is damaged: it does not hold what was written; {_remedy(path)}")
    return tensors, metadata


def read_step(path: Path, step: int) -> dict[str, Tensor]:
    """The tensors of a checkpoint in a run's folder, or of its best state.

    Raises:
        StudyError: the file is missing, damaged, or that of another step or run.
    """
    tensors, about = read_with_metadata(path)
    own = {"step": str(step), "run": _folder(path).name}
    odd = {key: about[key] for key in own if about.get(key, own[key]) != own[key]}  # older files name no run
    if odd:
        raise StudyError(f"{path} is that of another step or run ({odd}); put the right file back, or {_remedy(path)}")
    return tensors


def read_kept(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """What a file keeps under a key, and its metadata; None where it is to be made: no file, a damaged or another one.

    For what can be made again at any time (see `key` in the metadata of `write_tensors`).
    """
    if not path.is_file():
        return None
    try:
        tensors, metadata = read_with_metadata(path)
    except StudyError:
        return None
    return (tensors, metadata) if metadata.get("key") == key else None


def _remedy(path: Path) -> str:
    return f"delete the run's folder {_folder(path)} to train it again"


def _folder(path: Path) -> Path:
    """The folder of the run that a file lies in."""
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """CRC-32 over names, types, shapes and bytes of the tensors, and over the metadata."""
    found = zlib.crc32(repr(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), found)
        found = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def changed(tensors: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors that are not, bit for bit, what they were at the start."""
    return {name: value for name, value in tensors.items() if not torch.equal(value, start[name])}
