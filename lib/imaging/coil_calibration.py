"""Coil maps from the fully sampled center of measured k-space, and the reconstruction of such data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from lib.imaging import mri
from lib.imaging.kspace import Measured
from lib.imaging.total_variation import total_variation

KERNEL = 6  # samples a side
SIGNAL = 0.02  # of the largest singular value: what lies below counts as noise
INSIDE = 0.9  # of the largest eigenvalue, which is 1 where a pixel lies in the object


class Reconstructions(NamedTuple):
    """Magnitudes float32 (h, w) of one slice, all at the scale where the 99.9th percentile of the last is 1."""

    zero_filled: np.ndarray
    least_squares: np.ndarray
    total_variation: np.ndarray
    maps: np.ndarray


def full_center(mask: np.ndarray) -> int:
    """Side of the largest square of samples, all taken, around the middle of k-space."""
    rows, columns = (length // 2 for length in mask.shape)
    side = 0
    while side + 2 <= min(mask.shape):
        half = side // 2 + 1
        if not mask[rows - half : rows + half, columns - half : columns + half].all():
            break
        side += 2
    return side


def coil_maps_from_center(kspace: np.ndarray, center: int) -> np.ndarray:
    """Sensitivities complex64 (c, h, w) with a sum of squares of 1, and 0 outside the object (ESPIRiT).

    Patches of the center of k-space span a small space; in every pixel, the coils' sensitivities are the eigenvector of
    the projection onto it whose eigenvalue is 1 (Uecker et al., Magn Reson Med 71 (2014) 990). The phase is relative to
    the coil that sees the most.

    Args:
        kspace: complex (c, h, w), of which the middle (center, center) is sampled fully.
    """
    coils, height, width = kspace.shape
    top, left = height // 2 - center // 2, width // 2 - center // 2
    middle = kspace[:, top : top + center, left : left + center].astype(np.complex128)
    patches = sliding_window_view(middle, (KERNEL, KERNEL), axis=(1, 2)).transpose(1, 2, 0, 3, 4)
    _, strength, space = np.linalg.svd(patches.reshape(-1, coils * KERNEL**2), full_matrices=False)
    kernels = space[strength > SIGNAL * strength[0]].reshape(-1, coils, KERNEL, KERNEL)
    gram = np.zeros((height, width, coils, coils), np.complex128)
    for kernel in kernels:
        field = np.zeros((coils, height, width), np.complex128)
        y, x = height // 2 - KERNEL // 2, width // 2 - KERNEL // 2
        field[:, y : y + KERNEL, x : x + KERNEL] = kernel
        seen = mri.ifft2c(torch.from_numpy(field)).numpy() * np.sqrt(height * width) / KERNEL
        gram += np.einsum("ahw,bhw->hwab", seen, seen.conj())
    values, vectors = np.linalg.eigh(gram)
    maps = vectors[..., -1].transpose(2, 0, 1)
    strongest = int((np.abs(middle) ** 2).sum(axis=(1, 2)).argmax())
    maps = maps * np.exp(-1j * np.angle(maps[strongest]))
    return (maps * (values[..., -1] > INSIDE * values[..., -1].max())).astype(np.complex64)


def reconstruct(measured: Measured, *, weight: float = 0.002) -> Reconstructions:
    """A slice from measured samples: zero-filled, by least squares (SENSE), and with total variation.

    Coil maps come from the fully sampled center; one coil has a map of ones. Least squares takes the conjugate
    gradients of `lib.imaging.mri` from the zero-filled image. Without a full reference nothing here can be scored.

    Args:
        weight: of the total variation, where the zero-filled image reaches 1; chosen by eye on the 8-coil brain.
    """
    coils = len(measured.kspace)
    maps = np.ones_like(measured.kspace) if coils == 1 else coil_maps_from_center(
        measured.kspace, full_center(measured.mask)
    )  # fmt: skip
    kspace, views = torch.from_numpy(measured.kspace)[None], torch.from_numpy(maps)
    mask = torch.from_numpy(measured.mask)[None, None]
    start = mri.adjoint(kspace, views, mask)
    kspace = kspace / start.abs().max()
    start = start / start.abs().max()
    found = (
        start,
        mri.hard_consistency(start, kspace, views, mask),
        total_variation(kspace, views, mask, weight),
    )
    images = [image[0].abs().numpy() for image in found]
    return Reconstructions(*(_scaled(image, images[-1]) for image in images), maps=maps)


def _scaled(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return (image / np.percentile(reference, 99.9)).astype(np.float32)
