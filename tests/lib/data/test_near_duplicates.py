"""Near-duplicates: planted copies are found across groups, other pictures are not, and card and check say so."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_originals
from PIL import Image
from prepared_sets import CARD, call, make_set

from lib.data.preparation.near_duplicates import alike, reduced
from lib.data.simulate.catalog import simulate

Change = Callable[[Image.Image], Image.Image]


def saved_with_loss(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


COPIES: dict[str, Change] = {
    "lossy": saved_with_loss,
    "half the size": lambda p: p.resize((p.width // 2, p.height // 2), Image.Resampling.BOX),
    "brighter": lambda p: p.point(lambda value: 20 + 0.8 * value),
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "turned": lambda p: p.transpose(Image.Transpose.ROTATE_90),
    "turned back": lambda p: p.transpose(Image.Transpose.ROTATE_270),
    "upside down and turned": lambda p: p.transpose(Image.Transpose.TRANSVERSE),
}


def scenes(count: int) -> list[Image.Image]:
    images, _ = simulate("ultrasound", count, size=64)
    return [Image.fromarray(image) for image in images]


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_copy_is_found_in_another_group_and_nothing_else(change: Change):
    pictures = scenes(30)
    copy = change(pictures[7])
    small = [reduced(np.asarray(picture)) for picture in [*pictures, copy]]
    assert alike(small, [str(n) for n in range(31)]) == [(7, 30)]
    assert alike(small, [*(str(n) for n in range(30)), "7"]) == []  # of one group: no split is crossed


def test_other_pictures_and_pictures_without_edges_are_not_alike():
    flat = [np.full((40, 40), value, np.uint8) for value in (0, 0, 90)]
    noise = list(np.random.default_rng(0).integers(0, 256, (20, 40, 40), dtype=np.uint8))
    small = [reduced(each) for each in [*flat, *noise]]
    assert alike(small, [str(n) for n in range(len(small))]) == []
    assert alike([], []) == []


def test_more_pictures_than_are_held_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lib.data.preparation.near_duplicates.ROWS", 4)
    pictures = scenes(9)
    small = [reduced(np.asarray(each)) for each in [*pictures, pictures[1], COPIES["mirrored"](pictures[8])]]
    assert alike(small, [str(n) for n in range(11)]) == [(1, 9), (8, 10)]


def test_card_and_check_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    folder = tmp_path / "mine"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    pictures = scenes(6)
    for number, picture in enumerate([*pictures, COPIES["lossy"](pictures[2])]):
        picture.save(folder / "images" / f"s{number}.png")
        Image.fromarray(tiny_originals.disk(64, 64, left=number)).save(folder / "masks" / f"s{number}.png")
    (folder / "groups.csv").write_text("name,group\n" + "".join(f"s{n},p{n}\n" for n in range(7)))
    assert call("card", folder) == 0
    assert "nearly the same picture in two groups, which may cross a split: s2 and s6\n" in capsys.readouterr().out
    assert call("check", "mine") == 0
    assert "nearly the same image is in two groups, and may cross a split: 0002 and 0006" in capsys.readouterr().out


def test_equal_images_are_an_error_and_not_told_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    folder = make_set(tmp_path, card=CARD)
    scene = scenes(1)[0].resize((10, 8))
    for number in (0, 4):
        scene.save(folder / "images" / f"{number:04d}.png")
    call("check", "mine")
    said = capsys.readouterr().out
    assert "the same image is in two groups" in said
    assert "nearly" not in said
