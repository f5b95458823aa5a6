"""First layers that were trained elsewhere, where a user has the weights: a positive control of the battery."""

from __future__ import annotations

import tomllib

import pandas as pd
from torch import Tensor

from analysis.filters.randomness.battery import battery
from lib.common import paths
from lib.common.errors import StudyError
from lib.networks.weight_files import read_weights

KINDS = (".safetensors", ".pt", ".pth")


def first_layers() -> dict[str, Tensor]:
    """The first convolutions of the networks of `data_manifests/weights.toml` that lie in the weights folder, by title.

    Raises:
        StudyError: a file is damaged, holds more than tensors, or lacks the layer.
    """
    found = {}
    for name, entry in _networks().items():
        for file in (paths.weights_dir() / f"{name}{kind}" for kind in KINDS):
            if file.is_file():
                weights = read_weights(file)
                if entry["layer"] not in weights:
                    raise StudyError(f"{file} must hold {entry['layer']!r}, the first layer of {entry['title']}")
                found[entry["title"]] = weights[entry["layer"]].float()
                break
    return found


def wanted_weights() -> list[str]:
    """What may lie in the weights folder: a line per network."""
    return [f"{paths.weights_dir() / name}{KINDS[0]}: {entry['origin']}" for name, entry in _networks().items()]


def _networks() -> dict[str, dict[str, str]]:
    return tomllib.loads((paths.REPOSITORY / "data_manifests" / "weights.toml").read_text())


def pretrained_battery(*, draws: int = 4999) -> pd.DataFrame:
    """The battery on the first layers that are at hand; `layer` is the network's title. Empty where there is none."""
    tensors = {f"{title}.weight": weight for title, weight in first_layers().items()}
    return battery(tensors, draws=draws) if tensors else pd.DataFrame()
