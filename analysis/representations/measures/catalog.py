"""Measures of similarity between two representations (n, p) and (n, q) of the same n samples, and their registry.

A measure is a function of two matrices that returns a float, the larger the more alike; a `Measure` says beside it, as
data, what it does not depend on and which values it can take. `test_measures.py` checks every declaration, the
true ones and the false ones. All are float64. With `dtype=torch.float32` the matrices are centered in float64 and
multiplied in float32: values then differ by less than 1e-5 (checked), at half the memory and about twice the speed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analysis.representations.measures import cca
from analysis.representations.measures.cka import cka, cka_debiased, cka_minibatch
from analysis.representations.measures.procrustes import procrustes
from analysis.representations.measures.rsa import rsa, rsa_correlation
from lib.common.registry import Registry

RIGID = frozenset({"permutation", "orthogonal", "scale", "translation"})


@dataclass(frozen=True)
class Measure:
    """A measure with what it declares.

    Args:
        title: as figures show it.
        value: the function of x and y; larger = more alike, and 1 for x against itself.
        low: the least possible value; the largest is 1.
        invariant_x: what may be done to x without changing the value, out of `conformance.TRANSFORMATIONS`.
        invariant_y: the same for y.
        symmetric: whether x and y may change places.
        reorderable: whether the samples of both may be reordered together.
        canonical: whether it is a CCA-type measure, high by chance where samples are few.
        unbiased: whether its mean is 0 for representations that have nothing in common.
    """

    title: str
    value: Callable[..., float]
    low: float = 0.0
    invariant_x: frozenset[str] = RIGID
    invariant_y: frozenset[str] = RIGID
    symmetric: bool = True
    reorderable: bool = True
    canonical: bool = False
    unbiased: bool = False

    def __call__(self, x: Any, y: Any, **options: Any) -> float:
        return self.value(x, y, **options)


LINEAR = RIGID | {"linear", "feature_scale"}
_RSA_CORRELATION = frozenset({"permutation", "scale"})

MEASURES: Registry[Measure] = Registry("measure")
MEASURES.add("cka", Measure("linear CKA", cka))
MEASURES.add("cka_debiased", Measure("linear CKA, debiased", cka_debiased, -1.0, unbiased=True))
MEASURES.add("cka_minibatch", Measure("linear CKA, minibatch", cka_minibatch, -1.0, reorderable=False, unbiased=True))
MEASURES.add("cca", Measure("mean CCA", cca.cca, 0.0, LINEAR, LINEAR, canonical=True))
MEASURES.add("svcca", Measure("SVCCA, 99 % of variance", cca.svcca, canonical=True))
MEASURES.add("svcca_singular_sum", Measure("SVCCA, singular sum", cca.svcca_singular_sum, canonical=True))
MEASURES.add(
    "pwcca",
    Measure(
        "PWCCA", cca.pwcca, 0.0, RIGID - {"orthogonal"}, LINEAR, symmetric=False, canonical=True
    ),
)  # fmt: skip
MEASURES.add("procrustes", Measure("Procrustes", procrustes))
MEASURES.add("rsa", Measure("RSA, Euclidean", rsa, -1.0, unbiased=True))
MEASURES.add(
    "rsa_correlation",
    Measure("RSA, correlation", rsa_correlation, -1.0, _RSA_CORRELATION, _RSA_CORRELATION, unbiased=True),
)


def chance(measure: str, x: Any, y: Any, *, draws: int = 20, seed: int = 0) -> float:
    """The value to expect of representations with these spectra that have nothing in common.

    The mean over `draws` random pairings of x's samples with y's. Zero, to within the draws, for unbiased measures.
    """
    return float(np.mean(_shuffled(measure, x, y, draws, seed)))


def sample_permutation_p(measure: str, x: Any, y: Any, *, draws: int = 999, seed: int = 0) -> float:
    """P-value of "more alike than chance": how often a random pairing of samples reaches the value, plus one.

    (1 + hits) / (1 + draws), Phipson and Smyth 2010; exact for exchangeable samples, so not for positions of one image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cca.FewSamples)
        value = MEASURES[measure](x, y)
    hits = np.sum(_shuffled(measure, x, y, draws, seed) >= value - 1e-12)
    return float((1 + hits) / (1 + draws))


def _shuffled(measure: str, x: Any, y: Any, draws: int, seed: int) -> np.ndarray:
    function, rng = MEASURES[measure], np.random.default_rng(seed)
    rows = torch.as_tensor(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cca.FewSamples)  # the caller's own value has said so
        return np.array([function(x, rows[torch.from_numpy(rng.permutation(len(rows)))]) for _ in range(draws)])
