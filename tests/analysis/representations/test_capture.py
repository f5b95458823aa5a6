"""Activations are what the layers computed, in the order asked for, and the model is left as it was found."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tiny import make_blobs, spec
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.representations.capture import activations
from analysis.representations.capture.activations import capture, check_layers, probe_digest
from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.streamed_grams import stream_grams
from lib.common.errors import StudyError
from lib.data.tasks.images import standardize
from lib.networks.unet import build
from lib.training.loop import train


@pytest.fixture
def model() -> nn.Module:
    return build(width=2, depth=1, norm="batch", seed=0)


def images(count: int = 5, size: int = 8) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))


class Odd(nn.Module):
    """A network with oddities: a layer called twice, outputs that are tuples and dictionaries, a layer never called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.pair = Pair()
        self.named = Named()
        self.idle = nn.Linear(2, 2)
        self.words = Words()
        self.stages = nn.ModuleList([nn.Conv2d(1, 2, 1)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.relu(self.conv(x)))
        self.words()
        left, right = self.pair(x)
        return self.stages[0](self.named(left + right)["sum"])


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, 2 * x


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"sum": x}


class Words(nn.Module):
    def forward(self) -> str:
        return "no tensor"


# ---- values ------------------------------------------------------------------------------------------------------


def test_pooled_activations_are_the_means_of_what_a_layer_returns(model: nn.Module) -> None:
    found = capture(model, ["enc0.conv1", "head"], images(), batch=2)
    with torch.no_grad():
        expected = model.enc0.conv1(images()).mean((2, 3))
        output = model.eval()(images()).mean((2, 3))
    assert list(found) == ["enc0.conv1", "head"]
    assert torch.allclose(found["enc0.conv1"], expected, atol=1e-6)
    assert torch.allclose(found["head"], output, atol=1e-6)


def test_the_order_asked_for_is_kept_and_stages_are_the_default(model: nn.Module) -> None:
    assert list(capture(model, ["head", "enc1", "enc0.conv2"], images())) == ["head", "enc1", "enc0.conv2"]
    assert list(capture(model, None, images())) == ["enc0", "enc1", "dec0", "head"]


def test_a_relu_in_place_does_not_reach_what_was_captured_before_it(model: nn.Module) -> None:
    found = capture(model, ["enc0.norm2", "enc0"], images(), reduce="flatten")
    assert (found["enc0.norm2"] < 0).any()
    assert torch.equal(found["enc0"], found["enc0.norm2"].clamp_min(0))


def test_flattened_maps_hold_every_value_once(model: nn.Module) -> None:
    found = capture(model, ["enc0.conv1"], images(), reduce="flatten", batch=3)["enc0.conv1"]
    with torch.no_grad():
        whole = model.enc0.conv1(images()).flatten(1)
    assert found.shape == whole.shape
    assert torch.allclose(found.sort(1).values, whole.sort(1).values, atol=1e-6)


def test_positions_are_the_same_places_in_every_layer_and_every_batch() -> None:
    row = torch.arange(8.0).expand(3, 8, 8)
    maps = torch.stack([row.mT, row], 1)  # the channels say where they are
    reduction = Reduction("positions", per_image=6, seed=4)
    fine = reduction.apply(maps, 0)
    coarse = reduction.apply(maps[:, :, ::2, ::2] / 2, 0)
    assert fine.shape == (18, 2)
    assert torch.equal((fine / 2).floor(), coarse)
    assert torch.equal(reduction.apply(maps[1:], 1), fine[6:])
    assert not torch.equal(Reduction("positions", per_image=6, seed=5).apply(maps, 0), fine)
    assert len(np.unique(reduction.places(0, 50, 2).round(1))) == 11


def test_batches_do_not_change_what_is_captured(model: nn.Module) -> None:
    for reduce in ("pool", "flatten", Reduction("positions", 3)):
        whole = capture(model, None, images(7), reduce=reduce, batch=7)
        parts = capture(model, None, images(7), reduce=reduce, batch=3)
        for name, each in whole.items():
            assert torch.allclose(each, parts[name], atol=1e-6), (name, reduce)


def test_images_of_different_sizes(model: nn.Module) -> None:
    mixed = [torch.rand(1, size, size + 2) for size in (8, 8, 12, 6)]
    alone = torch.cat([capture(model, ["enc1"], [each])["enc1"] for each in mixed])
    assert torch.allclose(capture(model, ["enc1"], mixed)["enc1"], alone, atol=1e-6)
    assert capture(model, ["enc1"], mixed, reduce="positions")["enc1"].shape == (64, 4)
    with pytest.raises(StudyError, match="'enc1' has 84 features for image 2, 80 before; images differ in size"):
        capture(model, ["enc1"], [torch.rand(1, 8, 10), torch.rand(1, 8, 10), torch.rand(1, 6, 14)], reduce="flatten")


def test_odd_networks() -> None:
    model = Odd()
    found = capture(model, ["conv", "pair", "named", "stages.0"], images(), reduce="flatten")
    assert list(found) == ["conv", "conv#2", "pair[0]", "pair[1]", "named[sum]", "stages.0"]
    assert torch.allclose(found["pair[1]"], 2 * (found["pair[0]"] - 1), atol=1e-5)
    assert not torch.allclose(found["conv"], found["conv#2"])
    with pytest.raises(StudyError, match="layer 'idle' is never called"):
        capture(model, ["idle"], images())
    with pytest.raises(StudyError, match="layer 'stages' is never called in a forward pass: it holds others"):
        capture(model, ["stages"], images())
    with pytest.raises(StudyError, match="layer 'words' returns no tensor but str"):
        capture(model, ["words"], images())


def test_a_layer_that_mixes_images_is_refused() -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(0, 1)

    model = nn.Sequential(nn.Conv2d(1, 2, 1), Mixing())
    with pytest.raises(StudyError, match=r"layer '1' must keep the first axis for images, got shape \(10, 8, 8\)"):
        capture(model, ["1"], images())
    with pytest.raises(StudyError, match="layer '1' must keep the first axis"):
        stream_grams(model, ["1"], images(), batch=None, chunk=None, budget_mb=10)


# ---- manners -----------------------------------------------------------------------------------------------------


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("out of memory, say")


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was_found(fails: bool) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), Failing() if fails else nn.Identity())
    model.train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    try:
        capture(model, ["0", "1"], images())
        assert not fails
    except RuntimeError:
        assert fails
    assert [each.training for each in model] == [True, False, True, True]
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    copy.deepcopy(model)


def test_evaluation_mode_and_no_gradients(model: nn.Module) -> None:
    model.train()
    found = capture(model, ["enc0"], images())["enc0"]
    assert not found.requires_grad
    assert torch.equal(found, capture(model.eval(), ["enc0"], images())["enc0"])


def test_names_that_match_nothing_have_a_nearest_one(model: nn.Module) -> None:
    with pytest.raises(StudyError, match=r"unknown layer 'enc0.conv3'; did you mean 'enc0.conv\d'"):
        capture(model, ["enc0.conv3"], images())
    with pytest.raises(StudyError, match=r"got the text 'enc0'; write \['enc0'\]"):
        check_layers(model, "enc0")
    with pytest.raises(StudyError, match=r"each once, got \['enc0', 'enc0'\]"):
        check_layers(model, ["enc0", "enc0"])
    with pytest.raises(StudyError, match="unknown layer ''"):
        check_layers(model, [""])


def test_the_budget_is_kept(model: nn.Module) -> None:
    with pytest.raises(StudyError, match=r"activations up to layer 'enc0' take 1 MB, more than budget_mb=0\.5"):
        capture(model, ["enc0"], images(1000, 8).expand(1000, 1, 8, 8), reduce="flatten", budget_mb=0.5, batch=4)
    with pytest.raises(StudyError, match=r"maps of 100 images up to layer 'enc0' take 0 MB, more"):
        stream_grams(model, ["enc0"], images(100), batch=None, chunk=16, budget_mb=0.01)


def test_what_cannot_be_done_is_said(model: nn.Module) -> None:
    with pytest.raises(StudyError, match="unknown reduction 'pol'; did you mean 'pool'"):
        capture(model, ["enc0"], images(), reduce="pol")
    with pytest.raises(StudyError, match="per_image must be at least 1, got 0"):
        Reduction("positions", 0)
    with pytest.raises(StudyError, match="at least one image"):
        capture(model, ["enc0"], images(0))
    assert str(Reduction("positions", 8, 1)) == "positions(8, seed 1)"


def test_a_probe_is_known_by_its_content() -> None:
    assert probe_digest(images()) == probe_digest(images().clone())
    assert probe_digest(images()) != probe_digest(images().flip(0))
    assert probe_digest([torch.zeros(1, 2, 6)]) != probe_digest([torch.zeros(1, 3, 4)])


def test_activations_of_a_run_are_those_of_its_standardized_images(study_home, monkeypatch) -> None:
    monkeypatch.setenv("STUDY_DATA", str(make_blobs(study_home / "data")))
    run = train(spec())
    found = activations.activations(run, None, ["enc0"], images())["enc0"]
    assert torch.equal(found, capture(run.model(), ["enc0"], standardize(images()))["enc0"])
    first = activations.activations(run, 0, ["enc0"], [*images()])["enc0"]
    assert not torch.allclose(first, found)
    with pytest.raises(StudyError, match="has checkpoints at steps"):
        activations.activations(run, 12345, ["enc0"], images())


# ---- axes and types ----------------------------------------------------------------------------------------------


STAGES = ["enc0.conv1", "enc1", "head"]


class Tokens(nn.Module):
    """Channels last, as in a transformer: (n, tokens, c) from `flat`, (n, h, w, c) from `grid`."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.grid = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        wide = x.movedim(1, -1) * torch.arange(1.0, 25)
        return self.flat(wide.flatten(1, 2)).sum() + self.grid(wide).sum()


@pytest.mark.parametrize("layer", ["flat", "grid"])
@pytest.mark.parametrize("kind", ["pool", "positions"])
def test_channels_are_never_guessed(layer: str, kind: str) -> None:
    with pytest.raises(StudyError, match=r"an output of shape .* may be .*channels='last'"):
        capture(Tokens(), [layer], images(), reduce=kind)
    found = capture(Tokens(), [layer], images(), reduce=Reduction(kind, channels="last"))[layer]
    assert found.shape[1] == 24
    torch.testing.assert_close(found[:, 1], 2 * found[:, 0])
    assert capture(Tokens(), [layer], images(), reduce="flatten")[layer].shape == (len(images()), 24 * 64)
    assert "channels last" in str(Reduction(kind, channels="last"))
    with pytest.raises(StudyError, match="unknown channels 'lst'; did you mean 'last'"):
        Reduction(channels="lst")


def test_images_come_in_the_type_of_the_network_or_are_refused(model: nn.Module) -> None:
    expected = capture(model, STAGES, images())
    for given, net in ((images().double(), model), (images(), copy.deepcopy(model).double())):
        for name, rows in capture(net, STAGES, given).items():
            torch.testing.assert_close(rows.float(), expected[name], atol=1e-4, rtol=1e-4)
    half = capture(copy.deepcopy(model).bfloat16(), STAGES, images())
    assert all(rows.dtype == torch.float32 for rows in half.values())
    for wrong in ((images() * 255).byte(), images().numpy(), images().long()):
        with pytest.raises(StudyError, match="images must be floating tensors such as the network was trained on"):
            capture(model, STAGES, wrong)
    with pytest.raises(StudyError, match=r"the network does not take images of shape \(5, 3, 8, 8\)"):
        capture(model, STAGES, images().repeat(1, 3, 1, 1))


def test_a_traced_network_is_refused(model: nn.Module) -> None:
    class Traced(torch.jit.ScriptModule):
        pass

    with pytest.raises(StudyError, match="a traced or scripted network shows nothing of its inside"):
        capture(Traced(), None, images())
