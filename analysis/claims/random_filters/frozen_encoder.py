"""Frozen random encoders: what they lose against networks trained as a whole, and the controls that give it a meaning
(Karimi, Warfield, Gholipour, arXiv 2006.00356, K6 and K7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.claims.verdicts import (
    REPLICATE,
    TESTS,
    Claim,
    ClaimTest,
    Runs,
    complete_replicates,
    data_kind,
    diverged_text,
    interval_text,
    sentences,
    side_of,
    target_tasks,
    verdict,
)
from analysis.statistics.intervals import Interval, mean_interval
from analysis.statistics.power import detectable
from analysis.statistics.tests import holm, non_inferiority_p
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
    """A paired difference of two arms on one task: per replicate, its interval, and what was left out, in words."""

    values: np.ndarray
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
    values = wide.mean(axis=1).to_numpy()
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
                        | {"effect": effect, "low": low, "high": high, "seeds": seeds, "values": found.values}
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


def non_inferior(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[dict[str, Any]]:
    """Per task: what the frozen random encoder loses to both networks trained as a whole; the larger loss decides (K6).

    `supported`: both intervals lie above minus the margin. `contradicted`: one lies below it. The note gives the
    one-sided p of non-inferiority, by Holm over tasks and references.
    """
    margin, least = claim.value("margin"), int(claim.value("min_seeds"))
    found = {
        task: {reference: difference(frame, task, FROZEN, reference, least) for reference in WHOLE}
        for task in target_tasks(frame)
    }
    family = [(task, name) for task, by in found.items() for name, each in by.items() if each is not None]
    raw = [non_inferiority_p(found[task][name].values, margin) for task, name in family]  # type: ignore[union-attr]
    adjusted = dict(zip(family, holm(raw), strict=True))
    rows = [_non_inferior_on(claim, frame, task, by, adjusted) for task, by in found.items()]
    return rows or [verdict(claim, "all", "not tested", "No finished run")]


def _non_inferior_on(
    claim: Claim, frame: pd.DataFrame, task: str, by: Mapping[str, Difference | None],
    adjusted: Mapping[tuple[str, str], float],
) -> dict[str, Any]:  # fmt: skip
    margin = claim.value("margin")
    own = frame[frame.task == task]
    tested = {name: each for name, each in by.items() if each is not None}
    lacking = [f"too few seeds with both {FROZEN} and {name}" for name in by if name not in tested]
    common = (*lacking, diverged_text(finished_rows(own), (FROZEN, *WHOLE)), data_kind(own))
    if not tested:
        return verdict(claim, task, "not tested", sentences(*common))
    words = [side_of(each.interval, -margin, low="contradicted", high="supported") for each in tested.values()]
    word = "contradicted" if "contradicted" in words else "inconclusive"
    if not lacking and set(words) == {"supported"}:
        word = "supported"
    worst = min(tested, key=lambda name: tested[name].interval.estimate)
    lines = [
        f"against {name}: {interval_text(each.interval)}, p of non-inferiority by Holm {adjusted[task, name]:.3g}"
        for name, each in tested.items()
    ]
    chosen = tested[worst]
    note = sentences(f"{chosen.interval.method}, against {worst}", *lines, chosen.left_out, *common)
    return verdict(
        claim, task, word, note, interval=chosen.interval, seeds=len(chosen.values),
        detectable=detectable(chosen.values),
    )  # fmt: skip


def features_not_needed(
    claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs
) -> list[dict[str, Any]]:
    """Per task: what the same decoder gains from a trained encoder, with skips and without; the larger decides (K7).

    `contradicted`: one gain's interval lies above the margin. `supported`: both lie below it, and the decoder that
    sees the image alone is worse than the one with the random encoder (interval above 0); where it is not, accuracy
    with a random encoder says nothing about encoders, and the verdict is `inconclusive`, as it is without controls.
    """
    hardness = difficulty(frame).set_index("task").difficulty
    rows = []
    for task in target_tasks(frame):
        least, margin = int(claim.value("min_seeds")), claim.value("margin")
        own = frame[frame.task == task]
        gains = {
            "with skips": difference(frame, task, "scratch", FROZEN, least),
            "without skips": difference(frame, task, NO_SKIPS_TRAINED, NO_SKIPS, least),
        }
        idle = difference(frame, task, FROZEN, IMAGE, least)
        tested = {name: each for name, each in gains.items() if each is not None}
        lacking = [f"not trained often enough: the pair {name}" for name in gains if name not in tested]
        lacking += [] if idle else ["not trained often enough: a decoder that sees the image alone"]
        common = (*lacking, f"difficulty {hardness[task]:.2f}" if task in hardness.index else "", data_kind(own))
        if not tested:
            rows.append(verdict(claim, task, "not tested", sentences(*common)))
            continue
        words = [side_of(each.interval, margin, low="supported", high="contradicted") for each in tested.values()]
        word = "contradicted" if "contradicted" in words else "inconclusive"
        if not lacking and set(words) == {"supported"} and idle is not None and idle.interval.low > 0:
            word = "supported"
        most = max(tested, key=lambda name: tested[name].interval.estimate)
        lines = [f"gain {name}: {interval_text(each.interval)}" for name, each in tested.items()]
        lines += [f"random encoder over the image alone: {interval_text(idle.interval)}"] if idle else []
        chosen = tested[most]
        note = sentences(f"{chosen.interval.method}, {most}", *lines, chosen.left_out, *common)
        rows.append(
            verdict(
                claim, task, word, note, interval=chosen.interval, seeds=len(chosen.values),
                detectable=detectable(chosen.values),
            )
        )  # fmt: skip
    return rows or [verdict(claim, "all", "not tested", "No finished run")]


TESTS.add("non_inferior", ClaimTest(non_inferior, ("margin",), compares=False))
TESTS.add("features_not_needed", ClaimTest(features_not_needed, ("margin",), compares=False))
