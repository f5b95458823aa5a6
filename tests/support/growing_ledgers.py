"""Ledgers with planted truth that grow look by look, or have fixed seeds: what both cost, and how often they err."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.ledger.decide import decide
from analysis.claims.ledger.growth import row_state
from analysis.claims.means import mean
from analysis.claims.verdicts import Claim, Finding

ALPHA, FOLDS = 0.05, 5
ROWS, ARMS = 43, 5  # rows of a ledger; arms of a task, of which one is what the others are set against
TRUE, EFFECT = 0.6, 1.5  # share of rows with an effect, and its standard deviation in those of a seed's difference
DOF = 2.5  # of the inverse chi-square law of the variances of tasks
RATE = 0.5  # spread of an arm with its choice of a learning rate, in standard deviations of a seed
FOLD = 0.5  # share of a seed's variance that an arm has in common on a fold
CLAIM = Claim("X", "a paper", "a statement", "a_test", "Dice", "10_claims", "none", {})
TASKS = math.ceil(ROWS / (ARMS - 1))
ROW_TASK, ROW_ARM = np.divmod(np.arange(ROWS), ARMS - 1)


class Truth:
    """Effects of rows and standard deviations of tasks; share: of the rows that have an effect."""

    def __init__(self, rng: np.random.Generator, share: float = TRUE) -> None:
        self.sd = np.sqrt(DOF / rng.chisquare(DOF, TASKS))[ROW_TASK]
        self.effects = rng.normal(0, EFFECT, ROWS) * self.sd * math.sqrt(2) * (rng.random(ROWS) < share)


class Runs:
    """Outcomes of all runs that a study could do: seeds x tasks x arms; a seed is tested on fold seed modulo 5."""

    def __init__(self, truth: Truth, rng: np.random.Generator, seeds: int) -> None:
        shape = (seeds, TASKS, ARMS)
        self.fold = np.arange(seeds) % FOLDS
        noise = rng.normal(0, math.sqrt(1 - FOLD), shape) + rng.normal(0, RATE, shape)
        noise = noise + rng.normal(0, math.sqrt(FOLD), (FOLDS, TASKS, ARMS))[self.fold]
        self.truth = truth
        self.differences = (noise[:, :, 1:] - noise[:, :, :1])[:, ROW_TASK, ROW_ARM] * truth.sd + truth.effects

    def findings(self, counts: np.ndarray) -> list[Finding]:
        """One per row, from the seeds that both of its arms have; counts: tasks x arms."""
        have = np.minimum(counts[ROW_TASK, 1 + ROW_ARM], counts[ROW_TASK, 0])
        found = []
        for row, count in enumerate(have):
            index = pd.MultiIndex.from_arrays([np.arange(count), self.fold[:count]], names=["seed", "fold"])
            values = pd.Series(self.differences[:count, row], index)
            found.append(Finding(CLAIM, str(row), "", mean("", values, 0.0, above=True, unit="Dice"), int(count)))
        return found


def fixed(runs: Runs, seeds: int) -> tuple[list[dict[str, Any]], float]:
    """The ledger of a study with so many seeds, and seeds a cell."""
    return decide(runs.findings(np.full((TASKS, ARMS), seeds)), ALPHA), float(seeds)


def until(runs: Runs, looks: Sequence[int], replication: float = 0.9) -> tuple[list[dict[str, Any]], float]:
    """The last ledger of a study that grows where rows are open, and seeds a cell on average."""
    counts = np.full((TASKS, ARMS), looks[0])
    for at in [*looks[1:], None]:
        rows = decide(runs.findings(counts), ALPHA, looks=tuple(looks), ahead=(looks[-1], FOLDS))
        still = [row for row, each in enumerate(rows) if row_state(each, replication) == "open"]
        if at is None or not still:
            break
        for arm in (1 + ROW_ARM[still], 0):
            counts[ROW_TASK[still], arm] = at
    return rows, float(counts.mean())


def signs(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """1 for supported, -1 for contradicted, else 0."""
    return np.array([{"supported": 1, "contradicted": -1}.get(row["verdict"], 0) for row in rows])


def errors(words: np.ndarray, truth: Truth) -> int:
    """Decided rows that have no effect, or one on the other side."""
    return int(((words != 0) & (words != np.sign(truth.effects))).sum())
