"""A set of imaged volumes with thick slices, two contrasts and regions, from its folder through every instrument."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from analysis.figures.images import example_grid, image_grid
from analysis.figures.performance import strategy_scores
from analysis.filters.matching import matched
from analysis.filters.randomness.battery import battery
from analysis.representations.run_similarity import layer_maps_of_runs, probe_images
from analysis.tables.datasets import dataset_table, fold_table, present_tasks
from analysis.tables.results import label_table, run_table
from lib.data.tasks.images import first_images, images_at
from lib.data.tasks.task import get_task
from lib.imaging.grids import Grid, write_grid
from lib.runs.run import Run
from lib.runs.spec import RunSpec
from lib.training.loop import train

CARD = """
name = "thick"
title = "Thick slices"
what = "two boxes on noise, slices three times as thick as pixels are wide"
kind = "real"
modality = "drawn"
licence = "CC0-1.0"
citation = "none"
pairs = 10
groups = 10
labels = ["shell", "core"]
channels = 2
channel_names = ["first", "second"]
dim = 3
spacing = [3.0, 1.0, 1.0]
shape = [8, 24, 16]
regions = [{ name = "all of it", labels = [1, 2] }, { name = "core", labels = [2] }]
[split]
folds = 5
rule = "each volume is a person's"
"""
SMALL = {"width": 5, "size": 16, "steps": 4, "evaluations": 2, "lr": 0.01, "volume": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("data")
    folder, affine = found / "thick", np.diag([3.0, 1.0, 1.0, 1.0])
    rows = ["id,source,group,cls,width,height,fg_fraction,depth"]
    for number in range(10):
        draw = np.random.default_rng(number)
        mask = np.zeros((8, 24, 16), np.uint8)
        y, z = draw.integers(2, 8, size=2)
        mask[2:6, y : y + 10, z : z + 6] = 1
        mask[3:5, y + 3 : y + 7, z + 2 : z + 4] = 2
        image = draw.normal(size=(2, *mask.shape)).astype(np.float32) + 2 * mask
        write_grid(folder / "images" / f"{number}.nii", Grid(image, affine))
        for kind in ("masks", "originals"):
            write_grid(folder / kind / f"{number}.nii.gz", Grid(mask[None], affine))
        rows.append(f"{number},,g{number},box,8,24,{(mask > 0).mean():.3f},16")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    (folder / "card.toml").write_text(CARD)
    return found


@pytest.fixture(autouse=True)
def thick(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_DATA", str(root))
    yield
    plt.close("all")


@pytest.fixture
def runs(study_home: Path) -> list[Run]:
    found = []
    for seed in range(2):
        source = RunSpec(task="thick", seed=seed, **SMALL)
        tuned = source.but(strategy="full_finetuning", source=source)
        found += [train(source), train(tuned)]
    return found


def test_the_set_stands_in_the_tables_with_its_dimensions_and_labels():
    assert present_tasks() == ["thick"]
    (own,) = dataset_table().query("set == 'thick'").to_dict("records")
    assert (own["dimensions"], own["labels"], own["at hand"]) == (3, 2, True)
    (folds,) = fold_table(["thick"]).to_dict("records")
    assert {name: folds[name] for name in ("images", "train", "val", "test", "crossing", "dimensions", "labels")} == {
        "images": 10, "train": "6", "val": "2", "test": "2", "crossing": 0, "dimensions": 3, "labels": 2
    }  # fmt: skip
    assert folds["foreground"] == pytest.approx(4 * 10 * 6 / (8 * 24 * 16), abs=1e-3)


def test_its_pictures_have_three_planes_whose_pixels_are_as_long_as_voxels():
    images, masks = first_images("thick", 2, 16)
    assert images.shape[:2] == (2, 2)
    assert images.shape[2:] == masks.shape[1:] == get_task("thick").patch(16)
    grid_of = example_grid("thick", 32)
    assert [ax.get_aspect() for ax in grid_of.flat[:3]] == pytest.approx([1 / 3, 1 / 3, 1])
    (legend,) = grid_of.flat[0].get_figure().legends
    assert [text.get_text() for text in legend.get_texts()] == ["shell", "core"]


def test_runs_on_it_go_through_every_instrument(runs: list[Run]):
    run = runs[0]
    assert run.spec.flat == 1
    weights = run.weights()
    assert weights["enc0.conv1.weight"].shape == (5, 2, 3, 3, 1)
    table = battery(weights, draws=99)
    assert set(table.taps[table.layer == "enc0.conv1"]) == {9}
    assert matched(weights, runs[2].weights()).inputs_matched.all()
    frame = run_table(runs)
    assert set(frame.hd95_unit) == {"mm"}
    assert strategy_scores(frame, "thick", "4", metric="hd95").get_xlabel() == "HD95 on test images (mm)"
    assert set(label_table(runs).label) == {"all of it", "core"}
    images, words = probe_images("thick", 16, runs)
    assert words.endswith("seen in training")
    assert images.shape[1:] == (2, *run.spec.patch)
    maps = layer_maps_of_runs(frame, {each.path.name: each for each in runs}, "thick")
    assert maps is not None
    assert torch.from_numpy(maps.values).isfinite().all()
    windows, truth = images_at("thick", 16, np.arange(3))
    drawn = run.segment(windows)
    assert drawn.shape == truth.shape
    grid_of = image_grid(windows, drawn, "Drawn by the network", columns=4, task=get_task("thick"))
    assert grid_of.shape == (3, 3)
