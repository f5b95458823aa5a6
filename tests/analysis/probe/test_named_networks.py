"""Networks for the probe by their names, with arguments, as stage maps and from plans; two different ones at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_networks import ODD_MAP, OddNet
from probed import save_series

from analysis.probe.networks import load_network
from analysis.probe.subjects import open_subjects
from analysis.probe.weights_alone import moves
from analysis.probe.with_images import activations_of, counterparts, panels, similarities
from lib.common.errors import StudyError
from lib.networks.foreign import named
from lib.networks.stage_map import OWN, Mapped, map_text, stage_map

PLANNED = """
from torch import nn

class Net(nn.Module):
    def __init__(self, input_channels, num_classes, conv_op, dropout_op, strides, deep_supervision):
        super().__init__()
        assert not deep_supervision and dropout_op is None
        self.only = conv_op(input_channels, num_classes, 3, strides[0])
"""


@pytest.fixture
def odd_map(study_home: Path) -> str:
    """A stage map of the user's own, by its name."""
    (study_home / OWN).mkdir()
    (study_home / OWN / "odd.toml").write_text(map_text(stage_map(ODD_MAP)))
    return "odd"


def plans(folder: Path, labels: dict[str, object], configuration: str = "2d_small") -> Path:
    """A folder of results of nnU-Net with the plans of the network above."""
    own = folder / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    own.mkdir(exist_ok=True)
    architecture = {
        "network_class_name": "planned_net.Net",
        "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv2d", "dropout_op": None, "strides": [2]},
        "_kw_requires_import": ["conv_op", "dropout_op"],
    }
    configurations = {"2d": {"architecture": architecture}, "2d_small": {"inherits_from": "2d"}, "old": {}}
    (own / "plans.json").write_text(json.dumps({"configurations": configurations}))
    (own / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1", "1": "T2"}, "labels": labels}))
    return own


def test_a_network_and_its_arguments_stand_in_one_line():
    assert named('monai:UNet  spatial_dims=2 channels=[4, 8] norm=batch act={"a b": 1} x=null') == (
        "monai:UNet",
        {"spatial_dims": 2, "channels": [4, 8], "norm": "batch", "act": {"a b": 1}, "x": {"null": True}},
    )
    assert named("a.b:c") == ("a.b:c", {})
    with pytest.raises(StudyError, match="after the name of a network only ARGUMENT=VALUE can stand, got 'a:b c'"):
        named("a:b c")
    made = load_network("foreign_networks:OddNet image_channels=3 classes=2 width=6", "")
    assert isinstance(made, OddNet)
    assert made.stages.weight.shape == (6, 3, 3, 3)
    assert not made.training
    again = load_network("foreign_networks:OddNet image_channels=3 classes=2 width=6", "")
    assert torch.equal(made.stages.weight, again.stages.weight)


def test_a_stage_map_is_a_network_by_its_name(odd_map: str):
    made = load_network(f"{odd_map} inputs=3 outputs=2 width=6", "")
    assert isinstance(made, Mapped)
    assert made.core.stages.weight.shape == (6, 3, 3, 3)  # pyright: ignore
    assert load_network(odd_map, "").core.levels.weight.shape == (1, 4, 1, 1)  # pyright: ignore
    with pytest.raises(StudyError, match=r"dim of the stage map of .* is 2, and the task has 3"):
        load_network(f"{odd_map} dim=3", "")


@pytest.mark.parametrize(
    ("labels", "outputs"),
    [
        ({"background": 0, "a": 1, "b": 2, "ignore": 3}, 3),
        ({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, 2),
    ],
)
def test_the_plans_of_nnunet_tell_its_network(
    labels: dict[str, object], outputs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "planned_net.py").write_text(PLANNED)
    monkeypatch.delitem(sys.modules, "planned_net", raising=False)
    folder = plans(tmp_path, labels)
    made = load_network(f"nnunet:{folder.name}", str(tmp_path))
    assert made.only.weight.shape == (outputs, 2, 3, 3)  # pyright: ignore
    assert made.only.stride == (2, 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smp:Unet", r"smp:Unet: segmentation_models_pytorch cannot be imported here .*; "
         r"pip install segmentation-models-pytorch torchvision pillow \(torchvision of the build that fits torch 2"),
        ("nnunet:results/x", r"plans\.json does not exist.*TRAINER__PLANS__CONFIGURATION"),
        ("nnunet:nnUNetTrainer__nnUNetPlans__old", "does not tell an nnU-Net .KeyError: 'architecture'"),
        ("oddd", "unknown model 'oddd'; did you mean 'odd'.* Known: .*monai:NAME"),
    ],
)  # fmt: skip
def test_what_is_missing_is_told_with_its_remedy(name: str, message: str, odd_map: str, tmp_path: Path):
    plans(tmp_path, {}, "old")
    with pytest.raises(StudyError, match=message) as told:
        load_network(name, str(tmp_path))
    assert "\n" not in str(told.value)


def save_odd(folder: Path, seed: int, wide: int = 4) -> None:
    """An untrained network, and one in which two of its modules have moved."""
    folder.mkdir()
    torch.manual_seed(seed)
    model = OddNet(1, 1, wide)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "step": 0}, folder / "0.pt")
    for name in ("encoder.1.conv_b.weight", "up1.weight"):
        state[name] = state[name] + 0.1 * torch.randn(state[name].shape, generator=torch.Generator().manual_seed(seed))
    torch.save({"state_dict": state, "step": 9}, folder / "9.pt")


def test_stages_are_those_of_the_stage_map_and_else_the_first_part_that_not_all_layers_share(
    odd_map: str, tmp_path: Path
):
    save_odd(tmp_path / "a", 0)
    expected = {"stages": "stem", "encoder.0.conv_a": "block1", "encoder.1.conv_b": "block2", "up0.0": "up0",
                "levels": "last"}  # fmt: skip
    (subject,) = open_subjects([str(tmp_path / "a")], [odd_map])
    found = moves(subject).set_index("layer").stage
    assert {name: found[name] for name in expected} == expected
    (subject,) = open_subjects([str(tmp_path / "a")])
    assert any("layers are taken for plain convolutions" in line for line in subject.said)
    assert set(moves(subject).stage) == {"stages", "encoder", "up1", "up0", "levels", "again"}
    (tmp_path / "b").mkdir()
    weights = {"model.a.conv.weight": torch.randn(4, 4, 3, 3), "model.b.0.weight": torch.randn(4, 4, 3, 3)}
    for step in (0, 1):
        torch.save({"state_dict": weights, "step": step}, tmp_path / "b" / f"{step}.pt")
    (subject,) = open_subjects([str(tmp_path / "b")])
    assert list(moves(subject).stage) == ["a", "b"]


def test_two_different_networks_are_set_side_by_side(code: str, odd_map: str, tmp_path: Path):
    save_series(tmp_path / "a", 0)
    save_odd(tmp_path / "b", 1)
    torch.save({"images": torch.randn(24, 1, 16, 16)}, tmp_path / "images.pt")
    subjects = open_subjects([str(tmp_path / "a"), str(tmp_path / "b")], [code, odd_map], str(tmp_path))
    kept, said = activations_of(subjects, str(tmp_path / "images.pt"), ["*", "stages,encoder.?,up?,levels"])
    assert "b: 6 layers that fit stages,encoder.?,up?,levels" in said
    found = similarities(kept)
    shown = panels(found, subjects)
    cross = shown["a (rows) | b (columns), last checkpoints"]
    assert list(cross.columns) == ["stages", "encoder.0", "encoder.1", "up1", "up0", "levels"]
    table, method = counterparts(kept, subjects)
    assert "24 probe images" in method
    assert list(table.series) == ["a"] * len(cross) + ["b"] * 6
    assert table.same.isna().all()
    untrained = shown["a (rows) | b (columns), untrained"]
    for row in table.itertuples():
        values, begun = (each.loc[row.layer] if row.series == "a" else each[row.layer] for each in (cross, untrained))
        assert row.counterpart == values.idxmax()
        assert row.similarity == pytest.approx(values.max())
        assert row.untrained == pytest.approx(begun.max())
        assert row.low < row.similarity < row.high
    with pytest.raises(StudyError, match="give one --layers for all folders or one for each of the 2, got 3"):
        activations_of(subjects, str(tmp_path / "images.pt"), ["*", "*", "*"])
    with pytest.raises(StudyError, match="give one --network for all folders or one for each of the 1, got 2"):
        open_subjects([str(tmp_path / "a")], [code, odd_map])


def test_a_network_is_its_own_best_counterpart_under_other_names(tmp_path: Path, odd_map: str):
    """Planted: the second network computes the same in layers of other names, behind one of no use."""
    save_odd(tmp_path / "a", 0)
    (tmp_path / "b").mkdir()
    (tmp_path / "renamed.py").write_text(
        "from foreign_networks import OddNet\nfrom torch import nn\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        own = OddNet(1, 1)\n"
        "        self.first, self.deep, self.tail, self.own = own.stages, own.encoder[1], own.up0, own\n\n"
        "    def forward(self, x):\n        return self.own(x)\n"
    )
    for step in (0, 9):
        state = torch.load(tmp_path / "a" / f"{step}.pt")["state_dict"]
        torch.save(
            {"state_dict": {f"own.{k}": v for k, v in state.items()}, "step": step}, tmp_path / "b" / f"{step}.pt"
        )
    torch.save({"images": torch.randn(24, 1, 16, 16)}, tmp_path / "images.pt")
    networks = [odd_map, "renamed:Net"]
    subjects = open_subjects([str(tmp_path / "a"), str(tmp_path / "b")], networks, str(tmp_path))
    sys.path.remove(str(tmp_path))
    kept, _ = activations_of(subjects, str(tmp_path / "images.pt"), ["stages,encoder.?,up0,levels", "first,deep,tail"])
    table, _ = counterparts(kept, subjects)
    back = table[table.series == "b"].set_index("layer")
    assert dict(back.counterpart) == {"first": "stages", "deep": "encoder.1", "tail": "up0"}
    np.testing.assert_allclose(back.similarity, 1, atol=1e-6)
    there = table[table.series == "a"].set_index("layer")
    assert there.counterpart["stages"] == "first"
    assert there.similarity["encoder.0"] < 1 - 1e-3
