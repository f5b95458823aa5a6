"""A user's own folder of volumes becomes a task of three dimensions, or is refused with what to do."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prepared_sets import call

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.cards import find_card
from lib.data.preparation.volumes.resampling import Window, prepared, resampled_geometry
from lib.data.prepared_volumes import VolumeIndex, original_mask, prepared_volume
from lib.data.tasks.task import get_task
from lib.imaging.grids import Grid, decoded, encoded, read_grid

MIDDLE = np.array([12.0, -7.0, 33.0])  # of a ball, in millimeters to the right, front and up
CODES = {"uint8": 2, "int16": 4, "float32": 16, "uint16": 512}


def nifti(voxels: np.ndarray, affine: np.ndarray, slope: float = 1.0, shift: float = 0.0) -> bytes:
    """(x, y, z) or (x, y, z, c) of any type as the bytes of a compressed file whose header scales values."""
    header = bytearray(encoded(Grid(np.zeros((1, 1, 1, 1), np.uint8), affine), compress=False)[:352])
    struct.pack_into("<8h", header, 40, voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim))
    struct.pack_into("<2h", header, 70, CODES[voxels.dtype.name], 8 * voxels.dtype.itemsize)
    struct.pack_into("<2f", header, 112, slope, shift)
    return gzip.compress(bytes(header) + voxels.tobytes(order="F"), 1)


def write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def places(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Millimeters (x, y, z, 3) of voxels."""
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


def lit(there: np.ndarray) -> np.ndarray:
    """A smooth image that tells all directions apart, never 0."""
    x, y, z = np.moveaxis(there - MIDDLE, -1, 0)
    return 500 + 12 * x - 8 * y + 5 * z + 60 * np.sin(x / 4) * np.cos(y / 5)


def drawn(there: np.ndarray) -> np.ndarray:
    """A ball of 8 mm: 1 in its left half, 2 in its right half, but for 4 at its top."""
    x, y, z = np.moveaxis(there - MIDDLE, -1, 0)
    ball = x * x + y * y + z * z < 64
    return np.where(ball, np.where(z > 4, 4, np.where(x > 0, 2, 1)), 0).astype(np.uint8)


def turned(spacing: tuple[float, float, float], order: tuple[int, int, int], signs: tuple[int, int, int], angle: float):
    """An affine map and a shape of some 40 mm around the ball, axes permuted, flipped, and turned about up."""
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    columns = turn @ np.eye(3)[:, list(order)] * np.array(signs) * np.array(spacing)
    shape = tuple(round(40 / step) for step in spacing)
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = MIDDLE + np.array((1.3, -0.4, 0.7)) - columns @ ((np.array(shape) - 1) / 2)
    return affine, shape


GEOMETRIES = [
    ((1.0, 1.0, 1.0), (0, 1, 2), (1, 1, 1), 0.0),
    ((1.5, 1.5, 1.5), (0, 1, 2), (-1, -1, 1), 0.0),  # as most scanners write
    ((0.8, 1.0, 2.5), (2, 0, 1), (-1, 1, -1), 0.0),
    ((2.0, 0.7, 0.7), (1, 2, 0), (1, -1, -1), 0.2),
    ((1.0, 1.2, 2.0), (0, 1, 2), (1, 1, 1), -0.3),
]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Ten cases in images/ and masks/ of small volumes at 1 mm, of five patients; values 0 and 1."""
    folder = tmp_path / "heads"
    for number in range(10):
        affine, shape = turned((1.0, 1.0, 1.0), (0, 1, 2), (1, 1, 1), 0.0)
        small = tuple(side // 2 for side in shape)
        affine[:3, 3] += 10
        there = places(affine, small)
        image = np.rint(lit(there) + np.random.default_rng(number).normal(0, 3, small))
        name = f"patient{number // 2}_visit{number % 2}.nii.gz"
        write(folder / "images" / name, nifti(image.astype(np.int16), affine))
        write(folder / "masks" / name, nifti((drawn(there) > 0).astype(np.uint8), affine))
    return folder


@pytest.mark.parametrize(("unit", "long"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_headers_in_other_units_give_millimeters(unit: int, long: float) -> None:
    affine = turned(*GEOMETRIES[2])[0]
    content = bytearray(encoded(Grid(np.zeros((1, 2, 2, 2), np.uint8), affine), compress=False))
    content[123] = unit | 8  # seconds, of an axis of time
    np.testing.assert_allclose(decoded(bytes(content), "x").affine[:3], affine[:3] * long, rtol=1e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_voxels_stay_where_they_are(geometry: Any) -> None:
    affine, shape = turned(*geometry)
    there = places(affine, shape)
    away = np.abs(there - MIDDLE).max(-1)
    image = Grid(np.where(away < 15, lit(there), 0)[None].astype(np.float32), affine)
    volume = prepared(image, drawn(there), [None], (1.0, 1.0, 1.0))
    now = places(volume.image.affine, volume.image.shape)
    np.testing.assert_allclose(volume.image.spacing, 1, rtol=0.01)
    np.testing.assert_allclose(volume.mask.affine, volume.image.affine)
    assert volume.outside == 0
    angle = geometry[3]
    np.testing.assert_allclose(
        volume.image.affine[:3, :3],
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]],
        atol=1e-9,
    )
    inner = np.abs(now - MIDDLE).max(-1) < 11
    assert np.corrcoef(volume.image.voxels[0][inner], lit(now)[inner])[0, 1] > 0.9995
    for value in (1, 2, 4):
        found, planted = (
            where.mean(0) for where in (now[volume.mask.voxels[0] == value], there[drawn(there) == value])
        )
        assert np.abs(found - planted).max() < 0.35
    assert set(np.unique(volume.mask.voxels).tolist()) == {0, 1, 2, 4}


def test_the_middle_and_the_edges_stay_when_the_spacing_changes() -> None:
    affine, shape = turned(*GEOMETRIES[4])
    grid = Grid(np.zeros((1, *shape), np.float32), affine)
    new, sides = resampled_geometry(grid, (1.7, 0.9, 3.1))
    for corner in (-0.5, 0.5):  # of the volume, in parts of its size
        before = affine[:3, :3] @ (np.array(shape) * (0.5 + corner) - 0.5) + affine[:3, 3]
        after = new[:3, :3] @ (np.array(sides) * (0.5 + corner) - 0.5) + new[:3, 3]
        turn = new[:3, :3] / np.linalg.norm(new[:3, :3], axis=0)
        assert (np.abs(turn.T @ (after - before)) < np.array((1.7, 0.9, 3.1)) / 4 + 1e-9).all()
    close, same = resampled_geometry(grid, (1.005, 1.195, 2.01))
    np.testing.assert_array_equal(close, affine)
    assert same == shape


def test_a_volume_is_cropped_and_normalized_within_the_body() -> None:
    draw = np.random.default_rng(0)
    image = np.zeros((2, 20, 20, 20), np.float32)
    image[0, 4:12, 5:15, 6:18] = draw.normal(100, 7, (8, 10, 12))
    image[1, 3:12, 5:15, 6:18] = draw.normal(10, 2, (9, 10, 12))
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[8, 8, 8], mask[19, 19, 19], mask[0, 0, 0] = 2, 1, 255
    affine = np.diag([1, 1, 2, 1.0])
    volume = prepared(Grid(image, affine), mask, [None, None], (1, 1, 2))
    assert volume.image.shape == (9, 10, 12)
    np.testing.assert_array_equal(volume.image.affine[:3, 3], [3, 5, 12])
    assert volume.outside == 0.5
    assert volume.mask.voxels[0, 5, 3, 2] == 2
    body = np.any(image[:, 3:12, 5:15, 6:18] != 0, 0)
    for channel in volume.image.voxels:
        assert abs(channel[body].mean()) < 1e-5
        assert abs(channel[body].std() - 1) < 1e-5
    full = prepared(Grid(np.abs(image[:, 3:12, 5:15, 6:18]), affine), mask[3:12, 5:15, 6:18], [None] * 2, (1, 1, 2))
    assert full.image.voxels[0].std() == pytest.approx(1, abs=1e-5)  # few zeros: they count


def test_computed_tomography_is_normalized_by_foreground_of_all() -> None:
    values = np.arange(1001.0)
    window = Window.of(values)
    assert (window.low, window.high, window.mean) == (5, 995, 500)
    image = Grid(np.array([-1000, 0, 400, 2000], np.float32).reshape(1, 4, 1, 1), np.eye(4))
    found = prepared(image, np.zeros((4, 1, 1), np.uint8), [window], (1, 1, 1)).image.voxels.ravel()
    np.testing.assert_allclose(found, (np.array([5, 5, 400, 995]) - 500) / values.std(), rtol=1e-6)


def test_a_plain_folder_becomes_a_task(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("card", plain, "--groups", r"patient\d+", "--licence", "mine") == 0
    out = capsys.readouterr().out
    assert "note: 5 groups: patient0, patient1, patient2, patient3 ..." in out
    assert "warning" not in out
    card, task = find_card("heads"), get_task("heads")
    assert (card.dim, card.pairs, card.groups, card.split.folds, card.channels) == (3, 10, 5, 5, 1)
    assert (task.dim, task.spacing, task.shape) == (3, (1.0, 1.0, 1.0), (20, 20, 20))
    index = VolumeIndex.of(card)
    assert index.groups[:3] == ["patient0", "patient0", "patient1"]
    image, mask = prepared_volume(index, 3)
    source = read_grid(plain / "masks" / "patient1_visit1.nii.gz")
    np.testing.assert_array_equal(mask, source.voxels[0])
    np.testing.assert_allclose(image.affine, source.affine, atol=1e-4)
    assert abs(float(image.voxels.mean())) < 1e-5
    with Image.open(card.path / "overview.png") as picture:
        assert picture.size == (3 * 160, 4 * 160)
    assert call("check", "heads") == 0
    assert call("list") == 0
    assert "10 pairs" in capsys.readouterr().out
    with pytest.raises(StudyError, match="the name 'heads' is taken already"):
        call("card", plain)


def test_masks_are_kept_as_they_were_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "turned"
    for number, geometry in enumerate(GEOMETRIES):
        affine, shape = turned(*geometry)
        there = places(affine, shape)
        write(folder / f"case {number}.nii.gz", nifti(np.rint(lit(there)).astype(np.int16), affine, 0.5, 3.0))
        scaled = np.rint(drawn(there) * 10).astype(np.int16)
        write(folder / f"case {number}_seg.nii.gz", nifti(scaled, affine, 0.1))
    assert call("card", folder, "--labels", "4=top, 1=left, 2=ignore", "--spacing", "2,2,2") == 0
    index = VolumeIndex.of(find_card("turned"))
    assert index.card.labels == ("top", "left")
    assert "resampled to 2 x 2 x 2 mm" in index.card.preparation
    for place, geometry in enumerate(GEOMETRIES):
        affine, shape = turned(*geometry)
        numbered = np.select([drawn(places(affine, shape)) == value for value in (4, 1, 2)], [1, 2, 255], 0)
        kept = read_grid(index.file("originals", f"{place:04d}"))
        np.testing.assert_array_equal(kept.voxels[0], numbered)
        np.testing.assert_allclose(kept.affine, affine, atol=1e-4)
        image, mask = prepared_volume(index, place)
        np.testing.assert_allclose(image.spacing, 2, rtol=1e-5)
        original = original_mask(index, place)
        for value in (1, 2, 255):
            one, other = (
                places(there.affine, there.shape)[voxels == value].mean(0)
                for there, voxels in ((image, mask), (original, original.voxels[0]))
            )
            assert np.abs(one - other).max() < 1
    assert call("check", "turned") == 0


def decathlon(folder: Path, labels: dict[str, Any], channels: int = 1, value: int = 1, **more: Any) -> Path:
    """Five cases as the Decathlon or nnU-Net lay them out, whose masks hold 0 to 3."""
    affine = np.diag([1, 1, 3, 1.0])
    for number in range(5):
        draw = np.random.default_rng(number)
        shape = (12, 10, 6)
        mask = draw.integers(0, 4, shape).astype(np.uint8)
        images = draw.integers(-200, 200, (*shape, channels)).astype(np.int16) + (100 * mask[..., None]).astype(
            np.int16
        )
        if more.get("apart"):
            for channel in range(channels):
                write(folder / "imagesTr" / f"a_{number}_{channel:04d}.nii.gz", nifti(images[..., channel], affine))
        else:
            write(folder / "imagesTr" / f"a_{number}.nii.gz", nifti(images.squeeze(), affine))
        write(folder / "labelsTr" / f"a_{number}.nii.gz", nifti(mask, affine))
    about = {"labels": labels, **{key: each for key, each in more.items() if key != "apart"}}
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def test_the_decathlon_is_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"0": "background", "1": "edema", "2": "core", "3": "ignore"}
    listed = [{"image": f"./imagesTr/a_{n}.nii.gz", "label": f"./labelsTr/a_{n}.nii.gz"} for n in range(4)]
    decathlon(tmp_path / "parts", names, channels=2, training=listed, apart=True)  # lists name no channels
    assert call("card", tmp_path / "parts") == 0
    assert (find_card("parts").pairs, find_card("parts").channels) == (4, 2)
    folder = decathlon(
        tmp_path / "brats", names, channels=2, modality={"0": "FLAIR", "1": "T1w"}, training=listed, numTraining=4
    )
    write(folder / "imagesTs" / "b.nii.gz", b"not read")
    assert call("card", folder) == 0
    out = capsys.readouterr().out
    assert "imagesTs/ has no labels: its 1 files are among those left out" in out
    assert "3 files were left out" in out
    card = find_card("brats")
    assert (card.pairs, card.labels, card.channels) == (4, ("edema", "core"), 2)
    assert card.channel_names == ("FLAIR", "T1w")
    assert card.spacing == (1, 1, 3)
    index = VolumeIndex.of(card)
    source = read_grid(folder / "labelsTr" / "a_2.nii.gz").voxels[0]
    np.testing.assert_array_equal(prepared_volume(index, 2)[1], np.where(source == 3, 255, source))
    assert call("card", folder, "--name", "whole", "--foreground", "1,2,3") == 0
    assert find_card("whole").labels == ()
    np.testing.assert_array_equal(prepared_volume(VolumeIndex.of(find_card("whole")), 2)[1], source > 0)
    assert call("card", folder, "--name", "own", "--labels", "3=a,1=b,2=ignore") == 0
    assert find_card("own").labels == ("a", "b")
    listed += [{"image": f"./imagesTr/c_{n}.nii.gz", "label": "./labelsTr/a_1.nii.gz"} for n in range(7)]
    decathlon(folder, names, channels=2, training=listed)
    with pytest.raises(StudyError, match=r"lists 7 files that are missing: ./imagesTr/c_0.nii.gz, .* and 2 more"):
        call("card", folder, "--name", "lost")


def test_regions_of_nnunet_are_understood(tmp_path: Path) -> None:
    names = {"background": 0, "core": 2, "whole": [1, 2], "ignore": 3}
    folder = decathlon(
        tmp_path / "Dataset001", names, 2, channel_names={"0": "CT", "1": "PET"}, file_ending=".nii.gz", apart=True
    )
    assert call("card", folder, "--name", "regions") == 0
    card, task = find_card("regions"), get_task("regions")
    assert card.labels == ("label 1", "core")
    assert task.parts == {"core": (2,), "whole": (1, 2)}
    assert card.channel_names == ("CT", "PET")
    image, mask = prepared_volume(VolumeIndex.of(card), 0)
    grids = [[read_grid(f) for f in sorted((folder / "imagesTr").glob(f"*_{c:04d}.nii.gz"))] for c in range(2)]
    masks = [read_grid(f).voxels for f in sorted((folder / "labelsTr").iterdir())]
    pool = np.concatenate([g.voxels[(m == 1) | (m == 2)] for g, m in zip(grids[0], masks, strict=True)])
    low, high = np.percentile(pool, [0.5, 99.5])
    expected = (np.clip(grids[0][0].voxels[0], low, high) - pool.mean()) / pool.std()
    np.testing.assert_allclose(image.voxels[0], expected, rtol=1e-4, atol=1e-5)
    other = grids[1][0].voxels[0]
    np.testing.assert_allclose(image.voxels[1], (other - other.mean()) / other.std(), atol=1e-4)
    assert f"clipped to {low:.5g} and {high:.5g}" in card.preparation
    assert set(np.unique(mask).tolist()) == {0, 1, 2, 255}
    assert call("card", folder, "--name", "other", "--modality", "MRI") == 0
    image = prepared_volume(VolumeIndex.of(find_card("other")), 0)[0]
    assert abs(float(image.voxels[0].mean())) < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_ending": ".nrrd"}, r"file_ending must be .nii.gz or .nii, got '.nrrd'; save volumes as NIfTI"),
        ({"labels": {"background": 0, "tumor": "1"}}, r"labels must be .* got"),
        ({"labels": [1, 2]}, r"labels must be .* got"),
        ({"labels": {"background": 0, "a": 1, "b": 2}}, "masks hold the value 3, which has no name"),
        ({"modality": {"1": "CT"}}, "channels must be named by number"),
        ({"channel_names": {"0": "a", "1": "b"}}, "a_0.nii.gz has 1 channels; the set has 2"),
        ({"training": ["a"]}, "training must list images and labels"),
    ],
)
def test_descriptions_that_do_not_fit(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = decathlon(tmp_path / "set", {"0": "background", "1": "a", "2": "b", "3": "c"})
    file = folder / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(StudyError, match=message):
        call("card", folder)
    file.write_text("{")
    with pytest.raises(StudyError, match="not valid JSON"):
        call("card", folder)


def test_a_label_that_no_mask_holds_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"0": "background", "1": "a", "2": "b", "3": "c", "9": "rare"}
    assert call("card", decathlon(tmp_path / "set", names)) == 0
    assert "note: no mask holds rare (value 9)" in capsys.readouterr().out
    assert find_card("set").labels == ("a", "b", "c", "rare")
    assert call("check", "set") == 0


def test_bids_is_understood(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "bids"
    for file in sorted((plain / "images").iterdir()):
        patient, visit = file.name.removesuffix(".nii.gz").split("_")
        name = f"sub-{patient}/ses-{visit}/anat/sub-{patient}_ses-{visit}"
        write(folder / f"{name}_T1w.nii.gz", file.read_bytes())
        write(folder / f"{name}_T2w.nii.gz", b"not read")
        write(
            folder / "derivatives" / "manual" / f"{name}_desc-lesion_mask.nii.gz",
            (plain / "masks" / file.name).read_bytes(),
        )
    assert call("card", folder) == 0
    out = capsys.readouterr().out
    assert "5 groups: the subjects of BIDS" in out
    assert "10 files were left out" in out
    assert VolumeIndex.of(find_card("bids")).groups[:3] == ["sub-patient0", "sub-patient0", "sub-patient1"]
    extra = folder / "derivatives/manual/sub-patient0/ses-visit0/anat/sub-patient0_ses-visit0_dseg.nii.gz"
    write(extra, (plain / "masks" / "patient0_visit0.nii.gz").read_bytes())
    with pytest.raises(
        StudyError, match=r"must have one mask in derivatives/: sub-patient0_ses-visit0_T1w.nii.gz has 2"
    ):
        call("card", folder, "--name", "again")


def change(file: Path, by: Callable[[Grid], np.ndarray], move: float = 0.0) -> None:
    grid = read_grid(file)
    affine = grid.affine.copy()
    affine[0, 3] += move
    write(file, nifti(by(grid), affine))


FAULTS = [
    (lambda f: change(f, lambda g: g.voxels[0][:-1]), r"has 20 x 20 x 20 voxels and .* 19 x 20 x 20"),
    (
        lambda f: change(f, lambda g: g.voxels[0], 0.5),
        r"do not lie in one place: their origins differ by 0\.5 mm",
    ),
    (lambda f: change(f, lambda g: np.stack([g.voxels[0]] * 2, -1)), "a mask must be 3-D, got 2 volumes"),
    (lambda f: change(f, lambda g: g.voxels[0] * np.float32(0.4)), "must hold whole numbers, got 0.4"),
    (lambda f: f.write_bytes(b"no"), "not a single-file NIfTI-1 volume"),
    (lambda f: f.write_bytes(f.read_bytes()[:200]), "damaged"),
    (lambda f: change(f, lambda g: np.full(g.shape, np.nan, np.float32)), "not finite"),
    (lambda f: write(f, nifti(read_grid(f).voxels[0], np.zeros((4, 4)))), "no possible geometry"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_what_cannot_be_used_is_told_at_once(plain: Path, fault: Callable[[Path], None], message: str) -> None:
    for number in range(3):
        fault(plain / "masks" / f"patient{number}_visit0.nii.gz")
    with pytest.raises(StudyError, match="3 of 10 cases cannot be used") as caught:
        call("card", plain)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    with pytest.raises(StudyError, match=message):
        raise StudyError(lines[1])
    assert all(f"patient{number}_visit0" in lines[1 + number] for number in range(3))
    assert not list(paths.data_root().glob("*"))


def test_images_that_cannot_be_used(plain: Path) -> None:
    for file in (plain / "images").iterdir():
        grid = read_grid(file)
        write(file, nifti(np.stack([grid.voxels[0]] * 3, -1), grid.affine))
    with pytest.raises(
        StudyError,
        match=r"10 of 10 cases .*\n  patient0_visit0.nii.gz has 3 volumes along a fourth axis: "
        r"where these are channels, name them in a dataset.json[^$]*and 5 more",
    ):
        call("card", plain)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--groups", r"patient[1-9]"], "finds no group in 2 of 10 names: patient0_visit0, patient0_visit1"),
        (["--groups", "("], "--groups must be a regular expression, got '\\('"),
        (["--groups", "patient"], "1 groups are too few"),
        (["--color"], "volumes have channels and no color"),
        (["--foreground", "5"], "no mask holds the value 5; the values found are 0, 1"),
        (["--labels", "1=a, 2=b"], "no mask holds the value 2"),
        (["--labels", "1=a", "--foreground", "1"], "masks have labels or a foreground, not both"),
    ],
)
def test_options_that_do_not_fit(plain: Path, words: list[str], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        call("card", plain, *words)


@pytest.mark.parametrize("text", ["1,1", "1,1,0", "a,b,c", "1,1,nan"])
def test_a_spacing_that_cannot_be_read(plain: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("card", plain, "--spacing", text)
    assert "three distances in millimeters" in capsys.readouterr().err


def test_values_that_have_no_name_need_one(plain: Path) -> None:
    file = plain / "masks" / "patient3_visit0.nii.gz"
    change(file, lambda g: g.voxels[0] * 3)
    with pytest.raises(StudyError, match=r"each mask is binary, but they differ: 1, 3. If all of these are foreground"):
        call("card", plain)
    for each in (plain / "masks").iterdir():
        change(each, lambda g: np.zeros(g.shape, np.uint8))
    with pytest.raises(StudyError, match="no mask outlines anything"):
        call("card", plain)


def test_pairs_of_volumes_follow_the_rules_of_pictures(plain: Path) -> None:
    (plain / "masks" / "patient3_visit0.nii.gz").unlink()
    with pytest.raises(StudyError, match=r"1 images in .* have no mask, the first is patient3_visit0.nii.gz"):
        call("card", plain)
    (plain / "images" / "patient3_visit0.nii.gz").unlink()
    names = sorted(file.name.removesuffix(".nii.gz") for file in (plain / "images").iterdir())
    (plain / "groups.csv").write_text("name,group\n" + "".join(f"{n}.nii.gz,{n[-1]}{n[7]}\n" for n in names))
    (plain / "images").rename(plain / "imagesTr")
    (plain / "masks").rename(plain / "labelsTr")
    call("card", plain)
    assert VolumeIndex.of(find_card("heads")).groups[:3] == ["00", "10", "01"]


def test_a_folder_of_neither_is_told_of_both(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(
        StudyError, match=r"NAME.png beside NAME_mask.png \(.png, .*or volumes as NIfTI: .nii.gz, .nii\)"
    ):
        call("card", tmp_path / "none")


def test_a_folder_appears_whole_or_not_at_all(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.data.preparation.volumes.own_volumes.write_index", full)
    with pytest.raises(StudyError, match="No space left on device; nothing was left behind"):
        call("card", plain)
    assert not list(paths.data_root().glob("*"))


def test_checks_find_what_was_changed(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("card", plain, "--groups", r"patient\d+")
    index = VolumeIndex.of(find_card("heads"))
    first, second, third = (index.file("images", f"000{number}") for number in (0, 2, 4))
    second.write_bytes(first.read_bytes())
    third.unlink()
    mask = index.file("masks", "0005")
    grid = read_grid(mask)
    mask.write_bytes(encoded(Grid(grid.voxels * np.uint8(7), grid.affine)))
    moved = index.file("images", "0006")
    grid = decoded(moved.read_bytes(), "moved")
    moved.write_bytes(encoded(Grid(grid.voxels, grid.affine * 1.5), compress=False))
    capsys.readouterr()
    assert call("check", "heads") == 1
    out = capsys.readouterr().out
    for text in (
        "1 of 10 images are missing: 0004.nii",
        "0005.nii.gz: a mask must hold 0 and one of 1 or 255",
        "image 0006 has voxels of 1.5 x 1.5 x 1.5 mm, the card says 1 x 1 x 1 mm",
        "3 files differ from",
        "the same image is in two groups, and may cross a split: 0000 and 0002",
    ):
        assert text in out
