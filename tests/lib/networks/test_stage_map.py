"""A network from elsewhere told in stages: the same tensors by the same names, the same numbers, every fault named."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_networks import NESTED_MAP, ODD_MAP, OddNet
from torch import nn

from lib.__main__ import main
from lib.common import paths
from lib.common.errors import StudyError
from lib.networks.foreign import COLLECTIONS, construct, origin
from lib.networks.stage_map import SHIPPED, Mapped, load_map, map_text, stage_map
from lib.networks.stage_proposal import propose
from lib.networks.stages import layer_groups, parameters_by_stage
from lib.networks.unet import UNet

MONAI = pytest.mark.filterwarnings("ignore")  # of the foreign package, when it is imported


def odd(seed: int = 0) -> Mapped:
    return stage_map(ODD_MAP).build(1, 1, 2, seed)


def changed(table: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(table), **changes}


def test_names_tensors_and_numbers_are_those_of_the_network() -> None:
    model, plain = odd(3), construct("foreign_networks:OddNet", {"image_channels": 1, "classes": 1}, 3)
    assert isinstance(plain, OddNet)
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert list(model.state_dict()) == [name for name in plain.state_dict() if not name.startswith("again.")]
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(model.eval()(x), plain.eval()(x))
    assert torch.equal(model.train()(x), plain.train()(x))
    assert torch.equal(model.state_dict()["encoder.0.bn_a.running_mean"], plain.encoder[0].bn_a.running_mean)


def test_stages_are_those_of_the_map() -> None:
    model = odd()
    assert model.stages == ["stem", "block1", "block2", "up1", "up0", "last"]
    assert (model.encoder, model.decoder, model.last) == (model.stages[:3], model.stages[3:], ["last"])
    assert layer_groups(model, "level") == [["stem", "up0", "last"], ["block1", "up1"], ["block2"]]
    asked = ("gain", "encoder.0.bn_a.weight", "encoder.0.bn_a", "encoder.1.conv_a.scale", "encoder", "levels.bias")
    assert [model.stage_of(each) for each in asked] == ["up0", "block1", "block1", "block2", "", "last"]
    assert sum(row["parameters"] for row in parameters_by_stage(model).values()) == sum(
        each.numel() for each in model.parameters()
    )
    assert model.get_submodule("encoder.0") is model.get_submodule("again")
    assert [type(each) for each in model.modules_of("up0")] == [nn.Sequential]


def test_copies_and_pickles_share_no_tensor_and_stay_whole() -> None:
    model = odd()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        x = torch.rand(1, 1, 16, 16)
        assert torch.equal(twin.eval()(x), model.eval()(x))
        with torch.no_grad():
            twin.get_parameter("gain").fill_(5)
            twin.get_parameter("encoder.0.conv_a.weight").zero_()
        assert not torch.equal(twin(x), model(x))
        assert model.get_parameter("gain") == 1
        assert not twin.core.training


def test_loading_fills_a_tensor_of_several_names_once() -> None:
    model, other = odd(0), odd(1)
    model.load_state_dict(other.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert model.get_submodule("again.conv_a") is model.get_submodule("encoder.0.conv_a")
    with pytest.raises(RuntimeError, match=r"Missing key.*gain"):
        model.load_state_dict({name: each for name, each in other.state_dict().items() if name != "gain"})


def test_weights_follow_from_the_seed_and_touch_no_random_state() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, again, other = odd(4), odd(4), odd(5)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.get_parameter("stages.weight"), other.get_parameter("stages.weight"))
    with torch.device("meta"):
        assert stage_map(NESTED_MAP).build(1, 1, 3, 0)(torch.rand(1, 1, 4, 4, 4, device="cpu")).device.type == "cpu"


def test_a_map_is_the_same_after_its_table() -> None:
    for table in (ODD_MAP, NESTED_MAP):
        assert stage_map(stage_map(table).table()) == stage_map(table)


def test_arguments_may_be_imported_and_may_be_nothing(tmp_path: Path) -> None:
    given = {"in_channels": 1, "out_channels": 2, "kernel_size": 1, "device": {"null": True}}
    assert construct("torch.nn:Conv2d", given, 0).weight.shape == (2, 1, 1, 1)
    table = {
        **ODD_MAP,
        "arguments": {"kind": {"import": "torch.nn:Conv2d"}, "none": {"null": True}, "x": [1, [0.5, "a"]]},
    }
    (tmp_path / "mine.toml").write_text(map_text(stage_map(table)))
    assert load_map(str(tmp_path / "mine.toml"))[1] == stage_map(table)


BY_HAND = "residual_example"  # corrected, for notebook 11
SHIPPED_MAPS = sorted(file.stem for file in SHIPPED.glob("*.toml") if file.stem != BY_HAND)


def test_maps_are_shipped_for_three_collections() -> None:
    assert len(SHIPPED_MAPS) == 8
    assert {name.partition("_")[0] for name in SHIPPED_MAPS} == {"monai", "nnunet", "smp"}


@MONAI
@pytest.mark.parametrize("name", SHIPPED_MAPS)
def test_shipped_maps_fit_their_networks(name: str) -> None:
    found = load_map(name)[1]
    pytest.importorskip(COLLECTIONS[found.network.partition(":")[0]].partition(".")[0], exc_type=ImportError)
    dims = (2, 3) if isinstance(found.dim, str) else (found.dim,)
    for dim in dims:
        model = found.build(2, 3, dim, 0).eval()
        assert model(torch.rand(1, 2, *[32] * dim)).shape == (1, 3, *[32] * dim)
    again = propose(found.network, found.arguments, inputs=2, outputs=3, dim=dims[0], size=32)
    told = [[(each.modules, each.encoder) for each in one.stages] for one in (found, again)]
    assert told[0] == told[1]


def test_the_origin_of_a_network_is_its_file() -> None:
    found = origin("foreign_networks:OddNet")
    assert found.keys() == {"name", "sha256"}
    assert origin("torch.nn:Conv2d")["package"].startswith("torch ")


def test_a_package_that_fails_at_its_import_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text("raise RuntimeError('operator nms does not exist\\nmore')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        StudyError, match=r"cannot be imported here \(RuntimeError: operator nms does not exist\); it must"
    ):
        construct("broken_package:make", {}, 0)


STAGES = ODD_MAP["stages"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"netwrk": "x"}, "unknown key of a stage map 'netwrk'; did you mean 'network'"),
        ({"stages": STAGES[:1]}, "needs at least two stages"),
        ({"inputs": 0}, "inputs of a stage map is the name of an argument, or a whole number, got 0"),
        ({"dim": True}, "dim of a stage map is"),
        ({"arguments": {"classes": 2}}, "classes is set by the task; take it out of the arguments"),
        ({"stages": [*STAGES, STAGES[0]]}, "two stages of the stage map are called 'stem'"),
        ({"stages": STAGES[3:]}, "needs stages with encoder = true, and some without"),
        ({"stages": [{**STAGES[0], "level": 5}, *STAGES[1:]]}, r"levels .* without gaps, got \[0, 1, 2, 5\]"),
        ({"stages": [{**STAGES[0], "name": "a b"}, *STAGES[1:]]}, "a stage needs a name .*, got 'a b'"),
        ({"stages": [{**STAGES[0], "modules": "up1"}, *STAGES[1:]]}, "stage 'stem' needs modules, a list"),
        ({"stages": [{**STAGES[0], "level": -1}, *STAGES[1:]]}, "stage 'stem' needs a level, 0 or more, got -1"),
        ({"stages": [{**STAGES[0], "encoder": 1}, *STAGES[1:]]}, "encoder of stage 'stem' must be true or false"),
        ({"stages": [{**STAGES[0], "modules": ["stagse"]}, *STAGES[1:]]}, "module 'stagse'; the nearest is 'stages'"),
        (
            {"stages": [{**STAGES[0], "modules": ["stages", "up1"]}, *STAGES[1:]]},
            "'up1' is in two stages, 'stem' and 'up1'",
        ),
        ({"stages": [*STAGES[:4], {**STAGES[4], "modules": ["up0"]}, STAGES[5]]}, "'gain' is in no stage"),
        ({"network": "OddNet"}, "a network is named package.module:function, or monai:NAME, .*; got 'OddNet'"),
        ({"network": "foreign_networks:OdNet"}, "unknown name in foreign_networks 'OdNet'; did you mean 'OddNet'"),
        ({"network": "no_such_module:x"}, "no_such_module:x: no_such_module cannot be imported here"),
        ({"arguments": {"wdth": 3}}, "foreign_networks:OddNet cannot be made with .*wdth"),
        ({"network": "foreign_networks:dict"}, "unknown name"),
        ({"inputs": 3}, "inputs of the stage map of foreign_networks:OddNet is 3, and the task has 1"),
    ],
)
def test_faults_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        stage_map(changed(ODD_MAP, **changes)).build(1, 1, 2, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["network", "dim", "inputs", "outputs", "stages"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(StudyError, match=f"a stage map needs {key}"):
        stage_map({name: value for name, value in ODD_MAP.items() if name != key})


def test_a_stage_without_parameters_is_named() -> None:
    stages = [*STAGES[:4], {**STAGES[4], "modules": ["up0.0", "up0.1", "gain"]}, STAGES[5]]
    empty = {"name": "relu", "modules": ["up0.2"], "level": 0}
    with pytest.raises(StudyError, match="stage 'relu' holds no parameter"):
        stage_map(changed(ODD_MAP, stages=[*stages, empty])).build(1, 1, 2, 0)


def test_a_network_with_several_outputs_is_refused() -> None:
    stages = [{"name": "a", "modules": ["a"], "level": 0, "encoder": True}, {"name": "b", "modules": ["b"], "level": 0}]
    table = {"network": "foreign_networks:two_outputs", "dim": 2, "inputs": "channels", "outputs": "classes"}
    model = stage_map({**table, "stages": stages}).build(1, 1, 2, 0)
    with pytest.raises(StudyError, match="gives a list and not one tensor; give it arguments"):
        model(torch.rand(1, 1, 8, 8))


# ---- proposals and files ----------------------------------------------------------------------------------------


def test_the_proposal_for_the_studys_own_network_is_its_own_stages() -> None:
    found = propose("lib.networks.unet:UNet", {"width": 2, "depth": 3}, inputs=1, outputs=2, dim=3, size=16)
    own = UNet(width=2, depth=3, dim=3)
    model = found.build(1, 2, 3, 0)
    assert (model.stages, model.encoder, model.levels) == (own.stages, own.encoder, own.levels)
    assert (found.dim, found.inputs, found.outputs) == ("dim", "inputs", "outputs")


def test_the_proposal_follows_the_data_and_names_every_parameter() -> None:
    given = {"image_channels": 1}
    with pytest.raises(StudyError, match="cannot take an image of"):
        propose("foreign_networks:OddNet", {**given, "classes": 1}, inputs=2, outputs=1, dim=2, size=16)
    found = propose("foreign_networks:OddNet", {**given, "classes": 1}, inputs=1, outputs=1, dim=2, size=16)
    assert (found.inputs, found.outputs, found.dim) == (1, 1, 2)  # no argument has a name that is known
    told = {stage.name: (stage.modules, stage.level, stage.encoder) for stage in found.stages}
    assert told == {
        "enc0": (("stages",), 0, True),
        "enc1": (("encoder.0",), 1, True),
        "enc2": (("encoder.1",), 2, True),
        "dec1": (("up1",), 1, False),
        "dec0": (("up0",), 0, False),
        "head": (("levels", "gain"), 0, False),
    }


def test_a_network_that_goes_neither_down_nor_up_gets_no_proposal() -> None:
    with pytest.raises(StudyError, match="write its stage map by hand"):
        propose("foreign_networks:classifier", {"channels": 1, "classes": 1}, inputs=1, outputs=1, dim=2, size=16)


@MONAI
@pytest.mark.parametrize(
    ("name", "given", "stages"),
    [
        ("UNet", {"channels": [4, 8, 16], "strides": [2, 2]}, ["enc1", "enc2", "dec1", "head"]),
        (
            "BasicUNet",
            {"features": [4, 4, 8, 8, 8, 4]},
            ["enc0", "enc1", "enc2", "enc3", "enc4", "dec3", "dec2", "dec1", "dec0", "head"],
        ),
        (
            "DynUNet",
            {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 16]},
            ["enc0", "enc1", "enc2", "dec1", "dec0", "head"],
        ),
    ],
)
@pytest.mark.parametrize("dim", [2, 3])
def test_networks_of_monai_are_proposed_and_read_back(
    name: str, given: dict[str, Any], stages: list[str], dim: int, tmp_path: Path
) -> None:
    pytest.importorskip("monai")
    found = propose(f"monai:{name}", given, inputs=2, outputs=3, dim=dim, size=32)
    assert [stage.name for stage in found.stages] == stages
    (tmp_path / "mine.toml").write_text(map_text(found))
    label, again = load_map(str(tmp_path / "mine.toml"))
    assert (label, again.table()) == ("mine", found.table())
    assert again.build(2, 3, dim, 0).eval()(torch.rand(1, 2, *[32] * dim)).shape == (1, 3, *[32] * dim)


def test_the_command_writes_a_map_that_its_name_finds(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setenv("STUDY_HOME", str(tmp_path))
    asked = ["network", "card", "lib.networks.unet:UNet", "width=2", "depth=1", "--dim", "3", "--size", "8"]
    assert main(asked) == 0
    assert "dec0       level 0  decoder" in capsys.readouterr().out
    assert load_map("UNet")[1].build(1, 1, 3, 0).stages == ["enc0", "enc1", "dec0", "head"]
    assert main(asked) == 2
    assert f"{paths.home() / 'network_maps' / 'UNet.toml'} exists" in capsys.readouterr().err
    assert main(["network", "card", "lib.networks.unet:UNet", "width"]) == 2
    assert "expected ARGUMENT=VALUE, got 'width'" in capsys.readouterr().err


def test_a_map_that_is_not_there_or_damaged_is_named(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STUDY_HOME", str(tmp_path))
    with pytest.raises(StudyError, match=r"unknown model 'unett'; did you mean 'unet'\? .* or the path of a stage map"):
        load_map("unett", ("unet",))
    with pytest.raises(StudyError, match=r"no stage map at .*none.toml"):
        load_map(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("network = ")
    with pytest.raises(StudyError, match=r"bad.toml is not valid TOML"):
        load_map(str(tmp_path / "bad.toml"))
    (tmp_path / "bad.toml").write_text('network = "x"\n')
    with pytest.raises(StudyError, match=r"bad.toml: a stage map needs dim"):
        load_map(str(tmp_path / "bad.toml"))
