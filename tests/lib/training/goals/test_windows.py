"""Windows of volumes: where they are laid, how they are varied, and the volume that they are put together to."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from lib.data.tasks.volumes import VolumeData, middle_windows, start_of, windows_at
from lib.training.goals.windows import (
    Mosaic,
    WindowBatches,
    WindowFeed,
    interpolated,
    nearest_voxels,
    window_starts,
    window_weights,
)

SHAPES = np.array([[9, 12, 7], [5, 6, 8], [14, 10, 11]])


def volumes(channels: int = 2) -> VolumeData:
    """Three volumes of which every voxel is another number; voxels of label 1 are few and at a corner, 2 nowhere."""
    firsts = np.concatenate([[0], np.cumsum(SHAPES.prod(1))])
    images = torch.arange(channels * int(firsts[-1]), dtype=torch.float32).view(channels, -1)
    masks = torch.zeros(int(firsts[-1]), dtype=torch.uint8)
    around = np.full((3, 2, 8), -1)
    for place in range(2):  # the third has no label
        masks[firsts[place] : firsts[place] + 2] = 1
        around[place, 0] = [0, 0, 0, 0, 1, 1, 1, 1]
    names = ["a", "b", "c"]
    return VolumeData(images, masks, SHAPES, firsts[:-1], names, names, "planted", 2, around)


def batches(data: VolumeData, patch: tuple[int, ...] = (4, 4, 4), **changes: object) -> WindowBatches:
    settings: dict = {
        "seed": 3, "batch": 4, "patch": patch, "foreground": 0.5, "varied": False, "upright": False, "mirrored": True,
        "device": torch.device("cpu"),
    }  # fmt: skip
    index = np.arange(3)
    return WindowBatches(data, index, index, **(settings | changes))


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("start", [(0, 0, 0), (2, 1, 3), (-2, 3, -1), (4, 4, 4)])
def test_a_window_is_a_part_of_its_volume_and_zero_beyond(place: int, start: tuple[int, ...]) -> None:
    data, patch = volumes(), (4, 5, 3)
    padded = np.pad(data.image(place).numpy(), [(0, 0), *[(9, 9)] * 3])
    expected = padded[(slice(None), *(slice(9 + at, 9 + at + side) for at, side in zip(start, patch, strict=True)))]
    where = [torch.from_numpy(np.array([each])) for each in (data.firsts[place], data.shapes[place], start)]
    found = windows_at(data.images, where[0], where[1], where[2], patch)
    np.testing.assert_array_equal(found[0].numpy(), expected)
    assert windows_at(data.masks, *where, patch).shape == (1, *patch)


def test_volumes_of_other_sizes_lie_together() -> None:
    data = volumes()
    assert [tuple(data.image(place).shape[1:]) for place in range(3)] == [tuple(each) for each in SHAPES.tolist()]
    assert data.image(1)[0, 0, 0, 0] == math.prod(SHAPES[0])
    assert data.mask(1).sum() == 2


@pytest.mark.parametrize("shape", [(9, 12, 7), (3, 20, 5), (64, 4, 33)])
def test_windows_cover_a_volume_and_stay_within(shape: tuple[int, ...]) -> None:
    patch = (4, 8, 6)
    covered = np.zeros(shape, int)
    for start in window_starts(shape, patch):
        for at, side, part in zip(start, shape, patch, strict=True):
            assert (at >= 0 and at + part <= side) if side >= part else (at <= 0 and at + part >= side)
        covered[tuple(slice(max(0, at), at + part) for at, part in zip(start, patch, strict=True))] += 1
    assert covered.min() >= 1


def test_a_volume_is_put_together_from_its_windows() -> None:
    data, patch = volumes(), (4, 4, 4)
    for place, shape in enumerate(SHAPES.tolist()):
        starts = window_starts(shape, patch)
        one = [
            torch.from_numpy(np.repeat(each[place : place + 1], len(starts), 0)) for each in (data.firsts, data.shapes)
        ]
        mosaic = Mosaic(2, shape, window_weights(patch))
        mosaic.add(windows_at(data.images, *one, torch.from_numpy(starts), patch), starts)
        torch.testing.assert_close(mosaic.volume(), data.image(place))


def smooth(x: Tensor) -> Tensor:
    """What stands for a network: it depends on where in a window a voxel is, so that weights matter."""
    ramp = torch.linspace(0, 1, x.shape[-1]) * torch.linspace(1, 2, x.shape[-3]).view(-1, 1, 1)
    return torch.cat([x * ramp, x + ramp], dim=1)


@pytest.mark.slow  # importing MONAI takes longer than all other tests of this file
@pytest.mark.parametrize("shape", [(9, 12, 7), (30, 21, 16), (3, 20, 5)])
def test_the_volume_of_overlapping_windows_is_that_of_monai(shape: tuple[int, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a foreign package, while it is imported
        inferers = pytest.importorskip("monai.inferers")
        patch = (4, 8, 6)
        image = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0))
        expected = inferers.sliding_window_inference(image, patch, 3, smooth, overlap=0.5, mode="gaussian")
    starts = window_starts(shape, patch)
    count = len(starts)
    firsts, shapes = torch.zeros(count, dtype=torch.int64), torch.tensor(shape).expand(count, 3)
    windows = windows_at(image.view(1, -1), firsts, shapes, torch.from_numpy(starts), patch)
    mosaic = Mosaic(2, shape, window_weights(patch))
    mosaic.add(smooth(windows), starts)
    torch.testing.assert_close(mosaic.volume(), expected[0], rtol=1e-6, atol=1e-6)


# ---- training ---------------------------------------------------------------------------------------------------


def test_the_share_around_labels_is_the_one_that_was_asked_for() -> None:
    data = volumes()
    for share in (0.0, 0.4, 1.0):
        feed = batches(data, foreground=share, batch=8)
        drawn = [feed.places(step) for step in range(100)]
        pairs = [pair for (which, _), starts in drawn for pair in zip(which, starts, strict=True)]
        at_label = [bool((start == 0).all()) for volume, start in pairs if volume < 2]
        by_chance = 1 / ((9 - 3) * (12 - 3) * (7 - 3))
        expected = share + (1 - share) * (by_chance + 1 / ((5 - 3) * (6 - 3) * (8 - 3))) / 2
        assert np.mean(at_label) == pytest.approx(expected, abs=0.06)


def test_windows_are_laid_everywhere_and_a_small_volume_lies_in_the_middle() -> None:
    feed = batches(volumes(), foreground=0.0)
    seen = {tuple(start) for step in range(600) for start in feed.places(step)[1].tolist()}
    assert {tuple(start) for start in itertools.product(range(2), range(3), range(5))} <= seen  # all of the second
    assert max(start[0] for start in seen) == 10
    assert start_of(np.array([1, 1, 1]), np.array([5, 6, 8]), (8, 8, 8)).tolist() == [-2 + 1, -1, 0]


@pytest.mark.parametrize("varied", [True, False])
def test_a_step_is_a_pure_function_of_seed_and_step(varied: bool) -> None:
    one, same, other = (batches(volumes(), varied=varied, seed=seed) for seed in (3, 3, 4))
    for step in (0, 7):
        assert all(map(torch.equal, one.at(step), same.at(step)))
    assert not torch.equal(one.at(0)[0], one.at(1)[0])
    assert not torch.equal(one.at(0)[0], other.at(0)[0])


@pytest.mark.parametrize("varied", [True, False])
def test_windows_of_runs_together_are_those_of_each(varied: bool) -> None:
    data = volumes()
    runs = [batches(data, varied=varied, seed=seed) for seed in (1, 2)]
    feed = WindowFeed(runs, 5)
    for step in (0, 4):
        images, masks = feed.at(step, torch.tensor(step))
        for place, run in enumerate(runs):
            expected = run.at(step)
            assert torch.equal(images[place], expected[0])
            assert torch.equal(masks[place], expected[1])


def test_places_between_voxels_are_interpolated() -> None:
    """A linear image is met exactly; beyond the volume there is 0."""
    shape = torch.tensor([[6, 5, 4]])
    x, y, z = np.indices((6, 5, 4))
    image = torch.from_numpy(2.0 * x - 3 * y + 0.5 * z + 1).float().reshape(1, -1)
    where = torch.rand(1, 3, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 4.0, 3.0])
    found = interpolated(image, torch.tensor([0]), shape, where.unbind(-1))
    expected = 2 * where[..., 0] - 3 * where[..., 1] + 0.5 * where[..., 2] + 1
    torch.testing.assert_close(found[:, 0], expected)
    outside = torch.tensor([[-2.0, 1, 1], [7.0, 1, 1], [1, 1, 9.0]]).view(1, 3, 1, 1, 3)
    assert interpolated(image, torch.tensor([0]), shape, outside.unbind(-1)).abs().sum() == 0
    assert nearest_voxels(torch.ones(120, dtype=torch.uint8), torch.tensor([0]), shape, outside.unbind(-1)).sum() == 0


def ball(side: int) -> VolumeData:
    """A ball left of the middle (label 1) and a smaller one above it (2) of brightness 1 and 3 on -1."""
    at = np.moveaxis(np.indices((side,) * 3), 0, -1) - side / 2
    mask = (np.linalg.norm(at + np.array([side / 5, 0, 0]), axis=-1) < side / 6).astype(np.uint8)
    mask[np.linalg.norm(at - [0, 0, side / 4], axis=-1) < side / 9] = 2
    image = np.choose(mask, [-1.0, 1.0, 3.0]).astype(np.float32)
    around = np.full((1, 2, 4), -1)
    return VolumeData(
        torch.from_numpy(image.reshape(1, -1)), torch.from_numpy(mask.reshape(-1)), np.array([[side] * 3]),
        np.array([0]), ["a"], ["a"], "planted", 2, around,
    )  # fmt: skip


def one_volume(**changes: object) -> WindowBatches:
    data = ball(36)
    settings: dict = {
        "seed": 0, "batch": 6, "patch": (36,) * 3, "foreground": 0.0, "varied": True, "upright": False,
        "mirrored": True, "device": torch.device("cpu"),
    }  # fmt: skip
    return WindowBatches(data, np.zeros(1, np.int64), np.zeros(1, np.int64), **(settings | changes))


def test_image_and_mask_are_moved_together() -> None:
    """Within each structure the image is brighter than outside, wherever turning, scaling and mirroring took it."""
    feed = one_volume()
    for step in range(4):
        images, masks = feed.at(step)
        for image, mask in zip(images[:, 0], masks, strict=True):
            levels = [image[mask == value].median() for value in (0, 1, 2)]
            assert levels[0] < levels[1] < levels[2]
            middle = image[mask == 1] > (levels[0] + levels[1]) / 2
            assert middle.float().mean() > 0.8  # all but voxels on the border


def test_left_and_right_are_exchanged_only_where_that_is_allowed() -> None:
    def sides(**changes: object) -> set[bool]:
        feed = one_volume(**changes)
        masks = [mask for step in range(6) for mask in feed.at(step)[1]]
        return {bool((mask[:18] == 1).sum() > (mask[18:] == 1).sum()) for mask in masks}

    assert sides(mirrored=True) == {True, False}
    assert sides(mirrored=False) == {True}


def test_long_voxels_are_turned_about_their_axis_alone() -> None:
    """A plane across the last axis stays where it is."""
    feed = one_volume(upright=True, mirrored=False)
    data = feed.data
    plane = torch.zeros(36, 36, 36, dtype=torch.uint8)
    plane[..., 20] = 1
    data.masks.copy_(plane.flatten())
    _, masks = feed.at(0)
    inner = masks[:, 8:-8, 8:-8]
    assert (inner[..., 20] == 1).all()
    assert inner.sum() == inner[..., 20].numel()
    data.masks.copy_(plane.flatten())
    turned = one_volume(mirrored=False)
    turned.data.masks.copy_(plane.flatten())
    assert (turned.at(0)[1][:, 8:-8, 8:-8].sum((1, 2)) > 0).sum(1).min() > 1


def test_middle_windows_show_what_is_labeled() -> None:
    data = volumes()
    images, masks = middle_windows(data, np.array([0, 2]), (4, 4, 4))
    assert images.shape == (2, 2, 4, 4, 4)
    assert masks[0].sum() == 2
    assert torch.equal(images[1], data.image(2)[:, 5:9, 3:7, 4:8])  # nothing is labeled: the middle
