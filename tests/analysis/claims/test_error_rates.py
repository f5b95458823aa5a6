"""The tests of all claims on planted studies: they read what is planted, and are as often wrong as they say."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.claims.error_rates import networks, record, segmentation, whole_ledgers
from analysis.claims.error_rates import study as studies
from analysis.claims.error_rates.catalog import EXACT, SCENES
from analysis.claims.error_rates.measure import rates, situations, told, true_parts, turns
from analysis.claims.error_rates.shortcut import shortened
from analysis.claims.error_rates.study import NONE, Component, Study
from analysis.claims.evidence import Count, leaves
from analysis.claims.ledger.decide import decide
from analysis.claims.ledger.evaluate import load_claims

CLAIMS = {claim.id: claim for claim in load_claims()}
QUICK = ("K4", "K8", "K9", "A5", "L6")  # of every kind of planting; the others with `-m slow`
BETWEEN_NETWORKS = ("K8", "K9", "K10")  # whose scenes begin with what their tests have let pass
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SCENES]


def study_of(name: str, seeds: int = 5, copies: int = 2) -> Study:
    scene = SCENES[name]
    return scene.build(CLAIMS[name], seeds, min(copies, scene.copies))


def promised(share: float, count: int) -> float:
    """The largest share that `count` studies have, of a chance of at most `share`, but for three standard errors."""
    return share + 3 * math.sqrt(share * (1 - share) / count)


def test_every_claim_has_a_scene_or_is_exact():
    assert {*SCENES, *EXACT} == set(CLAIMS)
    assert not set(SCENES) & set(EXACT)


@pytest.mark.parametrize("name", SCENES)
def test_what_is_planted_on_the_line_lies_on_the_line_of_every_part(name: str):
    scene, study = SCENES[name], study_of(name)
    rng, still = np.random.default_rng(0), np.zeros(len(scene.effect))
    evidence = study.draw(rng, still)[0].evidence
    assert evidence is not None
    parts = [leaf for leaf, *_ in leaves(evidence)]
    if any(isinstance(leaf, Count) for leaf in parts):
        return  # its line is chance, which `test_rates_on_the_line` counts
    truth = true_parts(study, still)
    assert truth is not None
    away = np.array(
        [each - leaf.line if leaf.above else leaf.line - each for each, leaf in zip(truth, parts, strict=True)]
    )
    if study.spread is not None:  # where two lines cannot both be met, the further one is
        assert away.min() == pytest.approx(0, abs=1e-6)
    elif name != "A9":  # its two parts are one number, which cannot lie on both lines
        assert away == pytest.approx(np.zeros(len(parts)), abs=1e-6)
    found = true_parts(study, turns(scene, "twice", len(scene.effect)))
    assert found is not None
    beyond = [each > leaf.line if leaf.above else each < leaf.line for each, leaf in zip(found, parts, strict=True)]
    assert any(beyond) if scene.one_is_enough or name == "A9" else all(beyond)


@pytest.mark.parametrize("name", EACH)
def test_rates_on_the_line_are_those_promised(name: str):
    scene, rng = SCENES[name], np.random.default_rng(7)
    built = study_of(name, copies=20)
    study = shortened(built, rng)
    count = 1000 if study is not built else 200
    for situation in [each for each in situations(scene) if each in ("line", "edge")]:
        row = rates(CLAIMS[name], scene, study, situation, count, rng)
        most = promised(CLAIMS[name].value("alpha") / 2, row["replications"])
        assert row["supported"] <= most, situation
        assert row["contradicted"] <= most, situation
        assert not row["coverage"] < 1 - promised(CLAIMS[name].value("alpha"), row["replications"]), situation


@pytest.mark.parametrize("name", EACH)
def test_large_effects_are_found_on_their_side(name: str):
    scene, rng = SCENES[name], np.random.default_rng(8)
    study = study_of(name, copies=10)
    far = {side: rates(CLAIMS[name], dataclasses.replace(scene, effect=tuple(8 * each for each in scene.effect)), study,
                       side, 10, rng) for side in ("opposite", "twice")}  # fmt: skip
    assert far["twice"]["contradicted"] == 0
    assert far["twice"]["supported"] > 0.8
    assert far["opposite"]["supported"] == 0


@pytest.mark.parametrize("name", [name for name in SCENES if name not in BETWEEN_NETWORKS])
def test_seeds_of_one_fold_are_not_tested(name: str, monkeypatch: pytest.MonkeyPatch):
    """But where tasks are counted; one row that cannot be tested does not take the ledger with it."""
    for module in (studies, segmentation, networks):
        monkeypatch.setattr(module, "FOLDS", 1)
    scene, study = SCENES[name], study_of(name)
    findings = study.draw(np.random.default_rng(0), turns(scene, "twice", len(study.knobs)))
    words = {row["verdict"] for row in decide(findings, 0.05)}
    assert findings
    assert words == {"not tested"} or name in ("A2", "A7")


@pytest.mark.parametrize("name", ["K6", "A3", "L4"])
def test_the_matrix_of_a_linear_test_says_what_the_test_says(name: str):
    study, rng = study_of(name), np.random.default_rng(1)
    short = shortened(study, rng)
    assert short is not study
    values = study.base + sum(each.draw(rng) for each in study.noise)
    for one, other in zip(short.find(values), study.find(values), strict=True):
        assert one.evidence is not None
        assert other.evidence is not None
        for a, b in zip(leaves(one.evidence), leaves(other.evidence), strict=True):
            assert a[0].values == pytest.approx(b[0].values, abs=1e-9)


def test_a_test_that_is_not_linear_is_left_alone():
    study = study_of("K1")
    assert shortened(study, np.random.default_rng(0)) is study


def test_failed_runs_leave_the_mean_where_it_was():
    study = study_of("A5", copies=1)
    seen: list[np.ndarray] = []
    caught = dataclasses.replace(study, noise=(), find=lambda values: seen.append(values) or [])
    for _ in range(4000):
        caught.draw(np.random.default_rng(len(seen)), [0.0], fails=0.1)
    tuned = study.failing != NONE
    assert np.mean(seen, axis=0) == pytest.approx(study.base, abs=0.02)
    assert np.ptp(np.array(seen)[:, tuned]) == pytest.approx(0.8)
    assert np.ptp(np.array(seen)[:, ~tuned], axis=0).max() == 0


def test_rows_of_one_code_share_their_noise():
    drawn = Component(np.array([0, 0, 1, NONE]), 1.0).draw(np.random.default_rng(0))
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[3] == 0


def test_calibration_counts_what_came_again(tmp_path: Path):
    rows = [{"word": "supported", "replication": 0.85, "again": at < 3} for at in range(4)]
    rows += [{"word": "inconclusive", "replication": 0.3, "again": False}]
    both = [record.calibration(pd.DataFrame(rows).assign(claim=name, seeds=5)) for name in ("K1", "K2")]
    assert both[0].set_index("word").again.to_dict() == {"decided": 0.75, "inconclusive": 0}
    pd.concat(both).to_csv(tmp_path / "replication.csv", index=False)
    table = record.calibration_table(tmp_path).set_index("word")
    assert table.loc["decided", ["low", "high", "studies", "printed", "again"]].tolist() == [0.8, 0.9, 8, 0.85, 0.75]
    assert table.error["decided"] == pytest.approx(math.sqrt(0.75 * 0.25 / 8), abs=1e-3)


def test_studies_say_how_often_they_would_come_again():
    rows = told(CLAIMS["A5"], SCENES["A5"], study_of("A5"), 6, np.random.default_rng(0), "twice")
    assert len(rows) == 6
    assert {row["word"] for row in rows} <= {"supported", "contradicted", "inconclusive"}
    assert all(0 <= row["replication"] <= 1 for row in rows)


def test_a_ledger_without_effects_holds_its_rate():
    rows = whole_ledgers.mixed(CLAIMS, 5, 20, np.random.default_rng(2), effects=False)
    table = pd.DataFrame(rows).set_index(["pooled", "bh"])
    assert set(table.index) == {(a, b) for a in (True, False) for b in (True, False)}
    assert table.any_false[True, True] <= promised(0.05, 20)
    assert table.false[True, False] > table.false[True, True]  # forty-three tests at .05 each
    assert table.false[True, False] <= 43 * promised(0.05, 20 * 43 // 4)  # rows of a cell share an arm


@pytest.mark.slow
@pytest.mark.parametrize(("effect", "least"), [(1.5, 0), (4, 100), (10, 500)])
def test_three_seeds_promise_no_more_than_they_hold(effect: float, least: int, monkeypatch: pytest.MonkeyPatch):
    """Small effects, of which hardly one is decided, and large ones; least: verdicts that are not called fragile."""
    monkeypatch.setattr(whole_ledgers, "EFFECT", effect)
    rows = whole_ledgers.mixed(CLAIMS, 3, 60, np.random.default_rng(6))
    row = pd.DataFrame(rows).set_index(["pooled", "bh"]).loc[(True, True)]
    assert row.firm_rows >= least
    assert row.printed < row.again + 0.05
    if row.firm_rows > 20:
        assert row.firm_again > 0.9
    else:
        assert row.firm_rows < 5  # a few verdicts that came about by chance are not called sure


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "least"), [(5, 0.8), (10, 0.85)])
def test_verdicts_that_are_not_called_fragile_are_said_again(seeds: int, least: float):
    rows = whole_ledgers.mixed(CLAIMS, seeds, 60, np.random.default_rng(5))
    row = pd.DataFrame(rows).set_index(["pooled", "bh"]).loc[(True, True)]
    assert row.firm_rows > 50
    assert row.firm_again + 2 * math.sqrt(0.1 / row.firm_rows) > least + 0.05
    assert row.printed < row.again + 0.15  # nor do they promise too much on the whole


def test_the_command_measures_and_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code = main(["errors", "--replications", "20", "--claims", "L6", "--out", str(tmp_path)])
    assert code == 0
    assert {path.name for path in tmp_path.glob("*.csv")} == {"tests.csv", "replication.csv", "detectable.csv"}
    assert "--replications 20, commit" in (tmp_path / "tests.csv").read_text().splitlines()[0]
    assert set(record.read("tests", tmp_path).seeds) == set(record.SEEDS)
    assert "line supported" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "said"), [("L8", "L8 is exact"), ("K99", "unknown claim 'K99'")])
def test_the_command_says_which_claims_there_are(name: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["errors", "--claims", name]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_record_says_how_it_is_made(tmp_path: Path):
    with pytest.raises(record.StudyError, match="python -m analysis errors"):
        record.read("tests", tmp_path)


def test_the_record_that_ships_holds_every_claim_and_its_promise():
    tests = record.read("tests")
    assert set(tests.claim) == set(SCENES)
    table = record.rates_table()
    assert len(table) == len(tests[tests.situation == "line"])
    null = tests[tests.situation.isin(["line", "edge"])]
    for row in null.itertuples():
        most = 0.025 + 4 * math.sqrt(0.025 * 0.975 / float(row.replications))  # some two hundred rows are looked at
        assert max(row.supported, row.contradicted) <= most, (row.claim, row.seeds, row.situation)
    assert set(record.effects_table().claim) == set(SCENES)
