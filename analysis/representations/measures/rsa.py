"""Representational similarity analysis, in two conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import pdist
from scipy.stats import rankdata
from torch import Tensor

from analysis.representations.measures.gram import ConstantRepresentation, centered, checked_pair, normalized_pair
from lib.common.errors import StudyError


def rsa(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Representational similarity: rank correlation, in [-1, 1], of the distances between samples.

    Spearman's correlation of the n (n - 1) / 2 Euclidean distances. Kriegeskorte et al. 2008, there with correlation
    distances (`rsa_correlation`), which depend on offsets and rotations of the features.

    Raises:
        StudyError: not the same finite samples, or all distances of one side equal.
    """
    a, b = normalized_pair(x, y, 3, dtype)
    return _rank_correlation(pdist(as_array(a), "sqeuclidean"), pdist(as_array(b), "sqeuclidean"))


def rsa_correlation(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Representational similarity with correlation distances, as Kriegeskorte et al. 2008; in [-1, 1].

    A sample's distance to another is 1 - Pearson's correlation over the features, so at least 3 features a side.
    Features are not centered over samples: the value depends on their offsets and on the axes they are measured along.

    Raises:
        StudyError: not the same finite samples, fewer than 3 features, a sample whose features are all equal.
    """
    a, b = checked_pair(x, y, 3)
    units = [unit_rows(side, name).to(dtype) for side, name in ((a, "x"), (b, "y"))]
    # |u - v|^2 / 2 = 1 - u.v for unit vectors, and exactly 0 for equal samples
    return _rank_correlation(*(pdist(as_array(each), "sqeuclidean") for each in units))


def unit_rows(x: Tensor, name: str) -> Tensor:
    """Samples (n, p) at mean 0 and norm 1 over their features, so that inner products are correlations.

    Raises:
        StudyError: fewer than 3 features, or a sample whose features are all equal.
    """
    rows = centered(x.mT).mT
    norms = rows.norm(dim=1, keepdim=True)
    if x.shape[1] < 3 or (norms == 0).any():
        raise StudyError(
            f"correlation distances need at least 3 features that are not all equal in a sample, got {name} of shape "
            f"{tuple(x.shape)} with {int((norms == 0).sum())} flat samples; take rsa instead"
        )
    return rows / norms


def as_array(x: Tensor) -> np.ndarray:
    return x.cpu().numpy()


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    ranks = []
    for distances, name in ((a, "x"), (b, "y")):
        ranked = rankdata(distances) - (len(distances) + 1) / 2
        if not ranked.any():
            raise ConstantRepresentation(f"all distances between the samples of {name} are equal: they have no order")
        ranks.append(ranked / np.linalg.norm(ranked))
    return float(ranks[0] @ ranks[1])
