"""The law of a fresh draw: which one a network's weights began with, and weights with that law undone.

The tests of `layer_tests` know one null, independent normal weights. A layer drawn from another law is brought there:
every weight is replaced by the normal quantile of its probability under the law, which leaves independent weights
independent and arrangement as it is. The scale of a layer is unknown under every law and has no part.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from analysis.filters.kernels import FilterLayer, Geometry, read_layers
from lib.common.errors import StudyError, nearest
from lib.common.registry import Registry

Floats = NDArray[np.float64]
OWN = "own"  # that of the layer's weights at step 0, whatever it is
ANY = "any"  # of LAWS, where nobody knows: a layer fails where it fails under each
CUT = 2.0  # standard deviations at which truncated normal laws end, as in frameworks' initializations
CLEAR = 5.0  # difference of log-likelihoods (natural) from which a layer's own weights tell its law


@dataclass(frozen=True)
class Law:
    """A law of independent weights around 0.

    Args:
        title: for tables.
        likelihood: log-likelihood of values (n,) per value, at the scale that fits best.
        probability: of values as shares of their largest, -1 to 1, given that largest one; None for the normal law,
            of which nothing is to be undone.
    """

    title: str
    likelihood: Callable[[Floats], float]
    probability: Callable[[Floats], Floats] | None


def _normal(values: Floats) -> float:
    return -0.5 * float(np.log(2 * np.pi * np.mean(values**2)) + 1)


def _uniform(values: Floats) -> float:
    return -float(np.log(2 * np.abs(values).max()))


def _truncated(values: Floats) -> float:
    scale = float(np.abs(values).max()) / CUT
    within = special.ndtr(CUT) - special.ndtr(-CUT)
    return -float(0.5 * np.log(2 * np.pi) + np.log(scale * within) + 0.5 * np.mean((values / scale) ** 2))


def _truncated_probability(shares: Floats) -> Floats:
    low, high = special.ndtr(-CUT), special.ndtr(CUT)
    return (special.ndtr(CUT * shares) - low) / (high - low)


LAWS: Registry[Law] = Registry("law of fresh weights")
LAWS.add("normal", Law("normal", _normal, None))
LAWS.add("uniform", Law("uniform around 0, as PyTorch draws by default", _uniform, lambda shares: (shares + 1) / 2))
LAWS.add("truncated", Law(f"normal, cut at {CUT:g} standard deviations", _truncated, _truncated_probability))


def check_law(law: str) -> str:
    """`law`, if it is one of LAWS, `own` or `any`.

    Raises:
        StudyError: it is not.
    """
    if law not in (*LAWS, OWN, ANY):
        raise StudyError(nearest("law of fresh weights", law, (*LAWS, OWN, ANY)))
    return law


def find_laws(weights: Mapping[str, Tensor], known: Geometry | None = None) -> pd.DataFrame:
    """Which law the layers of an untrained network follow best, one row each.

    By likelihood. A layer of too few weights to tell takes the law of all layers of its kind together, or of all.

    Args:
        weights: of step 0.
        known: see `analysis.filters.kernels.read_layers`.

    Returns:
        layer, kind, law, clear (whether its own weights tell) and a column per law: log-likelihood per weight.
    """
    rows = []
    for layer in read_layers(weights, known).values():
        values = layer.taps()[layer.kernels.any(axis=tuple(range(1, layer.kernels.ndim)))].ravel()
        if values.size:
            found = {name: law.likelihood(values) for name, law in LAWS.items()}
            rows.append({"layer": layer.name, "kind": layer.kind, "weights": values.size, **found})
    table = pd.DataFrame(rows)
    whole = table[list(LAWS)].mul(table.weights, axis=0)
    kinds = whole.groupby(table.kind).sum()
    pooled = kinds.idxmax(axis=1).where(_tells(kinds), whole.sum().idxmax())
    clear = _tells(whole)
    law = whole.idxmax(axis=1).where(clear, table.kind.map(pooled))
    return table.assign(law=law, clear=clear)[["layer", "kind", "law", "clear", *LAWS]]


def _tells(likelihoods: pd.DataFrame) -> pd.Series:
    """Whether the best law of each row is clearly better than the second."""
    order = np.sort(likelihoods.to_numpy(), axis=1)
    return pd.Series(order[:, -1] - order[:, -2] > CLEAR, index=likelihoods.index)


def undone(layer: FilterLayer, law: str, start: FilterLayer | None, seed: int) -> FilterLayer:
    """The layer with its law undone: if its weights are independent draws, they now are so of a normal law.

    Of a bounded law: given the largest of n independent weights, the others are independent draws between it and its
    negative, whatever the scale, and the largest is replaced by a draw. Exact for the uniform law; for the truncated
    one but for an error of order 1 / n. Of `own`: by rank among the weights at step 0, brought to one mean square;
    the law is then itself an estimate, and values cannot be tested against it, only their arrangement.

    Args:
        layer: without filters that are zero.
        law: one of LAWS, or `own`.
        start: the layer at step 0, for `own`.
        seed: of the one draw a layer, and of the order of ties.

    Raises:
        StudyError: `own` without a layer at step 0.
    """
    probability = LAWS[law].probability if law != OWN else None
    if law != OWN and probability is None:
        return layer
    rng = np.random.default_rng([seed, 0x1A3, zlib.crc32(layer.name.encode())])
    used = layer.used
    values = layer.kernels[:, :, used]
    flat = values.ravel()
    if probability is not None:
        at = np.abs(flat).argmax()
        shares = probability(flat / np.abs(flat[at]))
        shares[at] = rng.random()
    else:
        if start is None:
            raise StudyError(f"the law of {layer.name} at step 0 needs its weights at step 0; give start, or a law")
        known = np.sort(start.kernels[start.kernels != 0].ravel())
        known = known / np.sqrt(np.mean(known**2))
        scaled = flat / np.sqrt(np.mean(flat**2))
        low, high = (np.searchsorted(known, scaled, side=side) for side in ("left", "right"))
        shares = (low + (high - low + 1) * rng.random(flat.size)) / (known.size + 1)
    least = 1 / (4 * flat.size)
    kernels = np.zeros_like(layer.kernels)
    kernels[:, :, used] = special.ndtri(np.clip(shares, least, 1 - least)).reshape(values.shape)
    return replace(layer, kernels=kernels)
