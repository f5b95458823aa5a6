"""Which layers of a source network are reused: what training keeps of them, and what each part of it is worth.

*Reuse* of a layer is how alike its representation is before and after fine-tuning, minus the same for a network that
started at random, which also keeps some of what it began with. The second route is the transplant: only some stages
come from the source, and the gain says what those are worth (Karimi, Warfield, Gholipour, arXiv 2006.00356; the
computation is ours).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.representations.run_similarity import LayerMaps
from analysis.statistics.intervals import mean_interval, time_ratio
from analysis.tables import convergence, paired_gains
from analysis.tables.results import with_own_source


def before_after(maps: LayerMaps) -> pd.DataFrame:
    """One row per seed and layer: similarity before and after training of the fine-tuned and of the random start.

    Columns: seed, fold, layer, depth (0 to 1 along the data path), early (first half of the encoder), tuned, random and
    reuse (their difference). Seeds that have both runs.
    """
    ends = {(group, point): maps.places(group, point) for group in ("own", "random") for point in ("start", "end")}
    seeds = sorted(set.intersection(*(set(each) for each in ends.values())))
    rows, folds = [], maps.checkpoints.fold
    for seed in seeds:
        fold = int(folds[ends["own", "end"][seed]])
        kept = [maps.values[:, ends[group, "start"][seed], ends[group, "end"][seed]] for group in ("own", "random")]
        for at, layer in enumerate(maps.layers):
            tuned, random = (float(each[at]) for each in kept)
            rows.append((seed, fold, layer, maps.depth[at], at < maps.early, tuned, random, tuned - random))
    return pd.DataFrame(rows, columns=["seed", "fold", "layer", "depth", "early", "tuned", "random", "reuse"])


def untrained_similarity(maps: LayerMaps) -> pd.DataFrame:
    """Mean similarity of two untrained networks by layer, which is what the architecture alone gives: layer, value."""
    places = list(maps.places("random", "start").values())
    pairs = ~np.eye(len(places), dtype=bool)
    values = [float(each[np.ix_(places, places)][pairs].mean()) if pairs.any() else np.nan for each in maps.values]
    return pd.DataFrame({"layer": maps.layers, "value": values})


def reuse_profile(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with t intervals: one row per layer and quantity (tuned, random or reuse).

    Columns: layer, depth, early, quantity, mean, low, high, seeds.
    """
    rows = []
    for layer, own in table.groupby("layer", sort=False):
        for quantity in ("tuned", "random", "reuse"):
            found = mean_interval(own[quantity])
            rows.append((layer, own.depth.iloc[0], own.early.iloc[0], quantity, *found[:4]))
    return pd.DataFrame(rows, columns=["layer", "depth", "early", "quantity", "mean", "low", "high", "seeds"])


def reuse_by_seed(table: pd.DataFrame) -> pd.DataFrame:
    """Per seed: slope of reuse over depth (per whole way from input to output), and its mean in early and later layers.

    Columns: seed, fold, slope, early, later.
    """
    rows = []
    for (seed, fold), own in table.groupby(["seed", "fold"]):
        slope = np.polyfit(own.depth, own.reuse, 1)[0]
        rows.append((seed, fold, slope, own.reuse[own.early].mean(), own.reuse[~own.early].mean()))
    return pd.DataFrame(rows, columns=["seed", "fold", "slope", "early", "later"])


def transplant_table(frame: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """What the parts of a source are worth: one row per task, volume and arm, `transplant` and full fine-tuning.

    The gain in test Dice over scratch, and the steps to 95 % of the plateau that an arm shares with scratch over those
    of scratch, both paired by seed, with t intervals. Runs that never get there count with their whole budget. Only
    tasks and volumes that have transplants.

    Columns: task, title, kind, volume_label, arm, gain, gain_low, gain_high, ratio, ratio_low, ratio_high, never and
    seeds.
    """
    rows, cell = with_own_source(frame), ["task", "volume_label"]
    rows = rows.merge(rows.loc[rows.strategy == "transplant", cell].drop_duplicates(), on=cell)
    gains = pd.concat([paired_gains.gain(rows, name) for name in ("full_finetuning", "transplant")])
    times = convergence.time_to_plateau(rows, curves, [0.95])
    found = []
    for (task, volume, arm), own in gains.groupby([*cell, "arm"], sort=False):
        gain = mean_interval(own.gain.dropna())
        same = (times.task == task) & (times.volume_label == volume) & (times.arm == arm)
        both = times[same].dropna(subset=["steps", "reference_steps"])
        ratio = time_ratio(both.steps.astype("float64"), both.reference_steps.astype("float64"))
        never = int((~both.reached.astype(bool)).sum())
        about = (task, own.title.iloc[0], own.kind.iloc[0], volume, arm)
        found.append((*about, *gain[:3], *ratio[:3], never, gain.n))
    columns = ["task", "title", "kind", "volume_label", "arm", "gain", "gain_low", "gain_high"]
    columns += ["ratio", "ratio_low", "ratio_high", "never", "seeds"]
    return pd.DataFrame(found, columns=columns)
