"""Filters, how far they moved, and how they match, against planted answers."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_blobs, spec
from torch import nn

from analysis.filters import other_tensors, scale_factors
from analysis.filters.change import filter_change, filter_change_of_run, filter_change_over_training, random_angle
from analysis.filters.kernels import Geometry, geometry, read_layers
from analysis.filters.matching import _order_of_inputs, matched
from analysis.statistics import random_matrices
from lib.common.errors import StudyError
from lib.networks.unet import UNet, build
from lib.runs.run import Run, open_run
from lib.runs.tensor_files import write_tensors
from lib.strategies.adapters import add_scale_shift, merged


def weights(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Named random tensors; double underscores stand for dots."""
    draw = torch.Generator().manual_seed(0)
    return {f"{name.replace('__', '.')}.weight": torch.randn(*shape, generator=draw) for name, shape in shapes.items()}


def moved(start: dict[str, torch.Tensor], scale: float, seed: int = 1) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {name: value + scale * torch.randn(value.shape, generator=draw) for name, value in start.items()}


def row(table, layer: str):
    found = table[table.layer == layer]
    assert len(found) == 1
    return found.iloc[0]


# What a filter is


class Odd(nn.Module):
    """Every kind of convolution, each with one output channel that alone sees its input."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(4, 6, 3)
        self.plane = nn.Conv2d(4, 6, (3, 5))
        self.grouped = nn.Conv2d(4, 6, 3, groups=2)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.space = nn.Conv3d(4, 6, 3)
        self.rise = nn.ConvTranspose2d(4, 6, 2, stride=2)
        self.rise_grouped = nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.rise_space = nn.ConvTranspose3d(4, 6, 2)
        self.point = nn.Conv2d(4, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.dense = nn.Linear(5, 7)


def test_a_filter_is_all_that_feeds_one_output_channel():
    model = Odd().double()
    layers = read_layers(model.state_dict(), geometry(model))
    assert "norm" not in layers
    checked = 0
    for name, (transposed, groups) in (geometry(model).shapes or {}).items():
        module, layer = getattr(model, name), layers[name]
        assert layer.kernels.shape == (module.out_channels, 4 // groups, *module.kernel_size[: layer.kernels.ndim - 2])
        pointwise = math.prod(module.kernel_size) == 1
        assert layer.kind == ("pointwise" if pointwise else "transposed" if transposed else "convolution")
        # The output channel that loses its filter, and no other, no longer answers.
        nn.init.zeros_(module.bias)
        image = torch.rand(1, 4, *[7] * len(module.kernel_size), dtype=torch.float64)
        before = module(image)
        for channel in (1, layer.filters - 1):
            norm = torch.linalg.vector_norm(torch.from_numpy(layer.kernels[channel]))
            own = module.weight.detach().clone()
            share = module.out_channels // groups
            with torch.no_grad():
                if transposed:
                    inputs = slice(channel // share * 4 // groups, (channel // share + 1) * 4 // groups)
                    assert torch.isclose(own[inputs, channel % share].norm(), norm)
                    module.weight[inputs, channel % share] = 0
                else:
                    assert torch.isclose(own[channel].norm(), norm)
                    module.weight[channel] = 0
                silent = (module(image) == 0).flatten(2).all(dim=2)[0]
                assert silent.nonzero().ravel().tolist() == [channel]
                module.weight.copy_(own)
        assert torch.equal(module(image), before)
        checked += 1
    assert checked == 9
    assert layers["dense"].kind == "pointwise"
    assert layers["dense"].kernels.shape == (7, 5, 1)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_names_of_our_own_networks_tell_what_their_modules_do(dim: int):
    model = UNet(width=2, depth=2, dim=dim)
    told, guessed = read_layers(model.state_dict(), geometry(model)), read_layers(model.state_dict())
    assert list(told) == list(guessed)
    for name, layer in told.items():
        assert layer.kind == guessed[name].kind
        np.testing.assert_array_equal(layer.kernels, guessed[name].kernels)


def test_layers_of_our_own_networks_come_in_the_order_of_the_data():
    model = UNet(width=2, depth=2)
    state = model.state_dict()
    layers = read_layers(dict(sorted(state.items())))
    assert list(layers) == list(read_layers(state)) == list(geometry(model).shapes or {})
    assert list(read_layers({"enc0.conv2.weight": torch.ones(2, 2, 3, 3), "a.weight": torch.ones(1, 1)}))[1] == "a"


def test_memory_layout_and_precision_do_not_matter():
    plain = weights(enc0__conv1=(4, 3, 3, 3))
    other = {name: value.to(memory_format=torch.channels_last) for name, value in plain.items()}
    assert filter_change(plain, other)["change"][0] == 0
    half = {name: value.to(torch.bfloat16) for name, value in plain.items()}
    assert filter_change(plain, half)["change"][0] < 0.01


def test_masked_taps_do_not_count():
    start = weights(a=(5, 4, 3, 3))
    end = moved(start, 0.1)
    mask = torch.ones(3, 3)
    mask[1, 2] = mask[2] = 0
    masked = [{name: value * mask for name, value in each.items()} for each in (start, end)]
    layer = read_layers(masked[0])["a"]
    assert layer.used.tolist() == (mask == 1).tolist()
    row = filter_change(*masked).iloc[0]
    assert row.affine_share_chance == 2 / 5
    short = [{"a.weight": value["a.weight"].flatten(2)[:, :, mask.flatten() == 1]} for value in masked]
    same = filter_change(*short).iloc[0]
    for name in ("change", "angle_median", "sign_flips_median", "affine_share", "energy_top1", "rank_after"):
        assert row[name] == pytest.approx(same[name])


def test_factors_of_a_strategy_are_multiplied_in():
    start = weights(a=(5, 4, 3, 3))
    end = {**start, "a.scale": torch.full((5, 4, 1, 1), 2.0), "a.shift": torch.zeros(5), "a.bias": torch.zeros(5)}
    table = filter_change(start, end)
    assert table.norm_ratio_median[0] == pytest.approx(2)
    assert table.angle_median[0] == pytest.approx(0, abs=1e-6)
    assert table.affine_share[0] == pytest.approx(1)


# The change


def test_a_filter_that_did_not_move():
    start = weights(a=(5, 4, 3, 3))
    row = filter_change(start, start).iloc[0]
    assert row[["change", "relative_change_q95", "angle_q95", "sign_flips_q95"]].tolist() == [0, 0, 0, 0]
    assert row.cosine_median == 1
    assert row.identity_r2 == 1
    assert math.isnan(row.affine_share)
    assert math.isnan(row.energy_top1)
    assert row.rank_before == row.rank_after


@pytest.mark.parametrize("angle", [0.01, 1.0, 45.0, 90.0, 135.0, 179.0])
def test_a_planted_turn_and_stretch(angle: float):
    draw = np.random.default_rng(0)
    basis = np.linalg.qr(draw.normal(size=(36, 2)))[0].T.reshape(2, 1, 4, 3, 3)
    turn = math.radians(angle)
    start, end = 3 * basis[0], 6 * (math.cos(turn) * basis[0] + math.sin(turn) * basis[1])
    row = filter_change({"a.weight": torch.from_numpy(start)}, {"a.weight": torch.from_numpy(end)}, by="filter")
    assert row.angle[0] == pytest.approx(angle, rel=1e-6)
    assert row.cosine[0] == pytest.approx(math.cos(turn))
    assert row.norm_ratio[0] == pytest.approx(2)
    assert row.relative_change[0] == pytest.approx(np.linalg.norm(end - start) / 3)
    assert row.sign_flips[0] == pytest.approx(((start * end) < 0).mean())


def test_one_scale_and_one_shift_per_kernel_are_found():
    start = weights(a=(6, 5, 3, 3))
    draw = torch.Generator().manual_seed(3)
    scale, shift = (torch.randn(6, 5, 1, 1, generator=draw) for _ in range(2))
    end = {"a.weight": start["a.weight"] * scale + shift}
    row = filter_change(start, end).iloc[0]
    assert row.affine_share == pytest.approx(1)
    assert row.affine_r2 == pytest.approx(1)
    assert row.affine_share_permuted < 0.9
    assert row.identity_r2 < row.affine_r2


def test_affine_share_of_a_change_that_knows_nothing_of_the_start_is_two_taps_worth():
    start = weights(a=(40, 40, 3, 3), b=(40, 40, 2, 2), c=(20, 20, 3, 3, 3))
    table = filter_change(start, moved(start, 0.1))
    for layer, taps in (("a", 9), ("b", 4), ("c", 27)):
        found = row(table, layer)
        assert found.affine_share_chance == 2 / taps
        assert found.affine_share == pytest.approx(2 / taps, rel=0.1)
        assert found.affine_share_permuted == pytest.approx(2 / taps, rel=0.1)


def test_affine_share_where_it_means_nothing():
    start = weights(one=(6, 5, 1, 1), pair=(6, 5, 2), single=(1, 1, 3, 3))
    table = filter_change(start, moved(start, 0.1))
    assert row(table, "one").kind == "pointwise"
    assert math.isnan(row(table, "one").affine_share)
    assert math.isnan(row(table, "pair").affine_share)
    assert math.isfinite(row(table, "single").affine_share)
    assert math.isnan(row(table, "single").affine_share_permuted)  # there is no other kernel
    constant = {"a.weight": torch.ones(2, 2, 3, 3)}
    assert filter_change(constant, moved(constant, 0.1)).affine_share[0] < 0.5  # no scale to fit, only a shift


def test_a_change_of_low_rank_stands_out_from_a_random_one():
    start = weights(a=(20, 10, 3, 3))
    draw = torch.Generator().manual_seed(5)
    outer = (torch.randn(20, 1, generator=draw) @ torch.randn(1, 90, generator=draw)).reshape(20, 10, 3, 3)
    low = filter_change(start, {"a.weight": start["a.weight"] + 0.1 * outer}).iloc[0]
    random = filter_change(start, moved(start, 0.1)).iloc[0]
    assert low.energy_top1 == pytest.approx(1)
    assert random.energy_top1 == pytest.approx(random.energy_top1_random, rel=0.15)
    assert random.energy_top10 == pytest.approx(random.energy_top10_random, rel=0.15)
    assert random.rank_before == pytest.approx(random.rank_random, rel=0.05)
    flat = filter_change(start, {"a.weight": outer}).iloc[0]
    assert flat.rank_after == pytest.approx(1, abs=1e-3)


def test_dead_filters_are_counted_and_their_angles_missing():
    start = weights(a=(8, 4, 3, 3))
    end = {"a.weight": start["a.weight"].clone()}
    end["a.weight"][2] = 0
    end["a.weight"][5] *= 1e-5
    table = filter_change(start, end, by="filter")
    assert table.dead_after.to_numpy().nonzero()[0].tolist() == [2, 5]
    assert not table.dead_before.any()
    assert math.isnan(table.angle[2])
    assert table.relative_change[2] == 1
    back = filter_change(end, start)
    assert (back.dead_before[0], back.dead_after[0]) == (2, 0)
    assert math.isfinite(back.relative_change_q95[0])


def test_a_stage_pools_its_layers_of_one_kind_and_keeps_others_apart():
    start = weights(dec0__up=(4, 4, 2, 2), dec0__conv1=(4, 8, 3, 3), dec0__conv2=(4, 4, 3, 3), head=(1, 4, 1, 1))
    table = filter_change(start, moved(start, 0.1), by="stage")
    assert list(zip(table.stage, table.kind, table.layers, table.filters, strict=True)) == [
        ("dec0", "transposed", 1, 4), ("dec0", "convolution", 2, 8), ("head", "pointwise", 1, 1)
    ]  # fmt: skip
    each = filter_change(start, moved(start, 0.1), by="filter")
    pooled = each[each.layer.isin(["dec0.conv1", "dec0.conv2"])]
    assert table.angle_median[1] == pytest.approx(pooled.angle.median())


def test_what_is_no_filter_is_told_apart():
    model = Odd()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.mul_(3)
    table = other_tensors.other_tensor_change(start, model.state_dict()).set_index("tensor")
    assert table.loc["norm.weight", "kind"] == "normalization"
    assert table.loc["norm.bias", "kind"] == "normalization"
    assert table.loc["norm.running_var", "kind"] == "statistics"
    assert table.loc["plane.bias", "kind"] == "bias"
    assert "plane.weight" not in table.index
    more = {**start, "table": torch.ones(3, 3)}
    assert other_tensors.other_tensor_change(more, more).set_index("tensor").loc["table", "kind"] == "other"
    assert table.loc["plane.bias", "relative_change"] == pytest.approx(2)
    assert math.isnan(table.loc["norm.bias", "relative_change"])  # began at zero
    del start["norm.bias"]
    with pytest.raises(StudyError, match=r"norm\.bias must be in both checkpoints"):
        other_tensors.other_tensor_change(model.state_dict(), start)


@pytest.mark.parametrize("dimension", [2, 9, 100])
def test_angles_between_random_filters_follow_the_closed_form(dimension: int):
    x, y = np.random.default_rng(0).normal(size=(2, 20_000, dimension))
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    for quantile in (0.05, 0.5, 0.9):
        expected = np.quantile(np.degrees(np.arccos(cosine)), quantile)
        assert random_angle(dimension, quantile) == pytest.approx(expected, rel=0.06)


def test_random_angles_need_two_weights():
    with pytest.raises(ValueError, match="2 weights or more and a quantile in 0 to 1, got 1"):
        random_angle(1)


# Scales


@pytest.mark.parametrize("granularity", ["kernel", "channel"])
def test_learned_scales_agree_with_fitted_ones_where_one_is_the_other(granularity: str):
    model = build(width=4, depth=1, norm="none", seed=0)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    add_scale_shift(model, granularity)
    draw = torch.Generator().manual_seed(2)
    learned = {
        name: value + 0.3 * torch.rand(value.shape, generator=draw) if name.endswith("scale") else value
        for name, value in model.state_dict().items()
    }
    tuned = {name: value + 0.7 for name, value in merged(learned).items()}
    table = scale_factors.scale_table(start, tuned, learned).set_index("layer")
    assert "head" not in table.index  # pointwise: a scale and a shift fit anything
    assert table.loc["dec0.up", "kind"] == "transposed"
    assert table.correlation.to_numpy() == pytest.approx(1, abs=1e-4)
    assert table.fitted.to_numpy() == pytest.approx(table.learned.to_numpy(), abs=1e-3)
    unlike = scale_factors.scale_table(start, moved(start, 0.3), learned).set_index("layer")
    assert abs(unlike.loc["enc1.conv2", "correlation"]) < 0.6


def test_scales_that_are_all_the_same_have_no_correlation():
    start = weights(a=(5, 4, 3, 3))
    same = {**start, "a.scale": torch.full((1, 1, 1, 1), 1.5), "a.shift": torch.zeros(1), "a.bias": torch.zeros(5)}
    row = scale_factors.scale_table(start, moved(start, 0.1), same).iloc[0]
    assert row.learned == pytest.approx(0.5)
    assert math.isnan(row.correlation)


def test_scales_that_are_not_there():
    start = weights(a=(5, 4, 3, 3))
    with pytest.raises(StudyError, match="third network must have scale factors"):
        scale_factors.scale_table(start, start, start)
    with pytest.raises(StudyError, match="scales were learned for layers that the start lacks: b"):
        scale_factors.scale_table(start, start, {**start, "b.scale": torch.ones(1, 1, 1, 1)})


# Runs


def test_the_trajectory_of_a_run(study_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_DATA", str(make_blobs(study_home)))
    run = open_run(spec(strategy="scratch"))
    start = build(width=2, depth=1, norm="batch", seed=0).state_dict()
    for step in (0, 1, 4):
        after = {name: value * (1 + step) if name == "enc0.conv1.weight" else value for name, value in start.items()}
        write_tensors(run.checkpoint(step), after, {})
    run = Run(run.path)
    table = filter_change_over_training(run)
    own = table[table.layer == "enc0.conv1"]
    assert own.step.tolist() == [1, 4]
    assert own.norm_ratio_median.tolist() == pytest.approx([2, 5])
    assert (table[table.layer != "enc0.conv1"].change == 0).all()
    assert set(table.run_id) == {run.path.name}
    last = filter_change_of_run(run, by="filter")
    assert last[last.layer == "enc0.conv1"].relative_change.tolist() == pytest.approx([4, 4])
    run.checkpoint(1).unlink()
    run.checkpoint(4).unlink()
    with pytest.raises(StudyError, match=r"a later one, got steps \[0\]"):
        filter_change_over_training(run)


# Errors


def test_checkpoints_that_do_not_fit():
    start = weights(a=(4, 3, 3, 3), b=(4, 3, 3, 3))
    with pytest.raises(StudyError, match="same layers, but b stand in one only"):
        filter_change(start, weights(a=(4, 3, 3, 3)))
    with pytest.raises(StudyError, match=r"layer b must have one shape in both checkpoints, got \(4, 3, 3, 3\) and"):
        filter_change(start, weights(a=(4, 3, 3, 3), b=(4, 2, 3, 3)))
    with pytest.raises(StudyError, match="unknown grouping 'layers'; did you mean 'layer'"):
        filter_change(start, start, by="layers")
    with pytest.raises(StudyError, match=r"two axes or more, got a\.bias"):
        filter_change({"a.bias": torch.zeros(3)}, start)
    with pytest.raises(StudyError, match="the network has layers that the weights lack: line"):
        filter_change({"dense.weight": torch.zeros(2, 2)}, start, model=nn.ModuleDict({"line": nn.Conv1d(1, 1, 3)}))


def test_weights_that_are_none():
    bad = weights(a=(4, 3, 3, 3))
    bad["a.weight"][0, 0, 0, 0] = math.nan
    with pytest.raises(StudyError, match="layer a holds no weights, NaN or infinity"):
        read_layers(bad)
    with pytest.raises(StudyError, match="4 input channels do not fall into 3 groups"):
        read_layers(weights(a=(4, 3, 3, 3)), Geometry({"a": (True, 3)}))


# Matching


def shuffled(model: UNet, seed: int) -> dict[str, torch.Tensor]:
    """The same network with the channels of every layer in another order."""
    draw = np.random.default_rng(seed)
    state = model.state_dict()
    orders: dict[str, np.ndarray] = {}
    for name, layer in read_layers(state).items():
        inputs = _order_of_inputs(layer, orders)
        weight = state[f"{name}.weight"]
        own = draw.permutation(layer.filters) if name != "head" else np.arange(layer.filters)
        axes = (1, 0) if layer.kind == "transposed" else (0, 1)
        weight = weight.index_select(axes[0], torch.from_numpy(own))
        state[f"{name}.weight"] = weight.index_select(axes[1], torch.from_numpy(inputs))
        state[f"{name}.bias"] = state[f"{name}.bias"][torch.from_numpy(own)]
        orders[name] = own
    return state


@pytest.mark.parametrize("dim", [2, 3])
def test_a_network_with_its_channels_reordered_computes_the_same_and_is_matched_perfectly(dim: int):
    model = build(width=4, depth=2, norm="none", seed=0, dim=dim).eval()
    other = build(width=4, depth=2, norm="none", seed=1, dim=dim).eval()
    other.load_state_dict(shuffled(model, 3))
    image = torch.rand(1, 1, *[16] * dim)
    with torch.no_grad():
        torch.testing.assert_close(model(image), other(image))
    table = matched(dict(sorted(model.state_dict().items())), other.state_dict())
    assert table.inputs_matched.all()
    assert table.cosine.to_numpy() == pytest.approx(1)
    assert (table.p[table.filters > 1] == 1 / 20).all()
    assert table.in_place[table.filters > 4].max() < 0.9


def test_matching_random_filters_gives_what_chance_gives():
    found = [
        matched(weights(a=(12, 1, 3, 3)), moved(weights(a=(12, 1, 3, 3)), 1e6, seed), seed=seed).p[0]
        for seed in range(100)
    ]
    assert 1 <= sum(p <= 0.1 for p in found) <= 22  # binomial at 0.1 of 100
    assert min(found) >= 1 / 20


def test_matching_says_where_inputs_could_not_be_brought_into_order():
    state = weights(first=(4, 1, 3, 3), second=(4, 4, 3, 3))
    assert matched(state, state).inputs_matched.tolist() == [True, False]


# Random matrices


def test_tridiagonal_matrices_have_the_eigenvalues_of_gaussian_ones():
    rng = np.random.default_rng(0)
    rows, columns, draws = 6, 10, 4000
    matrices = rng.normal(size=(draws, rows, columns))
    direct = np.linalg.eigvalsh(matrices @ matrices.transpose(0, 2, 1))
    quick = random_matrices.eigenvalues(rows, columns, draws, rng)
    error = np.sqrt(direct.var(axis=0) / draws + quick.var(axis=0) / draws)
    assert (np.abs(direct.mean(axis=0) - quick.mean(axis=0)) < 4 * error).all()
    np.testing.assert_allclose(direct.std(axis=0), quick.std(axis=0), rtol=0.1)


def test_eigenvalues_of_few_large_matrices_and_of_many_small_ones_are_one_thing():
    diagonal, beside = random_matrices.tridiagonal(40, 60, 3, np.random.default_rng(1))
    values = random_matrices.eigenvalues(40, 60, 3, np.random.default_rng(1))
    assert values.sum(axis=1) == pytest.approx(diagonal.sum(axis=1))
    np.testing.assert_allclose(random_matrices.largest(diagonal, beside, 3), values[:, ::-1][:, :3].T, rtol=1e-6)
    assert random_matrices.largest(diagonal[:, :1], beside[:, :0], 3) == pytest.approx(diagonal[:, :1].T)


def test_energy_beyond_an_edge_or_what_it_lacks():
    diagonal, beside = random_matrices.tridiagonal(6, 9, 200, np.random.default_rng(1))
    values = random_matrices.eigenvalues(6, 9, 200, np.random.default_rng(1))
    edge = np.full(200, np.median(values[:, -1]))
    over = values - edge[:, None]
    expected = np.where(over[:, -1] > 0, np.maximum(over, 0).sum(axis=1), over[:, -1])
    assert 50 < (expected > 0).sum() < 150
    np.testing.assert_allclose(random_matrices.beyond(diagonal, beside, edge), expected, atol=1e-4)
    assert random_matrices.exceeding(values[0], edge[0]) == pytest.approx(expected[0])
    assert (random_matrices.beyond(diagonal, beside, 10 * edge) < 0).all()


def test_marchenko_pastur_edges_hold_the_eigenvalues_of_a_large_matrix():
    values = random_matrices.eigenvalues(300, 900, 1, np.random.default_rng(2))[0] / 900
    low, high = random_matrices.marchenko_pastur_edges(900, 300)
    assert values[0] == pytest.approx(low, rel=0.1)
    assert values[-1] == pytest.approx(high, rel=0.05)


def test_marchenko_pastur_density_is_one_and_fits_a_large_matrix():
    x = np.linspace(0, 4, 40_001)
    density = random_matrices.marchenko_pastur_density(x, 200, 600)
    assert density.mean() * 4 == pytest.approx(1, abs=1e-3)
    values = random_matrices.eigenvalues(200, 600, 1, np.random.default_rng(3))[0] / 600
    assert (values < 1).mean() == pytest.approx(density[x < 1].sum() * 1e-4, abs=0.02)


def test_effective_rank_of_equal_and_of_single_singular_values():
    assert random_matrices.effective_rank(np.ones(7)) == pytest.approx(7)
    assert random_matrices.effective_rank(np.array([0.0, 0.0, 5.0])) == pytest.approx(1)
    assert math.isnan(random_matrices.effective_rank(np.zeros(3)))


# Foreign layers


@pytest.mark.parametrize("parametrized", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_weight_normalized_layers_are_read_as_they_compute(parametrized):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the older of the two says that it is older
        net = nn.Sequential(parametrized(nn.Conv2d(2, 3, 3)))
    expected = net[0].weight.detach().double().numpy()
    np.testing.assert_allclose(read_layers(net.state_dict())["0"].kernels, expected, rtol=1e-6)


def test_a_layer_whose_weight_is_not_in_the_file_is_refused():
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 3, 3)))
    with pytest.raises(StudyError, match=r"the layer is parametrized .* its weight is not in the file"):
        read_layers(net.state_dict())


@pytest.mark.parametrize("name", ["upconv1", "decoder.up2", "deconv", "net.transposed1", "up.0"])
def test_a_layer_that_may_be_transposed_is_not_taken_for_a_convolution(name: str):
    weights = {f"{name}.weight": torch.randn(8, 4, 2, 2), "conv.weight": torch.randn(4, 4, 3, 3)}
    with pytest.raises(StudyError, match=f"layer {name} may be a transposed convolution"):
        read_layers(weights)
    known = Geometry({name: (True, 1), "conv": (False, 1)})
    assert read_layers(weights, known)[name].filters == 4
    assert read_layers({"group.weight": torch.randn(3, 2, 3, 3)})["group"].filters == 3
