"""Tests of the claims about what transfer is worth: Karimi, Warfield and Gholipour (arXiv 2006.00356), K1 to K3."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.claims.evidence import AllOf, AnyOf, Spread
from analysis.claims.means import Mean, mean, per_fold
from analysis.claims.verdicts import (
    CONDITIONS,
    REPLICATE,
    TESTS,
    Claim,
    ClaimTest,
    Finding,
    Runs,
    by_replicate,
    complete_replicates,
    data_kind,
    diverged_text,
    of_one_network,
    sentences,
    target_tasks,
    too_few,
    unpaired_text,
)
from analysis.statistics.intervals import heterogeneity, varies
from analysis.tables.convergence import time_to_plateau
from analysis.tables.paired_gains import difficulty, gain
from analysis.tables.results import finished_rows


def faster(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per task: the ratio of times to a fraction of the plateau of both, over volumes and sources (K1).

    Held against the threshold, below which the claim holds. A diverged transfer run never got there; a diverged
    scratch run leaves no plateau, and its pair out. Where too many transfer runs never got there, the claim cannot be
    supported: they count with their whole budget, which is too short a time.
    """
    transfer, reference = claim.compare
    times = time_to_plateau(frame, evaluations, sorted({0.90, 0.99, claim.value("fraction")}), reference)
    pairs = times[times.strategy == transfer].copy()
    pairs["log_ratio"] = np.log(pairs.steps.astype("float64") / pairs.reference_steps.astype("float64"))
    ended = finished_rows(frame)
    found = [
        _faster_on(task, claim, pairs[pairs.task == task], ended[ended.task == task]) for task in target_tasks(frame)
    ]
    return found or [Finding(claim, "all", "No finished run")]


def _faster_on(task: str, claim: Claim, pairs: pd.DataFrame, runs: pd.DataFrame) -> Finding:
    least = int(claim.value("min_seeds"))
    by_fraction = {
        fraction: complete_replicates(by_replicate(rows, "log_ratio", CONDITIONS), least)
        for fraction, rows in pairs.groupby("fraction")
    }
    nothing = by_replicate(pairs.head(0), "log_ratio", CONDITIONS)
    wide, left_out = by_fraction.get(claim.value("fraction"), (nothing, ""))
    chosen = pairs[pairs.fraction == claim.value("fraction")]
    common = (left_out, unpaired_text(chosen), diverged_text(runs, claim.compare), data_kind(runs))
    lacking = too_few(wide, claim, f" with both {' and '.join(claim.compare)}")
    if lacking:
        return Finding(claim, task, sentences(lacking, *common), seeds=len(wide))
    used = chosen.set_index([*REPLICATE, *CONDITIONS]).loc[[(*seed, *cell) for seed in wide.index for cell in wide]]
    never = int((~used.reached.astype(bool)).sum())
    others = ", ".join(
        f"{100 * fraction:g} %: {math.exp(rest.mean(axis=1).mean()):.2f}"
        for fraction, (rest, _) in by_fraction.items()
        if fraction != claim.value("fraction") and len(rest)
    )
    note = sentences(
        f"volumes {', '.join(dict.fromkeys(str(volume) for volume, _ in wide))}",
        f"{never} of {len(used)} transfer runs never got there and count with their whole budget" if never else "",
        f"ratios at other fractions, not part of the verdict: {others}",
        *common,
    )
    many = never > claim.value("max_censored") * len(used)
    evidence = mean(
        f"steps, {claim.compare[0]} / {claim.compare[1]}", wide.mean(axis=1), math.log(claim.value("ratio")),
        above=False, unit="log steps", scale=math.exp,
    )  # fmt: skip
    barred = "Too many runs never got there to support a saving" if many else ""
    return Finding(claim, task, note, evidence, len(wide), barred)


def heterogeneous(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Over all source-target pairs: how far the gains, averaged over volumes within a seed, differ between pairs (K2).

    Two numbers, both of which must lie above their thresholds: the standard deviation between pairs, and its share of
    the variance of a pair's mean gain (I^2).
    """
    frame, alone = of_one_network(frame)
    gains, least = gain(frame, *claim.compare), int(claim.value("min_seeds"))
    groups, left_out, found = [], [], []
    for (source, task), rows in gains.groupby(["source", "task"]):
        wide, words = complete_replicates(by_replicate(rows, "gain", ["volume_label"]), least)
        left_out.append(f"{source} to {task}: {words}" if words else "")
        found.append(len(wide))
        if not too_few(wide, claim, ""):
            groups.append(per_fold(wide.mean(axis=1)))
    common = (
        *left_out,
        alone,
        unpaired_text(gains),
        diverged_text(finished_rows(frame), claim.compare),
        data_kind(gains) if len(gains) else "",
    )
    if len(groups) < claim.value("min_pairs"):
        reason = f"{len(groups)} source-target pairs with {least} seeds, {claim.value('min_pairs'):g} needed"
        return [Finding(claim, "all", sentences(reason, *common), seeds=min(found, default=0))]
    if not any(varies(group) for group in groups):
        return [Finding(claim, "all", sentences("Seeds agree exactly: no noise to compare with", *common))]
    size = min(len(group) for group in groups)
    result = heterogeneity(groups)
    f = result.q / result.dof
    parts = [
        Spread(
            name, f, (result.dof, result.within), result.per_group, result.noise, claim.value(key), True, share
        )
        for name, key, share in (("share of the variance (I^2)", "i2", True), ("spread in Dice", "spread", False))
    ]  # fmt: skip
    note = sentences(
        f"{len(groups)} pairs, Q = {result.q:.3g} on {result.dof} degrees of freedom, p = {result.p:.3g} (F)", *common
    )
    return [Finding(claim, "all", note, AllOf(tuple(parts)), size)]


def only_hard_and_small(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Over all cells (source, task, volume): do large gains occur only on hard tasks with few images (K3)?

    A cell is *inside* if its difficulty is above `hard` and its volume at most `small`. All of this must hold: the gain
    of some cell inside lies above `large_gain`; that of every cell outside below; and the coefficient of difficulty x
    log10(images) in gain ~ 1 + log10(images) + difficulty + product, fitted to each replicate, lies below 0.
    """
    least, large = int(claim.value("min_seeds")), claim.value("large_gain")
    gains = gain(frame, *claim.compare).merge(difficulty(frame)[["task", "difficulty"]], on="task", how="left")
    unrated = sorted(set(gains.task[gains.difficulty.isna()]))
    gains = gains[gains.difficulty.notna()]
    keys = ["source", "task", "volume_label"]
    wide, left_out = complete_replicates(by_replicate(gains, "gain", keys), least)
    common = (
        left_out,
        f"no difficulty, for want of scratch on all images: {', '.join(unrated)}" if unrated else "",
        unpaired_text(gains),
        diverged_text(finished_rows(frame), claim.compare),
        data_kind(gains) if len(gains) else "",
    )
    cells = gains.groupby(keys).agg(volume=("volume", "mean"), hardness=("difficulty", "first"))
    cells = cells.astype("float64").reindex(wide.columns)
    hard, small = cells.hardness > claim.value("hard"), cells.volume <= claim.value("small")
    lacking = [
        name
        for name, there in {"hard task with few images": hard & small, "easy task": ~hard, "large set": ~small}.items()
        if not there.any()
    ]
    design = np.column_stack([np.ones(len(cells)), np.log10(cells.volume), cells.hardness])
    design = np.column_stack([design, design[:, 1] * design[:, 2]])
    reason = too_few(wide, claim, " with every cell")
    if not reason and (lacking or np.linalg.matrix_rank(design) < design.shape[1]):
        reason = "no cell with " + ", nor ".join(lacking) if lacking else "too few volumes to fit the product"
    if reason:
        return [Finding(claim, "all", sentences(reason, *common), seeds=len(wide))]
    inside = (hard & small).to_numpy()
    slopes = pd.Series(np.linalg.lstsq(design, wide.to_numpy().T, rcond=None)[0][3], wide.index)

    def cell(at: int, *, above: bool) -> Mean:
        source, task, volume = wide.columns[at]
        return mean(f"gain, {source} to {task}, {volume} images", wide.iloc[:, at], large, above=above, unit="Dice")

    parts = (
        mean("slope", slopes, 0.0, above=False, unit="Dice by difficulty and images"),
        AnyOf(tuple(cell(int(at), above=True) for at in np.flatnonzero(inside))),
        AllOf(tuple(cell(int(at), above=False) for at in np.flatnonzero(~inside))),
    )
    note = sentences(
        f"{int(inside.sum())} cells are hard and small, {int((~inside).sum())} are not; this speaks of new seeds on "
        "these cells, not of new tasks",
        *common,
    )
    return [Finding(claim, "all", note, AllOf(parts), len(wide))]


TESTS.add("faster", ClaimTest(faster, ("fraction", "ratio", "max_censored"), compares=True))
TESTS.add("heterogeneous", ClaimTest(heterogeneous, ("i2", "spread", "min_pairs"), compares=True))
TESTS.add("only_hard_and_small", ClaimTest(only_hard_and_small, ("large_gain", "hard", "small"), compares=True))
