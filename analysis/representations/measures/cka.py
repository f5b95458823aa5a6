"""Centered kernel alignment: biased, debiased, and over minibatches."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import torch
from torch import Tensor

from analysis.representations.measures.gram import ConstantRepresentation, gram, normalized_pair, u_center
from lib.common.errors import StudyError

BATCH = 64


def cka(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Linear CKA, in [0, 1], 1 = equal up to rotation, isotropic scale and translation.

    |Y' X|_F^2 / (|X' X|_F |Y' Y|_F) with centered X, Y. Kornblith et al. 2019, arXiv 1905.00414. Biased upwards when
    features outnumber samples: independent noise with n = 50, p = 400 gives 0.89. Prefer `cka_debiased`.

    Raises:
        StudyError: not the same finite samples, or one side constant.
    """
    a, b = normalized_pair(x, y, 2, dtype)
    cross = _cross(a, b)
    return cross / (math.sqrt(_cross(a, a)) * math.sqrt(_cross(b, b)))


def cka_debiased(x: Any, y: Any, *, dtype: torch.dtype = torch.float64) -> float:
    """Linear CKA of unbiased HSIC estimates, in [-1, 1]: about 0, on either side, for independent representations.

    HSIC as Song et al. 2012 (eq. 5), the ratio as Nguyen et al. 2021, arXiv 2010.15327. Negative values are returned as
    they are: cutting them off would put the bias back. At least 4 samples.

    Raises:
        StudyError: not the same finite samples, or one side constant but for a single sample.
    """
    a, b = normalized_pair(x, y, 4, dtype)
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
    a, b = normalized_pair(x, y, 4, dtype)
    told = {order_note(each, batch) for each in (a, b)} - {""}
    if told:
        warnings.warn(told.pop(), SortedSamples, stacklevel=2)
    sums = torch.zeros(3, dtype=torch.float64)
    for part in batches(len(a), batch):
        k, m = u_center(gram(a[part])), u_center(gram(b[part]))
        size = len(k)
        sums += torch.stack([(k * m).sum(), (k * k).sum(), (m * m).sum()]).double().cpu() / (size * (size - 3))
    for own, name in ((sums[1], "x"), (sums[2], "y")):
        if own == 0:
            raise ConstantRepresentation(f"{name} is constant within every batch; take larger batches")
    return float(sums[0] / (sums[1].sqrt() * sums[2].sqrt()))


class SortedSamples(UserWarning):
    """Batches that differ more than chance: the samples come in an order, and an estimate within batches misses it."""


def order_note(x: Tensor, batch: int) -> str:
    """What is to be said of centered features (n, p) in this order: nothing, or that their batches differ.

    The share of the variance that lies between the means of batches, against the same share for samples in 200 random
    orders: told where it is larger than in all of them and more than half as large again as in the largest.
    """
    parts = batches(len(x), batch)
    if len(parts) < 2:
        return ""
    x = x.double()
    sizes = torch.tensor([part.stop - part.start for part in parts], dtype=torch.float64, device=x.device)
    member = torch.repeat_interleave(torch.arange(len(parts), device=x.device), sizes.long())

    def between(order: Tensor) -> float:
        sums = torch.zeros(len(parts), x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, member, x[order])
        return float((sums.square().sum(1) / sizes).sum())

    draw = torch.Generator().manual_seed(0)
    own = between(torch.arange(len(x), device=x.device))
    chance = max(between(torch.randperm(len(x), generator=draw).to(x.device)) for _ in range(200))
    if own <= 1.5 * chance:
        return ""
    return (
        f"samples come in an order: {own / float(x.square().sum()):.0%} of the variance lies between batches, where "
        f"chance gives at most {chance / float(x.square().sum()):.0%}; an estimate within batches misses it. Shuffle "
        "the samples, or take cka_debiased of all of them"
    )


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
