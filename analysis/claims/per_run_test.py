"""Tests of a number measured on each run's checkpoints, judged per task (K4, K5, L7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from analysis.claims.verdicts import (
    CONDITIONS,
    Claim,
    Runs,
    by_replicate,
    complete_replicates,
    data_kind,
    diverged_text,
    sentences,
    side_of,
    target_tasks,
    verdict,
)
from analysis.statistics.intervals import Interval, mean_interval
from analysis.statistics.power import detectable
from analysis.tables.results import finished_rows
from lib.runs.run import Run

SPATIAL = ("convolution", "transposed")  # pointwise layers have no kernels, and are left out


BOTH = ("scratch", "full_finetuning")


class PerRunRule:
    """What is measured of a run, and on which side of which threshold the claim holds."""

    def __init__(self, measure: Callable[[Run], float], threshold: float, above: bool, form: str) -> None:
        self.measure, self.threshold, self.above, self.form = measure, threshold, above, form

    def word(self, interval: Interval) -> str:
        low, high = ("contradicted", "supported") if self.above else ("supported", "contradicted")
        return side_of(interval, self.threshold, low=low, high=high)


def per_task(
    claim: Claim,
    frame: pd.DataFrame,
    runs: Runs,
    arms: Sequence[str],
    rule: PerRunRule,
    beside: Callable[[str], str],
) -> list[dict[str, Any]]:
    """One row per task: every arm is measured, and the one that speaks most against the claim decides."""
    ended = finished_rows(frame)
    found = []
    for task in target_tasks(frame):
        rows = ended[(ended.task == task) & ended.arm.isin(arms)]
        found.append(_on_task(claim, task, rows, runs, arms, rule, beside))
    return found or [verdict(claim, "all", "not tested", "No finished run")]


def _on_task(
    claim: Claim, task: str, rows: pd.DataFrame, runs: Runs, arms: Sequence[str], rule: PerRunRule,
    beside: Callable[[str], str],
) -> dict[str, Any]:  # fmt: skip
    least = int(claim.value("min_seeds"))
    done = rows[(rows.status == "done") & rows.run_id.isin(list(runs))]
    done = done.assign(value=[rule.measure(runs[name]) for name in done.run_id])
    done = done[done.value.notna()]
    tested, lacking, left_out = {}, [], []
    for arm in arms:
        wide, words = complete_replicates(by_replicate(done[done.arm == arm], "value", CONDITIONS), least)
        if len(wide) < least:
            lacking.append(f"{len(wide)} seeds of {arm}, {least} needed")
        else:
            tested[arm] = wide.mean(axis=1).to_numpy()
            left_out.append(words and f"{arm}: {words}")
    common = (*lacking, *left_out, diverged_text(rows, tuple(arms)), data_kind(rows) if len(rows) else "")
    if not tested:
        return verdict(claim, task, "not tested", sentences(*common))
    intervals = {arm: mean_interval(values) for arm, values in tested.items()}
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
    note = sentences(f"{intervals[decides].method}, {decides}; volumes {volumes}", *others, beside(task), *common)
    return verdict(
        claim, task, word, note, interval=intervals[decides], seeds=len(tested[decides]),
        detectable=detectable(tested[decides]),
    )  # fmt: skip
