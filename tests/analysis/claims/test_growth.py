"""Seeds where they are needed, on planted runs: which rows ask for more, which cells get them, and how it ends."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import climb, fake_run
from growing_ledgers import ALPHA, ARMS, FOLDS, TASKS, Runs, Truth, signs, until
from levels import at_most

from analysis.__main__ import main
from analysis.claims.ledger import evaluate as evaluate_module
from analysis.claims.ledger import growth
from analysis.claims.ledger.choices import specifications
from analysis.claims.ledger.decide import decide
from analysis.claims.ledger.evaluate import load_claims
from analysis.claims.ledger.growth import look, next_look, reads, row_name, row_state
from analysis.claims.ledger.kept import planned_looks, suite_ledger
from analysis.claims.ledger.spent import looks_taken, rows_ended, seeds_spent
from analysis.claims.verdicts import TESTS
from analysis.statistics.looks import growth as grows
from analysis.statistics.looks import level_at_looks, looks_until
from analysis.tables.recorded_measurements import read_record
from lib.common import paths
from lib.common.errors import StudyError
from lib.runs.spec import RunSpec
from lib.strategies.catalog import STRATEGIES
from lib.study.growth import looks_file
from lib.study.plan import load_suite, missing_runs
from lib.study.suite import Look

SUITE = """
seeds = [0, 1, 2, 3, 4]
until = { replication = 0.9, seeds = 12 }

[run]
steps = 400

[tuning]
rates = [0.01]

[[grid]]
tasks = ["sim_ultrasound_easy", "sim_ultrasound_hard", "sim_radiograph"]
volumes = [20]
strategies = ["scratch", "frozen_random_encoder"]

[[grid]]
tasks = ["sim_ultrasound_hard"]
volumes = [20]
strategies = ["frozen_drawn_encoder"]

[[grid]]
tasks = ["sim_ultrasound_hard"]
volumes = ["all"]
seeds = [0]
strategies = ["scratch"]
"""
LEDGER = {claim.id: claim for claim in load_claims()}
FASTER = replace(LEDGER["K1"], compare=("frozen_random_encoder", "scratch"))
LINE = math.log(LEDGER["K1"].value("ratio"))
EASY, OPEN, NULL = "sim_ultrasound_easy", "sim_ultrasound_hard", "sim_radiograph"
Truths = dict[str, Callable[[int], float]]  # by task, the log ratio of a seed


def far(seed: int) -> float:
    return LINE - 1.0 + 0.01 * (seed % 3)


def near(seed: int) -> float:
    """Towards the claim, but not far enough to be sure; later seeds differ less."""
    return LINE - 0.28 + (0.1 if seed < 5 else 0.08) * (seed % 5 - 2)


def on_the_line(seed: int) -> float:
    return LINE + 0.1 * (seed % 5 - 2)


TRUTHS: Truths = {EASY: far, OPEN: near, NULL: on_the_line}


@pytest.fixture(autouse=True)
def one_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "load_claims", lambda: [FASTER])
    monkeypatch.setattr(growth, "load_claims", lambda: [FASTER])
    monkeypatch.setattr(specifications, "load_claims", lambda: [FASTER])


@pytest.fixture
def suite(tmp_path: Path) -> str:
    file = tmp_path / "planted.toml"
    file.write_text(SUITE)
    return str(file)


def plant(spec: RunSpec, truths: Truths) -> None:
    tuned = spec.strategy == "frozen_random_encoder"
    reach = 200 * math.exp(truths[spec.task](spec.seed) if tuned else 0.0)
    fake_run(paths.runs_dir(), spec, dice=0.8, curve=climb(0.8, reach))


def plant_missing(suite: str, truths: Truths = TRUTHS, most: int | None = None) -> int:
    specs = missing_runs(load_suite(suite))[:most]
    for spec in specs:
        plant(spec, truths)
    return len(specs)


def counts(suite: str) -> dict[tuple[str, str, int | None], int]:
    return {(cell.task, cell.strategy, cell.volume): len(cell.seeds) for cell in load_suite(suite).cells}


def looked(suite: str) -> tuple[bool, list[str]]:
    said: list[str] = []
    return look(suite, said.append), said


def test_only_cells_that_open_rows_read_get_more_seeds(suite: str):
    assert plant_missing(suite) == 7 * 5 + 1
    before = counts(suite)
    more, said = looked(suite)
    assert more
    rows = {row["task"]: row for row in suite_ledger(suite)}
    assert {task: row_state(row, 0.9) for task, row in rows.items()} == {EASY: "decided", OPEN: "open", NULL: "futile"}
    grown = {key for key, count in counts(suite).items() if count != before[key]}
    assert grown == {(OPEN, "scratch", 20), (OPEN, "frozen_random_encoder", 20)}  # no control, no arm beside
    assert {counts(suite)[key] for key in grown} == {8}
    assert said[0] == "look at 5 seeds: 1 rows decided, 1 rows futile, 1 rows open"
    assert said[1].startswith(f"K1, {OPEN}: inconclusive with 5 seeds, decided with 12 in 0.")
    assert said[2].startswith("to train for the look at 8 seeds: 2 of 8 cells grow by 6 seeds, 6 runs")
    assert len(said) == 3
    assert {spec.seed for spec in missing_runs(load_suite(suite))} == {5, 6, 7}


def test_a_look_waits_for_all_runs_and_can_be_taken_again(suite: str):
    plant_missing(suite, most=10)
    with pytest.raises(StudyError, match="26 runs of the look at 5 seeds are missing: python -m lib train"):
        looked(suite)
    assert not looks_file("planted").exists()
    plant_missing(suite)
    looked(suite)
    first = looks_file("planted").read_text()
    with pytest.raises(StudyError, match="6 runs of the look at 8 seeds are missing"):
        looked(suite)
    looks_file("planted").unlink()  # as if it had been interrupted before it wrote
    assert counts(suite)[OPEN, "scratch", 20] == 5
    looked(suite)
    assert looks_file("planted").read_text() == first


def test_it_ends_at_the_cap(suite: str):
    for expected in (36, 6, 8):
        assert plant_missing(suite) == expected
        more, said = looked(suite)
    assert not more
    assert said[-1] == "nothing is left to train: the open rows are at their cap"
    assert plant_missing(suite) == 0
    assert not looked(suite)[0]
    ledger = suite_ledger(suite)
    ended = rows_ended(suite, ledger).set_index("task")
    assert ended.ended.to_dict() == {EASY: "decided", OPEN: "cap", NULL: "futile"}
    assert ended.look.to_dict() == {EASY: 1, OPEN: 3, NULL: 1}
    taken = looks_taken(suite, ledger)
    assert taken[["seeds", "cells", "added", "runs"]].to_numpy().tolist() == [
        [5, 8, 36, 36],
        [8, 2, 6, 6],
        [12, 2, 8, 8],
    ]
    assert taken[["decided", "futile", "cap", "open"]].to_numpy().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    spent = seeds_spent(suite)
    assert spent.runs.sum() == 36 + 6 + 8
    assert sorted(spent.seeds) == [1, 5, 5, 5, 5, 5, 12, 12]


def test_it_ends_by_decision(suite: str):
    """More seeds show that what differed between folds was the noise of one run each; decided rows keep their seeds."""
    plant_missing(suite)
    looked(suite)
    more, turned = True, TRUTHS | {OPEN: lambda seed: 2 * (LINE - 0.3) - near(seed)}
    while more:
        assert plant_missing(suite, turned)
        more, said = looked(suite)
    assert (more, said[-1]) == (False, "nothing is left to train: no row is open")
    ended = rows_ended(suite, suite_ledger(suite)).set_index("task")
    assert ended.ended.to_dict() == {EASY: "decided", OPEN: "decided", NULL: "futile"}
    assert ended.look[OPEN] > 1
    assert counts(suite)[EASY, "scratch", 20] == 5


def test_growing_goes_on_after_an_interruption(suite: str, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    calls = []

    def train(read: Any, *, show: Any, **options: Any) -> list[str]:
        calls.append(options)
        specs = missing_runs(read)
        for number, spec in enumerate(specs):
            if len(calls) in (1, 3) and number == 4:
                raise KeyboardInterrupt
            plant(spec, TRUTHS)
        return []

    monkeypatch.setattr(growth, "train_suite", train)
    command = ["grow", suite, "--engine", "here", "--workers", "2"]
    assert [main(command) for _ in range(3)] == [130, 130, 0]
    assert calls[0] == {"device": "auto", "engine": "here", "workers": 2, "cluster": None}
    assert "the open rows are at their cap" in capsys.readouterr().out
    assert counts(suite)[OPEN, "scratch", 20] == 12
    assert sum(1 for _ in paths.runs_dir().iterdir()) == 36 + 6 + 8  # nothing twice, nothing that was not asked for
    assert main(["seeds", suite]) == 0
    assert main(command) == 0
    assert sum(1 for _ in paths.runs_dir().iterdir()) == 50


def test_a_run_that_cannot_be_trained_stops_the_growth(suite: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(growth, "train_suite", lambda *_, **__: ["no memory"])
    assert main(["grow", suite]) == 1
    assert not looks_file("planted").exists()


def test_words_are_corrected_for_looking(suite: str, tmp_path: Path):
    plant_missing(suite, TRUTHS | {OPEN: on_the_line})
    fixed = tmp_path / "fixed.toml"
    fixed.write_text(SUITE.replace("until = { replication = 0.9, seeds = 12 }\n", ""))
    once, often = suite_ledger(str(fixed)), suite_ledger(suite)
    level = ALPHA / 3  # of three rows: the lowest that a p-value is compared with
    factor = level / level_at_looks((5, 8, 12), level)
    assert factor > ALPHA / level_at_looks((5, 8, 12), ALPHA) > 1.5
    for single, row in zip(once, often, strict=True):
        assert row["p"] == pytest.approx(min(1.0, factor * single["p"]), abs=1e-12)
        assert 1 - row["level"] == pytest.approx((1 - single["level"]) / factor)
        assert row["interval"][0] < single["interval"][0] < single["interval"][1] < row["interval"][1]
    chosen = specifications.suite_choices(suite)
    own = chosen[chosen.choice == specifications.OWN].set_index("task")
    assert len(chosen) > len(own) == 3
    for row in often:
        assert own.adjusted[row["task"]] == pytest.approx(row["adjusted"])
    assert json.dumps(once)  # no key that a fixed suite did not have
    assert "decided_ahead" not in once[0]
    ends = rows_ended(str(fixed), once)
    assert set(ends.ended) == {"decided", "cap"}
    assert looks_taken(str(fixed), once)[["look", "seeds", "runs", "open"]].to_numpy().tolist() == [[1, 5, 36, 0]]
    with pytest.raises(StudyError, match=r"the seeds of suite .*fixed.toml are fixed; write until"):
        look(str(fixed))


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({"verdict": "not tested", "p": None}, "not tested"),
        ({"verdict": "supported", "p": None}, "decided"),
        ({"verdict": "inconclusive", "p": 0.2, "decided_ahead": 0.09}, "futile"),
        ({"verdict": "inconclusive", "p": 0.2, "decided_ahead": 0.1}, "open"),
        ({"verdict": "contradicted", "p": 0.001, "replication": 0.89, "decided_ahead": 1.0}, "open"),
        ({"verdict": "contradicted", "p": 0.001, "replication": 0.9, "decided_ahead": 0.0}, "decided"),
    ],
)
def test_when_a_row_is_open(row: dict[str, Any], state: str):
    assert row_state(row, 0.9) == state


def test_every_test_says_which_strategies_it_reads():
    assert len(LEDGER) >= 27
    for claim in LEDGER.values():
        strategies = TESTS[claim.test].strategies or claim.compare
        assert strategies
        assert set(strategies) <= set(STRATEGIES), claim.id


@pytest.mark.parametrize(
    ("claim", "task", "cells"),
    [
        ("K1", "sim_radiograph", {("scratch", "sim_radiograph"), ("full_finetuning", "sim_radiograph")}),
        ("K7", "sim_ultrasound_hard", {
            (name, "sim_ultrasound_hard")
            for name in ("scratch", "frozen_random_encoder", "frozen_drawn_encoder", "without_skips")
        }),
        ("A7", "simulated", {
            ("layer_subset", "sim_ultrasound_hard"), ("encoder_only", "sim_ultrasound_hard"),
            ("decoder_only", "sim_ultrasound_hard"), ("encoder_only", "sim_radiograph"),
            ("decoder_only", "sim_radiograph"),
        }),
        ("L1", "sim_brain_t2@4", {
            ("scratch", "sim_brain_t2"), ("full_finetuning", "sim_brain_t2"), ("scale_shift", "sim_brain_t2"),
        }),
        ("L6", "sim_knee_pd_sagittal", {
            ("full_finetuning", "sim_knee_pd_sagittal"), ("scale_shift", "sim_knee_pd_sagittal"),
        }),
        ("L7", "sim_brain_t2@4", {("full_finetuning", "sim_brain_t2")}),
    ],
)  # fmt: skip
def test_which_cells_a_row_reads(claim: str, task: str, cells: set[tuple[str, str]]):
    suite = load_suite("class_until")
    row = {"id": claim, "task": task}
    assert {(cell.strategy, cell.task) for cell in suite.cells if reads(row, LEDGER[claim], suite, cell)} == cells
    assert row_name(row) == f"{claim}, {task}"


def test_the_next_look_passes_cells_that_have_its_seeds(monkeypatch: pytest.MonkeyPatch):
    """Cells with five seeds of their own stay as they are at the look at five; where no other grows, it is left out."""
    monkeypatch.setattr(growth, "load_claims", load_claims)
    suite = load_suite("class_until")
    assert planned_looks(suite) == (3, 5, 8, 12)
    row, first = {"id": "K9", "task": "sim_ultrasound_hard"}, suite.looks[0].seeds
    found = next_look(suite, [row], (3, 5, 8, 12))
    assert found is not None
    assert found.at == 5
    assert {(old, new) for old, new in zip(first, found.seeds, strict=True)} == {(1, 1), (3, 3), (3, 5), (5, 5)}
    few = [max(5, count) if reads(row, LEDGER["K9"], suite, cell) else count
           for cell, count in zip(suite.cells, first, strict=True)]  # fmt: skip
    later = replace(suite, looks=(Look(3, tuple(few), {}),))
    found = next_look(later, [row], (3, 5, 8, 12))
    assert found is not None
    assert found.at == 8
    assert next_look(suite, [], (3, 5, 8, 12)) is None


def test_seeds_on_shared_folds_tell_less():
    assert grows(3, 5, 5) == (pytest.approx(0.6), 5)
    assert grows(3, 12, 20) == (pytest.approx(0.25), 12)
    shares = [grows(5, most, 5).share for most in (5, 8, 12, 20, 10**6)]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (1, pytest.approx(0.5, abs=1e-4))  # what is left is the folds' half
    assert grows(12, 5, 5).share == 1


def test_the_record_of_planted_ledgers_holds_its_errors_and_caps():
    table = read_record("seeds_until")
    assert set(table.effects) == {0.0, 0.6}
    assert len(table) == 12
    until = table[table.design.str.startswith("until")]
    assert (until.seeds < until.design.str.extract(r"until (\d+)", expand=False).astype(float)).all()
    for row in until[until.effects == 0].itertuples():
        assert at_most(row.any_false * row.ledgers, row.ledgers, ALPHA)


@pytest.mark.slow
@pytest.mark.parametrize(("now", "least"), [(3, 100), (5, 20)])
def test_rows_that_are_given_up_would_seldom_have_been_decided(now: int, least: int):
    """Over planted ledgers: of the rows that a look calls futile, and of those that it waits for."""
    rng, futile, waited = np.random.default_rng(5), list[bool](), list[bool]()
    for _ in range(12):
        runs = Runs(Truth(rng), rng, 12)
        first, last = (
            decide(runs.findings(np.full((TASKS, ARMS), seeds)), ALPHA, looks=(3, 5, 8, 12), ahead=(12, FOLDS))
            for seeds in (now, 12)
        )
        for row, then in zip(first, last, strict=True):
            if row["verdict"] == "inconclusive":
                (futile if row_state(row, 0.9) == "futile" else waited).append(then["verdict"] != "inconclusive")
    assert np.mean(futile) < growth.FUTILE
    assert len(waited) >= least
    assert np.mean(waited) > 3 * growth.FUTILE


@pytest.mark.slow
def test_looks_together_decide_no_more_nulls_than_one():
    """Forty-three null rows a ledger, looked at up to five times: a false row in at most one of twenty ledgers."""
    rng, false, ledgers = np.random.default_rng(3), 0, 40
    for _ in range(ledgers):
        rows, spent = until(Runs(Truth(rng, share=0.0), rng, 20), looks_until(3, 20))
        false += bool(signs(rows).any())
        assert 3 <= spent <= 20
    assert at_most(false, ledgers, ALPHA)
