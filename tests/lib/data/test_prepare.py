"""From originals to prepared folders: shared steps against planted pictures, and every dataset's format in small."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import tiny_originals as tiny
from PIL import Image

from lib.common.errors import StudyError
from lib.common.outside import read_table
from lib.data import cards
from lib.data.cards import Card, all_cards, find_card
from lib.data.preparation import conversion, dataset_recipes, near_duplicates, pictures
from lib.data.preparation.checks import check_prepared
from lib.data.preparation.conversion import in_making
from lib.data.preparation.prepare import prepare
from lib.data.prepared_folder import INDEX_COLUMNS, Prepared, read_prepared


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, study_home: Path):
    """Makes the tiny originals of a dataset, its card and table; returns the card and the folder of originals."""
    monkeypatch.setattr(cards, "manifest_dir", lambda: tmp_path / "cards")

    def make(name: str) -> tuple[Card, Path]:
        files = tiny.SETS[name]()
        tiny.write_card(name, files, tmp_path / "cards")
        return find_card(name), tiny.write(files, tmp_path / "originals")

    return make


def prepared(card: Card, originals: Path) -> tuple[dict[str, dict[str, str]], Prepared]:
    """Rows of the index by source, and what was read back."""
    prepare(card, folder=originals, show=lambda line: None)
    rows = read_table(card.path / "index.csv", INDEX_COLUMNS)
    assert [row["id"] for row in rows] == [f"{number:04d}" for number in range(len(rows))]
    assert not [
        finding for finding in check_prepared(card) if finding.level == "error" and "folds need" not in finding.text
    ]
    return {row["source"]: row for row in rows}, read_prepared(card)


def test_busi(set_up):
    rows, data = prepared(*set_up("busi"))
    assert list(rows) == ["benign (1)", "benign (2)", "malignant (2)"]  # 10 repeats 2; 3 is under both labels
    assert [row["cls"] for row in rows.values()] == ["benign", "benign", "malignant"]
    assert [row["group"] for row in rows.values()] == ["b000", "b001", "b002"]
    assert (data.images[0] == tiny.picture(1)).all()
    assert (data.masks[0] == (tiny.disk(left=2, side=8) | tiny.disk(left=30, side=8))).all()
    assert data.masks[2].sum() == 16


def test_usgra(set_up):
    rows, data = prepared(*set_up("usgra"))
    assert list(rows) == ["0000.png", "0001.png", "test/images/0002.png", "0003.png"]
    groups = [row["group"] for row in rows.values()]
    assert groups[0] == groups[3]
    assert len(set(groups)) == 3
    assert rows["0001.png"]["cls"] == "nerve"
    assert rows["0003.png"]["cls"] == "nerve+vessel"
    assert (data.masks[0] == tiny.disk()).all()  # the vessel is background


def test_cxr_lungs(set_up):
    rows, data = prepared(*set_up("cxr_lungs"))
    assert list(rows) == ["a.png", "b.png", "e.png"]  # the mask of c has another size, d repeats b
    assert [row["group"] for row in rows.values()] == ["p1", "p1", "p4"]
    assert rows["a.png"]["licence"] == "CC BY 4.0"
    assert "a note that stays behind" not in str(rows)
    assert (data.masks[0] == tiny.disk()).all()  # 127 is background


def test_cxr_lungs_needs_its_tables(set_up):
    card, originals = set_up("cxr_lungs")
    next(originals.rglob("metadata.csv")).unlink()
    with pytest.raises(StudyError, match=r"metadata\.csv and annotations/covid-only\.zip are needed"):
        prepare(card, folder=originals, allow_partial=True, show=lambda line: None)
    assert not card.path.exists()


def test_ccp(set_up):
    card, originals = set_up("ccp")
    rows, data = prepared(card, originals)
    assert list(rows) == ["photos/0001.jpg"]  # 0002 repeats it, 0003 has no label
    mask = np.zeros((100, 60), np.uint8)
    mask[10:90, 20:40] = 1
    assert (data.masks[0] == mask).all()
    whole = np.asarray(pictures.to_gray(next(originals.rglob("0001.jpg"))))
    changed = np.argwhere(data.images[0] != whole)
    assert changed.min(axis=0).tolist() >= [9, 18]
    assert changed.max(axis=0).tolist() <= [25, 42]  # the upper 18 % of 80 rows, columns of the person
    assert len(changed) > 100


def test_heads_are_squares_of_one_value():
    mask = np.zeros((100, 60), bool)
    mask[10:90, 20:40] = True
    head = np.zeros_like(mask)
    head[10:20, 25:35] = True
    image = tiny.picture(0, 100, 60)
    result = dataset_recipes.pixelate_head(image, mask, head)
    assert len(np.unique(result[9:16, 23:30])) == 1
    assert len(np.unique(result[9:25, 23:37])) <= 6  # three rows by two columns of squares
    outside = np.ones_like(mask)
    outside[9:25, 23:37] = False
    assert (result[outside] == image[outside]).all()
    assert (dataset_recipes.pixelate_head(image, mask & False, head) == image).all()


def test_camvid(set_up):
    rows, data = prepared(*set_up("camvid"))
    assert list(rows) == ["train/0001TP_1.png", "train/0006R0_f2.png", "test/Seq05VD_f4.png"]
    assert [row["group"] for row in rows.values()] == ["0001TP", "0006R0", "Seq05VD"]
    assert all((mask == tiny.disk()).all() for mask in data.masks)


def test_em_membranes(set_up):
    rows, data = prepared(*set_up("em_membranes"))
    assert list(rows)[:2] == ["stack1/raw/00.tif tile 0", "stack1/raw/00.tif tile 1"]
    assert [row["group"] for row in rows.values()] == ["z00"] * 4 + ["z01"] * 4
    whole = tiny.picture(1, 64, 64)
    assert (np.block([[data.images[4], data.images[5]], [data.images[6], data.images[7]]]) == whole).all()
    assert [int(mask.sum()) for mask in data.masks] == [64, 0, 0, 0] * 2


def test_nuclei(set_up):
    rows, data = prepared(*set_up("nuclei"))
    assert [row["cls"] for row in rows.values()] == ["fluorescence", "brightfield"]
    assert [row["nuclei"] for row in rows.values()] == ["2", "1"]
    assert data.masks[0].sum() == 4 * 4 + 8 * 8


def test_every_real_card_has_a_recipe():
    real = {name for name, card in all_cards().items() if card.fetch == "table"}
    assert real == set(dataset_recipes.RECIPES) == set(tiny.SETS)


def test_missing_originals_are_refused_or_said(set_up):
    card, originals = set_up("em_membranes")
    next(originals.rglob("01.tif")).unlink()
    with pytest.raises(StudyError, match=r"1 of 4 originals are missing in .*raw/01\.tif; run: .* --allow-partial"):
        prepare(card, folder=originals)
    assert not card.path.exists()
    said: list[str] = []
    prepare(card, folder=originals, allow_partial=True, show=said.append)
    assert "1 of 4 originals are missing" in said[0]
    assert len(read_prepared(card).ids) == 4


def test_a_wrong_original_is_refused(set_up):
    card, originals = set_up("em_membranes")
    file = next(originals.rglob("01.tif"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StudyError, match=r"01\.tif is not the original: it must have .* bytes; delete it and fetch"):
        prepare(card, folder=originals)


def test_a_missing_folder_of_originals_is_said(set_up):
    card, _ = set_up("em_membranes")
    with pytest.raises(StudyError, match=r"no folder of originals .*data fetch em_membranes, or name a folder"):
        prepare(card)


def test_a_prepared_folder_is_never_overwritten(set_up):
    card, originals = set_up("em_membranes")
    card.path.mkdir(parents=True)
    with pytest.raises(StudyError, match="exists already; move or delete it first; data root"):
        prepare(card, folder=originals)


def test_of_two_that_prepare_at_once_the_slower_is_told_and_leaves_nothing(tmp_path: Path):
    root = tmp_path / "data"

    def slower() -> None:
        with in_making(root / "set") as making:
            (making / "index.csv").write_text("slower")
            with in_making(root / "set") as faster:
                (faster / "index.csv").write_text("faster")

    with pytest.raises(StudyError, match="exists already; move or delete it first; data root"):
        slower()
    assert [file.name for file in root.iterdir()] == ["set"]
    assert (root / "set" / "index.csv").read_text() == "faster"


def test_a_full_disk_leaves_nothing_behind(set_up, monkeypatch: pytest.MonkeyPatch):
    card, originals = set_up("em_membranes")
    written = []

    def full(self: Path, content: bytes) -> int:
        written.append(self)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StudyError, match="No space left on device; nothing was left behind; data root"):
        prepare(card, folder=originals, show=lambda line: None)
    assert len(written) == 4
    assert not [path for path in card.path.parent.iterdir() if path.name != "originals"]


def test_masks_without_any_foreground_are_refused(tmp_path: Path):
    item = conversion.Item("a", "a", "x", tiny.picture(0), tiny.disk() & False)
    with pytest.raises(StudyError, match="none of the 1 masks holds any foreground at 256 pixels; is this the"):
        conversion.write_folder([item], tmp_path / "set")
    with pytest.raises(StudyError, match="no image was left to write"):
        conversion.write_folder([], tmp_path / "set")
    assert not list(tmp_path.glob(".set*"))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 256), (256, 128)), ((300, 200), (256, 171)), ((200, 100), (200, 100)), ((9000, 2), (256, 1))],
)
def test_pictures_are_reduced_and_never_enlarged(size: tuple[int, int], expected: tuple[int, int]):
    image = conversion.shrink(Image.new("L", size, 77))
    assert image.shape == expected[::-1]
    assert (image == 77).all()
    assert conversion.shrink_mask(np.ones(size[::-1], bool)).shape == expected[::-1]


def test_halving_is_an_average_and_masks_take_the_larger_half():
    pattern = np.tile(np.array([[0, 100], [100, 200]], np.uint8), (256, 256))
    assert (conversion.shrink(Image.fromarray(pattern)) == 100).all()
    quarter = np.tile(np.array([[1, 0], [0, 0]], bool), (256, 256))
    half = np.tile(np.array([[1, 1], [0, 0]], bool), (256, 256))
    assert not conversion.shrink_mask(quarter).any()
    assert conversion.shrink_mask(half).all()


def test_near_duplicates_are_chained():
    base = np.zeros(256, bool)
    prints = [base, ~base, base.copy(), base.copy()]
    prints[2][:10] = True
    prints[3][:20] = True  # 20 from the first, but 10 from the third
    assert near_duplicates.chains(prints, 10).tolist() == [0, 1, 0, 0]
    assert near_duplicates.chains(prints, 9).tolist() == [0, 1, 2, 3]
    assert near_duplicates.first_of_chain(prints, 10) == [0, 1]
    assert near_duplicates.chains([], 10).tolist() == []


def test_fingerprints_ignore_size_and_brightness():
    smooth = Image.fromarray(tiny.picture(5, 16, 17)).resize((170, 160), Image.Resampling.BICUBIC)
    brighter = smooth.resize((85, 80)).point(lambda value: 20 + value * 0.8)
    other = Image.fromarray(tiny.picture(6, 16, 17)).resize((170, 160), Image.Resampling.BICUBIC)
    bits = near_duplicates.fingerprint(smooth)
    assert (bits != near_duplicates.fingerprint(brighter)).sum() < 20
    assert (bits != near_duplicates.fingerprint(other)).sum() > 80


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path):
    deep = np.linspace(1000, 3000, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    shallow = np.asarray(pictures.to_gray(tmp_path / "deep.tif"))
    assert shallow.dtype == np.uint8
    assert (shallow.min(), shallow.max()) == (0, 255)
    assert (np.diff(shallow.ravel().astype(int)) >= 0).all()
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(StudyError, match=r"nan\.tif: holds values that are not finite"):
        pictures.to_gray(tmp_path / "nan.tif")


def test_label_values_are_read_from_every_kind_of_file(tmp_path: Path):
    labels = np.zeros((4, 5), np.uint8)
    labels[1, 2] = 3
    Image.fromarray(labels).save(tmp_path / "gray.png")
    palette = Image.fromarray(labels).convert("P")
    palette.putdata(labels.ravel().tolist())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.repeat(labels[:, :, None], 3, 2)).save(tmp_path / "rgb.png")
    for name in ("gray", "palette", "rgb"):
        assert (pictures.mask_values(tmp_path / f"{name}.png") == labels).all(), name
    Image.fromarray(labels > 0).save(tmp_path / "bit.png")
    assert (pictures.mask_values(tmp_path / "bit.png") == (labels > 0)).all()
    color = np.zeros((4, 5, 3), np.uint8)
    color[0, 0] = [255, 0, 0]
    Image.fromarray(color).save(tmp_path / "color.png")
    with pytest.raises(StudyError, match="one value per label, got a color picture with 2 colors"):
        pictures.mask_values(tmp_path / "color.png")
