"""Equality: checkpoints that the study's own runs exported give the tables that notebooks 06 to 08 make of the runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from analysis.filters.change import filter_change_of_run, filter_change_over_training
from analysis.filters.randomness.battery import battery, rejections
from analysis.probe.subjects import open_subjects
from analysis.probe.weights_alone import moves, randomness, when_moved
from analysis.probe.with_images import activations_of, panels, similarities, to_ends
from analysis.representations.capture.activations import standardized
from analysis.representations.evolution import every_checkpoint, layer_pairs, similarity_to_ends
from analysis.representations.run_similarity import probe_images
from lib.runs.run import Run
from lib.training.loop import train

NETWORK = "lib.networks.unet:UNet width=8 depth=1 norm=batch"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def chosen(home: Path, blobs: Path) -> dict[str, Run]:
    """A run from scratch and one that starts from a source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_HOME", str(home))
        patch.setenv("STUDY_DATA", str(blobs))
        source = tiny.spec(width=8, volume=None, seed=7)
        train(source)
        tuned = train(tiny.spec(width=8, strategy="full_finetuning", source=source))
        return {"own": tuned, "random": train(tiny.spec(width=8))}


@pytest.fixture
def exported(
    chosen: dict[str, Run], home: Path, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """Their checkpoints as plain PyTorch writes them, in an order that says nothing."""
    monkeypatch.setenv("STUDY_HOME", str(home))
    monkeypatch.setenv("STUDY_DATA", str(blobs))
    folders = {}
    for group, run in chosen.items():
        folders[group] = tmp_path / group
        folders[group].mkdir()
        for number, step in enumerate(reversed(run.steps())):
            content = {"model_state_dict": run.weights(step), "global_step": step}
            torch.save(content, folders[group] / f"{number}.pt")
    return folders


@pytest.mark.parametrize("network", [[], [NETWORK]])
def test_how_far_filters_moved_is_what_notebook_06_says(
    chosen: dict[str, Run], exported: dict[str, Path], network: list[str]
):
    for group, run in chosen.items():
        assert len(run.steps()) > 3
        (subject,) = open_subjects([str(exported[group])], network)
        assert not len(subject.not_read())
        assert not len(subject.unread())
        found = moves(subject)
        over_training = filter_change_over_training(run)
        columns = list(over_training.columns.drop("run_id"))
        pd.testing.assert_frame_equal(found.rename(columns={"at": "step"})[columns], over_training[columns])
        last = filter_change_of_run(run)
        summary = when_moved(found)
        assert list(summary.layer) == list(last.layer)
        assert list(summary.stage) == list(last.stage)
        assert set(last.kind) == {"convolution", "transposed", "pointwise"}
        np.testing.assert_array_equal(summary.angle, last.angle_median)
        np.testing.assert_array_equal(summary.rank_after, last.rank_after)


@pytest.mark.parametrize("network", [[], [NETWORK]])
def test_whether_filters_look_random_is_what_notebook_07_says(
    chosen: dict[str, Run], exported: dict[str, Path], network: list[str]
):
    run = chosen["random"]
    (subject,) = open_subjects([str(exported["random"])], network)
    verdicts, table, _ = randomness(subject, draws=499)
    assert set(verdicts.laws) == {"normal"}
    for step in (0, run.steps()[-1]):
        found = table[table.checkpoint == f"step {step}"].reset_index(drop=True)
        expected = battery(run.weights(step), draws=499)
        pd.testing.assert_frame_equal(found[list(expected.columns)], expected)
        pd.testing.assert_frame_equal(rejections(found), rejections(expected))
        own = verdicts[verdicts.checkpoint == f"step {step}"].set_index("layer").verdict
        rejected = set(expected[expected.p_holm < 0.05].layer)
        assert {name for name, verdict in own.items() if verdict == "not random"} == rejected


def test_what_layers_compute_is_what_notebook_08_says(
    chosen: dict[str, Run], exported: dict[str, Path], tmp_path: Path
):
    runs = list(chosen.values())
    images, _ = probe_images("blobs", runs[0].spec.size, runs)
    torch.save({"images": standardized(images)}, tmp_path / "images.pt")
    subjects = open_subjects([str(each) for each in exported.values()], [NETWORK])
    kept, _ = activations_of(subjects, str(tmp_path / "images.pt"), ["enc?,dec?"])
    found = similarities(kept)
    every = every_checkpoint(chosen)
    np.testing.assert_allclose(found.values, every.values, atol=1e-5)
    assert np.ptp(every.values) > 0.1  # no map of ones, in which all would agree

    evolution = similarity_to_ends(every, chosen).rename(columns={"group": "series"})
    ends = pd.concat([to_ends(found, subject) for subject in subjects]).rename(columns={"at": "step"})
    keys = ["series", "layer", "step"]
    ends, evolution = (each.set_index(keys)[["start", "end"]].sort_index() for each in (ends, evolution))
    pd.testing.assert_frame_equal(ends, evolution, atol=1e-5)

    shown, pairs = panels(found, subjects), layer_pairs(every, chosen)
    last = chosen["own"].steps()[-1]
    same = {
        "untrained | with itself": "random, step 0",
        "from random weights | with itself": f"random, step {last}",
        "from a source | with itself": f"own, step {last}",
        "source (rows) | with random (columns)": "own (rows) | random (columns), last checkpoints",
    }
    assert set(same) == set(pairs)
    for theirs, ours in same.items():
        np.testing.assert_allclose(shown[ours].to_numpy(), pairs[theirs].values, atol=1e-5)
        assert list(shown[ours].index) == [label.layer for label in pairs[theirs].rows]
