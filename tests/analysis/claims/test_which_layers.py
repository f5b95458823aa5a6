"""Sets of layers: the tables, and claims A1 to A9 on planted runs where the claim holds, fails, or cannot be told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import fakes
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from analysis.claims.ledger.evaluate import evaluate, load_claims
from analysis.claims.which_layers import layer_sets, texture_or_shape, tuning_speed
from analysis.claims.which_layers.figures import (
    advantage_forest,
    cumulative_curves,
    layer_map,
    speed_by_set,
    texture_heatmap,
)
from analysis.figures.charts import meshes
from lib.strategies.strategy import check_options

SEEDS = 4
Dice = Callable[[str, int, int, int], float]  # order, signed count (negative from the deep end), matched, seed
US, XRAY = "busi", "cxr_lungs"


def subset(order: str, count: int, seed: int, dice: float | None, *, matched: int = 0, task: str = US, **changes: Any):
    """A run of `layer_subset`; `count` is negative from the deep end."""
    side = "shallow" if count > 0 else "deep"
    options = check_options("layer_subset", {"order": order, "side": side, "count": abs(count)})
    options["parameters"] = matched or None
    modality = "chest X-ray" if task.startswith(XRAY) else "ultrasound"
    about = {"options": json.dumps(options), "arm": f"{order}{count}{matched}", "modality": modality, "fold": seed}
    return fakes.row(task, "layer_subset", seed, dice, volume=changes.pop("volume", 20), **about, **changes)


def planted(dice: Dice, *, task: str = US, orders: Iterable[str] = ("path", "level"), matched: Iterable[int] = (0,)):
    """Both ends of both orderings, two counts, at two volumes, with seeds that differ far more than sets do."""
    return [
        subset(order, side * count, seed, dice(order, side * count, size, seed) + 0.1 * seed, matched=size, task=task,
               volume=volume)
        for order in orders
        for size in matched
        for count in (1, 2)
        for side in (1, -1)
        for seed in range(SEEDS)
        for volume in (20, None)
    ]  # fmt: skip


def wobble(seed: int, *key: object) -> float:
    """A little noise, the same whenever it is asked for."""
    return float(np.random.default_rng([seed, *map(ord, str(key))]).normal(0, 0.004))


def shallow_wins(order: str, count: int, matched: int, seed: int) -> float:
    return 0.4 + (0.1 if count > 0 else 0.0) + wobble(seed, order, count, matched)


def deep_wins(order: str, count: int, matched: int, seed: int) -> float:
    return 0.4 - (0.1 if count > 0 else 0.0) + wobble(seed, order, count, matched)


def nothing_matters(order: str, count: int, matched: int, seed: int) -> float:
    return 0.4 + wobble(seed, order, count, matched)


def verdicts(rows: list[dict[str, Any]], name: str, curve: Any = None) -> dict[str, dict[str, Any]]:
    frame = fakes.frame(rows)
    chosen = [claim for claim in load_claims() if claim.id == name]
    evaluations = fakes.evaluations(frame, curve or (lambda row: []))
    return {row["task"]: row for row in evaluate(frame, evaluations, chosen)}


# ---- tables -----------------------------------------------------------------------------------------------------


def test_every_way_to_name_a_set_is_the_same_set() -> None:
    whole = {"options": "{}", "fold": 0}
    rows = [
        fakes.row(US, "encoder_only", 0, 0.5, **whole),
        fakes.row(US, "decoder_only", 0, 0.4, **whole),
        fakes.row(US, "head_only", 0, 0.3, **whole),
        fakes.row(US, "full_finetuning", 0, 0.6, **whole),
        fakes.row(US, "scratch", 0, 0.2, **whole),
        fakes.row(US, "norm_only", 0, 0.2, **whole),
        subset("level", -2, 0, 0.5, matched=77),
    ]
    sets = layer_sets.layer_sets(fakes.frame(rows)).set_index("arm")
    assert sets.label.to_dict() == {
        "encoder_only": "path: 5 first of 10",
        "decoder_only": "path: 5 last of 10",
        "head_only": "path: 1 last of 10",
        "full_finetuning": "all layers",
        "level-277": "level: 2 bottom of 5, 77 parameters",
    }


def test_a_single_stage_is_named_after_itself_and_has_no_side() -> None:
    options = json.dumps(check_options("layer_subset", {"stages": ["enc0", "dec1"]}))
    sets = layer_sets.layer_sets(fakes.frame([fakes.row(US, "layer_subset", 0, 0.5, options=options)]))
    assert (sets.label[0], sets.side[0], sets.order[0]) == ("enc0+dec1", "single", "")


def test_advantages_pair_equal_sets_of_one_seed_only() -> None:
    rows = [
        subset("path", 1, 0, 0.6), subset("path", -1, 0, 0.5),
        subset("path", 2, 0, 0.9),  # no partner
        subset("path", 1, 1, 0.7), subset("path", -1, 1, None),  # its partner diverged
        subset("path", 1, 0, 0.3, matched=9), subset("path", -1, 0, 0.5, matched=9),
        subset("level", 1, 0, 0.1, volume=None), subset("level", -1, 0, 0.2, task=XRAY, volume=None),  # another task
    ]  # fmt: skip
    pairs = layer_sets.advantages(fakes.frame(rows)).sort_values(["matched", "seed"])
    assert pairs.advantage.round(6).tolist()[0::2] == [0.1, -0.2]
    assert pairs.status.tolist() == ["done", "diverged", "done"]
    assert np.isnan(pairs.advantage.iloc[1])


def test_the_area_is_that_of_the_polygon() -> None:
    rows = [subset("path", sign * count, 0, 0.5 + (0.2 if sign > 0 else 0.0)) for sign in (1, -1) for count in (2, 6)]
    area = layer_sets.areas_between_curves(fakes.frame(rows))
    assert area.points.tolist() == [2]
    # 0 to 0.2 over a fifth, flat to six tenths, down to 0 at the end
    assert area.area.tolist() == pytest.approx([0.2 * (0.2 / 2 + 0.4 + 0.4 / 2)])


def test_the_worst_set_is_looked_for_among_whole_sets() -> None:
    rows = [subset("path", 2, 0, 0.5), subset("path", -2, 0, 0.4), subset("path", -2, 0, 0.1, matched=9),
            subset("level", -2, 0, 0.6), subset("path", 2, 1, None), subset("path", -2, 1, 0.2)]  # fmt: skip
    other = [subset("path", count, seed, dice, task="usgra") for seed in (0, 1)
             for count, dice in ((2, None if seed else 0.5), (-2, 0.2 + 0.2 * seed))]  # fmt: skip
    found = layer_sets.worst_is_last(fakes.frame(rows + other)).set_index("task")
    assert found.index.tolist() == [US, "usgra"], "a task counts once"
    assert found["last"].tolist() == [True, False]  # 0.3 and 0.5 in one; a diverged run counts with 0 in the other
    assert found.chance.tolist() == pytest.approx([1 / 3, 1 / 2])
    assert found.seeds.tolist() == [1, 2]
    assert layer_sets.worst_is_last(fakes.frame(rows + other), least=2).task.tolist() == ["usgra"]


# ---- claims -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dice", "word"), [(shallow_wins, "supported"), (nothing_matters, "contradicted"), (deep_wins, "supported")]
)
def test_a1_asks_whether_sets_differ_whichever_is_better(dice: Dice, word: str) -> None:
    row = verdicts(planted(dice), "A1")[US]
    assert row["verdict"] == word
    low, high = row["interval"]
    assert low <= (0.1 / 2 * np.sqrt(8 / 7) if word == "supported" else 0.0) <= high


def test_a1_needs_several_sets_and_seeds() -> None:
    rows = [subset("path", count, seed, 0.5 + 0.1 * count) for count in (1, -1) for seed in range(SEEDS)]
    assert verdicts(rows, "A1")[US]["verdict"] == "not tested"
    few = [row for row in planted(shallow_wins) if row["seed"] < 2]
    assert verdicts(few, "A1")[US]["verdict"] == "not tested"


def on_tasks(dice: Dice, tasks: int) -> list[dict[str, Any]]:
    return [row for number in range(tasks) for row in planted(dice, task=f"us{number}")]


def test_a2_counts_how_often_the_last_layers_are_lowest() -> None:
    def last_lowest(order: str, count: int, matched: int, seed: int) -> float:
        return 0.2 if (order, count) == ("path", -1) else 0.4 + wobble(seed, order, count)

    often = verdicts(on_tasks(last_lowest, 4), "A2")["all"]  # p = 0.25 ** 4
    assert often["verdict"] == "supported"
    assert often["effect"] == pytest.approx(1 - 2 / 8)  # two of eight sets are last layers
    assert often["p"] == pytest.approx(2 * 0.25**4)
    few = verdicts(on_tasks(last_lowest, 3), "A2")["all"]
    assert few["verdict"] == "not tested"
    assert "3 tasks with last layers and another set, 4 needed" in few["note"]
    # Two data sets through two networks are two tasks.
    twice = [row | {"task": f"{row['task']}@{net}", "model": net} for net in ("b", "a")
             for row in on_tasks(last_lowest, 2)]  # fmt: skip
    shared = verdicts(twice, "A2")["all"]
    assert shared["verdict"] == "not tested"
    assert "2 tasks with last layers and another set, 4 needed. Of a alone: data sets are counted" in shared["note"]
    more = [*twice, *(row | {"task": f"{row['task']}@c", "model": "c"} for row in on_tasks(last_lowest, 4))]
    assert verdicts(more, "A2")["all"]["p"] == often["p"]

    def first_lowest(order: str, count: int, matched: int, seed: int) -> float:
        return 0.2 if (order, count) == ("path", 1) else 0.4 + wobble(seed, order, count)

    assert verdicts(on_tasks(first_lowest, 14), "A2")["all"]["verdict"] == "contradicted"  # p = 0.75 ** 14
    some = [*on_tasks(first_lowest, 3), *planted(last_lowest, task="last")]  # as often as by chance
    assert verdicts(some, "A2")["all"]["verdict"] == "inconclusive"


def test_a2_does_not_take_four_tosses_alike_for_proof_however_many_seeds_there_are() -> None:
    tasks = [f"us{number}" for number in range(4)]
    rows = [subset("path", count, seed, 0.5 + 0.1 * count, task=task)
            for task in tasks for count in (1, -1) for seed in range(9)]  # fmt: skip
    (row,) = verdicts(rows, "A2").values()
    assert row["verdict"] == "inconclusive"
    assert row["p"] == pytest.approx(2 * 0.5**4)
    assert row["interval"][0] < row["line"] < row["effect"] == row["interval"][1] == 0.5


def test_a2_of_tasks_that_know_nothing_is_seldom_decided() -> None:
    """Sets differ by what is the same for all seeds of a task, and by nothing that their place explains."""
    rng, words = np.random.default_rng(0), []
    for _ in range(20):
        offsets = {f"us{number}": rng.normal(0, 0.05, 5) for number in range(6)}
        rows = [subset("path", count, seed, 0.5 + offset[count] + 0.01 * wobble(seed, count), task=task)
                for task, offset in offsets.items() for count in (2, 1, -1, -2) for seed in range(3)]  # fmt: skip
        words.append(verdicts(rows, "A2")["all"]["verdict"])
    assert words.count("inconclusive") >= 16  # 5 % of 20, and what chance may add once in five hundred


@pytest.mark.parametrize(
    ("dice", "word"), [(shallow_wins, "supported"), (nothing_matters, "inconclusive"), (deep_wins, "contradicted")]
)
def test_a3_takes_the_difference_of_a_seed(dice: Dice, word: str) -> None:
    rows = planted(dice) + planted(deep_wins, task=XRAY)
    found = verdicts(rows, "A3")
    assert found.keys() == {US}  # a claim about ultrasound
    assert found[US]["verdict"] == word
    assert "capacity is not ruled out" in found[US]["note"]


def test_a3_is_not_supported_where_equal_size_takes_the_advantage_away() -> None:
    kept = verdicts(planted(shallow_wins, matched=(0, 50)), "A3")[US]
    assert kept["verdict"] == "supported"
    gone = planted(lambda o, c, m, s: (nothing_matters if m else shallow_wins)(o, c, m, s), matched=(0, 50))
    row = verdicts(gone, "A3")[US]
    assert row["verdict"] == "inconclusive"
    raw, equal = row["parts"]
    assert (raw["name"], equal["name"]) == ("at equal count", "at equal size")
    assert raw["interval"][0] > 0 > equal["interval"][0]
    assert row["effect"] == equal["effect"], "the number that decides is the one shown"


def halves(dice: tuple[float, float], task: str = US) -> list[dict[str, Any]]:
    modality = "chest X-ray" if task.startswith(XRAY) else "ultrasound"
    return [
        fakes.row(
            task, name, seed, value + 0.1 * seed + wobble(seed, name, task), volume=20, modality=modality, fold=seed
        )
        for name, value in zip(("encoder_only", "decoder_only"), dice, strict=True)
        for seed in range(SEEDS)
    ]


@pytest.mark.parametrize(("gap", "word"), [(0.1, "supported"), (0.0, "contradicted"), (0.03, "inconclusive")])
def test_a5_asks_for_a_substantial_difference(gap: float, word: str) -> None:
    assert verdicts(halves((0.4 + gap, 0.4)), "A5")[US]["verdict"] == word


def test_a6_needs_two_points_between_the_ends() -> None:
    assert verdicts(planted(shallow_wins), "A6")[US]["verdict"] == "supported"
    assert verdicts(planted(deep_wins), "A6")[US]["verdict"] == "contradicted"
    assert verdicts(halves((0.5, 0.4)), "A6")["all"]["verdict"] == "not tested"


def of_both(ultrasound: tuple[float, float], xray: tuple[float, float], xrays: int = 3) -> list[dict[str, Any]]:
    """Three ultrasound tasks and some X-ray tasks, with these Dice of both halves."""
    rows = [row for number in range(3) for row in halves(ultrasound, f"{US}{number}")]
    return rows + [row for number in range(xrays) for row in halves(xray, f"{XRAY}{number}")]


def test_a7_is_about_the_difference_of_differences() -> None:
    assert verdicts(of_both((0.5, 0.4), (0.9, 0.9)), "A7")["all"]["verdict"] == "supported"
    assert verdicts(of_both((0.5, 0.4), (0.9, 0.8)), "A7")["all"]["verdict"] == "inconclusive"
    assert verdicts(of_both((0.4, 0.4), (0.9, 0.8)), "A7")["all"]["verdict"] == "contradicted"
    assert verdicts(halves((0.5, 0.4)), "A7")["all"]["verdict"] == "not tested"
    two = of_both((0.5, 0.4), (0.9, 0.9), xrays=2)
    assert verdicts(two, "A7")["all"]["verdict"] == "not tested"
    assert "fewer than 3 tasks of a modality" in verdicts(two, "A7")["all"]["note"].lower()
    # Other sets than those of the ultrasound tasks are no comparison.
    other = [row for number in range(3) for row in planted(shallow_wins, task=f"{XRAY}{number}")]
    ultrasound = of_both((0.5, 0.4), (0.9, 0.9), xrays=0)
    assert verdicts(ultrasound + other, "A7")["all"]["verdict"] == "not tested"


def test_a7_counts_tasks_and_not_seeds() -> None:
    """Tasks that differ among themselves by more than the modalities do decide nothing, however sure each is."""
    rows = of_both((0.5, 0.4), (0.9, 0.85))
    for row in rows:
        if row["strategy"] == "encoder_only":
            row["dice"] += {"0": -0.2, "1": 0.0, "2": 0.2}[row["task"][-1]]
    found = verdicts(rows, "A7")["all"]
    assert found["verdict"] == "inconclusive"
    assert found["effect"] == pytest.approx(0.05, abs=0.01)


def test_a7_compares_what_both_modalities_have() -> None:
    """Advantages of 0 and .3 by count in both: a count that one modality lost says nothing of the other."""

    def by_count(order: str, count: int, matched: int, seed: int) -> float:
        return 0.4 + 0.3 * (count == 2) + wobble(seed, order, count)

    tasks = [f"{name}{number}" for name in (US, XRAY) for number in range(3)]
    rows = [row for task in tasks for row in planted(by_count, task=task, orders=("path",))]
    for row in rows:
        if row["task"].startswith(XRAY) and json.loads(row["options"])["count"] == 2 and row["seed"] < 2:
            row |= {"status": "diverged", "dice": None}
    found = verdicts(rows, "A7")["all"]
    assert abs(found["effect"]) < 0.02
    assert "2 of 4 conditions left out: not on both sides" in found["note"]


def test_a9_compares_orders_at_the_same_volumes() -> None:
    def by_order(order: str, count: int, matched: int, seed: int) -> float:
        return 0.4 + 0.1 * (count > 0) + wobble(seed, order, count)

    rows = planted(by_order)
    for row in rows:
        if row["volume"] == 20:
            row["dice"] -= 0.3 * (json.loads(row["options"])["side"] == "shallow")
            if json.loads(row["options"])["order"] == "level" and row["seed"] < 2:
                row |= {"status": "diverged", "dice": None}
    found = verdicts(rows, "A9")[US]
    assert found["verdict"] == "contradicted"
    assert "1 of 2 conditions left out: not on both sides" in found["note"]


def test_a2_takes_nothing_from_sets_that_are_equally_bad() -> None:
    rows = [fakes.row(US, arm, seed, 0.0) for arm in ("encoder_only", "decoder_only") for seed in range(SEEDS)]
    assert verdicts(rows, "A2")["all"]["verdict"] == "not tested"


def test_a9_asks_whether_the_orderings_disagree() -> None:
    def apart(order: str, count: int, matched: int, seed: int) -> float:
        return (shallow_wins if order == "path" else nothing_matters)(order, count, matched, seed)

    assert verdicts(planted(apart), "A9")[US]["verdict"] == "supported"
    assert verdicts(planted(shallow_wins), "A9")[US]["verdict"] == "contradicted"
    assert verdicts(planted(shallow_wins, orders=("path",)), "A9")[US]["verdict"] == "not tested"


# ---- speed ------------------------------------------------------------------------------------------------------


def raced(reach: int, plateau: float = 0.8) -> dict[str, dict[str, Any]]:
    """A4 where shallow tuning climbs to `plateau` at step `reach` (with some noise), the whole network at step 200."""
    rows = [subset("path", 2, seed, 0.7, volume=None) for seed in range(SEEDS)]
    rows += [fakes.row(US, "full_finetuning", seed, 0.75, fold=seed) for seed in range(SEEDS)]

    def curve(row: pd.Series) -> list[tuple[int, float]]:
        whole = row.strategy == "full_finetuning"
        return fakes.climb(0.8 if whole else plateau, (200 if whole else reach) + 5 * row.seed)

    return verdicts(rows, "A4", curve)


def test_a4_compares_the_time_to_the_plateau_of_the_whole_network() -> None:
    faster = raced(100)[US]
    assert faster["verdict"] == "supported"
    assert faster["effect"] == pytest.approx(0.5, abs=0.05)
    assert "Dice lost against the whole network: 0.050" in faster["note"]
    assert raced(300)[US]["verdict"] == "contradicted"
    never = raced(50, plateau=0.5)[US]
    assert never["verdict"] == "contradicted"  # the whole budget, twice the whole network's time
    assert "4 of 4 runs never got there" in never["note"]


def test_speed_counts_samples_and_what_a_step_costs() -> None:
    rows = [subset("path", 2, 0, 0.7, volume=None, batch=8), fakes.row(US, "full_finetuning", 0, 0.75, batch=8)]
    frame = fakes.frame(rows)
    evaluations = fakes.evaluations(frame, lambda row: fakes.climb(0.8, 100 if row.strategy == "layer_subset" else 200))
    evaluations.loc[evaluations.strategy == "layer_subset", "seconds"] /= 4
    speed = tuning_speed.layer_speed(frame, evaluations)
    row = speed[speed.fraction == 0.95].iloc[0]
    assert (row.steps, row.samples, row.step_ratio) == pytest.approx((95, 760, 0.5))
    assert (row.second_ratio, row.step_cost, row.lost_dice) == pytest.approx((0.125, 0.25, 0.05))


# ---- texture ----------------------------------------------------------------------------------------------------


def on_the_map(grain: float, shape: float) -> list[dict[str, Any]]:
    """Runs on the nine targets whose advantage grows by so much per octave of grain and of shape."""
    rows = []
    for number, size in enumerate(("fine", "medium", "coarse")):
        for place, form in enumerate(("plain", "small", "tiny")):
            octaves = (np.log2((1.0, 1.6, 2.5)[number]), -np.log2((1.0, 0.7, 0.5)[place]))
            gap = grain * octaves[0] + shape * octaves[1]
            for seed in range(SEEDS):
                task, source = f"sim_{size}_{form}", "sim_other_fine"
                shallow, deep = 0.5 + gap + wobble(seed, size, form), 0.5 + wobble(seed, form, size)
                rows.append(subset("path", 2, seed, shallow, task=task, source=source))
                rows.append(subset("path", -2, seed, deep, task=task, source=source))
    return rows


@pytest.mark.parametrize(
    ("grain", "shape", "word"),
    [(0.1, 0.0, "supported"), (0.0, 0.1, "contradicted"), (0.1, 0.1, "inconclusive"), (-0.1, 0.0, "contradicted")],
)
def test_a8_asks_whether_the_advantage_follows_the_grain(grain: float, shape: float, word: str) -> None:
    row = verdicts(on_the_map(grain, shape), "A8")["simulated"]
    assert row["verdict"] == word
    assert row["effect"] == pytest.approx(grain - shape, abs=0.02)


def test_the_texture_map_measures_the_distance_of_the_domains() -> None:
    cells = texture_or_shape.texture_map_summary(texture_or_shape.texture_map(fakes.frame(on_the_map(0.1, 0.0))))
    assert sorted(set(cells.grain)) == pytest.approx([0.0, 0.678, 1.322])
    assert sorted(set(cells["shape"])) == pytest.approx([0.0, 0.515, 1.0])
    assert cells.seeds.tolist() == [SEEDS] * 9
    assert verdicts(planted(shallow_wins), "A8")["all"]["verdict"] == "not tested"


# ---- figures ----------------------------------------------------------------------------------------------------


def test_the_figures_take_tables_with_and_without_rows() -> None:
    frame = fakes.frame(planted(shallow_wins, matched=(0, 50)) + on_the_map(0.1, 0.0))
    empty = frame.iloc[:0]
    curves = fakes.evaluations(frame, lambda row: fakes.climb(0.5, 100))
    for table, texts in ((frame, ["Dice on test images"]), (empty, [])):
        cells = layer_sets.layer_set_summary(table)
        speed = tuning_speed.speed_summary(tuning_speed.layer_speed(table, curves))
        drawn = [
            layer_map(cells, US),
            cumulative_curves(cells, US, "20"),
            advantage_forest(layer_sets.advantages(table)),
            texture_heatmap(texture_or_shape.texture_map_summary(texture_or_shape.texture_map(table))),
            speed_by_set(speed),
        ]
        assert drawn[0].get_xlabel() == "".join(texts)
        assert len(meshes(drawn[3])) == len(texts)
        plt.close("all")
