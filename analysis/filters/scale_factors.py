"""Scale factors: those that linear fine-tuning learned beside those that fit what full fine-tuning did."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from analysis.filters.kernels import layer_pairs, read_layers
from lib.common.errors import StudyError
from lib.strategies.adapters import merged

Floats = NDArray[np.float64]


def fitted_scales(before: Floats, after: Floats) -> Floats:
    """Least-squares scale of each kernel, after = scale * before + shift: (f, i, taps) twice -> (f, i).

    NaN for a kernel that was constant, where no scale can be told from the shift.
    """
    x = before - before.mean(axis=2, keepdims=True)
    across = np.einsum("fit,fit->fi", x, after)
    spread = np.einsum("fit,fit->fi", x, x)
    return np.divide(across, spread, out=np.full_like(across, np.nan), where=spread > 0)


def scale_table(
    start: Mapping[str, Tensor], tuned: Mapping[str, Tensor], learned: Mapping[str, Tensor]
) -> pd.DataFrame:
    """Do the scales that were learned alone agree with those that fit the filters when all weights were free?

    If filters after fine-tuning are scaled and shifted filters from before (Bi et al. 2023, claim L7), both
    trainings should find much the same scales.

    Args:
        start: weights that both trainings started from.
        tuned: after `full_finetuning`.
        learned: after `scale_shift`, with its factors `<layer>.scale`; any granularity.

    Returns:
        One row per layer with kernels of three taps or more: layer, stage, kind, kernels, fitted and learned (median
        of |scale - 1| over kernels), correlation (over kernels; NaN where the learned scales are all the same).

    Raises:
        StudyError: there are no scales, or the networks do not fit each other.
    """
    names = [name.removesuffix(".scale") for name in learned if name.endswith(".scale")]
    if not names:
        raise StudyError("the third network must have scale factors; give the weights of a run with scale_shift")
    plain = merged(start)
    missing = sorted(name for name in names if f"{name}.weight" not in plain)
    if missing:
        raise StudyError(f"scales were learned for layers that the start lacks: {', '.join(missing)}")
    # A scale as wide as its weight has the layout of a weight, so that a transposed layer is turned like its weight.
    wide = read_layers(
        {f"{name}.weight": learned[f"{name}.scale"].expand_as(plain[f"{name}.weight"]) for name in names}
    )
    rows = []
    for first, second in layer_pairs(start, tuned):
        used = first.used | second.used
        if first.name not in wide or used.sum() < 3:
            continue
        fit = fitted_scales(first.taps(used), second.taps(used)).ravel()
        own = wide[first.name].kernels.reshape(first.filters * first.inputs, -1)[:, 0]
        known = np.isfinite(fit)
        varied = known.sum() > 2 and np.ptp(own[known]) > 0 and np.ptp(fit[known]) > 0
        size = [float(np.median(np.abs(each[known] - 1))) if known.any() else math.nan for each in (fit, own)]
        correlation = float(np.corrcoef(fit[known], own[known])[0, 1]) if varied else math.nan
        rows.append((first.name, first.stage, first.kind, int(known.sum()), *size, correlation))
    columns = ["layer", "stage", "kind", "kernels", "fitted", "learned", "correlation"]
    return pd.DataFrame(rows, columns=columns)
