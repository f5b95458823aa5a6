"""Cards, prepared folders and folds: what is planted is read back, and every mistake is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from prepared_sets import CARD, make_set

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.outside import read_table
from lib.data.cards import all_cards, find_card, load_card, root_note
from lib.data.preparation.originals import originals
from lib.data.prepared_folder import prepared_files, read_prepared
from lib.data.tasks.folds import assign_folds


def card_file(tmp_path: Path, text: str) -> Path:
    (tmp_path / "mine").mkdir(exist_ok=True)
    (tmp_path / "mine" / "card.toml").write_text(text)
    return tmp_path / "mine" / "card.toml"


def test_project_cards_are_complete():
    cards = all_cards()
    assert {"busi", "usgra", "cxr_lungs", "ccp", "camvid", "em_membranes", "nuclei"} <= set(cards)
    assert {"sim_natural", "sim_ultrasound", "sim_radiograph"} <= set(cards)
    for name, card in cards.items():
        assert card.name == name == card.file.stem
        assert card.licence
        assert card.citation
        assert card.split.rule
        if card.kind == "simulated":
            assert not originals(card)
        else:
            assert card.groups <= card.pairs
            assert card.fetch in ("table", "manual")
            assert card.preparation
            rows = originals(card)
            assert bool(rows) == (card.fetch == "table")
            assert len({row.path for row in rows}) == len(rows)


def test_reading_gives_back_what_was_planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folder = make_set(tmp_path / "data")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    prepared = read_prepared(find_card("mine"))
    assert prepared.ids == [f"{number:04d}" for number in range(6)]
    assert prepared.groups == list("aabbcc")
    for number, (image, mask) in enumerate(zip(prepared.images, prepared.masks, strict=True)):
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == mask.shape == (8, 10)
        assert (image == 10 * number).all()
        assert mask.sum() == number + 1
    listed = prepared_files(find_card("mine"))
    assert set(listed) == {folder / "index.csv", *folder.glob("*/*.png")}
    assert len(listed) == 13


def test_masks_of_zero_and_one_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folder = make_set(tmp_path / "data")
    Image.fromarray(np.eye(8, 10, dtype=np.uint8)).save(folder / "masks" / "0000.png")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    assert read_prepared(find_card("mine")).masks[0].sum() == 8


def test_a_missing_folder_says_where_it_was_looked_for():
    with pytest.raises(StudyError, match=r"busi_breast_ultrasound does not exist; data root: .*HOME.*data fetch busi"):
        read_prepared(find_card("busi"))


def test_a_simulated_set_has_no_folder():
    with pytest.raises(StudyError, match="sim_natural is simulated: it is drawn on demand"):
        read_prepared(find_card("sim_natural"))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (None, r"masks/0002\.png is listed in the index but missing; data root"),
        (np.zeros((8, 9), np.uint8), r"image 0002 is \(8, 10\) and its mask \(8, 9\)"),
        (np.zeros((10, 8), np.uint8), r"image 0002 is \(8, 10\) and its mask \(10, 8\)"),
        (np.full((8, 10), 7, np.uint8), r"0002\.png: a mask must hold 0 and one of 1 or 255, got the values \[7\]"),
        (np.zeros((8, 10, 3), np.uint8), r"0002\.png: must be 8-bit gray \(mode L\), got mode RGB"),
    ],
)
def test_a_faulty_mask_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, picture: np.ndarray | None, message: str
):
    folder = make_set(tmp_path / "data")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    (folder / "masks" / "0002.png").unlink()
    if picture is not None:
        Image.fromarray(picture).save(folder / "masks" / "0002.png")
    with pytest.raises(StudyError, match=message):
        read_prepared(find_card("mine"))


def test_a_damaged_picture_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folder = make_set(tmp_path / "data")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    whole = (folder / "images" / "0001.png").read_bytes()
    (folder / "images" / "0001.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match=r"0001\.png: not a readable picture"):
        read_prepared(find_card("mine"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title =", "titel =", r"unknown key 'titel'; did you mean 'title'\?"),
        ('title = "a title"\n', "", "the key 'title' is missing"),
        ("pairs = 6", 'pairs = "6"', "pairs must be a whole number, got '6'"),
        ("pairs = 6", "pairs = true", "pairs must be a whole number, got True"),
        ("pairs = 6", "pairs = -6", "pairs must not be negative, got -6"),
        ("pairs = 6", "pairs = 6\nquality = 'x'", "quality must be a list, got 'x'"),
        ("pairs = 6", "pairs = 6\nquality = [1]", r"quality\[0\] must be a text, got 1"),
        ("pairs = 6", "pairs = 6\nfile = 'x'", "unknown key 'file'"),
        ("pairs = 6", "pairs = 6\nfolder = 'x'", "folder says 'x' but the card lies in 'mine'; drop the key"),
        ("pairs = 6", "pairs = 6\nfetch = 'tabel'", r"unknown fetch 'tabel'; did you mean 'table'\?"),
        ("pairs = 6", "pairs = 6\nfetch = 'manual'", "needs a text under 'manual': why, and where"),
        ("pairs = 6", "pairs = 6\nfetch = 'table'", 'fetch = "table" needs an address'),
        ("folds = 3", "folds = 2", r"split\.folds must be at least 3 .*, got 2"),
        ("folds = 3", "fold = 3", r"split: unknown key 'fold'; did you mean 'folds'\?"),
        ('kind = "real"', 'kind = "reel"', r"unknown kind 'reel'; did you mean 'real'\?"),
        ('name = "mine"', 'name = "My Set"', "name must be lowercase letters, digits and '_', got 'My Set'"),
        ('name = "mine"', 'name = "sim_mine"', "the name 'sim_mine' is reserved"),
        ("pairs = 6", "pairs = ", "not valid TOML"),
    ],
)
def test_a_card_is_read_strictly(tmp_path: Path, old: str, new: str, message: str):
    assert old in CARD
    with pytest.raises(StudyError, match=message) as caught:
        load_card(card_file(tmp_path, CARD.replace(old, new)))
    assert str(tmp_path) in str(caught.value)  # says which file


def test_a_users_card_may_not_shadow_the_projects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    make_set(tmp_path / "data", card=CARD.replace('"mine"', '"busi"'))
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    with pytest.raises(StudyError, match=r"the name 'busi' is taken by .*busi\.toml; choose another name"):
        all_cards()


def test_an_unknown_dataset_gets_the_nearest_name():
    with pytest.raises(StudyError, match=r"unknown dataset 'bussi'; did you mean 'busi'\?.*data root"):
        find_card("bussi")


def test_a_table_with_a_short_row_is_refused(tmp_path: Path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(StudyError, match=r"t\.csv, line 3: the row does not have the header's 2 cells"):
        read_table(tmp_path / "t.csv", ["a"])
    with pytest.raises(StudyError, match="column c is missing; the header is a, b"):
        read_table(tmp_path / "t.csv", ["a", "c"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=40, max_size=120), st.integers(2, 6), st.randoms())
def test_folds_keep_groups_whole_and_even(numbers: list[int], count: int, random):
    groups = [f"g{number}" for number in numbers]
    if len(set(groups)) < count:
        return
    fold = assign_folds(groups, count, "set")
    assert fold.dtype == np.int64
    of_group: dict[str, set[int]] = {}
    for group, place in zip(groups, fold.tolist(), strict=True):
        of_group.setdefault(group, set()).add(place)
    assert all(len(places) == 1 for places in of_group.values())
    sizes = np.bincount(fold, minlength=count)
    largest = max(groups.count(group) for group in set(groups))
    assert sizes.min() > 0
    assert sizes.max() - sizes.min() <= largest
    order = list(range(len(groups)))
    random.shuffle(order)
    shuffled = assign_folds([groups[place] for place in order], count, "set")
    assert (shuffled == fold[order]).all()  # the order of the listing does not matter


def test_folds_of_two_sets_are_unrelated():
    groups = [f"g{number}" for number in range(60)]
    assert (assign_folds(groups, 5, "one") != assign_folds(groups, 5, "two")).any()


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(StudyError, match="set: 5 folds need at least as many groups, got 2 groups"):
        assign_folds(["a", "b", "a"], 5, "set")


def test_data_root_is_named_with_its_origin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    assert root_note() == f"data root: {paths.data_root()} (from the variable STUDY_DATA)"
