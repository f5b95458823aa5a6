"""Planted for claims about linear fine-tuning of reconstructors: L1 to L6."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.error_rates.scene import Scene
from analysis.claims.error_rates.study import (
    Floats,
    Study,
    by_table,
    copy_of,
    names,
    on,
    rows,
    run_noise,
    runs_of,
)
from analysis.claims.linear_finetuning.tables import FULL, LINEAR
from analysis.claims.verdicts import TESTS, Claim, Finding
from analysis.tables.run_row import IDENTITY

PSNR = {"run": 0.3, "fold": 0.8, "arm": 0.15}  # dB
FAILED = 10.0
SAME: dict[str, Any] = {"goal": "reconstruction", "modality": "MRI"}
ARMS = [{"strategy": arm, "source": "other"} for arm in (LINEAR, FULL)]
VOLUMES = (2, 5, 10)


def _tasks(copies: int) -> list[str]:
    return [f"{name}@4" for name in names(copies)]


def _study(claim: Claim, frame: pd.DataFrame, find: Any, base: Floats | float, *knobs: Floats, **more: Any) -> Study:
    noise = {**PSNR, **more.pop("noise", {})}
    return Study(
        np.zeros(len(frame)) + base, np.array(knobs), copy_of(frame, together=more.get("together", False)),
        run_noise(frame, **noise), find, runs_of(frame, frame.arm == LINEAR), more.get("drop", FAILED),
    )  # fmt: skip


def contrast(claim: Claim, seeds: int, copies: int) -> Study:
    """L1: three rivals, all as good."""
    rivals = [{"strategy": "decoder_only", "source": "other"}, {"strategy": "scratch"}]
    frame = rows(_tasks(copies), [*ARMS, *rivals], seeds, **SAME)
    frame["scenario"] = np.where(frame.source == "", "", "contrast")
    beaten = [on(frame.arm == arm, -1) for arm in (FULL, "decoder_only", "scratch")]
    return _study(claim, frame, by_table(claim, frame, "psnr"), 32.0, *beaten)


def artifacts(claim: Claim, seeds: int, copies: int) -> Study:
    """L2: log errors, a ratio at its line."""
    frame = rows(_tasks(copies), ARMS, seeds, scenario="contrast", **SAME)
    linear, inner = on(frame.arm == LINEAR), by_table(claim, frame, "artifacts")
    noise = {"run": 0.05, "fold": 0.1, "arm": 0.03}
    base = math.log(claim.value("ratio")) * linear
    find = lambda values: inner(np.exp(values))  # noqa: E731
    return _study(claim, frame, find, base, -linear, noise=noise, drop=-1.0)


def few_volumes(claim: Claim, seeds: int, copies: int) -> Study:
    """L3: no lead at any of three numbers of volumes. Knobs: the slope, the lead with the fewest."""
    frame = rows(_tasks(copies), ARMS, seeds, VOLUMES, scenario="direction", **SAME)
    linear = on(frame.arm == LINEAR)
    doublings = np.log2(frame.volume.to_numpy(dtype=np.float64) / VOLUMES[0])
    return _study(claim, frame, by_table(claim, frame, "psnr"), 32.0, -linear * doublings, linear)


def largest(claim: Claim, seeds: int, copies: int) -> Study:
    """L4: six cells, each with the lead that the abstract names. Knobs: one cell, the others."""
    frame = rows(_tasks(2), ARMS, seeds, VOLUMES, scenario="contrast", **SAME)
    linear = on(frame.arm == LINEAR)
    one = on((frame.task == frame.task.iloc[0]) & (frame.volume == VOLUMES[0]))
    base = 32.0 + claim.value("gain") * linear
    return _study(claim, frame, by_table(claim, frame, "psnr"), base, linear * one, linear * (1 - one), together=True)


def overfitting(claim: Claim, seeds: int, copies: int) -> Study:
    """L5: the gap between training and validation grows as much in both arms."""
    frame = rows(_tasks(copies), ARMS, seeds, (5,), scenario="contrast", **SAME)
    steps = np.array([0.0, 200.0, 400.0])
    at = np.repeat(np.arange(len(frame)), len(steps))
    curves = frame[[*IDENTITY, "status"]].iloc[at].reset_index(drop=True)
    curves = curves.assign(step=np.tile(steps, len(frame)), val_psnr=32.0)
    test = TESTS[claim.test]

    def find(values: Floats) -> list[Finding]:
        curves["train_psnr"] = 32.0 + (values[:, None] * [0.0, 1.0, 1.0]).ravel()
        return test.run(claim, frame, curves, {})

    return _study(claim, frame, find, 2.0, on(frame.arm == LINEAR, -1), drop=-FAILED)


def forgetting(claim: Claim, seeds: int, copies: int) -> Study:
    """L6: both arms reconstruct the source alike."""
    frame = rows(_tasks(copies), ARMS, seeds, scenario="contrast", **SAME)
    return _study(claim, frame, by_table(claim, frame, "source_after"), 32.0, on(frame.arm == LINEAR))


HALF = "half a decibel: differences between published methods are mostly larger"
SCENES = (
    Scene("L1", (0.5, 0.5, 0.5), HALF, contrast),
    Scene("L2", (math.log(1 / 0.9),), "another tenth less, as the line itself", artifacts),
    Scene("L3", (0.25, 0.5), f"{HALF}; lost over two doublings", few_volumes),
    Scene("L4", (0.5, 0.5), HALF, largest, one_is_enough=True, copies=1),
    Scene("L5", (0.5,), HALF, overfitting),
    Scene("L6", (0.5,), HALF, forgetting),
)
