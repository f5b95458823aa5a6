"""The recommendation: signals worked out by hand, and planted networks where it must, or must not, be right."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from analysis.claims.which_layers import recommendation
from analysis.claims.which_layers.figures import signal_agreement
from analysis.tables.results import run_table
from lib.runs.run import Run
from lib.strategies.strategy import check_options
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


def planted(source: Run, root: Path, monkeypatch: pytest.MonkeyPatch, sign: int) -> tuple[pd.DataFrame, list[Run]]:
    """Runs of four sets whose test Dice follows (sign 1), or turns around, a planted gain."""
    gains = {("path", "shallow"): 4, ("path", "deep"): 1, ("level", "shallow"): 3, ("level", "deep"): 2}

    def signals(*args, sets: dict[str, list[str]], **kwargs) -> pd.DataFrame:
        labels = {"first": 4, "last": 1, "top": 3, "bottom": 2}
        gain = [labels[name.split()[2]] for name in sets]
        return pd.DataFrame({"set": list(sets), "gain": gain, "gradient": [1, 2, 3, 4], "shift": [1.0] * 3 + [2.0]})

    monkeypatch.setattr(recommendation, "rank_layer_sets", signals)
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
    rows = recommendation.ranking_agreement(frame, runs)
    gain = rows[rows.signal == "gain"]
    assert gain.rho.tolist() == [sign] * 3
    assert gain.best.tolist() == [sign == 1] * 3
    summary = recommendation.ranking_agreement_summary(rows)
    assert summary[(summary.task == "all") & (summary.signal == "gain")].rho.tolist() == [sign]
    assert recommendation.ranking_agreement_summary(
        recommendation.ranking_agreement(frame.loc[frame.arm.str.contains("level")], runs)
    ).empty
    example = recommendation.example_ranking(frame, runs)
    assert example is not None
    assert set(example[1].index) == set(example[0]["set"])
    assert recommendation.example_ranking(frame.iloc[:0], runs) is None
