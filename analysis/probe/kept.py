"""Parts of a probe that are kept on disk by their content: what is there is read, what is new or damaged is computed.

They lie in the folder `cache/probe` of the study's home, which can be deleted at any time.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor, nn

from lib.common import paths
from lib.networks.stages import Staged
from lib.runs.tensor_files import read_kept, write_tensors

_CODE = Path(__file__).parents[1]
_SOURCES = ("filters", "statistics")  # what decides the numbers of tables about filters


def kept_folder() -> Path:
    """Where parts of probes are kept."""
    return paths.home() / "cache" / "probe"


def digest(*parts: Any) -> str:
    """A sha256 over plain values, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A sha256 over names, types, shapes and values, in hexadecimal digits."""
    found = hashlib.sha256()
    for name, value in tensors.items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def digest_of_network(model: nn.Module) -> str:
    """A sha256 over all that decides what a network computes: its modules, the files of their code, and its tensors."""
    core = model.core if isinstance(model, Staged) else model
    files = {inspect.getfile(type(module)) for module in (core, *model.modules())}
    code = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in sorted(files)]
    return digest(repr(model), code, torch.__version__, digest_of_tensors(model.state_dict()))


@functools.cache
def _code() -> str:
    """The code behind tables about filters, and the versions of what it stands on."""
    files = sorted(file for folder in _SOURCES for file in (_CODE / folder).rglob("*.py"))
    return digest([file.read_text() for file in files], np.__version__, scipy.__version__)


def kept_tables(kind: str, about: str, make: Callable[[], list[pd.DataFrame]]) -> tuple[list[pd.DataFrame], bool]:
    """Tables about filters, and whether they were kept; computed, and kept, where they were not.

    Args:
        kind: what they are, for the file's name.
        about: digest of all that they depend on but the code.
    """
    key = digest(kind, about, _code())
    file = kept_folder() / f"{kind}-{key[:16]}.safetensors"
    stored = read_kept(file, key)
    if stored is not None:
        found = json.loads(stored[1]["tables"])
        return [pd.DataFrame(rows, columns=columns) for columns, rows in found], True
    made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = [(list(table.columns), table.astype(object).to_numpy().tolist()) for table in made]
    write_tensors(file, {}, {"key": key, "tables": json.dumps(plain, default=lambda value: value.item())})
    return made, False
