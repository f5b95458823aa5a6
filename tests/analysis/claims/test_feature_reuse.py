"""K8 to K10 on planted maps: true, false, undecided and untested."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from fakes import frame, row
from planted import planted

from analysis.claims import verdicts
from analysis.claims.feature_reuse import claim_tests
from analysis.claims.ledger.decide import decide
from analysis.claims.ledger.evaluate import evaluate, load_claims
from analysis.representations.run_similarity import LayerMaps
from analysis.tables.results import evaluation_table, with_own_source

LEDGER = {claim.id: claim for claim in load_claims()}


def table(seeds: int, *, shared: bool = False):
    rows = [row("busi", name, seed, 0.7, volume=20, source_seed=seed, fold=seed % 5)
            for name in ("scratch", "full_finetuning") for seed in range(seeds)]  # fmt: skip
    if shared:
        label = {"source": "sim_natural (seed 0)", "source_seed": 0}
        rows += [
            row("busi", "full_finetuning", seed, 0.7, volume=20, fold=seed % 5, **label) for seed in range(1, seeds)
        ]
    return frame(rows)


def judge(name: str, seeds: int, maps: LayerMaps | None, monkeypatch: pytest.MonkeyPatch, **options: Any):
    """The one row of a claim on a task whose comparison gives these maps."""
    found = table(seeds, **options)
    asked = []

    def compared(frame, runs, task, *, arms, measure):
        asked.append((task, len(frame), arms))
        return maps

    monkeypatch.setattr(claim_tests, "layer_maps_of_runs", compared)
    everyone = dict.fromkeys(found.run_id)
    findings = verdicts.TESTS[LEDGER[name].test].run(LEDGER[name], found, evaluation_table([]), everyone)
    (result,) = decide(findings, LEDGER[name].value("alpha"))
    if maps is not None:
        assert asked == [("busi", len(found), ("full_finetuning", "scratch"))]
    return result


def kept(tuned: list[float]):
    """Fine-tuned networks that keep so much by layer, random ones 0.5 everywhere."""

    def value(layer: int, a: dict, b: dict) -> float:
        if (a["strategy"], a["seed"]) == (b["strategy"], b["seed"]):
            return 0.5 if a["strategy"] == "scratch" else tuned[layer]
        return 0.1

    return value


@pytest.mark.parametrize(
    ("tuned", "word"),
    [
        ([0.8] * 9, "supported"),
        ([0.6] * 5 + [0.9] * 4, "supported"),
        ([0.9, 0.9, *[0.5] * 7], "contradicted"),  # early only
        ([0.5] * 9, "contradicted"),  # none
        ([0.95 - 0.04 * at for at in range(9)], "contradicted"),  # it falls, though some is left deep
    ],
)
def test_k8_finds_planted_reuse(tuned: list[float], word: str, monkeypatch: pytest.MonkeyPatch):
    result = judge("K8", 3, planted(kept(tuned), 3, starts=True, noise=0.005), monkeypatch)
    assert result["verdict"] == word
    assert (result["task"], result["seeds"]) == ("busi", 3)
    slope, later = result["parts"]
    assert (slope["name"], later["name"]) == ("slope over depth", "reuse beyond the early encoder")
    assert (slope["line"], later["line"], slope["side"], later["side"]) == (-0.1, 0.05, "above", "above")
    assert slope["effect"] == pytest.approx(np.polyfit(np.linspace(0, 1, 9), tuned, 1)[0], abs=0.03)
    assert later["effect"] == pytest.approx(np.mean(tuned[2:]) - 0.5, abs=0.03)
    assert "20 training images" in result["note"]


def test_k8_is_undecided_where_seeds_scatter(monkeypatch: pytest.MonkeyPatch):
    result = judge("K8", 3, planted(kept([0.6] * 9), 3, starts=True, noise=0.4, draw=2), monkeypatch)
    assert result["verdict"] == "inconclusive"


def groups(within: float, between: float):
    return lambda layer, a, b: within if a["strategy"] == b["strategy"] else between


@pytest.mark.parametrize(
    ("within", "between", "word"), [(0.8, 0.6, "supported"), (0.6, 0.6, "contradicted"), (0.61, 0.6, "contradicted")]
)
def test_k9_finds_planted_groups(within: float, between: float, word: str, monkeypatch: pytest.MonkeyPatch):
    result = judge("K9", 5, planted(groups(within, between), 5, noise=0.005), monkeypatch)
    assert result["verdict"] == word
    assert result["effect"] == pytest.approx(within - between, abs=0.01)
    assert (result["line"], result["side"], result["parts"]) == (0.02, "above", [])
    assert "252 labelings" in result["note"]
    assert ("9 of 9 layers" in result["note"]) == (within > between)


def test_k9_is_undecided_where_runs_scatter(monkeypatch: pytest.MonkeyPatch):
    maps = planted(groups(0.6, 0.57), 5, noise=0.3, layers=("enc0", "enc1", "dec0"), draw=1)
    assert judge("K9", 5, maps, monkeypatch)["verdict"] == "inconclusive"


def spread(own: float, random: float, shared: float):
    def value(layer: int, a: dict, b: dict) -> float:
        if a["strategy"] == b["strategy"] == "scratch":
            return 1 - random
        return 1 - (shared if a["source_seed"] == b["source_seed"] == 0 else own)

    return value


@pytest.mark.parametrize(
    ("own", "shared", "word"),
    [(0.4, 0.1, "supported"), (0.8, 0.1, "supported"), (0.1, 0.4, "supported"), (0.2, 0.1, "contradicted")],
)
def test_k10_finds_planted_spreads(own: float, shared: float, word: str, monkeypatch: pytest.MonkeyPatch):
    maps = planted(spread(own, 0.4, shared), 5, shared=True, noise=0.004)
    result = judge("K10", 5, maps, monkeypatch, shared=True)
    assert result["verdict"] == word
    ratios = {part["name"]: part["effect"] for part in result["parts"]}
    assert ratios == pytest.approx({"a source run each": own / 0.4, "one source run for all": shared / 0.4}, rel=0.05)
    for part in result["parts"]:
        assert (part["line"], part["side"]) == (pytest.approx(0.8), "above")
    assert "One source run for all (5 seeds): ratio" in result["note"]
    assert result["note"].startswith("At enc4")


def test_k10_needs_no_shared_source(monkeypatch: pytest.MonkeyPatch):
    result = judge("K10", 5, planted(spread(0.4, 0.4, 0.4), 5, noise=0.004), monkeypatch)
    assert result["verdict"] == "supported"
    assert "ne source run for all" not in result["note"]


def test_k10_is_about_the_bottleneck(monkeypatch: pytest.MonkeyPatch):
    """Lower there and as high in another layer: what was fixed beforehand decides, the other stands in the note."""

    def value(layer: int, a: dict, b: dict) -> float:
        return spread(0.4 if layer == 8 else 0.1, 0.4, 0.1)(layer, a, b)

    result = judge("K10", 5, planted(value, 5, noise=0.004), monkeypatch)
    assert (result["verdict"], result["effect"]) == ("contradicted", pytest.approx(0.25, rel=0.05))
    ((low, high),) = re.findall(r"ratio (\S+) to (\S+) over layers", result["note"])
    assert (float(low), float(high)) == (pytest.approx(0.25, rel=0.1), pytest.approx(1.0, rel=0.1))


def test_k10_is_undecided_where_runs_scatter(monkeypatch: pytest.MonkeyPatch):
    maps = planted(spread(0.32, 0.4, 0.1), 5, noise=0.1)
    assert judge("K10", 5, maps, monkeypatch)["verdict"] == "inconclusive"


@pytest.mark.parametrize(("name", "seeds"), [("K8", 2), ("K9", 4), ("K10", 4)])
def test_too_few_seeds_are_not_tested(name: str, seeds: int, monkeypatch: pytest.MonkeyPatch):
    result = judge(name, seeds, None, monkeypatch)
    assert result["verdict"] == "not tested"
    assert result["note"].startswith(f"{seeds} seeds with the checkpoints of full_finetuning and scratch")


@pytest.mark.parametrize(("name", "folds"), [("K8", 1), ("K9", 2), ("K10", 2)])
def test_too_few_test_folds_are_not_tested(name: str, folds: int):
    """Runs that share a test fold are one replicate, and a jackknife over folds takes three."""
    found = table(5)
    found = found.assign(fold=found.seed % folds)
    run = verdicts.TESTS[LEDGER[name].test].run
    (finding,) = run(LEDGER[name], found, evaluation_table([]), dict.fromkeys(found.run_id))
    assert finding.evidence is None
    assert f"on {folds} test folds, {folds + 1} needed" in finding.note


@pytest.mark.parametrize("name", ["K8", "K9", "K10"])
def test_without_runs_at_hand_nothing_is_tested(name: str):
    found = table(5)
    (result,) = evaluate(found, evaluation_table([]), [LEDGER[name]])
    assert (result["verdict"], result["seeds"]) == ("not tested", 0)


def test_only_these_claims_see_runs_that_share_a_source():
    shared = table(3, shared=True)
    seen = {}
    for name, claim in LEDGER.items():
        test = verdicts.TESTS[claim.test]
        seen[name] = test.shared_source
    assert {name for name, both in seen.items() if both} == {"K8", "K9", "K10"}
    assert len(with_own_source(shared)) == len(shared) - 2
