"""The contract of strategies on networks from elsewhere: the whole registry on each, told in stages by a map."""

from __future__ import annotations

import copy
import functools
import json
import math
import pickle
from typing import Any

import pytest
import torch
from contract import differing, marked, snapshot, two_steps
from foreign_networks import NESTED_MAP, ODD_MAP, monai_maps, nnunet_maps, smp_maps
from torch import Tensor, nn
from torch.nn import functional as F

from lib.common.errors import StudyError
from lib.common.seeding import generator
from lib.networks.stage_map import Mapped, stage_map
from lib.networks.stages import moving_in_part, parameters_by_stage
from lib.strategies.adapters import FACTORS
from lib.strategies.frozen_normalization import calibrate
from lib.strategies.strategy import STRATEGIES, freeze, load_start, trainable

pytestmark = pytest.mark.filterwarnings("ignore")  # of MONAI, when it is imported
MONAI, NNUNET, SMP = ["UNet", "BasicUNet", "DynUNet"], ["PlainConvUNet", "ResidualEncoderUNet"], ["SmpUnet"]
SPACE = " in 3-D"
NETWORKS = ["odd", "nested", *MONAI, *NNUNET, *SMP, *(name + SPACE for name in ("nested", *MONAI, *NNUNET))]
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in STRATEGIES if name not in ("transplant", "without_skips")),
    ("transplant", {"stages": "ends"}),
    ("scale_shift", {"granularity": "channel", "norm": "affine"}),
    ("scale_shift", {"granularity": "layer", "norm": "statistics"}),
    ("layer_subset", {"order": "level", "side": "deep", "count": 1}),
    ("layer_subset", {"side": "deep", "count": 2}),
    ("layer_subset", {"stages": "ends"}),
    ("layer_subset", {"side": "deep", "count": 3, "parameters": 23}),
    ("frozen_drawn_encoder", {"law": "gabor"}),
]
every_network = pytest.mark.parametrize("network", NETWORKS)
every_case = pytest.mark.parametrize(
    ("name", "options"), CASES, ids=[f"{name}-{json.dumps(options)}" if options else name for name, options in CASES]
)


known = functools.lru_cache(lambda maps, dim: maps(dim))


def told(network: str) -> tuple[dict[str, Any], int]:
    """The stage map of a network, and its dimension; skips the test where its package is not installed."""
    name, dim = network.removesuffix(SPACE), 3 if network.endswith(SPACE) else 2
    for names, package, maps in (
        (MONAI, "monai", monai_maps),
        (NNUNET, "dynamic_network_architectures", nnunet_maps),
        (SMP, "segmentation_models_pytorch", smp_maps),
    ):
        if name in names:
            pytest.importorskip(package, exc_type=ImportError)
            return known(maps, dim)[name], dim
    return {"odd": ODD_MAP, "nested": NESTED_MAP}[name], dim


def fresh(network: str, seed: int) -> Mapped:
    """A network whose statistics and biases are not those of a fresh one, so that a mix-up shows."""
    table, dim = told(network)
    model, draw = stage_map(table).build(1, 1, dim, seed), generator(seed, 77)
    for value in model.state_dict().values():
        if value.is_floating_point() and value.dim() == 1:
            value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
    return model


def chosen(model: Mapped, options: dict[str, Any]) -> dict[str, Any]:
    ends = [model.stages[0], model.stages[-1]]
    return {key: ends if value == "ends" else value for key, value in options.items()}


def images(network: str, seed: int) -> Tensor:
    """Images of the network's dimension; one that halves them four times needs more than 16 voxels a side."""
    side = 16 if network.endswith(SPACE) and not network.startswith("BasicUNet") else 32
    return torch.rand(2, 1, *[side] * (3 if network.endswith(SPACE) else 2), generator=generator(seed))


@every_network
@every_case
def test_the_contract_holds(network: str, name: str, options: dict[str, Any]) -> None:
    source, new = fresh(network, 1), fresh(network, 2)
    model, options = copy.deepcopy(new), chosen(new, options)
    given = snapshot(source)
    load_start(model, name, options, source.state_dict() if STRATEGIES[name].needs_source else None)
    freeze(model, name, options, generator(0))
    before, own = snapshot(model), new.state_dict()

    # no tensor is renamed or reordered, and only factors are added
    assert [key for key in before if key in own] == list(own)
    assert all(key.rpartition(".")[2] in FACTORS for key in before.keys() - own.keys())

    # every tensor starts where the strategy says
    start = STRATEGIES[name].start
    for key in own:
        stage = model.stage_of(key)
        from_source = {
            "source": True, "random": False, "drawn": False, "encoder": stage in model.encoder,
            "stages": stage in options.get("stages", ()),
        }[start]  # fmt: skip
        layer = model.get_submodule(key.rpartition(".")[0])
        drawn = start == "drawn" and stage in model.encoder and isinstance(layer, (nn.Conv2d, nn.Conv3d))
        one_tap = options.get("law") == "gabor" and math.prod(own[key].shape[2:]) == 1
        redrawn = drawn and key.endswith(".weight") and not one_tap
        assert torch.equal(before[key], given[key] if from_source else own[key]) != redrawn, key

    # the output at step 0 is that of the plain network
    x = images(network, 9)
    with torch.no_grad():
        ours, theirs, plain = (each.eval()(x) for each in (model, source, new))
    assert torch.equal(ours, theirs) == (start == "source")
    assert torch.equal(ours, plain) == (start == "random")

    # exactly what is marked changes, of tensors that move in part that part alone
    two_steps(model, images(network, 5))
    idle = {key for key, each in model.named_parameters() if each.requires_grad and each.grad is None}
    assert not idle or network.removesuffix(SPACE) in NNUNET  # heads for deep supervision, which is off
    assert differing(before, model) == marked(model) - idle
    part, after = moving_in_part(model), model.state_dict()
    assert bool(part) == ("parameters" in options)
    assert all(torch.equal(before[key] != after[key], mask) for key, mask in part.items())
    changed = [int((before[key] != after[key]).sum()) for key, _ in model.named_parameters()]
    assert trainable(model) == sum(row["trainable"] for row in parameters_by_stage(model).values())
    assert sum(changed) <= trainable(model)
    assert "parameters" not in options or trainable(model) == options["parameters"]

    # its source is as it was, and it can be copied, pickled and trained on
    assert not differing(given, source)
    twin = copy.deepcopy(model)
    if not network.startswith("ResidualEncoderUNet"):  # its blocks hold functions without a name
        twin = pickle.loads(pickle.dumps(twin))
    two_steps(twin, images(network, 5))
    two_steps(model, images(network, 5))
    assert not differing(twin.state_dict(), model)


@every_network
def test_what_needs_the_studys_own_network_is_refused(network: str) -> None:
    with pytest.raises(StudyError, match="strategy 'without_skips' needs a U-Net"):
        freeze(fresh(network, 0), "without_skips", {}, generator(0))


@pytest.mark.parametrize("before", ["scale_shift", "low_rank"])
@every_network
def test_a_source_with_factors_can_be_transferred_again(network: str, before: str) -> None:
    first, model = fresh(network, 1), fresh(network, 3)
    freeze(first, before, {}, generator(0))
    two_steps(first, images(network, 5))
    load_start(model, "full_finetuning", {}, first.state_dict())
    x = images(network, 9)
    torch.testing.assert_close(model.eval()(x), first.eval()(x))


def test_a_head_for_other_labels_is_drawn_anew_and_moves() -> None:
    source, model = fresh("odd", 1), stage_map(ODD_MAP).build(1, 3, 2, 2)
    before = snapshot(model)
    rows = load_start(model, "encoder_only", {}, source.state_dict())
    freeze(model, "encoder_only", {}, generator(0), head=True)
    assert {row.name for row in rows} == set(source.state_dict()) - {"levels.weight", "levels.bias"}
    assert not differing(before, model) & {"levels.weight", "levels.bias"}
    assert {"levels.weight", "levels.bias", "stages.weight"} <= marked(model)


def test_a_parameter_that_is_called_like_a_factor_is_none() -> None:
    class Scaled(nn.Conv2d):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.scale = nn.Parameter(torch.full((1,), 3.0))

    stages = stage_map({**NESTED_MAP, "stages": [{**each, "modules": [str(place)]} for place, each in enumerate(
        [NESTED_MAP["stages"][0], {**NESTED_MAP["stages"][3], "level": 1}])]}).stages  # fmt: skip
    source = Mapped(nn.Sequential(Scaled(1, 2, 1), nn.Conv2d(2, 1, 1)), stages)
    model = Mapped(nn.Sequential(Scaled(1, 2, 1), nn.Conv2d(2, 1, 1)), stages)
    with torch.no_grad():
        source.get_parameter("0.scale").fill_(5)
    load_start(model, "full_finetuning", {}, source.state_dict())
    assert not differing(snapshot(source), model)


def test_calibration_leaves_the_momentum_of_foreign_normalizations() -> None:
    model = fresh("odd", 1)
    freeze(model, "frozen_random_encoder", {}, generator(0))
    x = torch.rand(4, 1, 16, 16)
    calibrate(model, [x], lambda model, x: model(x))
    norm = model.get_submodule("encoder.0.bn_a")
    assert norm.momentum == 0.3
    inner = F.conv2d(
        F.relu(model.get_submodule("stages")(x)), model.get_parameter("encoder.0.conv_a.weight"), None, 2, 1
    )
    torch.testing.assert_close(norm.running_mean, inner.mean((0, 2, 3)))
