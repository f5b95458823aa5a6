"""What a reconstruction network is given, minimizes and is judged by: slices measured by a simulated scanner."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib import mri
from lib.cascade import Cascade, pack, to_channels, to_complex, zero_filled
from lib.image_metrics import nmse, psnr, ssim
from lib.models import Staged
from lib.objective import Predict
from lib.spec import RunSpec
from lib.tasks import Data, Split, batch_order

NOISE = 0.01  # standard deviation of each part of a k-space sample, where the volume's maximum is 1
TRAINING_SLICES = 32  # at most so many training slices are evaluated to tell overfitting


class Reconstruction:
    """Images from undersampled k-space: mean absolute error, selected on the mean PSNR of validation slices.

    A slice becomes a complex image by a smooth simulated phase and is seen by `coils` simulated coils; noise of 1 % of
    the volume's maximum is added to every measured sample. Phase and coils belong to the slice. So do sampled lines
    and noise, except in training with `augment`, where every visit draws its own. Magnitude images that are
    given a simulated phase reconstruct more easily than measured k-space: results on them are optimistic.
    """

    def __init__(self, spec: RunSpec, data: Data, parts: Split, device: torch.device) -> None:
        self.spec, self.data, self.split, self.device = spec, data, parts, device
        phases = torch.stack([mri.smooth_phase(spec.size, seed=(0xFA5E, each)) for each in range(len(data.images))])
        self.truth = (data.images[:, 0] * phases).to(device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        order = batch_order(len(self.split.train), seed=self.spec.seed, step=step, batch=self.spec.batch)
        index = self.split.train[order]
        visits = [(self.spec.seed, step, place) for place in range(len(index))] if self.spec.augment else None
        return self._measured(index, visits), to_channels(self.truth[torch.from_numpy(index)])

    def inputs(self, index: np.ndarray) -> Tensor:
        """Measurements, complex (n, 2 * coils + 1, h, w); see `lib.cascade.pack`."""
        return self._measured(index, None)

    def _measured(self, index: np.ndarray, visits: list[tuple[int, ...]] | None) -> Tensor:
        spec, image = self.spec, self.truth[torch.from_numpy(index)]
        keys = visits or [(each,) for each in index.tolist()]
        lines = [
            mri.sampling_mask(spec.sampling, spec.size, acceleration=spec.acceleration, seed=(0x3A5C, *key))
            for key in keys
        ]
        mask = torch.stack(lines).to(self.device)
        maps = torch.stack([mri.coil_maps(spec.coils, spec.size, seed=(0xC011, each)) for each in index.tolist()])
        shape = (spec.coils, spec.size, spec.size)
        noise = torch.stack([mri.complex_noise(shape, sigma=NOISE, seed=(0x4015, *key)) for key in keys])
        maps, noise = maps.to(self.device), noise.to(self.device)
        return pack(mri.forward(image, maps, mask) + noise * mask[:, None, None, :], maps, mask)

    def output(self, model: Staged, inputs: Tensor) -> Tensor:
        """Images, real (n, 2, h, w); a U-Net gives what the zero-filled image lacks."""
        if isinstance(model, Cascade):
            return model(inputs)
        start = to_channels(zero_filled(inputs))
        return start + model(start).float()

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        return F.l1_loss(output, truth)

    def validate(self, predict: Predict) -> dict[str, float]:
        """Loss, PSNR and NMSE on validation slices, and `train_psnr` on training slices with their fixed lines."""
        val, train = self.split.val, self.split.train[:TRAINING_SLICES]
        output, known = predict(val), predict(train)
        truth = to_channels(self.truth[torch.from_numpy(val)])
        return {
            "val_loss": float(self.loss(output, truth)),
            "val_psnr": float(np.mean(psnr(magnitude(output), self._reference(val)))),
            "val_nmse": float(np.mean(nmse(magnitude(output), self._reference(val)))),
            "train_psnr": float(np.mean(psnr(magnitude(known), self._reference(train)))),
        }

    def test(self, predict: Predict) -> dict[str, Any]:
        """Mean PSNR, SSIM and NMSE over test slices, every slice's and every volume's, and the zero-filled means."""
        index = self.split.test
        truth, found = self._reference(index), magnitude(predict(index))
        start = magnitude(to_channels(zero_filled(self.inputs(index))))
        slices, plain = (scores(each, truth) for each in (found, start))
        groups = [self.data.groups[each] for each in index]
        volumes: dict[str, list[Any]] = {"id": list(dict.fromkeys(groups)), **{name: [] for name in slices}}
        for volume in volumes["id"]:
            own = [place for place, group in enumerate(groups) if group == volume]
            volumes["psnr"].append(float(psnr(found[own][None], truth[own][None])[0]))
            volumes["nmse"].append(float(nmse(found[own][None], truth[own][None])[0]))
            volumes["ssim"].append(float(np.mean([slices["ssim"][place] for place in own])))
        return {
            **{name: float(np.mean(values)) for name, values in slices.items()},
            "zero_filled": {name: float(np.mean(values)) for name, values in plain.items()},
            "images": len(index),
            "volumes": len(volumes["id"]),
            "per_image": {"id": [self.data.ids[each] for each in index], **slices},
            "per_volume": volumes,
        }

    def _reference(self, index: np.ndarray) -> np.ndarray:
        return self.data.images[torch.from_numpy(index), 0].numpy()


def magnitude(output: Tensor) -> np.ndarray:
    """Magnitude images (n, h, w) on the CPU of real (n, 2, h, w)."""
    return to_complex(output).abs().cpu().numpy()


def scores(found: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    """PSNR (dB), SSIM and NMSE of every image (n, h, w), with a range of 1: the maximum of the volume."""
    return {
        "psnr": psnr(found, truth).tolist(),
        "ssim": ssim(found, truth).tolist(),
        "nmse": nmse(found, truth).tolist(),
    }
