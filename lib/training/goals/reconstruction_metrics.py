"""What a reconstruction is worth: PSNR, SSIM and NMSE per slice and per volume, and error where the picture is flat.

The conventions are those of fastMRI (Zbontar et al., arXiv 1811.08839): the range of gray values is the maximum of the
true *volume*, for its slices too, so that slices of one volume are judged alike. All take magnitudes as arrays or
tensors, count in double precision, and give one value per picture, float64 (n,).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

WINDOW = 7  # pixels, of the structural similarity
Images = np.ndarray | Tensor
Peak = float | Sequence[float] | np.ndarray
Values = NDArray[np.float64]


def psnr(prediction: Images, truth: Images, peak: Peak = 1.0) -> Values:
    """Peak signal-to-noise ratio in dB, 10 log10(peak^2 / mean squared error): infinite where both are equal.

    Args:
        prediction, truth: slices (n, h, w), or volumes (n, slices, h, w). peak: range of gray values, one or (n,).
    """
    x, y = _pair(prediction, truth)
    error = (x - y).square().flatten(1).mean(dim=1)
    return (10 * torch.log10(_peak(peak, y).flatten() ** 2 / error)).cpu().numpy()


def nmse(prediction: Images, truth: Images) -> Values:
    """Normalized mean squared error, |prediction - truth|^2 / |truth|^2, of slices or volumes; not in percent."""
    x, y = _pair(prediction, truth)
    return ((x - y).square().flatten(1).sum(dim=1) / y.square().flatten(1).sum(dim=1)).cpu().numpy()


def ssim(prediction: Images, truth: Images, peak: Peak = 1.0) -> Values:
    """Structural similarity of slices (n, h, w), at most 1 (Wang et al., IEEE Trans Image Process 13 (2004) 600).

    A uniform window of 7 x 7 pixels, sample covariances, K1 = 0.01, K2 = 0.03, and the mean over pixels whose window
    lies in the picture: the default of scikit-image, and fastMRI's convention. Published values with a Gaussian window
    are not comparable.

    Raises:
        ValueError: the shapes differ, or a side is shorter than the window.
    """
    x, y = _pair(prediction, truth)
    if y.ndim != 3 or min(y.shape[-2:]) < WINDOW:
        raise ValueError(f"slices must be (n, h, w) of at least {WINDOW} x {WINDOW} pixels, got {tuple(y.shape)}")
    means = F.avg_pool2d(torch.stack([x, y, x * x, y * y, x * y], dim=1), WINDOW, stride=1)
    mean_x, mean_y, square_x, square_y, product = means.unbind(dim=1)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    variance = sample * (square_x - mean_x**2 + square_y - mean_y**2)
    covariance = sample * (product - mean_x * mean_y)
    one, two = ((each * _peak(peak, y)) ** 2 for each in (0.01, 0.03))
    likeness = (2 * mean_x * mean_y + one) * (2 * covariance + two)
    return (likeness / ((mean_x**2 + mean_y**2 + one) * (variance + two))).mean(dim=(-2, -1)).cpu().numpy()


def artifacts(prediction: Images, truth: Images, peak: Peak = 1.0) -> Values:
    """Fine-grained error away from edges of slices (n, h, w), as a fraction of the range: ripples, ghosts, noise.

    Root mean square, over pixels where the truth is flat, of the error less its average over 5 x 5 pixels. Flat is
    where no pixel within one step has a Sobel gradient above 5 % of the range. The definition is ours; NaN where a
    slice has no flat pixel.
    """
    x, y = (each.unsqueeze(1) for each in _pair(prediction, truth))
    span = _peak(peak, y).unsqueeze(1)
    across = torch.tensor([[1.0, 2.0, 1.0]], dtype=y.dtype, device=y.device) / 4
    sobel = across.T @ torch.tensor([[-0.5, 0.0, 0.5]], dtype=y.dtype, device=y.device)
    slopes = F.conv2d(F.pad(y, (1, 1, 1, 1), mode="replicate"), torch.stack([sobel, sobel.T]).unsqueeze(1))
    steep = (slopes.square().sum(dim=1, keepdim=True).sqrt() > 0.05 * span).to(y.dtype)
    flat = 1 - F.max_pool2d(steep, 3, stride=1, padding=1)
    error = x - y
    fine = error - F.avg_pool2d(F.pad(error, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    power = (fine.square() * flat).sum(dim=(-2, -1), keepdim=True) / flat.sum(dim=(-2, -1), keepdim=True)
    return (power.sqrt() / span).flatten().cpu().numpy()


def summarize_images(prediction: Images, truth: Images, ids: Sequence[str], volumes: Sequence[str]) -> dict[str, Any]:
    """Mean scores over volumes, every volume's and every slice's: what `result.json` says under "test".

    PSNR and NMSE of a volume follow from the squared error of all its slices together; its SSIM and artifacts are the
    means over its slices.

    Args:
        prediction, truth: magnitudes (n, h, w). ids, volumes: of each slice.

    Raises:
        ValueError: no slice, shapes that differ, or a true volume that is zero everywhere.
    """
    x, y = _pair(prediction, truth)
    names = list(dict.fromkeys(volumes))
    places = {name: [place for place, each in enumerate(volumes) if each == name] for name in names}
    maximum = {name: float(y[own].max()) for name, own in places.items()}
    if not names or min(maximum.values()) <= 0:
        raise ValueError("at least one slice is needed, and every true volume must have a positive maximum")
    peak = [maximum[name] for name in volumes]
    slices = {
        "psnr": psnr(x, y, peak),
        "ssim": ssim(x, y, peak),
        "nmse": nmse(x, y),
        "artifacts": artifacts(x, y, peak),
    }
    whole: dict[str, list[float]] = {name: [] for name in slices}
    for name, own in places.items():
        whole["psnr"].append(float(psnr(x[own][None], y[own][None], maximum[name])[0]))
        whole["ssim"].append(float(np.mean(slices["ssim"][own])))
        whole["nmse"].append(float(nmse(x[own][None], y[own][None])[0]))
        whole["artifacts"].append(float(np.nanmean(slices["artifacts"][own])))
    return {
        **{metric: float(np.mean(values)) for metric, values in whole.items()},
        "images": len(y),
        "volumes": len(names),
        "per_volume": {"id": names, **whole},
        "per_image": {"id": list(ids), **{metric: values.tolist() for metric, values in slices.items()}},
    }


def _pair(prediction: Images, truth: Images) -> tuple[Tensor, Tensor]:
    x, y = (torch.as_tensor(each).double() for each in (prediction, truth))
    if x.shape != y.shape or y.ndim < 3:
        raise ValueError(
            f"prediction and truth must have one shape (n, h, w), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    return x, y


def _peak(peak: Peak, like: Tensor) -> Tensor:
    """The range as a tensor (n, 1, 1) or (1, 1, 1)."""
    return torch.as_tensor(np.asarray(peak, np.float64), device=like.device).reshape(-1, 1, 1)
