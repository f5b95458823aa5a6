"""The tensors that are no filters (biases, normalization): how far they moved."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import Tensor, nn

from analysis.filters.kernels import Geometry, geometry
from lib.common.errors import StudyError
from lib.networks.stages import stage_of
from lib.strategies.adapters import merged

_KINDS = {"weight": "normalization", "bias": "normalization", "running_mean": "statistics", "running_var": "statistics"}


def other_tensor_change(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], *, model: nn.Module | Geometry | None = None
) -> pd.DataFrame:
    """The tensors that are no filters (biases, normalization), one row each, for they are no vectors in space.

    Args:
        before: name -> tensor.
        after: the same network later on.
        model: as in `analysis.filters.change.filter_change`; says the stages.

    Returns:
        tensor, stage, kind (`bias`, `normalization`, `statistics` or `other`), size, before and after (root mean
        squares), change (root mean square of the difference), relative_change (NaN where all began at zero, as biases
        do).
    """
    rows, stages = [], geometry(model).stages
    start, end = merged(before), merged(after)
    for name, value in start.items():
        part = name.rpartition(".")[2]
        if (part == "weight" and value.dim() >= 2) or not value.is_floating_point() or not value.numel():
            continue
        if name not in end or end[name].shape != value.shape:
            raise StudyError(f"{name} must be in both checkpoints, in one shape; compare checkpoints of one network")
        x, y = (each.detach().cpu().double().numpy().ravel() for each in (value, end[name]))
        size = [float(np.sqrt(np.mean(each**2))) for each in (x, y, y - x)]
        beside = start.get(f"{name.removesuffix('bias')}weight", value)
        kind = "bias" if part == "bias" and beside.dim() >= 2 else _KINDS.get(part, "other")
        relative = size[2] / size[0] if size[0] else math.nan
        rows.append((name, stages.get(name) or stage_of(name), kind, x.size, *size, relative))
    columns = ["tensor", "stage", "kind", "size", "before", "after", "change", "relative_change"]
    return pd.DataFrame(rows, columns=columns)
