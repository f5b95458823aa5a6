"""How well the ranking of layer sets before training agreed with what the sets then reached, over runs and records.

Within a condition (a task, with the network where it is one from elsewhere, a number of images and a source) and
replicate, ranks of sets by a signal are held against ranks by test Dice, which are also those of the gain over
anything that all sets share. Spearman's correlation, since only the order of the signals has a meaning, and few sets
leave Kendall's with few values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as sps

from analysis.claims.verdicts import REPLICATE
from analysis.claims.which_layers.layer_sets import CONDITION, layer_sets
from analysis.claims.which_layers.recommendation import SIGNALS, rank_layer_sets, rank_of_start
from analysis.statistics.intervals import mean_interval
from lib.common import paths
from lib.networks.stages import Staged
from lib.runs.run import Run, run_dir
from lib.strategies.catalog import subset_stages
from lib.strategies.strategy import check_options

REFERENCES = ("parameters", "other seeds")  # what anybody knows, and what training the sets would have told
JUDGED = (*SIGNALS, "combined", *REFERENCES)
ABOUT = ["model", "title", "kind"]
COLUMNS = [*CONDITION, *REPLICATE, *ABOUT, "signal", "sets", "rho", "best", "lost", "lost_by_chance"]
FILE = "agreement.csv"
SHIPPED = paths.REPOSITORY / "results" / "recommendation" / FILE


def ranking_agreement(frame: pd.DataFrame, runs: Iterable[Run]) -> pd.DataFrame:
    """Ranking before training against test Dice after it: one row per condition, replicate and signal of JUDGED.

    `parameters` ranks by size; `other seeds` by mean test Dice in the condition's other replicates, which is about as
    well as anybody could: where it is low, seeds decide.

    Columns: CONDITION, REPLICATE, ABOUT, signal, sets, rho (Spearman's rank correlation over the whole sets of layers
    that were trained; replicates with fewer than four are left out), best (whether the signal's first choice had the
    highest test Dice), lost and lost_by_chance (test Dice by which the first choice, and the sets on average, fell
    short of the best set). A signal that a start has not, or that is equal for all sets, has no row.

    Args:
        frame: from `results.run_table`. runs: the same runs.
    """
    by_id = {run.path.name: run for run in runs}
    rows = []
    for key, group in _trained_sets(frame).groupby(CONDITION):
        dice = group.pivot(index="label", columns=REPLICATE, values="dice").astype("float64")
        for replicate, own in group.groupby(REPLICATE):
            if len(own) < 4:
                continue
            table = _recommended(own, by_id).set_index("set")
            truth = own.set_index("label").dice.astype("float64")
            others = dice.drop(columns=[replicate]).reindex(truth.index)
            values = {name: table[name] for name in JUDGED if name in table}
            values["other seeds"] = others.mean(axis=1, skipna=False)
            about = dict(zip([*CONDITION, *REPLICATE], (*key, *replicate), strict=True))  # type: ignore[misc]
            about |= {name: own[name].iloc[0] for name in ABOUT}
            rows += [{**about, "signal": name, **_held_against(each, truth)} for name, each in values.items()
                     if each.reindex(truth.index).notna().all() and each.nunique() > 1]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _trained_sets(frame: pd.DataFrame) -> pd.DataFrame:
    sets = layer_sets(frame)
    return sets[(sets.matched == 0) & (sets.side != "whole") & (sets.status == "done")]


def _held_against(value: pd.Series, truth: pd.Series) -> dict[str, Any]:
    value = value.reindex(truth.index)
    first, best = value.idxmax(), float(truth.max())
    return {
        "sets": len(truth),
        "rho": float(sps.spearmanr(value, truth).statistic),
        "best": first == truth.idxmax(),
        "lost": best - float(truth[first]),
        "lost_by_chance": best - float(truth.mean()),
    }


def _recommended(own: pd.DataFrame, by_id: Mapping[str, Run]) -> pd.DataFrame:
    """The recommendation for the runs of `layer_sets` of one condition and replicate."""
    some = by_id[own.run_id.iloc[0]].spec
    model = some.network()
    members = {str(row.label): _members(model, row) for row in own.itertuples()}
    if some.source is None:
        return rank_of_start(some.but(strategy="full_finetuning", options={}), members)
    source = Run(run_dir(some.source))
    return rank_layer_sets(source, some.task, volume=some.volume, seed=some.seed, fold=some.fold, sets=members)


def _members(model: Staged, row: Any) -> list[str]:
    """The stages of a row of `layer_sets`."""
    stages = row.stages.split("+") if row.stages else None
    order, side = (row.order, row.side) if row.order else ("path", "shallow")
    options = {"order": order, "side": side, "count": max(1, int(row.count)), "stages": stages}
    return subset_stages(model, check_options("layer_subset", options))


def example_ranking(frame: pd.DataFrame, runs: Iterable[Run]) -> tuple[pd.DataFrame, pd.Series, str] | None:
    """One recommendation to look at: that for the first seed of the condition with the most sets, the smallest first.

    Returns:
        The table of `rank_layer_sets`, test Dice by name of the set, the condition in words; None without such runs.
    """
    sets = _trained_sets(frame)
    if not len(sets):
        return None
    sizes = sets.groupby([*CONDITION, *REPLICATE]).agg(number=("label", "size"), volume=("volume", "min")).reset_index()
    first = sizes.sort_values(["number", "volume", "seed"], ascending=[False, True, True], kind="stable").iloc[0]
    keys = [*CONDITION, *REPLICATE]
    own = sets[(sets[keys] == first[keys]).all(axis=1)]
    table = _recommended(own, {run.path.name: run for run in runs})
    words = f"{first.task}, {first.volume_label} training images, from {first.source}, seed {first.seed}"
    return table, own.set_index("label").dice.astype("float64"), words


def ranking_agreement_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per task and signal: mean rank correlation with its 95 % t interval over replicates.

    A replicate counts once, with its mean over volumes and sources. Columns: task, signal, rho, low, high, seeds,
    conditions, best (how often the signal's first choice was the best), lost, lost_by_chance (means).
    """
    found = []
    for task in dict.fromkeys(rows.task):
        for signal in JUDGED:
            own = rows[(rows.signal == signal) & (rows.task == task)]
            if len(own):
                values = _correlation(own.groupby(REPLICATE).rho.mean(), "seeds")
                values |= {"conditions": len(own[CONDITION].drop_duplicates()), **_choices(own)}
                found.append({"task": task, "signal": signal, **values})
    columns = ["task", "signal", "rho", "low", "high", "seeds", "conditions", "best", "lost", "lost_by_chance"]
    return pd.DataFrame(found, columns=columns)


def agreement_over_conditions(rows: pd.DataFrame) -> pd.DataFrame:
    """Per signal: mean rank correlation with its 95 % t interval over conditions, each of which counts once.

    The interval says what to expect of another network or task. Conditions that share a network or a task are alike,
    so it is rather too narrow. Columns: signal, rho (a condition's is its mean over replicates), low, high, conditions,
    networks, replicates (of all conditions together), best, lost, lost_by_chance.
    """
    found = []
    for signal in JUDGED:
        own = rows[rows.signal == signal]
        if len(own):
            values = _correlation(own.groupby(CONDITION).rho.mean(), "conditions")
            values |= {"networks": own.model.nunique(), "replicates": len(own), **_choices(own)}
            found.append({"signal": signal, **values})
    columns = ["signal", "rho", "low", "high", "conditions", "networks", "replicates", "best", "lost", "lost_by_chance"]
    return pd.DataFrame(found, columns=columns)


def _correlation(values: pd.Series, counted: str) -> dict[str, float]:
    """Mean of correlations with its t interval, cut off at -1 and 1, beyond which there are none."""
    mean, low, high, count, _ = mean_interval(values)
    return {"rho": mean, "low": max(low, -1.0), "high": min(high, 1.0), counted: count}


def _choices(rows: pd.DataFrame) -> dict[str, float]:
    return {name: float(rows[name].mean()) for name in ("best", "lost", "lost_by_chance")}


def recorded_agreement() -> pd.DataFrame:
    """The agreement that is on record: what ships, and what `python -m analysis agreement` wrote in this study's home.

    Columns as `ranking_agreement`. A condition that is recorded several times counts once, as it was measured here.
    """
    files = [file for file in (*sorted(paths.reports_dir().glob(f"*/{FILE}")), SHIPPED) if file.is_file()]
    tables = [pd.read_csv(file, dtype={"volume_label": str}, comment="#") for file in files]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return rows.drop_duplicates([*CONDITION, *REPLICATE, "signal"], ignore_index=True)


def agreement_text(rows: pd.DataFrame) -> str:
    """What rows of `ranking_agreement` say of the signals, in lines."""
    found = agreement_over_conditions(rows)
    if not len(found):
        return "nothing is on record of how such rankings agreed with training"
    first = found.iloc[0]
    kinds = "simulated tasks" if (rows.kind == "simulated").all() else "tasks"
    lines = [
        f"on {first.conditions:.0f} conditions so far ({rows.model.nunique()} networks, {kinds}, "
        f"{first.replicates:.0f} seeds in all), rank correlation with test Dice after training:"
    ]
    for row in found.itertuples():
        bounds = f" [{row.low:+.2f}, {row.high:+.2f}]" if np.isfinite(row.low) else ""
        lines.append(
            f"  {row.signal:11} {row.rho:+.2f}{bounds}; its first choice fell {row.lost:.3f} Dice short of the best set"
        )
    lines.append(
        f"An average set fell {first.lost_by_chance:.3f} short. parameters: by size alone; other seeds: what "
        "training all sets once more would tell.\nIntervals are 95 % t over conditions"
    )
    if first.conditions < 10:
        lines[-1] += "; these are few, and another network or task may well lie outside"
    return "\n".join(lines) + "."
