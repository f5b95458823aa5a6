"""Factors start as the identity, act on the channel they are named for, and can be folded into the weights."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.common.seeding import generator
from lib.networks.unet import build
from lib.strategies.adapters import GRANULARITIES, add_low_rank, add_scale_shift, merged, without_factors

GEOMETRY = {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}
LAYERS = {
    "conv2": (lambda: nn.Conv2d(2, 3, **GEOMETRY), 2),
    "conv2_reflecting": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), 2),
    "conv3": (lambda: nn.Conv3d(2, 3, **GEOMETRY), 3),
    "transposed2": (lambda: nn.ConvTranspose2d(2, 3, 2, stride=2), 2),
    "transposed2_odd": (lambda: nn.ConvTranspose2d(2, 3, output_padding=1, **GEOMETRY), 2),
    "transposed3": (lambda: nn.ConvTranspose3d(2, 3, 2, stride=2), 3),
    "transposed3_odd": (lambda: nn.ConvTranspose3d(2, 3, output_padding=1, **GEOMETRY), 3),
    "single_channel": (lambda: nn.Conv2d(1, 1, 1), 2),
}


def layer_and_input(kind: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """An unchanged layer, a sequence that holds a copy of it to be adapted, and an input."""
    make, dim = LAYERS[kind]
    torch.manual_seed(0)
    plain = make()
    return plain, nn.Sequential(copy.deepcopy(plain)), torch.randn(2, plain.in_channels, *[6] * dim)


def adapt(model: nn.Module, how: str) -> list[str]:
    return add_low_rank(model, 2, generator(0)) if how == "low_rank" else add_scale_shift(model, how)


def stir(model: nn.Module, names: list[str]) -> None:
    """Move the factors away from the identity."""
    torch.manual_seed(1)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name in names:
            own[name].add_(torch.randn_like(own[name]))


WAYS = [*GRANULARITIES, "low_rank"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", LAYERS)
def test_factors_start_as_the_identity_for_every_kind_and_geometry(kind: str, how: str) -> None:
    plain, model, x = layer_and_input(kind)
    names = adapt(model, how)
    assert torch.equal(model(x), plain(x))
    stir(model, names)
    assert not torch.allclose(model(x), plain(x))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", LAYERS)
def test_names_are_added_and_none_is_changed(kind: str, how: str) -> None:
    plain, model, _ = layer_and_input(kind)
    names = adapt(model, how)
    assert len(set(names)) == len(names) == 2
    assert set(dict(model.named_parameters())) == {"0.weight", "0.bias", *names}
    assert torch.equal(model[0].weight, plain.weight)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_scale_of_a_channel_scales_that_output_channel_and_no_other(kind: str) -> None:
    plain, model, x = layer_and_input(kind)
    nn.init.zeros_(plain.bias)
    nn.init.zeros_(model[0].bias)
    add_scale_shift(model, "channel")
    assert model[0].scale.numel() == plain.out_channels
    with torch.no_grad():
        model[0].scale.view(-1)[plain.out_channels - 1] = 3.0
    expected = plain(x)
    expected[:, -1] *= 3
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_scale_of_a_kernel_scales_what_one_input_channel_gives_to_one_output_channel(kind: str) -> None:
    plain, model, x = layer_and_input(kind)
    add_scale_shift(model, "kernel")
    assert model[0].scale.numel() == plain.in_channels * plain.out_channels
    source, sink = plain.in_channels - 1, plain.out_channels - 1
    place = (source, sink) if "transposed" in kind else (sink, source)
    with torch.no_grad():
        model[0].scale[place] = 3.0
    alone = torch.zeros_like(x)
    alone[:, source] = x[:, source]
    expected = plain(x)
    expected[:, sink] += 2 * (plain(alone) - plain(torch.zeros_like(x)))[:, sink]
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_scale_of_a_layer_scales_all_of_it_but_the_bias(kind: str) -> None:
    plain, model, x = layer_and_input(kind)
    add_scale_shift(model, "layer")
    assert (model[0].scale.numel(), model[0].shift.numel()) == (1, 1)
    nn.init.constant_(model[0].scale, 3.0)
    bias = plain.bias.view(1, -1, *[1] * (x.dim() - 2))
    torch.testing.assert_close(model(x), 3 * (plain(x) - bias) + bias)


@pytest.mark.parametrize("granularity", ["kernel", "channel"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_shift_moves_its_output_channel(kind: str, granularity: str) -> None:
    plain, model, x = layer_and_input(kind)
    add_scale_shift(model, granularity)
    shift = torch.arange(1.0, plain.out_channels + 1)
    with torch.no_grad():
        model[0].shift.copy_(shift)
    torch.testing.assert_close(model(x), plain(x) + shift.view(1, -1, *[1] * (x.dim() - 2)))


def test_a_low_rank_update_has_that_rank() -> None:
    model = nn.Sequential(nn.Conv2d(8, 16, 3))
    names = add_low_rank(model, 3, generator(0))
    stir(model, names)
    change = (model[0].effective()[0] - model[0].weight).detach().flatten(1)
    assert int(torch.linalg.matrix_rank(change, rtol=1e-4)) == 3
    assert sum(dict(model.named_parameters())[name].numel() for name in names) == 3 * (16 + 8 * 9)


def test_a_rank_larger_than_the_matrix_becomes_the_largest_there_is() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(1, 5, 1))
    add_low_rank(model, 1000, generator(0))
    assert model[0].low_b.shape == (3, 3)
    assert model[1].low_b.shape == (5, 1)
    assert model[1].low_a.shape == (1, 1)


def test_low_rank_starts_are_a_pure_function_of_the_generator() -> None:
    starts = []
    for seed in (0, 0, 1):
        model = nn.Sequential(nn.Conv2d(2, 3, 3))
        add_low_rank(model, 2, generator(seed))
        starts.append(model[0].low_a)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert starts[0].any()


@pytest.mark.parametrize("rank", [0, -1, 1.0, "2", True, None])
def test_a_rank_that_is_no_positive_whole_number_is_refused(rank) -> None:
    with pytest.raises(StudyError, match="rank must be a whole number of at least 1, got"):
        add_low_rank(nn.Sequential(nn.Conv2d(1, 1, 1)), rank, generator(0))


@pytest.mark.parametrize("granularity", ["kernal", None, 1, ["kernel"]])
def test_an_unknown_granularity_is_refused(granularity) -> None:
    with pytest.raises(StudyError, match=r"unknown granularity .*Known: channel, kernel, layer"):
        add_scale_shift(nn.Sequential(nn.Conv2d(1, 1, 1)), granularity)


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
def test_factors_are_not_added_twice(first: str, second: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3))
    names = adapt(model, first)
    stir(model, names)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(StudyError, match="layer '0' has factors already; add them to a network without"):
        adapt(model, second)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


class Standardized(nn.Conv2d):
    """A convolution that treats its weight in its own way."""


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.ConvTranspose2d(2, 2, 3, groups=2), "grouped ConvTranspose2d"),
        (Standardized(2, 2, 3), "Standardized"),
        (nn.Conv1d(2, 2, 3), "Conv1d"),
    ],
)
def test_layers_that_cannot_take_factors_are_named(layer: nn.Module, kind: str, how: str) -> None:
    with pytest.raises(StudyError, match=f"layer '0': there are no factors for a {kind}; choose another strategy"):
        adapt(nn.Sequential(layer), how)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("options", [{"groups": 2}, {"bias": False}, {"bias": False, "groups": 2}])
def test_grouped_layers_and_layers_without_bias_take_factors_that_can_be_merged(how: str, options: dict) -> None:
    torch.manual_seed(0)
    plain, x = nn.Sequential(nn.Conv2d(2, 4, 3, **options)), torch.randn(2, 2, 6, 6)
    model = copy.deepcopy(plain)
    names = adapt(model, how)
    assert torch.equal(model(x), plain(x))
    assert ("0.shift" in names) == (how != "low_rank" and "bias" not in options)
    stir(model, names)
    whole = merged(model.state_dict())
    assert whole.keys() == plain.state_dict().keys()
    plain.load_state_dict(whole)
    torch.testing.assert_close(plain(x), model(x))


@pytest.mark.parametrize("how", WAYS)
def test_only_convolutions_get_factors(how: str) -> None:
    model = build(width=2, depth=1, norm="batch", seed=0)
    names = adapt(model, how)
    layers = {name.rpartition(".")[0] for name in names}
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    assert layers == {name for name, module in model.named_modules() if isinstance(module, kinds)}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_reach_all_factors_and_weights(kind: str, how: str) -> None:
    _, model, x = layer_and_input(kind)
    stir(model, adapt(model, how))
    model(x).square().sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.all()] == []


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("dim", [2, 3])
def test_adapted_models_can_be_copied_and_pickled(how: str, dim: int) -> None:
    model = build(width=2, depth=1, norm="group", seed=0, dim=dim)
    names = adapt(model, how)
    stir(model, names)
    x = torch.rand(1, 1, *[5] * dim)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        stir(twin, names)
        assert not torch.equal(twin(x), model(x))


@pytest.mark.parametrize("how", WAYS)
def test_adapted_models_work_with_channels_last_and_bf16(how: str) -> None:
    model, x = build(width=4, depth=1, norm="group", seed=0), torch.rand(2, 1, 9, 7)
    stir(model, adapt(model, how))
    plain = model(x)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), plain, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        fast = model(x)
    assert fast.dtype == torch.bfloat16
    assert (fast.float() - plain).abs().mean() < 0.1 * plain.std()


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("dim", [2, 3])
def test_merged_weights_compute_the_same_without_factors(how: str, dim: int) -> None:
    model = build(width=2, depth=1, norm="batch", seed=0, dim=dim)
    stir(model, adapt(model, how))
    plain = build(width=2, depth=1, norm="batch", seed=1, dim=dim)
    plain.load_state_dict(merged(model.state_dict()))
    x = torch.rand(2, 1, *[6] * dim)
    torch.testing.assert_close(plain.eval()(x), model.eval()(x))


def test_merging_leaves_weights_without_factors_and_the_given_ones_alone() -> None:
    plain = build(width=2, depth=1, norm="batch", seed=0).state_dict()
    again = merged(plain)
    assert again.keys() == plain.keys()
    assert all(again[name] is plain[name] for name in plain)
    model = nn.Sequential(nn.Conv2d(2, 3, 3))
    stir(model, add_scale_shift(model, "kernel"))
    before = model[0].weight.clone()
    merged(model.state_dict())
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("how", WAYS)
def test_factors_alone_and_the_network_without_them_make_up_the_whole(how: str) -> None:
    source = build(width=2, depth=1, norm="batch", seed=0)
    before = {name: value.clone() for name, value in source.state_dict().items()}
    model = copy.deepcopy(source)
    names = adapt(model, how)
    stir(model, names)
    weights = model.state_dict()
    rest = without_factors(weights)
    assert weights.keys() - rest.keys() == set(names)
    assert rest.keys() == before.keys()
    assert all(torch.equal(rest[name], value) for name, value in before.items())
    x = torch.randn(2, 1, 8, 8)
    plain = build(width=2, depth=1, norm="batch", seed=1)
    plain.load_state_dict(rest)
    assert not torch.equal(model.eval()(x), source.eval()(x))
    assert torch.equal(plain.eval()(x), source(x)), "switched off, the source is back bit for bit"
