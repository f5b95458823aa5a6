"""Comparing real (tiny) runs: the right checkpoints, the numbers as by hand, evolution, and the figures of both."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from planted import planted
from tiny import make_blobs, spec

from analysis.claims.feature_reuse import layer_reuse, variability
from analysis.claims.feature_reuse.figures import group_separation, reuse_profiles, spread_ratios
from analysis.figures.described import described
from analysis.representations.capture.activations import activations
from analysis.representations.evolution import every_checkpoint, layer_pairs, runs_to_follow, similarity_to_ends
from analysis.representations.figures import (
    GROUPS,
    by_group,
    comparison_cost,
    coordinates,
    embedding,
    layer_by_layer,
    run_by_run,
    runs_clustered,
    similarity_over_training,
)
from analysis.representations.measures.cka import cka_debiased
from analysis.representations.run_similarity import LayerMaps, layer_maps_of_runs, probe_images
from analysis.tables.recorded_measurements import RECORDS, read_record
from analysis.tables.results import run_table
from lib.common.errors import StudyError
from lib.runs.run import Run
from lib.training.loop import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Three seeds from scratch and fine-tuned, and one more fine-tuned run, from the first seed's source."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_HOME", str(home))
        patch.setenv("STUDY_DATA", str(make_blobs(home / "data")))
        sources = [spec(seed=seed, fold=seed, volume=None, steps=4) for seed in range(3)]
        specs = [spec(seed=seed, fold=seed) for seed in range(3)]
        tuned = [(0, 0), (1, 1), (2, 2), (1, 0)]
        specs += [spec(seed=s, fold=n, strategy="full_finetuning", source=sources[n]) for s, n in tuned]
        for each in sources:
            train(each)
        trained = [train(each) for each in specs]
    return {run.path.name: run for run in trained}


@pytest.fixture(autouse=True)
def same_home(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    home = next(iter(runs.values())).path.parent.parent
    monkeypatch.setenv("STUDY_HOME", str(home))
    monkeypatch.setenv("STUDY_DATA", str(home / "data"))


@pytest.fixture
def frame(runs: dict[str, Run]) -> pd.DataFrame:
    return run_table(runs.values())


@pytest.fixture
def maps(frame: pd.DataFrame, runs: dict[str, Run]) -> LayerMaps:
    found = layer_maps_of_runs(frame, runs, "blobs")
    assert found is not None
    return found


def test_the_right_checkpoints_are_compared(maps: LayerMaps):
    assert maps.layers == ("enc0", "enc1", "dec0")
    assert (maps.bottleneck, maps.early, maps.depth.tolist()) == (1, 1, [0, 0.5, 1])
    assert len(maps.checkpoints) == 6 * 2 + 1
    for group, point, seeds in (
        ("random", "start", [0, 1, 2]), ("random", "end", [0, 1, 2]), ("own", "start", [0, 1, 2]),
        ("own", "end", [0, 1, 2]), ("shared", "end", [0, 1]), ("shuffled", "end", []),
    ):  # fmt: skip
        assert list(maps.places(group, point)) == seeds, (group, point)
    assert maps.places("own")[0] == maps.places("shared")[0]
    assert maps.places("own")[1] != maps.places("shared")[1]
    assert maps.values.shape == (3, 13, 13)
    assert np.diagonal(maps.values, axis1=1, axis2=2) == pytest.approx(1)


def test_values_are_those_computed_by_hand(maps: LayerMaps, runs: dict[str, Run]):
    names = maps.checkpoints.run_id
    images, _ = probe_images("blobs", 16, list(runs.values()))
    assert len(images) == 30
    a, b = maps.places("own", "start")[2], maps.places("random")[1]
    for at, layer in enumerate(maps.layers):
        x, y = (
            activations(runs[names[place]], int(maps.checkpoints.step[place]), [layer], images, reduce="flatten")[layer]
            for place in (a, b)
        )
        assert maps.values[at, a, b] == pytest.approx(cka_debiased(x, y), abs=1e-6)


def test_runs_that_are_not_at_hand_are_left_out(frame: pd.DataFrame, runs: dict[str, Run]):
    few = dict(list(runs.items())[:2])
    found = layer_maps_of_runs(frame, few, "blobs")
    assert found is not None
    assert set(found.checkpoints.run_id) == set(few)
    assert layer_maps_of_runs(frame, {}, "blobs") is None
    assert layer_maps_of_runs(frame, runs, "elsewhere") is None


def test_evolution_begins_and_ends_at_one(frame: pd.DataFrame, runs: dict[str, Run]):
    found = runs_to_follow(frame, runs)
    assert found is not None
    task, chosen = found
    assert task == "blobs"
    assert {group: run.spec.strategy for group, run in chosen.items()} == {
        "own": "full_finetuning",
        "random": "scratch",
    }
    assert {run.spec.seed for run in chosen.values()} == {0}
    every = every_checkpoint(chosen)
    table = similarity_to_ends(every, chosen)
    steps = chosen["random"].steps()
    assert len(steps) > 2
    assert len(table) == 2 * 3 * len(steps)
    assert table.start[table.step == 0].to_numpy() == pytest.approx(1)
    assert table.end[table.step == steps[-1]].to_numpy() == pytest.approx(1)
    crossed = table.set_index(["group", "layer", "step"])
    for group in ("own", "random"):  # the same pair, seen from both of its ends
        assert crossed.start[group, "enc1", steps[-1]] == pytest.approx(crossed.end[group, "enc1", 0])
    pairs = layer_pairs(every, chosen)
    assert np.diagonal(pairs["untrained | with itself"].values) == pytest.approx(1)
    assert not np.allclose(np.diagonal(pairs["source (rows) | with random (columns)"].values), 1)
    assert {label.run for label in pairs["source (rows) | with random (columns)"].rows} == {chosen["own"].path.name}
    ax = similarity_over_training(table, "Disks", every.about)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["enc0", "enc1", "dec0"]
    fewer = table[(table.group == "own") | table.step.isin([0, steps[-1]])]  # an arm that kept its ends only
    drawn = similarity_over_training(fewer, "Disks", every.about).figure.axes[2].collections[0].get_array()
    assert np.ma.getmaskarray(np.ma.masked_invalid(drawn)).any(axis=0).tolist() == [
        step not in (0, steps[-1]) for step in steps
    ]
    assert layer_by_layer(pairs, "Disks", every.about).collections[0].get_clim() == (0, 1)
    plt.close("all")


def test_no_subject_without_both_arms(frame: pd.DataFrame, runs: dict[str, Run]):
    assert runs_to_follow(frame[frame.strategy == "scratch"], runs) is None
    assert runs_to_follow(run_table([]), {}) is None


def test_the_tree_of_runs_finds_planted_clusters(maps: LayerMaps):
    """Seed 0 of every group is like seed 0 of the others, and so on, whatever a network started from."""
    order = by_group(maps)
    values = np.full(maps.values.shape, 0.1)
    for _, seed, place in order:
        for _, other, beside in order:
            if seed == other:
                values[:, place, beside] = 0.9
    values[:, range(values.shape[1]), range(values.shape[1])] = 1
    ax = runs_clustered(replace(maps, values=values), "Disks")
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(names) == sorted(f"{GROUPS[group]}, seed {seed}" for group, seed, _ in order)
    seeds = [name[-1] for name in names]
    assert len([1 for a, b in itertools.pairwise(seeds) if a != b]) == len(set(seeds)) - 1
    drawn = ax.collections[0].get_array()
    assert drawn[0, 1] == 0.9, "cells stand in the order of their names"
    assert described(ax.figure, pd.DataFrame()).startswith("Heat map: Disks. ")
    plt.close("all")


def test_figures_draw_every_group(maps: LayerMaps):
    order = by_group(maps)
    assert [group for group, _, _ in order] == ["own"] * 3 + ["shared"] + ["random"] * 3 + ["untrained"] * 3
    assert len({place for _, _, place in order}) == len(order)
    run_by_run(maps, "Disks")
    ax = embedding(maps, "Disks")
    assert sum(len(np.asarray(line.get_xdata())) for line in ax.lines) == len(order)
    found = variability.separation(maps)
    ax = group_separation(found, "Disks")
    assert len(ax.lines) == 4  # two groups, between, the bottleneck
    table = variability.spread_ratios(maps, "own")
    spread_ratios(table, "Disks")
    profile = layer_reuse.reuse_profile(layer_reuse.before_after(maps)).assign(task="Disks")
    untrained = layer_reuse.untrained_similarity(maps).assign(task="Disks")
    top = reuse_profiles(profile, untrained)
    assert top.get_legend_handles_labels()[1] == ["from a source", "from random weights", "two untrained networks"]
    plt.close("all")


def test_an_embedding_in_a_plane_keeps_distances():
    angle = np.random.default_rng(0).uniform(0, np.pi / 2, 7)
    points = np.stack([np.cos(angle), np.sin(angle)], 1)
    found = coordinates(points @ points.T)
    distances = [np.linalg.norm(each[:, None] - each, axis=-1) for each in (points, found)]
    assert distances[1] == pytest.approx(distances[0], abs=1e-6)


def test_shared_runs_are_none_where_no_run_shares_a_source():
    assert planted(lambda *_: 0.5, 3).places("shared") == {}


def test_records_are_read_with_what_made_them():
    table = read_record("similarity_conformance")
    ours = table[table.package == "palimpsest"]
    assert len(ours) >= 8
    assert (ours.passed == ours.checks).all()
    assert "bench_similarity.py conformance; Python" in table.attrs["about"]
    costs = read_record("similarity_cost")
    assert set(costs.axis) == {"layers", "images", "checkpoints"}
    assert comparison_cost(costs, costs.attrs["about"]).get_xlabel() == "layers"
    plt.close("all")
    with pytest.raises(StudyError, match="unknown record 'similarity_costs'; did you mean 'similarity_cost'"):
        read_record("similarity_costs")


def test_every_record_names_a_benchmark_that_is_there():
    root = Path(__file__).parents[3]
    files = sorted(RECORDS.glob("*.csv"))
    assert files
    for file in files:
        about = read_record(file.stem).attrs["about"]
        named = [word.rstrip(";:") for word in about.split() if word.startswith("tests/")]
        assert named, file
        assert all((root / name).is_file() for name in named), named
        assert "Python 3" in about, file


def test_a_part_of_the_runs_is_compared_on_the_same_images_and_from_memory(
    frame: pd.DataFrame, runs: dict[str, Run], maps: LayerMaps, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("analysis.representations.run_similarity.similarity_map", lambda *_: pytest.fail("computed"))
    part = layer_maps_of_runs(frame[frame.seed != 1], runs, "blobs")
    assert part is not None
    kept = np.flatnonzero(maps.checkpoints.seed != 1)
    assert 0 < len(kept) < len(maps.checkpoints)
    assert part.about == maps.about
    assert list(zip(part.checkpoints.run_id, part.checkpoints.step, strict=True)) == [
        (maps.checkpoints.run_id[at], maps.checkpoints.step[at]) for at in kept
    ]
    assert np.array_equal(part.values, maps.values[:, kept][:, :, kept])
    with pytest.raises(pytest.fail.Exception, match="computed"):
        layer_maps_of_runs(frame, runs, "blobs", measure="rsa")
