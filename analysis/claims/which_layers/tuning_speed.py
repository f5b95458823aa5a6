"""What tuning few layers costs: steps, samples and seconds to the whole network's plateau, and claim A4."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.verdicts import (
    TESTS,
    Claim,
    ClaimTest,
    Runs,
    by_replicate,
    complete_replicates,
    data_kind,
    sentences,
    side_of,
    verdict,
)
from analysis.claims.which_layers.layer_sets import CONDITION, ULTRASOUND, WHOLE, layer_sets
from analysis.statistics.intervals import time_ratio
from analysis.statistics.power import detectable
from analysis.tables.convergence import time_to_plateau
from analysis.tables.paired_gains import PAIR

FRACTIONS = (0.95, 0.99)


def layer_speed(frame: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    """How soon each set of layers comes up to the whole network: one row per run of a set and fraction.

    The plateau is that of full fine-tuning of the same task, volume, source, seed and fold. Runs that never get there
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
        times = time_to_plateau(own, evaluations, FRACTIONS, reference=WHOLE)
        found.append(times[times.steps.notna()].merge(sets[["run_id", *names]], on="run_id"))
    times = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    columns = [*PAIR, "source", "title", "kind", "modality", "volume", "order", "side", "count", "label", "matched"]
    columns += ["fraction", "reached", "steps", "samples", "seconds", "whole_steps", "whole_seconds", "step_ratio"]
    columns += ["second_ratio", "step_cost", "lost_dice"]
    if not len(times):
        return pd.DataFrame(columns=columns)
    keys = [*PAIR, "source", "fraction"]
    times["cost"] = times.seconds.astype("float64") / times.steps.astype("float64")
    whole = times[times.side == "whole"][[*keys, "steps", "seconds", "cost", "dice"]]
    pairs = times[times.side != "whole"].merge(whole, on=keys, suffixes=("", "_whole"))
    pairs["samples"] = pairs.steps * pairs.run_id.map(batches).astype("float64")
    pairs["step_ratio"], pairs["second_ratio"] = pairs.steps / pairs.steps_whole, pairs.seconds / pairs.seconds_whole
    pairs["step_cost"], pairs["lost_dice"] = pairs.cost / pairs.cost_whole, pairs.dice_whole - pairs.dice
    return pairs.rename(columns={"steps_whole": "whole_steps", "seconds_whole": "whole_seconds"})[columns]


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


def shallow_faster(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[dict[str, Any]]:
    """Per ultrasound task on all images: steps of shallow sets / steps of the whole network to its plateau (A4).

    `supported`: the interval lies below the threshold, and few enough runs never got there; `contradicted`: above.
    What shallow tuning loses in test Dice, and the ratio of seconds, stand in the note.
    """
    speed = layer_speed(frame, evaluations)
    speed = speed[(speed.modality == ULTRASOUND) & (speed.side == "shallow") & (speed.matched == 0)]
    speed = speed[(speed.volume_label == "all") & (speed.fraction == claim.value("fraction"))]
    rows, least = [], int(claim.value("min_seeds"))
    for task, own in speed.groupby("task"):
        own = own.assign(log=np.log(own.step_ratio.astype("float64")))
        wide, left_out = complete_replicates(by_replicate(own, "log", ["source", "order", "count"]), least)
        if len(wide) < least:
            reason = sentences(f"{len(wide)} seeds, {least} needed", left_out, data_kind(own))
            rows.append(verdict(claim, str(task), "not tested", reason, seeds=len(wide)))
            continue
        logs = wide.mean(axis=1).to_numpy()
        interval = time_ratio(np.exp(logs), np.ones(len(logs)))
        word = side_of(interval, claim.value("ratio"), low="supported", high="contradicted")
        never = int((~own.reached.astype(bool)).sum())
        if word == "supported" and never > claim.value("max_censored") * len(own):
            word = "inconclusive"
        note = sentences(
            f"{interval.method}; sets: {', '.join(dict.fromkeys(own.label))}",
            f"{never} of {len(own)} runs never got there and count with their whole budget",
            f"ratio of seconds {_typical(own.second_ratio):.2f} on the machine as it was",
            f"test Dice lost against the whole network: {own.lost_dice.astype('float64').mean():.3f}",
            left_out,
            data_kind(own),
        )
        detect = math.exp(-detectable(logs))
        rows.append(verdict(claim, str(task), word, note, interval=interval, seeds=len(logs), detectable=detect))
    reason = "No shallow set of an ultrasound task on all images beside full fine-tuning"
    return rows or [verdict(claim, "all", "not tested", reason)]


TESTS.add("shallow_faster", ClaimTest(shallow_faster, ("fraction", "ratio", "max_censored"), compares=False))
