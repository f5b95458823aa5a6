"""Seeding is a pure function of its key, devices are chosen or refused, and the stamp holds what a reader needs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from lib.common import paths, provenance
from lib.common.device import peak_memory_mb, pick_device
from lib.common.errors import StudyError
from lib.common.seeding import generator

CPU = torch.device("cpu")


def drawn(*key: int) -> list[float]:
    return torch.rand(8, generator=generator(*key)).tolist()


def test_a_generator_is_a_pure_function_of_its_key() -> None:
    first = drawn(3, 0x1417)
    torch.rand(5)
    assert drawn(3, 0x1417) == first


def test_different_keys_draw_different_numbers() -> None:
    keys = [(0, 1), (1, 0), (1, 1), (0, 1, 1), (2**40, 1), (0, 1, 2**20)]
    assert len({tuple(drawn(*key)) for key in keys}) == len(keys)


def test_generators_leave_the_global_one_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    drawn(1, 2)
    assert torch.equal(torch.rand(3), expected)


def test_generators_live_on_the_cpu() -> None:
    assert generator(0).device == CPU


@pytest.mark.parametrize(
    "name", ["cpuu", "", "cuda:-1", "cuda:one", "cuda:²", "auto:1", "cpu:3", "mps:0", "gpu", "CUDA", "cuda:0:1"]
)
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match="unknown device"):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_a_missing_cuda_device_is_an_error_and_no_fall_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(StudyError, match=rf"device '{name}' was asked for, but torch .* sees 0 CUDA devices; use"):
        pick_device(name)


def test_the_second_of_one_cuda_device_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(StudyError, match="sees 1 CUDA devices"):
        pick_device("cuda:1")


def test_a_missing_mps_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(StudyError, match="'mps' was asked for, but torch sees none"):
        pick_device("mps")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_best_there_is(cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == expected


def test_the_stamp_is_plain_json_and_holds_what_a_reader_needs() -> None:
    stamp = provenance.stamp(CPU)
    assert json.loads(json.dumps(stamp)) == stamp
    assert stamp["versions"]["torch"] == torch.__version__
    assert stamp["threads"] == torch.get_num_threads()
    assert stamp["device"].startswith("cpu (")
    assert "device" not in provenance.stamp()


def test_the_stamp_never_names_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("torch", "no-such-package"))
    assert provenance.versions().keys() == {"python", "torch"}


def test_commit_tells_a_clean_tree_from_a_changed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr(paths, "REPOSITORY", tmp_path)
    git("init")
    assert provenance.commit() == "unknown"  # no commit yet
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    name = git("rev-parse", "--short=12", "HEAD").strip()
    assert provenance.commit() == name
    (tmp_path / "file").write_text("two")
    assert provenance.commit() == f"{name}+changes"


def test_commit_is_unknown_outside_git_and_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "REPOSITORY", tmp_path / "nowhere")
    assert provenance.commit() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() == "unknown"


def test_peak_memory_is_in_megabytes_of_this_process() -> None:
    hold = torch.ones(25_000_000)  # 100 MB, written to
    assert 100 < peak_memory_mb(CPU) < 100_000
    del hold
