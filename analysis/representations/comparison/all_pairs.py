"""All pairs of many representations at once, in bounded memory: the arithmetic behind `comparison.compare`.

Where a measure is the cosine of two vectors, each made from one representation, all pairs are one matrix product;
where it needs a small decomposition for every pair, pairs of one shape are decomposed together; any other measure of
the catalog is computed pair by pair. `compare` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from analysis.representations.measures.catalog import Measure
from analysis.representations.measures.gram import squared_distances, u_center, upper

SQRT2 = 2.0**0.5


def signature(kind: str, k: Tensor) -> Tensor:
    """Vectors (..., m) whose inner products are those that a measure takes of centered Gram matrices (..., n, n).

    Args:
        kind: `cka`, `cka_debiased` (the unbiased HSIC up to a factor) or `rsa` (centered ranks of distances).
    """
    n = k.shape[-1]
    if kind == "cka":
        row, column = upper(n, diagonal=True, device=k.device)
        return k[..., row, column] * (1 + (row != column).to(k) * (SQRT2 - 1))
    row, column = upper(n, diagonal=False, device=k.device)
    if kind == "cka_debiased":
        return u_center(k)[..., row, column] * SQRT2
    ranks = rankdata(squared_distances(k)[..., row, column].cpu().numpy(), axis=-1)
    return torch.from_numpy(ranks - ranks.mean(-1, keepdims=True)).to(k)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines (A, B) of all pairs of rows of (A, m) and (B, m); the norms are taken out first, so nothing overflows."""
    left = a / a.norm(dim=1, keepdim=True)
    return left @ (left if b is a else b / b.norm(dim=1, keepdim=True)).mT


def width_groups(widths: Sequence[int], most: int) -> list[slice]:
    """Runs of neighbors whose widths sum to at most `most`, or single ones that are wider."""
    found, first, total = [], 0, 0
    for at, width in enumerate(widths):
        if at > first and total + width > most:
            found.append(slice(first, at))
            first, total = at, 0
        total += width
    return [*found, slice(first, len(widths))]


def products(left: Sequence[Tensor], right: Sequence[Tensor], budget: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Products x' y of all pairs of (n, p) by (n, q), as one matrix for a group of `left` by a group of `right`.

    With `right` the same list as `left`, groups below the diagonal are left out.

    Args:
        budget: bytes that a group's stacked features and product may take.
    """
    n, element = len(left[0]), left[0].element_size()
    # two stacks (n, w) and a product (w, w) that is squared once
    most = max(1, int((n**2 + budget / element / 2) ** 0.5 - n))
    for rows in width_groups([each.shape[1] for each in left], most):
        stacked = torch.cat(list(left[rows]), 1)
        for columns in width_groups([each.shape[1] for each in right], most):
            if right is left and columns.stop <= rows.start:
                continue
            same = right is left and rows == columns
            yield rows, columns, stacked.mT @ (stacked if same else torch.cat(list(right[columns]), 1))


def square_norms(left: Sequence[Tensor], right: Sequence[Tensor], budget: int) -> Tensor:
    """|x' y|_F^2 of all pairs, (A, B), in feature space."""
    found = left[0].new_zeros(len(left), len(right))
    for rows, columns, product in products(left, right, budget):
        square = product.square_()
        high = torch.stack([each.sum(0) for each in square.split([x.shape[1] for x in left[rows]])])
        sums = torch.stack([each.sum(1) for each in high.split([y.shape[1] for y in right[columns]], 1)], 1)
        found[rows, columns] = sums
        if right is left:
            found[columns, rows] = sums.mT
    return found


def decompositions(
    left: Sequence[Tensor],
    right: Sequence[Tensor],
    value: Callable[[Tensor, Sequence[tuple[int, int]]], Tensor],
    budget: int,
    report: Callable[[float], None] | None = None,
) -> Tensor:
    """A value for all pairs, (A, B), from x' y (p, q): pairs of one shape go to `value` together.

    Args:
        value: gets products (pairs, p, q) and the pairs' places (row, column); returns (pairs,). Where `right` is the
            same list as `left`, it is asked only once for (i, j) and (j, i).
        report: gets the share that is done.
    """
    found = left[0].new_zeros(len(left), len(right))
    for rows, columns, product in products(left, right, budget):
        by_shape: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for i in range(*rows.indices(len(left))):
            for j in range(*columns.indices(len(right))):
                if right is not left or j >= i:
                    by_shape.setdefault((left[i].shape[1], right[j].shape[1]), []).append((i, j))
        row_at = _starts(left, rows)
        column_at = _starts(right, columns)
        for (p, q), places in by_shape.items():
            blocks = [product[row_at[i] : row_at[i] + p, column_at[j] : column_at[j] + q] for i, j in places]
            values = value(torch.stack(blocks), places)
            index = torch.tensor(places, device=found.device).mT
            found[index[0], index[1]] = values
            if right is left:
                found[index[1], index[0]] = values
        if report:
            report((rows.start + (rows.stop - rows.start) * columns.stop / len(right)) / len(left))
    return found


def _starts(matrices: Sequence[Tensor], part: slice) -> dict[int, int]:
    """Where the columns of each matrix of a group begin in their stack."""
    widths = [matrices[at].shape[1] for at in range(part.start, part.stop)]
    return dict(zip(range(part.start, part.stop), np.cumsum([0, *widths[:-1]]).tolist(), strict=True))


def one_by_one(
    left: Sequence[Tensor],
    right: Sequence[Tensor],
    measure: Measure,
    seed: int,
    report: Callable[[float], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Values and chance levels (rows, columns) of a measure that has no faster form, a pair at a time.

    The chance level is the value with the samples of the right side shuffled once, and 0 for an unbiased measure.
    """
    values = torch.zeros(len(left), len(right), dtype=torch.float64)
    chance = torch.zeros_like(values)
    for row, x in enumerate(left):
        shuffle = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
        for column, y in enumerate(right):
            values[row, column] = measure(x, y)
            if not measure.unbiased:
                chance[row, column] = measure(x, y[shuffle])
            if report:
                report((row + (column + 1) / len(right)) / len(left))
    return values, chance
