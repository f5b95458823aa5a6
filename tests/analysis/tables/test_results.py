"""Tables of outcomes from run folders with planted curves and Dice."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from fakes import ALL, climb, evaluations, fake_run, frame, grid, row

from analysis.tables import convergence, paired_gains, run_row
from analysis.tables.learning_rates import rate_table
from analysis.tables.results import (
    evaluation_table,
    finished_rows,
    run_and_evaluation_tables,
    run_table,
    summary,
    with_own_source,
)
from lib.common import paths
from lib.common.errors import StudyError
from lib.runs.spec import RunSpec
from lib.study.plan import finished_runs
from lib.study.suite import from_table

SCRATCH = RunSpec(task="sim_ultrasound", volume=20)
SOURCE = RunSpec(task="sim_natural", seed=1)


def test_table_has_one_row_per_run_with_what_the_folder_says(tmp_path):
    runs = [
        fake_run(tmp_path, SCRATCH, dice=0.7, curve=climb(0.7, 100)),
        fake_run(tmp_path, SCRATCH.but(volume=None), dice=0.8),
        fake_run(
            tmp_path, SCRATCH.but(strategy="full_finetuning", source=SOURCE, seed=1), dice=None, status="diverged"
        ),
        fake_run(tmp_path, SCRATCH.but(seed=2, volume=None), status="unfinished"),
    ]
    table = run_table(runs)
    assert list(table.columns) == run_row.IDENTITY + run_row.SETTINGS + run_row.OUTCOMES
    by_id = table.set_index("run_id")
    whole = by_id.loc[runs[1].path.name]
    assert (whole.volume, whole.volume_label, whole.dice, whole.kind, whole.modality) == (
        ALL, "all", 0.8, "simulated", "ultrasound",
    )  # fmt: skip
    failed = by_id.loc[runs[2].path.name]
    assert (failed.status, failed.source, failed.steps, failed.budget) == ("diverged", "sim_natural", 7, 400)
    assert failed.reason == "the loss was not finite at step 7"
    assert math.isnan(failed.dice)
    waiting = by_id.loc[runs[3].path.name]
    assert waiting.status == "unfinished"
    assert pd.isna(waiting.volume)
    assert (table.arm == table.strategy).all()


def test_tables_of_no_run_have_their_columns():
    assert list(run_table([]).columns) == run_row.IDENTITY + run_row.SETTINGS + run_row.OUTCOMES
    assert {"step", "val_dice", "run_id"} <= set(evaluation_table([]).columns)
    nothing = run_table([])
    assert summary(nothing).empty
    assert paired_gains.gain(nothing).empty
    assert paired_gains.difficulty(nothing).empty
    assert convergence.time_to_plateau(nothing, evaluation_table([])).empty


def test_options_that_are_not_the_default_name_the_arm(tmp_path):
    subset = SCRATCH.but(strategy="layer_subset", source=SOURCE, options={"count": 2})
    (arm,) = run_table([fake_run(tmp_path, subset)]).arm
    assert arm.startswith("layer_subset (")
    assert "count=2" in arm


def test_runs_that_share_a_source_run_are_a_cell_of_their_own(tmp_path):
    def tuned(seed: int, start: int) -> RunSpec:
        return SCRATCH.but(strategy="full_finetuning", source=SOURCE.but(seed=start), seed=seed)

    specs = [SCRATCH, tuned(0, 0), tuned(1, 1), tuned(1, 0), tuned(2, 0)]
    table = run_table([fake_run(tmp_path, spec, dice=0.1 * i) for i, spec in enumerate(specs)])
    labels = table.set_index(["source_seed", "seed"]).source
    assert labels[0, 0] == labels[1, 1] == "sim_natural"
    assert labels[0, 1] == labels[0, 2] == "sim_natural (seed 0)"
    assert len(finished_rows(table)) == len(specs)  # no cell holds a seed twice
    kept = with_own_source(table)
    assert sorted(kept.dice) == pytest.approx([0.0, 0.1, 0.2])
    assert with_own_source(run_table([])).empty


def test_a_cell_holds_a_seed_once_or_once_at_each_rate(tmp_path):
    table = run_table([fake_run(tmp_path, SCRATCH.but(lr=lr)) for lr in (0.003, 0.01)])
    assert len(finished_rows(table, every_rate=True)) == 2
    with pytest.raises(StudyError, match=r"one run per cell and seed is needed; .* has 2, which differ in lr"):
        finished_rows(table)
    again = pd.concat([table, table.assign(steps=1)])
    with pytest.raises(StudyError, match="one run per cell and seed is needed"):
        finished_rows(again, every_rate=True)


def test_a_result_that_hides_its_volume_is_refused(tmp_path):
    run = fake_run(tmp_path, SCRATCH.but(volume=None), train_images=None)
    with pytest.raises(StudyError, match=r"must say how many training images there were \(images.train\); delete"):
        run_table([run])


def test_curves_have_one_row_per_evaluation(tmp_path):
    runs = [
        fake_run(tmp_path, SCRATCH, curve=[(0, 0.1), (200, 0.5), (400, 0.7)]),
        fake_run(tmp_path, SCRATCH.but(seed=1), curve=[], dice=None, status="diverged"),
    ]
    curves = evaluation_table(runs)
    assert curves.step.tolist() == [0, 200, 400]
    assert curves.val_dice.tolist() == [0.1, 0.5, 0.7]
    assert curves.seed.tolist() == [0, 0, 0]


def test_both_tables_at_once_are_the_two(tmp_path):
    runs = [
        fake_run(tmp_path, SCRATCH, curve=[(0, 0.1), (200, 0.5), (400, 0.7)]),
        fake_run(tmp_path, SCRATCH.but(seed=1), curve=[(0, 0.2)], dice=None, status="diverged"),
        fake_run(tmp_path, SCRATCH.but(volume=None), dice=0.8),
    ]
    for some in ([], runs[:1], runs):
        table, curves = run_and_evaluation_tables(some)
        pd.testing.assert_frame_equal(table, run_table(some))
        pd.testing.assert_frame_equal(curves, evaluation_table(some))
    (runs[1].path / "metrics.jsonl").write_text("")
    with pytest.raises(StudyError, match=r"metrics.jsonl is damaged: it has 0 bytes"):
        run_and_evaluation_tables(runs)


def test_two_runs_for_one_seed_are_refused_with_what_tells_them_apart():
    twice = frame([row("busi", "scratch", 0, 0.7), row("busi", "scratch", 0, 0.8, lr=1e-2)])
    with pytest.raises(StudyError, match=r"busi, all images, scratch, seed 0 has 2, which differ in lr; pass the runs"):
        summary(twice)


def test_summary_counts_diverged_runs_beside_the_mean():
    table = grid(["busi"], [20], 3, lambda task, strategy, volume, seed: None if seed == 2 else 0.6 + 0.1 * seed)
    cell = summary(table).set_index("arm").loc["scratch"]
    assert cell["mean"] == pytest.approx(0.65)
    assert (cell.seeds, cell.diverged, cell.volume) == (2, 1, 20)
    assert cell.low < 0.65 < cell.high


def test_gain_pairs_by_seed_and_says_why_a_pair_is_missing():
    rows = [row("busi", "scratch", seed, 0.6, volume=20) for seed in (0, 1)]
    rows += [row("busi", "full_finetuning", seed, 0.7 + seed / 100, volume=20) for seed in (3, 1, 0)]
    rows += [row("busi", "scratch", 4, None, volume=20), row("busi", "full_finetuning", 4, 0.7, volume=20)]
    rows += [row("busi", "scratch", 5, 0.7, volume=20), row("busi", "full_finetuning", 5, None, volume=20)]
    rows += [row("busi", "scratch", 3, 0.9)]  # another volume is no partner
    gains = paired_gains.gain(frame(rows)).set_index("seed")
    assert gains.gain[0] == pytest.approx(0.10)
    assert gains.gain[1] == pytest.approx(0.11)
    assert gains.status.to_dict() == {
        0: "done", 1: "done", 3: "no scratch run", 4: "scratch diverged", 5: "diverged",
    }  # fmt: skip
    assert gains.gain.isna().sum() == 3


def test_difficulty_is_of_scratch_on_all_images():
    table = grid(["busi", "cxr"], [20, None], 3, lambda task, strategy, volume, seed: 0.9 if volume is None else 0.2)
    table.loc[(table.task == "busi") & (table.strategy == "scratch"), "dice"] -= 0.1
    rated = paired_gains.difficulty(table).set_index("task").difficulty
    assert rated.to_dict() == pytest.approx({"busi": 0.2, "cxr": 0.1})


def times_of(curve_of, fractions=(0.95,), **changes):
    """Times to plateau of one scratch and one transfer run of 400 steps with the curves given by strategy."""
    rows = [row("busi", name, 0, 0.8, **changes.get(name, {})) for name in curve_of]
    table = frame(rows)
    times = convergence.time_to_plateau(table, evaluations(table, lambda run: curve_of[run.strategy]), fractions)
    return times.set_index(["strategy", "fraction"])


def test_time_is_where_the_lines_between_evaluations_cross():
    curve_of = {"scratch": climb(0.8, 200), "full_finetuning": climb(0.9, 100)}
    times = times_of(curve_of, (0.5, 0.95))
    assert times.plateau.tolist() == pytest.approx([0.8, 0.8, 0.85, 0.85])  # the mean of both
    assert times.steps[("scratch", 0.5)] == pytest.approx(100)
    assert times.steps[("scratch", 0.95)] == pytest.approx(190)
    assert times.steps[("full_finetuning", 0.95)] == pytest.approx(0.95 * 0.85 / 0.9 * 100)
    assert times.reference_steps[("full_finetuning", 0.5)] == pytest.approx(0.5 * 0.85 / 0.8 * 200)
    assert times.reference_seconds[("full_finetuning", 0.5)] == pytest.approx(0.5 * 0.85 / 0.8 * 20)
    assert times.seconds[("scratch", 0.95)] == pytest.approx(19)
    assert times.reached.all()
    reference = times.loc[("full_finetuning", 0.95)]  # 0.95 of 0.85 is above where scratch ends
    assert (reference.reference_steps, reference.reference_reached) == (400, False)


def test_two_arms_of_one_law_are_equally_fast_on_average():
    """A level of the reference's own plateau would favor the reference, which by construction gets there."""
    rng = np.random.default_rng(0)
    table = grid(["busi"], [None], 150, lambda *cell: 0.8)
    curves = evaluations(table, lambda run: climb(0.8 * (1 + rng.normal(0, 0.04)), 200, steps=280))
    times = convergence.time_to_plateau(table, curves, (0.95,))
    pairs = times[times.strategy == "full_finetuning"]
    ratios = np.log(pairs.steps / pairs.reference_steps)
    assert ratios.std() > 0.1
    assert abs(ratios.mean()) < 3 * ratios.std() / math.sqrt(len(ratios))
    assert not pairs.reached.all()
    assert not pairs.reference_reached.all()


def test_a_run_there_at_its_first_evaluation_gets_one_step():
    times = times_of({"scratch": climb(0.8, 200), "full_finetuning": [(0, 0.85), (400, 0.9)]})
    assert times.steps[("full_finetuning", 0.95)] == 1
    assert times.seconds[("full_finetuning", 0.95)] == pytest.approx(0.1), "that of one step"


def test_never_reached_counts_with_the_whole_budget_even_when_stopped_early():
    times = times_of({"scratch": climb(0.8, 200), "full_finetuning": [(0, 0.1), (50, 0.5), (100, 0.5)]})
    late = times.loc[("full_finetuning", 0.95)]
    assert not late.reached
    assert (late.steps, late.seconds, late.status) == (400, 40, "done")


def test_a_diverged_run_never_gets_there():
    dead = {"full_finetuning": {"status": "diverged"}}
    late = times_of({"scratch": climb(0.8, 200), "full_finetuning": climb(0.9, 50)}, **dead).loc["full_finetuning"]
    assert not late.reached.any()
    assert late.steps.tolist() == [400]
    assert late.status.tolist() == ["diverged"]


@pytest.mark.parametrize(
    ("curve", "changes", "why"),
    [
        (climb(0.8, 200), {"status": "diverged"}, "scratch diverged"),
        ([(0, 0.1), (400, 0.8)], {}, "scratch has fewer than 3 evaluations"),
        (climb(0.01, 200), {}, "scratch plateau below 0.05"),
    ],
)
def test_no_plateau_says_why(curve, changes, why):
    times = times_of({"scratch": curve, "full_finetuning": climb(0.9, 50)}, scratch=changes)
    assert times.status.tolist() == [why, why]
    assert times.steps.isna().all()
    assert not times.reached.any()


def test_no_scratch_run_leaves_no_plateau():
    assert times_of({"full_finetuning": climb(0.9, 50)}).status.tolist() == ["no scratch run"]


def test_tables_survive_the_way_through_json(tmp_path):
    table = run_table([fake_run(tmp_path, SCRATCH), fake_run(tmp_path, SCRATCH.but(volume=None), dice=0.9)])
    assert json.loads(table.to_json(orient="records"))[1]["volume_label"] == "all"
    table.to_csv(tmp_path / "results.csv", index=False)
    again = pd.read_csv(tmp_path / "results.csv")
    assert again.volume.tolist() == [20, ALL]


def test_rates_tried_and_chosen_by_cell_and_seed(tmp_path, study_home):
    """Seed 0 chooses the high rate, seed 1 the low one; seed 2 lacks a run and has chosen none."""
    block = {"tasks": ["sim_ultrasound"], "volumes": [20], "strategies": ["scratch"]}
    suite = from_table(tmp_path / "few.toml", {"seeds": [0, 1, 2], "tuning": {"rates": [0.001, 0.01]}, "grid": [block]})
    planted = {(0, 0.001): 0.6, (0, 0.01): 0.7, (1, 0.001): 0.7, (1, 0.01): None, (2, 0.001): 0.9}
    for (seed, rate), dice in planted.items():
        status = "diverged" if dice is None else "done"
        fake_run(paths.runs_dir(), suite.spec(suite.cells[0], seed, rate), dice=dice, status=status)
    table = rate_table(suite)
    assert {(run.seed, run.lr): run.chosen for run in table.itertuples()} == {
        each: each in ((0, 0.01), (1, 0.001)) for each in planted
    }
    done = table[table.status == "done"].set_index(["seed", "lr"])
    for name in ("val_score", "score"):
        assert done[name].to_dict() == {each: dice for each, dice in planted.items() if dice is not None}
    chosen = table[table.chosen]
    assert set(finished_rows(chosen).run_id) == {run.path.name for run in finished_runs(suite)}
    with pytest.raises(StudyError, match="which differ in lr"):
        finished_rows(table)
