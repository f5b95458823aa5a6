"""What a reconstruction is worth: PSNR, SSIM and NMSE per slice and per volume, and error where the picture is flat.

The conventions are those of fastMRI (Zbontar et al., arXiv 1811.08839): the range of gray values is the maximum of the
true *volume*, for its slices too, so that slices of one volume are judged alike. All take magnitudes, float (n, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 7  # pixels, of the structural similarity


def psnr(prediction: Tensor, truth: Tensor, peak: Tensor | float) -> Tensor:
    """Peak signal-to-noise ratio in dB of every slice, (n,): 10 log10(peak^2 / mean squared error); infinite if equal.

    Args:
        prediction, truth: (n, h, w). peak: range of gray values, one number or (n,).
    """
    _check(prediction, truth)
    error = (prediction - truth).double().square().mean(dim=(-2, -1))
    return 10 * torch.log10(torch.as_tensor(peak, dtype=torch.float64, device=error.device) ** 2 / error)


def nmse(prediction: Tensor, truth: Tensor) -> Tensor:
    """Normalized mean squared error of every slice, (n,): |prediction - truth|^2 / |truth|^2, not in percent."""
    _check(prediction, truth)
    error, power = ((each.double().square().sum(dim=(-2, -1))) for each in (prediction - truth, truth))
    return error / power


def ssim(prediction: Tensor, truth: Tensor, peak: Tensor | float) -> Tensor:
    """Structural similarity of every slice, (n,), at most 1 (Wang et al., IEEE Trans Image Process 13 (2004) 600).

    A uniform window of 7 x 7 pixels, sample covariances, K1 = 0.01, K2 = 0.03, and the mean over pixels whose window
    lies in the picture: the default of scikit-image, and fastMRI's convention. Published values with a Gaussian window
    are not comparable.

    Raises:
        ValueError: the shapes differ, or a side is shorter than the window.
    """
    _check(prediction, truth)
    if min(truth.shape[-2:]) < WINDOW:
        raise ValueError(f"slices must be at least {WINDOW} x {WINDOW} pixels, got {tuple(truth.shape[-2:])}")
    x, y = prediction.double(), truth.double()
    area = WINDOW**2
    means = F.avg_pool2d(torch.stack([x, y, x * x, y * y, x * y], dim=1), WINDOW, stride=1)
    mean_x, mean_y, square_x, square_y, product = means.unbind(dim=1)
    sample = area / (area - 1)
    variance = sample * (square_x - mean_x**2 + square_y - mean_y**2)
    covariance = sample * (product - mean_x * mean_y)
    span = torch.as_tensor(peak, dtype=torch.float64, device=x.device).reshape(-1, 1, 1)
    one, two = (0.01 * span) ** 2, (0.03 * span) ** 2
    likeness = (2 * mean_x * mean_y + one) * (2 * covariance + two)
    return (likeness / ((mean_x**2 + mean_y**2 + one) * (variance + two))).mean(dim=(-2, -1))


def artifacts(prediction: Tensor, truth: Tensor, peak: Tensor | float) -> Tensor:
    """Fine-grained error away from edges, (n,), as a fraction of the range: what looks like ripple, ghost or noise.

    Root mean square, over pixels where the truth is flat, of the error less its average over 5 x 5 pixels. Flat is
    where no pixel within one step has a Sobel gradient above 5 % of the range. The definition is ours; NaN where a
    slice has no flat pixel.
    """
    _check(prediction, truth)
    x, y = prediction.double().unsqueeze(1), truth.double().unsqueeze(1)
    span = torch.as_tensor(peak, dtype=torch.float64, device=x.device).reshape(-1, 1, 1, 1)
    row = torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64, device=x.device) / 4
    kernel = row.T @ torch.tensor([[-0.5, 0.0, 0.5]], dtype=torch.float64, device=x.device)
    slopes = F.conv2d(F.pad(y, (1, 1, 1, 1), mode="replicate"), torch.stack([kernel, kernel.T]).unsqueeze(1))
    steep = (slopes.square().sum(dim=1, keepdim=True).sqrt() > 0.05 * span).double()
    flat = 1 - F.max_pool2d(steep, 3, stride=1, padding=1)
    error = x - y
    fine = error - F.avg_pool2d(F.pad(error, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    mean = (fine.square() * flat).sum(dim=(-2, -1)) / flat.sum(dim=(-2, -1))
    return (mean.sqrt() / span[:, :, 0])[:, 0, 0]


def volume_peaks(truth: Tensor, volumes: Sequence[str]) -> Tensor:
    """The maximum of the volume that each slice of (n, h, w) belongs to, float64 (n,)."""
    peak = torch.empty(len(truth), dtype=torch.float64, device=truth.device)
    for name in dict.fromkeys(volumes):
        own = [place for place, each in enumerate(volumes) if each == name]
        peak[own] = truth[own].max().double()
    return peak


def summarize_images(prediction: Tensor, truth: Tensor, ids: Sequence[str], volumes: Sequence[str]) -> dict[str, Any]:
    """Mean scores over volumes, every volume's and every slice's: what `result.json` says under "test".

    The PSNR and NMSE of a volume follow from the squared error of all its slices together; its SSIM and artifacts are
    the means over its slices.

    Args:
        prediction, truth: magnitudes (n, h, w). ids, volumes: of each slice.

    Raises:
        ValueError: the shapes differ, or a truth is zero everywhere in a volume, so that nothing can be relative to it.
    """
    peak = volume_peaks(truth, volumes)
    if not len(truth) or bool((peak <= 0).any()):
        raise ValueError("at least one slice is needed, and every true volume must have a positive maximum")
    per_slice = {
        "psnr": psnr(prediction, truth, peak),
        "ssim": ssim(prediction, truth, peak),
        "nmse": nmse(prediction, truth),
        "artifacts": artifacts(prediction, truth, peak),
    }
    error = (prediction - truth).double().square().sum(dim=(-2, -1))
    power = truth.double().square().sum(dim=(-2, -1))
    names = list(dict.fromkeys(volumes))
    per_volume: dict[str, list[float]] = {name: [] for name in per_slice}
    for name in names:
        own = [place for place, each in enumerate(volumes) if each == name]
        mean = error[own].sum() / (len(own) * truth[0].numel())
        per_volume["psnr"].append(float(10 * torch.log10(peak[own[0]] ** 2 / mean)))
        per_volume["nmse"].append(float(error[own].sum() / power[own].sum()))
        for metric in ("ssim", "artifacts"):
            per_volume[metric].append(float(per_slice[metric][own].nanmean()))
    return {
        **{metric: float(np.mean(values)) for metric, values in per_volume.items()},
        "images": len(truth),
        "volumes": len(names),
        "per_volume": {"volume": names, **per_volume},
        "per_image": {"id": list(ids), **{metric: values.tolist() for metric, values in per_slice.items()}},
    }


def _check(prediction: Tensor, truth: Tensor) -> None:
    if prediction.shape != truth.shape or truth.ndim != 3:
        shapes = f"{tuple(prediction.shape)} and {tuple(truth.shape)}"
        raise ValueError(f"prediction and truth must have one shape (n, h, w), got {shapes}")
