"""What every measure stands on: checked, centered representations and their Gram matrices.

A representation is a matrix (n, p): n samples (images, or positions in images) by p features. Everything here is
float64 unless it is told otherwise, and nothing is clamped or padded with an epsilon.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from lib.common.errors import StudyError


class ConstantRepresentation(StudyError):
    """A representation that is the same for every sample (a dead layer): its similarity to anything is undefined."""


def checked(x: Any, name: str) -> Tensor:
    """`x` as a float64 matrix (n, p).

    Args:
        x: a tensor on any device (sparse and quantized ones are unpacked), an array of any layout and byte order, a
            table of numbers, or a list of rows.

    Raises:
        StudyError: it is not a matrix of numbers, is empty, hides values under a mask, or holds NaN or infinities.
    """
    matrix = _tensor(x, name)
    if matrix.ndim != 2 or 0 in matrix.shape or matrix.is_complex():
        raise StudyError(
            f"{name} must be a real matrix of samples by features, got {matrix.dtype} of shape "
            f"{tuple(matrix.shape)}; see analysis.representations.Reduction for ways to reduce maps to vectors"
        )
    matrix = matrix.detach().to(torch.float64)
    # one sum tells, and costs no memory; only where it is not finite are the values looked at one by one
    if not matrix.sum().isfinite() and not matrix.isfinite().all():
        rows = (~matrix.isfinite().all(1)).nonzero()[:, 0].tolist()
        raise StudyError(
            f"{name} must be finite, got NaN or infinity in {len(rows)} of {len(matrix)} samples, the first of them "
            f"{rows[0]}; look for the layer that overflows, or leave a diverged run out"
        )
    return matrix


def _tensor(x: Any, name: str) -> Tensor:
    """Whatever holds numbers, as a tensor of those numbers."""
    if isinstance(x, Tensor):
        if x.is_meta:
            raise StudyError(f"{name} is a tensor on the device meta, which holds a shape and no numbers")
        x = x.dequantize() if x.is_quantized else x
        return x.to_dense() if x.layout != torch.strided else x
    if isinstance(x, list | tuple) and x and all(isinstance(each, Tensor) for each in x):
        x = [_tensor(each, name).detach().cpu().numpy() for each in x]
    if sparse.issparse(x):
        x = cast(Any, x).toarray()
    if np.ma.isMaskedArray(x) and np.ma.getmaskarray(x).any():
        hidden = int(np.ma.getmaskarray(x).sum())
        raise StudyError(f"{name} hides {hidden} values under a mask; leave those samples out, or fill them")
    try:
        array = np.asarray(x)
    except ValueError as error:  # rows of different lengths
        kind = type(x).__name__
        raise StudyError(f"{name} must be a real matrix of samples by features, got a {kind}: {error}") from error
    if array.dtype.kind not in "biuf":
        kind = f"{type(x).__name__} of {array.dtype}"
        raise StudyError(f"{name} must be a real matrix of samples by features, got a {kind}; convert it to numbers")
    return torch.from_numpy(array.astype(np.float64))  # a copy in native order, whatever the view was


def checked_pair(x: Any, y: Any, least: int) -> tuple[Tensor, Tensor]:
    """Two checked representations of the same samples, at least `least` of them."""
    a, b = checked(x, "x"), checked(y, "y")
    if len(a) != len(b):
        raise StudyError(f"x and y must hold the same samples in the same order, got {len(a)} and {len(b)} rows")
    if len(a) < least:
        raise StudyError(f"this measure needs at least {least} samples, got {len(a)}")
    return a, b


def centered(x: Tensor) -> Tensor:
    """Features (n, p) at mean 0 over the samples, and exactly 0 where a feature is constant.

    The first sample is subtracted before the mean: a constant then vanishes without a rounding error, and an offset of
    many standard deviations costs no digits but those it cost when the features were stored.
    """
    moved = x - x[:1]
    return moved.sub_(moved.mean(0))


def normalized(x: Tensor, name: str) -> Tensor:
    """Centered features; very large and very small ones divided by a power of two near their largest absolute value.

    Similarity does not depend on scale; products of four factors do overflow or underflow. Powers of two round nothing.

    Raises:
        ConstantRepresentation: there is nothing left after centering.
    """
    moved = centered(x)
    low, high = (float(each) for each in torch.aminmax(moved))
    largest = max(-low, high)
    if largest == 0:
        raise ConstantRepresentation(
            f"{name} is the same for all {len(x)} samples (a dead or constant layer), so that its similarity to "
            "anything is undefined; leave the layer out, or look at why it died"
        )
    exponent = -math.frexp(largest)[1]
    if abs(exponent) <= 20:  # safe to the fourth power, in float32 too
        return moved
    half = exponent // 2  # in two factors, because one power of two could overflow where its square root does not
    return moved.mul_(2.0**half).mul_(2.0 ** (exponent - half))


def gram(x: Tensor) -> Tensor:
    """Gram matrices (..., n, n) of features (..., n, p)."""
    return x @ x.mT


def tall_gram(x: Tensor, block: int = 64) -> Tensor:
    """The Gram matrix of many features (n, p).

    On a CPU in blocks: those above the diagonal are copied, not computed. A GPU takes longer to be told of the blocks.
    """
    if x.device.type != "cpu":
        return gram(x)
    n = len(x)
    k = x.new_empty(n, n)
    for low in range(0, n, block):
        rows = slice(low, min(low + block, n))
        k[rows, : rows.stop] = x[rows] @ x[: rows.stop].mT
        k[: rows.start, rows] = k[rows, : rows.start].mT
    return k


def center_gram(k: Tensor) -> Tensor:
    """Gram matrices (..., n, n) as if their features had been centered."""
    rows = k.mean(-1, keepdim=True)
    return k - rows - rows.mT + rows.mean(-2, keepdim=True)


def u_center(k: Tensor) -> Tensor:
    """U-centered Gram matrices (..., n, n): zero diagonal, zero row sums, n at least 4 (Székely and Rizzo 2014).

    Their inner product over n (n - 3) is the unbiased HSIC (Song et al. 2012, eq. 5): its mean is zero for independent
    representations, whatever the number of features. Features need no centering beforehand.
    """
    n = k.shape[-1]
    k = k.clone()
    k.diagonal(dim1=-2, dim2=-1).zero_()
    rows = k.sum(-1, keepdim=True) / (n - 2)
    k = k - rows - rows.mT + rows.sum(-2, keepdim=True) / (n - 1)
    k.diagonal(dim1=-2, dim2=-1).zero_()
    return k


def squared_distances(k: Tensor) -> Tensor:
    """Squared Euclidean distances (..., n, n) between the samples behind Gram matrices."""
    diagonal = k.diagonal(dim1=-2, dim2=-1)
    return diagonal.unsqueeze(-1) + diagonal.unsqueeze(-2) - 2 * k


def upper(n: int, *, diagonal: bool, device: Any = None) -> Tensor:
    """Indices (2, m) of the upper triangle of an (n, n) matrix."""
    return torch.triu_indices(n, n, 0 if diagonal else 1, device=device)


def pack(k: Tensor) -> Tensor:
    """The upper triangles (..., n (n + 1) / 2) of symmetric matrices (..., n, n)."""
    row, column = upper(k.shape[-1], diagonal=True, device=k.device)
    return k[..., row, column]


def unpack(packed: Tensor) -> Tensor:
    """Symmetric matrices (..., n, n) from their upper triangles."""
    n = int(((8 * packed.shape[-1] + 1) ** 0.5 - 1) / 2)
    row, column = upper(n, diagonal=True, device=packed.device)
    k = packed.new_empty(*packed.shape[:-1], n, n)
    k[..., row, column] = packed
    k[..., column, row] = packed
    return k


def normalized_pair(x: Any, y: Any, least: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    a, b = checked_pair(x, y, least)
    return normalized(a, "x").to(dtype), normalized(b, "y").to(dtype)
