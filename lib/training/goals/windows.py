"""Volumes in windows: what a training step cuts out of them and how it varies that, and whole volumes from windows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lib.common.seeding import generator
from lib.data.tasks.volumes import VolumeData, start_of, windows_at
from lib.training.batches import batch_order

OVERLAP = 0.5  # of neighboring windows, where a volume is larger than one
SIGMA = 0.125  # of the weight of a window's voxels, in its sides
LEAST_WEIGHT = 1e-3
DRAWN = 8  # numbers that decide how a window is varied


def window_starts(shape: Sequence[int], patch: Sequence[int]) -> np.ndarray:
    """Where windows begin that cover a volume, int64 (m, 3); those of a volume that is smaller begin outside of it.

    Neighbors overlap by half, and the last along an axis ends with the volume, as in MONAI's sliding windows.
    """
    lines = []
    for side, part in zip(shape, patch, strict=True):
        stride = max(1, int(part * (1 - OVERLAP)))
        if side <= part:
            lines.append([-((part - side) // 2)])
        else:
            count = math.ceil((side - part) / stride) + 1
            lines.append([min(each * stride, side - part) for each in range(count)])
    return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int64)


def window_weights(patch: Sequence[int]) -> Tensor:
    """How much each voxel of a window counts where windows overlap, float32 (*patch): a Gaussian around its middle."""
    weights = torch.ones(())
    for side in patch:
        line = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-(line**2) / (2 * (SIGMA * side) ** 2))
    return weights.clamp_min(max(float(weights.min()), LEAST_WEIGHT))


class Mosaic:
    """A volume that is put together from windows: their weighted mean where they overlap.

    Args:
        channels, shape: of the volume. weights: of a window's voxels, where the windows are.
    """

    def __init__(self, channels: int, shape: Sequence[int], weights: Tensor) -> None:
        self.shape, self.weights = tuple(shape), weights
        self.total = torch.zeros((channels, *shape), device=weights.device)
        self.weight = torch.zeros(self.shape, device=weights.device)

    def add(self, windows: Tensor, starts: np.ndarray) -> None:
        """Windows (m, channels, *patch), or (m, *patch) of one channel, that begin at (m, 3)."""
        patch = self.weights.shape
        for window, start in zip(windows.view(len(windows), -1, *patch), starts.tolist(), strict=True):
            ours = tuple(slice(max(0, at), at + side) for at, side in zip(start, patch, strict=True))
            theirs = tuple(
                slice(max(0, -at), min(side, whole - at))
                for at, side, whole in zip(start, patch, self.shape, strict=True)
            )
            self.total[(slice(None), *ours)] += window[(slice(None), *theirs)] * self.weights[theirs]
            self.weight[ours] += self.weights[theirs]

    def volume(self) -> Tensor:
        """The whole volume (channels, *shape); every voxel must have been in a window."""
        return self.total / self.weight


class WindowBatches:
    """The windows of every step, cut out of volumes.

    Args:
        data: the volumes.
        index: places of the training volumes. labels: places of the volumes whose masks they are trained with.
        foreground: share of windows that are laid around a labeled voxel.
        varied: whether windows are moved and re-lit at random.
        upright: whether voxels are longer along the last axis, so that windows are turned about that axis alone.
        mirrored: whether left and right may be exchanged.
        device: where windows are wanted.
    """

    def __init__(
        self,
        data: VolumeData,
        index: np.ndarray,
        labels: np.ndarray,
        *,
        seed: int,
        batch: int,
        patch: tuple[int, ...],
        foreground: float,
        varied: bool,
        upright: bool,
        mirrored: bool,
        device: torch.device,
    ) -> None:
        self.data, self.index, self.labels, self.seed, self.batch, self.patch = data, index, labels, seed, batch, patch
        self.foreground, self.varied, self.upright, self.mirrored = foreground, varied, upright, mirrored
        self.device = device
        self.images, self.masks = data.on(device)
        home = self.images.device
        self.shapes, self.firsts = (torch.from_numpy(each).to(home) for each in (data.shapes, data.firsts))
        self.half = (torch.tensor(patch, dtype=torch.float32) - 1).to(home) / 2
        self.lines = [
            (torch.arange(side, device=home) - self.half[axis]).view([side if each == axis else 1 for each in range(3)])
            for axis, side in enumerate(patch)
        ]
        self.turned = torch.tensor([[0.0 if upright else 1.0]] * 2 + [[1.0]], device=home)

    def places(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Volume and mask of each window of a step, (2, batch), and where windows begin, (batch, 3)."""
        order = batch_order(len(self.index), seed=self.seed, step=step, batch=self.batch)
        volumes, draw = self.index[order], np.random.default_rng([self.seed, 0x71D0, step])
        starts = [self._start(int(volume), draw) for volume in volumes]
        return np.stack([volumes, self.labels[order]]), np.stack(starts)

    def _start(self, volume: int, draw: np.random.Generator) -> np.ndarray:
        shape, around, patch = self.data.shapes[volume], self.data.around[volume], np.array(self.patch)
        parts = np.flatnonzero(around[:, 0] >= 0)
        chance, part, voxel, *anywhere = draw.random(6)
        if chance < self.foreground and len(parts):
            voxels = around[parts[int(part * len(parts))]]
            middle = np.array(np.unravel_index(voxels[int(voxel * len(voxels))], shape)) + 0.5
        else:
            middle = np.floor(anywhere * (np.maximum(shape - patch, 0) + 1)) + patch / 2
        return start_of(middle, shape, self.patch)

    def drawn(self, step: int) -> Tensor:
        """Numbers in [0, 1), (DRAWN, batch), that decide how the windows of a step are varied; on the CPU."""
        return torch.rand(DRAWN, self.batch, generator=generator(self.seed, 0x3DA6, step))

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Windows (batch, c, *patch) and masks (batch, *patch) of a step, a pure function of (seed, step)."""
        home = self.images.device
        volumes, starts = (torch.from_numpy(each).to(home) for each in self.places(step))
        return self.cut(volumes, starts, self.drawn(step).to(home) if self.varied else None)

    def cut(self, volumes: Tensor, starts: Tensor, draw: Tensor | None) -> tuple[Tensor, Tensor]:
        """Windows and masks at `places`, varied as `drawn` says; all of these where the volumes are."""
        (first, shape), (first_mask, shape_mask) = ((self.firsts[each], self.shapes[each]) for each in volumes)
        if draw is None:
            images = windows_at(self.images, first, shape, starts, self.patch)
            return images.to(self.device), windows_at(self.masks, first_mask, shape_mask, starts, self.patch).to(
                self.device
            )
        where = self._moved(starts, draw)
        images = relit(interpolated(self.images, first, shape, where), draw)
        return images.to(self.device), nearest_voxels(self.masks, first_mask, shape_mask, where).to(self.device)

    def _moved(self, starts: Tensor, draw: Tensor) -> list[Tensor]:
        """Where in its volume every voxel of the windows is looked up, along each axis, (n, *patch), in voxels.

        Windows are turned by up to 15 degrees about each axis (about the last alone where voxels are long along it),
        scaled by 0.8 to 1.25 (not along that one), and mirrored from left to right, all about their middles.
        """
        turn = _turns((draw[0:3] * 2 - 1) * (math.pi / 12) * self.turned)
        scale = (0.8 * 1.5625 ** draw[3]).view(-1, 1).expand(-1, 3).clone()
        if self.upright:
            scale[:, 2] = 1.0
        if self.mirrored:
            scale[:, self.data.flip] *= torch.where(draw[4] < 0.5, -1.0, 1.0)
        matrix = turn * scale.view(-1, 1, 3)
        middle = starts + self.half
        x, y, z = self.lines
        return [
            matrix[:, axis, 0].view(-1, 1, 1, 1) * x
            + matrix[:, axis, 1].view(-1, 1, 1, 1) * y
            + matrix[:, axis, 2].view(-1, 1, 1, 1) * z
            + middle[:, axis].view(-1, 1, 1, 1)
            for axis in range(3)
        ]


class WindowFeed:
    """The windows of several runs of one task, for every step, drawn ahead."""

    def __init__(self, runs: Sequence[WindowBatches], steps: int) -> None:
        first = self.first = runs[0]
        self.runs, self.recorded = len(runs), first.images.device == first.device
        home = first.images.device
        places = [[each.places(step) for each in runs] for step in range(steps)]
        self.volumes = torch.from_numpy(np.stack([np.concatenate([v for v, _ in row], 1) for row in places])).to(home)
        self.starts = torch.from_numpy(np.stack([np.concatenate([s for _, s in row]) for row in places])).to(home)
        self.draws: Tensor | None = None
        if first.varied:
            draws = [torch.cat([each.drawn(step) for each in runs], dim=1) for step in range(steps)]
            self.draws = torch.stack(draws).to(home)

    def at(self, step: int, place: Tensor) -> tuple[Tensor, Tensor]:
        """Windows (runs, batch, c, *patch) and masks of a step, which is also in `place`, a tensor on the device."""
        at = place.view(1) if self.recorded else torch.tensor([step], device=self.volumes.device)
        volumes, starts = (each.index_select(0, at)[0] for each in (self.volumes, self.starts))
        draw = None if self.draws is None else self.draws.index_select(0, at)[0]
        images, masks = self.first.cut(volumes, starts, draw)
        return images.unflatten(0, (self.runs, -1)), masks.unflatten(0, (self.runs, -1))


def _turns(angle: Tensor) -> Tensor:
    """Rotations (n, 3, 3) about the three axes by angles (3, n) in radians, one after another."""
    cosine, sine = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cosine[0]), torch.ones_like(cosine[0])
    x = [one, zero, zero, zero, cosine[0], -sine[0], zero, sine[0], cosine[0]]
    y = [cosine[1], zero, sine[1], zero, one, zero, -sine[1], zero, cosine[1]]
    z = [cosine[2], -sine[2], zero, sine[2], cosine[2], zero, zero, zero, one]
    first, second, third = (torch.stack(each, dim=1).view(-1, 3, 3) for each in (x, y, z))
    return third @ second @ first


def interpolated(kept: Tensor, firsts: Tensor, shapes: Tensor, where: Sequence[Tensor]) -> Tensor:
    """Values (n, c, ...) of volumes (c, voxels) between voxels, trilinear; 0 outside.

    Args:
        firsts (n,), shapes (n, 3): of the volume of each. where: places along each axis, (n, ...).
    """
    x, y, z = (_between(each, shapes[:, axis]) for axis, each in enumerate(where))
    flat = torch.zeros((len(kept), where[0].numel()), device=kept.device)
    for place_x, weight_x in x:
        across = place_x * _side(shapes, 1)
        for place_y, weight_y in y:
            line, weight_line = (across + place_y) * _side(shapes, 2) + firsts.view(-1, 1, 1, 1), weight_x * weight_y
            for place_z, weight_z in z:
                values = kept.index_select(1, (line + place_z).flatten())
                flat.addcmul_(values, (weight_line * weight_z).flatten())
    return flat.unflatten(1, where[0].shape).movedim(1, 0)


def _side(shapes: Tensor, axis: int) -> Tensor:
    return shapes[:, axis].view(-1, 1, 1, 1)


def _between(place: Tensor, side: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The two voxels along an axis that a place lies between, and their weights; 0 beyond the volume."""
    side, low = side.view(-1, 1, 1, 1), place.floor()
    part, at = place - low, low.long()
    return [
        ((at + step).clamp_min(0).minimum(side - 1), weight * ((at + step >= 0) & (at + step < side)))
        for step, weight in ((0, 1 - part), (1, part))
    ]


def nearest_voxels(kept: Tensor, firsts: Tensor, shapes: Tensor, where: Sequence[Tensor]) -> Tensor:
    """Values (n, ...) of masks (voxels) at the voxels nearest to places, as `interpolated` takes them; 0 outside."""
    index, inside = firsts.view(-1, 1, 1, 1), torch.ones((), dtype=torch.bool, device=kept.device)
    for axis, each in enumerate(where):
        side, at = _side(shapes, axis), each.round().long()
        inside = inside & (at >= 0) & (at < side)
        step = shapes[:, axis + 1 :].prod(1).view(-1, 1, 1, 1)
        index = index + at.clamp_min(0).minimum(side - 1) * step
    return kept[index] * inside


def relit(images: Tensor, draw: Tensor) -> Tensor:
    """Windows (n, c, ...) with another gamma (0.7 to 1.43), contrast (0.8 to 1.25) and brightness (up to 0.2).

    Gamma is that of the window between its darkest and brightest voxel; what is stated is in units of intensities, of
    which 1 is about a standard deviation.
    """
    shape = (-1, *[1] * (images.ndim - 1))
    low, high = images.amin(tuple(range(1, images.ndim)), True), images.amax(tuple(range(1, images.ndim)), True)
    span = (high - low).clamp_min(1e-3)
    bent = ((images - low) / span) ** (0.7 * 2.04 ** draw[5]).view(shape) * span + low
    return bent * (0.8 * 1.5625 ** draw[6]).view(shape) + ((draw[7] * 2 - 1) * 0.2).view(shape)
