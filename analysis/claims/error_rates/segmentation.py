"""Planted for claims about what transfer is worth and frozen encoders: K1 to K3, K6, K7."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.claims.error_rates.scene import Scene
from analysis.claims.error_rates.study import (
    FOLDS,
    NONE,
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
from analysis.claims.random_filters.frozen_encoder import FROZEN, IMAGE, NO_SKIPS, NO_SKIPS_TRAINED
from analysis.claims.verdicts import TESTS, Claim, Finding
from analysis.tables.run_row import IDENTITY

DICE = {"run": 0.02, "fold": 0.03, "arm": 0.01}  # standard deviations, as runs of the small networks have them
FAILED = 0.8  # Dice that a failed run loses
SCRATCH = {"strategy": "scratch"}
FULL = {"strategy": "full_finetuning", "source": "other"}
STEPS = np.unique(np.geomspace(4, 400, 24).astype(np.int64))
POINTS = np.concatenate([[0], STEPS]).astype(np.float64)


def frozen(claim: Claim, seeds: int, copies: int) -> Study:
    """K6: both networks trained as a whole lie a margin above the frozen encoder."""
    frame = rows(names(copies), [SCRATCH, FULL, {"strategy": FROZEN}], seeds)
    whole = [frame.arm == arm for arm in ("scratch", "full_finetuning")]
    base = 0.8 + np.sum([on(each, claim.value("margin")) for each in whole], axis=0)
    noise, failing = run_noise(frame, **DICE), runs_of(frame, frame.arm == FROZEN)
    knobs = np.array([on(each, -1) for each in whole])
    return Study(base, knobs, copy_of(frame), noise, by_table(claim, frame, "dice"), failing, FAILED)


def not_needed(claim: Claim, seeds: int, copies: int) -> Study:
    """K7: encoders gain a margin by training, with skips and without; the image alone is as good as a random one."""
    arms = ("scratch", FROZEN, NO_SKIPS_TRAINED, NO_SKIPS, IMAGE)
    frame = rows(names(copies), [{"strategy": arm.split(" ")[0], "arm": arm} for arm in arms], seeds)
    trained = [frame.arm == arm for arm in ("scratch", NO_SKIPS_TRAINED)]
    base = 0.8 + np.sum([on(each, claim.value("margin")) for each in trained], axis=0)
    knobs = np.array([on(each, -1) for each in (*trained, frame.arm == IMAGE)])
    noise, failing = run_noise(frame, **DICE), runs_of(frame, frame.arm == FROZEN)
    return Study(base, knobs, copy_of(frame), noise, by_table(claim, frame, "dice"), failing, FAILED)


def pairs(claim: Claim, seeds: int, copies: int) -> Study:
    """K2: the gains of four pairs, each the mean over two volumes, with a spread between pairs."""
    volumes, (run, arm) = (20, None), (DICE["run"], DICE["arm"])
    frame = rows(names(4), [SCRATCH, FULL], seeds, volumes)
    noise = (
        Component(np.arange(len(frame)), run),
        *run_noise(frame, run=0.0, fold=DICE["fold"], arm=arm)[1:],
    )
    folds = min(seeds, FOLDS)
    variance = 2 * (arm**2 + run**2 / len(volumes) / (seeds / folds))  # of the mean gain of a fold
    line = max(claim.value("spread"), math.sqrt(variance / folds * claim.value("i2") / (1 - claim.value("i2"))))

    def truth(turns: Floats) -> list[float]:
        tau = max(0.0, line + turns[0])
        return [1 - 1 / (1 + folds * tau**2 / variance), tau]

    full = frame.arm == "full_finetuning"
    find, failing = by_table(claim, frame, "dice"), runs_of(frame, full)
    still = np.zeros((1, len(frame)))
    spread = (codes(frame, ["task"], full), line)
    return Study(
        np.full(len(frame), 0.8), still, copy_of(frame, together=True), noise, find, failing, FAILED, spread, truth
    )


def hard_and_small(claim: Claim, seeds: int, copies: int) -> Study:
    """K3: two hard and two easy tasks at three volumes; every gain lies at the line, and does not fall.

    Knobs: the cells inside, those outside but one, and that one.
    """
    tasks = {"easy0": 0.9, "easy1": 0.88, "hard0": 0.65, "hard1": 0.6}
    frame = rows(list(tasks), [SCRATCH, FULL], seeds, (20, 60, None))
    full = frame.arm == "full_finetuning"
    inside = frame.task.str.startswith("hard") & (frame.volume_label == "20")
    last = (frame.task == "easy0") & (frame.volume_label == "20")
    knobs = np.array([on(full & inside), on(full & ~inside & ~last, -1), on(full & last, -1)])
    base = frame.task.map(tasks).to_numpy(dtype=np.float64) + on(full, claim.value("large_gain"))
    # The noise of a pair lies on its fine-tuned run: that of scratch would move the difficulty of tasks as well.
    noise = (
        Component(codes(frame, ["run_id"], full), math.sqrt(2) * DICE["run"]),
        Component(codes(frame, ["task", "fold"], full), math.sqrt(2) * DICE["arm"]),
    )
    find = by_table(claim, frame, "dice")
    return Study(base, knobs, copy_of(frame, together=True), noise, find, runs_of(frame, full), FAILED)


def curves_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The evaluations of every run of a table at `POINTS`, with no scores yet."""
    at = np.repeat(np.arange(len(frame)), len(POINTS))
    curves = frame[[*IDENTITY, "status"]].iloc[at].reset_index(drop=True)
    return curves.assign(step=np.tile(POINTS, len(frame)), seconds=np.tile(POINTS, len(frame)) / 10)


def speeds(claim: Claim, frame: pd.DataFrame, first: pd.Series) -> Study:
    """Climbs 1 - exp(-step / time) to a plateau; the arm `first` has the time constant that the knob shortens.

    Times are log-normal, so that ratios are skewed. A failed run stays at the start. Outcomes are three blocks of
    rows: log times, plateaus, and whether a run failed.
    """
    count, curves, test = len(frame), curves_of(frame), TESTS[claim.test]

    def find(values: Floats) -> list[Finding]:
        times, plateaus, failed = values.reshape(3, count)
        climb = plateaus[:, None] * (1 - np.exp(-POINTS / np.exp(times)[:, None]))
        curves["val_dice"] = np.where(failed[:, None] < -0.5, 0.03, climb).ravel()
        return test.run(claim, frame, curves, {})

    def block(at: int, values: Floats) -> Floats:
        found = np.zeros((3, count))
        found[at] = values
        return found.ravel()

    def moved(component: Component, at: int) -> Component:
        found = np.full((3, count), NONE)
        found[at] = component.codes
        return Component(found.ravel(), component.sd)

    noise = [moved(each, 0) for each in run_noise(frame, run=0.15, fold=0.1, arm=0.05)]
    noise += [moved(each, 1) for each in run_noise(frame, run=0.02, fold=0.03, arm=0.01)]
    base = block(0, np.full(count, math.log(40.0))) + block(1, np.full(count, 0.8))
    failing = np.full((3, count), NONE)
    failing[2] = runs_of(frame, first)
    knob, copy = block(0, on(first, -1))[None], np.tile(copy_of(frame), 3)
    return Study(base, knob, copy, tuple(noise), find, failing.ravel(), 1.0)


def sooner(claim: Claim, seeds: int, copies: int) -> Study:
    """K1: the fine-tuned run takes as long as the one from scratch."""
    frame = rows(names(copies), [SCRATCH, FULL], seeds).assign(dice=0.8)
    return speeds(claim, frame, frame.arm == "full_finetuning")


TENTH, DICE_POINTS = "a fifth of the steps: less would not change how anybody trains", "three Dice points, as in K3"
SCENES = (
    Scene("K1", (math.log(1 / 0.8),), TENTH, sooner),
    Scene("K2", (0.03,), "three Dice points of spread beyond what the lines ask, as in A1", pairs, copies=1),
    Scene("K3", (0.03, 0.03, 0.03), DICE_POINTS, hard_and_small, copies=1),
    Scene("K6", (0.03, 0.03), DICE_POINTS, frozen),
    Scene("K7", (0.03, 0.03, 0.03), DICE_POINTS, not_needed),
)
