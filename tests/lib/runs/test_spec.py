"""A spec says everything that decides a result, refuses what cannot be trained, and gives the run its name."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from lib.common.errors import StudyError
from lib.data.tasks.task import TASKS, Task
from lib.runs.spec import RunSpec, run_id, spec_from_dict
from lib.strategies.strategy import STRATEGIES

TASK = "sim_ultrasound"


def spec(**changes: Any) -> RunSpec:
    return RunSpec(**{"task": TASK, **changes})


def tuned(strategy: str = "full_finetuning", **changes: Any) -> RunSpec:
    return spec(strategy=strategy, source=spec(task="sim_natural"), **changes)


OTHER: dict[str, Any] = {
    "task": "sim_natural",
    "strategy": "frozen_random_encoder",
    "width": 8,
    "depth": 3,
    "norm": "instance",
    "size": 32,
    "volume": 20,
    "seed": 1,
    "fold": 1,
    "steps": 401,
    "batch": 8,
    "lr": 2e-3,
    "weight_decay": 0.0,
    "augment": False,
    "patience": 3,
    "evaluations": 10,
    "checkpoints": "ends",
    "model": "cascade",
    "blocks": 2,
    "shared": True,
    "acceleration": 8,
    "sampling": "gaussian",
    "coils": 2,
    "arithmetic": "bfloat16",
    "validation": 5,
    "flat": 1,
    "foreground": 0.5,
}
VOLUMES = ("flat", "foreground")  # mean something for volumes only
LATER = ("model", "blocks", "shared", "acceleration", "sampling", "coils")  # mean something for reconstruction only

# ---- the name ---------------------------------------------------------------------------------------------------


def test_the_list_of_other_values_names_every_field() -> None:
    assert OTHER.keys() | {"options", "source", "stage_map", "weights"} == {
        each.name for each in dataclasses.fields(RunSpec)
    }


@pytest.mark.parametrize("field", OTHER)
def test_the_name_changes_with_every_field(field: str) -> None:
    base = {"task": "sim_brain_t1", "model": "unet" if field == "model" else "cascade"} if field in LATER else {}
    base = {"task": "sim_brain_t1_3d"} if field in VOLUMES else base
    assert run_id(spec(**{**base, field: OTHER[field]})) != run_id(spec(**base))
    assert run_id(tuned().but(source=None, strategy="scratch")) == run_id(spec())


def test_the_name_changes_with_options_and_source() -> None:
    names = {
        run_id(tuned()),
        run_id(tuned("low_rank")),
        run_id(tuned("low_rank", options={"rank": 2})),
        run_id(spec(strategy="full_finetuning", source=spec(task="sim_radiograph"))),
        run_id(spec(strategy="full_finetuning", source=spec(task="sim_natural", seed=1))),
        run_id(spec(strategy="full_finetuning", source=tuned())),
    }
    assert len(names) == 6


def test_defaults_said_aloud_change_nothing() -> None:
    aloud = tuned("low_rank", options={"rank": 4}, width=16, lr=1e-3)
    assert aloud == tuned("low_rank")
    assert run_id(aloud) == run_id(tuned("low_rank"))


def test_the_name_can_be_read() -> None:
    assert run_id(tuned(volume=20, seed=3)).startswith("sim_ultrasound-full_finetuning-n20-s3-")
    assert run_id(spec()).startswith("sim_ultrasound-scratch-all-s0-")
    assert len(run_id(spec()).rpartition("-")[2]) == 8


def test_one_and_one_point_zero_are_one_run() -> None:
    assert spec(lr=1, weight_decay=0).text == spec(lr=1.0, weight_decay=0.0).text


@pytest.mark.parametrize("name", ["sim_ünïcode", "模拟", 'o\'brien "x"'])
def test_names_beyond_ascii_survive(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, name, Task(name, name, "simulated", "none", simulator="natural", images=10))
    one = spec(task=name)
    assert one.text.isascii()
    assert spec_from_dict(json.loads(one.text)) == one
    assert run_id(one).startswith(f"{name}-scratch")


def test_canonical_text_is_sorted_json_without_spaces() -> None:
    text = tuned("low_rank").text
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert json.loads(text)["source"]["task"] == "sim_natural"


def test_the_order_of_options_does_not_matter() -> None:
    one = tuned("scale_shift", options={"norm": "affine", "granularity": "layer"})
    two = tuned("scale_shift", options={"granularity": "layer", "norm": "affine"})
    assert one == two
    assert one.text == two.text


# ---- there and back ---------------------------------------------------------------------------------------------

ROUND = {
    "plain": lambda: spec(),
    "everything": lambda: spec(**{key: value for key, value in OTHER.items() if key not in (*LATER, *VOLUMES)}),
    "volumes": lambda: spec(task="sim_brain_t1_3d", **{key: OTHER[key] for key in VOLUMES}),
    "reconstruction": lambda: spec(task="sim_brain_t1", **{key: OTHER[key] for key in LATER}),
    "chain": lambda: spec(strategy="encoder_only", source=tuned()),
    "options": lambda: tuned("transplant", options={"stages": ("enc0", "head")}),
    "pull": lambda: tuned("l2_sp", options={"alpha": 1}),
}


@pytest.mark.parametrize("make", ROUND.values(), ids=ROUND)
def test_a_spec_equals_the_one_read_from_its_json(make) -> None:
    one = make()
    again = spec_from_dict(json.loads(one.text))
    assert again == one
    assert run_id(again) == run_id(one)
    assert hash(again) == hash(one)
    assert pickle.loads(pickle.dumps(one)) == one


def test_specs_can_stand_in_sets() -> None:
    assert len({spec(), spec(), spec(seed=1), tuned("low_rank"), tuned("low_rank", options={"rank": 2})}) == 4


def test_missing_fields_take_their_defaults() -> None:
    assert spec_from_dict({"task": TASK, "seed": 4}) == spec(seed=4)


def test_a_spec_does_not_share_what_it_was_made_from() -> None:
    stages = ["enc0"]
    options: Mapping[str, Any] = MappingProxyType({"stages": stages})
    one = tuned("transplant", options=options)
    name = run_id(one)
    stages.append("head")
    one.to_dict()["options"]["stages"].append("dec0")
    assert run_id(one) == name
    assert one.options == {"stages": ["enc0"]}


def test_but_checks_again() -> None:
    assert spec().but(seed=2).seed == 2
    with pytest.raises(StudyError, match="seed must be a whole number"):
        spec().but(seed=-2)


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "transplant"])
def test_every_strategy_can_be_asked_for_by_name(strategy: str) -> None:
    one = tuned(strategy) if STRATEGIES[strategy].needs_source else spec(strategy=strategy)
    assert one.options == STRATEGIES[strategy].options


# ---- mistakes ---------------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("name", ["width", "depth", "volume", "steps", "batch", "patience", "evaluations", "seed"])
@pytest.mark.parametrize("value", [-1, True, 1.0, "1", NAN, INF, [1], np.int64(1)])
def test_whole_numbers_must_be_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(StudyError, match=f"{name} must be a whole number of at least [01], got"):
        spec(**{name: value})


@pytest.mark.parametrize("name", ["width", "steps", "seed", "size", "fold", "evaluations"])
def test_most_numbers_must_be_given(name: str) -> None:
    with pytest.raises(StudyError, match=f"{name} must be a whole number of at least .* got None"):
        spec(**{name: None})


@pytest.mark.parametrize("name", ["width", "depth", "volume", "steps", "batch", "patience", "evaluations"])
def test_counts_start_at_one(name: str) -> None:
    with pytest.raises(StudyError, match=f"{name} must be a whole number of at least 1, got 0"):
        spec(**{name: 0})


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [-0.1, True, "0.1", NAN, INF, -INF, None, [0.1], 1j])
def test_numbers_must_be_finite_numbers(name: str, value: Any) -> None:
    with pytest.raises(StudyError, match=f"{name} must be a number of at least 0, got"):
        spec(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0}, "lr must be a positive number, got 0.0"),
        ({"size": 7}, "size must be a whole number of at least 8, got 7"),
        ({"depth": 30}, "depth must be at most 10, got 30"),
        ({"seed": 10**30}, "seed must be at most 2147483647, got 1000"),
        ({"evaluations": 20, "steps": 19}, r"evaluations must be at most steps \(19\), got 20"),
        ({"task": "sim_ultrasond"}, "unknown task 'sim_ultrasond'; did you mean 'sim_ultrasound'"),
        ({"task": "sim_ultrasond"}, "data root: .*STUDY_HOME"),
        ({"strategy": "scrach"}, "unknown strategy 'scrach'; did you mean 'scratch'"),
        ({"norm": "bach"}, "unknown normalization 'bach'; did you mean 'batch'"),
        ({"checkpoints": "logs"}, "unknown checkpoints 'logs'; did you mean 'log'"),
        ({"task": ["busi"]}, r"task must be a text, got \['busi'\]"),
        ({"task": None}, "task must be a text, got None"),
        ({"strategy": {}}, "strategy must be a text"),
        ({"norm": []}, "norm must be a text"),
        ({"checkpoints": 1}, "checkpoints must be a text, got 1"),
        ({"augment": 1}, "augment must be true or false, got 1"),
        ({"augment": "no"}, "augment must be true or false, got 'no'"),
        ({"options": None}, "options must be a table of names and values, got None"),
        ({"options": {"rank": 4}}, "unknown option of scratch 'rank'"),
        ({"options": {1: 4}}, "unknown option of scratch 1"),
        ({"norm": "instance", "size": 16}, r"size must be more than 2\*\*depth \(16\) under norm 'instance'"),
        ({"norm": "batch", "size": 8, "batch": 1}, "so that the bottleneck has more than one value .* got 8"),
        ({"strategy": "full_finetuning"}, "strategy 'full_finetuning' needs a source run, got source=None"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        spec(**changes)


def test_small_images_are_fine_where_something_is_left_to_normalize_over() -> None:
    for changes in ({"norm": "instance", "size": 17}, {"norm": "batch", "size": 8, "batch": 2}, {"size": 8}):
        assert spec(**changes)


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("low_rank", {"rnak": 4}, "unknown option of low_rank 'rnak'; did you mean 'rank'"),
        ("low_rank", {"rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ("low_rank", {"rank": True}, "rank must be a whole number"),
        ("l2_sp", {"alpha": "0.1"}, "alpha must be a number of at least 0, got '0.1'"),
        ("l2_sp", {"alpha": NAN}, "options must be texts, finite numbers, true, false, null or lists"),
        ("scale_shift", {"granularity": {"kernel"}}, "options must be texts, finite numbers"),
        ("scale_shift", {"granularity": "kernal"}, "unknown granularity 'kernal'; did you mean 'kernel'"),
        ("layer_subset", {"count": 11}, "count must be between 1 and 10 under order 'path', got 11"),
        ("layer_subset", {"stages": ["enc5"]}, "unknown stage 'enc5'; did you mean 'enc"),
        ("transplant", {}, "stages must be a list with at least one of enc0"),
        ("transplant", {"stages": ["hed"]}, "unknown stage 'hed'; did you mean 'head'"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_trained(
    strategy: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        tuned(strategy, options=options)


def test_options_are_checked_against_the_spec_s_own_network() -> None:
    shallow = spec(depth=2, task="sim_natural")
    with pytest.raises(StudyError, match="unknown stage 'enc4'"):
        spec(strategy="transplant", options={"stages": ["enc4"]}, depth=2, source=shallow)
    plain = spec(norm="none", task="sim_natural")
    with pytest.raises(StudyError, match=r"'norm_only' .* marks no parameter of this model: nothing to train"):
        spec(strategy="norm_only", norm="none", source=plain)


@pytest.mark.parametrize("source", [spec(), {}, "sim_natural", 0])
def test_a_source_that_is_not_wanted_is_refused(source: Any) -> None:
    with pytest.raises(StudyError, match="strategy 'scratch' starts at random and takes no source, got source="):
        spec(source=source)


@pytest.mark.parametrize("source", [{"task": TASK}, "sim_natural", 0])
def test_a_source_must_be_a_spec(source: Any) -> None:
    with pytest.raises(StudyError, match="strategy 'full_finetuning' needs a source run, got source="):
        spec(strategy="full_finetuning", source=source)


@pytest.mark.parametrize(("name", "value"), [("width", 8), ("depth", 3), ("norm", "instance")])
def test_a_source_with_another_network_is_refused(name: str, value: Any) -> None:
    ours = getattr(spec(), name)
    with pytest.raises(StudyError, match=f"{name} must be that of the source, {value!r} on '{TASK}', got {ours!r}"):
        spec(strategy="full_finetuning", source=spec(**{name: value}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": TASK, "sed": 1}, "unknown field of a run spec 'sed'; did you mean 'seed'"),
        ({"task": TASK, "device": "cuda"}, "unknown field of a run spec 'device'"),
        ({"task": TASK, 3: 1}, "unknown field of a run spec 3"),
        ({}, "a run spec needs a task"),
        ({"seed": 1}, "a run spec needs a task"),
        ([], r"a run spec must be a table of fields, got \[\]"),
        (None, "a run spec must be a table of fields, got None"),
        ("busi", "a run spec must be a table of fields, got 'busi'"),
        ({"task": TASK, "strategy": "l2_sp", "source": "busi"}, "a run spec must be a table of fields, got 'busi'"),
        ({"task": TASK, "strategy": "l2_sp", "source": {"task": TASK, "sed": 1}}, "unknown field .* 'sed'"),
        ({"task": TASK, "strategy": "l2_sp", "source": {}}, "a run spec needs a task"),
        ({"task": TASK, "seed": "1"}, "seed must be a whole number of at least 0, got '1'"),
    ],
)
def test_a_dictionary_is_read_strictly(values: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        spec_from_dict(values)
