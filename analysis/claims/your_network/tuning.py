"""Strategies on a network from elsewhere: what moved where, and the names to take home."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch

from analysis.filters.change import filter_change
from lib.networks.stages import Staged, parameters_by_stage
from lib.runs.run import Run


def moved_table(runs: Iterable[Run]) -> pd.DataFrame:
    """What moved between the first and the last checkpoint, a row per run and stage.

    Columns: strategy, stage, parameters, may_move (how many of them the strategy lets change), moved (how many lie in
    tensors that changed), statistics (running ones of normalizations that changed), angle (median over the filters of
    the stage's convolutions, degrees).
    """
    rows = []
    for run in runs:
        model, before, after = run.model(), run.weights(0), run.weights()
        parameters = dict(model.named_parameters())
        changed = [name for name, value in after.items() if not torch.equal(before[name], value)]
        filters = filter_change(before, after, model=model, by="filter")
        angles = filters.groupby([model.stage_of(f"{layer}.weight") for layer in filters.layer]).angle.median()
        for stage, counts in parameters_by_stage(model).items():
            own = [name for name in changed if model.stage_of(name) == stage]
            moved: dict[str, Any] = {
                "moved": sum(parameters[name].numel() for name in own if name in parameters),
                "statistics": sum(name.endswith(("running_mean", "running_var")) for name in own),
            }
            about = {"strategy": run.spec.strategy, "stage": stage, "parameters": counts["parameters"]}
            rows.append({**about, "may_move": counts["trainable"], **moved, "angle": angles.get(stage, float("nan"))})
    return pd.DataFrame(rows)


def names_table(model: Staged, ranking: pd.DataFrame) -> pd.DataFrame:
    """For any other training code: a row per parameter with its stage, and a column per set with `train` or `freeze`.

    Args:
        ranking: from `recommendation.rank_of_start`; sets stand in its order.
    """
    named = [(name, each.numel(), model.stage_of(name)) for name, each in model.named_parameters()]
    table = pd.DataFrame(named, columns=["parameter", "numbers", "stage"])
    for row in ranking.itertuples():
        members = str(row.stages).split()
        table[str(row.set)] = ["train" if stage in members else "freeze" for stage in table.stage]
    return table
