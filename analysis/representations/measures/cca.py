"""Canonical correlations between representations: CCA, SVCCA in both conventions, and projection-weighted CCA.

All of them ask how well directions of one representation can be matched by directions of the other. With few samples
they can be matched whatever the representations are: the correlations of independent noise go to 1 as the features
go to the samples (n = 10 p still gives about 0.3). So these measures refuse where they could only say 1, warn below ten
samples a direction, and belong beside their chance level (`analysis.representations.measures.catalog.chance`).
"""

from __future__ import annotations

import functools
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.representations.measures.gram import checked_pair, normalized, tall_gram
from lib.common.errors import StudyError

SAMPLES_PER_DIRECTION = 10
KEEP = 0.99


class FewSamples(UserWarning):
    """Canonical correlations of fewer than ten samples a direction: chance alone makes them high."""


class TooFewSamples(StudyError):
    """So few samples that every canonical correlation is 1, whatever the representations are."""


class Basis(NamedTuple):
    """A centered representation as u @ diag(s) @ v.T, directions with the largest spread first.

    u: (n, k), orthonormal. s: (k,), positive. v: (p, k), orthonormal.
    """

    u: Tensor
    s: Tensor
    v: Tensor


def whitened(x: Tensor, rule: str = "rank", keep: float = KEEP) -> Basis:
    """The directions of a centered representation (n, p) that are kept.

    Args:
        rule: `rank`: all that are not rounding errors. `variance`: the fewest whose squared singular values sum to
            `keep` of the whole (Raghu et al., arXiv 1706.05806). `singular_sum`: the same with singular values not
            squared, as google/svcca's tutorials and anatome do; it keeps more.
    """
    n, p = x.shape
    check_keep(keep)
    if keep == 1:
        rule = "rank"  # what holds all the variance are the directions that are not rounding errors
    if rule == "variance" and max(n, p) > 2 * min(n, p):
        return _from_products(x, keep)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    if rule == "rank":
        count = int((s > s[0] * max(n, p) * torch.finfo(x.dtype).eps).sum())
    else:
        count = _enough(s**2 if rule == "variance" else s, keep)
    return Basis(u[:, :count], s[:count], vh[:count].mT)


def check_keep(keep: float) -> None:
    """That `keep` is a share.

    Raises:
        StudyError: it is not above 0 and at most 1.
    """
    if not isinstance(keep, int | float) or not 0 < keep <= 1:
        raise StudyError(f"keep must be a share above 0 and at most 1 (0.99 keeps 99 % of the variance), got {keep!r}")


def _enough(weights: Tensor, keep: float) -> int:
    """How many of the weights, which descend, sum to at least `keep` of all."""
    share = weights.cumsum(0) / weights.sum()
    return min(int((share < keep).sum()) + 1, len(weights))


def _from_products(x: Tensor, keep: float) -> Basis:
    """The directions that hold `keep` of the variance, from the smaller of x' x and x x'."""
    s, vectors = _directions(x, keep)
    if x.shape[1] < len(x):
        return Basis(x @ vectors / s, s, vectors)
    return Basis(vectors, s, x.mT @ vectors / s)


def _directions(x: Tensor, keep: float) -> tuple[Tensor, Tensor]:
    """Singular values that hold `keep` of the variance, and vectors: of features where they are fewer than samples.

    Several times faster than a singular value decomposition. Products square the condition number; no direction
    kept here is weaker than (1 - keep) / p of the whole variance, which leaves more than ten digits.
    """
    values, vectors = torch.linalg.eigh(tall_gram(x.mT if x.shape[1] < len(x) else x))
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)  # rounding makes zeros negative
    count = _enough(values, keep)
    return values[:count].sqrt(), vectors[:, :count]


def check_samples(n: int, *directions: int) -> str:
    """What is to be said of canonical correlations of `n` samples: nothing, or why they are high by chance.

    Raises:
        TooFewSamples: one side spans all that centered samples can span, so that every correlation is 1.
    """
    largest = max(directions)
    if largest >= n - 1:
        raise TooFewSamples(
            f"canonical correlations need more samples than directions, got {n} samples and {largest} directions: all "
            "of them would be 1 whatever the data. Take more samples (reduce='positions'), fewer features "
            "(reduce='pool'), or a measure without this limit (cka_debiased)"
        )
    if n < SAMPLES_PER_DIRECTION * largest:
        return (
            f"{n} samples for {largest} directions, fewer than {SAMPLES_PER_DIRECTION} each: canonical correlations "
            "are high by chance; compare with the chance level, or take more samples"
        )
    return ""


@functools.lru_cache(maxsize=4096)
def chance_correlation(n: int, p: int, q: int) -> float:
    """The mean canonical correlation to expect of p and q independent directions in n centered samples.

    The squared correlations of independent representations follow Wachter's law (Wachter 1980; Johnstone 2008, arXiv
    0803.3408): of min(p, q), p + q - (n - 1) are 1 where that is positive, and the others lie between
    (sqrt(a (1 - b)) -+ sqrt(b (1 - a)))^2 with a = p / (n - 1), b = q / (n - 1). Exact for many directions, a few
    percent high for one.
    """
    size = n - 1
    low, high = min(p, q), max(p, q)
    ones = max(0, low + high - size)
    if ones == low:
        return 1.0
    if ones:  # the rest behaves as the orthogonal complements do
        low, high = size - high, size - low
    a, b = low / size, high / size
    middle, half = a + b - 2 * a * b, 2 * (a * (1 - a) * b * (1 - b)) ** 0.5
    angle = (np.arange(2000) + 0.5) * np.pi / 2000
    square = middle + half * np.cos(angle)  # squared correlations; substituted so that the ends do no harm
    weight = np.sin(angle) ** 2 / (square * (1 - square))
    rest = float((weight * np.sqrt(square)).sum() / weight.sum())
    return (ones + low * rest) / (ones + low)


def _bases(x: Any, y: Any, rule: str, keep: float, dtype: torch.dtype) -> tuple[Basis, Basis]:
    a, b = checked_pair(x, y, 3)
    left, right = normalized(a, "x").to(dtype), normalized(b, "y").to(dtype)
    basis_x, basis_y = whitened(left, rule, keep), whitened(right, rule, keep)
    _warn(len(a), basis_x.s, basis_y.s)
    return basis_x, basis_y


def _warn(n: int, s_x: Tensor, s_y: Tensor) -> None:
    remark = check_samples(n, len(s_x), len(s_y))
    if remark:
        warnings.warn(remark, FewSamples, stacklevel=4)


def mean_correlation(a: Tensor, b: Tensor) -> float:
    """Mean canonical correlation of two orthonormal bases (n, k) and (n, l): of the min(k, l) that there are."""
    return float(torch.linalg.svdvals(a.mT @ b).mean())


def cca(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Mean canonical correlation of (n, p) and (n, q), in [0, 1]; 1 = one is an invertible linear map of the other.

    The mean runs over min(rank x, rank y) correlations, so it is also 1 where one representation contains the other.

    Raises:
        StudyError: not the same finite samples, or too few of them to say anything.
    """
    basis_x, basis_y = _bases(x, y, "rank", KEEP, dtype)
    return mean_correlation(basis_x.u, basis_y.u)


def svcca(x: Any, y: Any, *, keep: float = KEEP, dtype: torch.dtype = torch.float64) -> float:
    """SVCCA with the variance convention: mean canonical correlation of the directions holding `keep` of the variance.

    In [0, 1], 1 = the kept directions span the same space. Raghu et al. 2017, arXiv 1706.05806. Features are centered
    before they are reduced, and the direction that crosses the threshold is kept.

    Raises:
        StudyError: not the same finite samples, or too few of them to say anything.
    """
    a, b = checked_pair(x, y, 3)
    a, b = normalized(a, "x").to(dtype), normalized(b, "y").to(dtype)
    check_keep(keep)
    if keep == 1 or len(a) <= 2 * max(a.shape[1], b.shape[1]):
        basis_x, basis_y = whitened(a, "variance", keep), whitened(b, "variance", keep)
        _warn(len(a), basis_x.s, basis_y.s)
        return mean_correlation(basis_x.u, basis_y.u)
    # the same from products of features alone: U_x' U_y = S_x^-1 V_x' (X' Y) V_y S_y^-1
    (s_x, v_x), (s_y, v_y) = _directions(a, keep), _directions(b, keep)
    _warn(len(a), s_x, s_y)
    return float(torch.linalg.svdvals((v_x / s_x).mT @ (a.mT @ b) @ (v_y / s_y)).mean())


def svcca_singular_sum(x: Any, y: Any, *, keep: float = KEEP, dtype: torch.dtype = torch.float64) -> float:
    """SVCCA with the singular-sum convention: as `svcca`, keeping directions by singular values that are not squared.

    Keeps more directions, and so gives another value: the two conventions are not comparable.
    """
    basis_x, basis_y = _bases(x, y, "singular_sum", keep, dtype)
    return mean_correlation(basis_x.u, basis_y.u)


def pwcca(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Projection-weighted CCA seen from x, in [0, 1]. Morcos, Raghu and Bengio 2018, arXiv 1806.05759, section 2.

    Let X (n, p) and Y (n, q) be centered, X = U_x S_x V_x' and Y = U_y S_y V_y' without directions of no spread. CCA
    looks for coefficients w, z that maximize corr(X w, Y z). With w = V_x S_x^-1 a the canonical variate is X w = U_x
    a, of norm 1 when a is, and likewise for Y: so corr = a' (U_x' U_y) b, maximized by the singular vectors A, B of M
    = U_x' U_y. Its singular values are the correlations rho_i, and the variates of x are the columns h_i of H = U_x A,
    orthonormal in sample space.

    The paper weights rho_i by how much of x its variate accounts for: alpha_i = sum_j |<h_i, x_j>| over the features
    x_j (the columns of X), and returns sum_i alpha_i rho_i / sum_i alpha_i. The projections are H' X = A' S_x V_x': it
    is the variates that are orthonormal, not the coefficients w, and it is the centered X that is projected. (Leaving
    S_x^-1 out of the variates, or orthonormalizing the coefficients, gives other numbers, which several packages
    return.)

    There are min(rank x, rank y) correlations; directions of x beyond them have no partner and no weight, as in the
    paper. Where correlations tie, as several that are exactly 1 do when features are shared, variates may be rotated
    among themselves, and the weights with them: there PWCCA is not a number but a range. The value depends on the
    side: `pwcca(x, y)` is not `pwcca(y, x)`. The sum of absolute values makes it change under rotations of x's
    features, though not under rotations, or any invertible linear map, of y's.

    Raises:
        StudyError: not the same finite samples, or too few of them to say anything.
    """
    basis_x, basis_y = _bases(x, y, "rank", KEEP, dtype)
    return projection_weighted(basis_x, basis_y.u)


def projection_weighted(x: Basis, y: Tensor) -> float:
    """PWCCA of a whitened x, seen from x, against the orthonormal basis (n, l) of y."""
    a, correlations, _ = torch.linalg.svd(x.u.mT @ y, full_matrices=False)
    weights = (a.mT * x.s @ x.v.mT).abs().sum(1)  # rows of H' X
    return float(weights @ correlations / weights.sum())
