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
        self.images = torch.cat([each.images for each in runs])
        self.masks = torch.cat([each.masks for each in runs])
        device = self.images.device
        firsts = np.cumsum([0, *(len(each.images) for each in runs[:-1])])
        order = [
            [
                first + batch_order(len(each.images), seed=each.seed, step=step, batch=each.batch)
                for step in range(steps)
            ]
            for each, first in zip(runs, firsts, strict=True)
        ]
        self.order = torch.from_numpy(np.array(order).swapaxes(0, 1).reshape(steps, -1)).to(device)
        self.draws: Tensor | None = None
        if runs[0].augmented:
            drawn = [
                torch.stack([variations(each.batch, seed=each.seed, step=step) for step in range(steps)])
                for each in runs
            ]
            self.draws = torch.cat(drawn, dim=2).to(device)  # (steps, 7, runs * batch)

    def at(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Images (runs * batch, 1, h, w) and masks of the step `place`, a tensor where the images are."""
        index = self.order.index_select(0, place.view(1))[0]
        images, masks = self.images[index], self.masks[index]
        if self.draws is None:
            return images, masks
        return vary(images, masks, self.draws.index_select(0, place.view(1))[0])


@dataclass(frozen=True)
class Batches:
    """Training images (n, 1, h, w) and masks (n, h, w) where they are used, and the batch of every step."""

    images: Tensor
    masks: Tensor
    seed: int
    batch: int
    augmented: bool

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The images and masks of a step, a pure function of (seed, step)."""
        order = batch_order(len(self.images), seed=self.seed, step=step, batch=self.batch)
        index = torch.from_numpy(order).to(self.images.device)
        images, masks = self.images[index], self.masks[index]
        return augment(images, masks, seed=self.seed, step=step) if self.augmented else (images, masks)
