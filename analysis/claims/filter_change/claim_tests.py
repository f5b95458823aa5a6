"""Tests of the claims about filters: how far they move and whether they look random (Karimi et al., K4 and K5), and
whether a scale and a shift per kernel say how they moved (Bi et al., L7). They read the checkpoints of the runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.filter_change.tables import median_cosine
from analysis.claims.per_run_test import BOTH, PerRunRule, per_task
from analysis.claims.verdicts import TESTS, Claim, ClaimTest, Runs
from analysis.filters.change import filter_change_of_run
from analysis.tables.results import finished_rows
from lib.runs.run import Run


def median_angle(run: Run) -> float:
    """The same as an angle in degrees."""
    return float(np.degrees(np.arccos(np.clip(median_cosine(run), -1, 1))))


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


def change_little(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:  # fmt: skip
    """Per task: the median filter's cosine between start and end, for both starts; the lower one decides (K4).

    `supported`: both intervals lie above the threshold. `contradicted`: one lies below. The note sets beside it the
    angle of training on shuffled labels, where the suite has such runs.
    """

    def beside(task: str) -> str:
        rows = finished_rows(frame)
        rows = rows[(rows.task == task) & (rows.strategy == "shuffled_labels") & (rows.status == "done")]
        angles = [median_angle(runs[name]) for name in rows.run_id if name in runs]
        return f"shuffled labels: {np.mean(angles):.0f} degrees" if angles else "no run with shuffled labels"

    rule = PerRunRule(median_cosine, claim.value("cosine"), True, "{:.3f}")
    return per_task(claim, frame, runs, BOTH, rule, beside)


def linear_transformation(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:  # fmt: skip
    """Per task: the share of what full fine-tuning changed that a scale and a shift per kernel explain (L7).

    `supported`: its interval lies above the threshold. `contradicted`: below. The note says what chance and another
    kernel's start explain, and R^2 of the weights themselves.
    """
    seen: dict[str, dict[str, float]] = {}

    def share(run: Run) -> float:
        seen[run.path.name] = affine_shares(run)
        return seen[run.path.name]["affine_share"]

    def beside(task: str) -> str:
        means = pd.DataFrame([seen[name] for name in frame.run_id[frame.task == task] if name in seen]).mean()
        if not len(means):
            return ""
        return (
            f"explained by chance {means.chance:.2f}, by another kernel's start {means.permuted:.2f}; R^2 of the "
            f"weights: {means.identity_r2:.3f} by the start as it was, {means.affine_r2:.3f} with scale and shift"
        )

    rule = PerRunRule(share, claim.value("share"), True, "{:.2f}")
    return per_task(claim, frame, runs, ("full_finetuning",), rule, beside)


TESTS.add("change_little", ClaimTest(change_little, ("cosine",), compares=False))
TESTS.add("linear_transformation", ClaimTest(linear_transformation, ("share",), compares=False, goal=None))
