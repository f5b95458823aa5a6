"""Frozen random encoders: what they lose against networks trained as a whole, and the controls that give it a meaning
(Karimi, Warfield, Gholipour, arXiv 2006.00356, K6 and K7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from analysis.claims.evidence import AllOf, joined
from analysis.claims.means import mean
from analysis.claims.verdicts import (
    REPLICATE,
    TESTS,
    Claim,
    ClaimTest,
    Finding,
    Runs,
    complete_replicates,
    data_kind,
    diverged_text,
    sentences,
    target_tasks,
    too_few,
)
from analysis.statistics.intervals import Interval, mean_interval
from analysis.tables.paired_gains import PAIR, difficulty
from analysis.tables.results import finished_rows, summary

FROZEN, IMAGE = "frozen_random_encoder", "frozen_drawn_encoder (law=image)"
NO_SKIPS, NO_SKIPS_TRAINED = "without_skips", "without_skips (encoder=trained)"
WHOLE = ("scratch", "full_finetuning")
# What stands beside the frozen random encoder, and what each arm can show.
CONTROLS = {
    "scratch": "trained as a whole, from random weights",
    "full_finetuning": "trained as a whole, from a source",
    FROZEN: "encoder frozen at random",
    "frozen_random_encoder (calibrate=False)": "the same, statistics never estimated",
    "frozen_drawn_encoder": "frozen orthogonal encoder",
    "frozen_drawn_encoder (law=gabor)": "frozen encoder of Gabor functions",
    IMAGE: "the decoder sees the image alone, at every resolution",
    NO_SKIPS: "frozen random encoder, no skip connections",
    NO_SKIPS_TRAINED: "no skip connections, all trained",
    "frozen_random_decoder": "decoder frozen at random, encoder trained",
    "frozen_source_encoder": "encoder frozen as the source left it",
}


class Difference(NamedTuple):
    """A paired difference of two arms on one task: by seed and fold, its interval, and what was left out, in words."""

    values: pd.Series
    interval: Interval
    left_out: str


def difference(frame: pd.DataFrame, task: str, arm: str, reference: str, least: int) -> Difference | None:
    """Test Dice of `arm` - that of `reference`, paired by volume, seed and fold, averaged over volumes per replicate.

    None where fewer than `least` replicates have both. Where an arm comes from several sources, each is a condition.
    """
    done = finished_rows(frame)
    done = done[(done.task == task) & (done.status == "done")]
    columns = [*PAIR, "source", "dice"]
    pairs = done[done.arm == arm][columns].merge(done[done.arm == reference][columns], on=PAIR, suffixes=("", "_other"))
    pairs["difference"] = pairs.dice - pairs.dice_other
    conditions = ["volume_label", "source", "source_other"]
    wide, left_out = complete_replicates(
        pairs.pivot(index=REPLICATE, columns=conditions, values="difference").astype(float), least
    )
    if len(wide) < least:
        return None
    values = pd.Series(wide.mean(axis=1))
    return Difference(values, mean_interval(values), left_out)


def losses(frame: pd.DataFrame, least: int = 2) -> pd.DataFrame:
    """What the frozen random encoder and each control lose or gain: one row per task, volume, arm and reference.

    The arms of CONTROLS that were trained, against `scratch` (and the frozen encoder against `full_finetuning` too;
    without skips against its trained twin). Columns: task, title, kind, volume_label, volume, arm, what, reference,
    effect with its interval (low, high), seeds, values (one per seed).
    """
    ended = finished_rows(frame)
    rows = []
    keep = ["task", "title", "kind", "volume_label", "volume"]
    for (task, _), cell in ended.groupby(["task", "volume_label"], sort=False):
        for arm in [each for each in CONTROLS if each in set(cell.arm) and each != "scratch"]:
            references = ["scratch"] + (["full_finetuning"] if arm == FROZEN else [])
            references += [NO_SKIPS_TRAINED] if arm == NO_SKIPS else []
            for reference in references:
                found = difference(cell, task, arm, reference, least)
                if found is not None:
                    described = {name: cell[name].iloc[0] for name in keep}
                    effect, low, high, seeds, _ = found.interval
                    rows.append(
                        {**described, "arm": arm, "what": CONTROLS[arm], "reference": reference}
                        | {
                            "effect": effect,
                            "low": low,
                            "high": high,
                            "seeds": seeds,
                            "values": found.values.to_numpy(),
                        }
                    )
    measured = ["arm", "what", "reference", "effect", "low", "high", "seeds", "values"]
    return pd.DataFrame(rows, columns=[*keep, *measured])


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """Dice with its interval, trained parameters and seconds of the arms of CONTROLS, in their order, per cell."""
    cells = summary(frame, "dice")
    cells = cells[cells.arm.isin(list(CONTROLS))]
    cells = cells.assign(what=cells.arm.map(CONTROLS), place=cells.arm.map(list(CONTROLS).index))
    ordered = cells.sort_values(["task", "volume", "place", "source"])
    columns = ["task", "volume_label", "what", "mean", "low", "high", "seeds", "trainable", "seconds"]
    return ordered[columns].rename(columns={"mean": "dice"}).reset_index(drop=True)


def non_inferior(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per task: the frozen random encoder less both networks trained as a whole, each above minus the margin (K6)."""
    margin, least, found = claim.value("margin"), int(claim.value("min_seeds")), []
    for task in target_tasks(frame):
        by = {reference: difference(frame, task, FROZEN, reference, least) for reference in WHOLE}
        own = frame[frame.task == task]
        told = (diverged_text(finished_rows(own), (FROZEN, *WHOLE)), data_kind(own))
        parts = {f"against {name}": (each, -margin, True) for name, each in by.items()}
        found.append(_joined(claim, task, parts, (), told))
    return found or [Finding(claim, "all", "No finished run")]


def features_not_needed(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per task: what the same decoder gains from a trained encoder, with skips and without (K7).

    Both gains must lie below the margin, and the random encoder above a decoder that sees the image alone: where it
    does not, accuracy with a random encoder says nothing about encoders.
    """
    hardness = difficulty(frame).set_index("task").difficulty
    margin, least, found = claim.value("margin"), int(claim.value("min_seeds")), []
    for task in target_tasks(frame):
        own = frame[frame.task == task]
        parts = {
            "gain with skips": (difference(frame, task, "scratch", FROZEN, least), margin, False),
            "gain without skips": (difference(frame, task, NO_SKIPS_TRAINED, NO_SKIPS, least), margin, False),
        }
        idle = {"random encoder over the image alone": (difference(frame, task, FROZEN, IMAGE, least), 0.0, True)}
        told = (f"difficulty {hardness[task]:.2f}" if task in hardness.index else "", data_kind(own))
        found.append(_joined(claim, task, parts | idle, tuple(idle), told))
    return found or [Finding(claim, "all", "No finished run")]


def _joined(
    claim: Claim, task: str, parts: Mapping[str, tuple[Difference | None, float, bool]], controls: tuple[str, ...],
    told: tuple[str, ...],
) -> Finding:  # fmt: skip
    """All of these differences, each against its line and above or below it.

    Without those that were not trained the claim cannot be supported, and from `controls` alone nothing is tested.
    """
    there, few = {}, []
    for name, (each, *_) in parts.items():
        reason = "too few seeds" if each is None else too_few(each.values, claim, "")
        few += [f"{reason}: {name}"] if reason else []
        there |= {} if each is None or reason else {name: each}
    lacking = sentences(*few)
    if not set(there) - set(controls):
        return Finding(claim, task, sentences(lacking, *told))
    sides = {name: (line, above) for name, (_, line, above) in parts.items()}
    evidence = joined(
        AllOf,
        [mean(name, each.values, sides[name][0], above=sides[name][1], unit="Dice") for name, each in there.items()],
    )
    note = sentences(*(f"{name}: {each.left_out}" for name, each in there.items() if each.left_out), *told)
    return Finding(claim, task, note, evidence, min(len(each.values) for each in there.values()), lacking)


TESTS.add("non_inferior", ClaimTest(non_inferior, ("margin",), compares=False, strategies=(FROZEN, *WHOLE)))
_decoders = ("scratch", FROZEN, "frozen_drawn_encoder", "without_skips")
TESTS.add("features_not_needed", ClaimTest(features_not_needed, ("margin",), compares=False, strategies=_decoders))
