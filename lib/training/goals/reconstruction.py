"""What a reconstruction network is given, minimizes and is judged by: slices measured by a simulated scanner."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.data.tasks.carried import Data, intensities
from lib.data.tasks.images import load_task
from lib.data.tasks.splits import Split
from lib.imaging import mri
from lib.networks.cascade import Cascade, pack, to_channels, to_complex, zero_filled
from lib.networks.stages import Staged
from lib.runs.spec import RunSpec
from lib.training.batches import batch_order
from lib.training.goals.reconstruction_metrics import nmse, psnr, summarize_images
from lib.training.objective import Feed, Predict, Through
from lib.training.people import split_of

NOISE = 0.01  # standard deviation of each part of a k-space sample, where the volume's maximum is 1
SCORES = ("psnr", "ssim", "nmse", "artifacts")
TRAINING_SLICES = 32  # at most so many training slices are evaluated to tell overfitting


class _Feed:
    """Measurements and images of several runs, measured as each run alone would measure them."""

    recorded = False

    def __init__(self, runs: Sequence[Reconstruction]) -> None:
        self.runs = runs

    def at(self, step: int, place: Tensor) -> tuple[Tensor, Tensor]:
        inputs, truth = zip(*(each.batch(step) for each in self.runs), strict=True)
        return torch.stack(inputs), torch.stack(truth)


class Reconstruction:
    """Images from undersampled k-space: mean absolute error, selected on the mean PSNR of validation slices.

    A slice becomes a complex image by a smooth simulated phase and is seen by `coils` simulated coils; noise of 1 % of
    the volume's maximum is added to every measured sample. Phase and coils belong to the slice. So do sampled lines
    and noise, except in training with `augment`, where every visit draws its own. Magnitude images that are
    given a simulated phase reconstruct more easily than measured k-space: results on them are optimistic.
    """

    def __init__(self, spec: RunSpec, data: Data, parts: Split, device: torch.device) -> None:
        self.spec, self.data, self.split, self.device = spec, data, parts, device
        self.validated, self.typical = (parts.val, parts.train[:TRAINING_SLICES]), parts.train
        self.truth = (intensities(data.images[:, 0]) * _phases(len(data.images), spec.size)).to(device)

    @staticmethod
    def together(runs: Sequence[Reconstruction], steps: int) -> Feed:
        return _Feed(runs)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        order = batch_order(len(self.split.train), seed=self.spec.seed, step=step, batch=self.spec.batch)
        index = self.split.train[order]
        visits = [(self.spec.seed, step, place) for place in range(len(index))] if self.spec.augment else None
        return self._measured(index, visits), to_channels(self.truth[torch.from_numpy(index)])

    def inputs(self, index: np.ndarray) -> Tensor:
        """Measurements, complex (n, 2 * coils + 1, h, w); see `lib.networks.cascade.pack`."""
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
        """Loss, mean PSNR and NMSE of validation slices, and `train_psnr` of training slices with their fixed lines."""
        val, train = self.split.val, self.split.train[:TRAINING_SLICES]
        output, known = predict(val), predict(train)
        truth, seen = self._reference(val), self._reference(train)
        return {
            "val_loss": float(self.loss(output, to_channels(self.truth[torch.from_numpy(val)]))),
            "val_psnr": float(psnr(magnitude(output), truth).mean()),
            "val_nmse": float(nmse(magnitude(output), truth).mean()),
            "train_psnr": float(psnr(magnitude(known), seen).mean()),
        }

    def test(self, predict: Predict) -> dict[str, Any]:
        """What `summarize_images` says of the test slices, and of their zero-filled images under "zero_filled"."""
        index = self.split.test
        start = to_channels(zero_filled(self.inputs(index)))
        said = [
            summarize_images(
                magnitude(each), self._reference(index), [self.data.ids[place] for place in index], self._volumes(index)
            )
            for each in (predict(index), start)
        ]
        found, plain = said
        slices = {name: [_told(value) for value in values] for name, values in found["per_image"].items()}
        return {**found, "per_image": slices, "zero_filled": {name: plain[name] for name in SCORES}}

    def further(self, model: Staged, start: Mapping[str, Tensor], through: Through) -> dict[str, Any]:
        """Subjects of each part; with a source, scores on its test slices after and before, and on the own before."""
        subjects = {part: len(set(self._volumes(index))) for part, index in vars(self.split).items()}
        source = self.spec.source
        if source is None:
            return {"subjects": subjects}
        there = reconstruction(source, self.device)
        after = there.test(lambda index: through(there.inputs(index)))
        model.load_state_dict(start)
        before = there.test(lambda index: through(there.inputs(index)))
        plain = self.test(lambda index: through(self.inputs(index)))
        told = {"source_after": after, "source_before": before, "start": plain}
        means = {when: {name: scores[name] for name in SCORES} for when, scores in told.items()}
        return {"subjects": subjects, **means}

    def _reference(self, index: np.ndarray) -> Tensor:
        return intensities(self.data.images[torch.from_numpy(index), 0]).to(self.device)

    def _volumes(self, index: np.ndarray) -> list[str]:
        return [self.data.groups[each] for each in index]


@functools.lru_cache(maxsize=4)
def _phases(count: int, size: int) -> Tensor:
    """The phase of each of `count` slices, complex (count, size, size), whatever the task."""
    return torch.stack([mri.smooth_phase(size, seed=(0xFA5E, each)) for each in range(count)])


def reconstruction(spec: RunSpec, device: torch.device) -> Reconstruction:
    """The objective of a spec with its data and split."""
    data = load_task(spec.task, spec.size)
    return Reconstruction(spec, data, split_of(spec, data), device)


def magnitude(output: Tensor) -> Tensor:
    """Magnitude images (n, h, w) of real (n, 2, h, w)."""
    return to_complex(output).abs()


def _told(value: Any) -> Any:
    """The value, None for what does not exist in a slice: JSON has no NaN."""
    return None if value != value else value
