"""Tests of the claims about representations: Karimi, Warfield and Gholipour (arXiv 2006.00356), K8 to K10.

Each is tested per task on the runs that `run_similarity.comparable_runs` picks: both arms, the smallest volume
that has both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from analysis.claims.feature_reuse import layer_reuse, variability
from analysis.claims.verdicts import (
    TESTS,
    Claim,
    ClaimTest,
    Runs,
    data_kind,
    interval_text,
    sentences,
    side_of,
    target_tasks,
    verdict,
)
from analysis.representations.run_similarity import LayerMaps, comparable_runs, layer_maps_of_runs
from analysis.statistics import power
from analysis.statistics.intervals import Interval, mean_interval
from analysis.statistics.tests import holm
from analysis.tables.results import with_own_source

Judge = Callable[[Claim, str, LayerMaps, tuple[str, ...]], dict[str, Any]]


def _per_task(claim: Claim, frame: pd.DataFrame, runs: Runs, least: int, judge: Judge) -> list[dict[str, Any]]:
    """The row of every task: `judge` on its compared runs, or why it is not tested."""
    rows = []
    for task in target_tasks(with_own_source(frame)):
        chosen = comparable_runs(frame, task, claim.compare)
        there = chosen[chosen.run_id.isin(list(runs))]
        own = with_own_source(there)
        seeds = set.intersection(*(set(own.seed[own.strategy == arm]) for arm in claim.compare))
        if len(seeds) < least:
            reason = f"{len(seeds)} seeds with the checkpoints of {' and '.join(claim.compare)}, {least} needed"
            rows.append(verdict(claim, task, "not tested", sentences(reason, data_kind(there)), seeds=len(seeds)))
            continue
        maps = layer_maps_of_runs(frame, runs, task, arms=claim.compare)
        assert maps is not None
        volume = f"{there.volume_label.iloc[0]} training images"
        rows.append(judge(claim, task, maps, (f"similarity: {maps.measure}, {maps.about}; {volume}", data_kind(there))))
    return rows or [verdict(claim, "all", "not tested", "No finished run")]


def reused_beyond_early(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:
    """Per task: is reuse found beyond the first half of the encoder, and does it not fall with depth (K8)?

    The effect is the slope of reuse over depth. `supported`: mean reuse beyond the early encoder is shown to exceed
    `least`, and the slope to be above -`fall`. `contradicted`: one of the two is shown not to be so.
    """
    return _per_task(claim, frame, runs, int(claim.value("min_seeds")), _reuse)


def _reuse(claim: Claim, task: str, maps: LayerMaps, about: tuple[str, ...]) -> dict[str, Any]:
    table = layer_reuse.before_after(maps)
    seeds = layer_reuse.reuse_by_seed(table)
    slope, later, early = (mean_interval(seeds[name]) for name in ("slope", "later", "early"))
    words = (
        side_of(slope, -claim.value("fall"), low="contradicted", high="supported"),
        side_of(later, claim.value("least"), low="contradicted", high="supported"),
    )
    word = "contradicted" if "contradicted" in words else "supported" if set(words) == {"supported"} else "inconclusive"
    means = table.groupby("layer", sort=False).reuse.mean()
    note = sentences(
        f"{slope.method}; mean reuse beyond the early encoder {interval_text(later)}, in it {interval_text(early)}",
        f"most in {means.idxmax()} ({means.max():.3f}), least in {means.idxmin()} ({means.min():.3f})",
        *about,
    )
    detectable = power.detectable(seeds.slope)
    return verdict(claim, task, word, note, interval=slope, seeds=len(seeds), detectable=detectable)


def different_representations(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:
    """Per task: are fine-tuned and random-start networks more alike within their groups than between (K9)?

    `supported`: the permutation test of the mean over layers rejects and the difference reaches `least`.
    `contradicted`: its interval lies below `least`.
    """
    return _per_task(claim, frame, runs, int(claim.value("runs")), _separation)


def _separation(claim: Claim, task: str, maps: LayerMaps, about: tuple[str, ...]) -> dict[str, Any]:
    found, least, alpha = variability.separation(maps), claim.value("least"), claim.value("alpha")
    word = "inconclusive"
    if found.difference.high < least:
        word = "contradicted"
    elif found.p < alpha and found.difference.estimate >= least:
        word = "supported"
    apart = found.layers[found.layers.adjusted < alpha].layer.tolist()
    widest = found.layers.loc[found.layers.difference.idxmax()]
    note = sentences(
        f"permutation p = {found.p:.3g} over {found.labelings} labelings; {found.difference.method} (jackknife)",
        f"{len(apart)} of {len(found.layers)} layers differ by themselves (adjusted for their number)"
        + (f": {', '.join(apart)}" if apart else ""),
        f"widest in {widest.layer}: {widest.within:.2f} and {widest.within_random:.2f} within, {widest['between']:.2f} "
        "between",
        *about,
    )
    count = found.difference.n
    detectable = power.detectable(found.pseudo)
    return verdict(claim, task, word, note, interval=found.difference, seeds=count, detectable=detectable)


def variability_as_high(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:
    """Per task: do fine-tuned networks differ among themselves as much as random-start networks do (K10)?

    The layer is fixed beforehand: the bottleneck. Tested for networks with a source run each, and for networks that
    share one. The effect is the ratio of spreads for the first. `supported`: for one of the two the ratio is shown to
    be above 1 / `ratio` (Holm over the two). `contradicted`: it is shown to be below for both, in every layer.
    """
    return _per_task(claim, frame, runs, int(claim.value("runs")), _spread)


def _spread(claim: Claim, task: str, maps: LayerMaps, about: tuple[str, ...]) -> dict[str, Any]:
    factor, alpha = claim.value("ratio"), claim.value("alpha")
    by_kind = {group: variability.spread_ratios(maps, group, ratio=factor) for group in ("own", "shared")}
    by_kind = {group: table for group, table in by_kind.items() if len(table)}
    at = {group: table.iloc[maps.bottleneck] for group, table in by_kind.items()}
    adjusted = holm([row.as_high for row in at.values()])
    word = "inconclusive"
    if (adjusted < alpha).any():
        word = "supported"
    elif all((table.lower < alpha).all() for table in by_kind.values()):
        word = "contradicted"
    names = {"own": "a source run each", "shared": "one source run for all"}
    parts = []
    for (group, table), p in zip(by_kind.items(), adjusted, strict=True):
        row, equal, high = at[group], table.equal < alpha, table.as_high < alpha
        parts.append(
            f"{names[group]} ({row.seeds} seeds): ratio {row.ratio:.2f} [{row.low:.2f}, {row.high:.2f}], as high p = "
            f"{p:.3g} (Holm), equal p = {row.equal:.3g} (TOST); over layers {equal.mean():.0%} equal, "
            f"{high.mean():.0%} as high"
        )
    own = at["own"]
    interval = Interval(own.ratio, own.low, own.high, own.seeds, "")
    note = sentences(f"at {own.layer}", *parts, "95 % jackknife t intervals, of log ratios", *about)
    detectable = math.exp(power.detectable(own.pseudo))
    return verdict(claim, task, word, note, interval=interval, seeds=int(own.seeds), detectable=detectable)


def _add(name: str, run: Any, thresholds: tuple[str, ...]) -> None:
    TESTS.add(name, ClaimTest(run, thresholds, compares=True, shared_source=True))


_add("reused_beyond_early", reused_beyond_early, ("least", "fall"))
_add("different_representations", different_representations, ("runs", "least"))
_add("variability_as_high", variability_as_high, ("runs", "ratio"))
