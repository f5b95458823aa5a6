"""Pictures of what reconstruction networks make of one slice, and how their factors moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch

from analysis.claims.linear_finetuning.tables import FULL, LINEAR
from analysis.filters import scale_factors
from analysis.tables.run_row import run_row
from lib.common.errors import StudyError
from lib.networks.cascade import to_channels, zero_filled
from lib.runs.run import Run, run_dir
from lib.training.goals.reconstruction import magnitude, reconstruction


def reconstruction_runs(runs: Iterable[Run], task: str, volume: str, seed: int) -> dict[str, Run]:
    """The finished runs on a target (as tables name it, `task@rate`) with one volume label and seed, by arm."""
    found = {}
    for run in runs:
        row = run_row(run)
        if (row["task"], row["volume_label"], row["seed"], row["status"]) == (task, volume, seed, "done"):
            found[row["arm"]] = run
    return found


def with_sources(runs: Iterable[Run]) -> list[Run]:
    """The runs, and the runs that they started from, each once."""
    found: dict[str, Run] = {}
    for run in runs:
        found[run.path.name] = run
        if run.spec.source is not None:
            source = Run(run_dir(run.spec.source))
            found.setdefault(source.path.name, source)
    return list(found.values())


@torch.no_grad()
def reconstructed_slices(runs: Mapping[str, Run], place: int = 0) -> dict[str, np.ndarray]:
    """One test slice (h, w) as it is, zero-filled, from the source network as it was, and from each run, by name.

    Args:
        runs: by name, on one task, fold and sampling. place: which of the test slices, a fixed number and no choice.

    Raises:
        StudyError: no run, or not so many test slices.
    """
    if not runs:
        raise StudyError("at least one finished run is needed")
    first = next(iter(runs.values()))
    what = reconstruction(first.spec, torch.device("cpu"))
    if not 0 <= place < len(what.split.test):
        raise StudyError(f"place must be between 0 and {len(what.split.test) - 1}, got {place}")
    index = what.split.test[place : place + 1]
    measured = what.inputs(index)
    found = {
        "reference": what.truth[torch.from_numpy(index)].abs()[0],
        "zero-filled": magnitude(to_channels(zero_filled(measured)))[0],
    }
    networks = dict(runs)
    source = next((run.spec.source for run in runs.values() if run.spec.source is not None), None)
    if source is not None:
        networks = {"no adaptation": Run(run_dir(source)), **networks}
    for name, run in networks.items():
        found[name] = magnitude(what.output(run.model(), measured))[0]
    return {name: image.numpy() for name, image in found.items()}


def factor_table(runs: Iterable[Run]) -> pd.DataFrame:
    """Learned scales beside those that fit full fine-tuning, by layer: `scale_table` for every pair of runs.

    A pair shares task, source, volume, seed and fold. Columns: task, volume_label, seed and those of
    `scale_factors.scale_table`.
    """
    pairs: dict[tuple, dict[str, Run]] = {}
    for run in runs:
        row = run_row(run)
        if row["status"] == "done" and row["arm"] in (LINEAR, FULL):
            key = (row["task"], row["source"], row["volume_label"], row["seed"], row["fold"])
            pairs.setdefault(key, {})[row["arm"]] = run
    tables = []
    for (task, _, volume, seed, _), pair in pairs.items():
        if len(pair) == 2:
            table = scale_factors.scale_table(pair[FULL].weights(0), pair[FULL].weights(), pair[LINEAR].weights())
            tables.append(table.assign(task=task, volume_label=volume, seed=seed))
    columns = ["task", "volume_label", "seed", "layer", "stage", "kind", "kernels", "fitted", "learned", "correlation"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def adapter_sizes(runs: Iterable[Run]) -> pd.DataFrame:
    """What it takes to store each arm beside its source: one row per arm, tensors that differ from it, in kilobytes.

    Columns: arm, trainable (parameters), kilobytes (of 32-bit numbers), share (of a whole network), runs.
    """
    rows = []
    for run in runs:
        row = run_row(run)
        if row["status"] == "done" and row["source"]:
            rows.append({"arm": row["arm"], "trainable": row["trainable"], "parameters": row["parameters"]})
    if not rows:
        return pd.DataFrame(columns=["arm", "trainable", "kilobytes", "share", "runs"])
    table = pd.DataFrame(rows)
    means = table.groupby("arm", sort=False).mean().assign(runs=table.groupby("arm", sort=False).size())
    plain = float(table[table.arm == FULL].parameters.mean()) if (table.arm == FULL).any() else float("nan")
    sized = means.assign(kilobytes=4 * means.trainable / 1000, share=means.trainable / plain)
    return sized.astype({"trainable": int}).reset_index()[["arm", "trainable", "kilobytes", "share", "runs"]]
