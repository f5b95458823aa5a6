"""Planted for claims about weights and representations: K4, K5, L7 by numbers of runs; K8 to K10 by layer maps.

No network is built: the numbers that are measured on checkpoints are planted, and go through what judges them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.error_rates.scene import Scene
from analysis.claims.error_rates.study import (
    FOLDS,
    NONE,
    Component,
    Floats,
    Study,
    codes,
    copy_of,
    names,
    on,
    rows,
    run_noise,
    runs_of,
)
from analysis.claims.feature_reuse.claim_tests import judge_reuse, judge_separation, judge_spread
from analysis.claims.per_run_test import BOTH, Measure, per_task
from analysis.claims.verdicts import Claim, Finding
from analysis.representations.run_similarity import LayerMaps

FULL = "full_finetuning"


def _by_numbers(
    claim: Claim, frame: pd.DataFrame, arms: Sequence[str], measures: Sequence[tuple[str, float, bool, str]]
) -> Callable[[Floats], list[Finding]]:
    """`per_task` on planted numbers: a block of rows of the table for each measure (name, line, above, unit)."""
    seen: list[dict[str, float]] = [{} for _ in measures]
    made = [Measure(name, own.__getitem__, line, above, unit)  # type: ignore[arg-type]
            for own, (name, line, above, unit) in zip(seen, measures, strict=True)]  # fmt: skip
    runs: Any = {name: name for name in frame.run_id}

    def find(values: Floats) -> list[Finding]:
        for own, block in zip(seen, values.reshape(len(seen), -1), strict=True):
            own.update(zip(frame.run_id, block, strict=True))
        return per_task(claim, frame, runs, arms, made, lambda _: "")

    return find


def _both_arms(claim: Claim, seeds: int, copies: int, line: float, *, above: bool, sd: float, drop: float) -> Study:
    frame = rows(names(copies), [{"strategy": arm} for arm in BOTH], seeds)
    knobs = np.array([on(frame.arm == arm, 1 if above else -1) for arm in BOTH])
    find = _by_numbers(claim, frame, BOTH, [("", line, above, "number")])
    noise = run_noise(frame, run=sd, fold=sd, arm=sd / 2)
    return Study(np.full(len(frame), line), knobs, copy_of(frame), noise, find, runs_of(frame, frame.arm == FULL), drop)


def cosine(claim: Claim, seeds: int, copies: int) -> Study:
    return _both_arms(claim, seeds, copies, claim.value("cosine"), above=True, sd=0.02, drop=0.5)


def classifier(claim: Claim, seeds: int, copies: int) -> Study:
    return _both_arms(claim, seeds, copies, claim.value("auc"), above=False, sd=0.02, drop=-0.3)


def linear(claim: Claim, seeds: int, copies: int) -> Study:
    """L7: two shares of each run of full fine-tuning."""
    frame = rows(names(copies), [{"strategy": FULL}], seeds)
    both, line = pd.concat([frame.assign(arm=name) for name in ("explained", "rest")]), claim.value("share")
    knobs = np.array([on(both.arm == name) for name in ("explained", "rest")])
    measures = [(name, line, True, name) for name in ("explained", "rest")]
    find, noise = _by_numbers(claim, frame, [FULL], measures), run_noise(both, run=0.05, fold=0.03, arm=0.02)
    failing = np.tile(runs_of(frame, frame.arm == FULL), 2)
    return Study(np.full(len(both), line), knobs, copy_of(both), noise, find, failing, 0.4)


def _maps(groups: Sequence[str], seeds: int, layers: Sequence[str], points: Sequence[str]) -> LayerMaps:
    """Layer maps of runs of these groups: own, shared and random."""
    found = [
        {"run_id": f"{group}{seed}", "strategy": "scratch" if group == "random" else FULL, "seed": seed,
         "fold": seed % FOLDS, "source_seed": {"own": seed, "shared": 0, "random": None}[group], "step": 0,
         "point": point}
        for group in groups for seed in range(seeds) for point in points if (group, seed) != ("shared", 0)
    ]  # fmt: skip
    table = pd.DataFrame(found).astype({"source_seed": "Int64"})
    return LayerMaps(table, tuple(layers), np.ones((len(layers), len(table), len(table))), "planted", "planted")


def reuse(claim: Claim, seeds: int, copies: int) -> Study:
    """K8: similarity before and after by layer. Knobs: the slope over depth, and the reuse of later layers."""
    maps = _maps(("own", "random"), seeds, ("enc0", "enc1", "enc2", "enc3", "dec2", "dec1", "dec0"), ("start", "end"))
    ends = {group: (maps.places(group, "start"), maps.places(group)) for group in ("own", "random")}
    frame = pd.DataFrame(
        [(copy, group, seed, seed % FOLDS, layer, ends[group][0][seed], ends[group][1][seed])
         for copy in range(copies) for group in ends for seed in range(seeds) for layer in range(len(maps.layers))],
        columns=["task", "arm", "seed", "fold", "layer", "start", "end"],
    )  # fmt: skip
    own = on(frame.arm == "own")
    depth = maps.depth[frame.layer] - maps.depth[maps.early :].mean()
    base = 0.5 + own * (claim.value("least") - claim.value("fall") * depth)
    where, each = tuple(frame[name].to_numpy() for name in ("layer", "start", "end")), frame.task.to_numpy()

    def find(values: Floats) -> list[Finding]:
        found = []
        for copy in range(copies):
            mine = each == copy
            maps.values[tuple(at[mine] for at in where)] = values[mine]
            found.append(judge_reuse(claim, "all", maps, ()))
        return found

    noise = (
        Component(np.arange(len(frame)), 0.04),
        Component(codes(frame, ["task", "arm", "seed"]), 0.06),
        Component(codes(frame, ["task", "fold"]), 0.05),
        Component(codes(frame, ["task", "arm", "fold"]), 0.03),
    )
    runs = codes(frame, ["task", "arm", "seed"], frame.arm == "own")
    return Study(base, np.array([own * depth, own]), copy_of(frame), noise, find, runs, 0.5)


def _pairs(
    claim: Claim, groups: Sequence[str], seeds: int, judge: Callable[..., Finding],
    plant: Callable[[pd.DataFrame], tuple[Floats, Floats]],
) -> Study:  # fmt: skip
    """Similarities of all pairs of runs at the bottleneck: noise of the pair, of its two runs, and of their folds."""
    maps = _maps(groups, seeds, ("enc0",), ("end",))
    runs = maps.checkpoints
    kinds = [name.rstrip("0123456789") for name in runs.run_id]
    pairs = list(itertools.combinations(range(len(runs)), 2))
    a, b = np.array(pairs).T
    frame = pd.DataFrame({"first": [kinds[at] for at in a], "second": [kinds[at] for at in b]})
    base, knobs = plant(frame)
    of_fold = runs.groupby([pd.Series(kinds), "fold"]).ngroup().to_numpy(dtype=np.int64)
    fold, across = runs.fold.to_numpy(), (frame["first"] != frame.second).to_numpy(dtype=np.int64)
    tuned = np.where(np.array(kinds) == "own", np.arange(len(runs)), NONE)
    noise = (
        Component(np.arange(len(pairs)), 0.02),
        Component(np.column_stack([a, b]), 0.02),
        Component(2 * np.column_stack([a, b]) + across[:, None], 0.02),  # how near a run is to its own group, or others
        Component(np.column_stack([of_fold[a], of_fold[b]]), 0.01),
        Component(np.column_stack([fold[a], fold[b]]), 0.01),
    )

    def find(values: Floats) -> list[Finding]:
        maps.values[0, a, b] = maps.values[0, b, a] = values
        return [judge(claim, "all", maps, ())]

    failing, copy = np.column_stack([tuned[a], tuned[b]]), np.zeros(len(pairs), dtype=np.int64)
    return Study(base, knobs, copy, noise, find, failing, 0.3)


def separation(claim: Claim, seeds: int, copies: int) -> Study:
    """K9: pairs of one group are more alike than others, by the line."""

    def plant(frame: pd.DataFrame) -> tuple[Floats, Floats]:
        within = on(frame["first"] == frame.second)
        return 0.6 + claim.value("least") * within, within[None]

    return _pairs(claim, ("own", "random"), seeds, judge_separation, plant)


def variability(claim: Claim, seeds: int, copies: int) -> Study:
    """K10: 1 - similarity within fine-tuned runs over that within random starts. Knobs: own sources, one source.

    The logarithm of the ratio is planted, so a knob's turn by t multiplies the spread by 1 + t, for small t e^t.
    """
    spread, line = 0.3, 1 / claim.value("ratio")

    def plant(frame: pd.DataFrame) -> tuple[Floats, Floats]:
        same = frame["first"] == frame.second
        own, shared = (on(same & (frame["first"] == group)) for group in ("own", "shared"))
        near = on((frame["first"] != "random") & ~same)  # the shared run stands in for the first run of its group
        tuned = own + shared + near
        base = 1 - spread * (1 - tuned + tuned * line)
        return base, np.array([-own * spread * line, -(shared + near) * spread * line])

    return _pairs(claim, ("own", "shared", "random"), seeds, judge_spread, plant)


SCENES = (
    Scene("K4", (0.03, 0.03), "three hundredths of a cosine: 26 degrees become 21", cosine),
    Scene("K5", (0.05, 0.05), "an AUC of .55 instead of .60: half way to a guess", classifier),
    Scene("L7", (0.1, 0.1), "a tenth of the squared change", linear),
    Scene("K8", (0.1, 0.05), "as far beyond the lines as those lie from 0", reuse, copies=5),
    Scene("K9", (0.03,), "beyond the line by a little more than the line", separation, fewest=5, copies=1),
    Scene("K10", (math.log(1.25),) * 2, "equal spreads, from 1 / 1.25", variability, 5, one_is_enough=True, copies=1),
)  # fmt: skip
