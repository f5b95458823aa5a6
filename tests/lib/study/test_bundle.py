"""A bundle trains elsewhere with four packages, and brings home what is whole and belongs there; nothing else."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from lib.__main__ import main
from lib.common import paths
from lib.common.errors import StudyError
from lib.data.tasks import carried
from lib.data.tasks.images import data_digest, load_task
from lib.runs.listing import list_runs
from lib.runs.run import Run, run_dir
from lib.runs.seal import file_entry, sealed, spec_text
from lib.study import bundle as bundling
from lib.study.bundle import merge, part_of, write_bundle
from lib.study.engines import LocalProcesses
from lib.study.plan import finished_runs, load_suite, missing_runs, train_suite
from lib.study.suite import Suite
from lib.training.loop import train

SUITE = """
seeds = [0, 1]
[run]
width = 2
depth = 1
size = 16
steps = 4
batch = 4
evaluations = 2
[tuning]
rates = [0.01, 0.001]
[sources.first]
task = "blobs"
lr = 0.01
[[grid]]
tasks = ["blobs"]
volumes = [6, "all"]
strategies = ["scratch"]
[[grid]]
tasks = ["blobs"]
volumes = [6]
source = "first"
strategies = ["full_finetuning", "head_only"]
"""


@pytest.fixture
def suite(tmp_path: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    shutil.copytree(blobs, tmp_path / "data")  # some tests change images
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    file = tmp_path / "few.toml"
    file.write_text(SUITE)
    return load_suite(str(file))


@pytest.fixture
def bundle(suite: Suite, tmp_path: Path) -> Path:
    """An unpacked bundle; one of its sources is finished."""
    with LocalProcesses(device="cpu", workers=1) as pool:  # with the threads that a suite is trained with
        pool.submit(suite.source("first", 0)).result()
    write_bundle(suite, tmp_path / "few.tar.gz")
    with tarfile.open(tmp_path / "few.tar.gz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    return tmp_path / "there" / "few"


def test_two_that_write_one_bundle_at_once_write_it_whole(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The other one begins and ends while this one is in the middle; the folder is made."""
    target, real, begun = tmp_path / "new" / "folder" / "few.tar.gz", bundling.commit, list[int]()

    def in_the_middle() -> str:
        if not begun:
            begun.append(1)
            write_bundle(suite, target)
            target.rename(tmp_path / "other.tar.gz")
        return real()

    monkeypatch.setattr(bundling, "commit", in_the_middle)
    write_bundle(suite, target)
    names = []
    for file in (target, tmp_path / "other.tar.gz"):
        with tarfile.open(file) as archive:
            names.append([member.name for member in archive if archive.extractfile(member).read() is not None])
    assert names[0] == names[1]
    assert "few/train.sh" in names[0]
    assert [file.name for file in target.parent.iterdir()] == [target.name]


def train_there(bundle: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """`train.sh` where nothing but the four packages can be imported."""
    absent = tmp_path / "absent"
    for name in ("PIL", "pandas", "matplotlib", "seaborn", "papermill", "nibabel", "skimage"):
        (absent / name).mkdir(parents=True, exist_ok=True)
        (absent / name / "__init__.py").write_text(f"raise ImportError('{name} is not there')")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STUDY_")}
    environment |= {"PYTHON": sys.executable, "PYTHONPATH": str(absent)}
    command = ["sh", str(bundle / "train.sh"), "--device", "cpu", "--workers", "1"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_trained_elsewhere_and_merged_it_is_what_is_trained_here(bundle: Path, suite: Suite, tmp_path: Path) -> None:
    done = train_there(bundle, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "complete" in done.stdout
    found = merge(bundle)
    assert (found.refused, found.unfinished, len(found.here)) == ([], [], 1)
    assert missing_runs(suite) == []
    assert all(run.faults() == [] for run in list_runs())
    merged = {run.path.name: tiny.outcome(run) for run in finished_runs(suite)}
    commits = {json.loads((run.path / "provenance.json").read_text())["commit"] for run in finished_runs(suite)}
    assert commits == {(bundle / "COMMIT").read_text().strip()}
    shutil.rmtree(paths.runs_dir())
    train_suite(suite, device="cpu", workers=1, show=lambda line: None)
    here = {run.path.name: tiny.outcome(run) for run in finished_runs(suite)}
    for outcome in [*merged.values(), *here.values()]:
        del outcome["result"]["device"]  # how many threads it had
    assert merged == here
    again = merge(bundle)
    assert (again.taken, again.here) == ([], [])  # trained here meanwhile, at another moment: other seals
    assert len(again.refused) == len(list_runs())


def small(bundle: Path, suite: Suite) -> Run:
    """A run that was trained in the bundle."""
    spec = suite.at_all_rates(suite.cells[0], 0)[0]
    home = os.environ["STUDY_HOME"]
    os.environ["STUDY_HOME"] = str(bundle)
    try:
        return train(spec, device="cpu")
    finally:
        os.environ["STUDY_HOME"] = home


def test_what_was_changed_is_refused_and_the_rest_taken(bundle: Path, suite: Suite) -> None:
    run = small(bundle, suite)
    file = run.path / "metrics.jsonl"
    file.write_bytes(file.read_bytes().replace(b"0", b"1", 1))
    found = merge(bundle)
    assert found.taken == []
    assert len(found.here) == 1
    assert len(found.refused) == 1
    assert "metrics.jsonl" in found.refused[0]
    assert not run_dir(run.spec).exists()


def test_runs_of_other_data_are_refused(bundle: Path, suite: Suite) -> None:
    run = small(bundle, suite)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(paths.data_root() / "blobs" / "masks" / "00.png")
    found = merge(bundle / "runs")
    assert found.taken == []
    assert any(run.path.name in line and "was trained on other data" in line for line in found.refused)


def test_runs_from_another_source_are_refused(bundle: Path, suite: Suite) -> None:
    run = small(bundle, suite)
    result = json.loads((run.path / "result.json").read_text())
    files, spec = result.pop("files"), suite.at_all_rates(suite.cells[2], 0)[0]
    del result["seal"]
    other = bundle / "runs" / run_dir(spec).name
    shutil.copytree(run.path, other)
    (other / "spec.json").write_text(spec_text(spec))
    files["spec.json"] = file_entry(spec_text(spec).encode())
    (other / "result.json").write_text(json.dumps(sealed({**result, "source": "0" * 64}, files)))
    assert any("started from other weights" in line for line in merge(bundle).refused)


def test_an_unfinished_run_is_named_and_left(bundle: Path, suite: Suite) -> None:
    run = small(bundle, suite)
    (run.path / "result.json").unlink()
    found = merge(bundle)
    assert (found.unfinished, found.taken) == ([run.path.name], [])


def test_an_interrupted_run_here_gives_way_to_a_finished_one(bundle: Path, suite: Suite) -> None:
    run = small(bundle, suite)
    shutil.copytree(run.path, run_dir(run.spec))
    (run_dir(run.spec) / "result.json").unlink()
    (run_dir(run.spec) / "resume.safetensors").write_bytes(b"whatever")
    assert merge(bundle).taken == [run.path.name]
    assert Run(run_dir(run.spec)).faults() == []
    assert not (run_dir(run.spec) / "resume.safetensors").exists()


@pytest.mark.parametrize("name", ["../runs/x/spec.json", "/runs/x/spec.json", "few/runs/x/spec.json"])
def test_archives_that_reach_outside_are_refused(suite: Suite, tmp_path: Path, name: str) -> None:
    file = tmp_path / "bad.tar"
    with tarfile.open(file, "w") as archive:
        about = tarfile.TarInfo(name)
        if name.startswith("few"):
            about.type, about.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(about, io.BytesIO(b""))
    with pytest.raises(StudyError, match="which is no plain file inside it; nothing was taken"):
        merge(file)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_bundle_is_said(suite: Suite, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "odd.tar.gz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StudyError, match=r"cannot be read as an archive|there is no file|holds no run"):
        merge(file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="holds no run"):
        merge(tmp_path / "empty")


def test_parts_hold_every_cell_once(suite: Suite) -> None:
    for parts in (1, 2, 3, 4):
        cells = [cell for number in range(1, parts + 1) for cell in part_of(suite, number, parts).cells]
        assert sorted(map(repr, cells)) == sorted(map(repr, suite.cells))
        assert all(part_of(suite, number, parts).cells for number in range(1, parts + 1))
    for number, parts in ((0, 2), (3, 2), (1, 5)):
        with pytest.raises(StudyError, match="and so at most as many parts"):
            part_of(suite, number, parts)


def test_the_commands(bundle: Path, suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(suite.file), "--parts", "2", "--out", str(tmp_path)]) == 0
    assert "few-2-of-2.tar.gz" in capsys.readouterr().out
    with tarfile.open(tmp_path / "few-2-of-2.tar.gz") as archive:
        start = archive.extractfile("few-2-of-2/train.sh")
        assert start is not None
        assert b"--part 2/2" in start.read()
    assert main(["bundle", str(suite.file), "--parts", "2", "--out", str(tmp_path)]) == 2  # they are there
    small(bundle, suite)
    assert main(["merge", str(bundle)]) == 0
    assert "1 runs taken, 1 were here, 0 refused" in capsys.readouterr().out
    assert main(["train", str(suite.file), "--part", "two", "--device", "cpu"]) == 2
    assert main(["train", str(suite.file), "--part", "1/2", "--device", "cpu", "--engine", "here"]) == 0
    assert 0 < len(missing_runs(suite)) < 18


def test_a_carried_task_is_the_task(suite: Suite) -> None:
    """It counts where its set does not lie; where both are, the set does."""
    data = load_task("blobs", 16)
    file = carried.file_of("blobs", 16)
    file.parent.mkdir(parents=True)
    file.write_bytes(carried.content(data))
    assert data_digest("blobs", 16) == data.digest
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(paths.data_root() / "blobs" / "masks" / "00.png")
    assert data_digest("blobs", 16) != data.digest  # the set's own files count
    (paths.data_root() / "blobs" / "index.csv").unlink()
    assert data_digest("blobs", 16) == data.digest
    back = load_task("blobs", 16)
    assert (back.images.equal(data.images), back.masks.equal(data.masks)) == (True, True)
    assert (back.ids, back.groups, back.notes) == (data.ids, data.groups, data.notes)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(StudyError, match="is damaged"):
        load_task("blobs", 16)
