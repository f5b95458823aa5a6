"""K6 and K7 on planted outcomes, and the tables beside them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from fakes import frame, row

from analysis.claims.ledger.evaluate import evaluate, load_claims
from analysis.claims.random_filters import frozen_encoder
from analysis.claims.random_filters.frozen_encoder import FROZEN, IMAGE, NO_SKIPS, NO_SKIPS_TRAINED
from analysis.tables.results import evaluation_table

LEDGER = {claim.id: claim for claim in load_claims()}
UNCALIBRATED = "frozen_random_encoder (calibrate=False)"
GOOD = {"scratch": 0.80, "full_finetuning": 0.80, FROZEN: 0.795, IMAGE: 0.60, NO_SKIPS: 0.70, NO_SKIPS_TRAINED: 0.705}


def table(dice: dict[str, float], *, seeds: int = 3, volumes=(20, None), noise: float = 0.004, task: str = "busi"):
    rng = np.random.default_rng(0)
    rows = []
    for arm, mean in dice.items():
        for volume in volumes:
            for seed in range(seeds):
                value = mean + 0.05 * seed + (0.1 if volume is None else 0) + rng.normal(0, noise)
                rows.append(row(task, arm.split(" ")[0], seed, value, volume=volume, arm=arm,
                                **({} if arm == "full_finetuning" else {"source": ""})))  # fmt: skip
    return frame(rows)


def judge(name: str, data: pd.DataFrame):
    results = evaluate(data, evaluation_table([]), [LEDGER[name]])
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    return results


@pytest.mark.parametrize(("frozen", "word"), [(0.795, "supported"), (0.70, "contradicted"), (0.77, "inconclusive")])
def test_k6_finds_the_planted_loss(frozen: float, word: str) -> None:
    (result,) = judge("K6", table({**GOOD, FROZEN: frozen}, noise=0.006))
    assert result["verdict"] == word
    assert result["effect"] == pytest.approx(frozen - 0.80, abs=0.01)
    low, high = result["interval"]
    assert low < result["effect"] < high
    assert (result["task"], result["seeds"]) == ("busi", 3)
    assert [part["name"] for part in result["parts"]] == ["against scratch", "against full_finetuning"]
    assert {(part["line"], part["side"]) for part in result["parts"]} == {(-0.03, "above")}


def test_k6_is_decided_by_the_better_of_both_references() -> None:
    (result,) = judge("K6", table({**GOOD, "full_finetuning": 0.90}))
    assert result["verdict"] == "contradicted"
    assert result["effect"] == pytest.approx(-0.105, abs=0.01)
    (decisive,) = [part["name"] for part in result["parts"] if part["effect"] == result["effect"]]
    assert decisive == "against full_finetuning"


def test_k6_does_not_judge_the_method_by_the_uncalibrated() -> None:
    (alone,), (beside,) = judge("K6", table(GOOD)), judge("K6", table({**GOOD, UNCALIBRATED: 0.3}))
    assert alone == beside


def test_k6_pairs_by_seed() -> None:
    """Seeds differ by 0.05 each, far more than the margin; only paired differences can be this narrow."""
    (result,) = judge("K6", table(GOOD))
    assert result["interval"][1] - result["interval"][0] < 0.04


def test_too_few_seeds_or_no_reference_are_not_tested_and_say_so() -> None:
    for data in (table(GOOD, seeds=2), table({FROZEN: 0.8, IMAGE: 0.6})):
        (result,) = judge("K6", data)
        assert result["verdict"] == "not tested"
        assert "Too few seeds: against scratch" in result["note"]


def test_k6_without_one_reference_is_not_supported() -> None:
    data = table({name: value for name, value in GOOD.items() if name != "full_finetuning"})
    assert judge("K6", data)[0]["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "supported"),
        ({FROZEN: 0.72}, "contradicted"),  # a trained encoder helps, with skips
        ({NO_SKIPS_TRAINED: 0.80}, "contradicted"),  # it helps where nothing leaks past it
        ({IMAGE: 0.80}, "inconclusive"),  # the random encoder does nothing
    ],
)
def test_k7_follows_only_where_the_controls_fail(changes: dict[str, float], word: str) -> None:
    (result,) = judge("K7", table({**GOOD, **changes}))
    assert result["verdict"] == word
    assert "difficulty 0." in result["note"].lower()


def test_k7_reports_the_larger_gain() -> None:
    (result,) = judge("K7", table({**GOOD, NO_SKIPS_TRAINED: 0.80}))
    assert result["effect"] == pytest.approx(0.10, abs=0.01)
    (decisive,) = [part["name"] for part in result["parts"] if part["effect"] == result["effect"]]
    assert decisive == "gain without skips"


@pytest.mark.parametrize("missing", [IMAGE, NO_SKIPS, NO_SKIPS_TRAINED])
def test_k7_is_not_supported_without_its_controls(missing: str) -> None:
    (result,) = judge("K7", table({name: value for name, value in GOOD.items() if name != missing}))
    assert result["verdict"] == "inconclusive"
    assert "Too few seeds: " in result["note"]
    lacking = {IMAGE: "random encoder over the image alone"}.get(missing, "gain without skips")
    assert lacking in result["note"]
    assert lacking not in {part["name"] for part in result["parts"]}


def test_losses_hold_every_arm_against_its_reference() -> None:
    found = frozen_encoder.losses(table({**GOOD, UNCALIBRATED: 0.5}, volumes=(20,)))
    pairs = set(zip(found.arm, found.reference, strict=True))
    assert pairs == {
        ("full_finetuning", "scratch"), (FROZEN, "scratch"), (FROZEN, "full_finetuning"), (UNCALIBRATED, "scratch"),
        (IMAGE, "scratch"), (NO_SKIPS, "scratch"), (NO_SKIPS, NO_SKIPS_TRAINED), (NO_SKIPS_TRAINED, "scratch"),
    }  # fmt: skip
    uncalibrated = found[found.arm == UNCALIBRATED].iloc[0]
    assert uncalibrated.effect == pytest.approx(-0.3, abs=0.01)
    assert uncalibrated.effect == pytest.approx(np.mean(uncalibrated["values"]))
    assert len(frozen_encoder.losses(table(GOOD, seeds=1))) == 0


def test_costs_stand_in_the_order_of_the_controls() -> None:
    found = frozen_encoder.costs(table({**GOOD, "encoder_only": 0.7}, volumes=(20,)))
    expected = [frozen_encoder.CONTROLS[arm] for arm in frozen_encoder.CONTROLS if arm in GOOD]
    assert found.what.tolist() == expected
    assert {"dice", "low", "high", "seeds", "trainable", "seconds"} <= set(found.columns)
