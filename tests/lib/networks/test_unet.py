"""The U-Net has named stages in order, takes any size, and loads weights from elsewhere only where they fit."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch
from torch import nn

from lib.common.errors import StudyError
from lib.networks.loading import load_weights, loading_table
from lib.networks.stages import check_stages, parameters_by_stage, stage_of
from lib.networks.unet import NORMS, UNet, build, pad_to_multiple


def small(**changes) -> UNet:
    return build(**{"width": 2, "depth": 2, "norm": "group", "seed": 0, **changes})


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


# ---- shape ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_stages_come_in_order_along_the_data_path(depth: int) -> None:
    encoder = [f"enc{level}" for level in range(depth + 1)]
    decoder = [f"dec{level}" for level in reversed(range(depth))]
    model = small(depth=depth, width=1)
    assert model.stages == [*encoder, *decoder, "head"]
    called: list[str] = []
    for name, module in model.named_children():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    model(torch.rand(2, 1, 8, 8))
    assert called == model.stages


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [(1, 9), (9, 1), (3, 17), (8, 8), (13, 31)])
def test_any_size_comes_back_at_that_size(norm: str, size: tuple[int, int]) -> None:
    logits = small(norm=norm)(torch.rand(2, 1, *size))
    assert logits.shape == (2, 1, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
def test_a_single_pixel_goes_through(norm: str) -> None:
    assert small(norm=norm)(torch.rand(2, 1, 1, 1)).shape == (2, 1, 1, 1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [(1, 2, 9), (5, 4, 3), (8, 8, 8)])
def test_volumes_of_any_size_go_through(norm: str, size: tuple[int, int, int]) -> None:
    assert small(norm=norm, dim=3)(torch.rand(2, 1, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize("width", [1, 3, 5, 6, 8, 12])
def test_any_width_can_be_normalized_in_groups(width: int) -> None:
    assert small(width=width)(torch.rand(1, 1, 16, 16)).shape == (1, 1, 16, 16)


def test_powers_of_two_are_normalized_in_at_most_eight_groups() -> None:
    model = small(width=4, depth=3)
    assert [getattr(model, f"enc{level}").norm1.num_groups for level in range(4)] == [4, 8, 8, 8]


def test_several_channels_in_and_out() -> None:
    assert UNet(inputs=3, outputs=5, width=2, depth=1)(torch.rand(2, 3, 6, 6)).shape == (2, 5, 6, 6)


def test_padding_repeats_the_edge_at_the_far_end_only() -> None:
    x = torch.arange(15.0).view(1, 1, 3, 5)
    padded = pad_to_multiple(x, [4] * (x.dim() - 2))
    assert padded.shape == (1, 1, 4, 8)
    assert torch.equal(padded[..., :3, :5], x)
    assert torch.equal(padded[..., 3, :5], x[..., 2, :])
    assert torch.equal(padded[..., :3, 5:], x[..., 4:].expand(-1, -1, -1, 3))
    assert pad_to_multiple(padded, [4] * (x.dim() - 2)) is padded


@pytest.mark.parametrize(("size", "inside"), [((8, 12), (8, 12)), ((6, 9), (8, 12)), ((1, 4), (4, 4))])
def test_images_are_padded_to_the_next_multiple_and_no_further(size: tuple[int, int], inside: tuple[int, int]) -> None:
    model, x = small(norm="batch").eval(), torch.rand(1, 1, *size)
    seen: list[torch.Size] = []
    model.head.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[2:]))
    padded = nn.functional.pad(x, (0, inside[1] - size[1], 0, inside[0] - size[0]), mode="replicate")
    assert torch.equal(model(x), model(padded)[..., : size[0], : size[1]])
    assert seen == [inside, inside]


@pytest.mark.parametrize("wrong", [{"dim": 1}, {"dim": 4}, {"width": 0}, {"depth": 0}, {"inputs": 0}, {"outputs": -1}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(StudyError, match=f"a UNet needs dim 2 or 3 and at least 1 .*{name}={value}"):
        UNet(**wrong)


def test_an_unknown_normalization_is_answered_with_the_nearest() -> None:
    with pytest.raises(StudyError, match="unknown normalization 'gruop'; did you mean 'group'"):
        UNet(norm="gruop")


# ---- memory formats, precision, copies --------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_channels_last_changes_nothing_but_rounding(norm: str) -> None:
    model, x = small(norm=norm, width=4), torch.rand(2, 1, 13, 10)
    plain = model(x)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


def test_bf16_autocast_gives_nearly_the_same_logits() -> None:
    model, x = small(width=8), torch.rand(2, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        fast = model(x)
    assert fast.dtype == torch.bfloat16
    plain = model(x)
    assert (fast.float() - plain).abs().mean() < 0.05 * plain.std()


@pytest.mark.parametrize("dim", [2, 3])
def test_models_can_be_copied_and_pickled(dim: int) -> None:
    model, x = small(dim=dim), torch.rand(1, 1, *[8] * dim)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        nn.init.ones_(twin.head.weight)
        assert not torch.equal(twin.head.weight, model.head.weight)


# ---- initialization ---------------------------------------------------------------------------------------------


def test_weights_are_a_pure_function_of_the_arguments() -> None:
    torch.manual_seed(1)
    first = small(seed=3)
    torch.manual_seed(2)
    assert same(first, small(seed=3))
    assert not same(first, small(seed=4))


@pytest.mark.parametrize("dim", [2, 3])
def test_convolutions_are_drawn_from_hes_law(dim: int) -> None:
    model = small(width=16, dim=dim)
    for name in ("enc1.conv2", "dec1.conv1"):
        layer = model.get_submodule(name)
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
        assert abs(layer.weight.mean().item()) < 0.1 * (2 / fan_in) ** 0.5
        assert not layer.bias.any()


# ---- counting ---------------------------------------------------------------------------------------------------


def test_parameters_are_counted_by_stage() -> None:
    model = small(width=2, depth=1)
    model.enc0.requires_grad_(False)
    counts = parameters_by_stage(model)
    assert list(counts) == model.stages
    # two 3x3 convolutions with biases and two pairs of normalization weights; a 2x2 upsampling; a 1x1 head
    assert counts["enc0"] == {"parameters": (9 * 1 * 2 + 2) + (9 * 2 * 2 + 2) + 2 * 4, "trainable": 0}
    assert counts["enc1"]["trainable"] == (9 * 2 * 4 + 4) + (9 * 4 * 4 + 4) + 2 * 8
    assert counts["dec0"]["parameters"] == (4 * 4 * 2 + 2) + (9 * 4 * 2 + 2) + (9 * 2 * 2 + 2) + 2 * 4
    assert counts["head"] == {"parameters": 3, "trainable": 3}
    assert sum(row["parameters"] for row in counts.values()) == sum(each.numel() for each in model.parameters())


def test_the_stage_of_a_name_is_its_first_part() -> None:
    assert [stage_of(each) for each in ("enc0.conv1.weight", "head.bias", "head")] == ["enc0", "head", "head"]


def test_stages_are_checked_by_name() -> None:
    model = small()
    assert check_stages(model, ("head", "enc0")) == ["head", "enc0"]
    with pytest.raises(StudyError, match="unknown stage 'enc9'; did you mean 'enc"):
        check_stages(model, ["enc0", "enc9"])


@pytest.mark.parametrize("wrong", [None, [], "head"])
def test_stages_must_be_a_list_with_something_in_it(wrong) -> None:
    with pytest.raises(StudyError, match=r"stages must be a list with at least one of enc0, .*head, got"):
        check_stages(small(), wrong)


# ---- weights from elsewhere -------------------------------------------------------------------------------------


def test_weights_of_an_equal_model_load_whole_and_are_copied() -> None:
    model, source = small(norm="batch", seed=0), small(norm="batch", seed=1)
    rows = load_weights(model, source.state_dict())
    assert {row.status for row in rows} == {"loaded"}
    assert [row.name for row in rows] == list(source.state_dict())
    assert same(model, source)
    nn.init.zeros_(source.head.weight)
    assert model.head.weight.any()


def planted_misfits() -> dict[str, torch.Tensor]:
    weights = dict(small(seed=1).state_dict())
    del weights["enc0.conv1.bias"]
    weights["head.weight"] = torch.zeros(3, 2, 1, 1)
    weights["classifier.weight"] = torch.zeros(7)
    return weights


def test_by_default_nothing_loads_unless_everything_fits() -> None:
    model = small()
    with pytest.raises(StudyError, match="the weights do not fit the model") as caught:
        load_weights(model, planted_misfits())
    assert same(model, small())
    message = str(caught.value)
    assert "allow_partial=True" in message
    assert all(name in message for name in ("enc0.conv1.bias", "head.weight", "classifier.weight"))
    assert "(1, 2, 1, 1)" in message
    assert "(3, 2, 1, 1)" in message


def test_on_demand_what_fits_is_loaded_and_every_tensor_accounted_for() -> None:
    model, weights = small(), planted_misfits()
    rows = {row.name: row for row in load_weights(model, weights, allow_partial=True)}
    assert set(rows) == set(model.state_dict()) | set(weights)
    assert (rows["enc0.conv1.bias"].status, rows["enc0.conv1.bias"].file_shape) == ("missing", None)
    assert (rows["classifier.weight"].status, rows["classifier.weight"].model_shape) == ("unexpected", None)
    assert rows["head.weight"].status == "mismatched"
    assert (rows["head.weight"].model_shape, rows["head.weight"].file_shape) == ((1, 2, 1, 1), (3, 2, 1, 1))
    loaded = {name for name, row in rows.items() if row.status == "loaded"}
    assert loaded == set(model.state_dict()) - {"enc0.conv1.bias", "head.weight"}
    fresh = small().state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name] if name in loaded else fresh[name])


def test_the_table_lists_what_was_not_loaded_and_counts_the_rest() -> None:
    rows = load_weights(small(), planted_misfits(), allow_partial=True)
    lines = loading_table(rows).splitlines()
    assert len(lines) == 1 + 3 + 1
    total = len(small().state_dict())
    assert set(lines[-1].split(", ")) == {f"{total - 2} loaded", "1 missing", "1 mismatched", "1 unexpected"}


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize("foreign", [{}, {"module.enc0.conv1.weight": torch.zeros(2, 1, 3, 3)}])
def test_weights_of_which_nothing_fits_are_refused(foreign: dict[str, torch.Tensor], allow_partial: bool) -> None:
    with pytest.raises(StudyError, match=r"do not fit the model \(0 of \d+ tensors, 0% of its numbers\)"):
        load_weights(small(), foreign, allow_partial=allow_partial)


def test_weights_of_another_width_name_both_shapes() -> None:
    with pytest.raises(StudyError, match=r"enc0.conv1.weight +mismatched +\(2, 1, 3, 3\) +\(4, 1, 3, 3\)"):
        load_weights(small(), small(width=4).state_dict())


def test_half_precision_weights_load_into_full_precision() -> None:
    model = small()
    load_weights(model, {name: value.half() for name, value in small(seed=1).state_dict().items()})
    assert model.head.weight.dtype == torch.float32
    torch.testing.assert_close(model.head.weight, small(seed=1).head.weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.net."])
def test_the_prefix_of_a_wrapped_network_is_named(prefix: str):
    wrapped = {prefix + name: value for name, value in small().state_dict().items()}
    with pytest.raises(StudyError, match=re.escape(f"all names begin with {prefix!r}: give {{name.removeprefix")):
        load_weights(small(), wrapped)


def test_a_network_of_which_little_fits_is_refused_even_in_part():
    weights = {name: value for name, value in small().state_dict().items() if value.ndim < 2}
    with pytest.raises(StudyError, match=r"do not fit the model \(.* tensors, \d+% of its numbers\)\n"):
        load_weights(small(), weights, allow_partial=True)
