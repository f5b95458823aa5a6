"""Tests of the claims about sets of layers: Amiri, Brooks and Rivaz (doi 10.1109/TUFFC.2020.3015081), A1-A3, A5-A7, A9.

What the paper calls shallow was not at hand, so shallow and deep stand for both ends of both orderings of
`lib.networks.stages.layer_groups`. A replicate counts once, with its mean over volumes, sources, orders and counts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats as sps

from analysis.claims.evidence import AllOf, AnyOf, Count, Spread
from analysis.claims.means import Difference, mean
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
    interval_text,
    of_one_network,
    sentences,
    too_few,
)
from analysis.claims.which_layers.layer_sets import (
    SETS_OF_LAYERS,
    ULTRASOUND,
    advantages,
    areas_between_curves,
    layer_sets,
    worst_is_last,
)
from analysis.statistics.intervals import mean_interval


def sets_matter(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per ultrasound task: how far apart sets of layers end, beyond what seeds do to them (A1).

    Test folds by sets, the mean over volumes and sources, is a complete block design. The effect is the spread (tau,
    standard deviation) of the sets' true means, from the F ratio of sets to residual, above the threshold where the
    claim holds. It speaks of sets such as these, not of these alone. Friedman's rank test stands in the note.
    """
    sets = layer_sets(frame)
    sets = sets[(sets.modality == ULTRASOUND) & (sets.matched == 0) & (sets.side != "whole") & (sets.status == "done")]
    found = []
    for task, own in sets.groupby("task"):
        wide = by_replicate(own, "dice", [*CONDITIONS, "label"])
        common = set.intersection(*(set(part.label) for _, part in own.groupby(CONDITIONS)))
        wide = wide.loc[:, wide.columns.get_level_values("label").isin(common)]
        wide, left_out = complete_replicates(wide, int(claim.value("min_seeds")))
        table = wide.T.groupby(level="label").mean().T
        number = len(table.columns)
        lacking = too_few(table, claim, "")
        lacking = lacking or f"{number} sets, {claim.value('min_sets'):g} needed" * (number < claim.value("min_sets"))
        if lacking:
            reason = sentences(lacking, left_out, data_kind(own))
            found.append(Finding(claim, str(task), reason, seeds=len(table)))
            continue
        spread = _spread(table.groupby(level="fold").mean().to_numpy(dtype=np.float64), claim.value("spread"))
        rank = f"Friedman p = {sps.friedmanchisquare(*table.to_numpy().T).pvalue:.3g}" if number > 2 else ""
        means = table.mean().sort_values()
        ends = f"lowest: {means.index[0]} ({means.iloc[0]:.3f}), highest: {means.index[-1]} ({means.iloc[-1]:.3f})"
        note = sentences(f"{number} sets, F = {spread.ratio:.3g}", rank, ends, left_out, data_kind(own))
        found.append(Finding(claim, str(task), note, spread if spread.noise else None, len(table)))
    return found or [Finding(claim, "all", "No set of layers of an ultrasound task was trained")]


def _spread(table: np.ndarray, line: float) -> Spread:
    """The standard deviation of the true column means of (blocks, columns)."""
    blocks, columns = table.shape
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    dof = (columns - 1, (columns - 1) * (blocks - 1))
    noise = float((residual**2).sum()) / dof[1]
    ratio = float(blocks * table.mean(0).var(ddof=1)) / noise if noise else math.inf
    return Spread("between sets of layers", ratio, dof, blocks, noise, line, above=True)


def last_is_worst(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Over tasks: is the lowest set of a task one of the last layers more often than by chance (A2)?

    A task counts once, by its mean Dice over seeds, volumes and sources: seeds of one task share its lowest set, and
    are no independent witnesses. The count of tasks is held against its exact distribution by chance.
    """
    frame, alone = of_one_network(frame)
    rows, least = worst_is_last(frame, int(claim.value("min_seeds"))), int(claim.value("min_tasks"))
    kinds = sentences(alone, data_kind(rows)) if len(rows) else ""
    if len(rows) < least:
        reason = f"{len(rows)} tasks with last layers and another set, {least} needed"
        return [Finding(claim, "all", sentences(reason, kinds))]
    count = int(rows["last"].sum())
    chances = rows.chance.to_numpy(dtype=np.float64)
    lowest = "; ".join(f"{row.task}: {row.lowest}" for row in rows.itertuples())
    note = sentences(
        f"the lowest set is one of the last layers in {count} of {len(rows)} tasks; by chance "
        f"{100 * chances.mean():.0f} %",
        lowest,
        kinds,
    )
    evidence = Count("tasks where last layers are lowest", count, chances, claim.value("excess"), above=True)
    return [Finding(claim, "all", note, evidence, int(rows.seeds.min()))]


def shallow_better(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per ultrasound task: paired difference shallow - deep at equal count, raw and at equal size, both orders (A3).

    Both must lie above the threshold: at equal count alone, more parameters may be all there is to it. Where no pair of
    equal size was trained the raw difference decides, and the note says so.
    """
    pairs = advantages(frame)
    pairs = pairs[(pairs.modality == ULTRASOUND) & pairs.advantage.notna()]
    found = []
    for task, own in pairs.groupby("task"):
        by = {}
        for name, part in {"raw": own[own.matched == 0], "equal size": own[own.matched > 0]}.items():
            for order in ("", "path", "level"):
                chosen = part[part.order == order] if order else part
                by[name, order] = _replicates(chosen, "advantage", [*CONDITIONS, "order", "count"], claim)
        orders = [
            f"{name}, {order} {_brief(by[name, order][0])}"
            for name in ("raw", "equal size")
            for order in ("path", "level")
            if len(by[name, order][0])
        ]
        raw, left_out = by["raw", ""]
        equal = by["equal size", ""][0]
        names = {"at equal count": raw} | ({} if too_few(equal, claim, "") else {"at equal size": equal})
        warning = "" if len(names) > 1 else "no pair at equal size: capacity is not ruled out"
        words = ("; ".join(orders), warning, left_out, data_kind(own))
        found.append(_finding(claim, str(task), names, claim.value("margin"), *words))
    return found or [Finding(claim, "all", "No pair of shallow and deep sets of an ultrasound task")]


def contracting_better(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per ultrasound task: contracting part tuned and the rest fixed, against the reverse (A5)."""
    pairs = advantages(frame)
    halves = (pairs.order == "path") & (pairs["count"] * 2 == pairs.groups) & (pairs.matched == 0)
    return _per_task(claim, pairs[halves], "advantage", "contracting against expanding part")


def shallow_first_better(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per ultrasound task: area between the cumulative curves along the path, interior points only (A6)."""
    rows = areas_between_curves(frame)
    points = rows.groupby("task").points.max()
    rows = rows[(rows.points >= claim.value("min_points")) & (rows.order == "path")]
    few = ", ".join(f"{task}: {count} interior points" for task, count in points.items())
    return _per_task(claim, rows, "area", "interior points only" if len(rows) else few or "no cumulative curve")


def only_in_ultrasound(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Ultrasound against chest X-ray: does the advantage of shallow sets depend on the modality (A7)?

    The effect is the mean advantage over ultrasound tasks minus that over X-ray tasks, at orders, counts and volumes
    that both have. Tasks are the replicates, each with its mean over seeds: the claim is about kinds of images, and
    more seeds of the same tasks say nothing of other tasks. Real tasks are set against real ones, simulated against
    simulated.
    """
    frame, alone = of_one_network(frame)
    pairs = advantages(frame)
    pairs = pairs[pairs.advantage.notna() & (pairs.matched == 0)]
    found, least = [], int(claim.value("min_tasks"))
    for kind, own in pairs.groupby("kind"):
        sides = [own[own.modality == modality] for modality in (ULTRASOUND, "chest X-ray")]
        if not any(map(len, sides)):
            continue
        means, left_out = _task_means(sides, ["volume_label", "source", "order", "count"], claim)
        words = "; ".join(
            f"{name}: {', '.join(f'{task} {value:+.3f}' for task, value in side.items()) or 'no task'}"
            for name, side in zip(("ultrasound", "chest X-ray"), means, strict=True)
        )
        where = "all" if kind == "real" else "simulated"
        few = min(map(len, means)) < least
        reason = f"fewer than {least} tasks of a modality" if few else ""
        evidence = None
        if not few:
            first, second = (side.to_numpy(dtype=np.float64) for side in means)
            evidence = Difference("ultrasound - chest X-ray, over tasks", first, second, claim.value("margin"), True)
        note = sentences(reason, words, left_out, alone, data_kind(own))
        seeds = int(own.groupby("task").seed.nunique().min())
        found.append(Finding(claim, where, note, evidence, seeds, data=str(kind)))
    return found or [Finding(claim, "all", "No set of layers trained alike on ultrasound and on X-ray")]


def orders_differ(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per ultrasound task: does the advantage of shallow sets depend on what is called shallow (A9)?

    The effect is the advantage along the path minus that by level. The claim holds where it lies above the margin, or
    below minus the margin; it does not where it lies within.
    """
    pairs = advantages(frame)
    pairs = pairs[(pairs.modality == ULTRASOUND) & pairs.advantage.notna() & (pairs.matched == 0)]
    margin, found = claim.value("margin"), []
    for task, own in pairs.groupby("task"):
        both, left_out = _alike([own[own.order == order] for order in ("path", "level")], CONDITIONS, ["count"], claim)
        difference = (both[0] - both[1]).dropna()
        words = (f"path {_brief(both[0])}; level {_brief(both[1])}", left_out, data_kind(own))
        lacking = too_few(difference, claim, "")
        if lacking:
            found.append(Finding(claim, str(task), sentences(lacking, *words), seeds=len(difference)))
            continue
        sides = (
            mean("path - level, above the margin", difference, margin, above=True, unit="Dice"),
            mean("path - level, below minus the margin", difference, -margin, above=False, unit="Dice"),
        )
        found.append(Finding(claim, str(task), sentences(*words), AnyOf(sides), len(difference)))
    return found or [Finding(claim, "all", "No pair of shallow and deep sets of an ultrasound task")]


def _per_task(claim: Claim, rows: pd.DataFrame, value: str, words: str) -> list[Finding]:
    """The findings of the ultrasound tasks on a value per condition and replicate, against the margin."""
    rows = rows.loc[(rows.modality == ULTRASOUND) & rows[value].notna()]
    found = []
    for task, own in rows.groupby("task"):
        values, left_out = _replicates(own, value, CONDITIONS, claim)
        places = ", ".join(f"{volume} images {_brief(part.set_index(REPLICATE)[value])}"
                           for volume, part in own.groupby("volume_label"))  # fmt: skip
        said = (words, places, left_out, data_kind(own))
        found.append(_finding(claim, str(task), {"": values}, claim.value("margin"), *said))
    return found or [Finding(claim, "all", f"No such runs on an ultrasound task ({words})")]


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
    kept, words = _shared(sides, same, beside, int(claim.value("min_seeds")))
    return [pd.Series(side.mean(axis=1)).dropna() for side in kept], words  # NaN where nothing is shared


def _task_means(sides: list[pd.DataFrame], same: list[str], claim: Claim) -> tuple[list[pd.Series], str]:
    """The mean advantage of every task on two sides, over conditions that both have and over its seeds."""
    kept, words = _shared(sides, same, ["task"], int(claim.value("min_seeds")))
    return [pd.Series(side.mean(axis=0).groupby(level="task").mean()).dropna() for side in kept], words


def _shared(
    sides: list[pd.DataFrame], same: list[str], beside: list[str], least: int
) -> tuple[list[pd.DataFrame], str]:
    """Advantages, replicates by conditions and `beside`, at the conditions that both sides have with enough seeds."""
    wides = [by_replicate(side, "advantage", [*same, *beside]) for side in sides]
    enough = [complete_replicates(wide, least)[0].columns.droplevel(beside) for wide in wides]
    shared = enough[0].intersection(enough[1])
    every = wides[0].columns.droplevel(beside).union(wides[1].columns.droplevel(beside)).unique()
    kept, words = [], []
    for wide in wides:
        own, left_out = complete_replicates(wide.loc[:, wide.columns.droplevel(beside).isin(shared)], least)
        kept.append(own)
        words += [left_out] if left_out else []
    lost = len(every) - len(shared.unique())
    words += [f"{lost} of {len(every)} conditions left out: not on both sides with {least} seeds"] if lost else []
    return kept, "; ".join(words)


def _finding(claim: Claim, task: str, values: Mapping[str, pd.Series], line: float, *words: str) -> Finding:
    """All of these differences of Dice, one number per replicate, against a line above which the claim holds."""
    first = next(iter(values.values()))
    lacking = too_few(first, claim, "")
    if lacking:
        return Finding(claim, task, sentences(lacking, *words), seeds=len(first))
    parts = tuple(mean(name, each, line, above=True, unit="Dice") for name, each in values.items())
    return Finding(claim, task, sentences(*words), parts[0] if len(parts) == 1 else AllOf(parts), len(first))


def _brief(values: pd.Series) -> str:
    return interval_text(mean_interval(values))


_test = functools.partial(ClaimTest, compares=False, strategies=SETS_OF_LAYERS)
TESTS.add("sets_matter", _test(sets_matter, ("spread", "min_sets")))
TESTS.add("last_is_worst", _test(last_is_worst, ("excess", "min_tasks")))
TESTS.add("shallow_better", _test(shallow_better, ("margin",)))
TESTS.add("contracting_better", _test(contracting_better, ("margin",)))
TESTS.add("shallow_first_better", _test(shallow_first_better, ("margin", "min_points")))
TESTS.add("only_in_ultrasound", _test(only_in_ultrasound, ("margin", "min_tasks")))
TESTS.add("orders_differ", _test(orders_differ, ("margin",)))
