"""Tests of the claims about what transfer is worth: Karimi, Warfield and Gholipour (arXiv 2006.00356), K1 to K3."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.verdicts import (
    CONDITIONS,
    REPLICATE,
    TESTS,
    Claim,
    ClaimTest,
    Runs,
    by_replicate,
    complete_replicates,
    data_kind,
    diverged_text,
    interval_text,
    sentences,
    side_of,
    target_tasks,
    unpaired_text,
    verdict,
)
from analysis.statistics.intervals import heterogeneity, mean_interval, replicate_slopes, time_ratio
from analysis.statistics.power import detectable
from analysis.statistics.tests import holm, one_sided_p, two_sided_p
from analysis.tables.convergence import time_to_plateau
from analysis.tables.paired_gains import PAIR, difficulty, gain
from analysis.tables.results import finished_rows


def faster(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[dict[str, Any]]:
    """Per task: the ratio of times to a fraction of the scratch plateau, over volumes and sources (K1).

    `supported`: the interval of the ratio lies below the threshold, and few enough transfer runs never got
    there. `contradicted`: it lies above. A diverged transfer run never got there; a diverged scratch run
    leaves no plateau, and its pair out.
    """
    times = time_to_plateau(frame, evaluations, sorted({0.90, 0.99, claim.value("fraction")}))
    transfer, reference = claim.compare
    base = times[times.strategy == reference][[*PAIR, "fraction", "steps"]]
    pairs = times[times.strategy == transfer].merge(
        base, on=[*PAIR, "fraction"], how="left", suffixes=("", "_reference")
    )
    pairs["log_ratio"] = np.log(pairs.steps.astype("float64") / pairs.steps_reference.astype("float64"))
    ended = finished_rows(frame)
    results = [
        _faster_on(task, claim, pairs[pairs.task == task], ended[ended.task == task]) for task in target_tasks(frame)
    ]
    tested = [(row, p) for row, p in results if math.isfinite(p)]
    for (row, p), adjusted in zip(tested, holm([p for _, p in tested]), strict=True):
        row["note"] += f". p = {p:.3g}, by Holm over {len(tested)} tasks {adjusted:.3g}; not part of the verdict"
    return [row for row, _ in results] or [verdict(claim, "all", "not tested", "No finished run")]


def _faster_on(task: str, claim: Claim, pairs: pd.DataFrame, runs: pd.DataFrame) -> tuple[dict[str, Any], float]:
    """The row of one task and its p-value, NaN if it was not tested."""
    least = int(claim.value("min_seeds"))
    by_fraction = {
        fraction: complete_replicates(by_replicate(rows, "log_ratio", CONDITIONS), least)
        for fraction, rows in pairs.groupby("fraction")
    }
    wide, left_out = by_fraction.get(claim.value("fraction"), (pd.DataFrame(), ""))
    chosen = pairs[pairs.fraction == claim.value("fraction")]
    common = (left_out, unpaired_text(chosen), diverged_text(runs, claim.compare), data_kind(runs))
    if len(wide) < least:
        reason = f"{len(wide)} seeds with both {' and '.join(claim.compare)}, {least} needed"
        return verdict(claim, task, "not tested", sentences(reason, *common), seeds=len(wide)), math.nan
    used = chosen.set_index([*REPLICATE, *CONDITIONS]).loc[[(*seed, *cell) for seed in wide.index for cell in wide]]
    never = int((~used.reached.astype(bool)).sum())
    logs = wide.mean(axis=1).to_numpy()
    interval = time_ratio(np.exp(logs), np.ones(len(logs)))
    word = side_of(interval, claim.value("ratio"), low="supported", high="contradicted")
    censored = f"{never} of {len(used)} transfer runs never got there and count with their whole budget"
    if word == "supported" and never > claim.value("max_censored") * len(used):
        word = "inconclusive"
        censored += ": too many to support a saving"
    others = ", ".join(
        f"{100 * fraction:g} %: {math.exp(rest.mean(axis=1).mean()):.2f}"
        for fraction, (rest, _) in by_fraction.items()
        if fraction != claim.value("fraction") and len(rest)
    )
    volumes = ", ".join(dict.fromkeys(str(volume) for volume, _ in wide))
    note = sentences(
        f"{interval.method}; volumes {volumes}",
        censored if never else "",
        f"ratios at other fractions, not part of the verdict: {others}",
        *common,
    )
    detect = math.exp(-detectable(logs))
    row = verdict(claim, task, word, note, interval=interval, seeds=len(logs), detectable=detect)
    return row, two_sided_p(logs)


def heterogeneous(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[dict[str, Any]]:
    """Over all source-target pairs: I^2 of the gains, averaged over volumes within a seed (K2).

    `supported`: the test of equal gains rejects, and I^2 and the spread between pairs (tau) reach their
    thresholds. `contradicted`: the interval of the spread lies below its threshold: the gains are much the
    same everywhere.
    """
    gains, least = gain(frame, *claim.compare), int(claim.value("min_seeds"))
    groups, left_out, found = [], [], []
    for (source, task), rows in gains.groupby(["source", "task"]):
        wide, words = complete_replicates(by_replicate(rows, "gain", ["volume_label"]), least)
        left_out.append(f"{source} to {task}: {words}" if words else "")
        found.append(len(wide))
        if len(wide) >= least:
            groups.append(wide.mean(axis=1).to_numpy())
    common = (
        *left_out,
        unpaired_text(gains),
        diverged_text(finished_rows(frame), claim.compare),
        data_kind(gains) if len(gains) else "",
    )
    if len(groups) < claim.value("min_pairs"):
        reason = f"{len(groups)} source-target pairs with {least} seeds, {claim.value('min_pairs'):g} needed"
        return [verdict(claim, "all", "not tested", sentences(reason, *common), seeds=min(found, default=0))]
    seeds = min(len(group) for group in groups)
    result = heterogeneity(groups)
    word = "inconclusive"
    if result.tau.high < claim.value("spread"):
        word = "contradicted"
    elif (
        result.p < claim.value("alpha")
        and result.i2.estimate >= claim.value("i2")
        and result.tau.estimate >= claim.value("spread")
    ):
        word = "supported"
    note = sentences(
        f"{result.i2.method}, Q = {result.q:.3g} on {result.dof} degrees of freedom, p = {result.p:.3g} (F)",
        f"spread between pairs {result.tau.estimate:.3f} Dice [{result.tau.low:.3f}, {result.tau.high:.3f}]",
        *common,
    )
    return [verdict(claim, "all", word, note, interval=result.i2, seeds=seeds, detectable=result.detectable_i2)]


def only_hard_and_small(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:
    """Over all cells (source, task, volume): do large gains occur only on hard tasks with few images (K3)?

    The effect is the coefficient of difficulty x log10(images) in gain ~ 1 + log10(images) + difficulty +
    product, fitted to each replicate. A cell is *inside* if its difficulty is above `hard` and its volume
    at most `small`; a gain is large if it is shown to exceed `large_gain` (one-sided t, Holm over the cells
    of its side).

    `contradicted`: a large gain outside. `supported`: a large gain inside, every cell outside shown to be
    below `large_gain` (one-sided t each: all must reject, so no correction), and the interval of the effect
    below 0.
    """
    least, alpha, large = int(claim.value("min_seeds")), claim.value("alpha"), claim.value("large_gain")
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
    if len(wide) < least or lacking or np.linalg.matrix_rank(design) < design.shape[1]:
        reason = f"{len(wide)} seeds with every cell, {least} needed"
        if len(wide) >= least:
            reason = "no cell with " + ", nor ".join(lacking) if lacking else "too few volumes to fit the product"
        return [verdict(claim, "all", "not tested", sentences(reason, *common), seeds=len(wide))]
    inside = (hard & small).to_numpy()
    values = wide.to_numpy()
    above = np.array([one_sided_p(column, large, above=True) for column in values.T])
    above[inside], above[~inside] = holm(above[inside]), holm(above[~inside])
    below = np.array([one_sided_p(column, large, above=False) for column in values.T])
    slopes = replicate_slopes(design, values)[3]
    word = "inconclusive"
    if (above[~inside] < alpha).any():
        word = "contradicted"
    elif (above[inside] < alpha).any() and (below[~inside] < alpha).all() and slopes.high < 0:
        word = "supported"
    per_seed = np.linalg.lstsq(design, values.T, rcond=None)[0][3]
    note = sentences(
        f"{slopes.method}; it speaks of new seeds on these {len(cells)} cells, not of new tasks",
        _largest("inside (hard and small)", wide, inside, above, alpha, large),
        _largest("outside", wide, ~inside, above, alpha, large),
        f"{int((below[~inside] < alpha).sum())} of {int((~inside).sum())} cells outside are shown to gain less",
        *common,
    )
    detect = detectable(per_seed)
    return [verdict(claim, "all", word, note, interval=slopes, seeds=len(wide), detectable=detect)]


def _largest(where: str, wide: pd.DataFrame, side: np.ndarray, above: np.ndarray, alpha: float, large: float) -> str:
    """How many gains of a side are large, and its largest mean gain with the cell it is in."""
    means = wide.mean().to_numpy()
    best = int(np.flatnonzero(side)[means[side].argmax()])
    source, task, volume = wide.columns[best]
    interval = mean_interval(wide.iloc[:, best])
    return (
        f"{where}: {int((above[side] < alpha).sum())} of {int(side.sum())} gains shown above {large:g}; largest "
        f"{interval_text(interval)} ({source} to {task}, {volume} images)"
    )


TESTS.add("faster", ClaimTest(faster, ("fraction", "ratio", "max_censored"), compares=True))
TESTS.add("heterogeneous", ClaimTest(heterogeneous, ("i2", "spread", "min_pairs"), compares=True))
TESTS.add("only_hard_and_small", ClaimTest(only_hard_and_small, ("large_gain", "hard", "small"), compares=True))
