"""Tests of the claims about linear fine-tuning (LFT): Bi et al. 2023 (doi 10.3389/fnins.2023.1202143), L1 to L6 and L8.

Replicates are seeds. A *lead* is a difference in favor of the first of two arms on the same target, sampling rate,
volume, source, seed and fold. Protocols are ours, as the paper's are not known: see claims.toml.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.claims.linear_finetuning.tables import LINEAR, generalization_gap, paired_leads
from analysis.claims.verdicts import (
    CONDITIONS,
    TESTS,
    Claim,
    ClaimTest,
    Runs,
    by_replicate,
    complete_replicates,
    data_kind,
    sentences,
    side_of,
    unpaired_text,
    verdict,
)
from analysis.statistics.intervals import Interval, mean_interval, replicate_slopes, time_ratio
from analysis.statistics.power import detectable
from analysis.statistics.tests import holm, one_sided_p
from lib.runs.run import Run, run_dir
from lib.strategies.adapters import without_factors

_CONDITIONS = ["task", *CONDITIONS]
_L3 = ["rate", "source", "volume_label"]
Rows = list[dict[str, Any]]


def best_across_contrasts(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> Rows:
    """Per target contrast and sampling rate: linear fine-tuning against every other arm (L1).

    The effect is the lead over the arm that comes closest. `supported`: every lead's interval lies above the margin
    (all must, so no correction) and no arm was left without enough seeds. `contradicted`: some lead is shown to lie
    below it (Holm over the arms).
    """
    least, margin = int(claim.value("min_seeds")), claim.value("margin")
    rows = []
    moved = frame[(frame.scenario == "contrast") & (frame.arm == LINEAR)]
    for task in dict.fromkeys(moved.task):
        own = frame[(frame.task == task) & frame.scenario.isin(["contrast", ""])]
        rivals = [arm for arm in dict.fromkeys(own.arm) if not arm.startswith(LINEAR)]
        found, left_out = {}, []
        for arm in rivals:
            pairs = paired_leads(own, LINEAR, arm)
            wide, words = complete_replicates(by_replicate(pairs[pairs.lead.notna()], "lead", CONDITIONS), least)
            if len(wide) >= least:
                found[arm] = wide.mean(axis=1).to_numpy()
                left_out += [f"against {arm} {words}"] if words else []
        if not found:
            rows.append(verdict(claim, task, "not tested", sentences(f"fewer than {least} seeds", data_kind(own))))
            continue
        lacking = [arm for arm in rivals if arm not in found]
        left_out += [f"not compared, fewer than {least} seeds: {', '.join(lacking)}"] if lacking else []
        intervals = {arm: mean_interval(values) for arm, values in found.items()}
        closest = min(intervals, key=lambda arm: intervals[arm].estimate)
        behind = holm([one_sided_p(values, margin, above=False) for values in found.values()])
        word = "inconclusive"
        if all(each.low > margin for each in intervals.values()) and not lacking:
            word = "supported"
        elif (behind < claim.value("alpha")).any():
            word = "contradicted"
        every = ", ".join(f"{arm} {each.estimate:+.2f}" for arm, each in intervals.items())
        note = sentences(
            f"closest: {closest}; {intervals[closest].method}", f"leads over {every}", *left_out, data_kind(own)
        )
        row = verdict(
            claim, task, word, note, interval=intervals[closest], seeds=intervals[closest].n,
            detectable=detectable(found[closest]),
        )  # fmt: skip
        rows.append(row)
    return rows or [verdict(claim, "all", "not tested", "No finished run that moved to another contrast")]


def fewer_artifacts(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> Rows:
    """Per target contrast: ratio of fine-grained errors, over rates and volumes (L2).

    `supported`: its interval lies below the threshold. `contradicted`: above.
    """
    pairs = paired_leads(frame[frame.scenario.isin(["contrast", ""])], *claim.compare, metric="artifacts")
    pairs["log"] = np.log(pairs["first"] / pairs.second).where(pairs.status == "done")
    rows = []
    for target, own in pairs.groupby("images"):
        wide, left_out = complete_replicates(
            by_replicate(own[own.log.notna()], "log", _CONDITIONS), int(claim.value("min_seeds"))
        )
        logs = wide.mean(axis=1).to_numpy()
        interval = time_ratio(np.exp(logs), np.ones(len(logs)))
        word = side_of(interval, claim.value("ratio"), low="supported", high="contradicted")
        detect = math.exp(-detectable(logs))
        rows.append(
            _judged(
                claim,
                target,
                word,
                interval,
                detect,
                _conditions(wide),
                left_out,
                unpaired_text(own, elsewhere=()),
                data_kind(own),
            )
        )
    return rows or [verdict(claim, "all", "not tested", "No pair of runs that moved to another contrast")]


def lead_grows_as_volumes_fall(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> Rows:
    """Per target direction or anatomy: the lead against the number of volumes, over rates (L3).

    The effect is the slope of the lead in the doublings of the number of volumes. `supported`: its interval lies below
    the threshold, and the lead with the fewest volumes above its own. `contradicted`: one of them is shown to be on
    the other side. Where full fine-tuning is ahead from some number on, the note says from which.
    """
    pairs = paired_leads(frame, *claim.compare)
    pairs = pairs[pairs.scenario.isin(["direction", "anatomy"])]
    rows = []
    for target, own in pairs.groupby("images"):
        led = own[own.lead.notna()]
        volumes = led.groupby("volume_label").volume.mean().astype("float64").sort_values()
        wide, missing = _at_all_volumes(by_replicate(led, "lead", _L3), int(claim.value("min_seeds")))
        if len(volumes) < 2 or not len(wide.columns):
            reason = "no rate has all numbers of volumes" if len(volumes) > 1 else "only one number of volumes"
            rows.append(
                verdict(
                    claim, target, "not tested", sentences(reason, unpaired_text(own, elsewhere=()), data_kind(own))
                )
            )
            continue
        # A seed counts once: its leads at a number of volumes are averaged over the rates and sources that all have.
        means = pd.DataFrame(wide.T.groupby(level="volume_label").mean()).T[list(volumes.index)]
        shared = wide.columns.unique("rate")
        design = np.column_stack([np.ones(len(volumes)), np.log2(volumes)])
        slopes = replicate_slopes(design, means.to_numpy())[1]
        per_seed = np.linalg.lstsq(design, means.to_numpy().T, rcond=None)[0][1] if len(means) else np.zeros(0)
        few = mean_interval(means[volumes.index[0]])
        word = "inconclusive"
        if slopes.high < claim.value("slope") and few.low > claim.value("lead"):
            word = "supported"
        elif slopes.low > claim.value("slope") or few.high < claim.value("lead"):
            word = "contradicted"
        told = ", ".join(f"{label}: {means[label].mean():+.2f}" for label in volumes.index)
        turn = next((label for label in volumes.index if means[label].mean() < 0), None)
        note = (
            f"lead in dB by number of volumes {told}",
            f"with the fewest {few.estimate:+.2f} [{few.low:.2f}, {few.high:.2f}]",
            "full fine-tuning is never ahead on average" if turn is None else f"full fine-tuning is ahead at {turn}",
            f"rates {', '.join(f'{rate:g}' for rate in sorted(shared))}",
            missing,
        )
        detect = -detectable(per_seed)
        rows.append(
            _judged(claim, target, word, slopes, detect, *note, unpaired_text(own, elsewhere=()), data_kind(own))
        )
    return rows or [verdict(claim, "all", "not tested", "No pair of runs that moved to another direction or anatomy")]


def _at_all_volumes(leads_of: pd.DataFrame, least: int) -> tuple[pd.DataFrame, str]:
    """Leads of seeds (rows) at rates and sources that have at least `least` seeds at every number of volumes.

    Returns:
        The seeds that have all of these, and what was left out, in words.
    """
    counts = leads_of.notna().sum().unstack("volume_label", fill_value=0).min(axis=1)
    enough = counts.index[counts >= max(1, min(least, counts.max() if len(counts) else 0))]
    chosen = leads_of.loc[:, leads_of.columns.droplevel("volume_label").isin(enough)]
    kept, thin = chosen.dropna(), len(counts) - len(enough)
    words = (
        [f"{thin} of {len(counts)} rates left out: fewer than {least} seeds at some number of volumes"] if thin else []
    )
    words += [f"{len(chosen) - len(kept)} of {len(chosen)} seeds left out"] if len(kept) < len(chosen) else []
    return kept, "; ".join(words)


def largest_lead(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> Rows:
    """Over all targets, rates and volumes: the largest mean lead (L4).

    `supported`: some lead is shown to reach the gain (one-sided t, Holm over all cells). `contradicted`: every lead is
    shown to lie below it (all must, so no correction).
    """
    pairs, least, gain = paired_leads(frame, *claim.compare), int(claim.value("min_seeds")), claim.value("gain")
    cells: dict[Any, Any] = {key: own.lead.dropna().to_numpy() for key, own in pairs.groupby(_CONDITIONS)}
    cells = {key: values for key, values in cells.items() if len(values) >= least}
    if not cells:
        return [verdict(claim, "all", "not tested", f"No pair of runs with {least} seeds")]
    alpha = claim.value("alpha")
    above = holm([one_sided_p(values, gain, above=True) for values in cells.values()])
    below = np.array([one_sided_p(values, gain, above=False) for values in cells.values()])
    best = max(cells, key=lambda key: cells[key].mean())
    interval = mean_interval(cells[best])
    word = "supported" if (above < alpha).any() else "contradicted" if (below < alpha).all() else "inconclusive"
    means = [values.mean() for values in cells.values()]
    reference = pairs[(pairs[_CONDITIONS] == list(best)).all(axis=1) & pairs.lead.notna()].second.mean()
    note = sentences(
        f"{best[0]}, {best[1]} volumes; {interval.method}, uncorrected for being the largest of {len(cells)}",
        f"median over the grid {np.median(means):+.2f}, smallest {min(means):+.2f} dB",
        f"{100 * interval.estimate / reference:.2f} % of the PSNR of full fine-tuning (paper: 5.89 %)",
        unpaired_text(pairs, elsewhere=()),
        data_kind(pairs),
    )
    detect = detectable(cells[best])
    return [verdict(claim, "all", word, note, interval=interval, seeds=interval.n, detectable=detect)]


def overfits_less(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> Rows:
    """Per target: growth of the training-validation gap, linear less full, where volumes are few (L5)."""
    grown = frame.merge(generalization_gap(evaluations), on="run_id", how="left")
    few = grown[grown.volume <= claim.value("small")]
    return _per_target(
        claim, paired_leads(few, *claim.compare, metric="growth"), claim.value("excess"), low="supported"
    )


def forgets_less(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> Rows:
    """Per target: PSNR on source images after the transfer, linear less full (L6)."""
    pairs = paired_leads(frame, *claim.compare, metric="source_after")
    return _per_target(claim, pairs, claim.value("margin"), low="contradicted")


def only_factors_change(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> Rows:
    """Over all runs of linear fine-tuning: do the source's tensors come back bit for bit (L8)?

    `supported` if all do, `contradicted` if one does not: the claim is exact, and there is no interval.
    """
    tuned = [runs[name] for name in frame[(frame.strategy == LINEAR) & (frame.status == "done")].run_id if name in runs]
    frozen = [run for run in tuned if run.spec.options["norm"] == "frozen"]
    if not frozen:
        return [verdict(claim, "all", "not tested", "No finished run of scale_shift with frozen normalization")]
    changed, tensors = 0, 0
    for run in frozen:
        assert run.spec.source is not None
        before, after = Run(run_dir(run.spec.source)).weights(), run.weights()
        kept = without_factors(after)
        changed += sum(name not in before or not torch.equal(before[name], value) for name, value in kept.items())
        tensors += len(kept)
    exact = Interval(float(changed), math.nan, math.nan, len(frozen), "exact")
    note = f"{tensors} tensors of {len(frozen)} runs compared with those of their sources; normalization frozen"
    word = "contradicted" if changed > claim.value("changed") else "supported"
    return [verdict(claim, "all", word, note, interval=exact, seeds=len({run.spec.seed for run in frozen}))]


def _per_target(claim: Claim, pairs: pd.DataFrame, threshold: float, *, low: str) -> Rows:
    """A row per target: the mean lead over rates and volumes, a seed counting once."""
    high = "contradicted" if low == "supported" else "supported"
    rows = []
    for target, own in pairs.groupby("images"):
        wide, left_out = complete_replicates(
            by_replicate(own[own.lead.notna()], "lead", _CONDITIONS), int(claim.value("min_seeds"))
        )
        values = wide.mean(axis=1).to_numpy()
        interval = mean_interval(values)
        word = side_of(interval, threshold, low=low, high=high)
        means = own.loc[own.lead.notna(), ["first", "second"]].astype("float64").mean()
        both = f"{claim.compare[0]} {means['first']:.2f}, {claim.compare[1]} {means.second:.2f} dB"
        detect = detectable(values)
        parts = (both, _conditions(wide), left_out, unpaired_text(own, elsewhere=()), data_kind(own))
        rows.append(_judged(claim, target, word, interval, detect, *parts))
    return rows or [verdict(claim, "all", "not tested", "No pair of runs")]


def _conditions(wide: pd.DataFrame) -> str:
    return f"mean over {len(wide.columns)} cells of sampling rate and volumes"


def _judged(claim: Claim, target: str, word: str, interval: Interval, detect: float, *note: str) -> dict[str, Any]:
    """A row of the ledger, "not tested" below the seeds that the claim needs."""
    if interval.n < claim.value("min_seeds"):
        reason = f"{interval.n} seeds, {claim.value('min_seeds'):g} needed"
        return verdict(claim, str(target), "not tested", sentences(reason, *note), seeds=interval.n)
    text = sentences(interval.method, *note)
    return verdict(claim, str(target), word, text, interval=interval, seeds=interval.n, detectable=detect)


_GOAL = "reconstruction"
TESTS.add("best_across_contrasts", ClaimTest(best_across_contrasts, ("margin",), compares=False, goal=_GOAL))
TESTS.add("fewer_artifacts", ClaimTest(fewer_artifacts, ("ratio",), compares=True, goal=_GOAL))
TESTS.add(
    "lead_grows_as_volumes_fall", ClaimTest(lead_grows_as_volumes_fall, ("lead", "slope"), compares=True, goal=_GOAL)
)
TESTS.add("largest_lead", ClaimTest(largest_lead, ("gain",), compares=True, goal=_GOAL))
TESTS.add("overfits_less", ClaimTest(overfits_less, ("small", "excess"), compares=True, goal=_GOAL))
TESTS.add("forgets_less", ClaimTest(forgets_less, ("margin",), compares=True, goal=_GOAL))
TESTS.add("only_factors_change", ClaimTest(only_factors_change, ("changed",), compares=False, goal=_GOAL))
