"""Safetensors with metadata, written whole or not at all, and what differs between two checkpoints."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lib.common import paths
from lib.common.errors import StudyError

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


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with writing(path.parent):
        paths.write_atomic(path, save(plain, dict(metadata)))


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
            return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise StudyError(
            f"{path} is missing or damaged ({error}); delete the run's folder {_run_folder(path)} to train it again"
        ) from error


def _run_folder(path: Path) -> Path:
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def changed(tensors: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors that are not, bit for bit, what they were at the start."""
    return {name: value for name, value in tensors.items() if not torch.equal(value, start[name])}
