"""The recommendation: signals worked out by hand, and planted networks where it must, or must not, be right."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import fakes
import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from analysis.__main__ import main
from analysis.claims.which_layers import agreement, recommendation
from analysis.claims.which_layers.figures import agreement_forest, signal_agreement
from analysis.reports import build
from analysis.tables.recorded_measurements import write_record
from analysis.tables.results import run_table
from lib.runs.run import Run
from lib.strategies.strategy import check_options
from lib.study.plan import load_suite
from lib.training.goals.segmentation import segmentation_loss
from lib.training.loop import train

SETS = {"first": ["enc0"], "last": ["dec0", "head"], "all": ["enc0", "enc1", "dec0", "head"]}


@pytest.fixture
def source(study_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("STUDY_DATA", str(tiny.make_blobs(tmp_path / "data")))
    return train(tiny.spec())


def test_the_signals_are_what_they_say(source: Run) -> None:
    table = recommendation.rank_layer_sets(source, "blobs", volume=8, sets=SETS).set_index("set")
    model = source.model()
    assert table.parameters["all"] == sum(each.numel() for each in model.parameters())

    images, masks = recommendation._images("blobs", 16, 8, 0, 0)
    model.train()
    segmentation_loss(model(images)[:, 0], masks).backward()
    own = [each for name, each in model.named_parameters() if name.startswith("enc0")]
    gradient = torch.cat([each.grad.flatten() for each in own if each.grad is not None]).norm()
    weights = torch.cat([each.detach().flatten() for each in own]).norm()
    assert table.gradient["first"] == pytest.approx(float(gradient / weights), rel=1e-4)
    assert table.gain["all"] >= max(table.gain["first"], table.gain["last"]) - abs(table.gain[["first", "last"]]).sum()
    assert sorted(table["rank"]) == [1, 2, 3]
    assert table.gain.is_monotonic_decreasing


def test_the_gain_is_the_fall_of_the_loss_to_first_order(source: Run) -> None:
    """A small step of one half's sign gradient lowers the loss of the other half by the step times the gain."""
    images, masks = recommendation._images("blobs", 16, 8, 0, 0)
    whole = {"all": SETS["all"]}
    gain = recommendation.rank_layer_sets(source, "blobs", volume=8, sets=whole).gain[0]
    draw, step, falls = np.random.default_rng([0, 0x6A1]), 1e-5, []
    for _ in range(recommendation.HALVES):
        halves = torch.from_numpy(draw.permutation(len(images))).tensor_split(2)
        for here, there in (halves, halves[::-1]):
            model = source.model().double().train()
            before = segmentation_loss(model(images[there].double())[:, 0], masks[there]).detach()
            segmentation_loss(model(images[here].double())[:, 0], masks[here]).backward()
            with torch.no_grad():
                for each in model.parameters():
                    assert each.grad is not None
                    each -= step * each.grad.sign()
                after = segmentation_loss(model(images[there].double())[:, 0], masks[there])
            falls.append(float(before - after) / step)
    assert gain == pytest.approx(np.mean(falls), rel=0.05)


def test_the_same_domain_lies_nowhere_apart(source: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model = source.model()
    images, _ = recommendation._images("blobs", 16, 8, 0, 0)
    assert recommendation._shifts(model, images, images).tolist() == [0.0] * 4
    moved = recommendation._shifts(model, images, images.roll(3, 2) * 4)
    assert (moved > 0).all()


def test_looking_changes_nothing(source: Run) -> None:
    before = tiny.fingerprint(source)
    recommendation.rank_layer_sets(source, "blobs", volume=8, sets=SETS)
    again = recommendation.rank_layer_sets(source, "blobs", volume=8, sets=SETS)
    assert tiny.fingerprint(source) == before
    pd.testing.assert_frame_equal(again, recommendation.rank_layer_sets(source, "blobs", volume=8, sets=SETS))


def test_the_usual_sets_are_both_ends_of_both_orders(source: Run) -> None:
    table = recommendation.rank_layer_sets(source, "blobs", volume=8)
    assert set(table["set"]) == {f"path: 2 {end} of 4" for end in ("first", "last")} | {
        f"level: 1 {end} of 2" for end in ("top", "bottom")
    }
    ax = signal_agreement(table, pd.Series({"path: 2 last of 4": 0.7}), title="blobs")
    assert sum("(best)" in text.get_text() for text in ax.texts) == 1


def test_what_is_first_in_all_signals_is_first_in_all_together(source: Run) -> None:
    table = recommendation.rank_layer_sets(source, "blobs", volume=8, sets=SETS)
    below = [sum(other <= each for other in table[name]) - 1 for name in recommendation.SIGNALS for each in table[name]]
    by_hand = np.array(below).reshape(3, -1).mean(0) / 2
    assert table.combined.tolist() == pytest.approx(by_hand.tolist())


def test_a_head_that_the_source_had_not_moves_with_every_set(source: Run) -> None:
    start = source.spec.but(strategy="full_finetuning", source=source.spec, task="sim_radiograph")
    assert recommendation.fine_tuning(source, "sim_radiograph", 6) == start
    with_head = recommendation._ranked(
        source.model(), "blobs", recommendation._images("blobs", 16, 8, 0, 0), pd.Series(dtype="float64", name="shift"),
        0, SETS, fresh=True,
    ).set_index("set")  # fmt: skip
    assert with_head.stages["first"] == "enc0 head"
    assert with_head.stages["last"] == "dec0 head"
    alone = recommendation.rank_layer_sets(source, "blobs", volume=8, sets={"head": ["head"], **SETS}).set_index("set")
    assert with_head.parameters["first"] == alone.parameters["first"] + alone.parameters["head"]
    assert with_head.gain["first"] == pytest.approx(alone.gain["first"] + alone.gain["head"])


def test_costs_stand_beside_the_whole_network(source: Run) -> None:
    table = recommendation.rank_layer_sets(source, "blobs", volume=8, sets=SETS | {"head": ["head"]})
    costs = recommendation.set_costs(recommendation.fine_tuning(source, "blobs", 6), table, rounds=2).set_index("set")
    assert costs.parameters[recommendation.ALL] == costs.parameters["all"] == table.parameters.max()
    assert costs.memory_ratio["all"] == pytest.approx(1)
    assert costs.memory_ratio["head"] < costs.memory_ratio["last"] < 1


def planted(source: Run, root: Path, monkeypatch: pytest.MonkeyPatch, sign: int) -> tuple[pd.DataFrame, list[Run]]:
    """Runs of four sets whose test Dice follows (sign 1), or turns around, a planted gain."""
    gains = {("path", "shallow"): 4, ("path", "deep"): 1, ("level", "shallow"): 3, ("level", "deep"): 2}

    def signals(*args, sets: dict[str, list[str]], **kwargs) -> pd.DataFrame:
        labels = {"first": 4, "last": 1, "top": 3, "bottom": 2}
        gain = [labels[name.split()[2]] for name in sets]
        rest = {"gradient": [1, 2, 3, 4], "shift": [1.0] * 3 + [2.0], "combined": gain, "parameters": [7] * 4}
        return pd.DataFrame({"set": list(sets), "gain": gain, **rest})

    monkeypatch.setattr(agreement, "rank_layer_sets", signals)
    runs = []
    for seed in range(3):
        for (order, side), gain in gains.items():
            options = check_options("layer_subset", {"order": order, "side": side, "count": 1})
            spec = source.spec.but(strategy="layer_subset", options=options, source=source.spec, seed=seed, volume=6)
            runs.append(fakes.fake_run(root, spec, dice=0.5 + sign * gain / 100))
    return run_table(runs), runs


@pytest.mark.parametrize("sign", [1, -1])
def test_agreement_is_one_where_the_ranking_is_right(
    source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: int
) -> None:
    frame, runs = planted(source, tmp_path / "runs", monkeypatch, sign)
    rows = agreement.ranking_agreement(frame, runs)
    gain = rows[rows.signal == "gain"]
    assert gain.rho.tolist() == [sign] * 3
    assert gain.best.tolist() == [sign == 1] * 3
    assert gain.lost.tolist() == pytest.approx([0.0 if sign == 1 else 0.03] * 3)
    assert gain.lost_by_chance.tolist() == pytest.approx([0.015] * 3)
    others = rows[rows.signal == "other seeds"]  # the sets end alike in all seeds
    assert others[["seed", "rho"]].to_numpy().tolist() == [[1, 1], [2, 1]]  # 0 has a source, and so a condition, alone
    assert "parameters" not in set(rows.signal)  # all are of one size: no order
    summary = agreement.ranking_agreement_summary(rows)
    assert summary[(summary.task == "blobs") & (summary.signal == "gain")].rho.tolist() == [sign]
    assert agreement.ranking_agreement_summary(
        agreement.ranking_agreement(frame.loc[frame.arm.str.contains("level")], runs)
    ).empty
    example = agreement.example_ranking(frame, runs)
    assert example is not None
    assert set(example[1].index) == set(example[0]["set"])
    assert agreement.example_ranking(frame.iloc[:0], runs) is None


def recorded(rho: dict[str, float], signal: str = "gain") -> pd.DataFrame:
    """A record of two seeds in conditions, by task, around that rank correlation."""
    rows = [
        {"task": task, "volume_label": "20", "source": "sim_natural", "seed": seed, "fold": seed, "model": task[-1],
         "title": task, "kind": "simulated", "signal": signal, "sets": 9, "rho": value + (-1) ** seed * 0.1,
         "best": seed == 0, "lost": 0.02, "lost_by_chance": 0.05}
        for task, value in rho.items() for seed in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=agreement.COLUMNS)


def test_a_condition_counts_once_however_many_its_seeds() -> None:
    rows = recorded({"a": 0.2, "b": 0.4, "c": 0.6})
    rows = pd.concat([rows, rows[rows.task == "c"].assign(seed=[2, 3])])
    (found,) = agreement.agreement_over_conditions(rows).itertuples()
    assert (found.conditions, found.networks, found.replicates) == (3, 3, 8)
    assert found.rho == pytest.approx(0.4)
    assert found.high - found.rho == pytest.approx(4.3027 * 0.2 / 3**0.5, rel=1e-4)  # t of two degrees of freedom
    text = agreement.agreement_text(rows)
    assert "3 conditions so far" in text
    assert "gain        +0.40 [-0.10, +0.90]; its first choice fell 0.020 Dice short" in text
    assert "few" in text
    assert "nothing is on record" in agreement.agreement_text(rows.iloc[:0])
    axes = agreement_forest(pd.concat([rows, recorded({"a": 0.1}, "other seeds")]))
    assert [each.get_text() for each in axes.get_yticklabels()] == ["gain", "other seeds"]
    assert "no condition" in agreement_forest(rows.iloc[:0]).texts[0].get_text()


def test_what_was_measured_here_goes_before_what_ships(
    study_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped, own = tmp_path / "shipped.csv", study_home / "reports" / "mine" / agreement.FILE
    monkeypatch.setattr(agreement, "SHIPPED", shipped)
    assert agreement.recorded_agreement().empty
    write_record(shipped, recorded({"a": 0.2, "b": 0.4}), "made up")
    write_record(own, recorded({"b": 0.8, "c": 0.6}), "made up")
    found = agreement.recorded_agreement().groupby("task").rho.mean()
    assert found.to_dict() == pytest.approx({"a": 0.2, "b": 0.8, "c": 0.6})


def test_the_record_that_ships_is_one_of_the_suite_that_it_names() -> None:
    suite = load_suite("foreign_layers")
    rows = pd.read_csv(agreement.SHIPPED, dtype={"volume_label": str}, comment="#")
    assert list(rows.columns) == agreement.COLUMNS
    specs = [suite.spec(cell, seed, cell.rates[0]) for cell in suite.cells for seed in cell.seeds]
    named = {(spec.task, spec.model, spec.seed) for spec in specs}
    told = {(task.split("@")[0], model, seed) for task, model, seed in rows[["task", "model", "seed"]].to_numpy()}
    assert told == named
    assert rows.rho.between(-1, 1).all()
    assert set(rows.signal) == set(agreement.JUDGED)
    assert not rows.duplicated([*agreement.CONDITION, "seed", "signal"]).any()


def test_the_command_records_what_was_trained(
    source: Run, study_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    _, runs = planted(source, tmp_path / "runs", monkeypatch, 1)
    monkeypatch.setattr(build, "load_suite", lambda name: Namespace(name=name, file=tmp_path / "mine.toml"))
    monkeypatch.setattr(build, "finished_runs", lambda suite: runs)
    assert main(["agreement", "mine"]) == 0
    assert "gain" in capsys.readouterr().out
    found = agreement.recorded_agreement()
    assert found[(found.task == "blobs") & (found.signal == "gain")].rho.tolist() == [1.0]  # with its own source
    monkeypatch.setattr(build, "finished_runs", lambda suite: runs[:3])
    assert main(["agreement", "mine"]) == 2
    assert "suite 'mine' has no condition with four finished sets" in capsys.readouterr().err
