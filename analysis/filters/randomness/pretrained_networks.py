"""First layers that were trained elsewhere, where a user has the weights: a positive control of the battery."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from analysis.filters.randomness.battery import battery
from lib.common import paths
from lib.common.errors import StudyError
from lib.networks.checkpoint_files import read_checkpoint

KINDS = (".safetensors", ".pt", ".pth")


def first_layers() -> dict[str, Tensor]:
    """The first convolutions of the networks of `data_manifests/weights.toml` that lie in the weights folder, by title.

    A network's title is given to a published file alone, one whose sha256 begins as its published name says. Any other
    file is told by its own name, for nothing is known of it.

    Raises:
        StudyError: a file is damaged, holds more than tensors, or lacks the layer.
    """
    found = {}
    for name, entry in _networks().items():
        for file in (paths.weights_dir() / each for each in (*entry["published"], *(name + kind for kind in KINDS))):
            if file.is_file():
                unknown = f"weights of {file.name}, not the published ones"
                found.setdefault(entry["title"] if _is_published(file, entry) else unknown, _layer(file, entry))
    return found


def _layer(file: Path, entry: Mapping[str, Any]) -> Tensor:
    read = read_checkpoint(file)
    for name, value in read.weights.items():
        if f".{read.prefix}{name}".endswith(f".{entry['layer']}"):  # behind any prefix
            return value.float()
    raise StudyError(f"{file} must hold {entry['layer']!r}, the first layer of {entry['title']}")


def _is_published(file: Path, entry: Mapping[str, Any]) -> bool:
    """Whether the content is that of a published file: the sha256 of `resnet18-f37072fd.pth` begins with f37072fd."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return any(digest.startswith(Path(each).stem.rpartition("-")[2]) for each in entry["published"])


def wanted_weights() -> list[str]:
    """What may lie in the weights folder: a line per network."""
    return [f"{paths.weights_dir() / entry['published'][0]}: {entry['origin']}" for entry in _networks().values()]


def _networks() -> dict[str, dict[str, Any]]:
    return tomllib.loads((paths.REPOSITORY / "data_manifests" / "weights.toml").read_text())


def pretrained_battery(*, draws: int = 4999) -> pd.DataFrame:
    """The battery on the first layers that are at hand; `layer` is the network's title. Empty where there is none."""
    tensors = {f"{title}.weight": weight for title, weight in first_layers().items()}
    return battery(tensors, draws=draws) if tensors else pd.DataFrame()
