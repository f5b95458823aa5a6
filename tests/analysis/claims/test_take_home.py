"""The recommendation as a command: on networks from elsewhere too, with names that divide the parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
from foreign_networks import ODD_MAP

from analysis.__main__ import main
from analysis.claims.which_layers import recommendation
from analysis.claims.which_layers.layer_sets import layer_sets
from analysis.tables.results import run_table
from lib.common import paths
from lib.networks.stage_map import map_text, stage_map
from lib.runs.run import Run
from lib.runs.spec import RunSpec
from lib.training.loop import train


@pytest.fixture(autouse=True)
def odd(study_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_DATA", str(tiny.make_blobs(tmp_path / "data")))
    paths.write_atomic(study_home / "network_maps" / "odd.toml", map_text(stage_map(ODD_MAP)))


def trained() -> Run:
    spec = {"size": 16, "volume": 6, "steps": 4, "evaluations": 1, "batch": 4, "lr": 0.01}
    return train(RunSpec(task="blobs", model="odd", **spec), device="cpu")


def test_a_network_from_elsewhere_is_ranked_by_its_own_stages() -> None:
    table = recommendation.rank_layer_sets(trained(), "blobs", volume=8)
    assert set(table["set"]) == {
        *(f"path: {count} {end} of 6" for count in (2, 3) for end in ("first", "last")),
        *(f"level: 2 {end} of 3" for end in ("top", "bottom")),
    }
    assert table[["gain", "gradient", "shift"]].notna().all(axis=None)
    model = trained().model()
    whole = {"all": model.stages}
    every = recommendation.rank_layer_sets(trained(), "blobs", volume=8, sets=whole)
    assert every.parameters[0] == sum(each.numel() for each in model.parameters())


def test_tables_hold_networks_from_elsewhere_and_say_where_they_started(study_home: Path) -> None:
    paths.weights_dir().mkdir()
    torch.save(trained().weights(), paths.weights_dir() / "mine.pt")
    spec = trained().spec.but(strategy="full_finetuning", weights="mine.pt")
    frame = run_table([trained(), train(spec, device="cpu")])
    assert frame.model.tolist() == ["odd", "odd"]
    assert frame.width.isna().all()
    assert set(frame.source) == {"", "mine.pt"}
    assert frame[["stages", "encoder_stages", "levels"]].drop_duplicates().to_numpy().tolist() == [[6, 3, 3]]
    (whole,) = layer_sets(frame).itertuples()
    assert (whole.model, whole.task, whole.label) == ("odd", "blobs@odd", "all layers")


@pytest.mark.parametrize("start", ["run", "file"])
def test_the_command_writes_names_that_divide_the_parameters(start: str, tmp_path: Path, capsys) -> None:
    run = trained()
    asked = ["--source", run.path.name]
    if start == "file":
        paths.weights_dir().mkdir()
        torch.save(run.weights(), paths.weights_dir() / "mine.pt")
        asked = ["--network", "odd", "--weights", "mine.pt", "--size", "16"]
    assert main(["recommend", "--task", "blobs", "--volume", "8", "--out", str(tmp_path / "out"), *asked]) == 0
    told = capsys.readouterr().out
    assert "parameters.json" in told
    table = pd.read_csv(tmp_path / "out" / "ranking.csv")
    assert table["shift"].isna().all() == (start == "file")
    assert table.share.between(0, 1).all()
    assert (table[["step_ms", "memory_mb"]] > 0).all(axis=None)
    assert "a step" in told
    assert "rank correlation with test Dice after training" in told
    sets = json.loads((tmp_path / "out" / "parameters.json").read_text())
    assert [each["set"] for each in sets] == list(table["set"])
    names = [name for name, _ in run.model().named_parameters()]
    sizes = {name: each.numel() for name, each in run.model().named_parameters()}
    if start == "file":  # whose head served another task, and moves with every set
        head = {name for name in names if run.model().stage_of(name) in run.model().last}
        assert all(head <= set(each["train"]) for each in sets)
    for each, count in zip(sets, table.parameters, strict=True):
        assert each["memory_mb"] > 0
        assert sorted(each["train"] + each["freeze"]) == sorted(names)
        assert sum(sizes[name] for name in each["train"]) == count


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "recommend needs --source RUN, or --network MAP with --weights FILE"),
        (["--network", "odd"], "--network and --weights belong together"),
        (["--source", "x", "--network", "odd"], "and not both"),
        (["--network", "odd", "--weights", "no.pt"], "unknown file of weights 'no.pt'"),
        (["--source", "nothing"], "no run 'nothing'"),
    ],
)
def test_what_makes_no_sense_is_one_line(asked: list[str], message: str, capsys) -> None:
    assert main(["recommend", "--task", "blobs", *asked]) == 2
    assert message in capsys.readouterr().err
