"""The training loop: the same end after any interruption, and every bad end with its reason."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import json
import math
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from lib.common import paths
from lib.common.errors import StudyError
from lib.data.tasks.images import Data, load_task, standardize
from lib.data.tasks.splits import Split, split
from lib.runs import tensor_files
from lib.runs.run import Run, open_run, run_dir, start_model
from lib.runs.spec import RunSpec
from lib.runs.tensor_files import read_tensors, read_with_metadata, write_tensors
from lib.training import loop
from lib.training.batches import batch_order
from lib.training.goals import segmentation
from lib.training.goals.segmentation import mean_dice, segmentation_loss
from lib.training.loop import Training, train
from lib.training.optimizer import checkpoint_steps, learning_rate
from lib.training.people import split_of


@pytest.fixture(autouse=True)
def quicker_on_blobs(blobs_as_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _quicker(monkeypatch)


def _quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of runs are trained here: none waits for the disk, or asks git for the commit."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(loop, "stamp", lambda device: {})


class Killed(BaseException):
    """What a test raises in place of a kill: nothing in `lib` may catch it."""


SPECS: dict[str, Callable[[], RunSpec]] = {  # "patience" is best at step 2 by far, and stops at step 4
    "plain": lambda: tiny.spec(),
    "patience": lambda: tiny.spec(patience=2, steps=12, evaluations=12, lr=0.1, seed=2, norm="group"),
    "group norm": lambda: tiny.spec(norm="group", checkpoints="ends", evaluations=2),
    "calibrated": lambda: tiny.spec(strategy="frozen_random_encoder", norm="batch", evaluations=2),
    "factors": lambda: tiny.spec(
        strategy="scale_shift", evaluations=2, source=tiny.spec(seed=1, steps=1, evaluations=1)
    ),
    "pulled": lambda: tiny.spec(strategy="l2_sp", evaluations=2, source=tiny.spec(seed=1, steps=1, evaluations=1)),
}


@pytest.fixture(scope="module")
def uninterrupted(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Outcome of every spec when nothing goes wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_DATA", str(blobs))
        patch.setenv("STUDY_HOME", str(tmp_path_factory.mktemp("uninterrupted")))
        _quicker(patch)
        return {name: tiny.outcome(train(spec())) for name, spec in SPECS.items()}


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a training step, or a look at the data, fails the test."""

    def never(*_: object, **__: object) -> None:
        pytest.fail("something was trained or loaded")

    monkeypatch.setattr(Training, "__init__", never)
    monkeypatch.setattr(loop, "load_data", never)


# ---- one training -------------------------------------------------------------------------------------------------


def test_training_learns_the_disks():
    run = train(tiny.spec(width=4, size=32, steps=40, batch=8, volume=None, lr=0.02))
    first, last = run.metrics()[0], run.metrics()[-1]
    assert run.result is not None
    assert last["val_dice"] > max(0.8, first["val_dice"])
    assert last["train_loss"] < run.metrics()[1]["train_loss"]
    assert run.result["test"]["dice"] > 0.8
    assert run.result["val"]["dice"] == last["val_dice"]


def test_the_result_counts_what_it_should():
    run = train(tiny.spec())
    result = run.result
    assert result is not None
    assert (result["status"], result["reason"], result["steps"]) == ("done", None, 8)
    assert result["images"] == {"train": 6, "val": 6, "test": 6}
    assert result["trainable"] == result["parameters"] == sum(each.numel() for each in run.model().parameters())
    assert len(result["data"]) == 64
    images = result["test"]["per_image"]
    assert len(set(images["id"])) == len(images["dice"]) == len(images["hd95"]) == result["test"]["images"] == 6
    assert result["test"]["dice"] == pytest.approx(np.mean(images["dice"]))
    assert result["seconds"] >= 0
    assert result["peak_mb"] > 0


def test_misses_and_empty_images_are_counted(monkeypatch: pytest.MonkeyPatch):
    spec = tiny.spec()
    data = load_task("blobs", spec.size)
    chosen = split("blobs", data.groups, fold=0, volume=None, seed=0)
    masks = data.masks.clone()
    masks[chosen.test[:2]] = 0
    monkeypatch.setattr(loop, "load_data", lambda *_: Data(data.images, masks, data.ids, data.groups, "planted"))
    monkeypatch.setattr(Training, "predict", lambda self, index: -torch.ones(len(index), 16, 16))
    result = train(spec).result
    assert result is not None
    assert (result["test"]["empty"], result["test"]["misses"], result["test"]["images"]) == (2, 4, 6)
    assert result["test"]["per_image"]["dice"] == [1, 1, 0, 0, 0, 0]  # both empty is 1, a miss is 0


def test_reports_tell_every_evaluation_and_the_end():
    events: list[dict[str, Any]] = []
    run = train(tiny.spec(), report=events.append)
    assert [event["kind"] for event in events] == ["begins"] + ["evaluation"] * 5 + ["done"]
    assert [event["step"] for event in events[1:-1]] == [0, 2, 4, 6, 8]
    assert all(event["run"] == run.path.name and event["steps"] == 8 for event in events)
    assert math.isnan(events[1]["left"])
    assert [event["left"] >= 0 for event in events[2:-1]] == [True] * 4
    assert events[-2]["left"] == 0


def test_step_zero_is_the_start_and_seeds_differ():
    first, second = train(tiny.spec()), train(tiny.spec(seed=1))
    assert first.steps()[0] == 0
    model = start_model(tiny.spec())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in first.weights(0).items())
    assert tiny.fingerprint(first) != tiny.fingerprint(second)


def test_checkpoints_are_log_spaced_and_hold_the_ends():
    assert sorted(checkpoint_steps(100, "log")) == [0, 1, 4, 16, 64, 100]
    assert sorted(checkpoint_steps(64, "log")) == [0, 1, 4, 16, 64]
    assert sorted(checkpoint_steps(1, "log")) == [0, 1]
    assert sorted(checkpoint_steps(100, "ends")) == [0, 100]


def test_the_rate_rises_and_falls():
    spec = tiny.spec(steps=100, evaluations=1, lr=0.5)
    rates = [learning_rate(spec, step) for step in range(101)]
    assert max(rates) == rates[5] == 0.5
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert all(later < sooner for sooner, later in itertools.pairwise(rates[5:]))
    assert rates[100] == pytest.approx(0)
    assert all(learning_rate(tiny.spec(steps=1, evaluations=1), step) >= 0 for step in (0, 1))


def test_the_loss_is_cross_entropy_plus_one_minus_dice():
    masks = torch.zeros(2, 4, 4, dtype=torch.uint8)
    masks[:, :2] = 1
    right = (masks.float() * 2 - 1) * 50
    assert float(segmentation_loss(right, masks)) == pytest.approx(0, abs=1e-6)
    # wrong everywhere: 50 a pixel, and an overlap of 0 (smoothed by 1) over 8 + 8 pixels
    assert float(segmentation_loss(-right, masks)) == pytest.approx(50 + 1 - 1 / 17)
    undecided = torch.zeros(2, 4, 4)  # a chance of 1/2: overlap 4 of 8 + 8
    assert float(segmentation_loss(undecided, masks)) == pytest.approx(math.log(2) + 1 - 9 / 17)


def test_mean_dice_is_that_of_the_metrics():
    from lib.training.goals.segmentation_metrics import dice

    draw = np.random.default_rng(0)
    a, b = draw.random((5, 6, 6)) < 0.4, draw.random((5, 6, 6)) < 0.4
    a[0] = b[0] = False
    a[1] = False
    expected = np.mean([dice(*pair) for pair in zip(a, b, strict=True)])
    assert mean_dice(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected)


def test_volume_and_augmentation_decide_the_weights():
    plain = tiny.fingerprint(train(tiny.spec()))
    assert plain != tiny.fingerprint(train(tiny.spec(augment=False)))
    assert plain != tiny.fingerprint(train(tiny.spec(volume=7)))


def test_strategies_see_the_same_images(monkeypatch: pytest.MonkeyPatch):
    seen: list[list[torch.Tensor]] = []
    original = Training.one_step

    def spy(self: Any, images: torch.Tensor, masks: torch.Tensor) -> None:
        seen[-1].append(images.clone())
        original(self, images, masks)

    train(tiny.spec(seed=1))
    monkeypatch.setattr(Training, "one_step", spy)
    for strategy in ("scratch", "frozen_random_encoder", "full_finetuning"):
        source = tiny.spec(seed=1) if strategy == "full_finetuning" else None
        seen.append([])
        train(tiny.spec(strategy=strategy, source=source))
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


# ---- once is enough -----------------------------------------------------------------------------------------------


def test_a_finished_run_is_returned_and_not_trained(no_training_later: Callable[[], None]):
    run = train(tiny.spec())
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*")}
    no_training_later()
    again = train(tiny.spec())
    assert again.path == run.path
    assert again.result == run.result
    assert {file: file.stat().st_mtime_ns for file in run.path.rglob("*")} == before


@pytest.fixture
def no_training_later(request: pytest.FixtureRequest) -> Callable[[], None]:
    return lambda: request.getfixturevalue("no_training")


def test_a_diverged_run_is_returned_and_not_trained(no_training_later: Callable[[], None]):
    run = train(tiny.spec(lr=1e30))
    no_training_later()
    assert train(tiny.spec(lr=1e30)).result == run.result


def test_the_source_is_trained_first_and_once():
    source = tiny.spec(seed=1)
    trained: list[str] = []
    target = tiny.spec(strategy="full_finetuning", source=source)
    run = train(target, report=lambda event: trained.append(event["run"]))
    assert list(dict.fromkeys(trained)) == [run_dir(source).name, run.path.name]
    first, start = Run(run_dir(source)).weights(), run.weights(0)
    assert all(torch.equal(first[name], start[name]) for name in first)
    trained.clear()
    train(target.but(seed=3), report=lambda event: trained.append(event["run"]))
    assert set(trained) == {run_dir(target.but(seed=3)).name}


def test_a_diverged_source_is_refused_with_its_reason():
    source = tiny.spec(lr=1e30)
    with pytest.raises(StudyError, match=r"the source run .* diverged .*not finite.*choose another source"):
        train(tiny.spec(strategy="full_finetuning", source=source))


def test_an_unfinished_source_is_refused():
    source = tiny.spec(seed=1)
    open_run(source)
    with pytest.raises(StudyError, match="has not been trained to its end; train it first"):
        start_model(tiny.spec(strategy="full_finetuning", source=source))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "unknown device 'gpu'.*Known: auto, cpu, cuda, mps"),
        ("cuda", "device 'cuda' was asked for, but torch .* sees 0 CUDA devices"),
        ("cuda:7", "device 'cuda:7' was asked for"),
        ("mps", "device 'mps' was asked for, but torch sees none"),
    ],
)
def test_a_device_that_is_missing_is_an_error(device: str, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(StudyError, match=message):
        train(tiny.spec(), device=device)


def test_too_few_images_and_too_high_folds_are_refused():
    with pytest.raises(StudyError, match=r"volume must be .* 18, the training images of 'blobs', got 19"):
        train(tiny.spec(volume=19))
    with pytest.raises(StudyError, match="fold must be between 0 and 4"):
        train(tiny.spec(fold=5))


# ---- interrupted --------------------------------------------------------------------------------------------------


def trained_to(kill: int, spec: RunSpec, device: str = "auto") -> bool:
    """Train until the report number `kill` of an evaluation or the end raises; False if the run ended before."""
    count = 0

    def report(event: dict[str, Any]) -> None:
        nonlocal count
        count += event["kind"] != "begins"
        if count == kill:
            raise Killed

    try:
        train(spec, device=device, report=report, save_every=0)
    except Killed:
        return True
    return False


@pytest.mark.parametrize("name", SPECS)
def test_interrupted_at_any_evaluation_the_end_is_the_same(name: str, uninterrupted: dict[str, dict[str, Any]]):
    spec, moment = SPECS[name](), 1
    while trained_to(moment, spec):
        moment += 1
        assert tiny.outcome(train(spec, save_every=0)) == uninterrupted[name]
        shutil.rmtree(run_dir(spec))
    assert moment > 3


@pytest.mark.parametrize("name", ["plain", "patience"])
def test_interrupted_time_and_again_the_end_is_the_same(name: str, uninterrupted: dict[str, dict[str, Any]]):
    spec = SPECS[name]()
    assert trained_to(3, spec)  # step 0, and one evaluation more
    attempts = 0
    while trained_to(2, spec):  # every attempt gets one evaluation further
        attempts += 1
        assert attempts < 9
    assert attempts > 1
    assert tiny.outcome(Run(run_dir(spec))) == uninterrupted[name]


@pytest.mark.parametrize(("name", "when"), [("plain", "before"), ("patience", "after")])
def test_killed_around_any_write_the_end_is_the_same(
    name: str, when: str, uninterrupted: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    spec, write = SPECS[name](), paths.write_atomic
    left = 0

    def fragile(path: Path, content: bytes | str) -> None:
        nonlocal left
        left -= 1
        if left == 0 and when == "before":
            raise Killed
        write(path, content)
        if left == 0:
            raise Killed

    monkeypatch.setattr(paths, "write_atomic", fragile)
    for moment in range(1, 100):
        left = moment
        try:
            train(spec, save_every=0)
        except Killed:
            left = 0
            assert tiny.outcome(train(spec, save_every=0)) == uninterrupted[name]
        else:
            break
        shutil.rmtree(paths.runs_dir())
    assert 12 < moment < 99  # so many files were written, and a kill was tried at every one


def test_steps_since_the_saved_state_are_trained_again():
    spec = tiny.spec()
    trained_to(4, spec)  # states after steps 0 to 4
    steps: list[int] = []
    run = train(spec, report=lambda event: steps.append(event.get("step", -1)))
    assert steps == [-1, 6, 8, -1]  # it begins, two evaluations, the end
    assert [row["step"] for row in run.metrics()] == [0, 2, 4, 6, 8]


def test_without_a_saved_state_a_run_begins_anew(uninterrupted: dict[str, dict[str, Any]]):
    spec = tiny.spec()
    with pytest.raises(Killed):
        train(spec, report=_kill_at(6))  # the first state would be due after ten seconds
    run = Run(run_dir(spec))
    assert not (run.path / "resume.safetensors").exists()
    assert len(run.metrics()) == 4
    assert tiny.outcome(train(spec)) == uninterrupted["plain"]


def _kill_at(step: int) -> Callable[[dict[str, Any]], None]:
    def report(event: dict[str, Any]) -> None:
        if event.get("step") == step:
            raise Killed

    return report


def test_temporary_files_of_a_killed_process_are_removed(uninterrupted: dict[str, dict[str, Any]]):
    spec = tiny.spec()
    trained_to(3, spec)
    folder = run_dir(spec)
    orphans = [folder / ".resume.safetensors.k3", folder / "checkpoints" / ".step-000004.safetensors.k3"]
    for file in orphans:
        file.write_bytes(b"half")
    run = train(spec)
    assert not any(file.exists() for file in orphans)
    assert tiny.outcome(run) == uninterrupted["plain"]
    assert not (folder / "resume.safetensors").exists()


def test_seconds_go_on_from_where_they_were(monkeypatch: pytest.MonkeyPatch):
    spec = tiny.spec()
    trained_to(4, spec)
    file = run_dir(spec) / "resume.safetensors"
    tensors, metadata = tensor_files.read_with_metadata(file)
    state = json.loads(metadata["state"])
    write_tensors(file, tensors, {"state": json.dumps({**state, "seconds": 1000.0})})
    rows = train(spec).metrics()
    assert 1000 < rows[-1]["seconds"] < 1100


# ---- damaged and changed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 9, 500, -1])
def test_a_cut_state_is_refused(cut: int):
    spec = tiny.spec()
    trained_to(3, spec)
    file = run_dir(spec) / "resume.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(StudyError, match=r"resume\.safetensors is missing or damaged .*; delete the run's folder"):
        train(spec)


def test_a_state_that_is_none_is_refused():
    spec = tiny.spec()
    trained_to(3, spec)
    file = run_dir(spec) / "resume.safetensors"
    write_tensors(file, {"a": torch.zeros(1)}, {})
    with pytest.raises(StudyError, match="is no state to resume from; delete it"):
        train(spec)


def test_a_state_without_its_first_checkpoint_is_refused():
    spec = tiny.spec()
    trained_to(3, spec)
    Run(run_dir(spec)).checkpoint(0).unlink()
    with pytest.raises(StudyError, match=r"step-000000\.safetensors is missing"):
        train(spec)


def test_a_missing_best_state_is_refused(monkeypatch: pytest.MonkeyPatch):
    spec = SPECS["patience"]()
    trained_to(2, spec)
    with pytest.raises(Killed):
        train(spec, save_every=0, report=_kill_at(2))
    (run_dir(spec) / "best.safetensors").unlink()
    monkeypatch.setattr(Training, "save_best", lambda self: None)
    with pytest.raises(StudyError, match=r"best\.safetensors is missing"):
        train(spec)


def test_data_changed_under_a_half_finished_run_are_refused(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, dict[str, Any]]
):
    spec = tiny.spec()
    trained_to(3, spec)
    changed = shutil.copytree(blobs, tmp_path / "changed")
    shutil.copy(changed / "blobs/images/01.png", changed / "blobs/images/00.png")
    monkeypatch.setenv("STUDY_DATA", str(changed))
    with pytest.raises(StudyError, match=r"the data of task 'blobs' changed since .* began; put the old ones back"):
        train(spec)
    monkeypatch.setenv("STUDY_DATA", str(blobs))
    assert tiny.outcome(train(spec)) == uninterrupted["plain"]


def test_missing_data_are_an_error_that_names_the_data_root(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = shutil.copytree(blobs, tmp_path / "other")
    monkeypatch.setenv("STUDY_DATA", str(other))
    (other / "blobs" / "index.csv").unlink()
    with pytest.raises(StudyError, match=f"index.csv; data root: {other} .from the variable STUDY_DATA"):
        train(tiny.spec())


# ---- diverged -----------------------------------------------------------------------------------------------------


def test_a_rate_without_bounds_ends_as_diverged():
    events: list[dict[str, Any]] = []
    run = train(tiny.spec(lr=1e30), report=events.append)
    result = run.result
    assert result is not None
    assert result["status"] == "diverged"
    assert result["reason"] == "the loss was not finite at step 1"
    assert result["val"] is result["test"] is None
    assert result["steps"] == 2  # seen at the evaluation after it
    assert events[-1] == {"kind": "done", "run": run.path.name, "status": "diverged", "steps": 8}
    assert run.steps()[0] == 0
    assert not (run.path / "resume.safetensors").exists()


@pytest.mark.parametrize(("part", "step"), [("train", 2), ("val", 2), ("test", None)])
def test_an_image_that_is_not_a_number(part: str, step: int | None, monkeypatch: pytest.MonkeyPatch):
    spec = tiny.spec(augment=False, volume=18, batch=4)  # 18 images: steps 0 to 3 see sixteen of them
    data = load_task("blobs", spec.size)
    chosen = split("blobs", data.groups, fold=0, volume=18, seed=0)
    order = batch_order(18, seed=0, step=2, batch=4)
    images = data.images.clone()
    images[{"train": chosen.train[order[0]], "val": chosen.val[0], "test": chosen.test[0]}[part]] = math.nan
    monkeypatch.setattr(loop, "load_data", lambda *_: Data(images, data.masks, data.ids, data.groups, "planted"))
    result = train(spec).result
    assert result is not None
    if step is None:
        assert result["status"] == "done"
        assert result["test"]["per_image"]["dice"][0] == 0  # predicted empty, and counted as a miss
        assert result["test"]["misses"] >= 1
    else:
        assert result["status"] == "diverged"
        assert result["reason"] == f"the loss was not finite at step {step}"


def test_divergence_is_the_same_after_an_interruption():
    expected = tiny.outcome(train(tiny.spec(lr=1e30)))
    shutil.rmtree(paths.runs_dir())
    assert trained_to(2, tiny.spec(lr=1e30))  # at the end: before the report, after the result
    assert tiny.outcome(train(tiny.spec(lr=1e30))) == expected


def test_arithmetic_is_part_of_what_is_trained_and_not_of_the_machine() -> None:
    exact, rounded = train(tiny.spec()), train(tiny.spec(arithmetic="bfloat16"))
    assert exact.path.name == run_dir(tiny.spec(arithmetic="float32")).name != rounded.path.name
    assert "arithmetic" not in json.loads((exact.path / "spec.json").read_text())  # runs from before keep their names
    last = {name: value for name, value in exact.weights().items() if value.is_floating_point()}
    assert not all(torch.equal(value, rounded.weights()[name]) for name, value in last.items())
    assert all(torch.allclose(value, rounded.weights()[name], atol=0.2) for name, value in last.items())
    with pytest.raises(StudyError, match="unknown arithmetic 'bf16'; did you mean 'bfloat16'"):
        tiny.spec(arithmetic="bf16")


def test_statistics_are_calibrated_on_training_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(loop, "calibrate", lambda model, batches, output: seen.append(torch.cat(list(batches))))
    run = train(SPECS["calibrated"]())
    data = load_task("blobs", run.spec.size)
    held = split("blobs", data.groups, fold=run.spec.fold, volume=run.spec.volume, seed=run.spec.seed)
    torch.testing.assert_close(seen[0], standardize(data.images[held.train]))


def test_the_training_loss_is_that_since_the_evaluation_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "segmentation_loss", lambda output, truth, regions: output.sum() * 0 + 1)
    losses = [row["train_loss"] for row in train(tiny.spec()).metrics()]
    assert losses == [None, 1, 1, 1, 1]


def test_so_many_validation_images_are_looked_at_and_the_same_ones_of_a_fold() -> None:
    data = load_task("blobs", 16)

    def held(**changes: Any) -> Split:
        return split_of(tiny.spec(**changes), data)

    whole, few = held(), held(validation=4)
    assert len(few.val) == 4 < len(whole.val)
    assert set(few.val) < set(whole.val)
    assert np.array_equal(few.val, np.sort(few.val))
    assert np.array_equal(few.test, whole.test)
    assert np.array_equal(few.val, held(validation=4, seed=3, strategy="shuffled_labels").val)
    assert set(few.val) < set(held(validation=6).val)
    assert set(few.val) != set(held(validation=4, fold=1).val)
    assert np.array_equal(held(validation=1000).val, whole.val)
    run = train(tiny.spec(validation=4))
    assert run.result is not None
    assert run.result["images"]["val"] == 4


# ---- patience -----------------------------------------------------------------------------------------------------


def test_patience_keeps_the_best_weights_and_stops(monkeypatch: pytest.MonkeyPatch):
    planted = iter([0.1, 0.2, 0.6, 0.5, 0.3, 0.9])
    monkeypatch.setattr(segmentation, "mean_dice", lambda *_: next(planted))
    kept: dict[int, dict[str, torch.Tensor]] = {}
    original = Training.evaluate

    def spy(self: Any) -> bool:
        kept[self.step] = {name: value.clone() for name, value in self.model.state_dict().items()}
        return original(self)

    monkeypatch.setattr(Training, "evaluate", spy)
    run = train(tiny.spec(steps=10, evaluations=10, patience=2))
    result = run.result
    assert result is not None
    assert [row["step"] for row in run.metrics()] == [0, 1, 2, 3, 4]  # two without a better one, and the end
    assert result["steps"] == 2
    assert result["val"]["dice"] == 0.6
    assert run.steps() == [0, 1, 2]  # what came after the best is gone: the last checkpoint is the run's outcome
    assert all(torch.equal(value, kept[2][name]) for name, value in run.weights().items())
    assert not (run.path / "best.safetensors").exists()


@pytest.mark.parametrize("other", ["run", "step"])
def test_a_best_state_that_is_not_the_runs_is_refused(other: str, monkeypatch: pytest.MonkeyPatch):
    spec, real = SPECS["patience"](), Training.done

    def swapped(self: Training) -> None:
        own, best = {"run": self.run.path.name, "step": "2"}, self.run.path / "best.safetensors"
        assert read_with_metadata(best)[1] == own
        write_tensors(best, read_tensors(best), {**own, other: "3"})
        real(self)

    monkeypatch.setattr(Training, "done", swapped)
    with pytest.raises(
        StudyError, match=r"best\.safetensors is that of another step or run .* or delete the run's folder"
    ):
        train(spec)
    assert Run(run_dir(spec)).result is None
    monkeypatch.setattr(Training, "done", real)
    assert train(spec).result is not None


def test_a_source_with_patience_hands_on_its_best_weights(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        planted = iter([0.1, 0.6, 0.2, 0.3, 0.4, 0.5])
        patch.setattr(segmentation, "mean_dice", lambda *_: next(planted))
        source = train(tiny.spec(seed=1, steps=5, evaluations=5, patience=5))
    run = train(tiny.spec(strategy="full_finetuning", source=source.spec))
    assert source.steps() == [0, 1]
    best, start = source.weights(1), run.weights(0)
    assert all(torch.equal(best[name], start[name]) for name in best)


# ---- disk full ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_at_any_write_is_clear_and_costs_nothing(call: str, monkeypatch: pytest.MonkeyPatch):
    spec, real = tiny.spec(steps=4, evaluations=2), getattr(os, call)
    expected = tiny.outcome(train(spec))
    shutil.rmtree(paths.runs_dir())
    left = 0

    def full(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, "planted")
        real(*arguments)

    monkeypatch.setattr(os, call, full)
    for moment in range(1, 60):
        left = moment
        message = ""
        try:
            train(spec, save_every=0)
        except StudyError as error:
            message = str(error)
        if not message:
            break
        assert "No space left on device" in message
        assert "goes on from the last saved step" in message
        for file in run_dir(spec).rglob("*.safetensors"):
            read_tensors(file)  # whole, as it was before
        assert not list(run_dir(spec).rglob(".*"))
        assert tiny.outcome(train(spec, save_every=0)) == expected
        shutil.rmtree(paths.runs_dir())
    assert 8 < moment < 59


def test_a_disk_too_full_for_a_line_of_metrics(
    monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, dict[str, Any]]
):
    spec, real = tiny.spec(), Path.open

    def full(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "a" and self.name == "metrics.jsonl" and len(Run(self.parent).metrics()) == 3:
            raise OSError(errno.ENOSPC, "planted")
        return real(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StudyError, match="No space left on device"):
        train(spec, save_every=0)
    monkeypatch.setattr(Path, "open", real)
    assert tiny.outcome(train(spec)) == uninterrupted["plain"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount command")
def test_a_really_full_disk(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, dict[str, Any]]
):
    monkeypatch.setenv("STUDY_HOME", str(small_disk))
    spec = tiny.spec()
    assert trained_to(4, spec)
    before = {file: file.read_bytes() for file in run_dir(spec).rglob("*.safetensors")}
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
        while stream.write(bytes(1024)):
            pass
    with pytest.raises(StudyError, match=f"cannot write in {run_dir(spec)}.*No space left on device.*make room"):
        train(spec, save_every=0)
    assert {file: file.read_bytes() for file in before} == before
    ballast.unlink()
    assert tiny.outcome(train(spec, save_every=0)) == uninterrupted["plain"]


# ---- two at once --------------------------------------------------------------------------------------------------


def test_of_two_that_want_one_run_the_second_waits_and_gets_the_result():
    spec = tiny.spec()
    training_now, waiting = threading.Event(), threading.Event()
    first: list[dict[str, Any]] = []
    second: list[dict[str, Any]] = []

    def slow(event: dict[str, Any]) -> None:
        first.append(event)
        training_now.set()
        assert waiting.wait(30)

    def late(event: dict[str, Any]) -> None:
        second.append(event)
        waiting.set()

    thread = threading.Thread(target=train, args=(spec,), kwargs={"report": slow})
    thread.start()
    assert training_now.wait(30)
    run = train(spec, report=late)
    thread.join()
    assert [event["kind"] for event in first] == ["begins"] + ["evaluation"] * 5 + ["done"]
    assert second == [
        {"kind": "waiting", "run": run.path.name},
        {"kind": "done", "run": run.path.name, "status": "done", "steps": 8},
    ]
    assert run.result is not None
    assert len(run.metrics()) == 5


# ---- GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_an_interrupted_run_goes_on_on_a_gpu():
    spec = tiny.spec(width=8, size=32)
    assert trained_to(4, spec, device="cuda")
    run = train(spec, device="cuda", save_every=0)
    assert [row["step"] for row in run.metrics()] == [0, 2, 4, 6, 8]
    assert run.result is not None
    assert run.result["status"] == "done"
    assert run.result["device"].startswith("cuda")
    again = train(spec.but(seed=1), device="cuda")
    assert again.result is not None
    assert again.result["status"] == "done"


def test_shuffled_labels_train_on_the_same_images_with_other_masks(blobs: Path, study_home: Path) -> None:
    """And on nothing else that differs: where all masks are alike, shuffling them changes nothing."""
    plain, shuffled = (train(tiny.spec(strategy=name)) for name in ("scratch", "shuffled_labels"))
    first, second = (run.weights(0) for run in (plain, shuffled))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert tiny.fingerprint(plain) != tiny.fingerprint(shuffled)


def test_shuffling_masks_that_are_all_alike_changes_nothing(
    blobs: Path, study_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_task("blobs", 16)
    alike = dataclasses.replace(data, masks=data.masks[:1].expand_as(data.masks).clone())
    monkeypatch.setattr(loop, "load_data", lambda task, size: alike)
    plain, shuffled = (train(tiny.spec(strategy=name)) for name in ("scratch", "shuffled_labels"))
    assert tiny.fingerprint(plain) == tiny.fingerprint(shuffled)
