"""Tests of the claims about linear fine-tuning (LFT): Bi et al. 2023 (doi 10.3389/fnins.2023.1202143), L1 to L6 and L8.

Replicates are seeds, those on one test fold averaged. A *lead* is a difference in favor of the first of two arms on
the same target, sampling rate, volume, source, seed and fold. Protocols are ours, as the paper's are not known: see
claims.toml.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.claims import evidence
from analysis.claims.linear_finetuning.tables import LINEAR, generalization_gap, paired_leads
from analysis.claims.means import mean
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
    sentences,
    too_few,
    unpaired_text,
)
from lib.runs.run import Run, run_dir
from lib.strategies.adapters import without_factors
from lib.strategies.catalog import STRATEGIES

_CONDITIONS = ["task", *CONDITIONS]
_L3 = ["rate", "source", "volume_label"]


def best_across_contrasts(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per target contrast and sampling rate: linear fine-tuning against every other arm (L1).

    Supports: the lead over every arm above the margin, and no arm left without enough seeds. Contradicts: some lead
    below it.
    """
    least, margin = int(claim.value("min_seeds")), claim.value("margin")
    findings = []
    moved = frame[(frame.scenario == "contrast") & (frame.arm == LINEAR)]
    for task in dict.fromkeys(moved.task):
        own = frame[(frame.task == task) & frame.scenario.isin(["contrast", ""])]
        parts, left_out, lacking, seeds = [], [], [], []
        for arm in [arm for arm in dict.fromkeys(own.arm) if not arm.startswith(LINEAR)]:
            pairs = paired_leads(own, LINEAR, arm)
            wide, words = complete_replicates(by_replicate(pairs[pairs.lead.notna()], "lead", CONDITIONS), least)
            if too_few(wide, claim, ""):
                lacking.append(arm)
                continue
            parts.append(mean(f"against {arm}", wide.mean(axis=1), margin, above=True, unit="dB"))
            seeds.append(len(wide))
            left_out += [f"against {arm} {words}"] if words else []
        if not parts:
            note = sentences(f"no other arm with {least} seeds on two test folds", data_kind(own))
            findings.append(Finding(claim, task, note))
            continue
        barred = f"not compared, fewer than {least} seeds or all on one test fold: {', '.join(lacking)}"
        note = sentences(*left_out, data_kind(own))
        joint = evidence.AllOf(tuple(parts))
        findings.append(Finding(claim, task, note, joint, min(seeds), barred if lacking else ""))
    return findings or [Finding(claim, "all", "No finished run that moved to another contrast")]


def fewer_artifacts(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per target contrast: ratio of fine-grained errors, over rates and volumes (L2).

    Supports: the ratio below the threshold. Contradicts: above it.
    """
    pairs = paired_leads(frame[frame.scenario.isin(["contrast", ""])], *claim.compare, metric="artifacts")
    pairs["log"] = np.log(pairs["first"] / pairs.second).where(pairs.status == "done")
    findings = []
    for target, own in pairs.groupby("images"):
        wide, left_out = complete_replicates(
            by_replicate(own[own.log.notna()], "log", _CONDITIONS), int(claim.value("min_seeds"))
        )
        about = (_conditions(wide), left_out, unpaired_text(own, elsewhere=()), data_kind(own))
        if short := too_few(wide, claim, ""):
            findings.append(Finding(claim, str(target), sentences(short, *about), seeds=len(wide)))
            continue
        part = mean(
            "ratio of errors", wide.mean(axis=1), math.log(claim.value("ratio")), above=False,
            unit="log ratio of artifacts", scale=math.exp,
        )  # fmt: skip
        findings.append(Finding(claim, str(target), sentences(*about), part, len(wide)))
    return findings or [Finding(claim, "all", "No pair of runs that moved to another contrast")]


def lead_grows_as_volumes_fall(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[Finding]:
    """Per target direction or anatomy: the lead against the number of volumes, over rates (L3).

    Supports: the slope of the lead in the doublings of the number of volumes below its threshold, and the lead with
    the fewest volumes above its own. Contradicts: one of them on the other side. Where full fine-tuning is ahead from
    some number on, the note says from which.
    """
    pairs, least = paired_leads(frame, *claim.compare), int(claim.value("min_seeds"))
    pairs = pairs[pairs.scenario.isin(["direction", "anatomy"])]
    findings = []
    for target, own in pairs.groupby("images"):
        led = own[own.lead.notna()]
        volumes = led.groupby("volume_label").volume.mean().astype("float64").sort_values()
        wide, missing = _at_all_volumes(by_replicate(led, "lead", _L3), least)
        about = (missing, unpaired_text(own, elsewhere=()), data_kind(own))
        short = too_few(wide, claim, "")
        if len(volumes) < 2 or not len(wide.columns):
            short = "no rate has all numbers of volumes" if len(volumes) > 1 else "only one number of volumes"
        if short:
            findings.append(Finding(claim, str(target), sentences(short, *about), seeds=len(wide)))
            continue
        # A seed counts once: its leads at a number of volumes are averaged over the rates and sources that all have.
        means = pd.DataFrame(wide.T.groupby(level="volume_label").mean()).T[list(volumes.index)]
        design = np.column_stack([np.ones(len(volumes)), np.log2(volumes)])
        slopes = pd.Series(np.linalg.lstsq(design, means.to_numpy().T, rcond=None)[0][1], means.index)
        few, lead = volumes.index[0], claim.value("lead")
        grows = mean(
            "slope over doublings of volumes", slopes, claim.value("slope"), above=False, unit="dB per doubling"
        )
        ahead = mean(f"lead with {few} volumes", means[few], lead, above=True, unit="dB")
        told = ", ".join(f"{label}: {means[label].mean():+.2f}" for label in volumes.index)
        turn = next((label for label in volumes.index if means[label].mean() < 0), None)
        note = sentences(
            f"lead in dB by number of volumes {told}",
            "full fine-tuning is never ahead on average" if turn is None else f"full fine-tuning is ahead at {turn}",
            f"rates {', '.join(f'{rate:g}' for rate in sorted(wide.columns.unique('rate')))}",
            *about,
        )
        findings.append(Finding(claim, str(target), note, evidence.AllOf((grows, ahead)), len(means)))
    return findings or [Finding(claim, "all", "No pair of runs that moved to another direction or anatomy")]


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


def largest_lead(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Over all targets, rates and volumes: does the lead reach the gain in some cell (L4)?

    Supports: the lead of some cell above the gain. Contradicts: every lead below it.
    """
    pairs, gain = paired_leads(frame, *claim.compare), claim.value("gain")
    led = pairs[pairs.lead.notna()].astype({"second": "float64", "lead": "float64"})
    cells = {key: own.set_index(REPLICATE) for key, own in led.groupby(_CONDITIONS)}
    cells = {key: own for key, own in cells.items() if not too_few(own, claim, "")}
    if not cells:
        return [Finding(claim, "all", f"No pair of runs with {claim.value('min_seeds'):g} seeds on two test folds")]
    parts = {key: mean(_cell(key), own.lead, gain, above=True, unit="dB in a cell")
             for key, own in cells.items()}  # fmt: skip
    effects = [part.effect for part in parts.values()]
    best = max(parts, key=lambda key: parts[key].effect)
    note = sentences(
        f"largest of {len(cells)} cells: {parts[best].name}, {parts[best].effect:+.2f} dB, "
        f"{100 * parts[best].effect / cells[best].second.mean():.2f} % of the PSNR of full fine-tuning (paper: 5.89 %)",
        f"median over the grid {np.median(effects):+.2f}, smallest {min(effects):+.2f} dB",
        unpaired_text(pairs, elsewhere=()),
        data_kind(pairs),
    )
    seeds = min(len(own) for own in cells.values())
    return [Finding(claim, "all", note, evidence.AnyOf(tuple(parts.values())), seeds)]


def _cell(key: Any) -> str:
    task, volumes, source = key
    return f"{task}, {volumes} volumes, from {source}"


def overfits_less(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per target: growth of the training-validation gap, linear less full, where volumes are few (L5).

    Supports: the difference below the threshold. Contradicts: above it.
    """
    grown = frame.merge(generalization_gap(evaluations), on="run_id", how="left")
    few = grown[grown.volume <= claim.value("small")]
    pairs = paired_leads(few, *claim.compare, metric="growth")
    return _per_target(claim, pairs, claim.value("excess"), above=False, unit="dB of growth")


def forgets_less(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per target: PSNR on source images after the transfer, linear less full (L6).

    Supports: the difference above the margin. Contradicts: below it.
    """
    pairs = paired_leads(frame, *claim.compare, metric="source_after")
    return _per_target(claim, pairs, claim.value("margin"), above=True, unit="dB on the source")


def only_factors_change(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Over all runs of linear fine-tuning: do the source's tensors come back bit for bit (L8)?

    Supports: all do. Contradicts: more than `changed` do not. The claim is exact, and there is no interval.
    """
    tuned = [runs[name] for name in frame[(frame.strategy == LINEAR) & (frame.status == "done")].run_id if name in runs]
    frozen = [run for run in tuned if run.spec.options["norm"] == "frozen"]
    if not frozen:
        return [Finding(claim, "all", "No finished run of scale_shift with frozen normalization")]
    changed, tensors = 0, 0
    for run in frozen:
        assert run.spec.source is not None
        before, after = Run(run_dir(run.spec.source)).weights(), run.weights()
        kept = without_factors(after)
        changed += sum(name not in before or not torch.equal(before[name], value) for name, value in kept.items())
        tensors += len(kept)
    note = f"{tensors} tensors of {len(frozen)} runs compared with those of their sources; normalization frozen"
    most, seeds = claim.value("changed"), len({run.spec.seed for run in frozen})
    return [Finding(claim, "all", note, seeds=seeds, exact=(float(changed), most, changed <= most))]


def _per_target(claim: Claim, pairs: pd.DataFrame, line: float, *, above: bool, unit: str) -> list[Finding]:
    """A finding per target: the mean lead over rates and volumes, a seed counting once."""
    least, findings = int(claim.value("min_seeds")), []
    for target, own in pairs.groupby("images"):
        led = own[own.lead.notna()]
        wide, left_out = complete_replicates(by_replicate(led, "lead", _CONDITIONS), least)
        means = led[["first", "second"]].astype("float64").mean()
        both = f"{claim.compare[0]} {means['first']:.2f}, {claim.compare[1]} {means.second:.2f} dB"
        about = (both, _conditions(wide), left_out, unpaired_text(own, elsewhere=()), data_kind(own))
        if short := too_few(wide, claim, ""):
            findings.append(Finding(claim, str(target), sentences(short, *about), seeds=len(wide)))
            continue
        part = mean("difference", wide.mean(axis=1), line, above=above, unit=unit)
        findings.append(Finding(claim, str(target), sentences(*about), part, len(wide)))
    return findings or [Finding(claim, "all", "No pair of runs")]


def _conditions(wide: pd.DataFrame) -> str:
    return f"mean over {len(wide.columns)} cells of sampling rate and volumes"


_GOAL = "reconstruction"
TESTS.add(
    "best_across_contrasts",
    ClaimTest(best_across_contrasts, ("margin",), compares=False, goal=_GOAL, strategies=tuple(STRATEGIES)),
)
TESTS.add("fewer_artifacts", ClaimTest(fewer_artifacts, ("ratio",), compares=True, goal=_GOAL))
TESTS.add(
    "lead_grows_as_volumes_fall", ClaimTest(lead_grows_as_volumes_fall, ("lead", "slope"), compares=True, goal=_GOAL)
)
TESTS.add("largest_lead", ClaimTest(largest_lead, ("gain",), compares=True, goal=_GOAL))
TESTS.add("overfits_less", ClaimTest(overfits_less, ("small", "excess"), compares=True, goal=_GOAL))
TESTS.add("forgets_less", ClaimTest(forgets_less, ("margin",), compares=True, goal=_GOAL))
TESTS.add(
    "only_factors_change",
    ClaimTest(only_factors_change, ("changed",), compares=False, goal=_GOAL, strategies=(LINEAR,)),
)
