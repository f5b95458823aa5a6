"""Checkpoints as other programs write them: layouts written by hand, files that must not run, series in order."""

from __future__ import annotations

import argparse
import json
import pathlib
import pickle
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lib.common.errors import StudyError
from lib.networks.checkpoint_files import common_prefix, read_checkpoint
from lib.networks.checkpoint_series import fit, read_series


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    body = nn.Sequential(OrderedDict(first=nn.Conv2d(1, 4, 3), norm=nn.BatchNorm2d(4), second=nn.Conv2d(4, 2, 3)))
    return nn.Sequential(OrderedDict(body=body, head=nn.Conv2d(2, 1, 1)))


def state(seed: int = 0, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in network(seed).state_dict().items()}


LIGHTNING = {
    "epoch": 3,
    "global_step": 400,
    "pytorch-lightning_version": "2.5.0",
    "state_dict": {**state(prefix="model."), "criterion.weight": torch.ones(2)},
    "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
    "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": torch.tensor(0.25), "dirpath": "here"}},
    "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}],
    "lr_schedulers": [],
    "hparams_name": "kwargs",
    "hyper_parameters": argparse.Namespace(lr=0.1, folder=pathlib.Path("data")),
}
NNUNET = {
    "network_weights": state(),
    "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(9, 9, 9)}}, "param_groups": []},
    "grad_scaler_state": None,
    "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.7)], "ema": np.ones(3)},
    "_best_ema": np.float64(0.7),
    "current_epoch": 250,
    "init_args": {"plans": {"name": "p"}, "fold": 0, "unpack_dataset": True},
    "trainer_name": "nnUNetTrainer",
    "inference_allowed_mirroring_axes": (0, 1),
}
LAYOUTS: dict[str, tuple[Any, int | None, int | None]] = {
    "plain": (state(), None, None),
    "ordered": (OrderedDict(state(prefix="module.")), None, None),
    "compiled": ({"model": state(prefix="_orig_mod.module."), "iter": torch.tensor(7)}, 7, None),
    "lightning": (LIGHTNING, 400, 3),
    "nnunet": (NNUNET, None, 250),
    "timm": ({"arch": "x", "epoch": 2, "state_dict_ema": state(1), "state_dict": state(), "metric": 1.5}, None, 2),
    "nested": ({"trainer": {"model_state_dict": state(prefix="net.")}, "counts": defaultdict(int, a=1),
                "last": deque([0.5, np.int64(3)], maxlen=4), "seen": {1, 2}, "when": datetime.now()}, None, None),
    "half": ({"step": np.int64(12), "ema": {k: v.half() if v.is_floating_point() else v for k, v in state().items()}},
             12, None),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_weights_under_names_that_fit(name: str, tmp_path: Path):
    content, step, epoch = LAYOUTS[name]
    torch.save(content, tmp_path / f"{name}.ckpt")
    found = read_checkpoint(tmp_path / f"{name}.ckpt")
    assert (found.step, found.epoch) == (step, epoch)
    model = network(5)
    rows = fit(model, found.weights)
    assert {row.status for row in rows if row.name in state()} == {"loaded"}
    for key, value in state().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=2e-3, atol=1e-3 if name == "half" else 0)
    assert all(value.dtype in (torch.float32, torch.int64) for value in found.weights.values())


def test_of_several_networks_the_largest_is_read_and_the_others_are_said(tmp_path: Path):
    large = {**state(), "extra.weight": torch.zeros(99)}
    torch.save({"model": state(), "teacher": large, "loss": torch.tensor(1.0)}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    assert "extra.weight" in found.weights
    assert "weights under teacher" in found.said
    assert any("not read: model" in line for line in found.said)


def test_a_beginning_that_all_names_share_is_taken_off():
    assert common_prefix(["model.a.weight", "model.b.weight"]) == "model."
    assert common_prefix(["a.weight", "a.bias"]) == ""
    assert common_prefix(["net.a.weight", "net.a.bias"]) == "net."
    assert common_prefix(["weight", "a.bias"]) == ""


def test_a_network_that_begins_with_a_name_of_its_own_gets_it_back():
    model = nn.Sequential(OrderedDict(model=network(1)))
    rows = fit(model, state())
    assert {row.status for row in rows} == {"loaded"}
    assert torch.equal(model.state_dict()["model.head.weight"], state()["head.weight"])


class Shared(nn.Module):
    """Holds one convolution under two names, as nnU-Net's blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.all = nn.Sequential(self.conv, nn.ReLU())
        self.out = nn.Conv2d(4, 1, 1)


def test_a_module_under_two_names_is_read_once_and_loaded_under_both(tmp_path: Path):
    trained = Shared()
    torch.save(trained.state_dict(), tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    assert set(found.weights) == {"conv.weight", "conv.bias", "out.weight", "out.bias"}
    assert any("2 tensors stand under a second name" in line for line in found.said)
    renamed = {name.replace("conv", "all.0"): value for name, value in found.weights.items()}
    for weights in (found.weights, renamed):
        model = Shared()
        assert {row.status for row in fit(model, weights)} == {"loaded"}
        assert torch.equal(model.conv.weight, trained.conv.weight)


def test_safetensors_and_shards_are_read(tmp_path: Path):
    save_file(state(), tmp_path / "model.safetensors")
    assert read_checkpoint(tmp_path / "model.safetensors").weights.keys() == state().keys()
    names = list(state())
    parts = {"m-00001-of-00002": names[:3], "m-00002-of-00002": names[3:]}
    folder = tmp_path / "sharded"
    folder.mkdir()
    for suffix, save in ((".safetensors", save_file), (".bin", torch.save)):
        where = {}
        for part, own in parts.items():
            save({name: state()[name] for name in own}, folder / f"{part}{suffix}")
            where |= dict.fromkeys(own, f"{part}{suffix}")
        index = folder / f"m{suffix}.index.json"
        index.write_text(json.dumps({"weight_map": where}))
        assert read_checkpoint(index).weights.keys() == state().keys()
    (folder / "m.bin.index.json").unlink()
    series = read_series(folder)
    assert [moment.file.name for moment in series.moments] == ["m.safetensors.index.json"]
    (folder / "m-00002-of-00002.safetensors").unlink()
    with pytest.raises(StudyError, match=r"names the shard m-00002-of-00002.safetensors, which is missing"):
        read_checkpoint(folder / "m.safetensors.index.json")
    (folder / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(StudyError, match="does not lie beside it"):
        read_checkpoint(folder / "m.safetensors.index.json")
    (folder / "m.safetensors.index.json").write_text("[]")
    with pytest.raises(StudyError, match="no index of shards"):
        read_checkpoint(folder / "m.safetensors.index.json")
    (folder / "m.safetensors.index.json").unlink()
    with pytest.raises(StudyError, match="holds shards of a checkpoint and no index"):
        read_series(folder)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, call: Callable[..., Any], *given: Any) -> None:
        self.call, self.given = call, given

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.given


def leave_a_mark(path: str) -> None:
    Path(path).write_text("ran")


def test_no_code_in_a_file_runs(tmp_path: Path):
    mark = tmp_path / "mark"
    thing = Evil(leave_a_mark, str(mark))
    for content in (thing, {"state_dict": state(), "extra": thing}, {"state_dict": state(), "hparams": {"a": [thing]}}):
        torch.save(content, tmp_path / "evil.pt")
        with pytest.raises(StudyError, match=r"evil.pt holds an object of .*leave_a_mark.*save it anew: torch.save"):
            read_checkpoint(tmp_path / "evil.pt")
        (tmp_path / "evil.pt").write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(StudyError, match=r"not run|could not be read"):
            read_checkpoint(tmp_path / "evil.pt")
        torch.save(content, tmp_path / "evil.safetensors")
        with pytest.raises(StudyError, match=r"evil.safetensors could not be read"):
            read_checkpoint(tmp_path / "evil.safetensors")
    for call, given in ((eval, "1"), (getattr, ("a", "upper"))):
        torch.save({"a": Evil(call, *([given] if isinstance(given, str) else given))}, tmp_path / "evil.pt")
        with pytest.raises(StudyError, match="is not run"):
            read_checkpoint(tmp_path / "evil.pt")
    assert not mark.exists()


def test_a_pickled_network_is_refused_with_the_line_that_saves_it_anew(tmp_path: Path):
    torch.save(network(), tmp_path / "whole.pt")
    with pytest.raises(StudyError, match=r"whole.pt holds .*save it anew: torch.save\(\{\"state_dict\": model"):
        read_checkpoint(tmp_path / "whole.pt")
    with ZipFile(tmp_path / "traced.pt", "w") as archive:  # as torch.jit.save writes them
        archive.writestr("traced/constants.pkl", b"")
    with pytest.raises(StudyError, match="is a traced or scripted network"):
        read_checkpoint(tmp_path / "traced.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "a.pt holds a list and no dictionary of named tensors"),
        ([torch.zeros(1)], "a.pt holds a list and no dictionary of named tensors"),
        (torch.zeros(1), "a.pt holds a Tensor and no dictionary of named tensors"),
        ({0: torch.zeros(1)}, "a.pt holds the keys 0 and no dictionary of named tensors"),
        ({}, "a.pt holds an empty dictionary and no dictionary of named tensors"),
        ({"state_dict": {}}, "a.pt holds the keys state_dict and no dictionary of named tensors"),
        ({"epoch": 3, "loss": 0.5}, "a.pt holds the keys epoch, loss and no dictionary"),
        ({"a.weight": torch.full((2, 2), torch.nan)}, r"a.weight holds NaN or infinity in 4 of 4 places"),
        ({"a.weight": torch.zeros(2, 2, dtype=torch.int8)}, "a.weight is torch.int8; weights must be floating"),
        ({"a.weight": torch.zeros(2, 2, dtype=torch.complex64)}, "must be floating"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(content: Any, message: str, tmp_path: Path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(StudyError, match=message) as refused:
        read_checkpoint(tmp_path / "a.pt")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["gone.pt", "."])
def test_a_missing_file_says_what_to_give(name: str, tmp_path: Path):
    with pytest.raises(StudyError, match=r"no checkpoint at .*; give a file that ends in .pt, .pth"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("keep", [0, 20, 900, 0.5])
def test_a_damaged_file_is_refused_in_one_line(name: str, keep: float, tmp_path: Path):
    (save_file if name.endswith("s") else torch.save)(state(), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / name).write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(StudyError, match=name) as refused:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_other_files_of_that_ending_are_refused_in_one_line(tmp_path: Path):
    with ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    for name in ("a.pt", "b.safetensors"):
        with pytest.raises(StudyError, match=f"{name} could not be read") as refused:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(refused.value)


# Series


def places(folder: Path) -> list[tuple[str, int, str]]:
    return [(moment.file.name, moment.at, moment.unit) for moment in read_series(folder).moments]


def test_the_order_is_that_of_numbers_and_not_of_letters(tmp_path: Path):
    for epoch in (2, 15, 0):
        torch.save(state(epoch), tmp_path / f"net-epoch={epoch}-loss=0.{epoch}3.ckpt")
    assert [at for _, at, _ in places(tmp_path)] == [0, 2, 15]
    assert {unit for *_, unit in places(tmp_path)} == {"epoch"}
    assert read_series(tmp_path).start is None  # epoch 0 is over when it is saved


def test_steps_come_from_contents_first(tmp_path: Path):
    for name, step in (("z", 0), ("epoch=9", 100), ("a", 2000)):
        torch.save({"state_dict": state(step), "global_step": step, "epoch": 1}, tmp_path / f"{name}.ckpt")
    assert places(tmp_path) == [("z.ckpt", 0, "step"), ("epoch=9.ckpt", 100, "step"), ("a.ckpt", 2000, "step")]
    start = read_series(tmp_path).start
    assert start is not None
    assert start.file.name == "z.ckpt"


def test_names_tell_steps_where_contents_do_not(tmp_path: Path):
    for name in ("model_untrained", "model_step_90", "model_step_1000"):
        torch.save(state(len(name)), tmp_path / f"{name}.pth")
    assert [at for _, at, _ in places(tmp_path)] == [0, 90, 1000]


def test_a_folder_per_checkpoint(tmp_path: Path):
    for step in (500, 1000, 20):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file(state(step), folder / "model.safetensors")
        torch.save({"state": {}}, folder / "optimizer.pt")
    assert [at for _, at, _ in places(tmp_path)] == [20, 500, 1000]
    assert any("passed over, by name no networks: optimizer.pt" in line for line in read_series(tmp_path).said)


def test_a_table_decides_and_nothing_known_is_said(tmp_path: Path):
    for name in ("one10", "one9"):
        torch.save(state(len(name)), tmp_path / f"{name}.pt")
    assert places(tmp_path) == [("one9.pt", 0, "place"), ("one10.pt", 1, "place")]
    assert any("no file or name tells a step" in line for line in read_series(tmp_path).said)
    (tmp_path / "series.csv").write_text("file,step\none10.pt,0\none9.pt,50\n")
    assert places(tmp_path) == [("one10.pt", 0, "step"), ("one9.pt", 50, "step")]
    (tmp_path / "series.csv").write_text("file,step\none10.pt,first\n")
    with pytest.raises(StudyError, match=r"the step of one10.pt must be a whole number"):
        read_series(tmp_path)
    (tmp_path / "series.csv").write_text("name\none10.pt\n")
    with pytest.raises(StudyError, match="must have the columns file and step"):
        read_series(tmp_path)


def test_two_files_of_one_step_are_one_or_refused(tmp_path: Path):
    torch.save({"step": 5, "model": state(1)}, tmp_path / "a.pt")
    torch.save({"step": 5, "model": state(1)}, tmp_path / "last.pt")
    assert len(places(tmp_path)) == 1
    assert any("last.pt = a.pt" in line for line in read_series(tmp_path).said)
    torch.save({"step": 5, "model": state(2)}, tmp_path / "last.pt")
    with pytest.raises(StudyError, match=r"a.pt and last.pt are both of step 5 and differ"):
        read_series(tmp_path)


def test_what_does_not_fit_is_a_table_and_too_little_is_refused(tmp_path: Path):
    other = {**state(1), "head.weight": torch.zeros(3, 2, 1, 1), "more.weight": torch.zeros(2)}
    del other["head.bias"]
    torch.save({"step": 0, "model": state()}, tmp_path / "a.pt")
    torch.save({"step": 1, "model": other}, tmp_path / "b.pt")
    series = read_series(tmp_path)
    assert {row[1:3] for row in series.unread} == {
        ("head.weight", "mismatched"), ("head.bias", "missing"), ("more.weight", "unexpected")
    }  # fmt: skip
    for moment in series.moments:
        assert series.weights(moment).keys() == state().keys() - {"head.weight", "head.bias"}
    torch.save({"step": 2, "model": {"x.weight": torch.zeros(3, 3)}}, tmp_path / "c.pt")
    with pytest.raises(StudyError, match=r"a.pt and .* share 0% of the first one's numbers .* not of one network"):
        read_series(tmp_path)


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(StudyError, match=r"holds no checkpoints; they end in .pt"):
        read_series(tmp_path)
    with pytest.raises(StudyError, match="no folder at"):
        read_series(tmp_path / "nothing")


def test_a_wrong_network_is_refused(tmp_path: Path):
    with pytest.raises(StudyError, match=r"the weights do not fit the network .0% of its numbers"):
        fit(nn.Conv2d(3, 50, 7), state())
