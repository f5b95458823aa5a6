"""Runs in a stack: each ends as it would one_by_one, whatever the others do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from lib.common.errors import StudyError
from lib.networks.cascade import Cascade, to_channels, zero_filled
from lib.runs.run import Run, open_run, run_dir
from lib.runs.spec import RunSpec, run_id
from lib.strategies.strategy import STRATEGIES
from lib.training import loop, stack, together
from lib.training.goals.reconstruction import Reconstruction
from lib.training.goals.segmentation import Segmentation
from lib.training.loop import Training, train
from lib.training.objective import Feed
from lib.training.stack import WRITING, Member, Stack
from lib.training.together import computation, stacks, train_stack


@pytest.fixture(autouse=True)
def quicker_on_blobs(blobs_as_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(loop, "stamp", lambda device: {})


class DoubleFeed:
    def __init__(self, feed: Feed) -> None:
        self.feed, self.recorded = feed, feed.recorded

    def at(self, step: int, place: Tensor) -> tuple[Tensor, Tensor]:
        inputs, truth = self.feed.at(step, place)
        return double(inputs), double(truth)


def double(values: Tensor) -> Tensor:
    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    return values.to(wide.get(values.dtype, values.dtype))


class InDouble:
    """A goal in float64, with which rounding does not hide what differs."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        inputs, truth = super().batch(step)  # type: ignore[misc]
        return double(inputs), double(truth)

    def inputs(self, index: Any) -> Tensor:
        return double(super().inputs(index))  # type: ignore[misc]


class DoubleSegmentation(InDouble, Segmentation):
    def output(self, model: Any, inputs: Tensor) -> Tensor:
        return model(inputs)[:, 0]

    @staticmethod
    def together(runs: Sequence[Any], steps: int) -> Feed:
        return DoubleFeed(Segmentation.together(runs, steps))


class DoubleReconstruction(InDouble, Reconstruction):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.truth = double(self.truth)

    def output(self, model: Any, inputs: Tensor) -> Tensor:
        if isinstance(model, Cascade):
            return model(inputs)
        start = to_channels(zero_filled(inputs))
        return start + model(start)


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    start = loop.start_model
    monkeypatch.setitem(loop.OBJECTIVES, ("segmentation", 2), DoubleSegmentation)
    monkeypatch.setitem(loop.OBJECTIVES, ("reconstruction", 2), DoubleReconstruction)
    monkeypatch.setattr(loop, "start_model", lambda spec: start(spec).double())


OPTIONS: dict[str, list[dict[str, Any]]] = {
    "transplant": [{"stages": ["enc0"]}],
    "layer_subset": [{}, {"stages": ["enc0", "dec0"], "parameters": 37}],
    "scale_shift": [{}, {"norm": "statistics"}, {"granularity": "layer"}],
    "without_skips": [{}, {"encoder": "trained"}],
}
CASES = [(name, options) for name in STRATEGIES for options in OPTIONS.get(name, [{}])]


def three(strategy: str, options: dict[str, Any], **changes: Any) -> list[RunSpec]:
    """Runs that differ in all that the runs of a stack may."""
    source = tiny.spec(seed=7, steps=2, evaluations=1, **changes) if STRATEGIES[strategy].needs_source else None
    few = {"steps": 5, "evaluations": 2}
    return [
        tiny.spec(
            strategy=strategy, options=options, source=source, seed=each, fold=each if source is None else 0,
            lr=0.01 * (each + 1), weight_decay=0.01 * each, volume=5 + each, **{**few, **changes},
        )
        for each in range(3)
    ]  # fmt: skip


def weights(specs: Sequence[RunSpec]) -> list[dict[int, dict[str, Tensor]]]:
    runs = [Run(run_dir(spec)) for spec in specs]
    return [{step: run.weights(step) for step in run.steps()} for run in runs]


def scores(specs: Sequence[RunSpec]) -> list[Any]:
    """Whatever a run says of itself but times, memory, and the files' checksums."""
    found = []
    for spec in specs:
        run = Run(run_dir(spec))
        assert run.result is not None
        result = {
            key: value
            for key, value in run.result.items()
            if key not in ("seconds", "peak_mb", "files", "seal", "source")
        }
        found.append([result, [{key: row[key] for key in row if key != "seconds"} for row in run.metrics()]])
    return found


def alone_and_together(specs: Sequence[RunSpec]) -> tuple[list[Any], list[Any]]:
    """Weights by run and step, and scores, of the runs trained one by one and in a stack."""
    both = []
    for how in (lambda: [train(spec, device="cpu") for spec in specs], lambda: train_stack(specs, device="cpu")):
        how()
        both.append((weights(specs), scores(specs)))
        for spec in specs:
            shutil.rmtree(run_dir(spec))
    return both[0], both[1]


def check_same(one: Any, other: Any, tolerance: float = 1e-10) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            check_same(one[key], other[key], tolerance)
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            check_same(a, b, tolerance)
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-7 if tolerance < 1e-7 else tolerance)  # losses are summed in float32
    else:
        assert one == other


@pytest.mark.parametrize(("strategy", "options"), CASES)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_run_in_a_stack_is_the_run_alone(in_double: None, strategy: str, options: dict[str, Any], norm: str) -> None:
    if (strategy, norm) == ("norm_only", "none"):
        pytest.skip("nothing to train")
    specs = three(strategy, options, norm=norm)
    assert len({computation(spec) for spec in specs}) == 1
    one_by_one, stacked = alone_and_together(specs)
    if norm == "batch":  # biases before it have gradients of rounding one_by_one, which Adam makes steps of full length
        one_by_one, stacked = without_idle_biases(one_by_one), without_idle_biases(stacked)
    check_same(list(one_by_one[0]), list(stacked[0]))
    if norm == "none" or strategy != "l2_sp":  # whose pull is felt by such biases
        check_same(one_by_one[1], stacked[1])


@pytest.mark.parametrize(("strategy", "options"), CASES)
@pytest.mark.parametrize("norm", ["batch", "none", "group"])
def test_a_stack_of_one_is_the_run_alone(
    in_double: None, strategy: str, options: dict[str, Any], norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU trains a single run; under batch normalization and none, its weights lie channels last."""
    if (strategy, norm) == ("norm_only", "none"):
        pytest.skip("nothing to train")
    (spec,) = three(strategy, options, norm=norm)[1:2]
    expected = train(spec, device="cpu"), weights([spec]), scores([spec])
    shutil.rmtree(run_dir(spec))
    monkeypatch.setattr(together, "_least", lambda device: 1)
    (run,) = train_stack([spec], device="cpu")
    assert json.loads((run.path / "provenance.json").read_text())["stack"] == 1
    check_same(without_idle_biases((expected[1], []))[0], without_idle_biases((weights([spec]), []))[0])
    if norm == "none" or strategy != "l2_sp":
        check_same(expected[2], scores([spec]))


def test_a_stack_of_one_that_is_too_large_is_trained_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(self: Stack, members: Sequence[Member]) -> None:
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(together, "_least", lambda device: 1)
    monkeypatch.setattr(Stack, "__init__", too_large)
    told = list[dict[str, Any]]()
    (run,) = train_stack([tiny.spec()], device="cpu", report=told.append)
    assert (run.result or {})["status"] == "done"
    assert [event["runs"] for event in told if event["kind"] == "too large"] == [1]


def without_idle_biases(outcome: Any) -> Any:
    def counts(name: str) -> bool:
        return not (name.endswith((".running_mean", ".shift")) or ("conv" in name and name.endswith(".bias")))

    runs = [
        {step: {name: each[name] for name in each if counts(name)} for step, each in run.items()} for run in outcome[0]
    ]
    return runs, outcome[1]


@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize("changes", [{"augment": False}, {"depth": 2, "batch": 3}, {"checkpoints": "ends"}])
def test_other_networks_and_batches(in_double: None, norm: str, changes: dict[str, Any]) -> None:
    specs = three("scratch", {}, norm=norm, **changes)
    one_by_one, stacked = alone_and_together(specs)
    check_same(without_idle_biases(one_by_one)[0], without_idle_biases(stacked)[0])
    check_same(one_by_one[1], stacked[1])


def test_strategies_of_one_computation_share_a_stack(in_double: None) -> None:
    source = tiny.spec(norm="none", seed=7, steps=2, evaluations=1)
    specs = [
        tiny.spec(norm="none", seed=1),
        tiny.spec(norm="none", seed=2, strategy="full_finetuning", source=source),
        tiny.spec(norm="none", seed=3, strategy="l2_sp", source=source, options={"alpha": 0.3}),
        tiny.spec(norm="none", seed=4, strategy="head_only", source=source),
        tiny.spec(norm="none", seed=5, strategy="shuffled_labels"),
        tiny.spec(norm="none", seed=6, strategy="layer_subset", source=source, options={"parameters": 9}),
        tiny.spec(norm="none", seed=7, strategy="bias_only", source=source),
    ]
    assert len({computation(spec) for spec in specs}) == 1
    one_by_one, stacked = alone_and_together(specs)
    check_same(list(one_by_one), list(stacked))


@pytest.mark.parametrize("model", ["unet", "cascade"])
def test_reconstruction(in_double: None, model: str) -> None:
    cascade = {"blocks": 2, "shared": True} if model == "cascade" else {}
    samplings = ["random", "equispaced"]
    specs = [
        RunSpec(
            "sim_brain_t1", width=2, depth=2, size=32, volume=1, steps=4, evaluations=2, batch=2, norm="none",
            seed=each, lr=0.01, model=model, acceleration=2.0 + each, sampling=samplings[each], **cascade,
        )
        for each in range(2)
    ]  # fmt: skip
    assert len({computation(spec) for spec in specs}) == 1
    one_by_one, stacked = alone_and_together(specs)
    check_same(list(one_by_one), list(stacked))


def test_what_must_be_alike() -> None:
    source = tiny.spec(seed=7)
    one = computation(tiny.spec())
    assert one == computation(tiny.spec(seed=4, lr=0.5, weight_decay=0.3, volume=3, fold=1, patience=3, evaluations=2))
    assert one == computation(tiny.spec(strategy="full_finetuning", source=source))
    for other in (
        {"steps": 9}, {"batch": 2}, {"size": 24}, {"width": 3}, {"norm": "group"}, {"augment": False},
        {"arithmetic": "bfloat16"}, {"strategy": "frozen_random_encoder"}, {"strategy": "without_skips"},
        {"strategy": "scale_shift", "source": source}, {"strategy": "low_rank", "source": source},
    ):  # fmt: skip
        assert computation(tiny.spec(**other)) != one, other


def test_one_that_diverges_or_stops_early_disturbs_no_other() -> None:
    specs = [
        tiny.spec(steps=12, evaluations=12, seed=1),
        tiny.spec(steps=12, evaluations=12, seed=2, lr=1e30),
        tiny.spec(steps=12, evaluations=12, seed=2, patience=2, lr=0.1),
        tiny.spec(steps=12, evaluations=12, seed=3),
    ]
    calm = [specs[0], specs[3], specs[0].but(seed=9), specs[0].but(seed=8)]
    train_stack(calm, device="cpu")
    expected = [tiny.outcome(Run(run_dir(spec))) for spec in calm[:2]]
    for spec in calm:
        shutil.rmtree(run_dir(spec))
    runs = train_stack(specs, device="cpu")
    results = [run.result or {} for run in runs]
    assert [result["status"] for result in results] == ["done", "diverged", "done", "done"]
    assert results[2]["steps"] < 12
    assert [tiny.outcome(runs[place]) for place in (0, 3)] == expected
    assert all(run.faults() == [] for run in runs)


def test_early_stopping_finds_in_a_stack_what_it_finds_alone(in_double: None) -> None:
    specs = [tiny.spec(patience=2, steps=12, evaluations=12, lr=0.1, seed=each, norm="none") for each in (2, 3)]
    one_by_one, stacked = alone_and_together(specs)
    check_same(list(one_by_one), list(stacked))


def test_provenance_says_how_many_and_time_is_shared_out() -> None:
    told: list[dict[str, Any]] = []
    specs = [tiny.spec(seed=each) for each in range(3)]
    runs = train_stack(specs, device="cpu", report=told.append)
    assert all('"stack": 3' in (run.path / "provenance.json").read_text() for run in runs)
    done = [event["run"] for event in told if event["kind"] == "done"]
    assert sorted(done) == sorted(run_id(spec) for spec in specs)
    spent = [(run.result or {})["seconds"] for run in runs]
    assert max(spent) - min(spent) < 0.0025  # the same, but for rounding to milliseconds


def test_finished_runs_are_left_alone_and_a_single_one_is_trained_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(tiny.spec(seed=1), device="cpu")
    before = first.path.stat().st_mtime_ns, tiny.outcome(first)
    monkeypatch.setattr(together, "_train_together", None)
    train_stack([tiny.spec(seed=1), tiny.spec(seed=2)], device="cpu")
    assert (first.path.stat().st_mtime_ns, tiny.outcome(first)) == before
    assert Run(run_dir(tiny.spec(seed=2))).result is not None


class Killed(BaseException):
    """In place of a kill."""


@pytest.mark.parametrize("at", range(1, 13))
def test_a_save_that_was_cut_leaves_all_at_one_step(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Killed after the at-th write or rename of states of three runs: the end is that of a stack never killed."""
    monkeypatch.setattr(stack, "SHARE", 0)  # every evaluation saves
    specs = [tiny.spec(seed=each) for each in range(3)]
    expected = [tiny.outcome(run) for run in train_stack(specs, device="cpu", save_every=0)]
    for spec in specs:
        shutil.rmtree(run_dir(spec))
    left = [at]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    save, replace = Training.save, os.replace

    def counted_save(self: Training, name: str = "resume.safetensors") -> None:
        save(self, name)
        count()

    def counted_replace(source: Any, target: Any) -> None:
        replace(source, target)
        if str(source).endswith(WRITING):
            count()

    with monkeypatch.context() as patch:
        patch.setattr(Training, "save", counted_save)
        patch.setattr(os, "replace", counted_replace)
        with pytest.raises(Killed):
            train_stack(specs, device="cpu", save_every=0)
    steps: list[set[int]] = []
    original = Stack.__init__

    def spy(self: Stack, members: Sequence[Member]) -> None:
        steps.append({member.step for member in members})
        assert len(members) == 3
        original(self, members)

    monkeypatch.setattr(Stack, "__init__", spy)
    assert [tiny.outcome(run) for run in train_stack(specs, device="cpu", save_every=0)] == expected
    assert steps == [{0}] if at < 3 else len(steps[0]) == 1
    assert not list(run_dir(specs[0]).glob("resume*"))


def test_a_file_that_is_no_state_is_told_by_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint lies where a stack looks for a saved state."""
    specs = [tiny.spec(seed=each) for each in range(2)]
    other = train(tiny.spec(seed=5), device="cpu")
    shutil.copy(other.checkpoint(0), open_run(specs[0]).path / WRITING)
    with pytest.raises(StudyError, match="is no state to resume from; delete it"):
        train_stack(specs, device="cpu")


def test_a_run_of_a_stack_goes_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [tiny.spec(seed=each, norm="none") for each in range(2)]
    expected = [tiny.outcome(train(spec, device="cpu")) for spec in specs]
    for spec in specs:
        shutil.rmtree(run_dir(spec))
    original = Stack.one_step

    def fragile(self: Stack) -> None:
        if self.step == 5:
            raise Killed
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "one_step", fragile)
        with pytest.raises(Killed):
            train_stack(specs, device="cpu", save_every=0)
    for spec, whole in zip(specs, expected, strict=True):
        run = train(spec, device="cpu")
        found = tiny.outcome(run)
        assert [row["step"] for row in found["metrics"]] == [row["step"] for row in whole["metrics"]]
        assert (run.result or {})["test"]["dice"] == pytest.approx(whole["result"]["test"]["dice"], abs=1e-3)


def test_a_source_that_diverged_is_told_as_alone() -> None:
    source = tiny.spec(seed=1, lr=1e30)
    specs = [tiny.spec(strategy="full_finetuning", source=source, seed=each) for each in range(2)]
    with pytest.raises(StudyError, match="nothing can start from it"):
        train_stack(specs, device="cpu")


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_stack_that_is_too_large_is_halved_and_said_once(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The memory of the device is a pretended one, of so many runs."""
    specs, told, sizes = [tiny.spec(seed=each) for each in range(4)], list[dict[str, Any]](), list[int]()
    original = Stack.__init__

    def little(self: Stack, members: Sequence[Member]) -> None:
        sizes.append(len(members))
        if len(members) > most:
            raise torch.OutOfMemoryError("planted")
        original(self, members)

    monkeypatch.setattr(Stack, "__init__", little)
    runs = train_stack(specs, device="cpu", report=told.append)
    assert sizes == [4, 2, 2]
    assert [(run.result or {})["status"] for run in runs] == ["done"] * 4
    assert [event["runs"] for event in told if event["kind"] == "too large"] == ([4] if most > 1 else [4, 2, 2])


def test_stacks_hold_one_computation_each_and_no_more_than_fill_a_card() -> None:
    small = [tiny.spec(seed=each) for each in range(3)] + [tiny.spec(seed=each, width=4) for each in range(2)]
    assert [[spec.width for spec in each] for each in stacks(small)] == [[2, 2, 2], [4, 4]]
    default = [tiny.spec(width=8, depth=4, size=64, batch=8, seed=each) for each in range(600)]
    assert [len(each) for each in stacks(default)] == [244, 244, 112]
    large = [tiny.spec(width=32, depth=4, size=256, batch=16, seed=each) for each in range(3)]
    assert [len(each) for each in stacks(large)] == [1, 1, 1]


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("task", ["blobs", "sim_deep_brain_t1_3d"])
def test_on_a_gpu_the_recorded_step_is_the_step(task: str, augment: bool, count: int) -> None:
    """A stack as a CUDA graph against the same runs alone, whose steps are launched one by one."""
    base = tiny.spec(task=task, width=8, size=32, norm="none", lr=1e-3, augment=augment)
    specs = [base.but(seed=each) for each in range(count)]
    alone = [train(spec, device="cuda").result or {} for spec in specs]
    for spec in specs:
        shutil.rmtree(run_dir(spec))
    in_stack = [run.result or {} for run in train_stack(specs, device="cuda")]
    for one, other in zip(alone, in_stack, strict=True):
        assert other["test"]["dice"] == pytest.approx(one["test"]["dice"], abs=0.02)
        assert other["val"]["dice"] == pytest.approx(one["val"]["dice"], abs=0.02)
