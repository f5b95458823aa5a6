"""Runs on volumes: from a folder as others leave it to scores where its masks were drawn; resumed, stacked, frozen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from lib.__main__ import main
from lib.common import paths
from lib.common.errors import StudyError
from lib.data.preparation.own_folder import add_own_folder
from lib.data.tasks.images import data_digest, load_task, load_volumes
from lib.data.tasks.task import get_task
from lib.imaging.grids import read_grid
from lib.runs.run import Run, run_dir
from lib.runs.spec import RunSpec, spec_from_dict
from lib.strategies.strategy import STRATEGIES
from lib.training.goals.segmentation_metrics import dice, hd95
from lib.training.goals.volume_segmentation import VolumeSegmentation
from lib.training.loop import train
from lib.training.people import split_of
from lib.training.together import computation, train_stack

CPU = torch.device("cpu")


def prepare(folder: Path, **settings: Any) -> None:
    add_own_folder(folder, show=lambda line: None, **settings)


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with `balls`, of voxels of 1 mm, and `slabs`, of 1 x 1 x 3 mm."""
    root = tmp_path_factory.mktemp("volumes")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("STUDY_DATA", str(root / "data"))
        prepare(tiny.make_volumes(root))
        prepare(tiny.make_volumes(root, name="slabs", wide=3.0))
    return root


@pytest.fixture(autouse=True)
def their_data(balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_DATA", str(balls / "data"))


def objective(spec: RunSpec) -> VolumeSegmentation:
    data = load_volumes(spec.task, spec.size)
    return VolumeSegmentation(spec, data, split_of(spec, data), CPU)


def perfect(judge: VolumeSegmentation, sure: float = 9.0) -> Any:
    """Predictions of a network that knows the masks, window by window."""

    def predict(index: np.ndarray) -> Tensor:
        found = []
        for number in index:
            volume, start = judge.volume_of[number], judge.start_of[number]
            mask = np.pad(judge.data.mask(volume).numpy(), 40)
            window = mask[tuple(slice(40 + at, 40 + at + side) for at, side in zip(start, judge.patch, strict=True))]
            found.append(sure * torch.nn.functional.one_hot(torch.from_numpy(window).long(), 3).movedim(-1, 0).float())
        return torch.stack(found)

    return predict


# ---- what is judged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["balls", "slabs"])
def test_who_knows_the_masks_is_told_so_where_they_were_drawn(task: str) -> None:
    judge = objective(tiny.volume_spec(task=task))
    scores = judge.validate(perfect(judge))
    assert scores["val_dice"] == scores["val_dice_core"] == 1.0
    test = judge.test(perfect(judge))
    assert test["unit"] == "mm"
    assert test["dice"] == 1.0
    assert test["hd95"] == 0.0
    assert test["labels"].keys() == {"shell", "core"}
    assert test["misses"] == test["empty"] == 0
    assert len(test["per_image"]["id"]) == test["images"] == 3


def test_other_voxels_than_those_of_the_masks_cost_half_a_voxel_at_most(balls: Path) -> None:
    """Prepared at 1.7 mm, judged at 1 x 1 x 3 mm: what is known at the one is nearly right at the other."""
    prepare(balls / "slabs", name="coarse", spacing=(1.7, 1.7, 1.7))
    judge = objective(tiny.volume_spec(task="coarse"))
    test = judge.test(perfect(judge))
    assert 0.8 < test["labels"]["shell"]["dice"] < 1
    assert 0.8 < test["labels"]["core"]["dice"] < 1
    assert max(test["labels"]["core"]["per_image"]["hd95"]) <= 1.01  # millimeters
    assert max(test["labels"]["shell"]["per_image"]["hd95"]) <= np.hypot(1, 1) + 0.01


@pytest.mark.parametrize("task", ["balls", "slabs"])
def test_scores_are_those_of_masks_as_they_lie_in_the_users_files(balls: Path, task: str) -> None:
    """A network of random weights is judged in two ways: by the run, and by hand in the order of the original file."""
    run = train(tiny.volume_spec(task=task, steps=4))
    assert run.result is not None
    judge, model = objective(run.spec), run.model()
    with torch.no_grad():
        outputs = judge.whole(judge.split.test, lambda index: judge.output(model, judge.inputs(index)))
        for place, (volume, output) in enumerate(zip(judge.split.test, outputs, strict=True)):
            name = judge.data.ids[volume]
            found, truth, spacing = judge.data.as_drawn(volume, output[0])
            case = sorted((balls / task / "labelsTr").glob("*.nii.gz"))[int(name)]
            original = read_grid(case)
            assert sorted(spacing) == pytest.approx(sorted(original.spacing))
            assert sorted(truth.shape) == sorted(original.shape)
            assert (truth > 0).sum() == (original.voxels > 0).sum()
            for label, number in (("shell", 1), ("core", 2)):
                said = run.result["test"]["labels"][label]["per_image"]
                assert said["dice"][place] == pytest.approx(dice(found == number, truth == number))
                assert said["hd95"][place] == pytest.approx(hd95(found == number, truth == number, spacing))


@pytest.mark.parametrize("task", ["balls", "slabs"])
def test_masks_are_written_where_the_users_own_lie(balls: Path, task: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of axes, with the header and under the name of the file that the user brought."""
    run = train(tiny.volume_spec(task=task, width=8, depth=2, steps=80, volume=None))
    assert run.result is not None
    assert main(["predict", run.path.name, str(paths.home() / "masks")]) == 0
    assert "3 masks" in capsys.readouterr().out
    scores = []
    for file in sorted((paths.home() / "masks").glob("*.nii.gz")):
        found, drawn = read_grid(file), read_grid(balls / task / "labelsTr" / file.name)
        assert found.shape == drawn.shape
        np.testing.assert_allclose(found.affine, drawn.affine, atol=1e-4)
        scores.append(dice(found.voxels == 1, drawn.voxels == 1))
    assert sorted(scores) == pytest.approx(sorted(run.result["test"]["labels"]["shell"]["per_image"]["dice"]))
    assert min(scores) > 0.3  # which it would not be anywhere else


def test_masks_of_pictures_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    run = train(RunSpec(task="sim_natural", size=32, width=2, depth=1, steps=1, evaluations=1, volume=4))
    assert main(["predict", run.path.name, str(paths.home() / "masks")]) == 2
    assert "segments images; masks are written of volumes" in capsys.readouterr().err


def test_all_windows_at_once_and_in_parts_give_one_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny.volume_spec()
    whole = objective(spec)
    model = spec.network().eval()
    with torch.no_grad():
        predict = lambda judge: lambda index: judge.output(model, judge.inputs(index))  # noqa: E731
        expected = whole.validate(predict(whole))
        assert len(whole.validated) == 1
        monkeypatch.setattr("lib.training.goals.volume_segmentation.AT_ONCE", 1)
        parts = objective(spec)
        assert parts.validated == ()
        assert parts.validate(predict(parts)) == pytest.approx(expected, rel=1e-6)


# ---- runs -------------------------------------------------------------------------------------------------------


def test_labels_of_volumes_are_learned() -> None:
    run = train(tiny.volume_spec(width=8, depth=2, steps=80, volume=None))
    assert run.result is not None
    assert min(each["dice"] for each in run.result["test"]["labels"].values()) > 0.7
    assert run.metrics()[-1].keys() >= {"val_dice", "val_dice_shell", "val_dice_core"}
    windows = torch.zeros(2, 2, 16, 16, 16)
    assert run.segment(windows).shape == (2, 16, 16, 16)


def test_long_voxels_get_flat_kernels() -> None:
    spec = tiny.volume_spec(task="slabs", depth=2)
    assert spec.flat == 1
    kernels = {name: tuple(each.shape[2:]) for name, each in spec.network().state_dict().items() if "conv1.w" in name}
    assert kernels["enc0.conv1.weight"] == kernels["dec0.conv1.weight"] == (3, 3, 1)
    assert kernels["enc1.conv1.weight"] == kernels["enc2.conv1.weight"] == (3, 3, 3)
    assert spec.patch[2] < spec.patch[0]
    run = train(spec)
    assert run.result is not None
    assert run.result["status"] == "done"


def test_defaults_fit_volumes() -> None:
    spec = RunSpec(task="balls")
    assert (spec.batch, spec.norm, spec.flat, spec.foreground) == (2, "instance", 0, pytest.approx(1 / 3))
    assert spec.patch == (24, 24, 24)  # as large as the volumes
    assert spec.depth == 2  # down to 6 voxels
    assert spec_from_dict(spec.to_dict()) == spec
    assert RunSpec(task="balls", flat=0, batch=2, foreground=1 / 3) == spec


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_trains_on_volumes(strategy: str) -> None:
    source = tiny.volume_spec(seed=1) if STRATEGIES[strategy].needs_source else None
    options = {"stages": ["enc0"]} if strategy == "transplant" else {}
    run = train(tiny.volume_spec(strategy=strategy, source=source, options=options))
    assert run.result is not None
    assert run.result["status"] == "done"
    start, end = run.weights(0), run.weights()
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    asked = {name for name, each in run.model().named_parameters() if each.requires_grad}
    assert moved & {name for name, _ in run.model().named_parameters()} == asked


def test_an_interrupted_run_ends_as_if_it_had_not_been(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(event: dict[str, Any]) -> None:
        if event["kind"] == "evaluation" and event["step"] == 4:
            raise Killed

    spec = tiny.volume_spec()
    whole = tiny.outcome(train(spec))
    monkeypatch.setenv("STUDY_HOME", str(paths.home() / "again"))
    with pytest.raises(Killed):
        train(spec, report=killed, save_every=0)
    assert Run(run_dir(spec)).result is None
    assert tiny.outcome(train(spec)) == whole


def test_runs_in_a_stack_are_the_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [tiny.volume_spec(seed=seed, fold=fold, norm="none", lr=1e-3) for seed, fold in ((0, 0), (1, 2), (2, 1))]
    alone = [train(spec) for spec in specs]
    weights = [run.weights() for run in alone]
    results = [run.result for run in alone]
    monkeypatch.setenv("STUDY_HOME", str(paths.home() / "stacked"))
    for run, expected, result in zip(train_stack(specs), weights, results, strict=True):
        assert '"stack": 3' in (run.path / "provenance.json").read_text()
        for name, each in run.weights().items():
            torch.testing.assert_close(each, expected[name], rtol=1e-3, atol=1e-4)
        assert run.result is not None
        assert result is not None
        assert run.result["test"]["dice"] == pytest.approx(result["test"]["dice"], abs=0.02)


def test_only_runs_on_the_same_volumes_are_stacked() -> None:
    base = tiny.volume_spec()
    assert computation(base) == computation(base.but(seed=3, fold=1, volume=4))
    assert computation(base) != computation(base.but(task="sim_deep_brain_t1_3d"))
    assert computation(base) != computation(base.but(foreground=0.5))


# ---- mistakes ---------------------------------------------------------------------------------------------------


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(StudyError, match="flat and foreground have no meaning for 'sim_ultrasound'"):
        RunSpec(task="sim_ultrasound", flat=1)
    with pytest.raises(StudyError, match="flat must be at most depth, 1, got 2"):
        tiny.volume_spec(flat=2)
    with pytest.raises(StudyError, match="foreground must be at most 1"):
        tiny.volume_spec(foreground=1.5)
    with pytest.raises(StudyError, match="dim must be that of the source, 2 on 'sim_natural', got 3 on 'balls'"):
        tiny.volume_spec(strategy="full_finetuning", source=RunSpec(task="sim_natural"))
    source = tiny.volume_spec(task="slabs", depth=2)
    with pytest.raises(StudyError, match="inputs must be that of the source"):
        tiny.volume_spec(task="sim_deep_brain_t1_3d", depth=2, strategy="full_finetuning", source=source)
    with pytest.raises(StudyError, match="flat must be that of the source, 1 on 'slabs', got 0 on 'balls'"):
        tiny.volume_spec(depth=2, strategy="full_finetuning", source=source)
    with pytest.raises(StudyError, match=r"'balls' shows volumes, and images of 32 x 32 pixels were asked for"):
        load_task("balls", 32)


def test_a_changed_file_changes_what_results_are_of(
    balls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:

    shutil.copytree(balls / "data", tmp_path / "data")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    before = data_digest("balls", 16)
    file = tmp_path / "data" / "balls" / "originals" / "0003.nii.gz"
    file.write_bytes((tmp_path / "data" / "balls" / "originals" / "0004.nii.gz").read_bytes())
    assert data_digest("balls", 16) != before


def test_regions_are_learned_in_place_of_labels(balls: Path) -> None:
    folder = balls / "balls"
    about = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**about, "labels": {"background": 0, "ball": [1, 2], "core": 2}}))
    prepare(folder, name="regions")
    assert get_task("regions").parts == {"ball": (1, 2), "core": (2,)}
    run = train(tiny.volume_spec(task="regions", width=8, depth=2, steps=80, volume=None))
    assert run.result is not None
    scores = run.result["test"]["labels"]
    assert scores.keys() == {"ball", "core"}
    assert min(each["dice"] for each in scores.values()) > 0.75


def test_sets_of_the_same_people_share_folds(balls: Path) -> None:
    """A source of other labels on the same volumes has seen none of the test: its folds are those of the target."""
    prepare(balls / "balls", name="whole", foreground=[1, 2], people="volunteers")
    prepare(balls / "balls", name="parts", people="volunteers")
    source = tiny.volume_spec(task="whole", volume=None)
    target = tiny.volume_spec(task="parts", strategy="full_finetuning", source=source)
    kept = [split_of(spec, load_volumes(spec.task, spec.size)) for spec in (source, target)]
    np.testing.assert_array_equal(kept[0].test, kept[1].test)
    assert get_task("parts").modality == "a, b"  # as dataset.json names the channels
    with pytest.raises(StudyError, match="fold must be that of the source"):
        tiny.volume_spec(task="parts", strategy="full_finetuning", source=source, fold=1)
