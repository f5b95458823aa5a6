"""Where things lie, and that a write leaves the old file or the new one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from lib.common import paths


def test_everything_the_study_makes_lies_under_study_home(study_home: Path) -> None:
    home = study_home.resolve()
    assert paths.home() == home
    assert [paths.runs_dir(), paths.reports_dir(), paths.weights_dir()] == [
        home / "runs",
        home / "reports",
        home / "weights",
    ]
    assert paths.data_root() == home / "data"
    assert "STUDY_HOME" in paths.data_origin()


@pytest.mark.parametrize("value", [None, ""])
def test_without_study_home_it_is_the_repository(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("STUDY_HOME") if value is None else monkeypatch.setenv("STUDY_HOME", value)
    assert paths.home() == Path(__file__).resolve().parents[3]
    assert paths.data_root() == paths.REPOSITORY / "data"
    assert paths.data_origin().startswith("the default")


def test_study_data_moves_the_data_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, study_home: Path) -> None:
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "elsewhere"))
    assert paths.data_root() == (tmp_path / "elsewhere").resolve()
    assert paths.data_origin() == "from the variable STUDY_DATA"
    assert paths.runs_dir() == study_home.resolve() / "runs"


def test_an_empty_study_data_counts_as_unset(monkeypatch: pytest.MonkeyPatch, study_home: Path) -> None:
    monkeypatch.setenv("STUDY_DATA", "")
    assert paths.data_root() == study_home.resolve() / "data"
    assert "STUDY_DATA to use" in paths.data_origin()


def test_a_tilde_and_a_relative_folder_are_resolved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STUDY_HOME", "~/study")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_DATA", "sets")
    assert paths.home() == tmp_path.resolve() / "study"
    assert paths.data_root() == tmp_path.resolve() / "sets"


def test_asking_where_makes_nothing(study_home: Path) -> None:
    for ask in (paths.home, paths.data_root, paths.runs_dir, paths.reports_dir, paths.weights_dir):
        ask()
    assert list(study_home.iterdir()) == []


@pytest.mark.parametrize("content", ["größer\n", b"\x00\xff", "", b""])
def test_write_atomic_makes_folders_and_leaves_nothing_else(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "a" / "b" / "file.json"
    paths.write_atomic(file, content)
    assert file.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(file.parent.iterdir()) == [file]


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    paths.write_atomic(tmp_path / "file", "x")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_a_full_disk_leaves_the_old_file_and_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    paths.write_atomic(file, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        paths.write_atomic(file, "new")
    assert file.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir() if "file" in each.name] == ["file"]


def test_an_interrupt_before_the_renaming_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    paths.write_atomic(file, "old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paths.write_atomic(file, "new")
    assert file.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir() if "file" in each.name] == ["file"]


def test_a_folder_in_the_way_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        paths.write_atomic(tmp_path / "taken", "x")
    assert [each.name for each in tmp_path.iterdir() if "taken" in each.name] == ["taken"]
