"""NIfTI volumes in any orientation, slices of them, real scans as tasks, and measured k-space."""

from __future__ import annotations

import gzip
import itertools
import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from lib.common.errors import StudyError
from lib.data.cards import all_cards, find_card
from lib.data.preparation.checks import check_prepared
from lib.data.tasks import scans
from lib.data.tasks.images import data_digest, load_task
from lib.imaging.kspace import read_kspace
from lib.imaging.volumes import Volume, read_nifti, read_volume, slices_along, square_slices

CODES = {"u1": 2, "i2": 4, "f4": 16, "u2": 512}


def nifti(
    voxels: np.ndarray,
    affine: np.ndarray,
    kind: str = "i2",
    *,
    order: str = "<",
    scale: tuple[float, float] = (0, 0),
    quaternion: tuple[float, ...] | None = None,
) -> bytes:
    """The bytes of a NIfTI-1 file; with a `quaternion` (b, c, d, handedness) it has no other orientation."""
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim))
    struct.pack_into(order + "2h", header, 70, CODES[kind], 8 * np.dtype(kind).itemsize)
    steps = np.linalg.norm(affine[:, :3], axis=0)
    struct.pack_into(order + "8f", header, 76, quaternion[3] if quaternion else 1, *steps, 0, 0, 0, 0)
    struct.pack_into(order + "3f", header, 108, 352, *scale)
    if quaternion:
        struct.pack_into(order + "2h", header, 252, 1, 0)
        struct.pack_into(order + "3f", header, 256, *quaternion[:3])
    else:
        struct.pack_into(order + "2h", header, 252, 0, 2)
        struct.pack_into(order + "12f", header, 280, *affine.ravel())
    header[344:348] = b"n+1\0"
    return bytes(header) + voxels.astype(order + kind).tobytes(order="F")


def planted() -> np.ndarray:
    """A volume (right, front, up) in which every voxel is another."""
    return np.arange(4 * 5 * 6).reshape(4, 5, 6)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_every_orientation_is_turned_back(axes: tuple[int, ...], signs: tuple[int, ...]):
    """Array axis i runs along direction axes[i] in space, to or fro, a little oblique."""
    spacing = np.array([1.0, 2.0, 3.0])
    stored = np.flip(planted().transpose(axes), tuple(i for i in range(3) if signs[i] < 0))
    affine = np.zeros((3, 4))
    for i, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, i] = sign * spacing[axis]
        affine[(axis + 1) % 3, i] = 0.2 * spacing[axis]
    volume = read_nifti(gzip.compress(nifti(stored, affine)), "planted")
    assert (volume.voxels == planted()).all()
    assert volume.spacing == pytest.approx(np.sqrt(1 + 0.04) * spacing)


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_types_byte_orders_and_scales(kind: str, order: str):
    plain = read_nifti(nifti(planted(), np.eye(3, 4), kind, order=order), "planted").voxels
    scaled = read_nifti(nifti(planted(), np.eye(3, 4), kind, order=order, scale=(0.5, 3.0)), "planted").voxels
    assert plain.dtype == np.float32
    assert (plain == planted()).all()
    assert (scaled == planted() * 0.5 + 3).all()


def test_orientation_by_quaternion():
    """Half a turn about the up axis (d = 1) points the first two axes to the left and back; -1 turns the third over."""
    for handedness, flips in ((1, (0, 1)), (-1, (0, 1, 2))):
        stored = np.flip(planted(), flips)
        content = nifti(stored, np.eye(3, 4), quaternion=(0, 0, 1, handedness))
        assert (read_nifti(content, "planted").voxels == planted()).all()


def test_damaged_files_are_refused(tmp_path: Path):
    good = nifti(planted(), np.eye(3, 4))
    bad = nifti(np.full((2, 2, 2), np.nan), np.eye(3, 4), "f4")
    cases = {
        "not a single-file NIfTI-1": b"something else" * 40,
        "damaged": gzip.compress(good)[:-20],
        "cut short": good[:-2],
        "one 3-D volume": nifti(np.zeros((2, 2, 2, 3)), np.eye(3, 4)),
        "not finite": bad,
        "type 1536": good[:70] + struct.pack("<h", 1536) + good[72:],
    }
    for message, content in cases.items():
        with pytest.raises(StudyError, match=message):
            read_nifti(content, "x.nii")
    with pytest.raises(StudyError, match="does not exist"):
        read_volume(tmp_path / "absent.nii")


def test_slices_are_upright():
    volume = planted()
    assert slices_along(volume, "axial")[2].tolist() == [[volume[x, 4 - row, 2] for x in range(4)] for row in range(5)]
    assert slices_along(volume, "coronal")[1].tolist() == [
        [volume[x, 1, 5 - row] for x in range(4)] for row in range(6)
    ]
    assert slices_along(volume, "sagittal")[3].tolist() == [
        [volume[3, y, 5 - row] for y in range(5)] for row in range(6)
    ]
    with pytest.raises(StudyError, match="did you mean 'sagittal'"):
        slices_along(volume, "sagital")


def test_squares_keep_millimeters_and_leave_empty_slices_out():
    voxels = np.zeros((20, 20, 30), np.float32)
    voxels[4:16, 4:16, 5:25] = 100  # 24 x 12 mm in a field of 40 x 20 mm
    images, numbers = square_slices(Volume(voxels, (2.0, 1.0, 1.0)), "axial", 80, 4)
    assert numbers == [5, 11, 18, 24]
    assert images.shape == (4, 80, 80)
    lit = images[0] > 0.5
    assert lit.any(axis=0).sum() == pytest.approx(48, abs=2)
    assert lit.any(axis=1).sum() == pytest.approx(24, abs=2)
    assert (images[0][40] > 0.5).sum() == lit.any(axis=0).sum()  # in the middle of the square
    assert float(images.max()) == pytest.approx(1, abs=0.01)


CARD = """
name = "heads"
title = "heads"
what = "planted"
kind = "real"
goal = "reconstruction"
modality = "MRI"
licence = "none"
citation = "none"
folder = "heads"
region = "head"
directions = ["axial", "coronal"]
fetch = "manual"
manual = "planted"
pairs = 5
groups = 3
split = { folds = 3, rule = "by person" }
contrasts = [{ name = "T1", ending = "t1w" }, { name = "T2", ending = "t2w" }]
subjects = [{ name = "a", fold = 2 }, { name = "b", fold = 0 }, { name = "c", fold = 1 }]
"""


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data root with T1 volumes of three persons, and T2 of two."""
    folder = tmp_path / "data" / "heads"
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text(CARD)
    rng = np.random.default_rng(0)
    for name in ("a_t1w", "b_t1w", "c_t1w", "a_t2w", "b_t2w"):
        voxels = rng.integers(200, 1000, (12, 12, 12))
        (folder / f"{name}.nii.gz").write_bytes(gzip.compress(nifti(voxels, np.eye(3, 4))))
    monkeypatch.setenv("STUDY_DATA", str(folder.parent))
    return folder


def test_tasks_of_a_card(heads: Path):
    tasks = scans.scan_tasks()
    assert {"head_t1", "head_t1_coronal", "head_t2", "head_t2_coronal"} <= set(tasks)
    assert tasks["head_t2_coronal"].title == "head T2, coronal"
    both = {name: scans.load_slices(name, 32) for name in ("head_t1", "head_t2")}
    assert both["head_t1"].images.shape == (36, 32, 32)
    assert both["head_t1"].groups == ["a"] * 12 + ["b"] * 12 + ["c"] * 12
    folds = {name: dict(zip(each.groups, each.folds.tolist(), strict=True)) for name, each in both.items()}
    assert folds == {"head_t1": {"a": 2, "b": 0, "c": 1}, "head_t2": {"a": 2, "b": 0}}
    assert len(set(both["head_t1"].ids)) == 36
    digests = {name: data_digest(name, 32) for name in both}
    assert digests["head_t1"] != digests["head_t2"]
    assert digests == {name: load_task(name, 32).digest for name in both}
    for part in ("fold = 2", "fold = 0"):  # another fold is another split, and so another digest
        assert part in (heads / "card.toml").read_text()
    (heads / "card.toml").write_text((heads / "card.toml").read_text().replace("fold = 2", "fold = 1", 1))
    assert data_digest("head_t1", 32) != digests["head_t1"]


def test_one_person_is_divided_into_blocks(heads: Path):
    for name in ("b_t1w", "c_t1w"):
        (heads / f"{name}.nii.gz").unlink()
    alone = scans.load_slices("head_t1", 32)
    assert alone.folds.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert alone.groups[0] == "a part 1"
    assert len(set(alone.groups)) == 3


def test_what_is_missing_is_named(heads: Path):
    with pytest.raises(StudyError, match="did you mean 'head_t1'"):
        scans.load_slices("head_t11", 32)
    for file in heads.glob("*_t2w*"):
        file.unlink()
    with pytest.raises(StudyError, match=r"head_t2: no volume of it in .*heads; data root"):
        scans.load_slices("head_t2", 32)


def test_check_of_volumes(heads: Path):
    card = find_card("heads")
    assert {finding.level for finding in check_prepared(card)} == {"ok", "note"}
    (heads / "a_t1w.nii.gz").write_bytes(b"no volume")
    (heads / "b_t1w.nii.gz").unlink()
    texts = {finding.level: finding.text for finding in check_prepared(card)}
    assert "not a single-file NIfTI-1 volume" in texts["error"]
    assert "4 volumes of 3 persons, while the card knows 5 in 3" in texts["warning"]


def test_every_region_of_the_projects_cards_agrees():
    tasks = scans.scan_tasks()
    assert {"brain_t1", "brain_t2", "brain_flair", "brain_t1_sagittal", "brain_t1_coronal"} <= set(tasks)
    folds: dict[tuple[str, str], int] = {}
    for card in all_cards().values():
        for subject in card.subjects:
            assert folds.setdefault((card.region, subject.name), subject.fold) == subject.fold
    for name in ("brain_t1", "brain_t2", "brain_flair", "brain_t1_sagittal"):
        held = {subject.fold for card in tasks[name].cards for subject in card.subjects}
        assert held == set(range(tasks[name].folds))


def test_measured_kspace(tmp_path: Path):
    rng = np.random.default_rng(1)
    full = (rng.normal(size=(3, 8, 6)) + 1j * rng.normal(size=(3, 8, 6))).astype(np.complex64)
    sampled = full * (np.arange(6) % 2 == 0)
    np.savez(tmp_path / "a.npz", kspace=sampled)
    found = read_kspace(tmp_path / "a.npz")
    assert (found.kspace == sampled).all()
    assert (found.mask == (np.arange(6) % 2 == 0)[None, :]).all()
    np.savez(tmp_path / "one.npz", kspace=full[0].astype(np.complex128), mask=np.ones((8, 6)))
    one = read_kspace(tmp_path / "one.npz")
    assert one.kspace.shape == (1, 8, 6)
    assert one.kspace.dtype == np.complex64
    assert one.mask.all()


def test_without_a_mask_a_sample_counts_where_any_coil_has_it(tmp_path: Path) -> None:
    """A coil may see exactly nothing in one place, at the rim of 16-bit values say."""
    kspace = np.zeros((2, 4, 4), np.complex64)
    kspace[0, :, :2], kspace[1, :, 1:3] = 1, 1j
    np.savez(tmp_path / "a.npz", kspace=kspace)
    assert read_kspace(tmp_path / "a.npz").mask.tolist() == [[True, True, True, False]] * 4


def test_measured_kspace_in_hdf5(tmp_path: Path):
    h5py = pytest.importorskip("h5py")
    stack = (np.arange(2 * 3 * 8 * 6) + 1j).reshape(2, 3, 8, 6).astype(np.complex64)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["kspace"] = stack
        file["mask"] = np.arange(6) % 2  # of columns, as fastMRI has it
    found = read_kspace(tmp_path / "b.h5", place=1)
    assert (found.kspace == stack[1]).all()
    assert (found.mask == (np.arange(6) % 2 == 1)).all()
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(StudyError, match="not a readable HDF5"):
        read_kspace(tmp_path / "text.h5")


def test_every_layout_of_kspace_is_read_right_or_refused(tmp_path: Path):
    rng = np.random.default_rng(2)
    stack = (rng.normal(size=(5, 3, 8, 6)) + 1j * rng.normal(size=(5, 3, 8, 6))).astype(np.complex64)

    def read(place: int | None = None, **arrays: np.ndarray):
        np.savez(tmp_path / "k.npz", **arrays)
        return read_kspace(tmp_path / "k.npz", place=place)

    assert (read(kspace=stack).kspace == stack[2]).all(), "the middle slice"
    assert (read(4, kspace=stack).kspace == stack[4]).all()
    single = stack[:, 0]
    assert (read(kspace=single, reconstruction_esc=np.zeros(1)).kspace == single[2][None]).all()
    assert (read(1, kspace=single).kspace == single[1][None]).all()
    assert (read(kspace=single).kspace == single).all(), "coils, where nothing says otherwise"
    columns = np.array([1, 0, 1, 0, 0, 1])
    for mask in (columns, columns[None], np.tile(columns, (8, 1)), columns.astype(bool), columns.astype(float)):
        assert (read(kspace=stack, mask=mask).mask == columns.astype(bool)).all()
    each = rng.random((5, 8, 6)) > 0.5
    assert (read(3, kspace=stack, mask=each).mask == each[3]).all()
    for arrays, place, message in [
        ({"kspace": stack}, 5, "holds 5 slices; place must name one from 0, got 5"),
        ({"kspace": single[0]}, 1, "holds one slice; leave place out"),
        ({"kspace": stack, "mask": np.ones(7)}, None, r"a mask of shape \(7,\) does not fit planes of shape \(8, 6\)"),
        ({"kspace": np.ones((64, 64, 8), complex)}, None, "seems to have its coils last"),
        ({"kspace": np.ones((4, 64, 64, 8), complex)}, None, "seems to have its coils last"),
        ({"kspace": np.ones(9, complex)}, None, "must be complex"),
    ]:
        with pytest.raises(StudyError, match=message):
            read(place, **arrays)


def header(sform: int, qform: int, *, matrix: float, quaternion: float, steps: float) -> bytes:
    """A NIfTI volume whose header says its geometry in three ways, each possible or not."""
    data = bytearray(nifti(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(3, 4)))
    data[252:256] = struct.pack("<2h", qform, sform)
    data[76:108] = struct.pack("<8f", 1, *[steps] * 3, *[0] * 4)
    data[256:268] = struct.pack("<3f", *[quaternion] * 3)
    data[280:328] = struct.pack("<12f", *(matrix * np.diag([1, 1, 1, 0])[:3]).ravel())
    return bytes(data)


@pytest.mark.parametrize(
    ("ways", "spacing"),
    [
        ({"sform": 1, "qform": 1, "matrix": 3, "quaternion": 0, "steps": 2}, 3),
        ({"sform": 1, "qform": 1, "matrix": 0, "quaternion": 0, "steps": 2}, 2),
        ({"sform": 1, "qform": 0, "matrix": math.nan, "quaternion": 0, "steps": 2}, 2),
        ({"sform": 0, "qform": 1, "matrix": 0, "quaternion": math.nan, "steps": 2}, 2),
        ({"sform": 1, "qform": 1, "matrix": 0, "quaternion": 0, "steps": 0}, None),
        ({"sform": 0, "qform": 0, "matrix": 0, "quaternion": 0, "steps": math.nan}, None),
        ({"sform": 0, "qform": 0, "matrix": 0, "quaternion": 0, "steps": math.inf}, None),
    ],
)
def test_the_first_possible_geometry_counts(ways: dict[str, float], spacing: float | None):
    content = header(**ways)
    if spacing is None:
        with pytest.raises(StudyError, match=r"a\.nii: the header gives no possible geometry"):
            read_nifti(content, "a.nii")
    else:
        assert read_nifti(content, "a.nii").spacing == pytest.approx((spacing,) * 3)


def head() -> np.ndarray:
    grid = np.mgrid[-1:1:24j, -1:1:24j, -1:1:24j]
    return np.where((grid**2).sum(0) < 0.8, 100.0 + 20 * grid[0], 0.0).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: (v - v.mean()) / v.std(), "values must be magnitudes"),
        (lambda v: v * 10 - 1024, "values must be magnitudes"),
        (lambda v: -v, "values must be magnitudes"),
        (lambda v: np.zeros_like(v), "values must be magnitudes"),
        (
            lambda v: np.where(np.indices(v.shape)[:2].max(0) < 3, 32767, v),
            r"no axial slice shows anything .* far brighter",
        ),
        (lambda v: np.pad(v, 40), "no axial slice shows anything"),
    ],
)
def test_a_volume_that_would_lose_values_or_vanish_is_refused(change, message: str):
    with pytest.raises(StudyError, match=message):
        square_slices(Volume(change(head()).astype(np.float32), (1, 1, 1)), "axial", 32, 8)


def test_small_negative_values_of_interpolation_are_no_signs():
    ringing = head() - 2 * (np.random.default_rng(0).random((24, 24, 24)) < 0.3)
    found, _ = square_slices(Volume(ringing.astype(np.float32), (1, 1, 1)), "axial", 32, 8)
    assert found.min() == 0


def test_a_volume_without_slices_is_named_by_check_and_by_the_task(heads: Path):
    voxels = np.pad(head(), 40)
    (heads / "a_t1w.nii.gz").write_bytes(gzip.compress(nifti(voxels, np.eye(3, 4))))
    errors = [finding.text for finding in check_prepared(find_card("heads")) if finding.level == "error"]
    assert errors[0].startswith("a_t1w.nii.gz: no ")
    with pytest.raises(StudyError, match=r"a_t1w\.nii\.gz: no axial slice shows anything"):
        scans.load_slices("head_t1", 32)


def test_one_person_has_one_fold_in_all_sets_of_a_region(heads: Path):
    other = heads.with_name("more_heads")
    shutil.copytree(heads, other)
    card = (other / "card.toml").read_text().replace('"heads"', '"more_heads"')
    (other / "card.toml").write_text(card)
    assert "head_t1" in scans.scan_tasks()
    (other / "card.toml").write_text(card.replace("fold = 0", "fold = 1"))
    with pytest.raises(StudyError, match=r"b is in fold . here and in fold . in the card of"):
        scans.scan_tasks()


def test_kspace_that_is_none(tmp_path: Path):
    np.savez(tmp_path / "other.npz", image=np.zeros(3))
    np.savez(tmp_path / "real.npz", kspace=np.zeros((2, 3, 3)))
    np.savez(tmp_path / "nan.npz", kspace=np.full((2, 3, 3), np.nan + 0j))
    (tmp_path / "text.npz").write_text("no")
    cases = {
        "other.npz": "must hold the key 'kspace', got image",
        "real.npz": "must be complex",
        "nan.npz": "not finite",
        "text.npz": "not a readable .npz",
        "absent.npz": "does not exist",
    }
    for name, message in cases.items():
        with pytest.raises(StudyError, match=message):
            read_kspace(tmp_path / name)
