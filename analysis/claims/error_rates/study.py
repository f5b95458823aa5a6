"""A study with planted truth: one table, built once, whose outcomes are drawn again and again.

An outcome is what its arm is planted to reach, plus noise with the components that real runs have: of the run, of the
test fold (shared by all seeds that are tested on it) and of the arm on that fold. The real tests of the claims read it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.claims.verdicts import TESTS, Claim, Finding
from analysis.tables.run_row import EVALUATION, IDENTITY, OUTCOMES, SETTINGS

FOLDS = 5
ALL = 240  # training images of a task
NONE = -1  # the code of a row that a component of the noise does not touch
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Component:
    """A part of the noise: rows of one code share a draw. codes: (rows,), or (rows, k) where k draws are added."""

    codes: Codes
    sd: float

    def draw(self, rng: np.random.Generator) -> Floats:
        drawn = rng.normal(0.0, self.sd, int(self.codes.max()) + 1)
        values = np.append(drawn, 0.0)[self.codes]
        return values if values.ndim == 1 else values.sum(axis=1)


@dataclass(frozen=True)
class Study:
    """What can be drawn of one scene at one number of seeds.

    Args:
        base: (rows,), the outcomes with every part on its line. knobs: (knobs, rows), what an outcome gains where a
            knob is turned by 1 towards the claim. copy: (rows,), which finding a row belongs to. noise: its components.
        find: outcomes to findings, one per copy, in their order, by the real test.
        failing: (rows,) or (rows, k), codes of the runs that can fail; drop: what an outcome loses with a failed run.
        spread: codes that share a draw of this claim's own spread, which lies `line` + the first knob.
        truth: of the parts, from the turns of the knobs; None: what the test finds without noise.
    """

    base: Floats
    knobs: Floats
    copy: Codes
    noise: tuple[Component, ...]
    find: Callable[[Floats], list[Finding]]
    failing: Codes
    drop: float
    spread: tuple[Codes, float] | None = None
    truth: Callable[[Floats], list[float] | None] | None = None
    copies: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "copies", int(self.copy.max()) + 1)

    def planted(self, turns: ArrayLike) -> Floats:
        """Outcomes without noise; turns: (knobs,), or (knobs, copies) where each copy has its own."""
        turned = np.asarray(turns, dtype=np.float64)
        each = turned[:, self.copy] if turned.ndim == 2 else turned[:, None]
        return self.base + (self.knobs * each).sum(axis=0)

    def draw(self, rng: np.random.Generator, turns: ArrayLike, fails: float = 0.0) -> list[Finding]:
        """The findings of new studies. fails: chance of a run to fail; the mean outcome is as without."""
        values = self.planted(turns)
        for component in self.noise:
            values = values + component.draw(rng)
        if self.spread is not None:
            codes, line = self.spread
            values = values + Component(codes, max(0.0, line + float(np.asarray(turns)[0]))).draw(rng)
        if fails:
            failed = np.append(rng.random(int(self.failing.max()) + 1) < fails, [False])[self.failing]
            chances = np.where(self.failing == NONE, 0.0, fails)
            if failed.ndim == 2:
                failed, chances = failed.any(axis=1), 1 - np.prod(1 - chances, axis=1)
            values = values + self.drop * (chances - failed)
        return self.find(values)


def rows(
    tasks: Sequence[str], arms: Sequence[dict[str, Any]], seeds: int, volumes: Sequence[int | None] = (None,),
    **same: Any,
) -> pd.DataFrame:  # fmt: skip
    """A results table: every task, volume, arm (its columns) and seed; outcomes are missing."""
    found = []
    for task, volume, arm, seed in itertools.product(tasks, volumes, arms, range(seeds)):
        found.append(
            {
                "task": task, "title": task, "kind": "real", "modality": "ultrasound", "goal": "segmentation",
                "options": "{}", "source": "", "scenario": "", "volume": ALL if volume is None else volume,
                "volume_label": "all" if volume is None else str(volume), "seed": seed, "fold": seed % FOLDS,
                "lr": 1e-3, "budget": 400, "batch": 16, "model": "unet", "stages": 10, "encoder_stages": 5, "levels": 5,
                "status": "done", "groups_known": True,
                "trainable": 1000, "arm": arm["strategy"], **arm, **same,
            }
        )  # fmt: skip
    frame = pd.DataFrame(found).reindex(columns=[*IDENTITY, *SETTINGS, *OUTCOMES])
    frame["run_id"] = [f"run{at}" for at in range(len(frame))]
    frame = frame.astype(dict.fromkeys(("volume", "seed", "fold", "budget", "batch", "stages"), "int64"))
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    return frame.astype(dict.fromkeys(texts, "object")).copy()  # texts together in one block: several times faster


def codes(frame: pd.DataFrame, keys: Sequence[str], where: ArrayLike | None = None) -> Codes:
    """One number per group of rows; `NONE` for rows that `where` leaves out."""
    found = frame.groupby(list(keys), sort=False).ngroup().to_numpy(dtype=np.int64)
    return found if where is None else np.where(np.asarray(where, dtype=bool), found, NONE)


def run_noise(frame: pd.DataFrame, *, run: float, fold: float, arm: float) -> tuple[Component, ...]:
    """Noise of runs with these standard deviations: of a run, of a test fold, and of an arm on a fold."""
    alike = ["task", "fold"]
    return (
        Component(np.arange(len(frame)), run),
        Component(codes(frame, alike), fold),
        Component(codes(frame, [*alike, "arm", "options"]), arm),
    )


def on(where: pd.Series, by: float = 1.0) -> Floats:
    """A knob that moves these rows."""
    return where.to_numpy(dtype=np.float64) * by


def by_table(
    claim: Claim, frame: pd.DataFrame, column: str, evaluations: pd.DataFrame | None = None
) -> Callable[[Floats], list[Finding]]:
    """The real test of a claim on a table whose column of outcomes is overwritten."""
    curves = pd.DataFrame(columns=[*IDENTITY, *EVALUATION]) if evaluations is None else evaluations

    def find(values: Floats) -> list[Finding]:
        frame[column] = values
        return TESTS[claim.test].run(claim, frame, curves, {})

    return find


def names(count: int, stem: str = "task") -> list[str]:
    return [f"{stem}{at:03}" for at in range(count)]


def copy_of(frame: pd.DataFrame, *, together: bool = False) -> Codes:
    """Which finding a row belongs to: its task's, or all to one."""
    return np.zeros(len(frame), dtype=np.int64) if together else codes(frame, ["task"])


def runs_of(frame: pd.DataFrame, where: ArrayLike) -> Codes:
    """A code for every run of these rows."""
    return np.where(np.asarray(where, dtype=bool), np.arange(len(frame)), NONE)
