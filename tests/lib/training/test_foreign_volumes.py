"""Networks from elsewhere in three dimensions: a source and what starts from it, on drawn heads with their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from contract import marked
from foreign_networks import monai_maps, nnunet_maps

from lib.networks.stage_map import stage_map
from lib.runs.run import start_model
from lib.runs.spec import RunSpec
from lib.training.loop import train

pytestmark = pytest.mark.filterwarnings("ignore")  # of MONAI, when it is imported
NETWORKS = {"UNet": "monai", "DynUNet": "monai", "PlainConvUNet": "dynamic_network_architectures"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(autouse=True)
def one_home(study_home: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are drawn once for all networks."""
    monkeypatch.setenv("STUDY_HOME", str(drawn))


def spec(network: str, **changes: Any) -> RunSpec:
    pytest.importorskip(NETWORKS[network])
    table = (monai_maps(3) if NETWORKS[network] == "monai" else nnunet_maps(3))[network]
    values = {"task": "sim_brain_t1_3d", "size": 32, "volume": 2, "validation": 1, "steps": 3, "evaluations": 1}
    return RunSpec(**{**values, "batch": 1, "lr": 0.01, "model": network, "stage_map": table, **changes})


@pytest.mark.parametrize("network", NETWORKS)
def test_strategies_move_what_they_may_and_nothing_else(network: str) -> None:
    first = spec(network)
    source = train(first, device="cpu")
    assert source.result is not None
    assert source.result["status"] == "done"
    given, model = source.weights(), stage_map(first.stage_map).build(first.inputs, first.outputs, 3, 0)
    encoder = {name for name in given if model.stage_of(name) in model.encoder}
    assert encoder
    assert encoder < given.keys()
    for strategy, options in {
        "scratch": {}, "decoder_only": {}, "frozen_source_encoder": {}, "transplant": {"stages": model.stages[:1]},
    }.items():  # fmt: skip
        begun = None if strategy == "scratch" else first
        run = train(first.but(strategy=strategy, options=options, source=begun, seed=1), device="cpu")
        start, end, fresh = run.weights(0), run.weights(), start_model(first.but(seed=1)).state_dict()
        taken = {
            "scratch": set(), "decoder_only": set(given), "frozen_source_encoder": encoder,
            "transplant": {name for name in given if model.stage_of(name) == model.stages[0]},
        }[strategy]  # fmt: skip
        assert all(torch.equal(start[name], (given if name in taken else fresh)[name]) for name in start)
        moved = {name for name in start if not torch.equal(start[name], end[name])}
        may = marked(start_model(run.spec))
        assert moved <= may
        assert (moved & encoder == set()) == (strategy in ("decoder_only", "frozen_source_encoder"))
        assert any(name.startswith(("running", "num_batches")) for name in map(_last, start)) == (network == "UNet")
        found = run.segment(torch.rand(1, first.inputs, *first.patch))
        assert found.shape == (1, *first.patch)
        assert set(found.flatten().tolist()) <= set(range(first.outputs))


def _last(name: str) -> str:
    return name.rpartition(".")[2]
