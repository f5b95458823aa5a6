"""What tuning few layers costs: steps, samples and seconds to the whole network's plateau, and claim A4."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.claims.means import mean
from analysis.claims.verdicts import (
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
)
from analysis.claims.which_layers.layer_sets import CONDITION, SETS_OF_LAYERS, ULTRASOUND, WHOLE, layer_sets
from analysis.statistics.intervals import time_ratio
from analysis.tables.convergence import time_to_plateau
from analysis.tables.paired_gains import PAIR

FRACTIONS = (0.95, 0.99)


def layer_speed(frame: pd.DataFrame, evaluations: pd.DataFrame, fractions: Sequence[float] = FRACTIONS) -> pd.DataFrame:
    """How soon each set of layers comes up to the whole network: one row per run of a set and fraction.

    The level is a fraction of the plateau that the set shares with full fine-tuning of the same task, volume, source,
    seed and fold (`tables.time_to_plateau`). Runs that never get there
    count with their whole budget (`reached` is false). Seconds are those of training on the machine as it was, without
    evaluations: they hold what a truncated backward pass saves, and what else the machine did at that time.

    Columns: PAIR, source, title, kind, modality, volume, order, side, count, label, matched, fraction, reached, steps,
    samples, seconds, whole_steps, whole_seconds, step_ratio, second_ratio (set / whole network, to the fraction),
    step_cost (seconds of one step, set / whole network), lost_dice (test Dice of the whole network - that of the set).
    """
    sets = layer_sets(frame)
    names = ["label", "order", "side", "count", "matched", "modality", "dice"]
    batches = frame.set_index("run_id").batch
    found = []
    for _, own in frame[frame.run_id.isin(sets.run_id)].groupby("source"):
        times = time_to_plateau(own, evaluations, fractions, reference=WHOLE)
        found.append(times[times.steps.notna()].merge(sets[["run_id", *names]], on="run_id"))
    times = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    columns = [*PAIR, "source", "title", "kind", "modality", "volume", "order", "side", "count", "label", "matched"]
    columns += ["fraction", "reached", "steps", "samples", "seconds", "whole_steps", "whole_seconds", "step_ratio"]
    columns += ["second_ratio", "step_cost", "lost_dice"]
    if not len(times):
        return pd.DataFrame(columns=columns)
    keys = [*PAIR, "source", "fraction"]
    times["cost"] = times.seconds.astype("float64") / times.steps.astype("float64")
    whole = times[times.side == "whole"][[*keys, "cost", "dice"]]
    pairs = times[times.side != "whole"].merge(whole, on=keys, suffixes=("", "_whole"))
    pairs["samples"] = pairs.steps * pairs.run_id.map(batches).astype("float64")
    pairs = pairs.rename(columns={"reference_steps": "whole_steps", "reference_seconds": "whole_seconds"})
    pairs["step_ratio"], pairs["second_ratio"] = pairs.steps / pairs.whole_steps, pairs.seconds / pairs.whole_seconds
    pairs["step_cost"], pairs["lost_dice"] = pairs.cost / pairs.cost_whole, pairs.dice_whole - pairs.dice
    return pairs[columns]


def speed_summary(speed: pd.DataFrame) -> pd.DataFrame:
    """One row per set, task, volume, source and fraction: geometric means of the ratios, and how many never got there.

    Columns: CONDITION, label, fraction, steps (ratio, set / whole network), low, high (95 % t interval of log ratios),
    seconds (ratio), step_cost, lost_dice, seeds, never.
    """
    rows = []
    for key, own in speed.groupby([*CONDITION, "label", "fraction"], sort=False):
        steps = time_ratio(own.step_ratio.astype("float64"), np.ones(len(own)))
        rows.append(
            {
                **dict(zip([*CONDITION, "label", "fraction"], key, strict=True)),
                **dict(zip(("steps", "low", "high"), steps[:3], strict=True)),
                "seconds": _typical(own.second_ratio),
                "step_cost": _typical(own.step_cost),
                "lost_dice": float(own.lost_dice.astype("float64").mean()),
                "seeds": len(own),
                "never": int((~own.reached.astype(bool)).sum()),
            }
        )
    columns = [*CONDITION, "label", "fraction", "steps", "low", "high", "seconds", "step_cost", "lost_dice", "seeds"]
    return pd.DataFrame(rows, columns=[*columns, "never"])


def _typical(ratios: pd.Series) -> float:
    """Geometric mean of ratios."""
    return float(np.exp(np.log(ratios.astype("float64")).mean()))


def shallow_faster(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """Per ultrasound task on all images: steps of shallow sets / steps of the whole network to their plateau (A4).

    Held against the threshold, below which the claim holds. Where too many runs never got there, it cannot be
    supported. What shallow tuning loses in test Dice, and the ratio of seconds, stand in the note.
    """
    speed = layer_speed(frame, evaluations, [claim.value("fraction")])
    speed = speed[(speed.modality == ULTRASOUND) & (speed.side == "shallow") & (speed.matched == 0)]
    speed = speed[speed.volume_label == "all"]
    found, least = [], int(claim.value("min_seeds"))
    for task, own in speed.groupby("task"):
        own = own.assign(log=np.log(own.step_ratio.astype("float64")))
        wide, left_out = complete_replicates(by_replicate(own, "log", ["source", "order", "count"]), least)
        lacking = too_few(wide, claim, "")
        if lacking:
            found.append(Finding(claim, str(task), sentences(lacking, left_out, data_kind(own)), seeds=len(wide)))
            continue
        never = int((~own.reached.astype(bool)).sum())
        many = never > claim.value("max_censored") * len(own)
        note = sentences(
            f"sets: {', '.join(dict.fromkeys(own.label))}",
            f"{never} of {len(own)} runs never got there and count with their whole budget",
            f"ratio of seconds {_typical(own.second_ratio):.2f} on the machine as it was",
            f"test Dice lost against the whole network: {own.lost_dice.astype('float64').mean():.3f}",
            left_out,
            data_kind(own),
        )
        evidence = mean(
            "steps, shallow sets / whole network", wide.mean(axis=1), math.log(claim.value("ratio")), above=False,
            unit="log steps", scale=math.exp,
        )  # fmt: skip
        barred = "Too many runs never got there to support a saving" if many else ""
        found.append(Finding(claim, str(task), note, evidence, len(wide), barred))
    reason = "No shallow set of an ultrasound task on all images beside full fine-tuning"
    return found or [Finding(claim, "all", reason)]


TESTS.add(
    "shallow_faster",
    ClaimTest(
        shallow_faster, ("fraction", "ratio", "max_censored"), compares=False, strategies=(*SETS_OF_LAYERS, WHOLE)
    ),
)
