"""Total variation, its tuning, coil maps from the center of k-space, and reconstruction of measured data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.claims.linear_finetuning.classical_baselines import tune
from lib.imaging import mri
from lib.imaging.coil_calibration import coil_maps_from_center, full_center, reconstruct
from lib.imaging.kspace import Measured
from lib.imaging.total_variation import objective, total_variation
from lib.training.goals.reconstruction_metrics import psnr


def boxes(size: int = 48) -> torch.Tensor:
    """Two pictures of flat boxes, float32 (2, size, size)."""
    images = torch.zeros(2, size, size)
    images[0, 8:40, 10:36] = 0.6
    images[0, 14:28, 16:30] = 1.0
    images[1, 12:36, 6:44] = 0.8
    images[1, 20:24, 12:20] = 0.2
    return images


def measured(coils: int, acceleration: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes, their k-space, maps and masks."""
    truth = boxes()
    maps = mri.coil_maps(coils, truth.shape[-1], seed=0)
    masks = [mri.sampling_mask("gaussian", 48, acceleration=acceleration, seed=(7, item)) for item in range(2)]
    mask = torch.stack(masks)
    return truth, mri.forward(truth.to(torch.complex64), maps, mask), maps, mask


@pytest.mark.parametrize(("coils", "gain"), [(1, 4), (4, 8)])
def test_flat_boxes_come_back_from_a_third_of_the_lines(coils: int, gain: float):
    truth, kspace, maps, mask = measured(coils, 3)
    plain = psnr(mri.adjoint(kspace, maps, mask).abs(), truth).mean()
    found = psnr(total_variation(kspace, maps, mask, 0.005, steps=300).abs(), truth).mean()
    assert found > plain + gain


def test_the_objective_is_at_its_minimum():
    """No move toward the truth, zero, a blurred or a noisy image makes it smaller."""
    truth, kspace, maps, mask = measured(2, 3)
    weight = 0.02
    found = total_variation(kspace, maps, mask, weight, steps=800)
    least = objective(found, kspace, maps, mask, weight)
    noisy = found + mri.complex_noise((2, 48, 48), sigma=0.1, seed=0)
    others = (truth, torch.zeros_like(truth), found.roll(1, -1), noisy)
    for other in others:
        for step in (-0.01, 0.01, 0.1):
            moved = objective(found + step * (other - found), kspace, maps, mask, weight)
            assert bool((moved >= least * (1 - 1e-5)).all())
    start = objective(mri.adjoint(kspace, maps, mask), kspace, maps, mask, weight)
    assert bool((least < 0.9 * start).all())


def test_a_small_flat_region_is_solved_by_hand():
    """A step of height 1 between two halves of a full picture: each half moves inward by weight * border / pixels."""
    image = torch.zeros(1, 8, 8)
    image[:, :, 4:] = 1
    full, ones = torch.ones(8, dtype=torch.bool), torch.ones(1, 8, 8, dtype=torch.complex64)
    kspace = mri.forward(image.to(torch.complex64), ones, full)
    found = total_variation(kspace, ones, full, 0.4, steps=600)
    assert torch.allclose(found[..., :4].real, torch.tensor(0.1), atol=1e-3)  # 0.4 * 8 / 32
    assert torch.allclose(found[..., 4:].real, torch.tensor(0.9), atol=1e-3)
    assert torch.allclose(total_variation(kspace, ones, full, 0.0).real, image, atol=1e-5)


def test_tuning_finds_the_best_and_says_where_it_lies():
    truth, kspace, maps, mask = measured(1, 3)
    kspace = kspace + mri.complex_noise(tuple(kspace.shape), sigma=0.05, seed=2) * mask[:, None, None, :]
    table = tune(kspace, maps, mask, truth, weights=(1e-5, 0.03, 3.0))
    assert table.columns.tolist() == ["weight", "psnr", "edge"]
    assert table.weight[0] == 0.03
    assert not table.edge.any()
    assert table.psnr.is_monotonic_decreasing
    again = total_variation(kspace, maps, mask, 0.03)
    assert table.psnr[0] == pytest.approx(psnr(again.abs(), truth).mean())
    assert tune(kspace, maps, mask, truth, weights=(1e-5, 1e-4)).edge.all()


def brain_like(coils: int, size: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disk with spots and a smooth phase: k-space (c, h, w), maps and the complex image."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    image = (np.hypot(y, x) < 0.36) * (0.7 + 0.3 * np.sin(25 * x) * np.cos(31 * y))
    image = image * mri.smooth_phase(size, seed=3).numpy()
    maps = mri.coil_maps(coils, size, seed=5)
    full = torch.ones(size, dtype=torch.bool)
    kspace = mri.forward(torch.from_numpy(image.astype(np.complex64))[None], maps, full)
    return kspace[0].numpy(), maps.numpy(), image


def test_planted_coil_maps_are_found_from_the_center():
    kspace, maps, image = brain_like(6)
    found = coil_maps_from_center(kspace, 20)
    inside = np.abs(image) > 0.1
    alike = np.abs((found.conj() * maps).sum(axis=0))
    assert alike[inside].min() > 0.98
    power = (np.abs(found) ** 2).sum(axis=0)
    assert power[inside] == pytest.approx(1, abs=1e-5)
    assert (power[:4, :4] == 0).all()  # nothing to see outside
    strongest = int(np.argmax((np.abs(kspace) ** 2).sum(axis=(1, 2))))
    assert np.abs(np.angle(found[strongest][inside])).max() < 1e-3


def test_full_center_is_measured():
    mask = np.zeros((40, 30), bool)
    mask[14:26, 9:21] = True
    assert full_center(mask) == 12
    mask[13, 9:21] = True  # one row more is no larger square
    assert full_center(mask) == 12
    assert full_center(np.ones((20, 16), bool)) == 16


def test_measured_data_are_reconstructed():
    kspace, _, image = brain_like(6)
    rng = np.random.default_rng(0)
    mask = rng.random(image.shape) < 0.3
    mask[22:42, 22:42] = True
    found = reconstruct(Measured((kspace * mask).astype(np.complex64), mask))
    truth = np.abs(image)[None]
    scale = np.percentile(truth, 99.9)
    errors = {
        name: float(psnr(getattr(found, name)[None], truth / scale)[0])
        for name in ("zero_filled", "least_squares", "total_variation")
    }
    assert errors["least_squares"] > errors["zero_filled"] + 5
    assert errors["total_variation"] > errors["zero_filled"] + 5
    alone = reconstruct(Measured(kspace[:1], np.ones(image.shape, bool)))
    assert alone.maps.shape == (1, 64, 64)
    assert alone.least_squares == pytest.approx(alone.zero_filled, abs=1e-4)
