"""Pictures: outlines, legends of labels, and volumes as three planes; warnings are errors, also while drawing."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from analysis.figures.images import OUTLINES, example_grid, image_grid, real_and_simulated
from lib.data.tasks.task import Task


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def masks_of(count):
    masks = np.zeros((count, 16, 16), np.uint8)
    masks[:, 4:10, 4:12] = 1
    return masks


def outlines(ax):
    return len([each for each in ax.collections if type(each).__name__ == "QuadContourSet"])


def test_examples_outline_every_mask():
    masks = masks_of(8)
    masks[1] = 0
    masks[2] = 1
    grid_of = image_grid(np.random.default_rng(0).random((8, 1, 16, 16)), masks, "Lesions")
    grid_of.flat[0].get_figure().draw_without_rendering()
    assert grid_of.shape == (2, 6)
    assert [outlines(ax) for ax in grid_of.flat] == [1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    assert grid_of.flat[1].get_title() == "mask empty"
    assert "outline: mask" in grid_of.flat[0].get_figure().get_suptitle()


def test_examples_need_a_mask_per_image():
    with pytest.raises(ValueError, match=r"as many images as masks .* got 2, 1"):
        image_grid(np.zeros((2, 8, 8)), masks_of(1), "Lesions")
    with pytest.raises(ValueError, match="at least one, got 0, 0"):
        image_grid([], [], "Lesions")
    with pytest.raises(ValueError, match="got 1, 1 and 2"):
        image_grid(np.zeros((1, 8, 8)), masks_of(1), "Lesions", captions=["a", "b"])


def test_real_stands_above_simulated():
    real = [np.full((10, 14), 90, np.uint8)] * 2, [np.ones((10, 14), np.uint8)] * 2
    grid_of = real_and_simulated(
        real, (np.zeros((6, 16, 16)), masks_of(6)), real_title="BUSI", simulated_title="ultrasound (simulated)"
    )
    figure = grid_of[0, 0].get_figure(root=True)
    figure.draw_without_rendering()
    assert grid_of.shape == (2, 5)
    assert [part.get_suptitle() for part in figure.subfigs] == [
        "real: BUSI (outline: mask)", "simulated: ultrasound (outline: mask)",
    ]  # fmt: skip
    assert [len(ax.images) for ax in grid_of[0]] == [1, 1, 0, 0, 0]


def volumes(count: int = 2, side: tuple[int, int, int] = (12, 10, 8)):
    """Volumes of noise with a box of label 1 on the right, one of label 2 in front of its top, and ignored voxels."""
    images = np.random.default_rng(0).normal(size=(count, *side)).astype(np.float32)
    masks = np.zeros((count, *side), np.uint8)
    masks[:, 7:11, 2:6, 2:5] = 1
    masks[:, 7:9, 6:8, 4:7] = 2
    masks[:, 0, 0, 0] = 255
    return images, masks


def labels_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def task_of(**about):
    return Task("heads", "heads", "real", "MRI", dim=3, **about)


def test_a_volume_is_shown_as_three_planes_that_cross_in_what_is_labeled():
    images, masks = volumes()
    grid_of = image_grid(images, masks, "Heads", task=task_of(labels=("bone", "skin")), captions=["a", "b"])
    figure = grid_of.flat[0].get_figure()
    figure.draw_without_rendering()
    assert grid_of.shape == (1, 6)
    assert [ax.get_title() for ax in grid_of.flat] == [
        "a\naxial", "\ncoronal", "\nsagittal", "b\naxial", "\ncoronal", "\nsagittal"
    ]  # fmt: skip
    axial, coronal, sagittal = (np.asarray(ax.images[0].get_array()) for ax in grid_of.flat[:3])
    assert (axial.shape, coronal.shape, sagittal.shape) == ((10, 12), (8, 12), (8, 10))
    places = np.argwhere((masks[0] > 0) & (masks[0] < 255))
    x, y, z = places[np.square(places - places.mean(0)).sum(1).argmin()]
    assert masks[0][x, y, z] in (1, 2)
    for shown, right, up in ((axial, x, y), (coronal, x, z), (sagittal, y, z)):  # one voxel, in all three planes
        assert shown[len(shown) - 1 - up, right] == images[0][x, y, z]
    np.testing.assert_array_equal(axial, images[0][:, ::-1, z].T)
    assert min(outlines(ax) for ax in grid_of.flat) >= 1
    assert labels_of(figure) == ["bone", "skin"]
    assert figure.get_suptitle() == "Heads (outlines: labels)"


def test_planes_are_told_apart_however_voxels_lie():
    images, masks = volumes(1)
    plain = image_grid(images, masks, "Heads").flat[:3]
    about = task_of(labels=("bone", "skin"), spacing=(3.0, 1.0, 1.0))
    assert about.widest == 0
    swapped = [np.swapaxes(each, 1, 3) for each in (images, masks)]  # the widest axis last, as networks see it
    turned = image_grid(swapped[0][:, None], swapped[1], "Heads", task=about).flat[:3]
    for first, second in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(first.images[0].get_array(), second.images[0].get_array())
    assert [ax.get_aspect() for ax in plain] == [1, 1, 1]
    assert [ax.get_aspect() for ax in turned] == pytest.approx([1 / 3, 1 / 3, 1])


def test_a_volume_of_which_nothing_is_labeled_shows_its_middle():
    images, masks = volumes(1)
    grid_of = image_grid(images, np.zeros_like(masks), "Heads", columns=1)
    assert grid_of.shape == (1, 3)
    assert [ax.get_title() for ax in grid_of.flat] == [
        f"{each} mask empty" for each in ("axial", "coronal", "sagittal")
    ]
    np.testing.assert_array_equal(grid_of.flat[0].images[0].get_array(), images[0][:, ::-1, 4].T)
    assert not labels_of(grid_of.flat[0].get_figure())


def test_labels_in_the_plane_have_a_legend_and_a_single_one_has_none_unless_it_is_named():
    masks = masks_of(2)
    images = np.zeros((2, 16, 16))
    assert not labels_of(image_grid(images, masks, "Lesions").flat[0].get_figure())
    named = image_grid(images, masks, "Lesions", task=Task("a", "a", "real", "x", labels=("lesion",)))
    assert labels_of(named.flat[0].get_figure()) == ["lesion"]
    masks[1, 12:14, 2:4] = 3
    masks[1, 0, 0] = 255
    several = image_grid(images, masks, "Parts").flat[0].get_figure()
    assert labels_of(several) == ["label 1", "label 3"]
    colors = [line.get_color() for line in several.legends[0].get_lines()]
    assert colors == [OUTLINES[0], OUTLINES[2]]
    assert several.get_suptitle() == "Parts (outlines: labels)"
    masks[1, 10:12, 10:12] = 7  # the color of the first again, on another line
    again = image_grid(images, masks, "Parts").flat[0].get_figure().legends[0].get_lines()
    assert (again[2].get_color(), again[2].get_linestyle()) == (OUTLINES[0], "--")


def test_real_volumes_stand_above_simulated_ones():
    grid_of = real_and_simulated(volumes(3), volumes(2), real_title="MRI", simulated_title="heads", count=2)
    assert grid_of.shape == (2, 6)
    assert [len(ax.images) for ax in grid_of.flat] == [1] * 12
    assert [labels_of(part) for part in grid_of[0, 0].get_figure(root=True).subfigs] == [["label 1", "label 2"]] * 2


def test_a_legend_of_long_names_stays_in_the_figure():
    names = tuple(f"a structure with quite a long name, {number}" for number in range(5))
    masks = np.arange(6).repeat(4).repeat(2).reshape(1, 6, 8)
    figure = image_grid(np.zeros((1, 6, 8)), masks, "Parts", task=Task("a", "a", "real", "x", labels=names)).flat[0]
    figure = figure.get_figure()
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1


def test_examples_of_a_task_are_six_images_or_two_volumes():
    assert example_grid("sim_radiograph", 32).shape == (1, 6)
    grid_of = example_grid("sim_knee_pd_3d", 64)
    assert grid_of.shape == (1, 6)
    assert grid_of.flat[0].images[0].get_array().shape == (32, 32)
    assert labels_of(grid_of.flat[0].get_figure()) == ["bone", "cartilage", "muscle"]
