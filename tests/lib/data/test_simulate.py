"""Simulators: deterministic, sized, true to their dials, and speckle with the statistics that physics demands."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, label

from lib.common.errors import StudyError
from lib.data.simulate import fields, natural, radiograph, ultrasound
from lib.data.simulate.catalog import SIMULATORS, simulate

NAMES = ("natural", "ultrasound", "radiograph")
FOREGROUND = {"natural": (0.15, 0.35), "ultrasound": (0.05, 0.18), "radiograph": (0.25, 0.5)}  # bounds of the mean


def test_registry_holds_the_simulators_of_the_study() -> None:
    assert set(NAMES) <= set(SIMULATORS)


@pytest.mark.parametrize("name", NAMES)
class TestEverySimulator:
    @pytest.mark.parametrize("size", [32, 100, 136])
    def test_shape_type_and_range(self, name: str, size: int) -> None:
        image, mask = SIMULATORS[name](3, size=size)
        assert image.shape == mask.shape == (size, size)
        assert image.dtype == np.float32
        assert mask.dtype == np.uint8
        assert image.min() >= 0
        assert image.max() <= 1
        assert set(np.unique(mask)) == {0, 1}

    def test_an_image_depends_on_seed_and_index_alone(self, name: str) -> None:
        draw = SIMULATORS[name]
        alone, mask = draw(2, size=64, seed=5)
        draw(7, size=48)
        images, masks = simulate(name, 3, size=64, seed=5)
        np.testing.assert_array_equal(np.rint(alone * 255), images[2])
        np.testing.assert_array_equal(mask, masks[2])
        for other in (draw(3, size=64, seed=5), draw(2, size=64, seed=6)):
            assert np.abs(other[0] - alone).mean() > 0.02
            assert (other[1] != mask).any()

    def test_uint8_set_of_sensible_foreground(self, name: str) -> None:
        images, masks = simulate(name, 16, size=32)
        assert images.dtype == masks.dtype == np.uint8
        share = masks.mean((1, 2))
        low, high = FOREGROUND[name]
        assert low < share.mean() < high
        assert share.min() > 0
        assert share.max() < 0.75
        assert images.std((1, 2)).min() > 8
        assert 60 < images.mean() < 180

    def test_half_the_size_is_the_image_averaged(self, name: str) -> None:
        for index in range(2):
            image, mask = SIMULATORS[name](index, size=128)
            small, small_mask = SIMULATORS[name](index, size=64)
            halved = mask.reshape(64, 2, 64, 2).mean((1, 3)) >= 0.5
            assert (halved != small_mask).mean() < 0.01
            averaged = image.reshape(64, 2, 64, 2).mean((1, 3))
            assert np.corrcoef(averaged.ravel(), small.ravel())[0, 1] > 0.95

    def test_twice_the_size_keeps_the_geometry(self, name: str) -> None:
        _, mask = SIMULATORS[name](1, size=128)
        _, large = SIMULATORS[name](1, size=256)
        assert (large.reshape(128, 2, 128, 2).mean((1, 3)).round() != mask).mean() < 0.02

    def test_bad_arguments_are_named(self, name: str) -> None:
        draw = SIMULATORS[name]
        with pytest.raises(StudyError, match=r"size must be a whole number of at least 32, not 16"):
            draw(0, size=16)
        with pytest.raises(StudyError, match=r"index must be a whole number of at least 0, not -1"):
            draw(-1)
        with pytest.raises(StudyError, match=r"seed must be a whole number of at least 0, not 1\.5"):
            draw(0, seed=1.5)
        with pytest.raises(StudyError, match=r"count must be a whole number of at least 1, not 0"):
            simulate(name, 0)
        with pytest.raises(StudyError, match=r"unknown dial of simulator .*'sharpnes'"):
            simulate(name, 1, sharpnes=1.0)


def test_misspelt_simulator_gets_the_nearest_name() -> None:
    with pytest.raises(StudyError, match=r"unknown simulator 'ultrsound'; did you mean 'ultrasound'\?"):
        simulate("ultrsound", 1)
    with pytest.raises(StudyError, match=r"'contrst'; did you mean 'contrast'\?"):
        simulate("ultrasound", 1, contrst=-8)


@pytest.mark.parametrize(
    ("name", "dial", "value", "message"),
    [
        ("ultrasound", "contrast", -60, r"contrast must be a number from -40 to 20 dB, not -60"),
        ("ultrasound", "speckle", 0.1, r"speckle must be a number from 0\.4 to 4, not 0\.1"),
        ("ultrasound", "density", 0, r"density must be a number from 0\.1 to 1000 scatterers per .* cell, not 0"),
        ("ultrasound", "dynamic_range", "wide", r"dynamic_range must be a number from 20 to 100 dB, not 'wide'"),
        ("ultrasound", "looks", 0, r"looks must be a whole number from 1 to 9, not 0"),
        ("ultrasound", "looks", 10, r"looks must be a whole number from 1 to 9, not 10"),
        ("ultrasound", "lesion", float("nan"), r"lesion must be a number from 0\.4 to 2, not nan"),
        ("ultrasound", "irregularity", -1, r"irregularity must be a number from 0 to 3, not -1"),
        ("radiograph", "opacity", 2, r"opacity must be a number from 0 to 1, not 2"),
        ("radiograph", "scatter", -1, r"scatter must be a number from 0 to 4, not -1"),
        ("radiograph", "photons", 1, r"photons must be a number from 100 to 1e\+07 per pixel, not 1"),
        ("natural", "leaves", 3.5, r"leaves must be a whole number from 0 to 2000, not 3\.5"),
        ("natural", "exponent", 9, r"exponent must be a number from 1 to 5, not 9"),
        ("natural", "contrast", True, r"contrast must be a number from 0 to 2, not True"),
    ],
)
def test_dials_out_of_range(name: str, dial: str, value: object, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        SIMULATORS[name](0, **{dial: value})


class TestUltrasound:
    SHAPE = (256, 160)

    def homogeneous(self, **dials: float) -> np.ndarray:
        """Envelopes of a medium without structure, edges cut off."""
        flat = np.ones(self.SHAPE, np.float32)
        echoes = [
            ultrasound.echo(flat, 0 * flat, np.random.default_rng(seed), **dials)[16:-16, 16:-16] for seed in range(6)
        ]
        return np.stack(echoes)

    def test_fully_developed_speckle_is_rayleigh(self) -> None:
        envelope = self.homogeneous(density=300)
        assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)  # 1.91
        assert (envelope**2).mean() == pytest.approx(1, rel=0.05)
        median = np.median(envelope) / np.sqrt((envelope**2).mean())
        assert median == pytest.approx(np.sqrt(np.log(2)), rel=0.03)

    def test_sparse_scatterers_are_rougher_than_rayleigh(self) -> None:
        ratio = [self.homogeneous(density=d).mean() / self.homogeneous(density=d).std() for d in (0.5, 3, 100)]
        assert ratio[0] < ratio[1] < ratio[2]
        assert ratio[0] < 1.2

    def test_mean_echo_keeps_when_the_beam_widens_and_with_depth(self) -> None:
        for speckle in (0.5, 1, 3):
            envelope = self.homogeneous(density=200, speckle=speckle)
            assert (envelope**2).mean() == pytest.approx(1, rel=0.12)
        upper, lower = np.split((self.homogeneous(density=200) ** 2).mean((0, 2)), 2)
        assert upper.mean() == pytest.approx(lower.mean(), rel=0.1)

    @pytest.mark.parametrize("axis", [1, 2])
    def test_speckle_dial_widens_the_autocorrelation(self, axis: int) -> None:
        def correlation(speckle: float) -> float:
            echo = self.homogeneous(density=100, speckle=speckle)
            echo = echo - echo.mean()
            shifted = np.roll(echo, 2, axis)
            return float((echo * shifted).mean() / (echo**2).mean())

        assert correlation(0.5) + 0.1 < correlation(1) < correlation(2) - 0.1

    def test_lateral_resolution_is_best_at_the_focus(self) -> None:
        echo = self.homogeneous(density=100, focus=0.5)
        echo = echo - echo.mean()
        along = (echo[:, :, 1:] * echo[:, :, :-1]).mean((0, 2)) / (echo**2).mean((0, 2))
        third = len(along) // 3
        assert along[third:-third].mean() < min(along[:third].mean(), along[-third:].mean())

    def test_texture_dials_leave_the_anatomy_alone(self) -> None:
        plain, mask = ultrasound.draw(4)
        for dial in ({"speckle": 2.5}, {"density": 1.0}, {"looks": 1}, {"dynamic_range": 70}, {"contrast": -14}):
            other, other_mask = ultrasound.draw(4, **dial)
            np.testing.assert_array_equal(mask, other_mask)
            assert np.abs(other - plain).mean() > 0.005
            coarse = [fields.reduce(image, 8).ravel() for image in (plain, other)]
            assert np.corrcoef(*coarse)[0, 1] > 0.8

    def test_geometry_dials_change_the_outline_only(self) -> None:
        usual = ultrasound.draw(4)
        for dial in ({"irregularity": 2.0}, {"lesion": 1.5}):
            image, mask = ultrasound.draw(4, **dial)
            assert (mask != usual[1]).any()
            away = np.ones(mask.shape, bool)
            columns = np.flatnonzero((mask | usual[1]).any(0))
            away[:, max(columns[0] - 25, 0) : columns[-1] + 25] = False
            np.testing.assert_allclose(image[away], usual[0][away], atol=1e-3)  # same scatterers, same tissue
        assert ultrasound.draw(4, lesion=1.5)[1].sum() > usual[1].sum()

    def test_contrast_lowers_the_echo_by_that_many_decibels(self) -> None:
        drops = []
        for seed in range(6):
            faint, strong = (
                ultrasound.insonified(np.random.default_rng(seed), self.SHAPE, contrast=c, lesion=1.0, irregularity=0.0)
                for c in (-4, -16)
            )
            np.testing.assert_array_equal(faint.mask, strong.mask)
            core = binary_erosion(faint.mask, iterations=5)  # the beam blurs the rim
            amplitude = [10 ** (a.level / 20) for a in (faint, strong)]
            echo = [ultrasound.echo(a, 0 * a, np.random.default_rng(0), density=100)[core] for a in amplitude]
            drops.append(10 * np.log10((echo[0] ** 2).mean() / (echo[1] ** 2).mean()))
        assert np.mean(drops) == pytest.approx(12, abs=1.5)
        assert min(drops) > 7

    def test_lesion_level_stands_to_its_surround_as_told(self) -> None:
        steps = []
        for seed in range(16):
            a = ultrasound.insonified(
                np.random.default_rng(seed), self.SHAPE, contrast=-10, lesion=1.0, irregularity=0.0
            )
            near = fields.reduce(a.mask, 32) > 0
            near = np.kron(near, np.ones((8, 5))).astype(bool) & ~a.mask
            power = 10 ** (a.level / 10)
            steps.append(10 * np.log10(power[a.mask].mean() / power[near].mean()))
        assert np.mean(steps) == pytest.approx(-10, abs=2.5)

    def test_dynamic_range_stretches_the_greys(self) -> None:
        wide, narrow = (ultrasound.draw(1, dynamic_range=d)[0] for d in (80, 40))
        grey = np.median(wide)  # decibels turn into grey by a straight line: half the range, twice the slope
        between = (np.abs(wide - grey) < 0.1) & (narrow > 0.05) & (narrow < 0.95)
        slope = np.polyfit(wide[between], narrow[between], 1)[0]
        assert slope == pytest.approx(2, rel=0.1)


class TestRadiograph:
    def test_lungs_are_two_and_darker_than_the_body_between(self) -> None:
        darker = []
        for index in range(12):
            image, mask = radiograph.draw(index, opacity=0.0)
            parts, count = label(mask)
            sizes = np.sort(np.bincount(parts.ravel())[1:])[::-1]
            assert count >= 2
            assert sizes[1] > 0.3 * sizes[0]
            rows = np.flatnonzero(mask.any(1))
            row = rows[len(rows) // 2]
            columns = np.flatnonzero(mask[row])
            between = np.setdiff1d(np.arange(columns[0], columns[-1]), columns)
            assert between.size > 3
            darker.append(image[row, between].mean() - image[row, columns].mean())
        assert min(darker) > 0

    def test_dials_keep_the_mask(self) -> None:
        plain, mask = radiograph.draw(1)
        for dial in ({"opacity": 1.0}, {"scatter": 3.0}, {"photons": 300}):
            other, other_mask = radiograph.draw(1, **dial)
            np.testing.assert_array_equal(mask, other_mask)
            assert np.abs(other - plain).mean() > 0.002

    def test_fewer_photons_are_noisier(self) -> None:
        def roughness(photons: float) -> float:
            image = radiograph.draw(2, photons=photons)[0]
            return float(np.abs(np.diff(image, 2, axis=0)).mean())

        assert roughness(300) > 1.5 * roughness(1e6)

    def test_opacity_brightens_the_lungs(self) -> None:
        def step(opacity: float) -> float:
            drawn = (radiograph.draw(i, opacity=opacity, size=64) for i in range(10))
            return float(np.mean([image[mask == 1].mean() - image[mask == 0].mean() for image, mask in drawn]))

        assert step(1.0) > step(0.0) + 0.015


class TestNatural:
    def test_dials_keep_the_mask(self) -> None:
        plain, mask = natural.draw(1)
        for dial in ({"leaves": 20}, {"exponent": 1.0}, {"contrast": 0.0}):
            other, other_mask = natural.draw(1, **dial)
            np.testing.assert_array_equal(mask, other_mask)
            assert np.abs(other - plain).mean() > 0.01

    def test_radii_follow_the_power_law(self) -> None:
        for exponent in (1.0, 2.0, 3.0):
            radii = natural._radii(np.random.default_rng(0), 20000, exponent)
            low, high = radii.min(), radii.max()
            counts, edges = np.histogram(radii, np.geomspace(low, high, 8))
            density = counts / np.diff(edges)
            slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(density), 1)[0]
            assert slope == pytest.approx(-exponent, abs=0.15)

    def test_contrast_sets_the_object_off(self) -> None:
        def step(contrast: float) -> float:
            drawn = (natural.draw(i, contrast=contrast, size=64) for i in range(8))
            return float(np.mean([abs(image[mask == 1].mean() - image[mask == 0].mean()) for image, mask in drawn]))

        assert step(0.0) + 0.05 < step(2.0)


def test_smooth_fields_have_unit_variance_and_the_same_look_at_any_size() -> None:
    large = [fields.smooth(np.random.default_rng(seed), (128, 128), (6, 6)) for seed in range(60)]
    assert np.var(large) == pytest.approx(1, rel=0.15)
    small = fields.smooth(np.random.default_rng(0), (32, 32), (6, 6))
    assert np.corrcoef(fields.reduce(large[0], 32).ravel(), small.ravel())[0, 1] > 0.99


def test_area_reduction_keeps_the_mean() -> None:
    image = np.random.default_rng(0).random((128, 160))
    for size in (32, 50, 100):
        assert fields.reduce(image, size).mean() == pytest.approx(image.mean(), rel=1e-4)


@pytest.mark.parametrize("roughness", [0.05, 0.2])
def test_outline_departs_from_a_circle_by_its_roughness(roughness: float) -> None:
    radii = np.stack([fields.outline(np.random.default_rng(seed), roughness) for seed in range(60)])
    assert radii.mean() == pytest.approx(1, abs=0.02)
    assert radii.std(1).mean() == pytest.approx(roughness, rel=0.3)
    np.testing.assert_allclose(fields.outline(np.random.default_rng(0), 0.0), 1)
