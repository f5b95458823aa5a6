"""Notebook 11: checkpoints of the shipped network, its stages, what strategies moved, and names, on planted cases."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from analysis.claims.your_network import checkpoints
from analysis.claims.your_network.checkpoints import SHIPPED, last_weights, probe_file, shipped_checkpoints
from analysis.claims.your_network.figures import what_moved
from analysis.claims.your_network.stage_tables import proposed_and_chosen, stage_table
from analysis.claims.your_network.tuning import moved_table, names_table
from analysis.probe.subjects import open_subjects
from lib.common import paths
from lib.common.errors import StudyError
from lib.networks.checkpoint_series import read_series
from lib.networks.foreign import construct
from lib.networks.stage_map import load_map, map_text
from lib.training.loop import train

pytestmark = pytest.mark.usefixtures("blobs_as_data")
MAP = "residual_example"


@pytest.fixture
def series(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Checkpoints of a training of five steps on the task `blobs`."""
    monkeypatch.setattr(checkpoints, "FIRST_TASK", "blobs")
    return shipped_checkpoints(SHIPPED, steps=5, size=16, say=lambda line: None)


def test_the_shipped_network_is_trained_once_from_its_own_start(series: Path, monkeypatch: pytest.MonkeyPatch):
    (subject,) = open_subjects([str(series)], [SHIPPED])
    assert [moment.at for moment in subject.series.moments] == [0, 1, 4, 5]
    assert subject.series.start is not None
    assert not len(subject.unread())
    start = construct(SHIPPED, {}, seed=0).state_dict()
    assert all(torch.equal(start[name], value) for name, value in subject.weights(subject.series.moments[0]).items())
    lines: list[str] = []
    monkeypatch.setattr(checkpoints, "fit", None)
    assert shipped_checkpoints(SHIPPED, steps=5, size=16, say=lines.append) == series
    assert lines == ["5 steps were trained before"]
    assert sorted(each.name for each in series.parent.iterdir()) == ["residual"]


def test_another_network_needs_checkpoints_and_a_map_of_its_own():
    with pytest.raises(StudyError, match=r"checkpoints must name the folder that holds those of my.net:make"):
        shipped_checkpoints("my.net:make", steps=5, size=16, say=print)
    with pytest.raises(StudyError, match=r"stages must be a map of .*ResidualNet, got 'monai_unet' of monai:UNet"):
        proposed_and_chosen(SHIPPED, "monai_unet", "blobs", 16)


def test_the_last_checkpoint_is_named_where_starts_are_found(series: Path, tmp_path: Path):
    assert (paths.weights_dir() / last_weights(read_series(series))).samefile(series / "step=5.ckpt")
    elsewhere = tmp_path / "mine"
    series.rename(elsewhere)
    given = read_series(elsewhere)
    name = last_weights(given)
    assert name == "your_network/mine-step-5.safetensors"
    run = tiny_spec(name)
    assert run.weights is not None
    assert run.weights["file"] == name


def tiny_spec(weights: str, **changes):
    own = {name: getattr(tiny.RunSpec, name) for name in ("width", "depth", "norm")}  # a stage map has none
    about = {"model": "your_network", "stage_map": load_map(MAP)[1].table(), "weights": weights, "checkpoints": "ends"}
    return tiny.spec(**{**own, **about, "strategy": "full_finetuning", **changes})


def test_what_was_corrected_in_a_proposal_is_marked_and_nothing_else(tmp_path: Path):
    proposal, chosen = proposed_and_chosen(SHIPPED, MAP, "blobs", 16)
    table = stage_table(proposal, chosen, "blobs").set_index("part")
    assert set(table.index[table.corrected == "yes"]) == {"rise2.squeeze", "rise1.squeeze", "rise0.squeeze"}
    assert (table.proposed["rise2.squeeze"], table.stage["rise2.squeeze"]) == ("enc3", "dec2")
    assert table.parameters.sum() == sum(each.numel() for each in construct(SHIPPED, {}, seed=0).parameters())
    assert list(dict.fromkeys(table.stage)) == [stage.name for stage in chosen.stages]
    same, taken = proposed_and_chosen(SHIPPED, "", "blobs", 16)
    assert same == taken
    assert not stage_table(same, taken, "blobs").corrected.any()
    answer = dataclasses.replace(proposal.stages[-1], name="last")  # a name of one's own is a correction, too
    mine = dataclasses.replace(proposal, stages=(*proposal.stages[:-1], answer))
    (tmp_path / "mine.toml").write_text(map_text(mine))
    both = proposed_and_chosen(SHIPPED, str(tmp_path / "mine.toml"), "blobs", 16)
    table = stage_table(*both, "blobs").set_index("part")
    assert set(table.index[table.corrected == "yes"]) == {"answer"}


def test_what_moved_is_what_may_move_and_the_figure_says_what_is_frozen(series: Path):
    weights = last_weights(read_series(series))
    arms = ("full_finetuning", "decoder_only", "norm_only")
    runs = [train(tiny_spec(weights, strategy=arm)) for arm in arms]
    table = moved_table(runs)
    whole = table[table.strategy == "full_finetuning"]
    assert (whole.moved == whole.parameters).all()
    assert (whole.angle > 0).all()
    frozen = table[(table.strategy == "decoder_only") & table.stage.str.startswith("enc")]
    assert len(frozen) == 4
    assert not frozen[["may_move", "moved", "statistics"]].to_numpy().any()
    assert (frozen.angle == 0).all()
    norms = table[(table.strategy == "norm_only") & (table.stage == "enc1")].iloc[0]
    assert (norms.moved, norms.statistics, norms.angle) == (4 * 16, 4, 0)  # two normalizations of sixteen channels
    assert (table.moved == table.may_move).all()
    words = [text.get_text() for text in what_moved(table).texts]
    assert len(words) == len(table) + 1  # and the note
    assert words.count("frozen") == len(frozen) + 1  # a first layer without normalization


def test_names_to_freeze_are_those_of_the_network_itself():
    model = load_map(MAP)[1].build(1, 1, 2, seed=0)
    ranking = pd.DataFrame({"set": ["ends", "bottom"], "stages": ["enc0 head", "enc3"]})
    table = names_table(model, ranking).set_index("parameter")
    assert list(table.index) == [name for name, _ in construct(SHIPPED, {}, seed=0).named_parameters()]
    assert set(table.index[table.ends == "train"]) == {"entry.weight", "entry.bias", "answer.weight", "answer.bias"}
    assert set(table.stage[table.bottom == "train"]) == {"enc3"}
    assert {name.split(".")[0] for name in table.index[table.bottom == "train"]} == {"shrink3"}


def test_images_to_look_at_are_a_file_of_what_a_run_sees():
    images = np.load(probe_file("blobs", 16))
    assert images.shape == (30, 1, 16, 16)
    assert abs(images.mean(axis=(1, 2, 3))).max() < 1e-4


def test_a_stage_without_convolutions_has_a_share_and_no_angle():
    about = {"strategy": "norm_only", "parameters": 10, "may_move": 5, "statistics": 0}
    rows = [{"stage": "a", "moved": 5, "angle": np.nan, **about}, {"stage": "b", "moved": 10, "angle": 30.0, **about}]
    ax = what_moved(pd.DataFrame(rows))
    words = {text.get_position(): text.get_text() for text in ax.texts}
    assert (words[0.5, 0.5], words[0.5, 1.5]) == ("50 % moved", "30.0°")
