"""Run folders: what they hold, what is refused and with which words, and that no write loses what was there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch

from lib.common import paths
from lib.common.errors import StudyError
from lib.runs import tensor_files
from lib.runs.listing import find_run, list_runs
from lib.runs.run import Run, locked, open_run, run_dir
from lib.runs.spec import run_id
from lib.runs.tensor_files import read_tensors, writing
from lib.training.loop import train

pytestmark = pytest.mark.usefixtures("blobs_as_data")


@pytest.fixture(scope="module")
def trained(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `runs` folder of one source and one adapted run."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_DATA", str(blobs))
        patch.setenv("STUDY_HOME", str(home))
        train(adapted())
    return home / "runs"


def adapted():
    return tiny.spec(strategy="scale_shift", source=tiny.spec(seed=1))


@pytest.fixture
def run(trained: Path) -> Run:
    """A copy of the adapted run that a test may damage; its source lies beside it."""
    shutil.copytree(trained, paths.runs_dir())
    return Run(run_dir(adapted()))


def test_a_run_tells_what_it_holds(run: Run):
    assert run.spec == adapted()
    assert run.result is not None
    assert run.result["status"] == "done"
    assert [row["step"] for row in run.metrics()] == [0, 2, 4, 6, 8]
    assert run.steps() == [0, 1, 4, 8]
    left = {file.name for file in run.path.iterdir()}
    assert left == {"spec.json", "provenance.json", "metrics.jsonl", "checkpoints", "result.json", "lock"}
    stamp = json.loads((run.path / "provenance.json").read_text())
    assert {"commit", "versions", "device", "threads"} <= stamp.keys()


def test_later_checkpoints_hold_only_what_changed(run: Run):
    start = read_tensors(run.checkpoint(0))
    for step in (1, 4, 8):
        delta = read_tensors(run.checkpoint(step))
        assert delta
        assert all(name.endswith((".scale", ".shift")) for name in delta)
        assert not any(torch.equal(value, start[name]) for name, value in delta.items())
        rebuilt = run.weights(step)
        assert rebuilt.keys() == start.keys()
        for name, value in rebuilt.items():
            assert torch.equal(value, delta.get(name, start[name]))
    # The first checkpoint holds the source's weights and the factors besides
    source = Run(run_dir(run.spec.source)).weights()
    assert all(torch.equal(start[name], value) for name, value in source.items())


def test_a_frozen_run_costs_little_on_disk(run: Run):
    whole = run.checkpoint(0).stat().st_size
    moved = sum(value.numel() * 4 for value in read_tensors(run.checkpoint(8)).values())
    header = 110 * len(read_tensors(run.checkpoint(8)))
    assert run.checkpoint(8).stat().st_size < moved + header
    assert run.checkpoint(8).stat().st_size < whole / 2


def test_the_model_of_a_run_is_the_trained_one(run: Run):
    model = run.model()
    assert not model.training
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in run.weights(8).items())


def test_a_step_without_checkpoint_is_refused(run: Run):
    with pytest.raises(StudyError, match=r"has checkpoints at steps \[0, 1, 4, 8\], got 5"):
        run.weights(5)


def test_a_folder_without_spec_is_no_run(tmp_path: Path):
    with pytest.raises(StudyError, match=r"is not a run: it has no spec\.json"):
        Run(tmp_path)


@pytest.mark.parametrize("text", ['{"task": "blo', "", "\x00\x00\x00"])
def test_a_cut_spec_is_refused(run: Run, text: str):
    (run.path / "spec.json").write_text(text)
    with pytest.raises(StudyError, match=r"spec\.json is damaged .*; delete .* to train the run again"):
        Run(run.path)
    with pytest.raises(StudyError, match="is damaged"):
        train(adapted())


def test_a_spec_that_is_none_says_why(run: Run):
    (run.path / "spec.json").write_text('{"task": "blobs", "stpes": 8}')
    with pytest.raises(StudyError, match=r"no spec that can be read here: .*'stpes'; did you mean 'steps'"):
        Run(run.path)


def test_a_run_of_a_task_that_is_not_here_is_not_called_damaged(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("STUDY_DATA")
    with pytest.raises(StudyError, match=r"read here: unknown task 'blobs'.*data root"):
        Run(run.path)


def test_a_renamed_run_is_refused(run: Run):
    other = run.path.rename(run.path.with_name("mine"))
    with pytest.raises(StudyError, match=f"holds the spec of {run.path.name}: it was renamed"):
        Run(other)


def test_an_edited_spec_is_refused(run: Run):
    edited = json.loads((run.path / "spec.json").read_text()) | {"steps": 9}
    (run.path / "spec.json").write_text(json.dumps(edited))
    with pytest.raises(StudyError, match="it was renamed, edited, or made by another version"):
        train(adapted())


@pytest.mark.parametrize("text", [
    '{"status": "do', "", "null", "[]", "{}", '{"status": "done"}', '{"status": "diverged"}', '{"status": ["done"]}',
])  # fmt: skip
def test_a_damaged_result_is_refused(run: Run, text: str):
    (run.path / "result.json").write_text(text)
    with pytest.raises(StudyError, match=rf"result\.json (is damaged|has no seal).*[dD]elete {run.path} "):
        _ = Run(run.path).result
    with pytest.raises(StudyError, match=r"result\.json (is damaged|has no seal)"):
        train(adapted())


def test_what_is_no_evaluation_is_left_out(run: Run):
    file, before = run.path / "metrics.jsonl", run.metrics()
    (run.path / "result.json").unlink()  # of a run that is not finished
    file.write_bytes(file.read_bytes() + b'5\nnull\n"\xff"\n{"step": 9')
    assert run.metrics() == before


def test_a_file_beside_the_checkpoints_is_no_checkpoint(run: Run):
    before = run.steps()
    (run.path / "checkpoints" / "step-best.safetensors").touch()
    assert run.steps() == before


def test_a_deleted_result_is_made_again(run: Run):
    before = tiny.outcome(run)
    (run.path / "result.json").unlink()
    assert tiny.outcome(train(adapted())) == before


@pytest.mark.parametrize("cut", [0, 7, 300, -1])
def test_a_cut_checkpoint_is_refused(run: Run, cut: int):
    file = run.checkpoint(8)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(StudyError, match=f"step-000008.safetensors is damaged.*delete {run.path} "):
        run.weights()


def test_a_missing_first_checkpoint_is_refused(run: Run):
    run.checkpoint(0).unlink()
    with pytest.raises(StudyError, match=r"step-000000\.safetensors is missing"):
        run.weights()


def test_a_damaged_source_is_refused_before_anything_is_trained(run: Run):
    source = Run(run_dir(run.spec.source))
    source.checkpoint(8).write_bytes(b"no")
    other = adapted().but(seed=5)
    with pytest.raises(StudyError, match=f"{source.path.name}.*is damaged"):
        train(other)
    assert not Run(run_dir(other)).metrics()


def test_a_line_of_metrics_cut_short_is_left_out(run: Run):
    (run.path / "result.json").unlink()  # of a run that is not finished
    with (run.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "val_d')
    assert [row["step"] for row in run.metrics()] == [0, 2, 4, 6, 8]


def test_a_foreign_folder_is_refused_and_left_alone():
    folder = run_dir(tiny.spec())
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match=r"holds thesis\.txt and no spec\.json: it was not made by this study"):
        train(tiny.spec())
    assert [file.name for file in folder.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_place_of_a_folder_is_refused(study_home: Path):
    (study_home / "runs").write_text("")
    with pytest.raises(StudyError, match=r"cannot write in .*(Not a directory|File exists)"):
        train(tiny.spec())


def test_a_folder_left_with_nothing_but_its_lock_is_taken():
    folder = run_dir(tiny.spec())
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (folder / ".spec.json.x1").touch()
    assert open_run(tiny.spec()).spec == tiny.spec()


def test_listing_warns_of_what_is_no_run(run: Run):
    (paths.runs_dir() / "notes").mkdir()
    warnings: list[str] = []
    names = [each.path.name for each in list_runs(warn=warnings.append)]
    assert names == sorted([run.path.name, run_id(adapted().source)])
    assert len(warnings) == 1
    assert "notes is not a run" in warnings[0]
    assert len(list_runs()) == 2


def test_listing_before_the_first_run_is_empty():
    assert list_runs() == []


def test_a_run_is_found_by_its_last_digits(run: Run):
    assert find_run(run.path.name[-8:]).path == run.path
    assert find_run(run.path.name).path == run.path
    with pytest.raises(StudyError, match=f"no run '{run.path.name}x' in .*; the nearest is {run.path.name}"):
        find_run(run.path.name + "x")
    with pytest.raises(StudyError, match="2 runs fit ''"):
        find_run("")


# ---- locks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the folder `tmp_path`."""
    code = (
        "import fcntl, sys; h = open(sys.argv[1], 'a'); fcntl.flock(h, fcntl.LOCK_EX); print(1, flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-S", "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_lock_goes_with_the_process_that_holds_it(holder: subprocess.Popen[str], tmp_path: Path):
    waited, got = threading.Event(), threading.Event()

    def want() -> None:
        with locked(tmp_path, waited.set):
            got.set()

    thread = threading.Thread(target=want)
    thread.start()
    assert waited.wait(10)
    assert not got.wait(0.1)
    holder.kill()
    assert got.wait(10)
    thread.join()


def test_a_free_lock_is_taken_at_once(tmp_path: Path):
    with locked(tmp_path, lambda: pytest.fail("waited")):
        pass


# ---- disks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_a_clear_error(tmp_path: Path, code: int):
    with (
        pytest.raises(StudyError, match=f"cannot write in {tmp_path}: {os.strerror(code)}.*intact.*STUDY_HOME"),
        writing(tmp_path),
    ):
        raise OSError(code, "planted")


def test_other_errors_of_the_system_are_not_renamed(tmp_path: Path):
    with pytest.raises(OSError, match="planted"), writing(tmp_path):
        raise OSError(errno.EIO, "planted")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "run" / "kept.safetensors"
    tensor_files.write_tensors(file, {"a": torch.ones(3)}, {})
    before = file.read_bytes()
    for name in ("fsync", "replace", "chmod"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, _full)
            with pytest.raises(StudyError, match="No space left on device"):
                tensor_files.write_tensors(file, {"a": torch.zeros(3)}, {})
        assert file.read_bytes() == before
        assert list(file.parent.iterdir()) == [file]


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "planted")
