"""K4, K5 and L7 on run folders with planted weights: true, false, undecided and untested."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import fake_run, reseal
from torch import Tensor

from analysis.claims.filter_change.claim_tests import median_angle
from analysis.claims.filter_change.tables import change_table, cosine_by_rate
from analysis.claims.ledger.evaluate import evaluate, load_claims
from analysis.claims.per_run_test import once_per_run
from analysis.tables.results import evaluation_table, run_table
from lib.common.seeding import generator
from lib.networks.gabor import gabor_atoms
from lib.networks.unet import build
from lib.runs.run import Run
from lib.runs.spec import RunSpec
from lib.runs.tensor_files import write_tensors

LEDGER = {claim.id: claim for claim in load_claims()}
SOURCE = {"task": "sim_natural", "width": 8, "depth": 1}
Change = Callable[[str, Tensor, torch.Generator], Tensor]


def plant(root: Path, strategy: str, seed: int, change: Change, width: int = 8, lr: float = 0.01) -> Run:
    """A finished run whose kernels went from a random start to `change(name, weight, draw)`."""
    values = {**SOURCE, "width": width}
    values |= {"lr": lr, "seed": seed, "fold": seed}
    source = None if strategy in ("scratch", "shuffled_labels") else RunSpec(**values)
    spec = RunSpec(**{**values, "task": "sim_radiograph"}, strategy=strategy, source=source)
    run = fake_run(root, spec, curve=[(0, 0.1)])
    start = build(width=width, depth=1, norm="batch", seed=seed).state_dict()
    draw = generator(seed, 5)
    end = {key: change(key, value, draw) if value.dim() == 4 else value for key, value in start.items()}
    write_tensors(run.checkpoint(0), start, {})
    write_tensors(run.checkpoint(spec.steps), end, {})
    reseal(run.path)
    return run


def judge(name: str, runs: list[Run], *, known: bool = True):
    results = evaluate(run_table(runs), evaluation_table(runs), [LEDGER[name]], runs if known else ())
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    return results


def turned(degrees: float) -> Change:
    """Every filter turned by this angle, in a random direction, and doubled in length, which must not matter."""

    def change(name: str, weight: Tensor, draw: torch.Generator) -> Tensor:
        axis = 1 if ".up." in name else 0
        rows = weight.transpose(0, axis).flatten(1)
        noise = torch.randn(rows.shape, generator=draw)
        unit = rows / rows.norm(dim=1, keepdim=True)
        across = noise - (noise * unit).sum(1, keepdim=True) * unit
        across = across / across.norm(dim=1, keepdim=True)
        angle = math.radians(degrees)
        new = 2 * rows.norm(dim=1, keepdim=True) * (math.cos(angle) * unit + math.sin(angle) * across)
        return new.view_as(weight.transpose(0, axis)).transpose(0, axis)

    return change


def gabor(name: str, weight: Tensor, draw: torch.Generator) -> Tensor:
    atoms = torch.from_numpy(gabor_atoms(np.ones(tuple(weight.shape[2:]), dtype=bool)).copy()).float()
    if not len(atoms):
        return weight
    chosen = torch.randint(len(atoms), weight.shape[:2], generator=draw)
    return atoms[chosen].view_as(weight) * torch.randn((*weight.shape[:2], 1, 1), generator=draw)


def both(root: Path, scratch: Change, tuned: Change, width: int = 8) -> list[Run]:
    return [plant(root, name, seed, change, width) for seed in range(3)
            for name, change in (("scratch", scratch), ("full_finetuning", tuned))]  # fmt: skip


@pytest.mark.parametrize(("degrees", "word"), [(10, "supported"), (40, "contradicted")])
def test_k4_finds_the_planted_angle(tmp_path: Path, degrees: float, word: str) -> None:
    (result,) = judge("K4", both(tmp_path, turned(5), turned(degrees)))
    assert result["verdict"] == word
    assert result["effect"] == pytest.approx(math.cos(math.radians(degrees)), abs=1e-3)
    assert (result["task"], result["seeds"]) == ("sim_radiograph", 3)
    parts = {part["name"]: part["effect"] for part in result["parts"]}  # the arm that moved most decides
    assert parts == pytest.approx({"scratch": math.cos(math.radians(5)), "full_finetuning": result["effect"]}, abs=1e-3)
    assert "No run with shuffled labels" in result["note"]
    assert "simulated data" in result["note"].lower()


def test_k4_is_told_at_every_rate_and_the_rates_must_agree(tmp_path: Path) -> None:
    """At a high rate filters turn further: what one rate supports and another contradicts is not decided."""

    def at(rates: dict[float, float], where: str) -> dict[str, Any]:
        runs = [plant(tmp_path / where, arm, seed, turned(angle), lr=lr) for lr, angle in rates.items()
                for arm in ("scratch", "full_finetuning") for seed in range(3)]  # fmt: skip
        (result,) = judge("K4", runs)
        names = {f"{arm}, rate {lr:g}" for arm in ("scratch", "full_finetuning") for lr in rates}
        assert {part["name"] for part in result["parts"]} == names
        for part in result["parts"]:
            angle = rates[float(part["name"].split()[-1])]
            assert part["effect"] == pytest.approx(math.cos(math.radians(angle)), abs=1e-3)
        return result

    assert at({0.003: 10, 0.01: 40}, "apart")["verdict"] == "inconclusive"
    assert at({0.003: 10, 0.01: 20}, "near")["verdict"] == "supported"
    assert at({0.003: 35, 0.01: 40}, "far")["verdict"] == "contradicted"


def test_change_is_told_at_every_rate(tmp_path: Path) -> None:
    """Filters turn by 10 degrees at one rate and by 40 at the other, in every seed."""
    angles = {0.001: 10, 0.01: 40}
    runs = [plant(tmp_path, "scratch", seed, turned(angles[lr]), lr=lr) for lr in angles for seed in range(3)]
    table = cosine_by_rate(runs).set_index("lr")
    for lr, angle in angles.items():
        assert table.loc[lr, "mean"] == pytest.approx(math.cos(math.radians(angle)), abs=1e-3)
        assert table.loc[lr, "low"] <= table.loc[lr, "mean"] <= table.loc[lr, "high"]
    assert table.seeds.tolist() == [3, 3]
    stages = change_table(runs)
    assert stages.groupby("lr").angle_median.mean().to_dict() == pytest.approx(angles, abs=0.1)
    assert cosine_by_rate([]).empty


def test_k4_is_undecided_where_the_seeds_are(tmp_path: Path) -> None:
    runs = [plant(tmp_path, name, seed, turned(angle)) for seed, angle in enumerate((10, 27, 40))
            for name in ("scratch", "full_finetuning")]  # fmt: skip
    assert judge("K4", runs)[0]["verdict"] == "inconclusive"


def test_k4_sets_shuffled_labels_beside_it(tmp_path: Path) -> None:
    runs = [*both(tmp_path, turned(5), turned(5)), plant(tmp_path, "shuffled_labels", 0, turned(60))]
    (result,) = judge("K4", runs)
    assert "Shuffled labels: 60 degrees" in result["note"]
    assert result["verdict"] == "supported"  # the control does not decide


def test_one_start_alone_cannot_support_but_can_contradict(tmp_path: Path) -> None:
    few = [run for run in both(tmp_path, turned(5), turned(5)) if run.spec.strategy == "scratch" or run.spec.seed < 2]
    (result,) = judge("K4", few)
    assert result["verdict"] == "inconclusive"
    assert "2 seeds of full_finetuning, 3 needed" in result["note"]
    far = [plant(tmp_path / "far", "scratch", seed, turned(50)) for seed in range(3)]
    assert judge("K4", far)[0]["verdict"] == "contradicted"


@pytest.mark.parametrize("name", ["K4", "K5", "L7"])
def test_without_checkpoints_nothing_is_tested(tmp_path: Path, name: str) -> None:
    (result,) = judge(name, both(tmp_path, turned(5), turned(5)), known=False)
    assert result["verdict"] == "not tested"
    assert result["effect"] is None


def test_k5_takes_turned_random_filters_for_random_and_no_gabor_filters(tmp_path: Path) -> None:
    (random,) = judge("K5", both(tmp_path / "a", turned(60), turned(80), width=32))
    assert random["verdict"] == "supported"
    assert random["effect"] == pytest.approx(0.5, abs=0.1)
    (visible,) = judge("K5", both(tmp_path / "b", turned(60), gabor, width=32))
    assert visible["verdict"] == "contradicted"
    assert visible["effect"] > 0.8
    assert "Random start: 0.5" in visible["note"] or "Random start: 0.4" in visible["note"]


def scaled(share: float) -> Change:
    """A change of which this share (of the squares, per kernel) is a scale and a shift, and the rest is neither."""

    def change(name: str, weight: Tensor, draw: torch.Generator) -> Tensor:
        taps = weight.flatten(2)
        n = taps.shape[2]
        if n < 3:
            return weight
        ones = torch.ones_like(taps) / n**0.5
        centered = taps - taps.mean(2, keepdim=True)
        centered = centered / centered.norm(dim=2, keepdim=True)
        inside = torch.randn((*taps.shape[:2], 1), generator=draw) * ones
        inside = inside + torch.randn((*taps.shape[:2], 1), generator=draw) * centered
        outside = torch.randn(taps.shape, generator=draw)
        for basis in (ones, centered):
            outside = outside - (outside * basis).sum(2, keepdim=True) * basis
        unit = [part / part.norm(dim=2, keepdim=True) for part in (inside, outside)]
        return (taps + 0.1 * (share**0.5 * unit[0] + (1 - share) ** 0.5 * unit[1])).view_as(weight)

    return change


@pytest.mark.parametrize(("share", "word"), [(0.8, "supported"), (0.3, "contradicted")])
def test_l7_finds_the_planted_share(tmp_path: Path, share: float, word: str) -> None:
    (result,) = judge("L7", both(tmp_path, turned(5), scaled(share)))
    assert result["verdict"] == word
    explained, beyond = result["parts"]
    assert explained["effect"] == pytest.approx(share, abs=0.02)
    assert (explained["line"], beyond["line"]) == (0.5, 0.5)
    # Half of what is explained is a shift: another kernel's start explains it too, and by chance an eighth of the rest.
    other = share / 2 + (1 - share / 2) / 8
    assert beyond["effect"] == pytest.approx((share - other) / (1 - other), abs=0.03)
    assert "explained by chance 0.22" in result["note"].lower()


def test_l7_does_not_take_a_shift_for_a_transformation_of_the_start(tmp_path: Path) -> None:
    """A shift per kernel is nearly all of the change: another kernel's start explains as much of it as its own."""

    def shift(name: str, weight: Tensor, draw: torch.Generator) -> Tensor:
        shifts = 0.1 * torch.randn((*weight.shape[:2], 1, 1), generator=draw)
        return weight + shifts + 0.03 * torch.randn(weight.shape, generator=draw)

    (result,) = judge("L7", both(tmp_path, turned(5), shift))
    share, beyond = result["parts"]
    assert share["effect"] > 0.8
    assert share["interval"][0] > share["line"] == beyond["line"] == 0.5
    assert (beyond["name"], result["verdict"]) == (
        "full_finetuning, explained beyond another kernel's start", "contradicted",
    )  # fmt: skip
    assert result["effect"] == beyond["effect"] < 0.2


def test_l7_tells_of_each_sampling_rate_what_chance_and_another_kernel_explain(tmp_path: Path) -> None:
    runs = [run for run in both(tmp_path, turned(5), scaled(0.8)) if run.spec.strategy == "full_finetuning"]
    tables = [run_table(runs).assign(task=f"sim_radiograph@{rate}") for rate in (4, 8)]  # as if reconstructed
    results = evaluate(pd.concat(tables), evaluation_table([]), [LEDGER["L7"]], runs)
    assert [result["task"] for result in results] == ["sim_radiograph@4", "sim_radiograph@8"]
    assert all("explained by chance 0.22" in result["note"].lower() for result in results)


def test_l7_does_not_mistake_a_small_change_for_a_linear_one(tmp_path: Path) -> None:
    tiny: Change = lambda name, weight, draw: weight + 1e-3 * torch.randn(weight.shape, generator=draw)  # noqa: E731
    (result,) = judge("L7", both(tmp_path, turned(5), tiny))
    assert result["verdict"] == "contradicted"
    explained, beyond = result["parts"]
    assert explained["effect"] == pytest.approx(2 / 9, abs=0.05)
    assert beyond["effect"] == result["effect"] == pytest.approx(0, abs=0.05)
    assert "1.000 with scale and shift" in result["note"]


def test_the_median_angle_is_that_of_the_cosine(tmp_path: Path) -> None:
    run = plant(tmp_path, "scratch", 0, turned(33))
    assert median_angle(run) == pytest.approx(33, abs=0.1)


def test_a_run_is_measured_once_for_as_long_as_it_stays_what_it_is(study_home: Path):
    run = plant(study_home / "runs", "scratch", 0, turned(10))
    asked = []

    @once_per_run
    def size(run: Run, step: int | None = None) -> float:
        asked.append(step)
        return sum(float(value.norm()) for value in run.weights(step).values() if value.dim() == 4)

    first = size(run)
    assert size(run) == size(Run(run.path)) == first
    assert asked == [None]
    assert size(run, 0) != first
    assert asked == [None, 0]
    weights = run.weights()
    write_tensors(run.checkpoint(run.spec.steps), {name: 3 * value for name, value in weights.items()}, {})
    reseal(run.path)
    assert size(run) == pytest.approx(3 * first)
