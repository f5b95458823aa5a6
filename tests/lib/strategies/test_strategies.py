"""One contract over the registry: a strategy changes exactly what it marks, and starts from where it says.

Every row of the registry, with every normalization that could drift, is trained for two steps; a strategy that is
added later is held to the same contract without a line here (unless its options have no usable defaults).
"""

from __future__ import annotations

import copy
import functools
import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from contract import differing, marked, snapshot, two_steps
from torch import Tensor
from torch.nn import functional as F

from lib.common.errors import StudyError
from lib.common.seeding import generator
from lib.networks.gabor import gabor_atoms
from lib.networks.initial_weights import LAWS
from lib.networks.stages import layer_groups, moving_in_part, parameters_by_stage, stage_of
from lib.networks.unet import UNet, build
from lib.strategies.adapters import FACTORS
from lib.strategies.frozen_normalization import set_training_mode
from lib.strategies.strategy import (
    STATISTICS,
    STRATEGIES,
    Strategy,
    check_options,
    freeze,
    load_start,
    trainable,
    training_masks,
)

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in STRATEGIES if name != "transplant"),
    ("transplant", {"stages": ["enc0", "enc1"]}),
    ("transplant", {"stages": ["head"]}),
    ("scale_shift", {"granularity": "channel", "norm": "affine"}),
    ("scale_shift", {"granularity": "layer", "norm": "statistics"}),
    ("low_rank", {"rank": 1}),
    ("low_rank", {"rank": 10_000}),
    ("layer_subset", {"order": "level", "side": "deep", "count": 1}),
    ("layer_subset", {"order": "level", "side": "shallow", "count": 2}),
    ("layer_subset", {"side": "deep", "count": 2}),
    ("layer_subset", {"stages": ["enc2", "dec0"]}),
    ("layer_subset", {"side": "deep", "count": 3, "parameters": 23}),
    ("layer_subset", {"order": "level", "parameters": 9}),
    ("l2_sp", {"alpha": 1}),
    ("frozen_random_encoder", {"calibrate": False}),
    ("frozen_drawn_encoder", {"law": "gabor"}),
    ("frozen_drawn_encoder", {"law": "image"}),
    ("without_skips", {"encoder": "trained"}),
]
NAMES = [f"{name}-{json.dumps(options)}" if options else name for name, options in CASES]
every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
both_norms = pytest.mark.parametrize("norm", ["batch", "group"])


def network(seed: int, norm: str, **changes: Any) -> UNet:
    """A network whose statistics and biases are not those of a fresh one, so that a mix-up shows."""
    model = build(**{"width": 4, "depth": 2, "norm": norm, "seed": seed, **changes})
    draw = generator(seed, 77)
    for value in model.state_dict().values():
        if value.is_floating_point() and value.dim() == 1:
            value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
        elif not value.is_floating_point():
            value.fill_(seed + 1)
    return model


def started(name: str, options: Mapping[str, Any], norm: str, **changes: Any) -> tuple[UNet, UNet, UNet]:
    """The source, the fresh network, and that network made ready by the strategy."""
    source, fresh = network(1, norm, **changes), network(2, norm, **changes)
    model = copy.deepcopy(fresh)
    load_start(model, name, options, source.state_dict() if STRATEGIES[name].needs_source else None)
    freeze(model, name, options, generator(0))
    return source, fresh, model


def batch(dim: int = 2) -> Tensor:
    return torch.rand(4, 1, *[16 if dim == 2 else 8] * dim, generator=generator(5))


# ---- the contract -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """A strategy at step 0 and after two steps, beside its source and the network it was made from."""

    source: UNet
    fresh: UNet
    first: UNet
    last: UNet

    def changed(self) -> set[str]:
        return differing(self.first.state_dict(), self.last)


@functools.lru_cache
def history(name: str, options: str, norm: str) -> History:
    source, fresh, first = started(name, json.loads(options), norm)
    last = copy.deepcopy(first)
    two_steps(last, batch())
    return History(source, fresh, first, last)


@both_norms
@every_case
def test_exactly_what_is_marked_changes(name: str, options: dict[str, Any], norm: str) -> None:
    run = history(name, json.dumps(options), norm)
    assert run.changed() == marked(run.first) == marked(run.last)
    assert all(value.isfinite().all() for value in run.last.state_dict().values())


@every_case
def test_nothing_else_changes_in_volumes_and_at_width_1(name: str, options: dict[str, Any]) -> None:
    _, _, model = started(name, options, "batch", dim=3, width=1)
    before = snapshot(model)
    two_steps(model, batch(dim=3))
    assert differing(before, model) <= marked(model)


@every_case
def test_no_tensor_is_renamed_or_reordered_and_only_factors_are_added(name: str, options: dict[str, Any]) -> None:
    run = history(name, json.dumps(options), "batch")
    old, new = run.fresh.state_dict(), run.first.state_dict()
    assert [key for key in new if key in old] == list(old)
    for key in new.keys() - old.keys():
        layer, _, factor = key.rpartition(".")
        assert factor in FACTORS
        assert f"{layer}.weight" in old


@every_case
def test_every_tensor_starts_where_the_strategy_says(name: str, options: dict[str, Any]) -> None:
    run = history(name, json.dumps(options), "batch")
    ours, theirs, new = (each.state_dict() for each in (run.first, run.source, run.fresh))
    for key in new:
        from_source = {
            "source": True,
            "random": False,
            "drawn": False,
            "encoder": key.startswith("enc"),
            "stages": stage_of(key) in options.get("stages", ()),
        }[STRATEGIES[name].start]
        drawn = STRATEGIES[name].start == "drawn" and key.startswith("enc") and new[key].dim() > 1
        assert torch.equal(ours[key], theirs[key] if from_source else new[key]) != drawn, key


@both_norms
@every_case
def test_the_output_at_step_0_is_that_of_the_plain_network(name: str, options: dict[str, Any], norm: str) -> None:
    run = history(name, json.dumps(options), norm)
    before = snapshot(run.first)
    with torch.no_grad():
        ours, theirs, new = (each.eval()(batch()) for each in (run.first, run.source, run.fresh))
    start = STRATEGIES[name].start
    assert torch.equal(ours, theirs) == (start == "source")
    assert torch.equal(ours, new) == (start == "random" and run.first.skips)
    assert not differing(before, run.first)  # looking is free


@every_case
def test_the_trainable_count_is_that_of_parameters_that_change(name: str, options: dict[str, Any]) -> None:
    run = history(name, json.dumps(options), "batch")
    parameters, part = dict(run.first.named_parameters()), moving_in_part(run.first)
    changed = run.changed() & set(parameters)
    sizes = [int(part[key].sum()) if key in part else parameters[key].numel() for key in changed]
    assert trainable(run.first) == sum(sizes) > 0
    assert sum(row["trainable"] for row in parameters_by_stage(run.first).values()) == trainable(run.first)


@both_norms
@every_case
def test_of_a_tensor_that_moves_in_part_only_that_part_does(name: str, options: dict[str, Any], norm: str) -> None:
    run = history(name, json.dumps(options), norm)
    before, after, part = run.first.state_dict(), run.last.state_dict(), moving_in_part(run.first)
    assert bool(part) == ("parameters" in options)
    for key, mask in part.items():
        assert torch.equal(before[key] != after[key], mask), key


@every_case
def test_options_survive_json(name: str, options: dict[str, Any]) -> None:
    whole = check_options(name, options)
    again = json.loads(json.dumps(whole, allow_nan=False))
    assert again == whole
    assert check_options(name, again) == whole
    first, (_, _, second) = history(name, json.dumps(options), "batch").first, started(name, again, "batch")
    assert marked(first) == marked(second)
    assert not differing(first.state_dict(), second)


@every_case
def test_a_model_made_ready_can_be_copied_pickled_and_trained_on(name: str, options: dict[str, Any]) -> None:
    run = history(name, json.dumps(options), "batch")
    twin = pickle.loads(pickle.dumps(copy.deepcopy(run.first)))
    assert marked(twin) == marked(run.first)
    two_steps(twin, batch())
    assert not differing(run.last.state_dict(), twin)


@every_case
def test_bf16_and_channels_last_keep_the_contract(name: str, options: dict[str, Any]) -> None:
    _, _, model = started(name, options, "batch")
    model.to(memory_format=torch.channels_last)
    before = snapshot(model)
    with torch.autocast("cpu", torch.bfloat16):
        two_steps(model, batch().to(memory_format=torch.channels_last))
    changed = differing(before, model)
    assert changed <= marked(model)
    assert changed & set(dict(model.named_parameters()))


@every_case
def test_a_strategy_does_not_change_its_source(name: str, options: dict[str, Any]) -> None:
    """Neither while it is set up nor while it is trained: no tensor is shared."""
    assert not differing(network(1, "batch").state_dict(), history(name, json.dumps(options), "batch").source)


# ---- what each row trains, counted by hand ----------------------------------------------------------------------


def shapes() -> dict[str, torch.Size]:
    return {key: each.shape for key, each in network(0, "batch").named_parameters()}


def counted(*stages: str) -> int:
    return sum(math.prod(shape) for key, shape in shapes().items() if stage_of(key) in stages)


ENCODER, DECODER = ("enc0", "enc1", "enc2"), ("dec1", "dec0")
KERNELS = [shape for shape in shapes().values() if len(shape) == 4]
BIASES = sum(shape[0] for key, shape in shapes().items() if key.endswith(".bias"))
NORMS = sum(math.prod(shape) for key, shape in shapes().items() if ".norm" in key)
SHIFTS = sum(shape[0] for key, shape in shapes().items() if key.endswith(".bias") and ".norm" not in key)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("scratch", {}, counted(*ENCODER, *DECODER, "head")),
        ("full_finetuning", {}, counted(*ENCODER, *DECODER, "head")),
        ("l2_sp", {}, counted(*ENCODER, *DECODER, "head")),
        ("transplant", {"stages": ["enc0"]}, counted(*ENCODER, *DECODER, "head")),
        ("encoder_only", {}, counted(*ENCODER)),
        ("decoder_only", {}, counted(*DECODER, "head")),
        ("frozen_random_encoder", {}, counted(*DECODER, "head")),
        ("frozen_source_encoder", {}, counted(*DECODER, "head")),
        ("frozen_drawn_encoder", {}, counted(*DECODER, "head")),
        ("without_skips", {}, counted(*DECODER, "head")),
        ("without_skips", {"encoder": "trained"}, counted(*ENCODER, *DECODER, "head")),
        ("frozen_random_decoder", {}, counted(*ENCODER, "head")),
        ("shuffled_labels", {}, counted(*ENCODER, *DECODER, "head")),
        ("head_only", {}, 4 + 1),
        ("layer_subset", {}, counted("enc0")),
        ("layer_subset", {"side": "deep", "count": 2}, counted("dec0", "head")),
        ("layer_subset", {"order": "level", "count": 1}, counted("enc0", "dec0", "head")),
        ("layer_subset", {"order": "level", "side": "deep", "count": 1}, counted("enc2")),
        ("layer_subset", {"side": "deep", "count": 3, "parameters": 23}, 23),
        ("layer_subset", {"parameters": counted("enc0")}, counted("enc0")),
        ("norm_only", {}, NORMS),
        ("bias_only", {}, BIASES),
        ("scale_shift", {}, sum(a * b for a, b, *_ in KERNELS) + SHIFTS),
        ("scale_shift", {"norm": "affine"}, sum(a * b for a, b, *_ in KERNELS) + SHIFTS + NORMS),
        ("scale_shift", {"granularity": "channel"}, 2 * SHIFTS),
        ("scale_shift", {"granularity": "layer"}, 2 * len(KERNELS)),
        ("low_rank", {"rank": 1}, sum(a + b * c * d for a, b, c, d in KERNELS)),
    ],
)
def test_the_number_of_trainable_parameters(name: str, options: dict[str, Any], expected: int) -> None:
    assert trainable(started(name, options, "batch")[2]) == expected


@pytest.mark.parametrize(
    ("name", "options", "moves"),
    [
        ("scratch", {}, True),
        ("full_finetuning", {}, True),
        ("norm_only", {}, True),
        ("scale_shift", {"norm": "statistics"}, True),
        ("scale_shift", {"norm": "affine"}, False),
        ("scale_shift", {}, False),
        ("low_rank", {}, False),
        ("bias_only", {}, False),
        ("head_only", {}, False),
    ],
)
def test_statistics_move_only_where_the_strategy_says(name: str, options: dict[str, Any], moves: bool) -> None:
    _, _, model = started(name, options, "batch")
    before = snapshot(model)
    two_steps(model, batch())
    statistics = [key for key in before if key.rpartition(".")[2] in STATISTICS]
    assert statistics
    assert differing(before, model).intersection(statistics) == (set(statistics) if moves else set())


def test_frozen_statistics_are_used_and_not_those_of_the_batch() -> None:
    _, _, model = started("head_only", {}, "batch")
    x = batch()
    model.eval()
    expected = model(x)
    set_training_mode(model)
    assert torch.equal(model(x), expected)


def test_the_two_orderings_of_layers() -> None:
    model = network(0, "group")
    assert layer_groups(model, "path") == [["enc0"], ["enc1"], ["enc2"], ["dec1"], ["dec0"], ["head"]]
    assert layer_groups(model, "level") == [["enc0", "dec0", "head"], ["enc1", "dec1"], ["enc2"]]
    with pytest.raises(StudyError, match="unknown order 'levels'; did you mean 'level'"):
        layer_groups(model, "levels")


def test_channels_are_chosen_by_the_seed_and_taken_whole_but_for_one() -> None:
    chosen = []
    for seed in (0, 0, 1):
        model = network(0, "batch")
        freeze(model, "layer_subset", {"stages": ["enc1", "dec0"], "parameters": 400}, generator(seed))
        chosen.append(moving_in_part(model))
        in_part = 0
        for name, mask in chosen[-1].items():
            if name.endswith("weight") and mask.dim() > 1:
                by_channel = (mask.transpose(0, 1) if ".up." in name else mask).flatten(1).float().mean(1)
                in_part += int(((by_channel > 0) & (by_channel < 1)).sum())
        assert in_part <= 1
    assert all(torch.equal(chosen[0][name], chosen[1][name]) for name in chosen[0])
    assert not all(torch.equal(chosen[0][name], chosen[2][name]) for name in chosen[0])


def test_a_frozen_prefix_is_not_back_propagated() -> None:
    """What comes before the first stage that trains needs no gradient; a stage behind it passes one through."""
    _, _, model = started("layer_subset", {"stages": ["dec0", "head"]}, "batch")
    outputs: dict[str, Tensor] = {}
    for name, stage in model.named_children():
        stage.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
    set_training_mode(model)
    model(batch())
    assert [name for name, output in outputs.items() if output.requires_grad] == ["dec0", "head"]
    _, _, model = started("layer_subset", {"stages": ["enc0"]}, "batch")
    assert model(batch()).requires_grad


def test_strategies_of_one_seed_share_their_random_start() -> None:
    first, second = (started(name, {}, "group")[2].state_dict() for name in ("scratch", "frozen_random_encoder"))
    assert all(torch.equal(first[key], second[key]) for key in first)


# ---- controls ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("shape", [(6, 1, 3, 3), (6, 4, 3, 3), (4, 2, 3, 3, 3), (1, 1, 3, 3)])
def test_a_law_gives_finite_weights_that_the_draw_decides(law: str, shape: tuple[int, ...]) -> None:
    first, second, other = (LAWS[law](torch.randn(shape, generator=generator(seed))) for seed in (0, 0, 1))
    assert first.shape == shape
    assert first.isfinite().all()
    assert first.any()
    assert torch.equal(first, second)
    assert torch.equal(first, other) == (law == "image")


def test_orthogonal_filters_are_orthonormal_and_gabor_kernels_are_gabor_functions() -> None:
    wide = LAWS["orthogonal"](torch.randn((6, 4, 3, 3), generator=generator(0))).flatten(1)
    torch.testing.assert_close(wide @ wide.T, torch.eye(6), atol=1e-5, rtol=0)
    kernels = LAWS["gabor"](torch.randn((6, 4, 3, 3), generator=generator(0))).flatten(2)
    atoms = torch.from_numpy(gabor_atoms(np.ones((3, 3), dtype=bool)).copy()).float()
    shares = (kernels @ atoms.T).square().amax(2) / kernels.square().sum(2)
    torch.testing.assert_close(shares, torch.ones(6, 4), atol=1e-5, rtol=0)


def test_an_encoder_that_hands_on_the_image_shows_the_decoder_nothing_else() -> None:
    model = build(width=4, depth=2, norm="none", seed=0)
    load_start(model, "frozen_drawn_encoder", {"law": "image"}, None)
    x = torch.randn((2, 1, 16, 16), generator=generator(0))
    with torch.no_grad():
        top = model.enc0(x)
        below = model.enc1(F.max_pool2d(top, 2))
    for features in (top, below):
        assert torch.equal(features[:, 0::2], features[:, :1].expand_as(features[:, 0::2]))
        assert torch.equal(features[:, 1::2], features[:, 1:2].expand_as(features[:, 1::2]))
    restored = top[:, 0] - top[:, 1]
    torch.testing.assert_close(restored / restored.norm(), x[:, 0] / x.norm())


def test_without_skips_the_output_depends_on_the_bottleneck_alone() -> None:
    _, _, model = started("without_skips", {}, "batch")
    model.eval()
    seen = {}
    model.enc2.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    with torch.no_grad():
        for name, x in {"one": batch(), "other": batch().flip(0) ** 2}.items():
            seen[name] = model(x)
    assert torch.equal(seen["one"], seen["other"])
    model.skips = True
    with torch.no_grad():
        assert not torch.equal(model(batch()), model(batch().flip(0) ** 2))


def test_shuffled_labels_are_the_same_masks_at_other_images() -> None:
    index = np.arange(5, 45)
    dealt = training_masks("shuffled_labels", index, 3)
    assert np.array_equal(np.sort(dealt), index)
    assert (dealt != index).sum() > 30
    assert np.array_equal(dealt, training_masks("shuffled_labels", index, 3))
    assert not np.array_equal(dealt, training_masks("shuffled_labels", index, 4))
    assert training_masks("scratch", index, 3) is index


# ---- chains of runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [("full_finetuning", {}), ("scale_shift", {}), ("low_rank", {}), ("frozen_source_encoder", {})],
)
@pytest.mark.parametrize("before", ["scale_shift", "low_rank"])
def test_a_source_with_factors_can_be_transferred_again(before: str, name: str, options: dict[str, Any]) -> None:
    _, _, first = started(before, {}, "batch")
    two_steps(first, batch())
    model = network(3, "batch")
    load_start(model, name, options, first.state_dict())
    freeze(model, name, options, generator(0))
    if STRATEGIES[name].start == "source":
        torch.testing.assert_close(model.eval()(batch()), first.eval()(batch()))
    kept = snapshot(model)
    two_steps(model, batch())
    assert differing(kept, model) == marked(model)


@pytest.mark.parametrize("first", ["scale_shift", "low_rank"])
@pytest.mark.parametrize("options", [{}, {"norm": "affine"}])
def test_factors_on_factors_are_refused(first: str, options: dict[str, str]) -> None:
    _, _, model = started(first, {}, "group")
    with pytest.raises(StudyError, match="has factors already"):
        freeze(model, "scale_shift", options, generator(0))


@every_case
def test_freezing_twice_means_the_same_unless_it_adds_factors(name: str, options: dict[str, Any]) -> None:
    model = copy.deepcopy(history(name, json.dumps(options), "batch").first)
    if name in ("scale_shift", "low_rank"):
        with pytest.raises(StudyError, match="has factors already"):
            freeze(model, name, options, generator(0))
    else:
        once = marked(model)
        freeze(model, name, options, generator(0))
        assert marked(model) == once


# ---- mistakes ---------------------------------------------------------------------------------------------------


def test_an_unknown_strategy_is_answered_with_the_nearest() -> None:
    with pytest.raises(StudyError, match="unknown strategy 'full_fine_tuning'; did you mean 'full_finetuning'"):
        check_options("full_fine_tuning", {})


@pytest.mark.parametrize(
    ("name", "option", "answer"),
    [
        ("scale_shift", "granularty", "did you mean 'granularity'"),
        ("low_rank", "ranks", "did you mean 'rank'"),
        ("layer_subset", "stage", "did you mean 'stages'"),
        ("scratch", "rank", "Known: none"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(name: str, option: str, answer: str) -> None:
    with pytest.raises(StudyError, match=f"unknown option of {name} '{option}'.*{answer}"):
        check_options(name, {option: 1})


@pytest.mark.parametrize("options", [None, [], "rank", 4])
def test_options_must_be_a_table(options) -> None:
    with pytest.raises(StudyError, match="options must be a table of names and values, got"):
        check_options("low_rank", options)


def test_defaults_are_not_shared_between_calls() -> None:
    check_options("low_rank", {})["rank"] = 99
    assert check_options("low_rank", {}) == {"rank": 4}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("scale_shift", {"granularity": "kernels"}, "unknown granularity 'kernels'; did you mean 'kernel'"),
        ("scale_shift", {"norm": "froze"}, "unknown norm policy of scale_shift 'froze'; did you mean 'frozen'"),
        ("scale_shift", {"norm": None}, "unknown norm policy of scale_shift None"),
        ("layer_subset", {"order": "pathh"}, "unknown order 'pathh'; did you mean 'path'"),
        ("layer_subset", {"side": "depe"}, "unknown side 'depe'; did you mean 'deep'"),
        ("layer_subset", {"count": 0}, "count must be between 1 and 6 under order 'path', got 0"),
        ("layer_subset", {"count": 7}, "count must be between 1 and 6"),
        ("layer_subset", {"count": 4, "order": "level"}, "count must be between 1 and 3 under order 'level', got 4"),
        ("layer_subset", {"count": True}, "count must be between .* got True"),
        ("layer_subset", {"count": "2"}, "count must be between .* got '2'"),
        ("layer_subset", {"stages": ["enc00"]}, "unknown stage 'enc00'; did you mean 'enc0'"),
        ("layer_subset", {"stages": "enc0"}, "stages must be a list"),
        ("layer_subset", {"stages": []}, "stages must be a list"),
        ("layer_subset", {"parameters": 0}, "parameters must be .* between 1 and 204, as many as enc0 have, got 0"),
        ("layer_subset", {"parameters": 205}, "between 1 and 204, .* got 205"),
        ("layer_subset", {"parameters": 2.0}, "parameters must be a whole number .* got 2.0"),
        ("transplant", {}, "stages must be a list with at least one of enc0, .*, head, got None"),
        ("transplant", {"stages": ["dec9"]}, "unknown stage 'dec9'"),
        ("low_rank", {"rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ("l2_sp", {"alpha": -1}, "alpha must be a number of at least 0, got -1"),
        ("l2_sp", {"alpha": float("nan")}, "alpha must be a number of at least 0, got nan"),
        ("l2_sp", {"alpha": float("inf")}, "alpha must be a number of at least 0, got inf"),
        ("l2_sp", {"alpha": "0.1"}, "alpha must be a number of at least 0, got '0.1'"),
        ("l2_sp", {"alpha": True}, "alpha must be a number of at least 0, got True"),
        ("frozen_drawn_encoder", {"law": "gabors"}, "unknown law of an encoder 'gabors'; did you mean 'gabor'"),
        ("without_skips", {"encoder": "frozn"}, "unknown encoder of without_skips 'frozn'; did you mean 'frozen'"),
    ],
)
def test_a_wrong_value_of_an_option_is_refused_when_freezing(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        freeze(network(0, "group"), name, options, generator(0))


def test_a_strategy_that_would_train_nothing_is_refused() -> None:
    with pytest.raises(StudyError, match=r"'norm_only' with \{\} marks no parameter of this model: nothing to train"):
        freeze(build(width=2, depth=1, norm="none", seed=0), "norm_only", {}, generator(0))


def test_a_strategy_that_marks_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Strategy("wrong", "random", lambda model, options, draw: {"head.weight", "encoder.weight"})
    monkeypatch.setitem(STRATEGIES, "wrong", wrong)
    with pytest.raises(StudyError, match=r"strategy 'wrong' marks \['encoder.weight'\], which the model does not have"):
        freeze(network(0, "group"), "wrong", {}, generator(0))


def test_a_source_is_demanded_or_refused() -> None:
    model = network(0, "group")
    with pytest.raises(StudyError, match="strategy 'full_finetuning' needs a source run"):
        load_start(model, "full_finetuning", {}, None)
    with pytest.raises(StudyError, match="strategy 'scratch' takes no source"):
        load_start(model, "scratch", {}, model.state_dict())


@pytest.mark.parametrize(("name", "options"), [("full_finetuning", {}), ("frozen_source_encoder", {})])
@pytest.mark.parametrize("changes", [{"width": 2}, {"depth": 1}, {"dim": 3}])
def test_a_source_of_another_shape_is_refused(name: str, options: dict[str, Any], changes: dict[str, int]) -> None:
    source, model = network(1, "group", **changes), network(2, "group")
    before = snapshot(model)
    with pytest.raises(StudyError, match="the weights do not fit the model"):
        load_start(model, name, options, source.state_dict())
    assert not differing(before, model)


def test_a_source_that_lacks_a_tensor_is_refused() -> None:
    weights = dict(network(1, "group").state_dict())
    del weights["enc0.conv1.bias"]
    for name in ("full_finetuning", "frozen_source_encoder"):
        with pytest.raises(StudyError, match=r"enc0.conv1.bias +missing"):
            load_start(network(2, "group"), name, {}, weights)


def test_only_what_was_to_be_loaded_is_reported_as_loaded() -> None:
    rows = load_start(network(2, "group"), "transplant", {"stages": ["head"]}, network(1, "group").state_dict())
    assert [(row.name, row.status) for row in rows] == [("head.weight", "loaded"), ("head.bias", "loaded")]
    assert load_start(network(2, "group"), "scratch", {}, None) == []
