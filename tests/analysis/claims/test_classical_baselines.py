"""Classical baselines beside networks, examples to look at, and their figures."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from analysis.claims.linear_finetuning import classical_baselines, example_images
from analysis.claims.linear_finetuning.image_figures import (
    METHODS,
    measured_kspace,
    method_scores,
    sampling_masks,
    simulated_beside_real,
)
from lib.common.errors import StudyError
from lib.data.cards import find_card
from lib.data.tasks.catalog import SLICES
from lib.data.tasks.scans import scan_tasks
from lib.data.tasks.task import TASKS
from lib.imaging import mri
from lib.imaging.coil_calibration import Reconstructions
from lib.imaging.kspace import Measured
from lib.runs.run import Run
from lib.runs.spec import RunSpec
from lib.training import loop
from lib.training.loop import train


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Two cascades and a U-Net on ten subjects, trained for a moment, and a run that is no part of the comparison."""
    monkeypatch.setenv("STUDY_HOME", str(home))
    monkeypatch.setitem(TASKS, "sim_brain_t1", dataclasses.replace(TASKS["sim_brain_t1"], images=10 * SLICES))
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(loop, "stamp", lambda device: {})
    base: dict[str, Any] = {"task": "sim_brain_t1", "size": 32, "width": 4, "steps": 4, "evaluations": 1, "batch": 4}
    net: dict[str, Any] = {"model": "cascade", "norm": "none", "blocks": 1, "depth": 2}
    specs = [
        RunSpec(**base, **net),
        RunSpec(**base, **net, seed=1),
        RunSpec(**base, depth=2),
        RunSpec(**base, **net, volume=2),
    ]
    return [train(spec) for spec in specs]


def test_every_method_on_the_same_slices(home: Path, monkeypatch: pytest.MonkeyPatch):
    trained = runs(home, monkeypatch)
    table = classical_baselines.scores_by_method(trained)
    assert table.columns.tolist() == classical_baselines.COLUMNS
    assert set(table.task) == {"sim_brain_t1@4"}
    counts = table.groupby("method", sort=False).agg(seeds=("seeds", "first"), ids=("id", "nunique"))
    assert counts.seeds.to_dict() == {"zero-filled": 0, "total variation": 0, "cascade": 2, "U-Net": 1}
    assert (counts.ids == 2 * SLICES).all()
    scores = table.set_index(["method", "id"])
    results = [run.result or {} for run in trained]
    first = results[0]["test"]["per_image"]
    expected = np.mean([each["test"]["per_image"]["psnr"] for each in results[:2]], axis=0)
    assert scores.loc["cascade"].psnr.loc[first["id"]].tolist() == pytest.approx(expected.tolist())
    assert scores.loc["zero-filled"].psnr.mean() == pytest.approx(results[0]["test"]["zero_filled"]["psnr"], abs=0.2)
    assert scores.loc["total variation"].psnr.mean() > scores.loc["zero-filled"].psnr.mean()
    means = classical_baselines.method_table(table)
    assert means.set_index("method").networks.to_dict() == counts.seeds.to_dict()
    row = means[means.method == "total variation"].iloc[0]
    assert row.psnr_low < row.psnr < row.psnr_high
    assert (row.slices, row.subjects) == (2 * SLICES, 2)
    assert not len(classical_baselines.scores_by_method(trained[3:]))
    assert (
        classical_baselines.method_table(classical_baselines.scores_by_method([])).columns.tolist()
        == classical_baselines.MEANS
    )


def method_rows() -> pd.DataFrame:
    rows = []
    for place, method in enumerate(METHODS):
        row = {"task": "heads@4", "title": "heads, rate 4", "kind": "simulated", "method": method, "nmse": 0.1}
        for metric in ("psnr", "ssim"):
            row |= {metric: 0.2 * place, f"{metric}_low": 0.2 * place - 0.05, f"{metric}_high": 0.2 * place + 0.05}
        learned = method in ("U-Net", "cascade")
        rows.append(
            row | {"slices": 16, "subjects": 2, "networks": 3 * learned, "weight": 0.01 if place == 1 else None}
        )
    return pd.DataFrame(rows[::-1])


def test_methods_figure():
    ax = method_scores(method_rows(), "heads@4", metric="ssim")
    assert [label.get_text() for label in ax.get_yticklabels()] == list(METHODS)
    texts = [text.get_text() for text in ax.texts]
    assert "weight 0.01" in texts
    assert texts.count("3 trained") == 2
    assert "simulated" in ax.get_title(loc="left")
    empty = method_scores(method_rows(), "other")
    assert "no network" in empty.texts[0].get_text()


def test_masks_figure():
    lines = example_images.sampled_lines(64, acceleration=4, count=3)
    assert list(lines) == list(mri.SAMPLING)
    assert all(each.shape == (3, 64) and (each.sum(axis=1) == 16).all() for each in lines.values())
    grid = sampling_masks(lines, 4)
    assert [ax.get_ylabel() for ax in grid] == list(mri.SAMPLING)
    assert (np.asarray(grid[0].images[0].get_array()) == lines["random"]).all()


def test_embedded_stands_beside_real_or_says_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    pairs = example_images.simulated_and_real_slices(32)
    assert len(pairs) == len(example_images.PAIRS)
    assert all(simulated.shape == (32, 32) and real is None for _, simulated, real in pairs)
    assert simulated_beside_real(pairs).shape == (1, len(pairs))
    name, simulated, _ = pairs[1]
    grid = simulated_beside_real([pairs[0], (name, simulated, simulated.T), *pairs[2:]])
    assert grid.shape == (2, len(pairs))
    assert (np.asarray(grid[1, 1].images[0].get_array()) == simulated.T).all()
    assert not grid[1, 0].images
    assert "not in" in grid[1, 0].texts[0].get_text()


def test_every_pair_is_a_task_with_that_person():
    tasks = scan_tasks()
    for region, contrast, direction, person in example_images.PAIRS:
        task = tasks[f"{region}_{contrast.lower()}" + (f"_{direction}" if direction != "axial" else "")]
        assert person in {subject.name for card in task.cards for subject in card.subjects}


def test_measured_brain_is_read_or_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    with pytest.raises(StudyError, match=r"no .*brain_8coil_undersampled.npz; take data/cartesian_ksp.npy"):
        example_images.measured_brain()
    maps = mri.coil_maps(2, 32, seed=0)
    image = torch.zeros(32, 32)
    image[8:24, 10:22] = 1
    kspace = mri.fft2c(maps * image).numpy()
    folder = find_card("kspace").path
    folder.mkdir()
    np.savez(folder / "brain_8coil_undersampled.npz", kspace=kspace)
    data, found = example_images.measured_brain()
    assert data.kspace.shape == (2, 32, 32)
    grid = measured_kspace(data, found)
    assert (np.asarray(grid[2].images[0].get_array()) == found.least_squares).all()
    assert grid[5].get_title() == "map of coil 2"


def test_measured_figure_says_what_was_measured():
    mask = np.zeros((8, 8), bool)
    mask[:2] = True
    blank = np.zeros((8, 8), np.float32)
    found = Reconstructions(blank, blank, blank, np.zeros((3, 8, 8), np.complex64))
    grid = measured_kspace(Measured(np.zeros((3, 8, 8), np.complex64), mask), found)
    assert "3 coils, 25.0 % of the samples" in grid[0].get_figure().get_suptitle()
