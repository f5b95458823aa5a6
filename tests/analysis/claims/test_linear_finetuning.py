"""Claims about linear fine-tuning: planted leads are found, planted ties and losses are not called leads."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from fakes import frame, reseal, row

from analysis.claims import verdicts
from analysis.claims.ledger.decide import decide
from analysis.claims.ledger.evaluate import evaluate, load_claims
from analysis.claims.linear_finetuning.tables import lead_table, paired_leads
from analysis.claims.verdicts import TESTS, Claim, target_tasks
from analysis.tables.results import run_table
from lib.runs.run import Run

CLAIMS = {claim.id: claim for claim in load_claims() if claim.id.startswith("L")}
LINEAR, FULL = "scale_shift", "full_finetuning"
Value = Callable[[str, int, int, float], float]  # arm, volume, seed, rate -> dB


def noise(*key: Any, size: float = 0.05) -> float:
    """A normal number of mean 0 that is a pure function of the key."""
    return size * float(np.random.default_rng(zlib.crc32(repr(key).encode())).normal())


def wobble(arm: str, seed: int, size: float) -> float:
    """Up and down by seed, for the first arm alone: a mean of exactly 0 over an even number of seeds."""
    return size * (-1) ** seed * (arm == LINEAR)


def table(
    psnr: Value, *, scenario: str = "contrast", task: str = "sim_brain_t2", volumes: tuple[int, ...] = (1, 2, 5),
    arms: tuple[str, ...] = (LINEAR, FULL, "scratch"), rates: tuple[float, ...] = (4,), seeds: int = 4,
    **columns: Value,
) -> pd.DataFrame:  # fmt: skip
    rows = []
    for arm in arms:
        for volume in volumes:
            for seed in range(seeds):
                for rate in rates:
                    own: dict[str, Any] = {name: value(arm, volume, seed, rate) for name, value in columns.items()}
                    own |= {"psnr": psnr(arm, volume, seed, rate), "goal": "reconstruction", "fold": seed % 5}
                    own |= {"scenario": "" if arm == "scratch" else scenario, "volume": volume}
                    rows.append(row(f"{task}@{rate:g}", arm, seed, 0.5, source="sim_brain_t1", **own))
    return frame(rows)


def judge(name: str, results: pd.DataFrame, curves: pd.DataFrame | None = None, **runs: Run) -> dict[str, Any]:
    claim: Claim = CLAIMS[name]
    empty = pd.DataFrame(columns=["run_id", "step", "train_psnr", "val_psnr"])
    findings = TESTS[claim.test].run(claim, results, empty if curves is None else curves, runs)
    found = decide(findings, claim.value("alpha"))
    assert len(found) == 1
    assert found[0]["id"] == name
    return found[0]


def by_arm(**values: float) -> Value:
    return lambda arm, volume, seed, rate: 30 + values.get(arm, 0.0) + noise(arm, volume, seed, rate)


# ---- leads ------------------------------------------------------------------------------------------------------


def test_leads_are_paired_by_seed_volume_and_rate():
    results = table(lambda arm, volume, seed, rate: 10 * seed + volume + rate + 0.5 * (arm == LINEAR), rates=(4, 8))
    pairs = paired_leads(results)
    assert len(pairs) == 3 * 4 * 2
    assert pairs.lead.tolist() == pytest.approx([0.5] * 24)
    assert set(pairs.images) == {"sim_brain_t2"}
    assert set(pairs.rate) == {4.0, 8.0}


def test_a_run_without_partner_or_diverged_is_told_and_not_counted():
    results = table(by_arm(), volumes=(1,))
    results = results[~((results.arm == FULL) & (results.seed == 0))]
    results.loc[(results.arm == LINEAR) & (results.seed == 1), "status"] = "diverged"
    pairs = paired_leads(results).set_index("seed")
    assert pairs.status.to_dict() == {0: f"no {FULL} run", 1: "diverged", 2: "done", 3: "done"}
    assert pairs.lead.isna().tolist() == [True, True, False, False]


def test_leads_are_paired_by_source_where_both_arms_have_one():
    near, far = (table(by_arm(scale_shift=lead), volumes=(1,)) for lead in (1.0, 3.0))
    far = far.assign(source=far.source.where(far.source == "", "sim_knee_pd_sagittal"), run_id="far" + far.run_id,
                     psnr=far.psnr + 10 * (far.arm == FULL) + 10 * (far.arm == LINEAR))  # fmt: skip
    both = pd.concat([near, far[far.source != ""]])
    pairs = paired_leads(both)
    assert len(pairs) == 8
    assert pairs.groupby("source").lead.mean().tolist() == pytest.approx([1.0, 3.0], abs=0.15)
    assert len(paired_leads(both, LINEAR, "scratch")) == 8
    told = lead_table(pairs)
    assert (told.seeds.tolist(), told.lead.tolist()) == ([4], [pytest.approx(2.0, abs=0.15)]), "a seed counts once"


def test_l1_and_l6_count_every_source_as_a_condition():
    near = table(by_arm(scale_shift=1.0), source_after=by_arm(scale_shift=1.0))
    far = table(by_arm(scale_shift=-9.0), source_after=by_arm(scale_shift=3.0), scenario="anatomy", arms=(LINEAR, FULL))
    far = far.assign(source="sim_knee_pd_sagittal", run_id="far" + far.run_id)
    both = pd.concat([near, far])
    assert judge("L1", both) == judge("L1", near), "only what moved to another contrast counts"
    found = judge("L6", both)
    assert (found["effect"], found["seeds"]) == (pytest.approx(2.0, abs=0.1), 4)


def test_the_lead_table_has_a_row_per_target_rate_and_volume():
    found = lead_table(paired_leads(table(by_arm(scale_shift=1.0), rates=(4, 8))))
    assert len(found) == 6
    assert (found.seeds == 4).all()
    assert ((found.low < found.lead) & (found.lead < found.high)).all()
    assert found.lead.tolist() == pytest.approx([1.0] * 6, abs=0.15)


def diverge(frame: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The table with the runs of these values diverged."""
    gone = (frame[list(where)] == pd.Series(where)).all(axis=1)
    return frame.assign(status=frame.status.mask(gone, "diverged"), psnr=frame.psnr.mask(gone))


def test_l3_compares_numbers_of_volumes_at_the_same_rates_only():
    """The lead is .2 dB at rate 4 and 2 dB at rate 8, whatever the volumes: losing rate 4 at one volume is no slope."""

    def lead(arm: str, volume: int, seed: int, rate: float) -> float:
        return 30 + (arm == LINEAR) * (2 if rate == 8 else 0.2) + noise(arm, volume, seed)

    whole = table(lead, scenario="direction", rates=(4, 8))
    lost = judge("L3", diverge(whole, arm=LINEAR, task="sim_brain_t2@4", volume=1))
    assert judge("L3", whole)["verdict"] == lost["verdict"] == "inconclusive"
    slope, _ = lost["parts"]
    assert abs(slope["effect"]) < 0.1
    assert "1 of 2 rates left out: fewer than 3 seeds" in lost["note"]
    assert "4 runs left out: diverged" in lost["note"]
    apart = pd.concat(
        [whole[(whole.task == f"sim_brain_t2@{rate}") & (whole.volume == n)] for rate, n in ((4, 1), (8, 2))]
    )
    assert "No rate has all numbers of volumes" in judge("L3", apart)["note"]


def test_l1_is_not_supported_while_an_arm_could_not_be_compared():
    whole = table(by_arm(scale_shift=1.0))
    assert judge("L1", whole)["verdict"] == "supported"
    few = whole[(whole.arm != "scratch") | (whole.seed == 0)]
    found = judge("L1", few)
    assert found["verdict"] == "inconclusive"
    assert "Not compared, fewer than 3 seeds or all on one test fold: scratch" in found["note"]
    behind = table(by_arm(scale_shift=-1.0))
    assert judge("L1", behind[(behind.arm != "scratch") | (behind.seed == 0)])["verdict"] == "contradicted"


def test_a_thin_condition_costs_itself_and_no_seed():
    left = by_arm(scale_shift=1.0)
    whole = table(by_arm(), source_after=left)
    found = judge("L6", whole[(whole.volume != 5) | (whole.seed == 0)])
    assert (found["verdict"], found["seeds"]) == ("supported", 4)
    assert "1 of 3 conditions left out: fewer than 3 seeds" in found["note"]


def test_means_beside_a_lead_are_of_the_pairs_that_have_one():
    whole = table(by_arm(scale_shift=1.0), volumes=(1,))
    whole.loc[(whole.arm == FULL) & (whole.seed == 0), "psnr"] = 10.0
    told = lead_table(paired_leads(diverge(whole, arm=LINEAR, seed=0))).iloc[0]
    assert told["first"] - told.second == pytest.approx(told.lead, abs=0.002)


def test_segmentation_has_no_leads():
    assert not len(paired_leads(frame([row("busi", LINEAR, 0, 0.8), row("busi", FULL, 0, 0.7)])))


# ---- claims -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({LINEAR: 1.0}, "supported"),
        ({LINEAR: -1.0}, "contradicted"),
        ({LINEAR: 1.0, "scratch": 2.0}, "contradicted"),
        ({}, "inconclusive"),
    ],
)
def test_l1_wants_a_lead_over_every_other_arm(values: dict[str, float], word: str):
    results = table(lambda arm, *rest: by_arm(**values)(arm, *rest))
    found = judge("L1", results)
    assert found["verdict"] == word, found
    leads = {part["name"]: part["effect"] for part in found["parts"]}
    own, rival = values.get(LINEAR, 0.0), values.get("scratch", 0.0)
    assert leads == pytest.approx({f"against {FULL}": own, "against scratch": own - rival}, abs=0.1)
    if "scratch" in values:
        assert found["effect"] == leads["against scratch"], "what decides is shown"


def test_l1_is_about_contrasts_only():
    assert judge("L1", table(by_arm(), scenario="anatomy"))["verdict"] == "not tested"


@pytest.mark.parametrize(("ratio", "word"), [(0.5, "supported"), (1.0, "contradicted"), (0.9, "inconclusive")])
def test_l2_sets_fine_errors_against_each_other(ratio: float, word: str):
    errors = lambda arm, volume, seed, rate: 0.02 * (ratio if arm == LINEAR else 1) * np.exp(wobble(arm, seed, 0.05))  # noqa: E731
    found = judge("L2", table(by_arm(), artifacts=errors))
    assert found["verdict"] == word, found
    assert found["effect"] == pytest.approx(ratio, rel=0.1)
    assert (found["line"], found["side"]) == (pytest.approx(0.9), "below")


@pytest.mark.parametrize(
    ("lead", "word"),
    [
        ({1: 1.0, 2: 0.5, 5: 0.0}, "supported"),
        ({1: 1.0, 2: 1.0, 5: 1.0}, "inconclusive"),
        ({1: 0.0, 2: 0.5, 5: 1.0}, "contradicted"),
        ({1: -1.0, 2: -1.5, 5: -2.0}, "contradicted"),
    ],
)
def test_l3_wants_a_lead_that_grows_as_volumes_fall(lead: dict[int, float], word: str):
    value = lambda arm, volume, seed, rate: 30 + lead[volume] * (arm == LINEAR) + noise(arm, volume, seed)  # noqa: E731
    found = judge("L3", table(value, scenario="direction", rates=(4, 8)))
    assert found["verdict"] == word, found
    slope, ahead = found["parts"]
    assert (slope["name"], ahead["name"]) == ("slope over doublings of volumes", "lead with 1 volumes")
    assert slope["effect"] == pytest.approx((lead[5] - lead[1]) / np.log2(5), abs=0.1)
    assert ahead["effect"] == pytest.approx(lead[1], abs=0.1)


def test_l3_says_where_full_fine_tuning_takes_over():
    lead = {1: 1.0, 2: 0.5, 5: -0.5}
    value = lambda arm, volume, seed, rate: 30 + lead[volume] * (arm == LINEAR) + noise(seed, size=0.01)  # noqa: E731
    assert "full fine-tuning is ahead at 5" in judge("L3", table(value, scenario="anatomy"))["note"].lower()


def test_l3_needs_two_numbers_of_volumes():
    assert judge("L3", table(by_arm(), scenario="anatomy", volumes=(1,)))["verdict"] == "not tested"


@pytest.mark.parametrize(("lead", "word"), [(2.6, "supported"), (0.3, "contradicted"), (2.06, "inconclusive")])
def test_l4_asks_for_the_largest_lead_of_the_paper_somewhere(lead: float, word: str):
    value = lambda arm, volume, seed, rate: 30 + lead * (arm == LINEAR) * (volume == 1) + noise(arm, volume, seed)  # noqa: E731
    found = judge("L4", table(value, volumes=(1, 5)))
    assert found["verdict"] == word, found
    assert "largest of 2 cells: sim_brain_t2@4, 1 volumes, from sim_brain_t1" in found["note"].lower()
    assert {part["name"].split(", ")[1]: part["effect"] for part in found["parts"]} == pytest.approx(
        {"1 volumes": lead, "5 volumes": 0.0}, abs=0.1
    )


@pytest.mark.parametrize(("less", "word"), [(0.5, "supported"), (-0.5, "contradicted"), (0.0, "inconclusive")])
def test_l5_measures_the_growth_of_the_gap(less: float, word: str):
    results = table(by_arm(), volumes=(1, 50))
    rows = []
    for run in results.itertuples():
        for step in (0, 10, 20):
            start = 3.0 + noise(run.seed, size=1.0)  # where training slices are easier already: taken off
            slope = (1.0 - less * (run.arm == LINEAR)) if run.volume == 1 else 9.0 * (run.arm == LINEAR)
            gap = start + (step > 0) * (slope + noise(run.arm, run.seed, step))
            rows.append({"run_id": run.run_id, "step": step, "val_psnr": 25.0, "train_psnr": 25.0 + gap})
    found = judge("L5", results, pd.DataFrame(rows))
    assert found["verdict"] == word, found
    assert found["effect"] == pytest.approx(-less, abs=0.1), "runs with many volumes do not count"


@pytest.mark.parametrize(("more", "word"), [(0.5, "supported"), (-0.5, "contradicted"), (0.0, "inconclusive")])
def test_l6_compares_what_is_left_on_the_source(more: float, word: str):
    left = lambda arm, volume, seed, rate: 28 + more * (arm == LINEAR) + wobble(arm, seed, 0.1)  # noqa: E731
    found = judge("L6", table(by_arm(), source_after=left))
    assert found["verdict"] == word
    assert "scale_shift 2" in found["note"]


def test_two_seeds_are_not_enough():
    left = lambda arm, volume, seed, rate: 28.0 + seed + (arm == LINEAR)  # noqa: E731
    found = judge("L6", table(by_arm(), source_after=left, seeds=2))
    assert found["verdict"] == "not tested"
    assert "2 seeds, 3 needed" in found["note"]


@pytest.mark.parametrize("name", ["L1", "L2", "L3", "L4", "L5", "L6"])
def test_seeds_that_share_one_test_fold_are_one_replicate(name: str):
    scenario = "direction" if name == "L3" else "contrast"
    other = by_arm(scale_shift=1.0)
    whole = table(by_arm(scale_shift=5.0), scenario=scenario, artifacts=other, source_after=other)
    growth = [
        {"run_id": run.run_id, "step": step, "val_psnr": 25.0, "train_psnr": 25.0 + step * (1 + noise(run.run_id))}
        for run in whole.itertuples() for step in (0, 1)
    ]  # fmt: skip
    found = judge(name, whole, pd.DataFrame(growth))
    assert found["verdict"] != "not tested"
    found = judge(name, whole.assign(fold=0), pd.DataFrame(growth))
    assert found["verdict"] == "not tested"
    assert "test fold" in found["note"]


def test_ten_seeds_on_five_folds_count_as_five():
    """Folds differ in how far one arm is ahead: more seeds on the same folds make that no surer."""
    left = lambda arm, volume, seed, rate: 28 + (arm == LINEAR) * (seed % 5 - 1.6) + 1e-3 * noise(arm, seed)  # noqa: E731
    five, ten = (judge("L6", table(by_arm(), source_after=left, seeds=seeds)) for seeds in (5, 10))
    assert (five["seeds"], ten["seeds"]) == (5, 10)
    assert ten["p"] == pytest.approx(five["p"], rel=0.01)


@pytest.mark.parametrize("name", sorted(set(CLAIMS) - {"L7"}))
def test_nothing_is_claimed_of_an_empty_study(name: str):
    assert judge(name, table(by_arm(), volumes=()))["verdict"] == "not tested"


def test_l8_finds_a_tensor_that_moved(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory):
    from lib.runs.tensor_files import write_tensors
    from lib.training.loop import train

    monkeypatch.setenv("STUDY_DATA", str(tiny.make_blobs(tmp_path_factory.mktemp("data"))))
    monkeypatch.setenv("STUDY_HOME", str(tmp_path_factory.mktemp("home")))
    source = tiny.spec(steps=2, evaluations=1)
    run = train(tiny.spec(strategy=LINEAR, source=source, steps=4, evaluations=1), device="cpu")
    results = run_table([run])
    found = judge("L8", results, **{run.path.name: run})
    assert (found["verdict"], found["effect"]) == ("supported", 0.0)
    others = pd.concat([results, frame([row("blobs", FULL, seed, 0.5) for seed in (1, 2)])])
    assert judge("L8", others, **{run.path.name: run})["seeds"] == 1, "runs of other arms are no replicates"
    last = run.checkpoint(4)
    moved = {**run.weights(), "enc0.conv1.bias": run.weights()["enc0.conv1.bias"] + 1e-6}
    write_tensors(last, moved, {"step": "4"})
    reseal(run.path)
    found = judge("L8", results, **{run.path.name: run})
    assert (found["verdict"], found["effect"]) == ("contradicted", 1.0)


def test_a_source_is_no_target_at_any_sampling_rate():
    source = frame([row(f"sim_brain_t1@{rate}", "scratch", 0, 0.5, goal="reconstruction") for rate in (4, 8)])
    assert target_tasks(pd.concat([table(by_arm(), rates=(4, 8)), source])) == ["sim_brain_t2@4", "sim_brain_t2@8"]
    assert target_tasks(source) == ["sim_brain_t1@4", "sim_brain_t1@8"]


def test_every_reconstruction_claim_sees_reconstruction_runs_alone():
    mixed = pd.concat([table(by_arm(scale_shift=1.0)), frame([row("busi", FULL, 0, 0.8, psnr=99.0)])])
    nothing = pd.DataFrame(columns=["goal", "run_id", "step", "train_psnr", "val_psnr", "val_dice"])
    ledger = evaluate(mixed, nothing, [CLAIMS["L1"], CLAIMS["L4"]])
    assert [entry["verdict"] for entry in ledger] == ["supported", "contradicted"]
    assert verdicts.TESTS[CLAIMS["L1"].test].goal == "reconstruction"
