"""Reconstruction as a goal: what is measured, who is in which split, and what a run says at its end."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from analysis.representations.capture.activations import activations
from lib.common.errors import StudyError
from lib.data.tasks.carried import intensities
from lib.data.tasks.catalog import SLICES
from lib.data.tasks.images import load_task
from lib.data.tasks.splits import split
from lib.data.tasks.task import TASKS
from lib.networks.cascade import to_channels, unpack, zero_filled
from lib.runs.run import Run, run_dir
from lib.runs.spec import RunSpec, run_id
from lib.training import loop
from lib.training.goals.reconstruction import magnitude, reconstruction
from lib.training.loop import Training, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def small_tasks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten subjects in place of all, drawn once for the module; no write waits for the disk."""
    monkeypatch.setenv("STUDY_HOME", str(home))
    for name in ("sim_brain_t1", "sim_brain_t2", "sim_brain_t1_sagittal"):
        monkeypatch.setitem(TASKS, name, dataclasses.replace(TASKS[name], images=10 * SLICES))
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(loop, "stamp", lambda device: {})


def spec(**changes: Any) -> RunSpec:
    values: dict[str, Any] = {"task": "sim_brain_t1", "model": "cascade", "norm": "none", "blocks": 2, "width": 4}
    values |= {"depth": 2, "size": 32, "volume": 2, "steps": 8, "evaluations": 4, "batch": 4, "lr": 0.01}
    return RunSpec(**{**values, **changes})


# ---- what may be asked for --------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [{"model": "cascade"}, {"acceleration": 8}, {"coils": 2}, {"sampling": "gaussian"}])
def test_what_a_segmentation_cannot_use_is_refused(field: dict[str, Any]):
    name = next(iter(field))
    why = (
        "model 'cascade' reconstructs, and 'sim_natural' is a" if name == "model" else f"{name}=.* has no meaning .* a"
    )
    with pytest.raises(StudyError, match=f"{why} segmentation task; leave {name} out"):
        RunSpec(task="sim_natural", **field)


@pytest.mark.parametrize("field", [{"blocks": 2}, {"shared": True}])
def test_a_unet_has_no_blocks(field: dict[str, Any]):
    with pytest.raises(StudyError, match="has no meaning for model 'unet'"):
        RunSpec(task="sim_brain_t1", **field)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(StudyError, match="cascade"):
        spec(model="cascde")
    with pytest.raises(StudyError, match="gaussian"):
        spec(sampling="gausian")


def test_a_source_must_have_the_same_goal_and_shape():
    with pytest.raises(StudyError, match="goal must be that of the source"):
        spec(
            strategy="full_finetuning", model="unet", blocks=3, source=RunSpec(task="sim_natural", norm="none", depth=2)
        )
    with pytest.raises(StudyError, match="blocks must be that of the source"):
        spec(strategy="full_finetuning", source=spec(blocks=3))
    with pytest.raises(StudyError, match="shuffles outlines"):
        spec(strategy="shuffled_labels")


def test_later_fields_leave_old_names_alone():
    later = {"model", "blocks", "shared", "acceleration", "sampling", "coils"}
    assert not later & json.loads(RunSpec(task="sim_natural").text).keys()
    assert "acceleration" not in json.loads(spec().text)
    assert run_id(spec(acceleration=8)) != run_id(spec()) == run_id(spec(acceleration=4.0))


# ---- who is in which split --------------------------------------------------------------------------------------


def test_volume_counts_subjects_and_choices_are_nested():
    data = load_task("sim_brain_t1", 32)
    chosen = []
    for volume in (1, 3, None):
        train_at = split("sim_brain_t1", data.groups, fold=0, volume=volume, seed=5).train
        subjects = {data.groups[each] for each in train_at}
        assert len(train_at) == SLICES * len(subjects), "all slices of a subject are used"
        assert volume is None or len(subjects) == volume
        chosen.append(subjects)
    assert chosen[0] < chosen[1] < chosen[2]
    with pytest.raises(StudyError, match="at most 6, the training subjects"):
        split("sim_brain_t1", data.groups, fold=0, volume=7, seed=0)


def test_a_test_subject_of_one_contrast_trains_no_other():
    sets = [load_task(name, 32).groups for name in ("sim_brain_t1", "sim_brain_t2", "sim_brain_t1_sagittal")]
    names = ("sim_brain_t1", "sim_brain_t2", "sim_brain_t1_sagittal")
    for fold in range(5):
        parts = [split(name, own, fold=fold, volume=None, seed=0) for name, own in zip(names, sets, strict=True)]
        who = [{own[each] for each in part.test} for own, part in zip(sets, parts, strict=True)]
        assert who[0] == who[1] == who[2]
        assert not who[0] & {sets[1][each] for each in parts[1].train}


def test_a_source_of_another_fold_would_know_the_test_subjects():
    source = spec(seed=1, fold=1)
    with pytest.raises(StudyError, match=r"fold must be that of the source, 1, got 0: .* same people.* source_seed"):
        spec(task="sim_brain_t2", strategy="full_finetuning", source=source)
    assert spec(task="sim_brain_t2", strategy="full_finetuning", source=source, fold=1).source == source
    assert spec(task="sim_knee_pd_sagittal", strategy="full_finetuning", source=source).fold == 0  # of others


def test_folds_that_the_data_fix_are_kept():
    groups = ["a", "a", "b", "c"]
    fixed = np.array([0, 0, 1, 2])
    TASKS["sim_brain_t1"] = dataclasses.replace(TASKS["sim_brain_t1"], folds=3)
    parts = split("sim_brain_t1", groups, fold=1, volume=None, seed=0, folds=fixed)
    assert (parts.test.tolist(), parts.val.tolist(), parts.train.tolist()) == ([2], [3], [0, 1])
    with pytest.raises(StudyError, match="every fold of 'sim_brain_t1' needs images"):
        split("sim_brain_t1", groups, fold=1, volume=None, seed=0, folds=np.array([0, 0, 1, 1]))


# ---- what is measured -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coils", [1, 2])
def test_slices_are_measured_at_the_rate_with_noise_where_something_is_measured(coils: int):
    what = reconstruction(spec(coils=coils, acceleration=2), CPU)
    kspace, maps, mask = unpack(what.inputs(what.split.val[:3]))
    assert kspace.shape == maps.shape == (3, coils, 32, 32)
    assert torch.equal(mask.mean(dim=(1, 2, 3)), torch.full((3,), 0.5))
    assert not kspace[(mask == 0).expand_as(kspace)].any()
    assert not torch.equal(mask[0], mask[1]), "lines belong to the slice"


def test_validation_is_measured_once_and_training_anew_at_every_visit():
    what, same = reconstruction(spec(batch=16), CPU), reconstruction(spec(batch=16, augment=False), CPU)
    val = what.split.val
    assert torch.equal(what.inputs(val), what.inputs(val))
    assert torch.equal(what.batch(3)[0], what.batch(3)[0])
    first, second = (unpack(what.batch(step)[0])[2] for step in (0, 1))  # 16 slices: the same ones, in another order
    assert len(torch.unique(torch.cat([first, second])[:, 0, 0], dim=0)) > 16
    first, second = (unpack(same.batch(step)[0])[2] for step in (0, 1))
    assert len(torch.unique(torch.cat([first, second])[:, 0, 0], dim=0)) <= 16


def test_the_truth_is_the_image_under_its_phase():
    what = reconstruction(spec(), CPU)
    index = what.split.test[:4]
    assert torch.allclose(what.truth[torch.from_numpy(index)].abs(), intensities(what.data.images[index, 0]), atol=1e-6)
    assert magnitude(to_channels(what.truth[:2])).shape == (2, 32, 32)
    assert what.loss(to_channels(what.truth[:2]), to_channels(what.truth[:2])) == 0


# ---- a run ------------------------------------------------------------------------------------------------------


def test_training_a_cascade_beats_the_zero_filled_image():
    run = train(spec(volume=None, steps=120, batch=8, acceleration=3, lr=0.02, width=8), device="cpu")
    assert run.result is not None
    test = run.result["test"]
    assert test["psnr"] > test["zero_filled"]["psnr"] + 0.3
    assert run.result["subjects"] == {"train": 6, "val": 2, "test": 2}
    assert len(test["per_image"]["psnr"]) == test["images"] == 2 * SLICES
    assert len(test["per_volume"]["psnr"]) == test["volumes"] == 2
    assert run.metrics()[-1]["val_psnr"] == run.result["val"]["psnr"]


def test_a_unet_learns_what_the_zero_filled_image_lacks():
    run = train(spec(model="unet", blocks=3, norm="batch", steps=30, volume=None, batch=8), device="cpu")
    rows = run.metrics()
    assert rows[-1]["val_psnr"] > rows[0]["val_psnr"] + 1
    assert rows[-1]["train_loss"] < rows[1]["train_loss"]


def test_a_frozen_random_encoder_is_calibrated_on_what_the_network_sees():
    run = train(spec(model="unet", blocks=3, norm="batch", steps=2, evaluations=1, strategy="frozen_random_encoder"))
    assert run.result is not None
    assert run.result["status"] == "done"
    fresh = run.model(0).state_dict()["enc0.norm1.running_mean"]
    assert fresh.abs().max() > 0, "statistics of frozen normalizations must be estimated"
    torch.testing.assert_close(run.weights()["enc0.norm1.running_mean"], fresh, rtol=0, atol=0)


def test_the_zero_filled_score_does_not_depend_on_the_network():
    run = train(spec(), device="cpu")
    what = reconstruction(spec(), CPU)
    index = what.split.test
    start = magnitude(to_channels(zero_filled(what.inputs(index)))).numpy()
    truth = intensities(what.data.images[index, 0]).numpy()
    error = [np.mean((start[part] - truth[part]) ** 2) for part in (slice(0, SLICES), slice(SLICES, None))]
    peak = [truth[part].max() for part in (slice(0, SLICES), slice(SLICES, None))]
    expected = np.mean([10 * np.log10(top**2 / each) for top, each in zip(peak, error, strict=True)])
    assert run.result is not None
    assert run.result["test"]["zero_filled"]["psnr"] == pytest.approx(expected, abs=1e-4)


def test_a_transfer_says_what_was_there_before_and_what_is_left():
    source = spec(steps=16)
    run = train(spec(task="sim_brain_t2", strategy="scale_shift", source=source), device="cpu")
    before = Run(run_dir(source)).result
    assert run.result is not None
    assert before is not None
    assert run.result["source_before"]["psnr"] == pytest.approx(before["test"]["psnr"], abs=1e-6)
    assert run.result["source_after"] != run.result["source_before"]
    stepped = reconstruction(run.spec, CPU)
    model = Run(run_dir(source)).model()
    own = stepped.test(lambda index: stepped.output(model, stepped.inputs(index)).detach())
    assert run.result["start"]["psnr"] == pytest.approx(own["psnr"], abs=0.01)  # in training it may count in bf16


class Killed(BaseException):
    pass


@pytest.mark.parametrize("strategy", ["scratch", "scale_shift"])
def test_a_killed_run_ends_as_if_nothing_had_happened(
    strategy: str, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    source = None if strategy == "scratch" else spec(seed=3, steps=4)
    whole = spec(strategy=strategy, source=source)
    expected = tiny.outcome(train(whole, device="cpu"))
    (tmp_path / "data").symlink_to(home / "data")
    monkeypatch.setenv("STUDY_HOME", str(tmp_path))
    original, seen = Training.one_step, []

    def fragile(self: Any, *batch: Any) -> None:
        if len(seen) == 5 and self.spec == whole:
            seen.append(1)
            raise Killed
        seen.extend([1] if self.spec == whole else [])
        original(self, *batch)

    monkeypatch.setattr(Training, "one_step", fragile)
    with pytest.raises(Killed):
        train(whole, device="cpu", save_every=0)
    assert tiny.outcome(train(whole, device="cpu", save_every=0)) == expected


def test_activations_of_a_cascade_are_read_block_by_block():
    run = train(spec(), device="cpu")
    what = reconstruction(run.spec, CPU)
    found = activations(run, None, None, what.inputs(what.split.test[:5]))
    assert {name: tuple(rows.shape) for name, rows in found.items()} == {"block0": (5, 2), "block1": (5, 2)}
