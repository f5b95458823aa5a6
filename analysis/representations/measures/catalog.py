"""Measures of similarity between two representations (n, p) and (n, q) of the same n samples, and their registry.

A measure is a function of two matrices that returns a float, the larger the more alike; a `Measure` says beside it, as
data, what it does not depend on and which values it can take. `tests/test_measures.py` checks every declaration, the
true ones and the false ones. All are float64. With `dtype=torch.float32` the matrices are centered in float64 and
multiplied in float32: values then differ by less than 1e-5 (checked), at half the memory and about twice the speed.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import pdist
from scipy.stats import rankdata
from torch import Tensor

from analysis import canonical
from analysis.gram import ConstantRepresentation, centered, checked_pair, gram, normalized, u_center
from lib.errors import StudyError
from lib.registry import Registry

BATCH = 64


def cka(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Linear CKA, in [0, 1], 1 = equal up to rotation, isotropic scale and translation.

    |Y' X|_F^2 / (|X' X|_F |Y' Y|_F) with centered X, Y. Kornblith et al. 2019, arXiv 1905.00414. Biased upwards when
    features outnumber samples: independent noise with n = 50, p = 400 gives 0.89. Prefer `cka_debiased`.

    Raises:
        StudyError: not the same finite samples, or one side constant.
    """
    a, b = _prepared(x, y, 2, dtype)
    cross = _cross(a, b)
    return cross / (math.sqrt(_cross(a, a)) * math.sqrt(_cross(b, b)))


def cka_debiased(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Linear CKA of unbiased HSIC estimates, in [-1, 1]: about 0, on either side, for independent representations.

    HSIC as Song et al. 2012 (eq. 5), the ratio as Nguyen et al. 2021, arXiv 2010.15327. Negative values are returned as
    they are: cutting them off would put the bias back. At least 4 samples.

    Raises:
        StudyError: not the same finite samples, or one side constant but for a single sample.
    """
    a, b = _prepared(x, y, 4, dtype)
    if len(a) > max(a.shape[1], b.shape[1]):
        k, m = (each.norm(dim=1).square() for each in (a, b))  # the diagonals of the Gram matrices
        cross, own_x, own_y = (
            float(unbiased(_cross(left, right), first.sum(), second.sum(), first @ second, len(a)))
            for left, right, first, second in ((a, b, k, m), (a, a, k, k), (b, b, m, m))
        )
    else:
        k, m = u_center(gram(a)), u_center(gram(b))
        cross, own_x, own_y = (float((left * right).sum()) for left, right in ((k, m), (k, k), (m, m)))
    for own, side, name in ((own_x, a, "x"), (own_y, b, "y")):
        if own <= 100 * torch.finfo(dtype).eps * float(side.square().sum()) ** 2:
            raise ConstantRepresentation(
                f"{name} is constant but for a single one of its {len(a)} samples: the unbiased estimate has nothing "
                "left; take other probe images, or leave the layer out"
            )
    return cross / (math.sqrt(own_x) * math.sqrt(own_y))


def cka_minibatch(x: Any, y: Any, *, batch: int = BATCH, dtype: torch.dtype = torch.float64) -> float:
    """Linear CKA of unbiased HSIC estimates averaged over batches of consecutive samples, in [-1, 1].

    Nguyen et al. 2021, arXiv 2010.15327: what can be had when the features of all samples do not fit in memory. It
    depends on which samples share a batch. Samples are cut into ceil(n / batch) batches as equal as can be: none is
    left out.

    Raises:
        StudyError: not the same finite samples, batches of fewer than 4, or one side constant.
    """
    a, b = _prepared(x, y, 4, dtype)
    sums = torch.zeros(3, dtype=torch.float64)
    for part in batches(len(a), batch):
        k, m = u_center(gram(a[part])), u_center(gram(b[part]))
        size = len(k)
        sums += torch.stack([(k * m).sum(), (k * k).sum(), (m * m).sum()]).double().cpu() / (size * (size - 3))
    for own, name in ((sums[1], "x"), (sums[2], "y")):
        if own == 0:
            raise ConstantRepresentation(f"{name} is constant within every batch; take larger batches")
    return float(sums[0] / (sums[1].sqrt() * sums[2].sqrt()))


def batches(n: int, batch: int) -> list[slice]:
    """The ceil(n / batch) batches of n samples, as equal as can be.

    Raises:
        StudyError: a batch would have fewer than 4 samples, too few for an unbiased estimate.
    """
    count = max(1, math.ceil(n / max(1, batch)))
    if n // count < 4:
        raise StudyError(f"batches must have at least 4 samples, got {n} samples in batches of {batch}")
    edges = [n * index // count for index in range(count + 1)]
    return [slice(low, high) for low, high in itertools.pairwise(edges)]


def procrustes(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Orthogonal Procrustes similarity, in [0, 1], 1 = equal up to rotation, isotropic scale and translation.

    |Y' X|_* / (|X|_F |Y|_F) with centered X, Y and the nuclear norm. With both scaled to norm 1 the Procrustes distance
    of Ding et al. 2021 (arXiv 2108.01661) is sqrt(2 - 2 s); the angle of Williams et al. 2021 (arXiv 2110.14739) is
    arccos s.

    Raises:
        StudyError: not the same finite samples, or one side constant.
    """
    a, b = _prepared(x, y, 2, dtype)
    small_a, small_b = (fold(gram(each)) if each.shape[1] > len(each) else each for each in (a, b))
    nuclear = torch.linalg.svdvals(small_b.mT @ small_a).sum()
    return float(nuclear / (a.norm() * b.norm()))


def rsa(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Representational similarity: rank correlation, in [-1, 1], of the distances between samples.

    Spearman's correlation of the n (n - 1) / 2 Euclidean distances. Kriegeskorte et al. 2008, there with correlation
    distances (`rsa_correlation`), which depend on offsets and rotations of the features.

    Raises:
        StudyError: not the same finite samples, or all distances of one side equal.
    """
    a, b = _prepared(x, y, 3, dtype)
    return _rank_correlation(pdist(_array(a), "sqeuclidean"), pdist(_array(b), "sqeuclidean"))


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
    return _rank_correlation(*(pdist(_array(each), "sqeuclidean") for each in units))


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


def _prepared(x: Any, y: Any, least: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    a, b = checked_pair(x, y, least)
    return normalized(a, "x").to(dtype), normalized(b, "y").to(dtype)


def _cross(a: Tensor, b: Tensor) -> float:
    """|b' a|_F^2, in feature space or in sample space, whichever is less work."""
    n, p, q = len(a), a.shape[1], b.shape[1]
    if p * q <= n * (p + q):
        return float((b.mT @ a).square().sum())
    return float((gram(a) * gram(b)).sum())


def unbiased(cross: Any, trace_x: Any, trace_y: Any, diagonals: Any, n: int) -> Any:
    """n (n - 3) times the unbiased HSIC, from what features give without their Gram matrices K and L.

    The inner product of U-centered matrices written out for row sums of zero: with the diagonals k and l it is
    <K, L> + sum(k) sum(l) / ((n - 1) (n - 2)) - n / (n - 2) k.l

    Args:
        cross: <K, L> = |Y' X|_F^2 of centered features. trace_x, trace_y: sum(k), sum(l). diagonals: k.l
    """
    return cross + trace_x * trace_y / ((n - 1) * (n - 2)) - n / (n - 2) * diagonals


def fold(k: Tensor) -> Tensor:
    """A matrix (n, n) with the Gram matrix `k`: the features behind it, up to a rotation."""
    values, vectors = torch.linalg.eigh(k)
    return vectors * values.clamp_min(0).sqrt()  # rounding makes zeros negative


def _array(x: Tensor) -> np.ndarray:
    return x.cpu().numpy()


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    ranks = []
    for distances, name in ((a, "x"), (b, "y")):
        ranked = rankdata(distances) - (len(distances) + 1) / 2
        if not ranked.any():
            raise ConstantRepresentation(f"all distances between the samples of {name} are equal: they have no order")
        ranks.append(ranked / np.linalg.norm(ranked))
    return float(ranks[0] @ ranks[1])


RIGID = frozenset({"permutation", "orthogonal", "scale", "translation"})


@dataclass(frozen=True)
class Measure:
    """A measure with what it declares.

    Args:
        title: as figures show it.
        value: the function of x and y; larger = more alike, and 1 for x against itself.
        low: the least possible value; the largest is 1.
        invariant_x: what may be done to x without changing the value, out of `analysis.conformance.TRANSFORMATIONS`.
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
MEASURES.add("cca", Measure("mean CCA", canonical.cca, 0.0, LINEAR, LINEAR, canonical=True))
MEASURES.add("svcca", Measure("SVCCA, 99 % of variance", canonical.svcca, canonical=True))
MEASURES.add("svcca_singular_sum", Measure("SVCCA, singular sum", canonical.svcca_singular_sum, canonical=True))
MEASURES.add(
    "pwcca",
    Measure(
        "PWCCA", canonical.pwcca, 0.0, RIGID - {"orthogonal"}, LINEAR, symmetric=False, canonical=True
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


def permutation_p(measure: str, x: Any, y: Any, *, draws: int = 999, seed: int = 0) -> float:
    """P-value of "more alike than chance": how often a random pairing of samples reaches the value, plus one.

    (1 + hits) / (1 + draws), Phipson and Smyth 2010; exact for exchangeable samples, so not for positions of one image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", canonical.FewSamples)
        value = MEASURES[measure](x, y)
    hits = np.sum(_shuffled(measure, x, y, draws, seed) >= value - 1e-12)
    return float((1 + hits) / (1 + draws))


def _shuffled(measure: str, x: Any, y: Any, draws: int, seed: int) -> np.ndarray:
    function, rng = MEASURES[measure], np.random.default_rng(seed)
    rows = torch.as_tensor(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", canonical.FewSamples)  # the caller's own value has said so
        return np.array([function(x, rows[torch.from_numpy(rng.permutation(len(rows)))]) for _ in range(draws)])
