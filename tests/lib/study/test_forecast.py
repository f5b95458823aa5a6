"""What a suite will cost: planted costs add up, units go to whoever is free, and nothing is left of the measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from lib.__main__ import main
from lib.common import paths
from lib.runs.listing import list_runs
from lib.study.forecast import Cost, forecast, kind, measure, span
from lib.study.plan import load_suite, phases, train_suite

SUITE = """
seeds = [0, 1]
[run]
width = 2
depth = 1
size = 16
steps = 40
batch = 4
evaluations = 4
[tuning]
rates = [0.01, 0.001]
[sources.first]
task = "blobs"
lr = 0.01
[[grid]]
tasks = ["blobs"]
volumes = [6]
strategies = ["scratch"]
[[grid]]
tasks = ["blobs"]
volumes = [6]
source = "first"
strategies = ["full_finetuning"]
run = { steps = 20, checkpoints = "ends" }
"""

pytestmark = pytest.mark.usefixtures("blobs_as_data")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "few.toml"
    found.write_text(SUITE)
    return found


@pytest.mark.parametrize(
    ("lengths", "workers", "expected"),
    [([], 3, 0), ([5], 3, 5), ([3, 3, 3], 1, 9), ([3, 3, 3], 2, 6), ([1, 1, 4], 2, 5), ([4, 1, 1], 2, 4)],
)
def test_whoever_is_free_takes_the_next_unit(lengths: list[float], workers: int, expected: float) -> None:
    assert span(lengths, workers) == expected


def test_planted_costs_add_up(file: Path) -> None:
    suite = load_suite(str(file))
    dealt = [[[spec] for spec in phase] for phase in phases(suite)]
    assert [len(phase) for phase in dealt] == [2, 8]
    cost = Cost(a_step=1.0, an_evaluation=10.0, beside=100.0, first_checkpoint=1000.0, later_checkpoint=10.0)
    found = forecast(dealt, {kind(unit): cost for phase in dealt for unit in phase}, [1, 2, 100])
    long, short = 100 + 40 + 50, 100 + 20 + 50  # seconds of a run: four evaluations and that of step 0
    assert found.seconds == {1: 6 * long + 4 * short, 2: long + 2 * long + 2 * short, 100: 2 * long}
    assert found.least == 2 * long
    assert (found.runs, found.sources, found.units) == (10, 2, 10)
    assert found.steps == 6 * 40 + 4 * 20
    assert found.bytes == 6 * (1000 + 4 * 10) + 4 * (1000 + 10)  # steps 0, 1, 4, 16 and 40; or the ends


def test_a_stack_costs_its_longest_run_once() -> None:
    unit = [tiny.spec(seed=each) for each in range(3)]
    cost = Cost(a_step=1.0, an_evaluation=0.0, beside=0.0, first_checkpoint=1.0, later_checkpoint=0.0)
    found = forecast([[unit]], {kind(unit): cost}, [1])
    assert (found.seconds, found.bytes, found.runs, found.units) == ({1: 8.0}, 3.0, 3, 1)


def test_what_runs_of_one_kind_share() -> None:
    source = tiny.spec(seed=7)
    one = kind([tiny.spec()])
    assert one == kind([tiny.spec(seed=3, lr=0.5, volume=3, fold=1, steps=300, evaluations=30)])
    others: list[dict[str, Any]] = [
        {"width": 4}, {"size": 32}, {"batch": 2}, {"arithmetic": "bfloat16"},
        {"strategy": "full_finetuning", "source": source}, {"strategy": "frozen_random_encoder"},
    ]  # fmt: skip
    for other in others:
        assert kind([tiny.spec(**other)]) != one, other


def test_measured_costs_are_of_every_kind_and_leave_nothing(file: Path) -> None:
    suite = load_suite(str(file))
    dealt = [[[spec] for spec in phase] for phase in phases(suite)]
    costs = measure((unit for phase in dealt for unit in phase), device="cpu", workers=1)
    assert costs.keys() == {kind(unit) for phase in dealt for unit in phase}
    assert all(cost.a_step >= 0 and cost.first_checkpoint > 0 and cost.beside >= 0 for cost in costs.values())
    assert all(cost.a_step + cost.an_evaluation + cost.beside > 0 for cost in costs.values())  # which is noise here
    assert list_runs() == []
    assert not list(paths.home().glob(".plan.*"))


def test_a_stack_is_measured_as_one() -> None:
    (cost,) = measure([[tiny.spec(seed=each) for each in range(3)]], device="cpu", workers=1).values()
    assert cost.a_step > 0


def test_the_command(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(file), "--device", "cpu", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "0 of 10 runs of few are finished" in said
    assert "missing   10 runs, 2 of them sources, 320 steps, 10 units" in said
    assert "on 16 workers" in said
    assert train_suite(load_suite(str(file)), engine="here", device="cpu", show=lambda line: None) == []
    assert main(["plan", str(file), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "10 of 10 runs of few are finished" in said
    assert "nothing is missing" in said
