"""Reuse by layer on planted maps, transplants on planted outcomes, and the choice of runs and probe images."""

from __future__ import annotations

import pytest
import torch
from fakes import climb, evaluations, frame, row
from planted import LAYERS, planted

from analysis.claims.feature_reuse import layer_reuse
from analysis.claims.feature_reuse.figures import parts_of_a_source
from analysis.representations.run_similarity import comparable_runs
from analysis.tables import arm_names
from lib.data.tasks.splits import split

EARLY = {"enc0", "enc1"}


def kept(tuned: float, random: float, slope: float = 0.0):
    """Networks that keep so much of their start; fine-tuned ones that much more with depth."""

    def value(layer: int, a: dict, b: dict) -> float:
        if (a["strategy"], a["seed"]) == (b["strategy"], b["seed"]):
            return random if a["strategy"] == "scratch" else tuned + slope * layer / (len(LAYERS) - 1)
        return 0.1

    return value


def test_reuse_is_what_fine_tuning_keeps_beyond_what_a_random_start_keeps():
    table = layer_reuse.before_after(planted(kept(0.7, 0.5), 3, starts=True))
    assert len(table) == 3 * len(LAYERS)
    assert table.reuse.to_numpy() == pytest.approx(0.2)
    assert set(table.layer[table.early]) == EARLY
    assert table.depth.agg(["min", "max"]).tolist() == [0, 1]


def test_the_slope_is_per_way_from_input_to_output():
    table = layer_reuse.before_after(planted(kept(0.5, 0.5, slope=0.4), 3, starts=True, noise=0.005))
    seeds = layer_reuse.reuse_by_seed(table)
    assert seeds.slope.to_numpy() == pytest.approx(0.4, abs=0.05)
    assert seeds.early.to_numpy() == pytest.approx(0.025, abs=0.02)
    assert seeds.later.mean() > seeds.early.mean()


def test_a_profile_has_a_mean_and_an_interval_over_seeds():
    profile = layer_reuse.reuse_profile(layer_reuse.before_after(planted(kept(0.7, 0.5), 4, starts=True, noise=0.02)))
    assert len(profile) == 3 * len(LAYERS)
    for quantity, mean in (("tuned", 0.7), ("random", 0.5), ("reuse", 0.2)):
        own = profile[profile.quantity == quantity]
        assert own.layer.tolist() == list(LAYERS)
        assert own["mean"].mean() == pytest.approx(mean, abs=0.03)
        assert (own.low < own["mean"]).all()
        assert (own.seeds == 4).all()


def test_untrained_networks_are_compared_with_one_another_only():
    table = layer_reuse.untrained_similarity(planted(kept(0.7, 0.5), 3, starts=True))
    assert table.value.to_numpy() == pytest.approx(0.1)
    assert layer_reuse.untrained_similarity(planted(kept(0.7, 0.5), 3)).value.isna().all()  # step 0 is not there


def test_transplants_have_the_planted_gain_and_speed():
    parts = {"early": '{"stages": ["enc0", "enc1"]}', "rest": '{"stages": ["enc2"]}'}
    rows = []
    for seed in range(3):
        rows.append(row("busi", "scratch", seed, 0.6, volume=20))
        rows.append(row("busi", "full_finetuning", seed, 0.7, volume=20))
        rows += [
            row("busi", "transplant", seed, dice, volume=20, arm=f"transplant ({name})", options=parts[name])
            for name, dice in (("early", 0.62), ("rest", 0.68))
        ]
        rows.append(row("busi", "scratch", seed, 0.9))  # a volume without transplants
        rows.append(row("usgra", "scratch", seed, 0.9, volume=20))  # a task without
    table = frame(rows)
    reach = {"scratch": 200, "full_finetuning": 40, "transplant (early)": 160, "transplant (rest)": 100}
    curves = evaluations(table, lambda run: climb(0.8, reach[run.arm]))
    found = layer_reuse.transplant_table(table, curves).set_index("arm")
    assert set(found.volume_label) == {"20"}
    assert found.gain["transplant (early)"] == pytest.approx(0.02)
    assert found.gain["transplant (rest)"] == pytest.approx(0.08)
    assert found.gain["full_finetuning"] == pytest.approx(0.1)
    assert found.ratio.loc[list(reach)[1:]].tolist() == pytest.approx([0.2, 0.8, 0.5])
    assert (found.never == 0).all()
    assert set(found.task) == {"busi"}
    assert layer_reuse.transplant_table(table[table.strategy != "transplant"], curves).empty
    assert layer_reuse.transplant_table(frame([]), curves.iloc[:0]).empty
    ax = parts_of_a_source(found.reset_index())
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(found.index)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (["enc0"], "enc0"),
        (["enc0", "enc1"], "enc0-1"),
        (["enc2", "enc3", "enc4", "dec3", "dec2", "head"], "enc2-4 dec3-2 head"),
        (["enc0", "dec0", "head"], "enc0 dec0 head"),
        (["enc0", "enc2"], "enc0 enc2"),
    ],
)
def test_stages_are_named_in_few_words_that_differ(stages: list[str], words: str):
    assert arm_names.stages_text(stages) == words
    assert arm_names.arm_name("transplant", {"stages": stages}) == f"transplant (stages={words})"


def rows_of(task: str, volume: int | None, seeds: int, **changes) -> list[dict]:
    names = ("scratch", "full_finetuning")
    return [
        row(task, name, seed, 0.7, volume=volume, source_seed=seed, **changes)
        for name in names
        for seed in range(seeds)
    ]


def test_the_cell_is_the_smallest_volume_with_both_arms_and_one_source():
    rows = rows_of("busi", 20, 3) + rows_of("busi", None, 3) + rows_of("usgra", 20, 3)
    rows += [row("busi", "scratch", 0, 0.7, volume=10)]  # no fine-tuned run beside it
    rows += [row("busi", "full_finetuning", 0, 0.7, volume=20, source="ccp", source_seed=0)]
    rows += [row("busi", "full_finetuning", 2, 0.7, volume=20, source="sim_natural (seed 0)", source_seed=0)]
    rows += [row("busi", "shuffled_labels", 0, 0.1, volume=20, source="")]
    rows += [row("busi", "full_finetuning", 3, None, volume=20)]  # diverged
    cell = comparable_runs(frame(rows), "busi")
    assert set(cell.volume_label) == {"20"}
    assert set(cell.task) == {"busi"}
    assert set(cell.source) == {"", "sim_natural", "sim_natural (seed 0)"}
    assert len(cell) == 6 + 1 + 1
    assert comparable_runs(frame(rows), "nuclei").empty
    assert comparable_runs(frame(rows[:3]), "busi").empty


class Trained:
    """A run as far as its split goes."""

    def __init__(self, spec):
        self.spec = spec


def seen_groups(run, groups):
    spec = run.spec
    train = split("sim_ultrasound", groups, fold=spec.fold, volume=spec.volume, seed=spec.seed).train
    return {groups[at] for at in train}


def test_probe_images_come_from_groups_that_no_run_saw(study_home, monkeypatch):
    from analysis.representations.run_similarity import probe_images
    from lib.data.tasks.images import Data
    from lib.runs.spec import RunSpec

    groups = [f"patient {at // 4}" for at in range(400)]
    images = torch.arange(400.0)[:, None, None, None].expand(400, 1, 8, 8)
    data = Data(images, torch.zeros(400, 8, 8, dtype=torch.uint8), groups, groups, "")
    monkeypatch.setattr("lib.data.tasks.images.load_task", lambda task, size: data)
    runs = [Trained(RunSpec(task="sim_ultrasound", volume=20, seed=seed, fold=seed)) for seed in range(3)]
    images, words = probe_images("sim_ultrasound", 8, runs, 50)
    chosen = images[:, 0, 0, 0].long().tolist()
    assert words == "none seen in training"
    assert len(set(chosen)) == 50
    assert chosen == sorted(chosen)
    for run in runs:
        assert not seen_groups(run, groups) & {groups[at] for at in chosen}
    assert probe_images("sim_ultrasound", 8, runs, 50)[0][:, 0, 0, 0].long().tolist() == chosen
    everything = [Trained(RunSpec(task="sim_ultrasound", seed=seed, fold=seed)) for seed in range(5)]
    images, words = probe_images("sim_ultrasound", 8, everything, 50)
    seen = {group for run in everything for group in seen_groups(run, groups)}
    known = sum(groups[at] in seen for at in images[:, 0, 0, 0].long().tolist())
    assert known > 0
    assert words == f"{known} of them seen in training"
    assert len(images) == 50
