"""A user's own folder of images and masks becomes a task, or is refused with what to do."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_originals as tiny
from PIL import Image
from prepared_sets import call, gray

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.cards import find_card
from lib.data.preparation.own.mask_values import foreground_values
from lib.data.preparation.own.pairing import pairs_in
from lib.data.prepared_folder import read_prepared


def own_folder(tmp_path: Path, apart: bool, mask: np.ndarray | None = None, suffix: str = "png") -> Path:
    """Five color pictures of different sizes, each with a mask of 0/1, in one of the two layouts."""
    folder = tmp_path / "My Scans (2)"
    images, masks = (folder / "images", folder / "masks") if apart else (folder, folder)
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for number in range(5):
        height, width = 150 + number, 260
        color = np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(color).save(images / f"s{number}.{suffix}")
        labels = tiny.disk(height, width, 50, 50, 75).astype(np.uint8) if mask is None else mask[:height, :width]
        Image.fromarray(labels).save(masks / f"s{number}{'' if apart else '_mask'}.png")
    return folder


@pytest.mark.parametrize(("apart", "suffix"), [(True, "png"), (False, "tif"), (True, "jpg")])
def test_a_users_folder_becomes_a_task(apart: bool, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert call("card", own_folder(tmp_path, apart, suffix=suffix), "--licence", 'mine "for now" \\ later') == 0
    out = capsys.readouterr().out
    assert "warning: no groups were given, so every image is its own group" in out
    card = find_card("my_scans_2")
    assert card.licence == 'mine "for now" \\ later'
    assert (card.pairs, card.groups, card.split.folds) == (5, 5, 5)
    data = read_prepared(card)
    assert data.images[0].shape == (148, 256)
    assert abs(data.masks[0].mean() - 75 * 75 / (150 * 260)) < 0.01
    assert call("check") == 0
    with pytest.raises(StudyError, match=r"'my_scans_2' is taken already; delete .*my_scans_2 to make it again"):
        call("card", own_folder(tmp_path, apart, suffix=suffix))


@pytest.mark.parametrize(("table", "column"), [("groups.csv", "name"), ("index.csv", "file")])
def test_a_users_groups_are_kept(table: str, column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = own_folder(tmp_path, apart=True)
    (folder / table).write_text(f"{column},group\n" + "".join(f"s{n}.png,p{n % 3}\n" for n in range(5)))
    assert call("card", folder, "--name", "grouped") == 0
    assert "warning" not in capsys.readouterr().out
    card = find_card("grouped")
    assert read_prepared(card).groups == ["p0", "p1", "p2", "p0", "p1"]
    assert (card.groups, card.split.folds) == (3, 3)


def test_names_tell_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = own_folder(tmp_path, apart=True)
    (folder / "groups.csv").write_text("name,group\n")
    with pytest.raises(StudyError, match=r"'s\(\[0-3\]\)' finds no group in 1 of 5 names: s4"):
        call("card", folder, "--groups", "s([0-3])")
    assert call("card", folder, "--groups", "s([0-9])", "--name", "named") == 0
    out = capsys.readouterr().out
    assert "note: groups.csv was not read: groups come from --groups" in out
    assert "note: 5 groups: 0, 1, 2, 3 ..." in out
    assert "warning" not in out
    assert read_prepared(find_card("named")).groups == ["0", "1", "2", "3", "4"]
    with pytest.raises(StudyError, match="pictures have no spacing"):
        call("card", folder, "--spacing", "1,1,1", "--name", "spaced")


def test_an_index_without_groups_is_no_obstacle(tmp_path: Path):
    folder = own_folder(tmp_path, apart=True)
    (folder / "index.csv").write_text("id,age\ns0,40\n")
    assert not pairs_in(folder)[0][0].group


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,group\ns0,p0\n", r"groups\.csv gives no group for 4 images, the first is s1"),
        ("name,patient\ns0,p0\n", r"groups\.csv: column group is missing; the header is name, patient"),
        ("who,group\ns0,p0\n", r"groups\.csv must name the image of each row in a column called id, name"),
        ("name,group\n" + "".join(f"s{n},p{n % 2}\n" for n in range(5)), "2 groups are too few to divide"),
    ],
)
def test_faulty_groups_are_refused(table: str, message: str, tmp_path: Path):
    folder = own_folder(tmp_path, apart=True)
    (folder / "groups.csv").write_text(table)
    with pytest.raises(StudyError, match=message):
        call("card", folder)


def test_groups_as_a_spreadsheet_writes_them(tmp_path: Path):
    folder = own_folder(tmp_path, apart=True)
    table = "name,group\n" + "".join(f"s{n}.png,M\u00fcller {n % 3}\n" for n in range(5))
    (folder / "groups.csv").write_text(table, encoding="latin-1")
    with pytest.raises(StudyError, match=r"groups\.csv is not UTF-8 .*; save it as CSV UTF-8"):
        call("card", folder)
    (folder / "groups.csv").write_text(table, encoding="utf-8-sig")
    assert call("card", folder, "--name", "marked") == 0
    assert read_prepared(find_card("marked")).groups[0] == "M\u00fcller 0"


def test_masks_that_are_not_binary_need_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    labels = np.zeros((160, 260), np.uint8)
    labels[25:50], labels[50:75], labels[75:100] = 1, 2, 7
    folder = own_folder(tmp_path, apart=True, mask=labels)
    with pytest.raises(
        StudyError, match='the values found are 0, 1, 2, 7; name them with --labels "1=NAME, 2=NAME, 7=NAME"'
    ):
        call("card", folder)
    with pytest.raises(StudyError, match="no mask holds the value 3; the values found are 0, 1, 2, 7"):
        call("card", folder, "--foreground", "1,3")
    capsys.readouterr()
    assert call("card", folder, "--foreground", "1,7") == 0
    assert "note: masks hold 2 too, which --foreground does not name: background" in capsys.readouterr().out
    found = read_prepared(find_card("my_scans_2")).masks[0].mean()
    assert abs(found - 50 / 150) < 0.02  # edges fall between pixels of the reduced mask
    with pytest.raises(SystemExit):
        call("card", folder, "--foreground", "one")


def test_masks_like_photographs_are_refused(tmp_path: Path):
    folder = own_folder(tmp_path, apart=True, mask=tiny.picture(0, 160, 260))
    with pytest.raises(StudyError, match="and 244 more; they look like a photograph"):
        call("card", folder)


def test_many_labels_beside_255_are_labels():
    masks = {Path("a.png"): set(range(19)) | {255}, Path("b.png"): {0, 3}}
    assert foreground_values(masks, [11, 255]) == [11, 255]


@pytest.mark.parametrize("quality", [30, 95])
def test_edges_of_masks_saved_with_loss_are_not_dropped(tmp_path: Path, quality: int):
    """Whoever names 255 as foreground would lose the rim of every outline without a word."""
    folder, outline = own_folder(tmp_path, apart=True), np.zeros((160, 260), np.uint8)
    outline[25:90, 40:115] = 255
    buffer = io.BytesIO()
    Image.fromarray(outline).save(buffer, "JPEG", quality=quality)
    Image.open(buffer).save(folder / "masks" / "s1.png")
    for choice in ((), ("--foreground", "255")):
        with pytest.raises(StudyError, match=r"more than two of them in 1 of 5 masks, such as s1\.png; they look like"):
            call("card", folder, *choice)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda f: (f / "masks/s2.png").unlink(), "1 images in .* have no mask, the first is s2.png"),
        (lambda f: (f / "images/s2.png").unlink(), "1 masks in .* have no image, the first is s2.png"),
        (lambda f: gray(0, 9, 9).save(f / "masks/s2.png"), "s2.png is 260 x 152 and its mask s2.png 9 x 9"),
        (
            lambda f: gray(0, 9, 9).save(f / "images/s2.jpg"),
            r"s2\.png and s2\.jpg have the same name",
        ),
        (lambda f: (f / "images/s2.png").write_bytes(b"no"), r"s2\.png: not a readable picture"),
        (lambda f: shutil.rmtree(f / "masks"), "holds 5 images and 0 masks; it must hold images/ and masks/"),
    ],
)
def test_a_users_folder_with_a_fault_is_refused(fault, message: str, tmp_path: Path):
    folder = own_folder(tmp_path, apart=True)
    fault(folder)
    with pytest.raises(StudyError, match=message):
        call("card", folder)
    assert not list(paths.data_root().glob("*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Name", "lowercase letters, digits and '_', at most 60, got 'Name'; choose one with --name"),
        ("busi", "the name 'busi' is taken already"),
        ("busi_breast_ultrasound", "the name 'busi_breast_ultrasound' is taken already"),
        ("sim_ultrasound_easy", "the name 'sim_ultrasound_easy' is reserved"),
    ],
)
def test_names_that_cannot_be_used(name: str, message: str, tmp_path: Path):
    with pytest.raises(StudyError, match=message):
        call("card", own_folder(tmp_path, apart=True), "--name", name)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(StudyError, match=r"no folder .*nowhere"):
        call("card", tmp_path / "nowhere")
