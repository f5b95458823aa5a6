"""Tests of the claims about filters: how far they move and whether they look random (Karimi et al., K4 and K5), and
whether a scale and a shift per kernel say how they moved (Bi et al., L7). They read the checkpoints of the runs."""

# pandas types every selection as "a table or a series", which no annotation can mend.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportReturnType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import filters, randomness, stats
from analysis.outcomes import finished
from analysis.verdicts import (
    CONDITIONS,
    TESTS,
    Claim,
    ClaimTest,
    Runs,
    balanced,
    by_replicate,
    diverged,
    kinds,
    sentence,
    side_of,
    targets,
    verdict,
)  # fmt: skip
from lib.runs import Run

SPATIAL = ("convolution", "transposed")  # pointwise layers have no kernels, and are left out
BOTH = ("scratch", "full_finetuning")


def median_cosine(run: Run) -> float:
    """Median over the filters with kernels of the cosine between the start and the end of a run."""
    table = filters.of_run(run, by="filter")
    return float(table[table.kind.isin(SPATIAL)].cosine.median())


def median_angle(run: Run) -> float:
    """The same as an angle in degrees."""
    return float(np.degrees(np.arccos(np.clip(median_cosine(run), -1, 1))))


def classifier_auc(run: Run, step: int | None = None) -> float:
    """Mean over the filters with kernels of their layer's AUC against fresh filters; at the last checkpoint or `step`.

    0.5 is a guess. Layers with fewer than five filters have none and are left out.
    """
    table = randomness.battery(run.weights(step), names=["classifier"], draws=19)
    table = table[table.kind.isin(SPATIAL) & table.statistic.notna()]
    return float(np.average(table.statistic, weights=table.filters)) if len(table) else math.nan


def affine_shares(run: Run) -> dict[str, float]:
    """What a scale and a shift per kernel explain in a run, over its convolutions, weighted by filters.

    Layers that upsample are left out: of four taps, a scale and a shift explain half of any change.

    Returns:
        affine_share of the squared change, the same by another kernel's start (`permuted`) and by chance (`chance`),
        and R^2 of the final weights by the start as it was (`identity_r2`) and with scale and shift (`affine_r2`).
    """
    table = filters.of_run(run)
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
        rows = finished(frame)
        rows = rows[(rows.task == task) & (rows.strategy == "shuffled_labels") & (rows.status == "done")]
        angles = [median_angle(runs[name]) for name in rows.run_id if name in runs]
        return f"shuffled labels: {np.mean(angles):.0f} degrees" if angles else "no run with shuffled labels"

    rule = _Rule(median_cosine, claim.value("cosine"), True, "{:.3f}")
    return _per_task(claim, frame, runs, BOTH, rule, beside)


def look_random(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[dict[str, Any]]:
    """Per task: how well a classifier tells trained filters from fresh ones, for both starts; the higher decides (K5).

    `supported`: both intervals lie below the threshold. `contradicted`: one lies above. The note says what the same
    classifier makes of the random start of `scratch`, which must be near 0.5.
    """

    def beside(task: str) -> str:
        rows = finished(frame)
        rows = rows[(rows.task == task) & (rows.arm == "scratch")]
        starts = [classifier_auc(runs[name], 0) for name in rows.run_id if name in runs]
        return f"random start: {np.nanmean(starts):.2f}" if starts and np.isfinite(starts).any() else ""

    return _per_task(claim, frame, runs, BOTH, _Rule(classifier_auc, claim.value("auc"), False, "{:.2f}"), beside)


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

    rule = _Rule(share, claim.value("share"), True, "{:.2f}")
    return _per_task(claim, frame, runs, ("full_finetuning",), rule, beside)


class _Rule:
    """What is measured of a run, and on which side of which threshold the claim holds."""

    def __init__(self, measure: Callable[[Run], float], threshold: float, above: bool, form: str) -> None:
        self.measure, self.threshold, self.above, self.form = measure, threshold, above, form

    def word(self, interval: stats.Interval) -> str:
        low, high = ("contradicted", "supported") if self.above else ("supported", "contradicted")
        return side_of(interval, self.threshold, low=low, high=high)


def _per_task(
    claim: Claim,
    frame: pd.DataFrame,
    runs: Runs,
    arms: Sequence[str],
    rule: _Rule,
    beside: Callable[[str], str],
) -> list[dict[str, Any]]:
    """One row per task: every arm is measured, and the one that speaks most against the claim decides."""
    ended = finished(frame)
    found = []
    for task in targets(frame):
        rows = ended[(ended.task == task) & ended.arm.isin(arms)]
        found.append(_on_task(claim, task, rows, runs, arms, rule, beside))
    return found or [verdict(claim, "all", "not tested", "No finished run")]


def _on_task(
    claim: Claim, task: str, rows: pd.DataFrame, runs: Runs, arms: Sequence[str], rule: _Rule,
    beside: Callable[[str], str],
) -> dict[str, Any]:  # fmt: skip
    least = int(claim.value("min_seeds"))
    done = rows[(rows.status == "done") & rows.run_id.isin(list(runs))]
    done = done.assign(value=[rule.measure(runs[name]) for name in done.run_id])
    done = done[done.value.notna()]
    tested, lacking, left_out = {}, [], []
    for arm in arms:
        wide, words = balanced(by_replicate(done[done.arm == arm], "value", CONDITIONS), least)
        if len(wide) < least:
            lacking.append(f"{len(wide)} seeds of {arm}, {least} needed")
        else:
            tested[arm] = wide.mean(axis=1).to_numpy()
            left_out.append(words and f"{arm}: {words}")
    common = (*lacking, *left_out, diverged(rows, tuple(arms)), kinds(rows) if len(rows) else "")
    if not tested:
        return verdict(claim, task, "not tested", sentence(*common))
    intervals = {arm: stats.mean_interval(values) for arm, values in tested.items()}
    words = [rule.word(interval) for interval in intervals.values()]
    word = "inconclusive"
    if "contradicted" in words:
        word = "contradicted"
    elif not lacking and set(words) == {"supported"}:
        word = "supported"
    decides = (min if rule.above else max)(intervals, key=lambda arm: intervals[arm].estimate)
    others = [
        f"{arm}: {' to '.join(rule.form.format(bound) for bound in interval[1:3])}, mean "
        f"{rule.form.format(interval.estimate)}"
        for arm, interval in intervals.items()
        if arm != decides
    ]
    volumes = ", ".join(dict.fromkeys(map(str, done.volume_label)))
    note = sentence(f"{intervals[decides].method}, {decides}; volumes {volumes}", *others, beside(task), *common)
    return verdict(
        claim, task, word, note, interval=intervals[decides], seeds=len(tested[decides]),
        detectable=stats.detectable(tested[decides]),
    )  # fmt: skip


TESTS.add("change_little", ClaimTest(change_little, ("cosine",), compares=False))
TESTS.add("look_random", ClaimTest(look_random, ("auc",), compares=False))
TESTS.add("linear_transformation", ClaimTest(linear_transformation, ("share",), compares=False, goal=None))
