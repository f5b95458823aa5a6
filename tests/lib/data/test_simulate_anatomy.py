"""Embedded anatomy: bodies and their distances, tissue maps, contrasts by signal equations, variation, slices."""

from __future__ import annotations

import numpy as np
import pytest

from lib.common.errors import StudyError
from lib.data.simulate import anatomy, brain
from lib.data.simulate.anatomy import CONTRASTS, TISSUES, Tissue, slices, tissue_maps, volume
from lib.data.simulate.shapes import Canvas, blend, ellipsoid, folds, smooth_volume, tube

SIZE = 40


def line(*points: tuple[float, float, float]) -> np.ndarray:
    return np.array(points, np.float32).T


def test_distances_of_bodies():
    ball = ellipsoid(line((5, 0, 0), (0, 3, 0), (1, 1, 1), (1, 1, 4)), (1, 1, 1), (2, 2, 2))
    assert ball == pytest.approx([np.sqrt(18) - 2, np.sqrt(6) - 2, -2, 1], abs=1e-4)
    egg = ellipsoid(line((6, 0, 0), (0, 0, 3)), (0, 0, 0), (4, 2, 1))
    assert egg == pytest.approx([2, 2], abs=1e-4)  # exact along the axes
    raised = ellipsoid(line((0, 3.5, 3.5)), (0, 0, 0), (1, 5, 1), pitch=45)
    assert raised[0] < 0  # its long axis points up and to the front
    rod = tube(line((0, 0, 5), (3, 0, 5), (0, 0, 12)), [(0, 0, 0, 1), (0, 0, 10, 1)])
    assert rod == pytest.approx([-1, 2, 1], abs=1e-5)
    cone = tube(line((5, 0, 5)), [(0, 0, 0, 1), (0, 0, 10, 3)])
    assert cone == pytest.approx([3], abs=1e-5)
    union = blend(np.array([-1.0, 5.0, 1.0]), np.array([4.0, -2.0, 1.0]), 2.0)
    assert union[:2] == pytest.approx([-1, -2])
    assert union[2] == pytest.approx(0.5)  # rounded where both are equally near


def test_painting_keeps_whole_voxels():
    canvas = Canvas(line(*[(x, 0, 0) for x in range(-3, 4)]), 2.0, ["air", "fat", "bone"])
    canvas.paint("fat", np.array([9.0, 2, 0, -3, -3, 0.5, 9]))
    assert canvas.fractions[1] == pytest.approx([0, 0, 0.5, 1, 1, 0.25, 0])
    canvas.paint("bone", np.full(7, -9.0), within=np.array([0, 0, 0.5, 0.5, 0, 0, 1.0]))
    assert canvas.fractions[2] == pytest.approx([0, 0, 0.5, 0.5, 0, 0, 1])
    assert canvas.fractions.sum(axis=0) == pytest.approx(1)
    part = canvas.part(np.array([False] * 5 + [True] * 2))
    part.paint("fat", np.full(2, -9.0))
    assert canvas.fractions[1, 5:] == pytest.approx([0.25, 0])
    canvas.put(part)
    assert canvas.fractions[1] == pytest.approx([0, 0, 0.25, 0.5, 1, 1, 1])


def test_fields():
    rough, again = (smooth_volume(np.random.default_rng(3), 48, 12) for _ in range(2))
    assert (rough == again).all()
    assert rough.std() == pytest.approx(1, abs=0.15)
    coarse = smooth_volume(np.random.default_rng(3), 24, 12)
    assert np.corrcoef(coarse.ravel(), rough.reshape(24, 2, 24, 2, 24, 2).mean(axis=(1, 3, 5)).ravel())[0, 1] > 0.98
    at = np.zeros((3, 4000), np.float32)
    at[0] = np.linspace(0, 400, 4000)
    value, slope = folds(at, np.random.default_rng(0), 20.0, 60)
    assert (np.abs(np.gradient(value, 0.1)) <= slope * 1.01 + 1e-2).all()
    crossings = np.count_nonzero(np.diff(np.sign(value)))
    assert 400 / 20 < crossings < 3 * 400 / 20  # about 2 / sqrt(3) per wavelength along a line


@pytest.mark.parametrize("name", list(anatomy.ANATOMIES))
def test_tissue_maps_are_fractions(name: str):
    maps = tissue_maps(name, 0, SIZE)
    assert maps.shape == (len(TISSUES), SIZE, SIZE, SIZE)
    assert maps.min() >= 0
    assert maps.sum(axis=0) == pytest.approx(1, abs=1e-5)
    present = {tissue for tissue, share in zip(TISSUES, maps.mean(axis=(1, 2, 3)), strict=True) if share > 1e-4}
    expected = {
        "brain": {"air", "bone", "skin", "fat", "muscle", "fluid", "gray", "white", "nuclei", "stem"},
        "deep brain": {"fluid", "gray", "white", "nuclei", "pallidum", "stem"},
        "knee": {"air", "bone", "skin", "fat", "marrow", "muscle", "cartilage", "meniscus", "synovia"},
    }
    assert expected[name] <= present


def test_the_brain_has_a_brains_proportions():
    """Milliliters: an adult has some 600 of gray and 500 of white matter, and a few hundred of fluid."""
    places = {tissue: place for place, tissue in enumerate(TISSUES)}
    voxel = (anatomy.ANATOMIES["brain"].field / 64) ** 3 / 1000
    milliliters = [tissue_maps("brain", subject, 64).sum(axis=(1, 2, 3)) * voxel for subject in range(3)]
    for found in milliliters:
        assert 350 < found[places["gray"]] < 900
        assert 350 < found[places["white"]] < 900
        assert 80 < found[places["fluid"]] < 500
    assert np.std([found[places["fluid"]] for found in milliliters]) > 2


def test_cortex_lies_between_fluid_and_white_matter():
    maps = tissue_maps("brain", 1, 96)
    fluid, gray, white = (maps[list(TISSUES).index(tissue)] for tissue in ("fluid", "gray", "white"))
    plane = 62  # above the nuclei
    around = {name: np.stack([np.roll(field[:, :, plane], step, axis) for axis in (0, 1) for step in (-1, 1)]).max(0)
              for name, field in (("fluid", fluid), ("white", white))}  # fmt: skip
    cortex = gray[:, :, plane] > 0.6
    assert cortex.sum() > 300
    assert (np.maximum(around["fluid"], around["white"])[cortex] > 0.1).mean() > 0.8
    assert (white[:, :, plane] > 0.6)[around["fluid"] > 0.8].mean() < 0.1  # and seldom touch


def test_signals_follow_the_equations():
    water = Tissue(4300, 1500, 1.0)
    assert CONTRASTS["FLAIR"](water) == pytest.approx(0, abs=0.005)
    assert CONTRASTS["T2"](Tissue(1000, 100, 1.0)) == pytest.approx((1 - np.exp(-4)) * np.exp(-1))
    assert CONTRASTS["PD"](Tissue(1000, 1e9, 0.5)) == pytest.approx(0.5 * (1 - np.exp(-5)))
    ernst = np.sin(np.radians(25)) * (1 - np.exp(-20 / 800)) / (1 - np.exp(-20 / 800) * np.cos(np.radians(25)))
    assert CONTRASTS["T1"](Tissue(800, 1e9, 1.0)) == pytest.approx(ernst)
    signal = {name: {tissue: CONTRASTS[name](TISSUES[tissue]) for tissue in TISSUES} for name in CONTRASTS}
    assert signal["T1"]["white"] > signal["T1"]["gray"] > signal["T1"]["fluid"]
    assert signal["T2"]["fluid"] > signal["T2"]["gray"] > signal["T2"]["white"] > signal["T2"]["muscle"]
    assert signal["FLAIR"]["gray"] > signal["FLAIR"]["white"] > signal["FLAIR"]["fluid"]


def test_tissues_have_their_signals_in_a_volume():
    maps = tissue_maps("brain", 2, SIZE)
    for contrast, order in {"T1": ("white", "gray", "fluid"), "T2": ("fluid", "gray", "white")}.items():
        shown = volume("brain", 2, contrast, size=SIZE)
        means = [shown[maps[list(TISSUES).index(tissue)] > 0.9].mean() for tissue in order]
        assert means[0] > means[1] + 0.05
        assert means[1] > means[2] + 0.05


@pytest.mark.parametrize("name", list(anatomy.ANATOMIES))
def test_volumes_are_seeded_and_differ_between_subjects(name: str):
    one = volume(name, 3, "T1", size=SIZE)
    assert one.shape == (SIZE, SIZE, SIZE)
    assert one.dtype == np.float32
    assert one.min() >= 0
    assert 0.95 <= one.max() <= 1
    tissue_maps.cache_clear()
    assert (one == volume(name, 3, "T1", size=SIZE)).all()
    other = volume(name, 4, "T1", size=SIZE)
    alike = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    assert (0.2 if name == "deep brain" else 0.5) < alike < 0.97  # the same region of another person
    assert np.corrcoef(one.ravel(), volume(name, 3, "T2", size=SIZE).ravel())[0, 1] < 0.95


@pytest.mark.parametrize("name", list(anatomy.LABELS))
def test_labels_are_the_tissues_that_fill_most_of_a_voxel(name: str):
    image, mask = anatomy.labeled_volume(name, 2, "T1", size=SIZE)
    np.testing.assert_array_equal(image, np.rint(volume(name, 2, "T1", size=SIZE) * 255))
    assert set(np.unique(mask)) == set(range(len(anatomy.LABELS[name]) + 1))
    maps = dict(zip(TISSUES, tissue_maps(name, 2, SIZE), strict=True))
    for number, tissues in enumerate(anatomy.LABELS[name].values(), start=1):
        share = sum(maps[each] for each in tissues)
        assert (mask[share > 0.5] == number).all()
        assert (share[mask == number] > 1 / (len(anatomy.LABELS[name]) + 1) - 1e-6).all()


def test_the_deep_brain_is_the_middle_of_the_head():
    head, middle = (volume(name, 0, "T1", size=size) for name, size in (("brain", 108), ("deep brain", 48)))  # 2 mm
    start = [round(54 + (there - here) / 2 - 24) for here, there in zip(brain.CENTER, (0, 0, -4), strict=True)]
    part = head[tuple(slice(each, each + 48) for each in start)]
    assert np.corrcoef(part.ravel(), middle.ravel())[0, 1] > 0.6  # warps are drawn on the grid of each


def test_a_subject_is_the_same_at_any_size():
    small, large = (volume("brain", 0, "T1", size=size) for size in (32, 64))
    reduced = large.reshape(32, 2, 32, 2, 32, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.97


def test_slices():
    whole = volume("brain", 0, "T1", size=SIZE)
    found = slices("brain", 0, "T1", "axial", 5, size=SIZE)
    assert found.shape == (5, SIZE, SIZE)
    first, last = anatomy.ANATOMIES["brain"].spans["axial"]
    for place, image in zip((first, last), found[[0, -1]], strict=True):
        assert (image == whole[:, ::-1, round(place * (SIZE - 1))].T).all()
    for name, region in anatomy.ANATOMIES.items():
        for direction in region.spans:
            shown = slices(name, 1, "PD", direction, 6, size=SIZE)
            assert ((shown > 0.1).mean(axis=(1, 2)) > 0.1).all()


def test_refusals():
    for call, message in (
        (lambda: volume("brian", 0, "T1", size=32), "did you mean 'brain'"),
        (lambda: volume("brain", 0, "T3", size=32), "unknown contrast 'T3'"),
        (lambda: volume("brain", -1, "T1", size=32), "subject must be a whole number of at least 0"),
        (lambda: volume("brain", 0, "T1", size=8), "size must be a whole number of at least 32"),
        (lambda: slices("brain", 0, "T1", "oblique", 2, size=32), "unknown slice direction 'oblique'"),
        (lambda: slices("brain", 0, "T1", "axial", 99, size=32), "count must be a whole number from 1 to 32"),
    ):
        with pytest.raises(StudyError, match=message):
            call()
