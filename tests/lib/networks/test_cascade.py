"""The unrolled network: consistency with what was measured, stages in order, and every strategy's promise."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from lib.common.errors import StudyError
from lib.common.seeding import generator
from lib.imaging import mri
from lib.networks.cascade import Cascade, pack, to_channels, to_complex, unpack, zero_filled
from lib.networks.initial_weights import initialize
from lib.strategies.frozen_normalization import set_training_mode
from lib.strategies.strategy import STATISTICS, STRATEGIES, freeze, load_start, trainable

SIZE = 16


def cascade(seed: int = 0, **changes: Any) -> Cascade:
    model = Cascade(**{"blocks": 3, "width": 4, "depth": 2, "norm": "batch", **changes})
    model = initialize(model, seed)
    draw = generator(seed, 7)
    for value in model.state_dict().values():  # statistics and biases unlike those of a fresh network
        if value.is_floating_point() and value.dim() == 1:
            value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
    return model


def measured(count: int = 4, coils: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images complex (n, h, w), and their undersampled measurements without noise."""
    parts = torch.rand(count, SIZE, SIZE, 2, generator=generator(seed, 1))
    image = torch.view_as_complex(parts)
    maps = torch.stack([mri.coil_maps(coils, SIZE, seed=(seed, each)) for each in range(count)])
    lines = [mri.sampling_mask("random", SIZE, acceleration=2, seed=(seed, each)) for each in range(count)]
    mask = torch.stack(lines)
    return image, pack(mri.forward(image, maps, mask), maps, mask)


@pytest.mark.parametrize("coils", [1, 3])
def test_a_packed_measurement_is_unpacked_as_it_was(coils: int):
    image, whole = measured(coils=coils)
    kspace, maps, mask = unpack(whole)
    assert kspace.shape == maps.shape == (4, coils, SIZE, SIZE)
    assert torch.equal(mri.forward(image, maps, mask), kspace)
    assert torch.equal(zero_filled(whole), mri.adjoint(kspace, maps, mask))
    assert torch.equal(zero_filled(whole[1:2]), zero_filled(whole)[1:2])


def test_complex_images_go_to_channels_and_back():
    image, _ = measured()
    assert torch.equal(to_complex(to_channels(image)), image)
    assert torch.equal(to_channels(image)[:, 0], image.real)


@pytest.mark.parametrize("coils", [1, 3])
def test_the_output_agrees_with_every_measured_sample(coils: int):
    _, whole = measured(coils=coils)
    kspace, maps, mask = unpack(whole)
    with torch.no_grad():
        out = to_complex(cascade(norm="none").eval()(whole))
    error = (mri.forward(out, maps, mask) - kspace).abs().max()
    free = (out - zero_filled(whole)).abs().max()
    assert (
        error < (1e-4 if coils == 1 else 0.05) * kspace.abs().max()
    )  # with several coils it is solved for, not put in
    assert free > 1e-2, "an untrained network must have changed what was not measured"


def test_fully_sampled_images_come_back():
    image, whole = measured()
    maps = unpack(whole)[1]
    everything = torch.ones(4, SIZE, dtype=torch.bool)
    full = pack(mri.forward(image, maps, everything), maps, everything)
    with torch.no_grad():
        out = to_complex(cascade().eval()(full))
    assert torch.allclose(out, image, atol=1e-5)


def test_stages_are_the_blocks_in_order_and_half_of_them_the_encoder():
    model = cascade(blocks=5)
    assert model.stages == [f"block{place}" for place in range(5)]
    assert (model.encoder, model.decoder) == (model.stages[:3], model.stages[3:])
    assert model.last == ["block4"]
    assert model.levels == [model.stages]


def test_a_shared_block_is_used_as_often_as_asked():
    calls = []
    model = cascade(shared=True)
    model.block0.register_forward_hook(lambda *_: calls.append(1))
    _, whole = measured()
    model(whole)
    assert len(calls) == 3
    assert model.stages == ["block0"]
    assert 3 * sum(each.numel() for each in model.parameters()) == sum(p.numel() for p in cascade().parameters())


@pytest.mark.parametrize("changes", [{"blocks": 0}, {"width": 0}, {"depth": 1}])
def test_a_cascade_that_cannot_be_built_says_what_it_needs(changes: dict[str, int]):
    with pytest.raises(StudyError, match="at least 1 block, width 1 and depth 2"):
        cascade(**changes)


@pytest.mark.parametrize("name", [*STRATEGIES])
def test_every_strategy_changes_what_it_marks_and_nothing_else(name: str):
    options = {"stages": ["block1"]} if name == "transplant" else {}
    source, model = cascade(1), cascade(2)
    fresh = copy.deepcopy(model)
    if name == "without_skips":
        with pytest.raises(StudyError, match="needs a U-Net"):
            freeze(model, name, options, generator(0))
        return
    load_start(model, name, options, source.state_dict() if STRATEGIES[name].needs_source else None)
    freeze(model, name, options, generator(0))
    assert trainable(model) > 0
    own = {name for name, _ in fresh.named_parameters()}
    assert own <= {key for key, _ in model.named_parameters()}, "a parameter was renamed"
    before = {key: value.clone() for key, value in model.state_dict().items()}
    image, whole = measured()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    for _ in range(2):
        set_training_mode(model)
        optimizer.zero_grad(set_to_none=True)
        (model(whole) - to_channels(image)).abs().mean().backward()
        optimizer.step()
    marked = {key for key, each in model.named_parameters() if each.requires_grad}
    for key, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None and module.tracks:
            marked |= {f"{key}.{statistic}" for statistic in STATISTICS}
    moved = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    assert moved == marked


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_part_of_a_block_moves_by_an_exact_count(norm: str):
    model = cascade(norm=norm)
    freeze(model, "layer_subset", {"stages": ["block0", "block2"], "parameters": 37}, generator(0))
    assert trainable(model) == 37
    whole = 2 * sum(each.numel() for name, each in model.named_parameters() if name.startswith("block0."))
    freeze(cascade(norm=norm), "layer_subset", {"stages": ["block0", "block2"], "parameters": whole}, generator(0))
    with pytest.raises(StudyError, match=f"between 1 and {whole}, as many as block0, block2 have"):
        freeze(cascade(norm=norm), "layer_subset", {"stages": ["block0", "block2"], "parameters": whole + 1},
               generator(0))  # fmt: skip


@pytest.mark.parametrize("name", ["decoder_only", "frozen_source_encoder"])
def test_a_network_of_one_stage_has_no_decoder(name: str):
    with pytest.raises(StudyError, match="stages must be a list with at least one"):
        freeze(cascade(shared=True), name, {}, generator(0))


@pytest.mark.parametrize("options", [{}, {"granularity": "channel"}, {"granularity": "layer"}])
def test_factors_begin_as_the_identity_and_leave_the_source_alone(options: dict[str, str]):
    source, model = cascade(1), cascade(2)
    load_start(model, "scale_shift", options, source.state_dict())
    freeze(model, "scale_shift", options, generator(0))
    _, whole = measured()
    with torch.no_grad():
        assert torch.equal(model.eval()(whole), source.eval()(whole))
    assert all(torch.equal(model.state_dict()[key], value) for key, value in source.state_dict().items())
