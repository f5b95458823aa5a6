"""Starts from files whose names are others than the network's: a table tells them, and mistakes in it are one line."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import torch
from foreign_networks import ODD_MAP, smp_maps
from torch import Tensor

from lib.common import paths
from lib.common.errors import StudyError
from lib.networks.checkpoint_files import Checkpoint
from lib.networks.stage_map import map_text, stage_map
from lib.runs.foreign_start import fitted
from lib.runs.name_tables import read_names
from lib.runs.run import start_model
from lib.runs.spec import RunSpec, run_id, spec_from_dict
from lib.study.bundle import write_bundle
from lib.study.plan import load_suite
from lib.training.loop import train

pytestmark = pytest.mark.usefixtures("blobs_as_data")
# As a classifier elsewhere calls what is the first stages of the network.
ELSEWHERE = {"stages": "conv1", "encoder.0": "layer1.0", "encoder.1": "layer2.0"}
NAMES = "in_file,in_network\nconv1,stages\nlayer1,encoder\nlayer2.0,encoder.1\n"


def trained(channels: int = 1) -> dict[str, Tensor]:
    return stage_map(ODD_MAP).build(channels, 1, 2, 7).state_dict()


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {
        theirs + name.removeprefix(ours): value
        for name, value in state.items()
        for ours, theirs in ELSEWHERE.items()
        if name.startswith(f"{ours}.")
    }
    return {**found, "fc.weight": torch.rand(10, 8)}


def lay_out(table: str = NAMES, channels: int = 1, prefix: str = "") -> None:
    """A file of weights and a table of names where a study's home has them, and the network's map."""
    paths.write_atomic(paths.home() / "network_maps" / "odd.toml", map_text(stage_map(ODD_MAP)))
    paths.write_atomic(paths.weights_dir() / "names.csv", table)
    state = {prefix + name: value for name, value in renamed(trained(channels)).items()}
    torch.save({"state_dict": state, "epoch": 3}, paths.weights_dir() / "resnet.pt")


def spec(**changes) -> RunSpec:
    values = {"size": 16, "volume": 6, "steps": 2, "evaluations": 1, "batch": 4, "lr": 0.01, "model": "odd"}
    values |= {"strategy": "decoder_only", "weights": {"file": "resnet.pt", "names": "names.csv"}}
    return RunSpec(task="blobs", **{**values, **changes})


@pytest.mark.parametrize("prefix", ["", "model.backbone."])
def test_a_run_starts_from_tensors_that_a_table_names_and_says_which(prefix: str) -> None:
    lay_out(NAMES.replace("\nconv1", f"\n{prefix}conv1").replace("\nlayer", f"\n{prefix}layer"), 3, prefix)
    run = train(spec(), device="cpu")
    start, end, given = run.weights(0), run.weights(), trained(3)
    encoder = [name for name in start if name.startswith("encoder.")]
    assert len(encoder) == 26
    assert all(torch.equal(start[name], given[name]) for name in encoder)
    assert all(torch.equal(end[name], given[name]) for name in encoder)  # frozen: the decoder alone is trained
    assert torch.equal(start["stages.weight"], given["stages.weight"].sum(1, keepdim=True))
    assert not torch.equal(start["up1.weight"], given["up1.weight"])
    said = json.loads((run.path / "provenance.json").read_text())["weights"]
    assert said["renamed"]["encoder.1.conv_a.weight"] == f"{prefix}layer2.0.conv_a.weight"
    assert said["renamed"]["encoder.0.conv_a.weight"] == f"{prefix}layer1.0.conv_a.weight"
    assert len(said["renamed"]) == said["counts"]["loaded"] + said["counts"]["summed"] == len(encoder) + 2
    assert said["tensors"]["summed"] == ["stages.weight"]
    assert said["tensors"]["unexpected"] == [f"{prefix}fc.weight"]
    assert said["said"] == ["weights under state_dict"]


def test_the_names_are_in_the_spec_and_the_table_is_needed_no_more() -> None:
    lay_out()
    one = spec()
    assert one.weights["names"] == {"conv1": "stages", "layer1": "encoder", "layer2.0": "encoder.1"}
    paths.write_atomic(paths.weights_dir() / "names.csv", NAMES.replace("layer2.0,encoder.1\n", ""))
    assert spec_from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert run_id(spec()) != run_id(one)  # what is loaded where decides the result
    (paths.weights_dir() / "names.csv").unlink()
    assert torch.equal(start_model(one).state_dict()["encoder.1.conv_a.weight"], trained()["encoder.1.conv_a.weight"])


def test_a_suite_names_the_table_and_a_bundle_carries_it(tmp_path: Path) -> None:
    lay_out()
    (tmp_path / "mine.toml").write_text("""
seeds = [0]
[run]
model = "odd"
size = 16
steps = 2
evaluations = 1
[tuning]
rates = [0.01]
[sources.there]
weights = "resnet.pt"
names = "names.csv"
[[grid]]
tasks = ["blobs"]
volumes = [6]
source = "there"
strategies = ["decoder_only"]
""")
    suite = load_suite(str(tmp_path / "mine.toml"))
    (cell,) = suite.cells
    assert suite.at_all_rates(cell, 0)[0].weights["names"]["layer1"] == "encoder"
    (tmp_path / "again.toml").write_text('extends = "mine.toml"\nshift_seeds = 10\n')
    for name in ("mine", "again"):  # which has its sources, and so the table, from the other
        write_bundle(load_suite(str(tmp_path / f"{name}.toml")), tmp_path / f"{name}.tar.gz")
        with tarfile.open(tmp_path / f"{name}.tar.gz") as archive:
            archive.extractall(tmp_path / "there", filter="data")
        there = tmp_path / "there" / name
        assert (there / "weights" / "resnet.pt").is_file()
        assert (there / "weights" / "names.csv").read_text() == NAMES
        assert load_suite(str(there / f"{name}.toml")).cells == load_suite(str(tmp_path / f"{name}.toml")).cells
    text = (tmp_path / "mine.toml").read_text().replace('weights = "resnet.pt"', 'task = "blobs"')
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(StudyError, match="names of a source are a table beside its file of weights"):
        load_suite(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("layer1.1,encoder", "has 'layer1.1', which the file does not have; the nearest is 'layer1.0'"),
        ("layer1.0,encodr.0", "has 'encodr.0', which the network does not have; the nearest is 'encoder.0'"),
        (
            "layer1,encoder\nlayer2.0,encoder.0",
            r"puts 'layer1.0.\S+' and 'layer2.0.\S+' both into 'encoder.0",
        ),
        ("layer1.0,encoder.1", r"puts 'layer1.0.conv_a.weight' \(4, 4, 3, 3\) into 'encoder.1.conv_a.weight' \(8, 4,"),
        ("fc,levels", r"puts 'fc.weight' \(10, 8\) into 'levels.weight' \(1, 4, 1, 1\), of another shape"),
        ("conv1.weight,up0", "none of the .* parameters of the network is in the file"),
    ],
)
def test_names_that_do_not_fit_are_one_line(rows: str, message: str) -> None:
    names = dict(row.split(",") for row in rows.split("\n"))
    with pytest.raises(StudyError, match=message) as refused:
        fitted(stage_map(ODD_MAP).build(1, 1, 2, 0), Checkpoint(renamed(trained()), None, None, "", ()), names)
    assert "\n" not in str(refused.value)


def test_a_tensor_that_the_network_holds_twice_may_be_called_either_way() -> None:
    found = Checkpoint(renamed(trained()), None, None, "", ())
    whole, rows = fitted(stage_map(ODD_MAP).build(1, 1, 2, 0), found, {"layer1.0": "again"})
    assert torch.equal(whole["encoder.0.conv_a.weight"], trained()["encoder.0.conv_a.weight"])
    assert "again.conv_a.weight" not in {row.name for row in rows}


def test_the_file_of_an_encoder_alone_fits_a_network_that_holds_it_without_a_table() -> None:
    pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)
    table = smp_maps()["SmpUnet"]
    encoder = {
        name.removeprefix("encoder."): value
        for name, value in stage_map(table).build(3, 1, 2, 7).state_dict().items()
        if name.startswith("encoder.")
    }
    found = Checkpoint({**encoder, "fc.weight": torch.rand(10, 512)}, None, None, "", ())
    whole, rows = fitted(stage_map(table).build(1, 1, 2, 0), found)
    status = {row.file_name: row.status for row in rows if row.file_name}
    assert {name for name, each in status.items() if each == "loaded"} == encoder.keys() - {"conv1.weight"}
    assert (status["conv1.weight"], status["fc.weight"]) == ("summed", "unexpected")
    assert torch.equal(whole["encoder.layer3.0.conv1.weight"], encoder["layer3.0.conv1.weight"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must have the columns in_file, in_network and a row per name, got no row"),
        ("in_file,in_network\n", "and a row per name"),
        ("file,network\na,b\n", "must have the columns in_file, in_network and a row per name, got file, network"),
        ("in_file,in_network\na,b\na,c\n", "row 3 names 'a' once more; leave one of the two rows out"),
        ("in_file,in_network\na,\n", "row 2 needs a name in both columns, got 'a' and ''"),
        ("in_file,in_network\na\n", "line 2: the row does not have the header's 2 cells"),
    ],
)
def test_tables_that_are_none_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text(text)
    with pytest.raises(StudyError, match=message) as refused:
        read_names(tmp_path / "names.csv")
    assert "\n" not in str(refused.value)
    (tmp_path / "names.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match=r"names.csv is not UTF-8 .*; save it as CSV UTF-8"):
        read_names(tmp_path / "names.csv")
