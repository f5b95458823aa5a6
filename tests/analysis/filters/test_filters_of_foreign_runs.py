"""Runs of networks from elsewhere: their filters are read as their network uses them, under stages of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from foreign_networks import NESTED_MAP, ODD_MAP

from analysis.claims.filter_change.tables import change_table
from analysis.filters.change import filter_change_of_run, filter_change_over_training
from analysis.filters.kernels import geometry_of_run, read_layers
from analysis.filters.matching import matched
from analysis.filters.other_tensors import other_tensor_change
from analysis.filters.randomness.battery import battery
from lib.networks.stage_map import OWN, map_text, stage_map
from lib.runs.run import Run
from lib.runs.spec import RunSpec
from lib.training.loop import train

STAGES = {
    "odd": {"stages": "stem", "encoder.0.conv_a": "block1", "encoder.1.shortcut": "block2", "up1": "up1",
            "up0.0": "up0", "levels": "last"},
    "nested": {"0.0": "one", "1.0.0": "two", "2.0": "three", "3": "four"},
}  # fmt: skip
MAPS: Mapping[str, Any] = {"odd": ODD_MAP, "nested": NESTED_MAP}


@pytest.fixture(params=list(STAGES))
def run(request: pytest.FixtureRequest, study_home: Path, blobs_as_data: None) -> Run:
    (study_home / OWN).mkdir()
    (study_home / OWN / f"{request.param}.toml").write_text(map_text(stage_map(MAPS[request.param])))
    values: dict[str, Any] = {"size": 16, "volume": 6, "steps": 4, "evaluations": 2, "batch": 4, "lr": 0.01}
    return train(RunSpec(task="blobs", model=request.param, **values), device="cpu")


def test_tables_of_filters_have_the_stages_of_the_map(run: Run):
    expected = STAGES[run.spec.model]
    known = geometry_of_run(run)
    tables = [
        filter_change_of_run(run),
        filter_change_over_training(run),
        battery(run.weights(), names=["smoothness"], model=known, draws=19),
        matched(run.weights(0), run.weights(), model=known, draws=2),
    ]
    for table in tables:
        found = table.drop_duplicates("layer").set_index("layer").stage
        assert {name: found[name] for name in expected} == expected
    assert set(change_table([run]).stage) <= set(expected.values())
    other = other_tensor_change(run.weights(0), run.weights(), model=known).set_index("tensor").stage
    assert set(other) <= set(expected.values())
    if run.spec.model == "odd":
        assert (other["gain"], other["encoder.1.bn_b.weight"]) == ("up0", "block2")


def test_transposed_layers_are_those_of_the_network(run: Run):
    layers = read_layers(run.weights(), geometry_of_run(run))
    transposed = {name for name, module in run.model().named_modules() if isinstance(module, torch.nn.ConvTranspose2d)}
    assert {name for name, layer in layers.items() if layer.kind == "transposed"} == transposed
    for name in transposed:
        np.testing.assert_array_equal(layers[name].kernels, run.weights()[f"{name}.weight"].transpose(0, 1).numpy())


@pytest.mark.usefixtures("blobs_as_data")
def test_runs_of_this_study_need_no_network_to_be_read():
    assert geometry_of_run(train(tiny.spec())).shapes is None
