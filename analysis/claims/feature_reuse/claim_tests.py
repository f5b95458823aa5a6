"""Tests of the claims about representations: Karimi, Warfield and Gholipour (arXiv 2006.00356), K8 to K10.

Each is tested per task on the runs that `run_similarity.comparable_runs` picks: both arms, the smallest volume
that has both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims import evidence
from analysis.claims.feature_reuse import layer_reuse, variability
from analysis.claims.means import mean
from analysis.claims.verdicts import (
    REPLICATE,
    TESTS,
    Claim,
    ClaimTest,
    Finding,
    Runs,
    data_kind,
    sentences,
    target_tasks,
    with_runs,
)
from analysis.representations.run_similarity import MEASURE, LayerMaps, comparable_runs, layer_maps_of_runs
from analysis.tables.results import with_own_source

Judge = Callable[[Claim, str, LayerMaps, tuple[str, ...]], Finding]


def _per_task(claim: Claim, frame: pd.DataFrame, runs: Runs, judge: Judge, *, least: int, folds: int) -> list[Finding]:
    """The finding of every task: `judge` on its compared runs, or why it is not tested.

    Args:
        least, folds: how many seeds that have both arms are needed, and on how many test folds.
    """
    findings = []
    for task in target_tasks(with_own_source(frame)):
        chosen = comparable_runs(frame, task, claim.compare)
        there = with_runs(chosen, runs)
        own = with_own_source(there)
        seeds = set.intersection(*(set(own.seed[own.strategy == arm]) for arm in claim.compare))
        on = own.fold[own.seed.isin(seeds)].nunique()
        if len(seeds) < least or on < folds:
            needed = f"{least} needed" if len(seeds) < least else f"on {on} test folds, {folds} needed"
            reason = f"{len(seeds)} seeds with the checkpoints of {' and '.join(claim.compare)}, {needed}"
            findings.append(Finding(claim, task, sentences(reason, data_kind(there)), seeds=len(seeds)))
            continue
        maps = layer_maps_of_runs(frame, runs, task, arms=claim.compare, measure=claim.measure or MEASURE)
        assert maps is not None
        volume = f"{there.volume_label.iloc[0]} training images"
        if np.isnan(maps.values).any():
            reason = f"no value of {maps.measure} for some layers: too few images for it, or all alike"
            findings.append(Finding(claim, task, sentences(reason, data_kind(there)), seeds=len(seeds)))
            continue
        about = (f"similarity: {maps.measure}, {maps.about}; {volume}", data_kind(there))
        findings.append(judge(claim, task, maps, about))
    return findings or [Finding(claim, "all", "No finished run")]


def reused_beyond_early(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per task: is reuse found beyond the first half of the encoder, and does it not fall with depth (K8)?

    Supports: the slope of reuse over depth above -`fall`, and mean reuse beyond the early encoder above `least`.
    Contradicts: one of the two below its line.
    """
    return _per_task(claim, frame, runs, judge_reuse, least=int(claim.value("min_seeds")), folds=2)


def judge_reuse(claim: Claim, task: str, maps: LayerMaps, about: tuple[str, ...]) -> Finding:
    table = layer_reuse.before_after(maps)
    seeds = layer_reuse.reuse_by_seed(table).set_index(REPLICATE)
    slope = mean("slope over depth", seeds.slope, -claim.value("fall"), above=True, unit="CKA per way")
    later = mean("reuse beyond the early encoder", seeds.later, claim.value("least"), above=True, unit="CKA")
    means = table.groupby("layer", sort=False).reuse.mean()
    note = sentences(
        f"mean reuse in the early encoder {seeds.early.mean():+.3f}",
        f"most in {means.idxmax()} ({means.max():.3f}), least in {means.idxmin()} ({means.min():.3f})",
        *about,
    )
    return Finding(claim, task, note, evidence.AllOf((slope, later)), len(seeds))


def different_representations(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[Finding]:
    """Per task: are fine-tuned and random-start networks more alike within their groups than between (K9)?

    Supports: the difference, mean over layers, above `least`. Contradicts: below it. The permutation test in the note
    asks something else: whether the difference is 0.
    """
    runs_needed = int(claim.value("runs"))
    return _per_task(claim, frame, runs, judge_separation, least=runs_needed, folds=variability.LEAST_FOLDS)


def judge_separation(claim: Claim, task: str, maps: LayerMaps, about: tuple[str, ...]) -> Finding:
    found, alpha = variability.separation(maps), claim.value("alpha")
    part = mean("within - between", found.pseudo, claim.value("least"), above=True, unit="CKA of pairs")
    apart = found.layers[found.layers.adjusted < alpha].layer.tolist()
    widest = found.layers.loc[found.layers.difference.idxmax()]
    note = sentences(
        f"p of no difference at all {found.p:.3g}, by {found.labelings} labelings; {len(apart)} of {len(found.layers)} "
        "layers differ by themselves (adjusted for their number)" + (f": {', '.join(apart)}" if apart else ""),
        f"widest in {widest.layer}: {widest.within:.2f} and {widest.within_random:.2f} within, {widest['between']:.2f} "
        "between",
        *about,
    )
    seeds = len(set(maps.places("own")) & set(maps.places("random")))
    return Finding(claim, task, note, part, seeds)


def variability_as_high(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per task: do fine-tuned networks differ among themselves as much as random-start networks do (K10)?

    The layer is fixed beforehand: the bottleneck. Supports: the ratio of spreads above 1 / `ratio`, for networks with
    a source run each or for networks that share one. Contradicts: below it for both.
    """
    return _per_task(claim, frame, runs, judge_spread, least=int(claim.value("runs")), folds=variability.LEAST_FOLDS)


def judge_spread(claim: Claim, task: str, maps: LayerMaps, about: tuple[str, ...]) -> Finding:
    names = {"own": "a source run each", "shared": "one source run for all"}
    tables = {group: variability.spread_ratios(maps, group) for group in names}
    tables = {group: table for group, table in tables.items() if len(table)}
    parts = tuple(
        mean(
            names[group], table.pseudo.iloc[maps.bottleneck], -math.log(claim.value("ratio")), above=True,
            unit="log spread", scale=math.exp,
        )
        for group, table in tables.items()
    )  # fmt: skip
    note = sentences(
        f"at {maps.layers[maps.bottleneck]}",
        *(f"{names[group]} ({table.seeds.iloc[0]} seeds): ratio {table.ratio.min():.2f} to {table.ratio.max():.2f} "
          "over layers" for group, table in tables.items()),
        *about,
    )  # fmt: skip
    return Finding(claim, task, note, evidence.AnyOf(parts), int(tables["own"].seeds.iloc[0]))


def _add(name: str, run: Any, thresholds: tuple[str, ...]) -> None:
    TESTS.add(name, ClaimTest(run, thresholds, compares=True, shared_source=True))


_add("reused_beyond_early", reused_beyond_early, ("least", "fall"))
_add("different_representations", different_representations, ("runs", "least"))
_add("variability_as_high", variability_as_high, ("runs", "ratio"))
