"""The command line for data: listing, checking every planted fault, preparing, and a user's own folder."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_originals as tiny
from PIL import Image
from prepared_sets import CARD, call, gray, make_set

from lib.common.errors import StudyError
from lib.data import cards
from lib.data.cards import all_cards, find_card
from lib.data.preparation.checks import check_prepared


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data root with one dataset, `mine`."""
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    make_set(tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("action", [[], ["list"], ["check"], ["fetch"], ["prepare"], ["card"]])
def test_help(action: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        call(*action, "--help")
    assert ended.value.code == 0
    assert "usage: python -m lib data" in capsys.readouterr().out


def test_list_shows_every_card_and_the_root(root: Path, capsys: pytest.CaptureFixture[str]):
    assert call("list") == 0
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert set(all_cards()) <= set(lines)
    assert "6 pairs" in lines["mine"]
    assert "no " in lines["busi"]
    assert "drawn on demand" in lines["sim_natural"]
    for name in set(all_cards()) - {"mine"}:
        assert re.search(r"  (CC|MIT|BSD|Apache)[^:;]*$", lines[name]), lines[name]
    assert f"data root: {root} (from the variable STUDY_DATA)" in out


def test_a_good_folder_passes(root: Path, capsys: pytest.CaptureFixture[str]):
    assert call("check", "mine") == 0
    out = capsys.readouterr().out
    assert "mine: ok: 6 pairs in 3 groups: all originals" in out
    assert "mine: ok: 3 folds of 2 images, no group in two of them" in out
    assert "mine: note: no checksums.sha256 in" in out
    assert call("check") == 0
    absent = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("not here, so not checked"))
    assert "busi" in absent
    assert "mine" not in absent


def test_a_folder_asked_for_and_missing_is_wrong(root: Path, capsys: pytest.CaptureFixture[str]):
    assert call("check", "busi") == 1
    assert (
        f"busi: error: busi: the prepared folder {root / 'busi_breast_ultrasound'} does not exist"
        in capsys.readouterr().out
    )
    assert call("check", "sim_natural") == 0


def test_an_unknown_name_is_a_users_mistake(root: Path):
    with pytest.raises(StudyError, match=r"unknown dataset 'mien'; did you mean 'mine'\?"):
        call("check", "mien")


def errors() -> str:
    return "\n".join(finding.text for finding in check_prepared(find_card("mine")) if finding.level == "error")


def edit_index(root: Path, old: str, new: str) -> None:
    text = (root / "mine/index.csv").read_text()
    assert old in text
    (root / "mine/index.csv").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda root: (root / "mine/masks/0003.png").unlink(), "1 of 6 masks are missing: 0003.png"),
        (lambda root: (root / "mine/images/0003.png").unlink(), "1 of 6 images are missing: 0003.png"),
        (
            lambda root: shutil.rmtree(root / "mine/masks"),
            "6 of 6 masks are missing: 0000.png, .* and 3",
        ),
        (lambda root: gray(0).save(root / "mine/images/9.png"), "images/ holds 1 files that index.csv lacks: 9.png"),
        (lambda root: gray(0, 7).save(root / "mine/masks/0003.png"), "image 0003 is 10 x 8 and its mask 10 x 7"),
        (lambda root: gray(9).save(root / "mine/masks/0003.png"), "mask 0003 must hold 0 and one of 1 or 255, got 9"),
        (lambda root: gray(255).save(root / "mine/masks/0003.png"), "mask 0003 has foreground 1.0000, index.csv says"),
        (lambda root: gray(0).convert("RGB").save(root / "mine/images/0003.png"), "0003.png: must be 8-bit gray"),
        (lambda root: edit_index(root, "10,8", "10,9"), "image 0000 is 10 x 8, index.csv says 10 x 9"),
        (lambda root: edit_index(root, "0001,scan 1", "0000,scan 1"), "lists an id more than once: 0000"),
        (lambda root: edit_index(root, "scan 1,a", "scan 1,"), "index.csv gives no group for 0001"),
        (lambda root: edit_index(root, "scan 2", "scan 1"), "one source picture is in two groups, .*: 0001 and 0002"),
        (
            lambda root: shutil.copy(root / "mine/images/0000.png", root / "mine/images/0005.png"),
            "the same image is in two groups, and may cross a split: 0000 and 0005",
        ),
        (lambda root: edit_index(root, "source", "sauce"), "column source is missing"),
        (
            lambda root: (root / "mine/card.toml").write_text(CARD.replace("folds = 3", "folds = 4")),
            "4 folds need at least as many groups, got 3 groups",
        ),
    ],
)
def test_every_fault_is_found(root: Path, fault, message: str, capsys: pytest.CaptureFixture[str]):
    assert errors() == ""
    fault(root)
    assert re.search(message, errors()), errors()
    assert call("check", "mine") == 1
    assert "1 checked, 1 wrong (mine)" in capsys.readouterr().out


def write_checksums(root: Path, inside: bool) -> None:
    folder = root / "mine"
    files = [*sorted(folder.rglob("*.png")), folder / "index.csv"]
    base = folder if inside else root
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(base).as_posix()}" for f in files]
    (base / "checksums.sha256").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("inside", [True, False])
def test_bytes_are_verified(root: Path, inside: bool):
    write_checksums(root, inside)
    assert [finding.text for finding in check_prepared(find_card("mine")) if "13 files agree with" in finding.text]
    Image.fromarray(np.full((8, 10), 1, np.uint8)).save(root / "mine/images/0000.png")
    assert "1 files differ from" in errors()
    (root / "mine/images/0000.png").unlink()
    assert "1 files that" in errors()
    assert "are missing: images/0000.png" in errors()
    gray(3).save(root / "mine/images/new.png")
    assert "1 files are not listed in" in errors()


def test_counts_name_the_part_or_the_difference(root: Path):
    def levels() -> dict[str, str]:
        return {
            finding.level: finding.text for finding in check_prepared(find_card("mine")) if "pairs in" in finding.text
        }

    card = root / "mine/card.toml"
    card.write_text(CARD.replace("pairs = 6", "pairs = 9"))
    assert levels() == {"warning": "6 pairs in 3 groups, while the card knows 9 in 3 (all originals)"}
    card.write_text(card.read_text() + '[[parts]]\nname = "first half"\npairs = 6\ngroups = 3\n')
    assert levels() == {"ok": "6 pairs in 3 groups: first half"}
    assert call("check", "mine") == 0


def test_check_writes_nothing(root: Path):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    call("check")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_fetch_and_prepare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(cards, "manifest_dir", lambda: tmp_path / "cards")
    files = tiny.nuclei() | {f"stage1_train/{n}/images/{n}.png": tiny.encoded(tiny.picture(n)) for n in range(3, 6)}
    files |= {f"stage1_train/{n}/masks/0.png": tiny.encoded(tiny.disk().astype(np.uint8) * 255) for n in range(3, 6)}
    tiny.write_card("nuclei", files, tmp_path / "cards")
    tiny.write(files, tmp_path / "mirror")
    assert call("fetch", "nuclei", "--from", tmp_path / "mirror") == 0
    assert "next: python -m lib data prepare nuclei" in capsys.readouterr().out
    assert call("prepare", "nuclei") == 0
    assert "5 pairs, 5 groups in" in capsys.readouterr().out
    assert call("check", "nuclei") == 0
    assert "nuclei: warning: 5 pairs in 5 groups, while the card knows 200 in 200" in capsys.readouterr().out
