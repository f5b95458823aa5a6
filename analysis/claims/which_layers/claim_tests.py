"""Tests of the claims about sets of layers: Amiri, Brooks and Rivaz (doi 10.1109/TUFFC.2020.3015081), A1-A3, A5-A7, A9.

What the paper calls shallow was not at hand, so shallow and deep stand for both ends of both orderings of
`lib.networks.stages.layer_groups`. A replicate counts once, with its mean over volumes, sources, orders and counts.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as sps

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
    interval_text,
    sentences,
    side_of,
    verdict,
)
from analysis.claims.which_layers.layer_sets import (
    CONDITION,
    ULTRASOUND,
    advantages,
    areas_between_curves,
    layer_sets,
    worst_is_last,
)
from analysis.statistics.intervals import Interval, mean_interval
from analysis.statistics.power import detectable


def sets_matter(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[dict[str, Any]]:
    """Per ultrasound task: how far apart sets of layers end, beyond what seeds do to them (A1).

    Replicates by sets, the mean over volumes and sources, is a complete block design. The effect is the spread (tau,
    standard deviation) of the sets' true means, its interval from the F ratio of sets to residual. `supported`: the
    interval lies above the threshold; `contradicted`: below. Friedman's rank test stands in the note.
    """
    sets = layer_sets(frame)
    sets = sets[(sets.modality == ULTRASOUND) & (sets.matched == 0) & (sets.side != "whole") & (sets.status == "done")]
    rows = []
    for task, own in sets.groupby("task"):
        wide = by_replicate(own, "dice", [*CONDITIONS, "label"])
        common = set.intersection(*(set(part.label) for _, part in own.groupby(CONDITIONS)))
        wide = wide.loc[:, wide.columns.get_level_values("label").isin(common)]
        wide, left_out = complete_replicates(wide, int(claim.value("min_seeds")))
        table = wide.T.groupby(level="label").mean().T
        replicates, number = len(table), len(table.columns)
        if replicates < claim.value("min_seeds") or number < claim.value("min_sets"):
            needed = f"{claim.value('min_sets'):g} with {claim.value('min_seeds'):g} needed"
            reason = sentences(f"{number} sets with {replicates} seeds, {needed}", left_out, data_kind(own))
            rows.append(verdict(claim, str(task), "not tested", reason, seeds=replicates))
            continue
        spread, ratio = _spread(table.to_numpy(dtype=np.float64))
        rank = f"Friedman p = {sps.friedmanchisquare(*table.to_numpy().T).pvalue:.3g}" if number > 2 else ""
        means = table.mean().sort_values()
        ends = f"lowest: {means.index[0]} ({means.iloc[0]:.3f}), highest: {means.index[-1]} ({means.iloc[-1]:.3f})"
        word = side_of(spread, claim.value("spread"), low="contradicted", high="supported")
        note = sentences(f"{number} sets, F = {ratio:.3g}", rank, ends, left_out, data_kind(own))
        rows.append(verdict(claim, str(task), word, note, interval=spread, seeds=replicates))
    return rows or [_untested(claim, "no set of layers of an ultrasound task was trained")]


def _spread(table: np.ndarray, *, confidence: float = 0.95) -> tuple[Interval, float]:
    """Standard deviation of true column means of (blocks, columns), with its interval, and the F ratio."""
    blocks, columns = table.shape
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    dof = (columns - 1, (columns - 1) * (blocks - 1))
    noise = float((residual**2).sum()) / dof[1]
    ratio = float(blocks * table.mean(0).var(ddof=1)) / noise if noise else math.inf
    if not noise:
        alone = float(table.mean(0).std(ddof=1))
        return Interval(alone, math.nan, math.nan, blocks, "seeds agree exactly"), ratio
    tail = (1 - confidence) / 2
    against = (1.0, float(sps.f.ppf(1 - tail, *dof)), float(sps.f.ppf(tail, *dof)))
    tau, low, high = (math.sqrt(max(0.0, ratio / each - 1) * noise / blocks) for each in against)
    return Interval(tau, low, high, blocks, "95 % interval from F"), ratio


def last_is_worst(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[dict[str, Any]]:
    """Over all tasks: how much more often than by chance the lowest set of a cell is one of the last layers (A2).

    Shares that are alike for all seeds have no spread, which a t interval would take for certainty. So a verdict also
    needs that so many or so few of these cells are improbable by chance: the exact distribution of the count, 2.5 %.
    """
    rows = worst_is_last(frame)
    if not len(rows):
        return [_untested(claim, "no cell with last layers and another set")]
    rows = rows.assign(excess=rows["last"].astype("float64") - rows.chance)
    wide, left_out = complete_replicates(by_replicate(rows, "excess", CONDITION), int(claim.value("min_seeds")))
    worst = int(rows["last"].sum())
    words = (
        f"the lowest set is one of the last layers in {worst} of {len(rows)} cells (task, volume, source and seed); by "
        f"chance {100 * rows.chance.mean():.0f} %"
    )
    row = _one(claim, "all", wide.mean(axis=1), claim.value("excess"), words, left_out, data_kind(rows))
    counts = functools.reduce(np.convolve, [[1 - chance, chance] for chance in rows.chance], np.ones(1))
    p = min(counts[worst:].sum(), counts[: worst + 1].sum())
    if row["verdict"] in ("supported", "contradicted"):
        row["note"] += f". Exact count: p = {p:.3g}"
        row["verdict"] = row["verdict"] if p < 0.025 else "inconclusive"
    return [row]


def shallow_better(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[dict[str, Any]]:
    """Per ultrasound task: paired difference shallow - deep at equal count, raw and at equal size, both orders (A3).

    The effect is the raw difference. `supported` needs the one at equal size, where there is one, above the threshold
    too: otherwise more parameters may be all there is to it.
    """
    pairs = advantages(frame)
    pairs = pairs[(pairs.modality == ULTRASOUND) & pairs.advantage.notna()]
    rows = []
    for task, own in pairs.groupby("task"):
        found = {}
        for name, part in {"raw": own[own.matched == 0], "equal size": own[own.matched > 0]}.items():
            for order in ("", "path", "level"):
                chosen = part[part.order == order] if order else part
                found[name, order] = _replicates(chosen, "advantage", [*CONDITIONS, "order", "count"], claim)
        parts = [
            f"{name}, {order} {_brief(found[name, order][0])}"
            for name in ("raw", "equal size")
            for order in ("path", "level")
            if len(found[name, order][0])
        ]
        raw, left_out = found["raw", ""]
        equal = found["equal size", ""][0]
        warning = "" if len(equal) else "no pair at equal size: capacity is not ruled out"
        row = _one(claim, str(task), raw, claim.value("margin"), "; ".join(parts), warning, left_out, data_kind(own))
        enough = len(equal) >= claim.value("min_seeds")
        if row["verdict"] == "supported" and enough and mean_interval(equal).low <= claim.value("margin"):
            row["verdict"] = "inconclusive"
            row["note"] += f". At equal size {_brief(equal)}: not shown to be more than capacity"
        rows.append(row)
    return rows or [_untested(claim, "no pair of shallow and deep sets of an ultrasound task")]


def contracting_better(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:
    """Per ultrasound task: contracting part tuned and the rest fixed, against the reverse (A5)."""
    pairs = advantages(frame)
    halves = (pairs.order == "path") & (pairs["count"] * 2 == pairs.groups) & (pairs.matched == 0)
    return _per_task(claim, pairs[halves], "advantage", "contracting against expanding part")


def shallow_first_better(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:
    """Per ultrasound task: area between the cumulative curves along the path, interior points only (A6)."""
    rows = areas_between_curves(frame)
    points = rows.groupby("task").points.max()
    rows = rows[(rows.points >= claim.value("min_points")) & (rows.order == "path")]
    few = ", ".join(f"{task}: {count} interior points" for task, count in points.items())
    return _per_task(claim, rows, "area", "interior points only" if len(rows) else few or "no cumulative curve")


def only_in_ultrasound(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:
    """Ultrasound against chest X-ray: does the advantage of shallow sets depend on the modality (A7)?

    The effect is the mean advantage over ultrasound tasks minus that over X-ray tasks, per replicate, at orders,
    counts and volumes that both have; real tasks are set against real ones, simulated against simulated.
    """
    pairs = advantages(frame)
    pairs = pairs[pairs.advantage.notna() & (pairs.matched == 0)]
    rows = []
    for kind, own in pairs.groupby("kind"):
        sides = [own[own.modality == ULTRASOUND], own[own.modality == "chest X-ray"]]
        means, left_out = _alike(sides, ["volume_label", "source", "order", "count"], ["task"], claim)
        if not any(map(len, means)):
            continue
        difference = (means[0] - means[1]).dropna()
        words = f"ultrasound {_brief(means[0])}; chest X-ray {_brief(means[1])}"
        where = "all" if kind == "real" else "simulated"
        rows.append(_one(claim, where, difference, claim.value("margin"), words, left_out, data_kind(own)))
    return rows or [_untested(claim, "no set of layers trained alike on ultrasound and on X-ray")]


def orders_differ(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[dict[str, Any]]:
    """Per ultrasound task: does the advantage of shallow sets depend on what is called shallow (A9)?

    The effect is the advantage along the path minus that by level. `supported`: it differs from 0, and by at least
    the margin; `contradicted`: it lies within the margin.
    """
    pairs = advantages(frame)
    pairs = pairs[(pairs.modality == ULTRASOUND) & pairs.advantage.notna() & (pairs.matched == 0)]
    margin, rows = claim.value("margin"), []
    for task, own in pairs.groupby("task"):
        both, left_out = _alike([own[own.order == order] for order in ("path", "level")], CONDITIONS, ["count"], claim)
        difference = (both[0] - both[1]).dropna()
        words = f"path {_brief(both[0])}; level {_brief(both[1])}"
        row = _one(claim, str(task), difference, 0.0, words, left_out, data_kind(own))
        if row["verdict"] != "not tested":
            low, high = row["interval"]
            differs = (low > 0 or high < 0) and abs(row["effect"]) >= margin
            row["verdict"] = "supported" if differs else "contradicted" if max(-low, high) < margin else "inconclusive"
        rows.append(row)
    return rows or [_untested(claim, "no pair of shallow and deep sets of an ultrasound task")]


def _per_task(claim: Claim, rows: pd.DataFrame, value: str, words: str) -> list[dict[str, Any]]:
    """The verdicts of the ultrasound tasks on a value per condition and replicate, against the margin."""
    rows = rows.loc[(rows.modality == ULTRASOUND) & rows[value].notna()]
    found = []
    for task, own in rows.groupby("task"):
        values, left_out = _replicates(own, value, CONDITIONS, claim)
        places = ", ".join(f"{volume} images {_brief(part.set_index(REPLICATE)[value])}"
                           for volume, part in own.groupby("volume_label"))  # fmt: skip
        found.append(_one(claim, str(task), values, claim.value("margin"), words, places, left_out, data_kind(own)))
    return found or [_untested(claim, f"no such runs on an ultrasound task ({words})")]


def _replicates(rows: pd.DataFrame, value: str, conditions: list[str], claim: Claim) -> tuple[pd.Series, str]:
    """The mean over conditions of every replicate that has them all, and what was left out."""
    if not len(rows):
        return pd.Series(dtype="float64", index=pd.MultiIndex.from_tuples([], names=REPLICATE)), ""
    wide, left_out = complete_replicates(by_replicate(rows, value, conditions), int(claim.value("min_seeds")))
    return pd.Series(wide.mean(axis=1)), left_out


def _alike(sides: list[pd.DataFrame], same: list[str], beside: list[str], claim: Claim) -> tuple[list[pd.Series], str]:
    """The mean advantage of every replicate on two sides, over conditions that both sides have with enough seeds.

    Args:
        same: columns that make a condition. beside: columns over which a side is averaged, whatever the other has.

    Returns:
        Means of the replicates of each side that have all of it, and what was left out, in words.
    """
    least = int(claim.value("min_seeds"))
    wides = [by_replicate(side, "advantage", [*same, *beside]) for side in sides]
    enough = [complete_replicates(wide, least)[0].columns.droplevel(beside) for wide in wides]
    shared = enough[0].intersection(enough[1])
    every = wides[0].columns.droplevel(beside).union(wides[1].columns.droplevel(beside)).unique()
    means, words = [], []
    for wide in wides:
        kept, left_out = complete_replicates(wide.loc[:, wide.columns.droplevel(beside).isin(shared)], least)
        means.append(pd.Series(kept.mean(axis=1)).dropna())  # NaN where nothing is shared
        words += [left_out] if left_out else []
    lost = len(every) - len(shared.unique())
    words += [f"{lost} of {len(every)} conditions left out: not on both sides with {least} seeds"] if lost else []
    return means, "; ".join(words)


def _one(claim: Claim, task: str, values: pd.Series, threshold: float, *words: str) -> dict[str, Any]:
    """The verdict on one value per replicate: above the threshold, below it, or neither."""
    interval = mean_interval(values)
    if len(values) < claim.value("min_seeds"):
        reason = f"{len(values)} seeds, {claim.value('min_seeds'):g} needed"
        return verdict(claim, task, "not tested", sentences(reason, *words), seeds=len(values))
    note = sentences(interval.method, *words)
    word, least = side_of(interval, threshold, low="contradicted", high="supported"), detectable(values)
    return verdict(claim, task, word, note, interval=interval, seeds=len(values), detectable=least)


def _brief(values: pd.Series) -> str:
    return interval_text(mean_interval(values))


def _untested(claim: Claim, reason: str) -> dict[str, Any]:
    return verdict(claim, "all", "not tested", sentences(reason))


TESTS.add("sets_matter", ClaimTest(sets_matter, ("spread", "min_sets"), compares=False))
TESTS.add("last_is_worst", ClaimTest(last_is_worst, ("excess",), compares=False))
TESTS.add("shallow_better", ClaimTest(shallow_better, ("margin",), compares=False))
TESTS.add("contracting_better", ClaimTest(contracting_better, ("margin",), compares=False))
TESTS.add("shallow_first_better", ClaimTest(shallow_first_better, ("margin", "min_points"), compares=False))
TESTS.add("only_in_ultrasound", ClaimTest(only_in_ultrasound, ("margin",), compares=False))
TESTS.add("orders_differ", ClaimTest(orders_differ, ("margin",), compares=False))
