"""What a finished run wrote is what is read: every damage to every file is told, or changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from lib.__main__ import main
from lib.common.errors import StudyError
from lib.runs import seal
from lib.runs.listing import check_current, find_run, list_runs
from lib.runs.run import Run, run_dir
from lib.runs.spec import RunSpec
from lib.runs.tensor_files import read_tensors, write_tensors
from lib.training.loop import train

pytestmark = pytest.mark.usefixtures("blobs_as_data")


def source_spec() -> RunSpec:
    return tiny.spec(seed=1)


def target_spec() -> RunSpec:
    return tiny.spec(strategy="full_finetuning", source=source_spec())


@pytest.fixture(scope="module")
def written(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `runs` of a source and of what started from it."""
    home = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_HOME", str(home))
        patch.setenv("STUDY_DATA", str(blobs))
        train(target_spec())
    return home / "runs"


@pytest.fixture
def run(written: Path, study_home: Path) -> Run:
    """The target in a home of its own, where it may be damaged."""
    shutil.copytree(written, study_home / "runs")
    seal.forget()
    return Run(run_dir(target_spec()))


def everything(run: Run) -> list[Any]:
    """All that a run can be asked for."""
    weights = [run.weights(step) for step in run.steps()]
    return [run.result, run.metrics(), run.steps(), [{k: v.tolist() for k, v in each.items()} for each in weights]]


def flip(content: bytes, at: float, bit: int) -> bytes:
    place = int(at * (len(content) - 1))
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **{
        f"bit {bit} at {at}": lambda content, at=at, bit=bit: flip(content, at, bit)
        for at in (0, 0.2, 0.51, 0.83, 1)
        for bit in (0, 6)
    },
    "emptied": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "last byte gone": lambda content: content[:-1],
    "a byte more": lambda content: content + b" ",
    "zeros": lambda content: bytes(len(content)),
    "a number changed": lambda content: content.replace(b"0.", b"1.", 1),
}
FILES = ["spec.json", "result.json", "metrics.jsonl", "checkpoints/step-000000.safetensors", "last checkpoint"]


def file_of(run: Run, name: str) -> Path:
    return run.checkpoint(run.steps()[-1]) if name == "last checkpoint" else run.path / name


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_no_damage_gives_another_number(run: Run, name: str, damage: str):
    before, file = everything(run), file_of(run, name)
    content = DAMAGES[damage](file.read_bytes())
    file.write_bytes(content)
    try:
        again = Run(run.path)
        assert everything(again) == before
    except StudyError as error:
        assert str(run.path.name) in str(error)  # noqa: PT017
        assert "\n" not in str(error).strip()  # noqa: PT017


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints/step-000000.safetensors", "last checkpoint"])
def test_a_missing_file_is_named_and_nothing_takes_its_place(run: Run, name: str):
    file = file_of(run, name)
    steps = run.steps()
    file.unlink()
    again = Run(run.path)
    assert again.steps() == steps
    with pytest.raises(StudyError, match=rf"{file.name} is missing\. Put the file back, or delete"):
        everything(again)


def test_files_of_another_run_are_not_taken(run: Run):
    source = Run(run_dir(source_spec()))
    for name in ("result.json", "metrics.jsonl", "checkpoints/step-000000.safetensors"):
        kept = (run.path / name).read_bytes()
        shutil.copyfile(source.path / name, run.path / name)
        with pytest.raises(StudyError, match=r"is that of another run|is damaged"):
            everything(Run(run.path))
        (run.path / name).write_bytes(kept)
    everything(Run(run.path))


def test_an_earlier_checkpoint_is_never_the_source(run: Run, study_home: Path):
    source = Run(run_dir(source_spec()))
    source.checkpoint(source.steps()[-1]).unlink()
    shutil.rmtree(run.path)
    with pytest.raises(StudyError, match="is missing"):
        train(target_spec())
    assert not (run.path / "result.json").exists()


def test_a_result_with_a_seal_made_for_it_still_lists_the_files(run: Run):
    """Somebody who edits a number and the seal with it is not stopped; who forgets the seal is."""
    result = json.loads((run.path / "result.json").read_text())
    result["test"]["dice"] = 0.999
    (run.path / "result.json").write_text(json.dumps(result))
    with pytest.raises(StudyError, match="was changed since it was written"):
        everything(Run(run.path))
    del result["seal"]
    (run.path / "result.json").write_text(json.dumps(result))
    with pytest.raises(StudyError, match="has no seal"):
        everything(Run(run.path))


def test_verify_names_every_fault_and_a_stray_file(run: Run, capsys: pytest.CaptureFixture[str]):
    assert main(["runs", "--verify"]) == 0
    assert "2 runs" in capsys.readouterr().err
    (run.path / "checkpoints" / "step-000999.safetensors").write_bytes(b"more")
    file = file_of(run, "last checkpoint")
    file.write_bytes(flip(file.read_bytes(), 0.9, 3))
    (run.path / "provenance.json").unlink()
    assert main(["runs", "--verify"]) == 1
    out = capsys.readouterr().out
    assert "step-000999.safetensors is no part of the run" in out
    assert f"{file.name} is damaged or was changed" in out
    assert "provenance.json is missing" in out
    assert main(["runs", "--verify", run.path.name[-8:]]) == 1
    assert main(["runs", "--verify", run_dir(source_spec()).name]) == 0


def test_a_source_that_was_trained_again_is_told(run: Run, blobs: Path):
    source = Run(run_dir(source_spec()))
    assert run.outdated() is None
    weights = {name: value + 1 if value.is_floating_point() else value for name, value in source.weights().items()}
    result = json.loads((source.path / "result.json").read_text())
    last = f"checkpoints/{source.checkpoint(source.steps()[-1]).name}"
    entry = write_tensors(source.path / last, weights, {})
    own = {key: value for key, value in result.items() if key not in ("seal", "files")}
    (source.path / "result.json").write_text(json.dumps(seal.sealed(own, {**result["files"], last: entry})))
    assert "started from other weights than" in str(run.outdated())
    with pytest.raises(StudyError, match="started from other weights"):
        check_current([run])
    with pytest.raises(StudyError, match="started from other weights"):
        train(target_spec())


def test_changed_data_make_a_result_outdated(run: Run, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(blobs, tmp_path / "data")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    train(target_spec())
    mask = sorted((tmp_path / "data/blobs/masks").glob("*.png"))[0]
    other = sorted((tmp_path / "data/blobs/masks").glob("*.png"))[1]
    kept = mask.read_bytes()
    mask.write_bytes(other.read_bytes())
    with pytest.raises(StudyError, match="was trained on other data than lie there now under the name 'blobs'"):
        train(target_spec())
    with pytest.raises(StudyError, match="was trained on other data"):
        check_current(list_runs())
    assert "was trained on other data" in run.faults()[0]
    mask.unlink()
    assert "was trained on other data" in str(run.outdated())
    mask.write_bytes(kept)
    assert run.outdated() is None
    (tmp_path / "data/blobs/index.csv").unlink()  # runs may be read where the data are not
    assert run.outdated() is None


def test_many_faults_are_counted(run: Run):
    for each in list_runs():
        (each.path / "result.json").write_text("{}")
    with pytest.raises(StudyError, match=r"(?s)no seal.*no seal.*--verify names them all"):
        check_current(list_runs())
    assert find_run(run.path.name).path == run.path


@pytest.mark.parametrize("at", np.linspace(0, 1, 23).tolist())
def test_a_bit_in_a_file_of_tensors_is_noticed_without_a_seal(tmp_path: Path, at: float):
    """The states to resume from and kept representations have no seal; their checksum is inside."""
    tensors = {"a": torch.arange(60.0).reshape(3, 20), "b": torch.tensor(3), "c": torch.zeros(0, 2)}
    write_tensors(tmp_path / "file.safetensors", tensors, {"state": "7"})
    content = (tmp_path / "file.safetensors").read_bytes()
    for bit in range(8):
        (tmp_path / "file.safetensors").write_bytes(flip(content, at, bit))
        try:
            found = read_tensors(tmp_path / "file.safetensors")
        except StudyError:
            continue
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
