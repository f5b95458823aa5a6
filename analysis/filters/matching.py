"""Filters of two networks matched one to one: do two seeds arrive at the same filters, in another order?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from analysis.filters.kernels import FilterLayer, Geometry, geometry, layer_pairs

Floats = NDArray[np.float64]
Order = NDArray[np.intp]


def matched(
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    model: nn.Module | Geometry | None = None,
    draws: int = 19,
    seed: int = 0,
) -> pd.DataFrame:
    """How alike the filters of two networks are once those of `b` are put into the order that fits `a` best.

    The order of each layer is the one with the largest sum of cosines (the Hungarian method, `scipy`). A filter can
    only be compared when its inputs stand in the same order too, so the order found for a layer is carried to the
    inputs of the next ones, along the connections of `lib.networks.unet.UNet`; a layer whose inputs are not known from
    there has `inputs_matched` False, and its cosines say little. Channels of images need no order.

    The best order looks alike even between random filters, more so the more of them there are and the shorter they
    are: the null is the same matching between independent Gaussian filters of the same shape.

    Args:
        a: name -> tensor.
        b: a network of the same shapes.
        model: as in `analysis.filters.change.filter_change`.
        draws: random pairs of layers simulated for the null of each shape.
        seed: of the null.

    Returns:
        One row per layer: layer, stage, kind, filters, weights (per filter), inputs_matched, cosine (mean over
        filters in the best order), in_place (mean in the order as it is), chance and chance_high (mean and largest
        of the null), p (that random filters match so well; no smaller than 1 / (draws + 1)). Filters that are exactly
        zero have the cosine 0 with any other.

    Raises:
        StudyError: the networks do not have the same layers in the same shapes.
    """
    orders: dict[str, Order] = {}
    nulls: dict[tuple[int, int], Floats] = {}
    rows = []
    for first, second in layer_pairs(a, b, geometry(model)):
        known = _order_of_inputs(second, orders)
        if known is not None:
            second = replace(second, kernels=second.kernels[:, known])
        used = first.used | second.used
        x, y = _unit(first.rows(used)), _unit(second.rows(used))
        cosines = x @ y.T
        best = linear_sum_assignment(cosines, maximize=True)[1]
        orders[first.name] = best
        if x.shape not in nulls:
            nulls[x.shape] = _null(*x.shape, draws=draws, seed=seed)
        null = nulls[x.shape]
        cosine = float(np.take_along_axis(cosines, best[:, None], axis=1).mean())
        identity = {"layer": first.name, "stage": first.stage, "kind": first.kind, "filters": x.shape[0]}
        values = {"cosine": cosine, "in_place": float(np.trace(cosines)) / len(x)}
        chance = {"chance": float(null.mean()), "chance_high": float(null.max())}
        p = (1 + int((null >= cosine).sum())) / (draws + 1)
        rows.append(
            identity | {"weights": x.shape[1], "inputs_matched": known is not None} | values | chance | {"p": p}
        )
    return pd.DataFrame(rows)


def _unit(rows: Floats) -> Floats:
    """Rows of length 1; dead ones stay zero, and are like nothing."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def _null(filters: int, weights: int, *, draws: int, seed: int) -> Floats:
    """Mean cosine in the best order between two independent Gaussian layers, `draws` times."""
    rng = np.random.default_rng([seed, filters, weights])
    means = []
    for _ in range(draws):
        cosines = _unit(rng.normal(size=(filters, weights))) @ _unit(rng.normal(size=(filters, weights))).T
        means.append(cosines[linear_sum_assignment(cosines, maximize=True)].mean())
    return np.array(means)


def _order_of_inputs(layer: FilterLayer, orders: Mapping[str, Order]) -> Order | None:
    """In which order the inputs of a layer of `unet.UNet` must be taken, or None where that is not known."""
    if layer.inputs == 1 or layer.name == "enc0.conv1":
        return np.arange(layer.inputs)
    stage, _, part = layer.name.partition(".")
    if part == "conv2":
        sources = [f"{stage}.conv1"]
    elif found := re.fullmatch(r"(enc|dec)(\d+)", stage):
        level = int(found[2])
        below = f"dec{level + 1}.conv2" if f"dec{level + 1}.conv2" in orders else f"enc{level + 1}.conv2"
        ways = {"up": [below], "conv1": [f"dec{level}.up", f"enc{level}.conv2"]}
        sources = [f"enc{level - 1}.conv2"] if found[1] == "enc" else ways.get(part, [])
    else:
        sources = ["dec0.conv2"] if stage == "head" else []
    if not sources or not all(source in orders for source in sources):
        return None
    parts, offset = [], 0
    for source in sources:
        parts.append(orders[source] + offset)
        offset += len(orders[source])
    return np.concatenate(parts) if offset == layer.inputs else None
