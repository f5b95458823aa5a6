"""Planted for claims about which layers to tune: A1 to A9."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.error_rates.scene import Scene
from analysis.claims.error_rates.segmentation import DICE, DICE_POINTS, FAILED, TENTH, speeds
from analysis.claims.error_rates.study import (
    Component,
    Floats,
    Study,
    by_table,
    codes,
    copy_of,
    names,
    on,
    rows,
    run_noise,
    runs_of,
)
from analysis.claims.verdicts import Claim
from analysis.claims.which_layers.texture_or_shape import DIALS
from lib.data.tasks.task import TASKS

COUNTS = (2, 5, 8)  # of the ten groups along the path
TASK = 0.03  # standard deviation between tasks of one modality, and of what tasks make of a set


def subset(order: str, side: str, count: int, parameters: int | None = None) -> dict[str, Any]:
    """The columns of an arm that tunes one set of layers."""
    options = {"order": order, "side": side, "count": count, "parameters": parameters, "stages": None}
    return {"strategy": "layer_subset", "options": json.dumps(options, sort_keys=True), "source": "other"} | {
        "arm": f"layer_subset {order} {side} {count} {parameters}"
    }


def both_sides(order: str, counts: Sequence[int], parameters: int | None = None) -> list[dict[str, Any]]:
    return [subset(order, side, count, parameters) for count in counts for side in ("shallow", "deep")]


def _dice(claim: Claim, frame: pd.DataFrame, base: Floats | float, *knobs: Floats, together: bool = False) -> Study:
    """A study whose outcome is Dice and whose shallow sets can fail."""
    shallow = frame.arm.str.contains("shallow")
    return Study(
        np.zeros(len(frame)) + base, np.array(knobs), copy_of(frame, together=together), run_noise(frame, **DICE),
        by_table(claim, frame, "dice"), runs_of(frame, shallow), FAILED,
    )  # fmt: skip


def spread(claim: Claim, seeds: int, copies: int) -> Study:
    """A1: six sets whose true means are drawn for every task."""
    frame = rows(names(copies), both_sides("path", COUNTS), seeds)
    line = claim.value("spread")
    return Study(
        np.full(len(frame), 0.8), np.zeros((1, len(frame))), copy_of(frame), run_noise(frame, **DICE),
        by_table(claim, frame, "dice"), runs_of(frame, frame.arm.str.contains("shallow 2 ")), FAILED,
        (codes(frame, ["task", "arm"]), line), lambda turns: [max(0.0, line + turns[0])],
    )  # fmt: skip


def worst(claim: Claim, seeds: int, copies: int) -> Study:
    """A2: six tasks, in each of which six sets differ and last layers are not known to be lower."""
    frame = rows(names(6), both_sides("path", COUNTS), seeds)
    last = frame.arm.str.contains("deep 2 |deep 5 ")
    return Study(
        np.full(len(frame), 0.8), on(last, -1)[None], copy_of(frame, together=True),
        (*run_noise(frame, **DICE), Component(codes(frame, ["task", "arm"]), TASK)), by_table(claim, frame, "dice"),
        runs_of(frame, frame.arm.str.contains("shallow 2 ")), FAILED, truth=lambda turns: None,
    )  # fmt: skip


def shallow(claim: Claim, seeds: int, copies: int) -> Study:
    """A3: two counts along the path, one by level, one pair at equal size."""
    arms = [*both_sides("path", (2, 5)), *both_sides("level", (2,)), *both_sides("path", (5,), 1000)]
    frame = rows(names(copies), arms, seeds)
    deep, equal = frame.arm.str.contains("deep"), frame.arm.str.endswith("1000")
    return _dice(claim, frame, 0.8, on(deep & ~equal, -1), on(deep & equal, -1))


def halves(claim: Claim, seeds: int, copies: int) -> Study:
    """A5: the contracting part leads by the margin."""
    frame = rows(names(copies), both_sides("path", (5,)), seeds)
    deep = on(frame.arm.str.contains("deep"), -1)
    return _dice(claim, frame, 0.8 + claim.value("margin") * deep, deep)


def area(claim: Claim, seeds: int, copies: int) -> Study:
    """A6: three points of the curves along the path, which lie together."""
    frame = rows(names(copies), both_sides("path", COUNTS), seeds)
    under = float(np.trapezoid([0, 1, 1, 1, 0], [0, *(count / 10 for count in COUNTS), 1]))
    return _dice(claim, frame, 0.8, on(frame.arm.str.contains("deep"), -1 / under))


def modality(claim: Claim, seeds: int, copies: int) -> Study:
    """A7: five tasks of each modality, whose advantages differ, but not by modality."""
    tasks = names(10)
    frame = rows(tasks, both_sides("path", (2, 5)), seeds)
    frame["modality"] = frame.task.isin(tasks[:5]).map({True: "ultrasound", False: "chest X-ray"})
    first = frame.arm.str.contains("shallow")
    noise = (*run_noise(frame, **DICE), Component(codes(frame, ["task"], first), TASK))
    knob = on(first & (frame.modality == "ultrasound"))
    return Study(
        np.full(len(frame), 0.8), knob[None], copy_of(frame, together=True), noise, by_table(claim, frame, "dice"),
        runs_of(frame, first), FAILED,
    )  # fmt: skip


def texture(claim: Claim, seeds: int, copies: int) -> Study:
    """A8: eight targets from one source; the advantage grows with neither distance."""
    dials = {f"sim_{grain}_{shape}": TASKS[f"sim_{grain}_{shape}"].dials
             for grain in ("fine", "medium", "coarse") for shape in ("plain", "small", "tiny")}  # fmt: skip
    source, *targets = dials
    frame = rows(targets, both_sides("level", (2,)), seeds).assign(source=source, kind="simulated")
    grain, shape = (
        frame.task.map({name: abs(math.log2(own[dial] / dials[source][dial])) for name, own in dials.items()})
        for dial in DIALS.values()
    )
    first = frame.arm.str.contains("shallow").to_numpy(dtype=np.float64)
    knobs = (-shape.to_numpy() * first, (grain + shape).to_numpy() * first)
    return _dice(claim, frame, 0.8, *knobs, together=True)


def two_orders(claim: Claim, seeds: int, copies: int) -> Study:
    """A9: the advantage along the path is larger than that by level, by the margin."""
    frame = rows(names(copies), [*both_sides("path", (2, 5)), *both_sides("level", (2,))], seeds)
    path = on(frame.arm.str.contains("path shallow"))
    return _dice(claim, frame, 0.8 + claim.value("margin") * path, path)


def sooner(claim: Claim, seeds: int, copies: int) -> Study:
    """A4: two shallow sets take as long as the whole network."""
    whole = {"strategy": "full_finetuning", "source": "other"}
    frame = rows(names(copies), [whole, *both_sides("path", (2, 5))], seeds).assign(dice=0.8)
    return speeds(claim, frame, frame.arm.str.contains("shallow"))


SCENES = (
    Scene("A1", (0.03,), DICE_POINTS, spread),
    Scene(
        "A2", (0.04,), "last layers lower by four Dice points, where sets of a task differ by three", worst, copies=1
    ),
    Scene("A3", (0.03, 0.03), DICE_POINTS, shallow),
    Scene("A4", (math.log(1 / 0.8),), TENTH, sooner),
    Scene("A5", (0.03,), DICE_POINTS, halves),
    Scene("A6", (0.03,), DICE_POINTS, area),
    Scene("A7", (0.03,), DICE_POINTS, modality, copies=1),
    Scene(
        "A8", (0.02, 0.02), "two Dice points an octave are three over the map's octave and a half", texture, copies=1
    ),
    Scene("A9", (0.03,), DICE_POINTS, two_orders),
)
