"""The claims K1 to K10 and L7 on runs that segment volumes: planted runs are judged as those of any segmentation."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from fakes import climb, fake_run, reseal

from analysis.claims.feature_reuse import layer_reuse
from analysis.claims.ledger.evaluate import evaluate, load_claims
from analysis.claims.which_layers import recommendation
from analysis.claims.which_layers.layer_sets import layer_set_summary
from analysis.representations.run_similarity import layer_maps_of_runs
from analysis.tables.results import label_table, run_and_evaluation_tables, run_table
from lib.common.errors import StudyError
from lib.common.seeding import generator
from lib.networks.initial_weights import initialize
from lib.runs.run import Run
from lib.runs.spec import RunSpec
from lib.runs.tensor_files import write_tensors

TASK, SOURCE = "sim_deep_brain_t1_3d", "sim_brain_t1_3d"
SMALL = {"width": 5, "depth": 1, "size": 32, "lr": 0.01, "volume": 4}
SEEDS = 5


def plant(root: Path, spec: RunSpec, *, dice: float, reach: float, moved: float = 0.1) -> Run:
    """A finished run whose kernels moved by `moved` of their length, with factors as they began."""
    run = fake_run(root, spec, dice=dice, curve=climb(dice, reach))
    start, draw = initialize(spec.network(), spec.seed).state_dict(), generator(spec.seed, 7)
    if spec.source is not None:
        start = initialize(spec.network(), 100 + spec.seed).state_dict()
    end = {}
    for name, value in start.items():
        noise = torch.randn(value.shape, generator=draw)
        end[name] = value + moved * noise * value.norm() / noise.norm() if value.dim() == 5 else value
    for step, weights in ((0, start), (spec.steps, end)):
        write_tensors(run.checkpoint(step), weights, {})
    reseal(run.path)
    return run


@pytest.fixture
def runs(study_home: Path) -> list[Run]:
    found = []
    for seed in range(SEEDS):
        source = RunSpec(task=SOURCE, seed=seed, fold=seed, **SMALL)
        tuned = {"strategy": "full_finetuning", "source": source}
        found += [
            plant(study_home / "runs", source, dice=0.8, reach=200),
            plant(
                study_home / "runs",
                RunSpec(task=TASK, seed=seed, fold=seed, **SMALL),
                dice=0.6 + 0.01 * seed,
                reach=300,
            ),
            plant(study_home / "runs", RunSpec(task=TASK, seed=seed, fold=seed, **SMALL, **tuned), dice=0.7, reach=80),
        ]
        if seed:
            shared = {**tuned, "source": source.but(seed=0)}
            spec = RunSpec(task=TASK, seed=seed, fold=seed, **SMALL, **shared)
            found.append(plant(study_home / "runs", spec, dice=0.7, reach=80))
    return found


def judged(runs: list[Run]) -> pd.DataFrame:
    results = evaluate(*run_and_evaluation_tables(runs), load_claims(), runs)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    return pd.DataFrame(results).set_index("id")


def test_every_claim_has_a_row_and_those_of_single_tasks_are_tested(runs: list[Run]):
    rows = judged(runs)
    assert set(rows.index) == {claim.id for claim in load_claims()}
    tested = ["K1", "K4", "K5", "K8", "K9", "K10", "L7"]
    assert rows.task[tested].tolist() == [TASK] * len(tested)
    assert not (rows.verdict[tested] == "not tested").any()
    assert (rows.seeds[tested] == SEEDS).all()
    assert (rows.verdict["K1"], rows.verdict["K4"]) == ("supported", "supported")  # 80 against 300 steps, moved by .1
    assert rows.effect["K1"] < 0.5
    assert rows.effect["K4"] == pytest.approx(1 / 1.01**0.5, abs=0.002)
    assert "24 images" in rows.note["K9"]
    assert rows.verdict["L7"] == "contradicted"  # a change that knows nothing of the start
    assert "Explained by chance 0.07" in rows.note["L7"]
    for name in rows.index.difference(tested):
        assert rows.verdict[name] == "not tested", name
        assert rows.note[name], name


def test_reuse_by_layer_is_told_of_networks_that_see_volumes(runs: list[Run]):
    maps = layer_maps_of_runs(run_table(runs), {run.path.name: run for run in runs}, TASK)
    assert maps is not None
    assert maps.layers == ("enc0", "enc1", "dec0")
    table = layer_reuse.before_after(maps)
    assert sorted(set(table.seed)) == list(range(SEEDS))
    assert (table.tuned > 0.5).all()  # a tenth of a kernel's length is little


def test_the_unit_of_distances_is_that_of_the_result(runs: list[Run]):
    assert set(run_table(runs).hd95_unit) == {"px"}  # of runs that do not say
    assert (run_table(runs).dim == 3).all()
    result = json.loads((runs[0].path / "result.json").read_text())
    result["test"] |= {"unit": "mm", "labels": {"bone": {"dice": 0.5, "hd95": 2.0, "misses": 0, "empty": 0}}}
    (runs[0].path / "result.json").write_text(json.dumps(result))
    reseal(runs[0].path)
    assert run_table(runs[:1]).hd95_unit.tolist() == ["mm"]
    assert label_table(runs[:1])[["label", "hd95", "hd95_unit"]].to_numpy().tolist() == [["bone", 2.0, "mm"]]


def test_sets_of_layers_are_ranked_on_windows_of_volumes(runs: list[Run], study_home: Path):
    source = runs[0]
    options = {"order": "path", "side": "shallow", "count": 2}
    subset = RunSpec(task=TASK, seed=0, **SMALL, strategy="layer_subset", options=options, source=source.spec)
    sets = layer_set_summary(run_table([*runs, plant(study_home / "runs", subset, dice=0.65, reach=100)]))
    assert "path: 2 first of 4" in set(sets.label)
    same = recommendation.rank_layer_sets(source, TASK, volume=4)
    other_labels = recommendation.rank_layer_sets(source, "sim_knee_pd_3d", volume=4)
    for table in (same, other_labels):
        assert sorted(table["rank"]) == [1, 2, 3, 4]
        assert table[["gain", "gradient", "shift"]].notna().all(axis=None)
    wide = recommendation._model(source, "sim_knee_pd_3d", 0, 0)
    assert wide.head.weight.shape[0] == 4
    torch.testing.assert_close(wide.enc0.conv1.weight, source.weights()["enc0.conv1.weight"])


def test_images_and_volumes_are_not_ranked_for_one_another(runs: list[Run]):
    with pytest.raises(StudyError, match=r"must both show images, or both volumes; 'sim_brain_t1_3d' has 3 dimensions"):
        recommendation.rank_layer_sets(runs[0], "sim_radiograph", volume=4)
