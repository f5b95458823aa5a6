"""Procrustes similarity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from analysis.representations.measures.gram import gram, normalized_pair


def procrustes(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Orthogonal Procrustes similarity, in [0, 1], 1 = equal up to rotation, isotropic scale and translation.

    |Y' X|_* / (|X|_F |Y|_F) with centered X, Y and the nuclear norm. With both scaled to norm 1 the Procrustes distance
    of Ding et al. 2021 (arXiv 2108.01661) is sqrt(2 - 2 s); the angle of Williams et al. 2021 (arXiv 2110.14739) is
    arccos s.

    Raises:
        StudyError: not the same finite samples, or one side constant.
    """
    a, b = normalized_pair(x, y, 2, dtype)
    small_a, small_b = (fold(gram(each)) if each.shape[1] > len(each) else each for each in (a, b))
    nuclear = torch.linalg.svdvals(small_b.mT @ small_a).sum()
    return float(nuclear / (a.norm() * b.norm()))


def fold(k: Tensor) -> Tensor:
    """A matrix (n, n) with the Gram matrix `k`: the features behind it, up to a rotation."""
    values, vectors = torch.linalg.eigh(k)
    return vectors * values.clamp_min(0).sqrt()  # rounding makes zeros negative
