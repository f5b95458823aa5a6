"""`python -m analysis recommend`: which layers to tune on a task, with names for any other training code."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.which_layers.recommendation import rank_layer_sets, rank_of_start
from lib.common import paths
from lib.common.errors import StudyError
from lib.networks.stages import Staged
from lib.runs.listing import find_run
from lib.runs.spec import RunSpec

LEGEND = (
    "rank 1: the highest gain, by how much the loss falls on images that a first step did not see. Gradients and shift "
    "are second and third opinions. All three are guesses before training; notebook 04 holds them against trained runs"
)


def parameter_sets(model: Staged, table: pd.DataFrame) -> list[dict[str, Any]]:
    """For each set of a ranking, best first: rank, set, names of the parameters to train and of those to freeze."""
    names = [name for name, _ in model.named_parameters()]
    found = []
    for row in table.sort_values("rank").itertuples():
        stages = str(row.stages).split()
        train = [name for name in names if model.stage_of(name) in stages]
        freeze = [name for name in names if name not in set(train)]
        found.append({"rank": int(row.rank), "set": row.set, "train": train, "freeze": freeze})  # type: ignore[arg-type]
    return found


def recommend(options: argparse.Namespace) -> int:
    """Print the ranking, and write it with the names of parameters; returns the exit code."""
    if (options.source is None) == (options.network is None):
        raise StudyError("recommend needs --source RUN, or --network MAP with --weights FILE, and not both")
    if (options.network is None) != (options.weights is None):
        raise StudyError("--network and --weights belong together: an untrained network has no layers to recommend")
    if options.source is not None:
        run = find_run(options.source)
        table, model = rank_layer_sets(run, options.task, volume=options.volume), run.model()
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
    total = sum(each.numel() for each in model.parameters())
    table = table.assign(share=table.parameters / total)
    folder = options.out or paths.reports_dir() / f"recommend-{options.task}"
    paths.write_atomic(folder / "ranking.csv", table.to_csv(index=False))
    paths.write_atomic(folder / "parameters.json", json.dumps(parameter_sets(model, table), indent=1) + "\n")
    columns = ["rank", "set", "parameters", "share", "gain", "gradient", "shift"]
    print(table[columns].to_string(index=False, float_format="{:.3g}".format))
    print(f"{LEGEND}.\nwritten to {Path(folder)}: ranking.csv; parameters.json (names to train and to freeze)")
    return 0
