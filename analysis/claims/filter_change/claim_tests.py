"""Tests of the claims about filters: how far they move and whether they look random (Karimi et al., K4 and K5), and
whether a scale and a shift per kernel say how they moved (Bi et al., L7). They read the checkpoints of the runs."""

from __future__ import annotations

import functools
import math

import numpy as np
import pandas as pd

from analysis.claims.filter_change.tables import median_cosine
from analysis.claims.per_run_test import BOTH, Measure, once_per_run, per_task
from analysis.claims.verdicts import TESTS, Claim, ClaimTest, Finding, Runs
from analysis.filters.change import filter_change_of_run
from analysis.tables.results import finished_rows
from lib.runs.run import Run


def median_angle(run: Run) -> float:
    """The same as an angle in degrees."""
    return float(np.degrees(np.arccos(np.clip(median_cosine(run), -1, 1))))


@once_per_run
def affine_shares(run: Run) -> dict[str, float]:
    """What a scale and a shift per kernel explain in a run, over its convolutions, weighted by filters.

    Layers that upsample are left out: of four taps, a scale and a shift explain half of any change.

    Returns:
        affine_share of the squared change, the same by another kernel's start (`permuted`) and by chance (`chance`),
        and R^2 of the final weights by the start as it was (`identity_r2`) and with scale and shift (`affine_r2`).
    """
    table = filter_change_of_run(run)
    table = table[(table.kind == "convolution") & table.affine_share.notna()]
    if not len(table):
        return dict.fromkeys(("affine_share", "permuted", "chance", "identity_r2", "affine_r2"), math.nan)
    weights = table.filters
    named = {"affine_share": "affine_share", "permuted": "affine_share_permuted", "chance": "affine_share_chance"}
    named |= {"identity_r2": "identity_r2", "affine_r2": "affine_r2"}
    return {name: float(np.average(table[column], weights=weights)) for name, column in named.items()}


def change_little(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per task: the median filter's cosine between start and end, above the threshold for both starts (K4).

    The note sets beside it the angle of training on shuffled labels, where the suite has such runs.
    """

    def beside(task: str) -> str:
        rows = finished_rows(frame, every_rate=True)
        rows = rows[(rows.task == task) & (rows.strategy == "shuffled_labels") & (rows.status == "done")]
        angles = [median_angle(runs[name]) for name in rows.run_id if name in runs]
        return f"shuffled labels: {np.mean(angles):.0f} degrees" if angles else "no run with shuffled labels"

    measure = Measure("", median_cosine, claim.value("cosine"), True, "cosine")
    return per_task(claim, frame, runs, BOTH, [measure], beside)


def linear_transformation(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per task: the share of what full fine-tuning changed that a scale and a shift per kernel explain (L7).

    It must lie above the threshold, and so must what the kernel's own start explains of what another kernel's start
    leaves: a shift alone needs no start, and can explain more than half by itself. The note says what chance and
    another kernel's start explain, and R^2 of the weights themselves.
    """
    seen: set[str] = set()

    def explained(run: Run) -> float:
        seen.add(run.path.name)
        return affine_shares(run)["affine_share"]

    def own_start(run: Run) -> float:
        found = affine_shares(run)
        return (found["affine_share"] - found["permuted"]) / (1 - found["permuted"])

    def beside(task: str) -> str:
        means = pd.DataFrame(
            [affine_shares(runs[name]) for name in frame.run_id[frame.task == task] if name in seen]
        ).mean()
        return (
            f"explained by chance {means.chance:.2f}, by another kernel's start {means.permuted:.2f}; R^2 of the "
            f"weights: {means.identity_r2:.3f} by the start as it was, {means.affine_r2:.3f} with scale and shift"
        )

    line = claim.value("share")
    measures = (
        Measure("explained", explained, line, True, "share"),
        Measure("explained beyond another kernel's start", own_start, line, True, "share of the rest"),
    )
    return per_task(claim, frame, runs, ("full_finetuning",), measures, beside)


_test = functools.partial(ClaimTest, compares=False, every_rate=True)
TESTS.add("change_little", _test(change_little, ("cosine",), strategies=BOTH))
_full = _test(linear_transformation, ("share",), goal=None, strategies=("full_finetuning",))
TESTS.add("linear_transformation", _full)
