"""Which images make up the batch of a step, and how they are varied: moved, turned, scaled and re-lit, with masks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.common.seeding import generator
from lib.data.tasks.carried import intensities


def batch_order(count: int, *, seed: int, step: int, batch: int) -> np.ndarray:
    """Which of `count` images make up a step's batch: passes over fresh shuffles, a pure function of (seed, step)."""
    places = np.arange(step * batch, (step + 1) * batch)
    order = {each: _shuffle(count, seed, each) for each in np.unique(places // count)}
    return np.array([order[place // count][place % count] for place in places])


@functools.lru_cache(maxsize=64)
def _shuffle(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 0x0DE2, epoch]).permutation(count)


def augment(images: Tensor, masks: Tensor, *, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """A batch flipped left to right, rotated (15 degrees), scaled (0.8 to 1.25), moved (10 %) and re-lit at random.

    Args:
        images: float32 (n, 1, h, w) in [0, 1]. masks: uint8 (n, h, w).

    Returns:
        The same shapes and ranges; a pure function of the batch and (seed, step). Drawn on the CPU, applied where the
        batch lives.
    """
    return vary(images, masks, variations(len(images), seed=seed, step=step))


def variations(count: int, *, seed: int, step: int) -> Tensor:
    """The numbers in [0, 1), (7, count), that decide how the images of a step's batch are varied; on the CPU."""
    return torch.rand(7, count, generator=generator(seed, 0xA06, step))


def vary(images: Tensor, masks: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Images and masks as `augment` takes and gives them, varied as the numbers (7, n) of `variations` say."""
    device = images.device
    flip = torch.where(draw[0] < 0.5, -1.0, 1.0)
    angle = (draw[1] * 2 - 1) * np.pi / 12
    scale = 0.8 * 1.5625 ** draw[2]  # log-uniform between 0.8 and 1.25
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    shift = (draw[3:5] * 2 - 1) * 0.2  # in half image sides
    rows = torch.stack([flip * cosine, -sine, shift[0], flip * sine, cosine, shift[1]], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3).to(device), list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    moved = F.grid_sample(
        masks.unsqueeze(1).to(images.dtype), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    power = (0.7 * 2.04 ** draw[5]).to(device).view(-1, 1, 1, 1)  # gamma, log-uniform between 0.7 and 1.43
    gain = (0.8 + 0.4 * draw[6]).to(device).view(-1, 1, 1, 1)
    return (images.clamp(0, 1) ** power * gain).clamp(0, 1), moved[:, 0].to(masks.dtype)


class StackedBatches:
    """The batches of several runs at once: their images lie together, and what every step takes is drawn ahead.

    Args:
        runs: of one size of images and of batch, all augmented or none.
        steps: how many are drawn.
    """

    def __init__(self, runs: Sequence[Batches], steps: int) -> None:
        self.device = device = runs[0].device
        sets = list({id(each.images): each for each in runs}.values())  # runs of one task share its images
        kinds = {each.images.dtype for each in sets}
        images = [each.images if len(kinds) == 1 else intensities(each.images) for each in sets]
        self.images = images[0] if len(sets) == 1 else torch.cat(images)
        self.masks = sets[0].masks if len(sets) == 1 else torch.cat([each.masks for each in sets])
        firsts = np.cumsum([0, *(len(each.images) for each in sets[:-1])])
        first = {id(each.images): begin for each, begin in zip(sets, firsts, strict=True)}
        places = [[each.places(step) for step in range(steps)] for each in runs]  # (runs, steps, 2, batch)
        order = np.array(places) + np.array([first[id(each.images)] for each in runs])[:, None, None, None]
        order = order.transpose(1, 2, 0, 3).reshape(steps, 2, -1)
        self.order = torch.from_numpy(order).to(self.images.device)
        self.draws: Tensor | None = None
        if runs[0].augmented:
            drawn = [
                torch.stack([variations(each.batch, seed=each.seed, step=step) for step in range(steps)])
                for each in runs
            ]
            self.draws = torch.cat(drawn, dim=2).to(device)  # (steps, 7, runs * batch)

    @property
    def recorded(self) -> bool:
        """Whether the images lie where the runs are trained, so that a step asks nothing of the host."""
        return self.images.device == self.device

    def at(self, step: int, place: Tensor) -> tuple[Tensor, Tensor]:
        """Images (runs * batch, 1, h, w) and masks of a step, which is also in `place`, a tensor on the device."""
        index, labels = self.order.index_select(0, place.view(1))[0] if self.recorded else self.order[step]
        images = intensities(self.images[index].to(self.device))
        masks = self.masks[labels].to(self.device)
        if self.draws is None:
            return images, masks
        return vary(images, masks, self.draws.index_select(0, place.view(1))[0])


@dataclass(frozen=True)
class Batches:
    """The batch of every step, from all images (n, 1, h, w) and masks (n, h, w) of a task, as `Data` keeps them.

    Args:
        images, masks: on `device`, or elsewhere, where they are too many for it.
        index: places of the training images. labels: places of their masks.
        device: where batches are wanted.
    """

    images: Tensor
    masks: Tensor
    index: np.ndarray
    labels: np.ndarray
    seed: int
    batch: int
    augmented: bool
    device: torch.device

    def places(self, step: int) -> np.ndarray:
        """Where the images and the masks of a step are, (2, batch)."""
        order = batch_order(len(self.index), seed=self.seed, step=step, batch=self.batch)
        return np.stack([self.index[order], self.labels[order]])

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The images and masks of a step, a pure function of (seed, step)."""
        index, labels = torch.from_numpy(self.places(step)).to(self.images.device)
        images, masks = intensities(self.images[index].to(self.device)), self.masks[labels].to(self.device)
        return augment(images, masks, seed=self.seed, step=step) if self.augmented else (images, masks)
