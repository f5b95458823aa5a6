"""The ledger on planted outcomes: each claim true, false, undecided and untested; and its strict file."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from fakes import climb, evaluations, fake_run, frame, grid, row

from analysis.claims import verdicts
from analysis.claims.ledger.evaluate import CLAIMS, evaluate, load_claims, write_claims_file
from analysis.tables.results import computed_on, run_and_evaluation_tables
from lib.common.errors import StudyError
from lib.runs.spec import RunSpec

FIELDS = [
    "id",
    "paper",
    "statement",
    "task",
    "verdict",
    "effect",
    "interval",
    "level",
    "line",
    "side",
    "distance",
    "unit",
]
FIELDS += [
    "seeds",
    "p",
    "adjusted",
    "replication",
    "fragile",
    "withheld",
    "detectable",
    "parts",
    "note",
    "notebook",
    "figure",
    "test",
    "data",
]
LEDGER = {claim.id: claim for claim in load_claims()}


def noise(*key: object, size: float = 0.005) -> float:
    """A small number that is a pure function of its key."""
    return float(np.random.default_rng(zlib.crc32(repr(key).encode())).normal(0, size))


def judge(name, table, curve=lambda run: climb(0.8, 200)):
    return evaluate(table, evaluations(table, curve), [LEDGER[name]])


def test_runs_that_were_not_computed_alike_are_told():
    table = speed_table()
    assert computed_on(table) == ["float32 on cpu"]
    assert "computed alike" not in judge("K1", table)[0]["note"]
    table.loc[table.strategy == "scratch", "device"] = "cuda:1 (NVIDIA H100)"
    (result,) = judge("K1", table)
    assert "These runs were not computed alike: float32 on cpu, float32 on cuda" in result["note"]
    table = speed_table(tasks=("busi", "usgra"))
    table["groups_known"] = table.task != "busi"
    notes = {row["task"]: row["note"] for row in judge("K1", table)}
    assert "Groups are not known in busi: that split is by image, and may be optimistic" in notes["busi"]
    assert "optimistic" not in notes["usgra"]
    table.loc[table.task == "usgra", "arithmetic"] = "bfloat16"
    assert not any("computed alike" in row["note"] for row in judge("K1", table)), "each task by itself"


# ---- K1 -------------------------------------------------------------------------------------------------------------

REACH = {0: 200, 1: 220, 2: 190, 3: 210}


def speed_table(seeds=3, tasks=("busi",), volumes=(20, None)):
    return grid(tasks, volumes, seeds, lambda *cell: 0.8)


def at_speed(ratio, wobble=0.05):
    def curve(run):
        factor = ratio * (1 + wobble * (run.seed - 1)) if run.strategy == "full_finetuning" else 1
        return [(step, 0.8 * min(1.0, step / (REACH[run.seed] * factor))) for step in range(0, 401, 10)]

    return curve


@pytest.mark.parametrize(("ratio", "word"), [(0.5, "supported"), (1.6, "contradicted"), (1.0, "inconclusive")])
def test_k1_finds_the_planted_ratio(ratio, word):
    (result,) = judge("K1", speed_table(), at_speed(ratio))
    assert list(result) == FIELDS
    assert result["verdict"] == word
    low, high = result["interval"]
    assert low < ratio < high
    assert result["effect"] == pytest.approx(ratio, rel=0.05)
    assert (result["task"], result["seeds"]) == ("busi", 3)
    assert 0 < result["detectable"] < 1
    assert (result["line"], result["side"], result["level"]) == (1.0, "below", pytest.approx(0.95))
    assert result["distance"] == pytest.approx(result["effect"] - 1)
    assert (result["p"] <= 0.05) == (word != "inconclusive")
    assert "Volumes 20, all" in result["note"]


def test_k1_is_not_tested_with_two_seeds_and_says_so():
    (result,) = judge("K1", speed_table(seeds=2), at_speed(0.2))
    assert result["verdict"] == "not tested"
    assert result["interval"] == [None, None]
    assert result["effect"] is result["detectable"] is None
    assert "2 seeds with both full_finetuning and scratch, 3 needed" in result["note"]


def test_seeds_on_one_test_fold_are_no_replicates():
    table = speed_table(seeds=4).assign(fold=0)
    (result,) = judge("K1", table, at_speed(0.2))
    assert result["verdict"] == "not tested"
    assert "4 seeds with both full_finetuning and scratch on one test fold, 2 folds needed" in result["note"]
    two = speed_table(seeds=4)
    two["fold"] = two.seed % 2
    (result,) = judge("K1", two, at_speed(0.5, wobble=0.02))
    assert (result["verdict"], result["seeds"]) == ("supported", 4)
    (apart,) = judge("K1", speed_table(seeds=4), at_speed(0.5, wobble=0.02))
    assert result["effect"] == pytest.approx(apart["effect"])
    assert np.ptp(result["interval"]) > 1.5 * np.ptp(apart["interval"]), "two folds leave one degree of freedom"


def test_k1_of_runs_that_never_get_there_does_not_support_a_saving():
    def curve(run):
        if run.strategy == "scratch":
            return climb(0.8, 380)
        return climb(0.8, 4) if run.seed else [(0, 0.1), (400, 0.1)]

    table = speed_table(seeds=4)
    (result,) = judge("K1", table, curve)
    assert "2 of 8 transfer runs never got there and count with their whole budget" in result["note"]
    (slow,) = judge(
        "K1", table, lambda run: climb(0.8, 100 + run.seed) if run.strategy == "scratch" else climb(0.3, 50)
    )
    assert slow["verdict"] == "contradicted"
    assert "8 of 8 transfer runs never got there" in slow["note"]
    strict = verdicts.Threshold(0.1, "for this test")
    claim = LEDGER["K1"]
    changed = verdicts.Claim(**{**vars(claim), "thresholds": {**claim.thresholds, "max_censored": strict}})
    # One seed without an end among nine that are forty times as fast: the mean is a saving, the count forbids it.
    wide = grid(["busi"], [None], 9, lambda *cell: 0.8)

    def mostly(run):
        if run.strategy == "scratch":
            return climb(0.8, 380)
        return climb(0.8, 9 + run.seed) if run.seed else [(0, 0.1), (400, 0.1)]

    for each, word in ((claim, "supported"), (changed, "inconclusive")):
        (result,) = evaluate(wide, evaluations(wide, mostly), [each])
        assert result["verdict"] == word
    assert "Too many runs never got there to support a saving" in result["note"]
    assert result["p"] > 0.05


def test_k1_counts_diverged_runs_and_pairs_left_out():
    table = speed_table(seeds=4, volumes=[None])
    table.loc[(table.seed == 3) & (table.strategy == "scratch"), ["status", "dice"]] = ["diverged", np.nan]
    (result,) = judge("K1", table, at_speed(0.5))
    assert (result["verdict"], result["seeds"]) == ("supported", 3)
    assert "1 runs left out: scratch diverged" in result["note"]
    assert "1 of 8 runs diverged" in result["note"]
    table.loc[(table.seed == 0) & (table.strategy == "full_finetuning"), ["status", "dice"]] = ["diverged", np.nan]
    (result,) = judge("K1", table, at_speed(0.5))
    assert result["verdict"] == "inconclusive"
    assert "1 of 3 transfer runs never got there" in result["note"]


def test_k1_has_a_row_per_target_and_none_for_the_source():
    table = speed_table(tasks=("busi", "usgra"))
    table = frame([*table.to_dict("records"), row("sim_natural", "scratch", 9, 0.9)])
    table = frame([*table.to_dict("records"), row("cxr", "scratch", 0, 0.9)])
    results = judge("K1", table, lambda run: at_speed(0.5)(run) if run.seed in REACH else climb(0.9, 200))
    assert {result["task"]: result["verdict"] for result in results} == {
        "busi": "supported", "usgra": "supported", "cxr": "not tested",
    }  # fmt: skip
    tested = [result for result in results if result["p"] is not None]
    assert [result["adjusted"] for result in tested] == pytest.approx([max(row["p"] for row in tested)] * 2)


def test_k1_uses_only_seeds_that_have_every_volume():
    table = speed_table(seeds=4)
    table = table[~((table.seed == 3) & (table.volume_label == "20"))]
    (result,) = judge("K1", table, at_speed(0.5))
    assert result["seeds"] == 3
    assert "1 of 4 seeds left out: not in every condition" in result["note"]


# ---- K2 -------------------------------------------------------------------------------------------------------------


def gains_table(gain_of, tasks=("sim_a", "b", "c", "d"), volumes=(20, None), seeds=4, size=0.005):
    """Transfer gains `gain_of(task, volume)` over scratch at 0.8 - (0.1, 0.2, ...), and noise."""
    base = {task: 0.9 - 0.12 * place for place, task in enumerate(tasks)}

    def dice(task, strategy, volume, seed):
        extra = gain_of(task, volume) if strategy == "full_finetuning" else 0
        return base[task] + extra + noise(task, strategy, volume, seed, size=size)

    return grid(tasks, volumes, seeds, dice)


@pytest.mark.parametrize(
    ("gain_of", "size", "word"),
    [
        (lambda task, volume: {"sim_a": 0.0, "b": 0.05, "c": 0.10, "d": 0.15}[task], 0.005, "supported"),
        (lambda task, volume: 0.04, 0.0005, "contradicted"),
        (lambda task, volume: 0.04, 0.02, "inconclusive"),
        (lambda task, volume: {"sim_a": 0.0, "b": 0.001, "c": 0.002, "d": 0.003}[task], 0.00002, "contradicted"),
    ],
    ids=["unlike", "alike", "too noisy", "surely unlike and by nothing"],
)
def test_k2_judges_planted_gains(gain_of, size, word):
    (result,) = judge("K2", gains_table(gain_of, size=size))
    assert result["verdict"] == word
    lines = {"share of the variance (I^2)": 0.5, "spread in Dice": 0.01}
    assert {part["name"]: part["line"] for part in result["parts"]} == lines
    for part in result["parts"]:
        assert 0 <= part["interval"][0] <= part["effect"] <= part["interval"][1] <= 1
        assert part["interval"][0] > part["line"] or word != "supported", "both numbers must lie above their lines"
    assert (result["task"], result["seeds"]) == ("all", 4)
    assert "Real and simulated data" in result["note"]


def test_k2_needs_three_pairs():
    (result,) = judge("K2", gains_table(lambda task, volume: 0.1, tasks=("sim_a", "b")))
    assert result["verdict"] == "not tested"
    assert "2 source-target pairs with 3 seeds, 3 needed" in result["note"]


def test_k2_of_runs_without_any_noise_is_not_tested():
    (result,) = judge("K2", gains_table(lambda task, volume: 0.1, size=0.0))
    assert (result["verdict"], result["effect"]) == ("not tested", None)
    assert "no noise to compare with" in result["note"]


def test_k2_is_not_supported_by_a_spread_that_only_seems_to_be_large():
    """An estimate beyond both lines, on seeds that leave the lines inside the intervals."""
    (result,) = judge("K2", gains_table(lambda task, volume: 0.04 * (task in "bd"), size=0.03))
    assert all(part["effect"] > part["line"] for part in result["parts"])
    assert any(part["interval"][0] < part["line"] for part in result["parts"])
    assert result["verdict"] == "inconclusive"


# ---- K3 -------------------------------------------------------------------------------------------------------------


def only_hard_and_small(task, volume):
    return {"sim_a": 0.0, "b": 0.0, "c": 0.08, "d": 0.14}[task] if volume == 20 else 0.0


@pytest.mark.parametrize(
    ("gain_of", "size", "word"),
    [
        (only_hard_and_small, 0.003, "supported"),
        (lambda task, volume: only_hard_and_small(task, volume) + 0.06 * (task == "d"), 0.003, "contradicted"),
        (lambda task, volume: 0.06 * (task == "sim_a"), 0.003, "contradicted"),
        (only_hard_and_small, 0.06, "inconclusive"),
        (lambda task, volume: 0.0, 0.003, "contradicted"),
    ],
    ids=["only there", "also large sets", "also easy tasks", "too noisy", "no gain at all"],
)
def test_k3_judges_planted_gains(gain_of, size, word):
    (result,) = judge("K3", gains_table(gain_of, size=size))
    assert result["verdict"] == word
    assert result["interval"][0] <= result["effect"] <= result["interval"][1]
    assert (result["task"], result["seeds"]) == ("all", 4)
    assert "3 cells are hard and small, 5 are not" in result["note"]
    assert len(result["parts"]) == 1 + 3 + 5
    assert [part["side"] for part in result["parts"]] == ["below"] + 3 * ["above"] + 5 * ["below"]
    assert {part["line"] for part in result["parts"]} == {0.0, 0.03}


def test_k3_effect_is_the_planted_product():
    def planted(task, volume):
        hardness = {"sim_a": 0.1, "b": 0.22, "c": 0.34, "d": 0.46}[task]
        return 0.3 * hardness * (3 - np.log10(volume or 240))

    (result,) = judge("K3", gains_table(planted, size=0.002))
    (slope,) = [part for part in result["parts"] if part["name"] == "slope"]
    assert slope["effect"] == pytest.approx(-0.3, abs=0.05)
    assert slope["interval"][1] < 0


@pytest.mark.parametrize(
    ("tasks", "volumes", "seeds", "reason"),
    [
        (("sim_a", "b", "c"), (20, None), 2, "2 seeds with every cell, 3 needed"),
        (("sim_a",), (20, None), 3, "No cell with hard task with few images"),
        (("sim_a", "b", "c"), (None,), 3, "No cell with hard task with few images"),
        (("sim_a", "b", "c"), (20,), 3, "0 seeds with every cell, 3 needed. No difficulty, for want of scratch on all"),
    ],
)
def test_k3_is_not_tested_where_the_grid_cannot_tell(tasks, volumes, seeds, reason):
    (result,) = judge("K3", gains_table(lambda task, volume: 0.05, tasks=tasks, volumes=volumes, seeds=seeds))
    assert result["verdict"] == "not tested"
    assert reason in result["note"]


# ---- false verdicts -------------------------------------------------------------------------------------------------


def test_k1_on_pure_noise_is_seldom_anything_but_inconclusive():
    rng, words = np.random.default_rng(0), []
    table = grid(["a", "b", "c", "d"], [None], 3, lambda *cell: 0.8)
    for _ in range(15):
        reach = 200 * np.exp(rng.normal(0, 0.3, len(table)))
        flat = {
            name: [(0, 0), (step, 0.8), (700, 0.8), (800, 0.8)] for name, step in zip(table.run_id, reach, strict=True)
        }
        curve = evaluations(table, lambda run, flat=flat: flat[run.run_id])
        words += [result["verdict"] for result in evaluate(table, curve, [LEDGER["K1"]])]
    assert len(words) == 60
    # 5 % of 60, and what chance may add once in a thousand.
    assert words.count("inconclusive") >= 60 - 9


def test_k2_and_k3_on_pure_noise_are_seldom_supported():
    rng, words = np.random.default_rng(0), {"K2": [], "K3": []}
    table = gains_table(lambda task, volume: 0.0, seeds=3)
    table["dice"] = 0.8 - 0.1 * table.task.map({"sim_a": 0, "b": 1, "c": 2, "d": 3})
    none = evaluations(table, lambda run: [])
    for _ in range(20):
        noisy = table.assign(dice=table.dice + rng.normal(0, 0.03, len(table)))
        for result in evaluate(noisy, none, [LEDGER["K2"], LEDGER["K3"]]):
            words[result["id"]].append(result["verdict"])
    assert words["K2"].count("supported") <= 5  # 5 % of 20, and what chance may add once in a thousand
    assert words["K3"].count("supported") == 0
    assert words["K3"].count("contradicted") <= 5


def test_verdicts_come_from_run_folders(tmp_path):
    runs = []
    for seed in range(3):
        source = RunSpec(task="sim_natural", seed=seed, fold=seed)
        start = RunSpec(task="sim_ultrasound", volume=20, seed=seed, fold=seed)
        tuned = start.but(strategy="full_finetuning", source=source, lr=3e-3)
        runs += [fake_run(tmp_path, source, dice=0.9, curve=climb(0.9, 100))]
        runs += [fake_run(tmp_path, start, dice=0.6, curve=climb(0.6, 300 + 10 * seed))]
        runs += [fake_run(tmp_path, tuned, dice=0.7, curve=climb(0.7, 150 + seed))]
    table, curves = run_and_evaluation_tables(runs)
    faster, *others = evaluate(table, curves)
    assert (faster["task"], faster["verdict"], faster["seeds"]) == ("sim_ultrasound", "supported", 3)
    assert faster["effect"] == pytest.approx(0.95 * 0.65 / 0.7 * 150 / 400, rel=0.02)  # 0.65: the mean plateau of both
    assert "Simulated data" in faster["note"]
    assert {other["verdict"] for other in others} == {"not tested"}


# ---- no runs, and the file ------------------------------------------------------------------------------------------


def test_an_empty_study_is_not_tested():
    table = frame([])
    results = evaluate(table, evaluations(table, None))
    assert [result["id"] for result in results] == list(LEDGER)
    assert {result["verdict"] for result in results} == {"not tested"}


def test_written_ledger_is_json_without_nan(tmp_path):
    results = evaluate(speed_table(seeds=2), evaluations(speed_table(seeds=2), at_speed(0.5)))
    write_claims_file(tmp_path / "claims.json", results)
    text = (tmp_path / "claims.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == results
    assert all(result["verdict"] in verdicts.VERDICTS for result in results)
    with pytest.raises(ValueError, match="JSON"):
        write_claims_file(tmp_path / "claims.json", [{"effect": float("nan")}])
    assert (tmp_path / "claims.json").read_text() == text


def test_every_threshold_has_a_reason():
    assert len(LEDGER) >= 3
    for claim in LEDGER.values():
        assert {"min_seeds", "alpha"} < set(claim.thresholds)
        assert all(len(threshold.why) > 20 for threshold in claim.thresholds.values())


GOOD = CLAIMS.read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n[common]", "\n[comon]", "unknown table of claims.toml 'comon'; did you mean 'common'"),
        ('test = "faster"', 'test = "fastre"', "unknown test of a claim 'fastre'; did you mean 'faster'"),
        ('unit = "steps', 'units = "steps', "unknown key of claim K1 'units'; did you mean 'unit'"),
        ("thresholds.ratio", "thresholds.ration", "unknown threshold of claim K1 'ration'; did you mean 'ratio'"),
        (
            "thresholds.ratio = { value = 1.0",
            "thresholds.ratio = { value = true",
            "claim K1 must have a threshold ratio",
        ),
        ("value = 3, why", "value = 3, because", "common must have a threshold min_seeds"),
        ('id = "K2"', 'id = "K1"', "claim ids must differ, but 'K1' stands 2 times"),
        ('compare = ["full_finetuning", "scratch"]', "", r"K1 must have compare = \[strategy, reference\]"),
        ('paper = "Karimi', 'paper = 3 # "Karimi', "claim K1 must have a text for 'paper', got 3"),
        ('supported = "a network', 'supported = "" # ', "claim K1 must have a text for 'supported', got ''"),
        ('number = "{} times', 'number = "times', "number of claim K1 must hold one {} for the value"),
        ("\n[[claim]]", "\n[[claim", "is not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, old, new, message):
    assert old in GOOD
    path = tmp_path / "claims.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(StudyError, match=message):
        load_claims(path)


def test_a_threshold_without_reason_is_refused(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text(
        GOOD.replace("the custom of the field; here the false discovery rate over all rows of a ledger", " ")
    )
    with pytest.raises(StudyError, match=r"threshold alpha of common must say why it is 0\.05"):
        load_claims(path)
