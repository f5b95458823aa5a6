"""Corrections for many p-values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as sps

from analysis.statistics.intervals import Floats, finite_values


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979); family-wise, any dependence."""
    p = finite_values(p_values, "p-values")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p) else scaled
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Adjusted p-values that hold the false discovery rate (Benjamini and Hochberg 1995), in the order given."""
    p = finite_values(p_values, "p-values")
    return np.asarray(sps.false_discovery_control(p)) if len(p) else p
