"""Texture or shape? The advantage of shallow layers over two dials of the ultrasound simulator, and claim A8."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.claims.evidence import AllOf
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
    interval_text,
    sentences,
    too_few,
)
from analysis.claims.which_layers.layer_sets import SETS_OF_LAYERS, advantages
from analysis.statistics.intervals import mean_interval
from lib.data.tasks.task import TASKS

DIALS = {"grain": "speckle", "shape": "lesion"}  # the name here, and the simulator's dial that says how far


def texture_map(frame: pd.DataFrame) -> pd.DataFrame:
    """Advantages between variants of simulated ultrasound: one row per pair of runs, with the distance of the domains.

    grain, shape: octaves (log2 of the ratio) by which the target's speckle is coarser, and its lesions smaller, than
    the source's. on_map: whether nothing else differs. Further columns: those of `layer_sets.advantages`.
    """
    pairs = advantages(frame)
    variants = {name: task.dials for name, task in TASKS.items() if task.variant}
    pairs = pairs[pairs.task.isin(variants) & pairs.source.isin(variants) & (pairs.matched == 0)].reset_index(drop=True)
    for name, dial in DIALS.items():
        far = [
            math.log2(variants[target].get(dial, 1.0) / variants[source].get(dial, 1.0))
            for target, source in zip(pairs.task, pairs.source, strict=True)
        ]
        pairs[name] = np.abs(np.round(far, 3))
    others = {"density", "dynamic_range"}
    pairs["on_map"] = [not others & set(variants[target]) for target in pairs.task]
    return pairs


def texture_map_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per source, target and set: mean advantage with its 95 % t interval.

    Columns: source, task, title, order, count, grain, shape, on_map, mean, low, high, seeds.
    """
    keys = ["source", "task", "title", "order", "count", *DIALS, "on_map"]
    found = []
    for key, own in rows.groupby(keys, sort=False):
        interval = mean_interval(own.advantage.dropna())
        values = dict(zip(("mean", "low", "high", "seeds"), interval[:4], strict=True))
        found.append({**dict(zip(keys, key, strict=True)), **values})
    return pd.DataFrame(found, columns=[*keys, "mean", "low", "high", "seeds"])


def follows_texture(claim: Claim, frame: pd.DataFrame, evaluations: pd.DataFrame, runs: Runs) -> list[Finding]:
    """On the map: does the shallow advantage grow with the distance in grain, and more than with that in shape (A8)?

    Per source, a plane is fitted to each replicate's map: advantage ~ 1 + grain + shape. The slope over grain minus
    that over shape, and the slope over grain, must both lie above the margin.
    """
    rows = texture_map(frame)
    rows = rows[rows.on_map & rows.advantage.notna()] if len(rows) else rows
    best: tuple[str, pd.DataFrame, str] | None = None
    for source, own in rows.groupby("source"):  # the map with the most cells; the other sources are its control
        cells = own.groupby([*REPLICATE, *DIALS]).advantage.mean().unstack(list(DIALS))
        wide, left_out = complete_replicates(cells, int(claim.value("min_seeds")))
        if best is None or wide.shape[1] > best[1].shape[1]:
            best = (str(source), wide, left_out)
    if best is None or too_few(best[1], claim, "") or len(best[1].columns) < 4:
        return [Finding(claim, "all", "No map of grain and shape; the suite texture trains one")]
    source, wide, left_out = best
    octaves = np.array(list(wide.columns), dtype=np.float64)
    design = np.column_stack([np.ones(len(octaves)), octaves])
    _, grain, shape = (
        pd.Series(row, wide.index) for row in np.linalg.lstsq(design, wide.to_numpy(dtype=np.float64).T, rcond=None)[0]
    )
    margin, unit = claim.value("margin"), "Dice per octave"
    parts = (
        mean("slope over grain - slope over shape", grain - shape, margin, above=True, unit=unit),
        mean("slope over grain", grain, margin, above=True, unit=unit),
    )
    note = sentences(
        f"{len(octaves)} cells from {source}; slope over shape {interval_text(mean_interval(shape))}",
        f"largest mean advantage on the map {wide.mean().max():+.3f}, smallest {wide.mean().min():+.3f}",
        _control(rows, source),
        left_out,
        data_kind(rows),
    )
    return [Finding(claim, "simulated", note, AllOf(parts), len(wide))]


def _control(rows: pd.DataFrame, source: str) -> str:
    """The advantage that is left where another source had the target's grain already."""
    other = rows[rows.source != source]
    words = []
    for task, own in other.groupby("task"):
        first = rows[(rows.source == source) & (rows.task == task)]
        if len(first):
            moved = (
                f"{first.advantage.mean():+.3f} from {source}, {own.advantage.mean():+.3f} from {own.source.iloc[0]}"
            )
            words.append(f"{task} {moved}")
    return f"control, source with another grain: {'; '.join(words)}" if words else ""


TESTS.add("follows_texture", ClaimTest(follows_texture, ("margin",), compares=False, strategies=SETS_OF_LAYERS))
