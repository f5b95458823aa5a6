"""`python -m analysis recommend`: which layers to tune on a task, their costs, and names for other training code."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.which_layers.agreement import agreement_text, recorded_agreement
from analysis.claims.which_layers.recommendation import (
    ALL,
    COSTS,
    fine_tuning,
    rank_layer_sets,
    rank_of_start,
    set_costs,
)
from lib.common import paths
from lib.common.device import device_name, pick_device
from lib.common.errors import StudyError
from lib.data.tasks.task import get_task
from lib.networks.stages import Staged
from lib.runs.listing import find_run
from lib.runs.spec import RunSpec

LEGEND = """\
rank 1: the highest gain, by how much the loss falls on images that a first step did not see. gradient and shift are
two further signals; combined is 1 for a set that is first in all three, 0 for one that is last in all.
share: of all parameters. step_ms: milliseconds of a step (forward, backward, optimizer), the median of 8 in turns.
memory_mb: MB that a step needs beside the weights,
"""
COUNTED = {
    True: "the most that was allocated",
    False: "counted (kept for the backward pass, gradients, optimizer state); a peak is higher",
}


def parameter_sets(model: Staged, table: pd.DataFrame) -> list[dict[str, Any]]:
    """For each set of a ranking, best first: rank, set, costs, names of the parameters to train and of those to freeze.

    Args:
        table: of `rank_layer_sets`, with the COSTS of `set_costs` where they were measured.
    """
    names = [name for name, _ in model.named_parameters()]
    found = []
    for row in table.sort_values("rank").to_dict("records"):
        stages = str(row["stages"]).split()
        train = [name for name in names if model.stage_of(name) in stages]
        freeze = [name for name in names if name not in set(train)]
        costs = {key: row[key] for key in ("parameters", *COSTS) if key in row}
        found.append({"rank": row["rank"], "set": row["set"], **costs, "train": train, "freeze": freeze})
    return found


def recommend(options: argparse.Namespace) -> int:
    """Print the ranking, and write it with the names of parameters; returns the exit code."""
    if (options.source is None) == (options.network is None):
        raise StudyError("recommend needs --source RUN, or --network MAP with --weights FILE, and not both")
    if (options.network is None) != (options.weights is None):
        raise StudyError("--network and --weights belong together: an untrained network has no layers to recommend")
    if options.source is not None:
        run = find_run(options.source)
        people = get_task(options.task).people
        fold = run.spec.fold if people and people == get_task(run.spec.task).people else 0
        table, model = rank_layer_sets(run, options.task, volume=options.volume, fold=fold), run.model()
        start = fine_tuning(run, options.task, options.volume, fold=fold)
    else:
        start = RunSpec(
            task=options.task,
            model=options.network,
            weights=options.weights,  # type: ignore[arg-type]
            strategy="full_finetuning",
            volume=options.volume,
            size=options.size,
        )
        table, model = rank_of_start(start), start.network()
    costs = set_costs(start, table).set_index("set")
    whole = costs.loc[ALL]
    table = table.assign(share=table.parameters / whole.parameters).join(costs[list(COSTS)], on="set")
    folder = options.out or paths.reports_dir() / f"recommend-{options.task}"
    paths.write_atomic(folder / "ranking.csv", table.to_csv(index=False))
    paths.write_atomic(folder / "parameters.json", json.dumps(parameter_sets(model, table), indent=1) + "\n")
    columns = ["rank", "set", "parameters", "share", "gain", "gradient", "shift", "combined", "step_ms", "memory_mb"]
    print(table[columns].to_string(index=False, float_format="{:.3g}".format))
    device = pick_device()
    sides = " x ".join(map(str, start.patch))
    print(
        f"{ALL}: {whole.parameters:,.0f} parameters, {whole.step_ms:.3g} ms and {whole.memory_mb:.3g} MB a step\n\n"
        f"{LEGEND}{COUNTED[device.type == 'cuda']}.\n"
        f"Measured with {start.batch} inputs of {sides} a step on {device_name(device)}.\n\n"
        f"A guess before training. How it fared:\n{agreement_text(recorded_agreement())}\n\n"
        f"written to {Path(folder)}: ranking.csv; parameters.json (costs, names to train and to freeze)"
    )
    return 0
