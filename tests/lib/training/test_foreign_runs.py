"""Runs of networks from elsewhere: from a spec or a suite to a result, stacked, resumed, started from a file."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import foreign_networks
import pytest
import tiny
import torch
from foreign_networks import NESTED_MAP, ODD_MAP, monai_maps, nnunet_maps
from torch.nn import functional as F

from lib.common import paths
from lib.common.errors import StudyError
from lib.networks.checkpoint_files import Checkpoint, read_checkpoint
from lib.networks.stage_map import map_text, stage_map
from lib.networks.unet import UNet
from lib.runs.foreign_start import check_weights, fitted, recolored
from lib.runs.run import Run, run_dir, start_model
from lib.runs.spec import RunSpec, run_id, spec_from_dict
from lib.study.bundle import write_bundle
from lib.study.plan import load_suite, train_suite
from lib.training.foreign_networks import why_alone
from lib.training.loop import Training, train
from lib.training.together import computation, stacks, train_stack

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("blobs_as_data")]  # of MONAI
RANDOM_MAP = {**ODD_MAP, "arguments": {"width": 4, "dropout": 0.5}}


def write_map(name: str, table: dict[str, Any]) -> Path:
    file = paths.home() / "network_maps" / f"{name}.toml"
    paths.write_atomic(file, map_text(stage_map(table)))
    return file


def spec(model: str = "odd", **changes: Any) -> RunSpec:
    values: dict[str, Any] = {"size": 16, "volume": 6, "steps": 8, "evaluations": 4, "batch": 4, "lr": 0.01}
    return RunSpec(**{"task": "blobs", "model": model, **values, **changes})


@pytest.fixture(autouse=True)
def maps(study_home: Path) -> None:
    write_map("odd", ODD_MAP)
    write_map("nested", NESTED_MAP)
    write_map("random", RANDOM_MAP)


# ---- specs ------------------------------------------------------------------------------------------------------


def test_a_spec_holds_its_map_and_needs_no_file_from_then_on() -> None:
    one = spec()
    again = spec(str(write_map("odd", ODD_MAP)))
    write_map("odd", {**ODD_MAP, "arguments": {"width": 8}})
    assert again == one == spec_from_dict(json.loads(json.dumps(one.to_dict())))
    assert run_id(spec()) != run_id(one)  # the content counts, and not the name
    assert {"width", "depth", "norm", "flat"}.isdisjoint(one.to_dict())
    assert [each["name"] for each in one.stage_map["stages"]] == [each["name"] for each in ODD_MAP["stages"]]
    other = copy.deepcopy(ODD_MAP)
    other["stages"][4]["modules"], other["stages"][3]["modules"] = ["up0"], ["up1", "gain"]
    assert run_id(one.but(stage_map=other)) != run_id(one)


def test_what_only_the_studys_own_networks_have_is_refused() -> None:
    for name, value in {"width": 8, "depth": 2, "norm": "batch"}.items():
        with pytest.raises(StudyError, match=f"{name}={value!r} has no meaning for model 'odd'.*leave {name} out"):
            spec(**{name: value})
    with pytest.raises(StudyError, match="blocks=2 has no meaning for model 'odd'"):
        spec(blocks=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "od"}, r"unknown model 'od'; did you mean 'odd'\?.*the path of a stage map"),
        ({"size": 18}, "model 'odd' cannot take images of 1 channels and 18x18: RuntimeError: .*; choose another size"),
        ({"strategy": "layer_subset", "options": {"stages": ["enc0"]}}, "unknown stage 'enc0'"),
        ({"strategy": "without_skips"}, "needs a U-Net"),
        ({"task": "sim_brain_t1_3d", "size": 16}, "dim of the stage map of .* is 2, and the task has 3"),
    ],
)
def test_mistakes_are_refused_before_anything_is_trained(changes: dict[str, Any], message: str) -> None:
    if changes.get("strategy") == "layer_subset":
        changes = {**changes, "source": spec()}
    with pytest.raises(StudyError, match=message):
        spec(**changes)


def test_outputs_of_another_shape_are_refused() -> None:
    write_map("fixed", {**ODD_MAP, "outputs": 1, "arguments": {"classes": 2}})
    with pytest.raises(StudyError, match=r"must give 1 channels of 16x16, .*; it gives \(2, 16, 16\)"):
        spec("fixed")


def test_a_source_has_the_same_map() -> None:
    with pytest.raises(StudyError, match="model must be that of the source, with the same stage map: 'nested'"):
        spec(strategy="full_finetuning", source=spec("nested"))
    with pytest.raises(StudyError, match="with the same stage map: 'unet'"):
        spec(strategy="full_finetuning", source=tiny.spec())


# ---- runs -------------------------------------------------------------------------------------------------------


def monai(name: str) -> str:
    package, maps = ("monai", monai_maps) if "Conv" not in name and "Res" not in name else (
        "dynamic_network_architectures", nnunet_maps)  # fmt: skip
    pytest.importorskip(package)
    write_map(name, maps()[name])
    return name


@pytest.mark.parametrize(
    "model", ["odd", "nested", "UNet", "BasicUNet", "DynUNet", "PlainConvUNet", "ResidualEncoderUNet"]
)
def test_a_source_and_what_starts_from_it_are_trained_to_their_ends(model: str) -> None:
    first = spec(model if model in ("odd", "nested") else monai(model), size=16 if model in ("odd", "nested") else 32)
    source = train(first, device="cpu")
    assert source.result is not None
    assert source.result["status"] == "done"
    for strategy, options in {"encoder_only": {}, "scale_shift": {}, "layer_subset": {"order": "level"}}.items():
        run = train(first.but(strategy=strategy, options=options, source=first), device="cpu")
        start, end, given = run.weights(0), run.weights(), source.weights()
        assert all(torch.equal(start[name], given[name]) for name in given)
        moved = {name for name in start if not torch.equal(start[name], end[name])}
        assert moved
        assert moved <= {name for name, each in run.model().named_parameters() if each.requires_grad} | {
            name for name in start if "running" in name or "num_batches" in name
        }
        x = torch.rand(2, 1, *[first.size] * 2)
        assert run.segment(x).shape == (2, first.size, first.size)
    found = json.loads((source.path / "provenance.json").read_text())["network"]
    assert found["name"] == first.stage_map["network"]
    assert len(found["sha256"]) == len(found["map"]) == 64
    assert ("package" in found) == (model not in ("odd", "nested"))
    assert Run(source.path).faults() == []


@pytest.mark.parametrize("model", ["odd", "random"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny.outcome(train(spec(model), device="cpu"))
    kept = run_dir(spec(model))
    kept.rename(kept.with_name("whole"))

    class Cut(Exception):
        pass

    def cut(self: Training, name: str = "resume.safetensors", save: Any = Training.save) -> None:
        save(self, name)
        if self.step == 4:
            raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(Training, "save", cut)
        with pytest.raises(Cut):
            train(spec(model), device="cpu", save_every=0)
    torch.manual_seed(123)
    torch.rand(7)
    assert tiny.outcome(train(spec(model), device="cpu")) == whole


def test_runs_of_one_network_are_stacked_and_end_as_they_would_alone() -> None:
    specs = [spec(seed=seed, fold=seed) for seed in range(3)]
    assert len(stacks(specs)) == 1
    assert why_alone(specs[0]) is None
    assert computation(specs[0]) != computation(spec("nested"))
    together = train_stack(specs, device="cpu")
    stacked = [run.weights() for run in together]
    assert json.loads((together[0].path / "provenance.json").read_text())["stack"] == 3
    for run in together:
        run.path.rename(run.path.with_name(f"stacked-{run.path.name}"))
    for one, own in zip(specs, stacked, strict=True):
        alone = train(one, device="cpu").weights()
        for name, value in own.items():
            torch.testing.assert_close(value, alone[name], atol=2e-3, rtol=2e-2)


def test_a_network_that_cannot_be_stacked_trains_alone_and_says_so() -> None:
    events: list[dict[str, Any]] = []
    specs = [spec("random", seed=seed) for seed in range(2)]
    runs = train_stack(specs, device="cpu", report=events.append)
    told = [event for event in events if event["kind"] == "alone"]
    assert [event["run"] for event in told] == [run_id(each) for each in specs]
    assert "random" in told[0]["reason"]
    assert all(run.result is not None and run.result["status"] == "done" for run in runs)


def test_a_network_that_holds_a_module_twice_is_stacked_too() -> None:
    model = monai("DynUNet")
    runs = train_stack([spec(model, size=32, seed=seed) for seed in range(2)], device="cpu")
    assert all(run.result is not None and run.result["status"] == "done" for run in runs)
    assert not any("skip_layers" in name for name in runs[0].weights())


def test_volumes_are_learned_by_a_map_that_takes_the_dimension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = spec("nested", task="sim_brain_t1_3d", size=8, volume=2, validation=1, steps=2, evaluations=1, batch=1)
    assert one.network()(torch.rand(1, one.inputs, *one.patch)).shape[1] == one.outputs
    assert one.to_dict()["foreground"] == one.foreground == 1 / 3


# ---- suites -----------------------------------------------------------------------------------------------------

SUITE = """
seeds = [0]
[run]
model = "MODEL"
size = 16
steps = 2
batch = 4
evaluations = 1
[tuning]
rates = [0.01]
[sources.first]
task = "blobs"
lr = 0.01
[sources.file]
weights = "mine.pt"
[[grid]]
tasks = ["blobs"]
volumes = [6]
source = "first"
strategies = ["full_finetuning"]
[[grid]]
tasks = ["blobs"]
volumes = [6]
source = "file"
strategies = ["full_finetuning", "decoder_only"]
[[grid]]
tasks = ["blobs"]
volumes = [6]
strategies = ["scratch"]
run = { model = "unet", width = 2, depth = 1 }
"""


def save_weights(name: str = "mine.pt", *, drop: tuple[str, ...] = (), channels: int = 1, prefix: str = "") -> Path:
    state = stage_map(ODD_MAP).build(channels, 1, 2, 7).state_dict()
    file = paths.weights_dir() / name
    file.parent.mkdir(exist_ok=True)
    torch.save({prefix + key: value for key, value in state.items() if not key.startswith(drop or ("none",))}, file)
    return file


def test_a_suite_trains_a_network_from_elsewhere_from_runs_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights()
    monkeypatch.setenv("PYTHONPATH", str(Path(foreign_networks.__file__).parent))  # of the workers
    (tmp_path / "mine.toml").write_text(SUITE.replace("MODEL", "odd"))
    suite = load_suite(str(tmp_path / "mine.toml"))
    cells = {(cell.source, cell.strategy): suite.at_all_rates(cell, 0)[0] for cell in suite.cells}
    assert cells[None, "scratch"].stage_map is None
    assert cells["file", "decoder_only"].weights["file"] == "mine.pt"
    assert len(suite.source_specs()) == 1
    write_map("odd", NESTED_MAP)  # a suite that is loaded stays as it is
    assert [suite.at_all_rates(cell, 0)[0] for cell in suite.cells] == list(cells.values())
    write_map("odd", ODD_MAP)
    assert not train_suite(suite, engine="local", device="cpu", workers=1)
    size = write_bundle(suite, tmp_path / "bundle.tar.gz")
    assert size > 0


def test_a_bundle_carries_maps_and_weights(tmp_path: Path) -> None:
    import tarfile

    save_weights()
    mine = tmp_path / "own.toml"
    mine.write_text(map_text(stage_map(ODD_MAP)))
    (tmp_path / "suite.toml").write_text(SUITE.replace("MODEL", str(mine)))
    write_bundle(load_suite(str(tmp_path / "suite.toml")), tmp_path / "bundle.tar.gz")
    with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
        names = archive.getnames()
    assert {"suite/network_maps/own.toml", "suite/weights/mine.pt"} <= set(names)
    mine.unlink()
    os.makedirs(paths.home() / "network_maps", exist_ok=True)
    write_map("own", ODD_MAP)
    assert load_suite(str(tmp_path / "suite.toml")).run["model"] == "own"


def test_a_source_is_a_run_or_a_file(tmp_path: Path) -> None:
    save_weights()
    text = SUITE.replace("MODEL", "odd").replace('weights = "mine.pt"', 'weights = "mine.pt"\nsteps = 3')
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(StudyError, match="every source needs a task, or weights alone"):
        load_suite(str(tmp_path / "mine.toml"))


# ---- files of weights -------------------------------------------------------------------------------------------


def test_a_run_starts_from_a_file_and_says_what_was_loaded() -> None:
    save_weights(drop=("levels",))
    run = train(spec(strategy="encoder_only", weights="mine.pt"), device="cpu")
    start, end = run.weights(0), run.weights()
    given = stage_map(ODD_MAP).build(1, 1, 2, 7).state_dict()
    own = stage_map(ODD_MAP).build(1, 1, 2, 0).state_dict()
    assert all(torch.equal(start[name], (own if name.startswith("levels") else given)[name]) for name in start)
    assert not torch.equal(start["levels.weight"], end["levels.weight"])  # a head that nobody trained moves
    assert torch.equal(start["up1.weight"], end["up1.weight"])
    found = json.loads((run.path / "provenance.json").read_text())["weights"]
    assert (found["renamed"], found["said"]) == ({}, [])
    assert found["tensors"]["missing"] == ["levels.weight", "levels.bias"]
    assert found["counts"] == {"loaded": len(given) - 2, "missing": 2}
    assert found["sha256"] == run.spec.weights["sha256"]


def test_prefixes_are_found_on_either_side() -> None:
    model = stage_map(ODD_MAP).build(1, 1, 2, 0)
    state = stage_map(ODD_MAP).build(1, 1, 2, 7).state_dict()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    inside = {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}
    for given, names in ((wrapped, list(state)), (inside, [name for name in state if name.startswith("encoder.")])):
        whole, rows = fitted(model, Checkpoint(given, None, None, "", ()))
        assert {row.name for row in rows if row.status == "loaded"} == set(names)
        assert all(torch.equal(whole[name], state[name]) for name in names)


@pytest.mark.parametrize(
    ("trained", "channels", "word"),
    [
        (3, 1, "summed"),
        (3, 2, "repeated"),
        (3, 4, "repeated"),
        (3, 6, "repeated"),
        (1, 3, "repeated"),
        (1, 4, "repeated"),
    ],
)
def test_a_first_layer_fits_other_channels_by_the_rule(trained: int, channels: int, word: str) -> None:
    state = stage_map(ODD_MAP).build(trained, 1, 2, 7).state_dict()
    whole, rows = fitted(stage_map(ODD_MAP).build(channels, 1, 2, 0), Checkpoint(state, None, None, "", ()))
    assert {row.name: row.status for row in rows if row.status != "loaded"} == {"stages.weight": word}
    gray = torch.rand(2, 1, 8, 8)
    made = F.conv2d(gray.expand(-1, channels, -1, -1), whole["stages.weight"])
    before = F.conv2d(gray.expand(-1, trained, -1, -1), state["stages.weight"])
    if channels % trained == 0 or channels == 1:  # equal channels give the same sum
        torch.testing.assert_close(made, before)


def test_the_rule_for_channels_by_hand() -> None:
    kernel = torch.tensor([1.0, 2.0, 4.0])[None, :, None, None]
    assert recolored(kernel, 1)[1].flatten().tolist() == [7]
    assert recolored(kernel, 2)[1].flatten().tolist() == [1.5, 3]
    assert recolored(kernel, 4)[1].flatten().tolist() == [0.75, 1.5, 3, 0.75]
    assert recolored(kernel[:, :1], 4)[1].flatten().tolist() == [0.25] * 4


def test_every_layer_that_takes_the_image_is_made_to_fit_and_no_other(study_home: Path) -> None:
    table = {**NESTED_MAP, "network": "foreign_networks:two_first_layers"}
    state = stage_map(table).build(3, 1, 2, 1).state_dict()
    state["3.weight"] = torch.rand(1, 3, 1, 1)  # a mismatch of another layer is none of images
    rows = fitted(stage_map(table).build(1, 1, 2, 0), Checkpoint(state, None, None, "", ()))[1]
    assert {row.name: row.status for row in rows if row.status != "loaded"} == {
        "0.conv.weight": "summed", "0.residual.weight": "summed", "3.weight": "mismatched"
    }  # fmt: skip


def test_a_file_that_fits_nowhere_is_an_error(study_home: Path) -> None:
    file = paths.weights_dir() / "other.pt"
    file.parent.mkdir()
    torch.save(UNet(width=3, depth=1).state_dict(), file)
    with pytest.raises(StudyError, match=r"none of the 25 parameters of the network is in the file: it begins with"):
        start_model(spec(strategy="full_finetuning", weights="other.pt"))


def test_what_was_not_loaded_must_not_stay_frozen() -> None:
    save_weights(drop=("up0.0", "levels"))
    with pytest.raises(
        StudyError, match=r"'encoder_only' freezes up0.0.weight and 1 more, which mine.pt does not have"
    ):
        start_model(spec(strategy="encoder_only", weights="mine.pt"))
    start_model(spec(strategy="decoder_only", weights="mine.pt"))
    start_model(spec(strategy="full_finetuning", weights="mine.pt"))


def test_the_file_is_part_of_the_spec() -> None:
    file = save_weights()
    one = spec(strategy="full_finetuning", weights="mine.pt")
    assert spec_from_dict(one.to_dict()) == one
    weights = read_checkpoint(file).weights
    torch.save({name: value + 1 for name, value in weights.items() if value.is_floating_point()}, file)
    assert run_id(spec(strategy="full_finetuning", weights="mine.pt")) != run_id(one)
    with pytest.raises(StudyError, match="is not the file that the spec was made with"):
        start_model(one)
    file.unlink()
    assert spec_from_dict(one.to_dict()) == one
    with pytest.raises(StudyError, match=r"no weights at .*mine.pt; put the file with sha256"):
        start_model(one)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mien.pt", "unknown file of weights 'mien.pt'; did you mean 'mine.pt'.*copy yours there"),
        ({"sha256": "0"}, "weights need the name of a file, got {'sha256': '0'}"),
        ({"file": "mine.pt", "names": 3}, "names of weights are a table of names in the file to names .*, got 3"),
        ({"file": "mine.pt", "names": {"a": ""}}, "names of weights are a table of names in the file"),
        ({"file": "mine.pt", "names": "../a.csv"}, "are named from there, got '../a.csv'"),
        ({"file": "mine.pt", "names": "a.csv"}, r"no table of names at .*a\.csv; put it beside the weights"),
        ({"fil": "mine.pt"}, "unknown key of weights 'fil'; did you mean 'file'"),
        ({"file": "../mine.pt", "sha256": "0"}, "are named from there, got '../mine.pt'"),
        (3, "expected a table"),
    ],
)
def test_wrong_weights_are_one_line(given: Any, message: str) -> None:
    save_weights()
    with pytest.raises(StudyError, match=message):
        check_weights(given)


def test_weights_are_demanded_or_refused_as_a_source_is() -> None:
    save_weights()
    with pytest.raises(StudyError, match="strategy 'scratch' starts at random and takes no source"):
        spec(weights="mine.pt")
    with pytest.raises(StudyError, match="from a source run or from a file of weights, got both"):
        spec(strategy="full_finetuning", weights="mine.pt", source=spec())
    trained_on = spec(strategy="full_finetuning", weights="mine.pt")
    assert spec(strategy="encoder_only", source=trained_on).source == trained_on
