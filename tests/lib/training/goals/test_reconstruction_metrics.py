"""Reconstruction metrics: against scikit-image, against values worked out by hand, and their conventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lib.training.goals.reconstruction_metrics import artifacts, nmse, psnr, ssim, summarize_images


def pictures(count: int = 4, size: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    truth = np.cumsum(rng.normal(size=(count, size, size)), axis=2)
    truth = np.abs(truth) / np.abs(truth).max()
    prediction = truth + 0.05 * rng.normal(size=truth.shape)
    return torch.from_numpy(prediction).float(), torch.from_numpy(truth).float()


@pytest.mark.parametrize("peak", [1.0, 0.4])
def test_agree_with_scikit_image(peak: float):
    prediction, truth = pictures()
    ours = {"psnr": psnr(prediction, truth, peak), "ssim": ssim(prediction, truth, peak)}
    for place in range(len(truth)):
        pair = truth[place].double().numpy(), prediction[place].double().numpy()
        assert float(ours["psnr"][place]) == pytest.approx(peak_signal_noise_ratio(*pair, data_range=peak), abs=1e-5)
        assert float(ours["ssim"][place]) == pytest.approx(structural_similarity(*pair, data_range=peak), abs=1e-7)


def test_values_by_hand():
    truth = torch.full((1, 8, 8), 0.5)
    prediction = truth.clone()
    prediction[0, 0, 0] = 0.9  # squared error 0.16 in one of 64 pixels
    assert psnr(prediction, truth, 1.0).item() == pytest.approx(10 * np.log10(64 / 0.16), abs=1e-4)
    assert psnr(prediction, truth, 0.5).item() == pytest.approx(10 * np.log10(16 / 0.16), abs=1e-4)
    assert nmse(prediction, truth).item() == pytest.approx(0.16 / 16, rel=1e-5)
    assert ssim(truth, truth, 1.0).item() == pytest.approx(1)
    assert psnr(truth, truth, 1.0).item() == float("inf")


def test_every_slice_has_its_own_range():
    prediction, truth = pictures()
    peaks = [1.0, 1.5, 3.0, 2.0]
    for metric in (psnr, ssim, artifacts):
        one_by_one = [float(metric(prediction[[i]], truth[[i]], peak)[0]) for i, peak in enumerate(peaks)]
        assert metric(prediction, truth, peaks) == pytest.approx(one_by_one)
        assert metric(prediction.numpy(), truth.numpy(), peaks) == pytest.approx(one_by_one)


def test_a_volume_pools_its_slices():
    prediction, truth = pictures()
    prediction[1] = truth[1] + 0.3
    found = summarize_images(prediction, truth, list("abcd"), ["v", "v", "w", "w"])
    first = truth[:2].numpy(), prediction[:2].numpy()
    peak = float(truth[:2].max())
    assert found["per_volume"]["id"] == ["v", "w"]
    assert found["per_volume"]["psnr"][0] == pytest.approx(peak_signal_noise_ratio(*first, data_range=peak), abs=1e-4)
    error, power = ((prediction[:2] - truth[:2]) ** 2).sum(), (truth[:2] ** 2).sum()
    assert found["per_volume"]["nmse"][0] == pytest.approx(float(error / power), rel=1e-5)
    assert found["per_volume"]["ssim"][1] == pytest.approx(np.mean(found["per_image"]["ssim"][2:]))
    assert found["per_image"]["psnr"][0] == pytest.approx(float(psnr(prediction[:1], truth[:1], peak)[0]))
    assert found["psnr"] == pytest.approx(np.mean(found["per_volume"]["psnr"]))
    assert (found["images"], found["volumes"], found["per_image"]["id"]) == (4, 2, list("abcd"))


def test_artifacts_are_fine_errors_away_from_edges():
    truth = torch.zeros(1, 64, 64)
    truth[:, :, 32:] = 1.0
    ripple = 0.1 * torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)[:, None].expand(64, 64)
    flat, edge = truth.clone(), truth.clone()
    flat[0] += ripple
    edge[:, :, 31:33] = 0.5  # a blurred edge is no artifact
    assert artifacts(flat, truth, 1.0).item() == pytest.approx(0.08, rel=0.02)  # less a fifth, its mean over 5
    assert artifacts(flat, truth, 2.0).item() == pytest.approx(artifacts(flat, truth, 1.0).item() / 2, rel=0.01)
    assert artifacts(truth + 0.1, truth, 1.0).item() == pytest.approx(0, abs=1e-7)  # an offset is none either
    assert artifacts(edge, truth, 1.0).item() < 0.03


def test_refusals():
    prediction, truth = pictures()
    with pytest.raises(ValueError, match="one shape"):
        psnr(prediction[:2], truth, 1.0)
    with pytest.raises(ValueError, match="of at least 7 x 7"):
        ssim(prediction[:, :5], truth[:, :5], 1.0)
    with pytest.raises(ValueError, match="positive maximum"):
        summarize_images(prediction, truth * 0, list("abcd"), list("vvww"))
