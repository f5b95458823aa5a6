"""The ledger under other choices, planted: rows that hang on one, rows that hang on none, choices that do not apply."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fakes import climb, evaluations, fake_run, frame, grid, row
from planted import planted

from analysis.__main__ import main
from analysis.claims.feature_reuse import claim_tests
from analysis.claims.filter_change import claim_tests as filter_tests
from analysis.claims.ledger.choices import alternatives
from analysis.claims.ledger.choices import specifications as module
from analysis.claims.ledger.choices.figure import specification_curve
from analysis.claims.ledger.choices.specifications import (
    OWN,
    agreeing_choices,
    specifications,
    suite_choices,
    with_agreement,
)
from analysis.claims.ledger.evaluate import evaluate, load_claims
from analysis.claims.ledger.table import claim_row
from analysis.claims.verdicts import TESTS
from lib.runs.spec import RunSpec, run_id
from lib.study.plan import load_suite
from lib.study.suite import Suite

LEDGER = {claim.id: claim for claim in load_claims()}
FROZEN = "frozen_random_encoder"
WIGGLE = [0.003, -0.002, 0.001, -0.004, 0.002]


def frozen_table(loss: float = 0.0, validation_loss: float = 0.0, seeds: int = 5, **changes: Any) -> pd.DataFrame:
    """Runs of K6 in which the frozen random encoder loses so much, on test images and on validation images."""

    def rows(strategy: str, seed: int) -> dict[str, Any]:
        off = (strategy == FROZEN) * (1 + WIGGLE[seed] * 10)
        noise = WIGGLE[(seed + len(strategy)) % 5] / 2
        return row("busi", strategy, seed, 0.8 - loss * off + noise, **changes) | {
            "val_dice": 0.8 - validation_loss * off + noise
        }

    return frame(rows(name, seed) for name in ("scratch", "full_finetuning", FROZEN) for seed in range(seeds))


def under(
    table: pd.DataFrame, *names: str, curve=lambda run: climb(0.8 + 0.01 * run.dice, 200), **options: Any
) -> pd.DataFrame:
    found = specifications(table, evaluations(table, curve), [LEDGER[name] for name in names], **options)
    assert not found.duplicated(["claim", "task", "choice"]).any()
    assert (found.agrees == "").equals(found.verdict.isna())
    assert (found.reason == "").equals(found.verdict.notna())
    return found


def of(found: pd.DataFrame, choice: str) -> pd.Series:
    (at,) = np.flatnonzero(found.choice == choice)
    return found.iloc[at]


def test_a_robust_row_has_share_one_and_says_what_does_not_apply():
    found = under(frozen_table(), "K6")
    (told,) = agreeing_choices(found).to_dict("records")
    assert (told["verdict"], told["agreement"], told["hangs on"]) == ("supported", 1.0, "")
    assert told["same"] == told["choices"] >= 10
    assert of(found, OWN).agrees == "same"
    assert of(found, "without seed 3").agrees == "same"
    assert of(found, "margin halved").line == pytest.approx(-0.015)
    assert of(found, "HD95, not Dice").reason == "its line is one in Dice"
    assert of(found, "SSIM, not PSNR").reason == "the claim does not read this metric"
    assert of(found, "90 % of plateau").reason == "the claim is not about time"
    assert of(found, "RSA, Euclidean").reason == "the claim compares no representations"
    assert of(found, "volume all alone").reason == "it rests on the same runs"
    assert of(found, "lowest learning rate").reason == "every cell was trained at one learning rate"
    assert "Too few seeds" in of(found, "min_seeds doubled").reason


def test_a_row_that_hangs_on_the_metric_is_told_so_and_opposite_words_count_apart():
    found = under(frozen_table(validation_loss=0.2), "K6")
    (told,) = agreeing_choices(found).to_dict("records")
    turned = of(found, "validation, not test")
    assert (turned.verdict, turned.agrees) == ("contradicted", "opposite")
    assert turned.effect == pytest.approx(-0.2, abs=0.02)
    assert (told["opposite"], told["other"]) == (1, 0)
    assert told["hangs on"] == "validation, not test: contradicted"
    assert told["agreement"] == pytest.approx(1 - 1 / told["choices"])
    (kept,) = with_agreement([{"id": "K6", "task": "busi"}], found)
    assert kept["agreement"] == told["agreement"]
    assert with_agreement([{"id": "K6", "task": "other"}], found)[0]["agreement"] is None


def test_a_row_that_hangs_on_one_seed_is_told_so():
    table = frozen_table()
    table.loc[(table.seed == 4) & (table.strategy == FROZEN), ["dice", "val_dice"]] = 0.4
    found = under(table, "K6", curve=lambda run: climb(run.val_dice, 200))
    (told,) = agreeing_choices(found).to_dict("records")
    assert told["verdict"] == "inconclusive"
    assert of(found, "without seed 4").verdict == "supported"
    assert of(found, "without seed 4").agrees == "other"
    assert {of(found, f"without seed {seed}").agrees for seed in range(4)} == {"same"}
    assert (told["other"], told["opposite"]) == (1, 0)


def test_with_three_seeds_one_can_be_left_out():
    found = under(frozen_table(seeds=3), "K6")
    assert of(found, "without seed 1").verdict in ("supported", "inconclusive")


def test_a_choice_makes_a_whole_ledger():
    """Verdict and adjusted p are those that the ledger gives where it is written with the other threshold."""
    table = frozen_table(loss=0.032, seeds=4)
    extra = frozen_table(loss=0.05, seeds=4).assign(task="usgra")
    table = frame([*table.to_dict("records"), *extra.to_dict("records")])
    table["run_id"] = table.task + table.run_id
    found = under(table, "K6", "K1", curve=lambda run: climb(0.8, 200 + 10 * run.seed))
    kept = LEDGER["K6"].thresholds
    changed = replace(LEDGER["K6"], thresholds={**kept, "margin": replace(kept["margin"], value=0.06)})
    curves = evaluations(table, lambda run: climb(0.8, 200 + 10 * run.seed))
    for result in evaluate(table, curves, [changed, LEDGER["K1"]]):
        rows = found[(found.claim == result["id"]) & (found.task == result["task"])]
        if result["id"] == "K6":
            told = of(rows, "margin doubled")
            assert (told.verdict, told.effect, told.line) == (result["verdict"], result["effect"], result["line"])
            assert told.adjusted == pytest.approx(result["adjusted"])
    strict = of(found[(found.claim == "K6") & (found.task == "busi")], "alpha halved")
    assert strict.high - strict.low > of(found[(found.claim == "K6") & (found.task == "busi")], OWN).pipe(
        lambda own: own.high - own.low
    )


def sets_table(raw: float, matched: float, hd95: float = 0.0) -> pd.DataFrame:
    """Runs of A3 in which shallow sets are ahead by so much, raw and at equal size, and worse by so many pixels."""
    rows = []
    for seed in range(5):
        for side in ("shallow", "deep"):
            for parameters, ahead in ((None, raw), (500, matched)):
                options = {"order": "path", "side": side, "count": 2, "parameters": parameters, "stages": None}
                dice = 0.7 + (side == "shallow") * (ahead + WIGGLE[seed])
                arm = f"layer_subset {side} {parameters}"
                rows.append(
                    row("busi", "layer_subset", seed, dice, options=json.dumps(options), arm=arm)
                    | {"hd95": 5 + (side == "shallow") * (hd95 + WIGGLE[seed] * 10)}
                )
    return frame(rows)


def test_distances_count_as_better_where_they_are_smaller():
    found = under(sets_table(0.05, 0.05, hd95=2.0), "A3")
    assert of(found, OWN).verdict == "supported"
    far = of(found, "HD95, not Dice")
    assert (far.verdict, far.agrees) == ("contradicted", "opposite")
    assert far.effect == pytest.approx(-2.0, abs=0.1)
    assert far.unit == "test HD95 (nearer is better), shallow - deep"
    near = of(under(sets_table(0.05, 0.05, hd95=-2.0), "A3"), "HD95, not Dice")
    assert (near.verdict, near.agrees) == ("supported", "same")


def test_raw_and_matched_sets_decide_by_themselves():
    found = under(sets_table(0.05, -0.05), "A3")
    assert of(found, OWN).verdict == "contradicted"
    assert (of(found, "raw sets alone").verdict, of(found, "raw sets alone").agrees) == ("supported", "opposite")
    alone = of(found, "capacity-matched sets alone")
    assert (alone.verdict, alone.agrees) == ("contradicted", "same")
    assert alone.effect == pytest.approx(-0.05, abs=0.01)
    assert of(found, "margin doubled").reason == "margin is 0 as it is"


def test_the_best_checkpoint_is_that_of_the_evaluations():
    def curve(run: pd.Series) -> list[tuple[int, float]]:
        best = 0.5 if run.strategy == FROZEN else 0.9
        return [(0, 0.1), (200, best + WIGGLE[run.seed] * (run.strategy == FROZEN)), (400, 0.4)]

    best = of(under(frozen_table(), "K6", curve=curve), "best checkpoint")
    assert (best.verdict, best.agrees) == ("contradicted", "opposite")
    assert best.effect == pytest.approx(-0.4, abs=0.01)


def test_rates_are_told_where_there_are_several():
    low = frozen_table(lr=0.001).assign(chosen=True)
    high = frozen_table(loss=0.2, lr=0.01).assign(chosen=False)
    found = under(pd.concat([low, high], ignore_index=True), "K6")
    assert of(found, OWN).verdict == "supported"
    assert (of(found, "highest learning rate").verdict, of(found, "highest learning rate").agrees) == (
        "contradicted", "opposite",
    )  # fmt: skip
    for word in ("chosen", "lowest"):
        assert of(found, f"{word} learning rate").reason == "it rests on the same runs"


def test_claims_that_are_told_at_every_rate_are_told_at_each(monkeypatch: pytest.MonkeyPatch):
    rows = [
        row("busi", name, seed, 0.8, lr=rate, source_seed=None if name == "scratch" else seed)
        for name in ("scratch", "full_finetuning")
        for seed in range(4)
        for rate in (0.001, 0.01)
    ]
    table = frame(rows).assign(chosen=lambda rows: rows.lr == 0.001)
    angles = dict(
        zip(table.run_id, np.where(table.chosen, 0.97, 0.7) + [0.002 * seed for seed in table.seed], strict=True)
    )
    monkeypatch.setattr(filter_tests, "median_cosine", lambda run: angles[run.path.name])
    found = under(table, "K4", runs=[SimpleNamespace(path=Path(name)) for name in table.run_id])
    words = {word: of(found, f"{word} learning rate").verdict for word in ("chosen", "lowest", "highest")}
    assert of(found, OWN).verdict == "inconclusive", "the rates disagree"
    assert words == {"chosen": "supported", "lowest": "supported", "highest": "contradicted"}


def test_volumes_are_told_one_by_one():
    table = grid(["busi"], [20, None], 4, lambda *cell: 0.8)

    def curve(run: pd.Series) -> list[tuple[int, float]]:
        slow = 1 if run.strategy == "scratch" else {"20": 0.4, "all": 1.9}[run.volume_label]
        return climb(0.8, 100 * slow * (1 + 0.02 * run.seed * (run.strategy == "scratch")))

    found = under(table, "K1", curve=curve)
    assert of(found, "volume 20 alone").verdict == "supported"
    assert of(found, "volume all alone").verdict == "contradicted"


def test_a_saving_that_hangs_on_the_fraction_of_the_plateau_is_told_so():
    def curve(run: pd.Series) -> list[tuple[int, float]]:
        if run.strategy == "scratch":
            return climb(0.8, 200 + 4 * run.seed)
        steps = range(0, 401, 10)  # up to 96 % at once, and to the rest after the other
        return [(step, 0.8 * min(0.96, step / 80) if step < 300 else 0.8) for step in steps]

    found = under(grid(["busi"], [None], 4, lambda *cell: 0.8), "K1", curve=curve)
    assert of(found, OWN).verdict == of(found, "90 % of plateau").verdict == "supported"
    assert of(found, "95 % of plateau").reason == "it is the study's own"
    assert (of(found, "99 % of plateau").verdict, of(found, "99 % of plateau").agrees) == ("contradicted", "opposite")


def test_measures_of_similarity_take_each_other_s_place(monkeypatch: pytest.MonkeyPatch):
    def maps(frame: pd.DataFrame, runs: Any, task: str, *, arms: Any, measure: str):
        tuned = 0.8 if measure != "svcca" else 0.5

        def value(layer: int, a: dict, b: dict) -> float:
            if (a["strategy"], a["seed"]) == (b["strategy"], b["seed"]):
                return 0.5 if a["strategy"] == "scratch" else tuned
            return 0.1

        return planted(value, frame.seed.nunique(), starts=True, noise=0.005)

    monkeypatch.setattr(claim_tests, "layer_maps_of_runs", maps)
    table = frame(
        row("busi", name, seed, 0.7, volume=20, source_seed=None if name == "scratch" else seed)
        for name in ("scratch", "full_finetuning")
        for seed in range(4)
    )
    runs = [SimpleNamespace(path=Path(name)) for name in table.run_id]
    found = under(table, "K8", runs=runs)
    assert of(found, OWN).verdict == of(found, "linear CKA").verdict == "supported"
    assert (of(found, "SVCCA, 99 % of variance").agrees, of(found, "SVCCA, 99 % of variance").verdict) == (
        "opposite", "contradicted",
    )  # fmt: skip
    assert of(found, "SVCCA, 99 % of variance").unit.startswith("SVCCA, 99 % of variance (fine-tuned - scratch")
    assert "weights" not in of(found, "linear CKA").about


def test_a_ledger_without_a_tested_row_has_no_choices():
    found = under(frozen_table(seeds=2), "K6")
    assert not len(found)
    assert not len(agreeing_choices(found))


def test_thresholds_are_scaled_from_where_their_scale_begins():
    scaled = alternatives._scaled
    assert [scaled("cosine", 0.9, factor) for factor in (0.5, 2)] == pytest.approx([0.95, 0.8])
    assert [scaled("auc", 0.6, factor) for factor in (0.5, 2)] == pytest.approx([0.55, 0.7])
    assert [scaled("i2", 0.5, factor) for factor in (0.5, 2)] == pytest.approx([1 / 3, 2 / 3])
    assert [scaled("ratio", 0.9, factor) for factor in (0.5, 2)] == pytest.approx([0.9**0.5, 0.81])
    assert [scaled("min_seeds", 3, factor) for factor in (0.5, 2)] == [2, 6]
    assert [scaled("margin", 0.03, factor) for factor in (0.5, 2)] == pytest.approx([0.015, 0.06])


def test_choices_know_their_tests_and_have_names_of_their_own():
    for names in (alternatives.DICE, alternatives.PSNR, alternatives.CURVES, alternatives.SIMILARITY):
        assert set(names) <= set(TESTS)
    found = alternatives.alternatives(load_claims(), frozen_table())
    assert len({each.name for each in found}) == len(found) >= 40
    thresholds = {name for claim in load_claims() for name in claim.thresholds} - {"fraction"}
    assert {each.name for each in found if each.changes == "threshold"} == {
        f"{name} {word}" for name in thresholds for word in ("halved", "doubled")
    }


def test_the_curve_shows_all_specifications_in_order():
    found = under(sets_table(0.05, 0.03, hd95=2.0), "A3")
    drawn = found[found.effect.notna()]
    ax = specification_curve(found, "A3")
    marks = np.concatenate([np.asarray(line.get_xydata()) for line in ax.lines])
    assert len(marks) == len(drawn)
    marks = marks[np.argsort(marks[:, 0])]
    assert (np.diff(marks[:, 1]) >= 0).all(), "in order of effect"
    labels = [text.get_text().replace("\n", " ") for text in ax.get_xticklabels()]
    assert set(labels) == {OWN, *drawn.choice[drawn.agrees != "same"]}
    assert "HD95, not Dice" in labels
    assert marks[0, 1] < 0, "a distance that contradicts lies below the line"
    empty = specification_curve(found, "K1")
    assert "no row of this claim was tested" in empty.texts[0].get_text()


SUITE = """title = "Planted"
seeds = [0, 1, 2, 3]
tuning = { rates = [0.01] }
sources.natural = { task = "sim_natural", lr = 0.01 }
grid = [{ tasks = ["sim_ultrasound"], volumes = [8], source = "natural", strategies = ["scratch", "full_finetuning"] }]
"""


def test_the_command_writes_what_notebook_and_claims_file_show(
    tmp_path: Path, study_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "planted_choices.toml"
    file.write_text(SUITE)
    suite = load_suite(str(file))
    specs = suite.source_specs() + [spec for cell in suite.cells for spec in cell_specs(suite, cell)]
    for spec in {run_id(spec): spec for spec in specs}.values():
        reach = (100 if spec.strategy == "full_finetuning" else 200) + 3 * spec.seed
        fake_run(study_home / "runs", spec, dice=0.8, curve=climb(0.8, reach, spec.steps))
    for where in ("ledger.choices.specifications", "ledger.evaluate"):  # others would look for checkpoints
        monkeypatch.setattr(f"analysis.claims.{where}.load_claims", lambda: [LEDGER["K1"], LEDGER["K6"]])
    assert main(["choices", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "K1   sim_ultrasound           supported" in printed
    table = pd.read_csv(study_home / "reports" / "planted_choices" / "choices.csv", keep_default_na=False)
    assert len(table[(table.choice == OWN) & (table.claim == "K1")]) == 1
    shares = agreeing_choices(suite_choices(str(file))).set_index("claim").agreement
    monkeypatch.setattr(module, "specifications", lambda *_, **__: pytest.fail("they are kept"))
    assert main(["claims", str(file)]) == 0
    rows = json.loads((study_home / "reports" / "planted_choices" / "claims.json").read_text())
    (own,) = [each for each in rows if each["id"] == "K1"]
    assert own["agreement"] == shares["K1"]
    assert all(each["agreement"] is None for each in rows if each["verdict"] == "not tested")
    assert claim_row(own)["agreement"] == f"{100 * shares['K1']:.0f} %"


def cell_specs(suite: Suite, cell: Any) -> list[RunSpec]:
    return [suite.spec(cell, seed, cell.rates[0]) for seed in cell.seeds]
