"""Eigenvalues of Gaussian random matrices, by simulation that costs little at any size, and their limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh_tridiagonal

Floats = NDArray[np.float64]


def tridiagonal(rows: int, columns: int, draws: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Diagonals (draws, n) and (draws, n - 1), n = min(rows, columns), of random tridiagonal matrices whose
    eigenvalues are distributed exactly as those of M M^T, M (rows, columns) with independent N(0, 1) entries
    (Dumitriu and Edelman, math-ph/0206043): O(n) random numbers instead of rows * columns.
    """
    n, dof = min(rows, columns), max(rows, columns)
    x2 = rng.chisquare(dof - np.arange(n), size=(draws, n))
    y2 = rng.chisquare(np.arange(n - 1, 0, -1), size=(draws, n - 1))
    diagonal = x2.copy()
    diagonal[:, 1:] += y2
    return diagonal, np.sqrt(x2[:, :-1] * y2)


def eigenvalues(rows: int, columns: int, draws: int, rng: np.random.Generator) -> Floats:
    """Eigenvalues of `draws` random M M^T, ascending, (draws, min(rows, columns)); see `tridiagonal`."""
    diagonal, beside = tridiagonal(rows, columns, draws, rng)
    n = diagonal.shape[1]
    if n <= 32:  # many small matrices in one call
        dense = np.zeros((draws, n, n))
        steps = np.arange(n)
        dense[:, steps, steps] = diagonal
        dense[:, steps[1:], steps[:-1]] = beside  # eigvalsh reads the lower triangle
        return np.asarray(np.linalg.eigvalsh(dense), dtype=np.float64)
    return np.stack([eigvalsh_tridiagonal(d, e) for d, e in zip(diagonal, beside, strict=True)])


def beyond(diagonal: Floats, beside: Floats, edge: Floats) -> Floats:
    """Sum of how far the eigenvalues of each tridiagonal matrix exceed its edge, (draws,).

    Where none does, what the largest one lacks, as a negative number: in small matrices that is the rule, and a test
    in which most draws tie at zero could not reject as often as it says.

    Args:
        diagonal: (draws, n), and `beside` (draws, n - 1).
        edge: (draws,).
    """
    count = int(_above(diagonal.T, beside.T**2, edge[None])[0].max())
    return _excess(largest(diagonal, beside, max(1, count)) - edge)


def exceeding(values: Floats, edge: float) -> float:
    """The same of one list of eigenvalues."""
    return float(_excess(np.sort(values)[::-1, None] - edge)[0])


def _excess(over: Floats) -> Floats:
    """Sum of what is above zero, descending along the first axis; where nothing is, the first."""
    return np.where(over[0] > 0, np.maximum(over, 0.0).sum(axis=0), over[0])


def largest(diagonal: Floats, beside: Floats, count: int) -> Floats:
    """The `count` largest eigenvalues of many tridiagonal matrices, descending, (count, draws); error below 1e-6.

    By bisection on the number of eigenvalues above a point, for all matrices at once.
    """
    d, e = np.ascontiguousarray(diagonal.T), np.ascontiguousarray(beside.T)
    radius = np.zeros_like(d)
    radius[:-1] += e
    radius[1:] += e
    low = np.zeros((min(count, len(d)), d.shape[1]))
    high = np.broadcast_to((d + radius).max(axis=0), low.shape).copy()  # Gershgorin
    for _ in range(24):
        middle = (low + high) / 2
        enough = _above(d, e**2, middle) > np.arange(len(low))[:, None]
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return (low + high) / 2


def _above(d: Floats, e2: Floats, points: Floats) -> NDArray[np.int32]:
    """Eigenvalues above points (k, draws), counted by a Sturm sequence; d (n, draws), e2 (n - 1, draws)."""
    pivot = d[0] - points
    count = (pivot > 0).astype(np.int32)
    for row in range(1, len(d)):
        pivot = d[row] - points - e2[row - 1] / np.where(pivot == 0, 1e-300, pivot)
        count += pivot > 0
    return count


def squared_singular_values(matrix: Floats) -> Floats:
    """Of (rows, columns): min(rows, columns) of them, ascending."""
    short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return np.maximum(np.linalg.eigvalsh(short @ short.T), 0.0, dtype=np.float64)


def marchenko_pastur_edges(rows: int, columns: int) -> tuple[float, float]:
    """Where the eigenvalues of M M^T / columns lie in the limit of large M with N(0, 1) entries, rows <= columns.

    Marchenko and Pastur (1967): between (1 -+ sqrt(rows / columns))^2.
    """
    ratio = min(rows, columns) / max(rows, columns)
    return (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2


def marchenko_pastur_density(x: Floats, rows: int, columns: int) -> Floats:
    """Density of those eigenvalues at `x`, for figures; its integral is 1."""
    ratio = min(rows, columns) / max(rows, columns)
    low, high = marchenko_pastur_edges(rows, columns)
    inside = np.clip(x - low, 0.0, None) * np.clip(high - x, 0.0, None)
    return np.sqrt(inside) / (2 * np.pi * ratio * np.where(inside > 0, x, 1.0))


def effective_rank(spectrum: Floats) -> Floats:
    """exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007); last axis; 1 to n.

    Args:
        spectrum: eigenvalues of M M^T, (..., n). NaN where all are zero.
    """
    values = np.sqrt(np.maximum(spectrum, 0.0))
    total = values.sum(axis=-1, keepdims=True)
    share = np.divide(values, total, out=np.full_like(values, np.nan), where=total > 0)
    return np.exp(-(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=-1))
