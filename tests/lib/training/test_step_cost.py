"""What a step costs: counted by hand on a network of known sizes, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from lib.common.errors import StudyError
from lib.runs.run import Run
from lib.training.loop import train
from lib.training.step_cost import _begun, _step_bytes, step_costs

CPU = torch.device("cpu")


@pytest.fixture
def source(study_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("STUDY_DATA", str(tiny.make_blobs(tmp_path / "data")))
    return train(tiny.spec())


def test_what_is_frozen_costs_neither_gradients_nor_state_nor_what_lies_before_it(source: Run) -> None:
    whole = source.spec.but(strategy="full_finetuning", source=source.spec)
    stages = ("enc0", "dec0", "head")
    sets = {each: whole.but(strategy="layer_subset", options={"stages": [each]}) for each in stages}
    costs = step_costs({"all": whole, **sets}, device="cpu", rounds=2)
    sizes = {"all": sum(each.numel() for each in source.model().parameters())}
    for name in stages:
        sizes[name] = sum(each.numel() for key, each in source.model().named_parameters() if key.startswith(f"{name}."))
    assert {name: cost.trainable for name, cost in costs.items()} == sizes
    assert all(cost.seconds > 0 for cost in costs.values())
    assert costs["head"].megabytes < costs["dec0"].megabytes < costs["enc0"].megabytes < costs["all"].megabytes


def test_memory_is_what_a_linear_head_keeps(source: Run) -> None:
    """Of a 1 x 1 convolution alone: its input, what the loss keeps, a gradient, and two moments with a counter each."""
    spec = source.spec.but(strategy="head_only", source=source.spec)
    training = _begun(spec, CPU)
    inputs, masks = training.objective.batch(0)
    training.one_step(inputs, masks)
    head = [each for each in training.model.parameters() if each.requires_grad]
    size = sum(each.numel() for each in head)
    fixed = 4 * size + 2 * 4 * size + 4 * len(head)
    count, side = len(inputs), inputs.shape[-1]
    pixels = count * side * side
    channels = dict(training.model.named_parameters())["head.weight"].shape[1]
    kept = _step_bytes(training, 1) - fixed
    assert kept >= 4 * pixels * channels  # the input of the head
    assert kept <= 4 * pixels * (channels + 8)  # and a few pictures of the loss, not the whole network


def test_nothing_is_left_behind(source: Run, study_home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in study_home.rglob("*")}
    step_costs({"all": source.spec.but(strategy="full_finetuning", source=source.spec)}, device="cpu", rounds=1)
    assert {path: path.stat().st_mtime_ns for path in study_home.rglob("*")} == before
    untrained = source.spec.but(seed=5)
    with pytest.raises(StudyError, match="is not a run"):
        step_costs({"all": source.spec.but(strategy="full_finetuning", source=untrained)}, device="cpu")


@pytest.mark.gpu
def test_a_gpu_tells_its_own_peak(source: Run) -> None:
    whole = source.spec.but(strategy="full_finetuning", source=source.spec)
    costs = step_costs({"all": whole, "head": whole.but(strategy="head_only")}, device="cuda", rounds=2)
    assert 0 < costs["head"].megabytes < costs["all"].megabytes
    assert costs["head"].seconds > 0
