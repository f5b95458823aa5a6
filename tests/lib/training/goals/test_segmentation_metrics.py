"""Dice and HD95 on masks whose answers can be counted by hand, and against MONAI where both follow one convention."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from lib.training.goals.segmentation_metrics import dice, hd95, scores_of, summarize


def square(top: int, left: int, side: int, shape: tuple[int, int] = (32, 32)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def blob(seed: int, shape: tuple[int, ...] = (40, 30)) -> np.ndarray:
    """A random smooth region, with holes and islands."""
    from scipy import ndimage

    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    return (field > np.quantile(field, 0.6)).astype(np.uint8)


EMPTY = np.zeros((32, 32), np.uint8)


@pytest.mark.parametrize("shift", range(11))
def test_dice_of_a_shifted_square_is_the_share_that_still_overlaps(shift: int) -> None:
    assert dice(square(5, 5, 10), square(5, 5 + shift, 10)) == pytest.approx(1 - shift / 10)


def test_dice_of_a_part_counts_both_areas() -> None:
    assert dice(square(0, 0, 4), square(0, 0, 8)) == pytest.approx(2 * 16 / (16 + 64))


def test_dice_of_empty_masks() -> None:
    assert dice(EMPTY, EMPTY) == 1.0
    assert dice(EMPTY, square(3, 3, 1)) == 0.0
    assert dice(square(3, 3, 1), EMPTY) == 0.0


@pytest.mark.parametrize("shift", [0, 1, 3, 7, 15])
def test_hd95_of_a_shifted_square_is_the_shift(shift: int) -> None:
    """At least a twentieth of the border, one side of the square, lies the whole shift away from the other border."""
    assert hd95(square(8, 2, 12), square(8, 2 + shift, 12)) == pytest.approx(shift)


def test_hd95_of_two_pixels_is_their_distance() -> None:
    assert hd95(square(2, 3, 1), square(5, 7, 1)) == pytest.approx(5.0)


def test_hd95_ignores_one_border_pixel_in_thirty_that_the_maximum_would_not() -> None:
    truth = square(4, 4, 16)
    stray = truth.copy()
    stray[31, 31] = 1
    assert hd95(stray, truth) == 0.0
    assert hd95(truth, stray) == 0.0


def test_hd95_takes_the_larger_direction() -> None:
    """Every pixel of the small square lies on a border of the large one, but not the other way round."""
    small, large = square(0, 0, 2), square(0, 0, 20)
    assert hd95(small, large) == hd95(large, small) > 10


def test_hd95_is_between_borders_and_not_between_regions() -> None:
    """A hole lies inside the whole, but a fifth of its square's border is the hole's, 7 pixels from the outer one."""
    whole = square(4, 4, 21)
    holed = whole - square(12, 12, 5)
    assert hd95(holed, whole) == pytest.approx(7.0)


def test_hd95_of_empty_masks_counts_a_miss_as_the_diagonal() -> None:
    assert hd95(EMPTY, EMPTY) == 0.0
    assert hd95(EMPTY, square(3, 3, 4)) == pytest.approx(np.hypot(32, 32))
    assert hd95(square(3, 3, 4), EMPTY) == pytest.approx(np.hypot(32, 32))
    assert hd95(np.zeros((3, 4), bool), np.ones((3, 4), bool)) == 5.0


def test_no_pair_of_masks_is_worse_than_a_miss() -> None:
    corner, opposite = square(0, 0, 1), square(31, 31, 1)
    assert hd95(corner, opposite) < hd95(corner, EMPTY)


def test_a_mask_that_fills_the_image_has_the_edge_as_its_border() -> None:
    assert hd95(np.ones((9, 9), bool), np.ones((9, 9), bool)) == 0.0
    assert hd95(np.ones((9, 9), bool), square(4, 4, 1, (9, 9))) == pytest.approx(np.hypot(4, 4), abs=0.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1)])
def test_thin_images_are_measured(shape: tuple[int, int]) -> None:
    full, first = np.ones(shape, bool), np.zeros(shape, bool)
    first[0, 0] = True
    assert dice(full, full) == 1.0
    assert hd95(first, first) == 0.0
    assert 0 <= hd95(full, first) <= max(shape) - 1


def test_volumes_are_measured_in_all_three_directions() -> None:
    a, b = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    a[1:3, 2:4, 2:4] = True
    b[6:8, 2:4, 2:4] = True
    assert dice(a, a) == 1.0
    assert hd95(a, b) == pytest.approx(5.0)
    assert hd95(a, np.zeros_like(a)) == pytest.approx(9 * 3**0.5)


def test_distances_are_in_the_units_of_the_spacing() -> None:
    a, b = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    a[1, 4, 4] = b[4, 4, 4] = True
    assert hd95(a, b, (2.5, 1, 1)) == pytest.approx(7.5)
    assert hd95(a, b, (1, 2.5, 1)) == pytest.approx(3)
    assert hd95(a, np.zeros_like(a), (2, 1, 1)) == pytest.approx(9 * 6**0.5)  # the diagonal, in the same units


@pytest.mark.parametrize("seed", range(4))
def test_both_are_symmetric_and_blind_to_type_and_foreground_value(seed: int) -> None:
    a, b = blob(seed), blob(seed + 10)
    for score in (dice, hd95):
        expected = score(a, b)
        assert score(b, a) == expected
        assert score(a.astype(bool), b.astype(bool)) == expected
        assert score(a * 255, b) == expected
        assert score(a[::-1, ::-1], b[::-1, ::-1]) == pytest.approx(expected)
        assert score(a.T, b.T) == pytest.approx(expected)


def test_masks_are_not_changed() -> None:
    a, b = blob(0), blob(1)
    before = a.copy(), b.copy()
    dice(a, b), hd95(a, b)
    assert (a == before[0]).all()
    assert (b == before[1]).all()


def test_scores_come_per_image_and_in_order() -> None:
    predictions = np.stack([square(8, 8, 8), EMPTY, EMPTY])
    truths = np.stack([square(8, 10, 8), square(8, 8, 8), EMPTY])
    pairs = zip(predictions, truths, strict=True)
    scores = summarize([scores_of(*pair, {}) for pair in pairs], ["a", "b", "c"])["per_image"]
    assert scores.pop("id") == ["a", "b", "c"]
    assert scores["dice"] == [pytest.approx(0.75), 0.0, 1.0]
    assert scores["hd95"] == [pytest.approx(2.0), pytest.approx(np.hypot(32, 32)), 0.0]
    assert all(type(value) is float for values in scores.values() for value in values)


@pytest.mark.parametrize("score", [dice, hd95])
def test_masks_of_different_shape_are_refused(score) -> None:
    with pytest.raises(ValueError, match=r"prediction and truth must have one shape, got \(32, 32\) and \(31, 32\)"):
        score(EMPTY, EMPTY[1:])


@pytest.mark.slow  # importing MONAI takes longer than all other tests of this file
def test_agreement_with_monai() -> None:
    """Both take the larger of the directed 95th percentiles between border pixels; MONAI is asked no empty masks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a foreign package, while it is imported
        metrics = pytest.importorskip("monai.metrics")
    import torch

    pairs = [(blob(seed), blob(seed + 100)) for seed in range(6)] + [(square(0, 0, 9), square(20, 21, 11))]
    pairs += [(blob(seed, (12, 14, 10)), blob(seed + 100, (12, 14, 10))) for seed in range(2)]
    for a, b in pairs:
        tensors = [torch.from_numpy(each)[None, None].float() for each in (a, b)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            distance = metrics.compute_hausdorff_distance(*tensors, percentile=95, include_background=True)
            overlap = metrics.compute_dice(*tensors, include_background=True)
        assert hd95(a, b) == pytest.approx(float(distance), rel=1e-6)
        assert dice(a, b) == pytest.approx(float(overlap), rel=1e-6)
        if a.ndim == 3:
            spacing = (0.7, 1.3, 3.6)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                apart = metrics.compute_hausdorff_distance(*tensors, percentile=95, spacing=[*spacing])
            assert hd95(a, b, spacing) == pytest.approx(float(apart), rel=1e-6)
