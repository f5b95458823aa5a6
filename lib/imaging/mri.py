"""Magnetic resonance imaging as linear algebra: Fourier transform, coils, sampling, the operator and its adjoint.

An image is complex (n, h, w), k-space is complex (n, c, h, w) for c coils, and the phase-encoding direction, along
which lines are left out, is the last one. One coil is one map of ones. Everything works in single and double precision,
on any device, and gradients pass through.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lib.common.errors import StudyError
from lib.common.registry import Registry
from lib.common.seeding import generator

Seed = int | tuple[int, ...]  # of an item: one number, or several such as (seed, step, place)
CONJUGATE_STEPS = 10  # of the multi-coil consistency; see `hard_consistency`


def fft2c(image: Tensor) -> Tensor:
    """Centered orthonormal 2-D Fourier transform over the last two dimensions; the middle is at (h//2, w//2)."""
    plane = (-2, -1)
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, dim=plane), norm="ortho"), dim=plane)


def ifft2c(kspace: Tensor) -> Tensor:
    """Inverse of `fft2c`, which is also its adjoint."""
    plane = (-2, -1)
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, dim=plane), norm="ortho"), dim=plane)


def coil_maps(count: int, size: int | tuple[int, int], *, seed: Seed) -> Tensor:
    """Simulated sensitivities, complex64 (count, h, w), smooth, with a sum of squared magnitudes of 1 in every pixel.

    Loops of wire stand around the field of view at slightly irregular angles and distances. The magnitude of each
    falls like the field on the axis of a loop, (1 + (d/r)^2)^(-3/2); its phase turns with the direction to the loop.
    One coil has a map of ones.

    Raises:
        StudyError: fewer than one coil.
    """
    if count < 1:
        raise StudyError(f"count of coils must be at least 1, got {count}")
    height, width = _shape(size)
    if count == 1:
        return torch.ones(1, height, width, dtype=torch.complex64)
    rng = np.random.default_rng(seed)
    y, x = _grid(height, width)
    angle = 2 * np.pi * (np.arange(count) + rng.uniform() + rng.uniform(-0.15, 0.15, count)) / count
    away, radius = rng.uniform(1.65, 1.9, count), rng.uniform(0.7, 1.0, count)  # a corner is 1.41 from the middle
    offset = rng.uniform(-np.pi, np.pi, count)
    to_y = y - (away * np.sin(angle))[:, None, None]
    to_x = x - (away * np.cos(angle))[:, None, None]
    strength = (1 + (to_y**2 + to_x**2) / radius[:, None, None] ** 2) ** -1.5
    inward = np.exp(1j * (offset - angle))[:, None, None]  # turns by less than half a circle, so no seam is in view
    maps = strength * inward * (to_x + 1j * to_y) / np.hypot(to_y, to_x)
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    return torch.from_numpy(maps.astype(np.complex64))


def smooth_phase(size: int | tuple[int, int], *, seed: Seed) -> Tensor:
    """Simulated phase of an image, complex64 (h, w) of unit modulus: a random polynomial of degree 3 over the picture.

    It stands for what field inhomogeneity and coils leave in a measured image. Magnitude images have lost theirs.
    """
    rng = np.random.default_rng(seed)
    y, x = _grid(*_shape(size))
    phase = np.full(y.shape, rng.uniform(-np.pi, np.pi))
    for degree, spread in ((1, 1.0), (2, 0.8), (3, 0.5)):
        for power in range(degree + 1):
            phase += rng.normal(0, spread) * x**power * y ** (degree - power)
    return torch.from_numpy(np.exp(1j * phase).astype(np.complex64))


def complex_noise(shape: tuple[int, ...], *, sigma: float, seed: Seed) -> Tensor:
    """Receiver noise, complex64: real and imaginary part are independent normals of standard deviation `sigma` each."""
    key = seed if isinstance(seed, tuple) else (seed,)
    parts = torch.randn(*shape, 2, generator=generator(*key, 0x4015E))
    return torch.view_as_complex(parts) * sigma


SAMPLING: Registry[Callable[[np.random.Generator, np.ndarray, int, int], np.ndarray]] = Registry("sampling")


def sampling_mask(kind: str, lines: int, *, acceleration: float, seed: Seed, center: float | None = None) -> Tensor:
    """Which lines of k-space are measured, bool (lines,): a full band in the middle and a choice among the others.

    Args:
        kind: key of `SAMPLING`: `random` (all others alike), `equispaced` (regular, at a random offset) or `gaussian`
            (denser toward the middle).
        acceleration: exactly round(lines / acceleration) lines are measured, those of the band among them.
        seed: of the item; the mask is a pure function of the arguments.
        center: fraction of the lines in the band, which has at least one; None takes 0.32 / acceleration, which is
            the 8 % at rate 4 and 4 % at rate 8 of fastMRI (Zbontar et al., arXiv 1811.08839).

    Raises:
        StudyError: unknown kind, a center outside 0 to 1, a rate below 1 or so high that the band does not fit.
    """
    choose = SAMPLING[kind]
    if not 1 <= acceleration <= lines:
        raise StudyError(f"acceleration must be between 1 and the number of lines ({lines}), got {acceleration}")
    if center is not None and not 0 <= center <= 1:
        raise StudyError(f"center must be a fraction of the lines, 0 to 1, got {center}")
    total = round(lines / acceleration)
    band = max(1, round(lines * (0.32 / acceleration if center is None else center)))
    if band > total:
        raise StudyError(
            f"a center of {band} lines does not fit into the {total} of {lines} lines measured at acceleration "
            f"{acceleration}; lower center (now {center})"
        )
    mask = np.zeros(lines, bool)
    first = lines // 2 - band // 2
    mask[first : first + band] = True
    others = np.flatnonzero(~mask)
    mask[choose(np.random.default_rng(seed), others, total - band, lines)] = True
    return torch.from_numpy(mask)


def _random(rng: np.random.Generator, others: np.ndarray, count: int, lines: int) -> np.ndarray:
    return rng.permutation(others)[:count]


def _equispaced(rng: np.random.Generator, others: np.ndarray, count: int, lines: int) -> np.ndarray:
    return others[((np.arange(count) + rng.uniform()) * len(others) / max(count, 1)).astype(int)]


def _gaussian(rng: np.random.Generator, others: np.ndarray, count: int, lines: int) -> np.ndarray:
    """Without replacement, with a density of standard deviation lines / 6 (Efraimidis and Spirakis, 2006)."""
    away = (others - lines // 2) / (lines / 6)
    keys = rng.standard_exponential(len(others)) * np.exp(away**2 / 2)
    return others[np.argsort(keys)[:count]]


SAMPLING.add("random", _random)
SAMPLING.add("equispaced", _equispaced)
SAMPLING.add("gaussian", _gaussian)


def forward(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """K-space (n, c, h, w) of images (n, h, w): each coil's view, transformed, with zeros where nothing is measured.

    Args:
        maps: sensitivities (c, h, w) for all images, or (n, c, h, w).
        mask: measured lines (w,) for all images, or (n, w); or a plane of samples that broadcasts to (n, c, h, w).
    """
    return fft2c(maps * image.unsqueeze(-3)) * _lines(mask)


def adjoint(kspace: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """Adjoint of `forward`: images (n, h, w) from k-space (n, c, h, w); of measured k-space, the zero-filled image."""
    return (maps.conj() * ifft2c(kspace * _lines(mask))).sum(dim=-3)


def normal(image: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """The adjoint of the forward operator applied to its result, (n, h, w), in less time: the shifts cancel out."""
    plane = torch.fft.ifftshift(_lines(mask), dim=(-2, -1))  # one row stands for all in a mask of lines
    kspace = torch.fft.fft2(maps * image.unsqueeze(-3), norm="ortho") * plane
    return (maps.conj() * torch.fft.ifft2(kspace, norm="ortho")).sum(dim=-3)


def hard_consistency(image: Tensor, kspace: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """The image (n, h, w) nearest to `image` whose measured samples are those of `kspace`.

    With one coil this is exact: measured samples are put in place of the image's. With several there is no such
    replacement; `CONJUGATE_STEPS` conjugate-gradient steps on the least-squares problem, begun at `image`, come close.
    """
    rest = adjoint(kspace - forward(image, maps, mask), maps, mask)
    if maps.shape[-3] == 1:
        return image + rest
    return image + _solve(lambda z: normal(z, maps, mask), rest)


def soft_consistency(image: Tensor, kspace: Tensor, maps: Tensor, mask: Tensor, weight: Tensor | float) -> Tensor:
    """The image z (n, h, w) that minimizes |z - image|^2 + weight |forward(z) - kspace|^2.

    `weight`, a number or a tensor that may be learned, is at least 0: nothing changes at 0, and the limit is
    `hard_consistency`. With one coil the solution is exact (Schlemper et al., arXiv 1704.02422); with several it takes
    `CONJUGATE_STEPS` conjugate-gradient steps (Aggarwal et al., MoDL, arXiv 1712.02862).
    """
    rest = adjoint(kspace - forward(image, maps, mask), maps, mask)
    if maps.shape[-3] == 1:
        return image + weight / (1 + weight) * rest
    return image + _solve(lambda z: z + weight * normal(z, maps, mask), weight * rest)


def _solve(operator: Callable[[Tensor], Tensor], right: Tensor) -> Tensor:
    """Conjugate gradients from zero for a positive semidefinite operator on images (n, h, w), each on its own."""
    solution, residual = torch.zeros_like(right), right
    direction, power = residual, _power(residual)
    floor = torch.finfo(power.dtype).tiny
    for _ in range(CONJUGATE_STEPS):
        image = operator(direction)
        length = power / (direction.conj() * image).real.sum(dim=(-2, -1), keepdim=True).clamp_min(floor)
        solution, residual = solution + length * direction, residual - length * image
        before, power = power, _power(residual)
        direction = residual + power / before.clamp_min(floor) * direction
    return solution


def _power(image: Tensor) -> Tensor:
    return (image.real**2 + image.imag**2).sum(dim=(-2, -1), keepdim=True)


def _lines(mask: Tensor) -> Tensor:
    """A mask of lines as a factor of k-space: (w,) and (n, w) get the dimensions they lack."""
    return mask[..., None, None, :] if mask.ndim <= 2 else mask


def _shape(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centers (y, x) of a picture whose sides go from -1 to 1."""
    y, x = ((np.arange(points) + 0.5) / points * 2 - 1 for points in (height, width))
    return np.meshgrid(y, x, indexing="ij")[0], np.meshgrid(y, x, indexing="ij")[1]
