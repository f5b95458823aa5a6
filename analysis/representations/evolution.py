"""How representations evolve: every checkpoint against the first and the last, and layers against layers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.figures.explorers import rounded
from analysis.representations.comparison.compare import Map
from analysis.representations.run_similarity import comparable_runs, layer_maps, probe_images, similarity_map
from analysis.tables.results import with_own_source
from lib.runs.run import Run

GROUPS = {"full_finetuning": "own", "scratch": "random", "shuffled_labels": "shuffled"}
NAMES = {"own": "from a source", "random": "from random weights"}


def runs_to_follow(frame: pd.DataFrame, runs: Mapping[str, Run]) -> tuple[str, dict[str, Run]] | None:
    """The task to look at, and one run of each group: of those with most checkpoints, then most runs, the first seed.

    Groups are *own* (fine-tuned), *random* (from scratch) and, where there are any, *shuffled* (labels). None where no
    task has the first two.
    """
    best: tuple[tuple[int, int], str, dict[str, Run]] | None = None
    for task in dict.fromkeys(frame.task):
        rows = comparable_runs(frame, task)
        rows = with_own_source(rows[rows.run_id.isin(list(runs))])
        own = rows.groupby("seed").strategy.nunique()
        if not len(own) or own.max() < 2:
            continue
        seed = own.index[own == own.max()].min()
        chosen = {GROUPS[row.strategy]: runs[row.run_id] for row in rows[rows.seed == seed].itertuples()}
        if {"own", "random"} <= set(chosen):
            rank = (len(chosen["random"].steps()), len(rows))
            if best is None or rank > best[0]:
                best = rank, task, chosen
    return None if best is None else best[1:]


def every_checkpoint(chosen: Mapping[str, Run], images: int | None = None) -> Map:
    """Every stage of every checkpoint of these runs against every other, on `run_similarity.probe_images`."""
    runs = list(chosen.values())
    probe = probe_images(runs[0].spec.task, runs[0].spec.size, runs, images)
    return similarity_map([(run, step) for run in runs for step in run.steps()], probe)


def similarity_to_ends(found: Map, chosen: Mapping[str, Run]) -> pd.DataFrame:
    """Per group, stage and checkpoint: similarity to the run's first and to its last checkpoint.

    Columns: group, layer, step, start, end.
    """
    maps = layer_maps(found, {run.path.name: run for run in chosen.values()})
    rows = []
    for group, run in chosen.items():
        own = maps.checkpoints[maps.checkpoints.run_id == run.path.name]
        first, last = own.index[0], own.index[-1]
        for at, layer in enumerate(maps.layers):
            for place, step in own.step.items():
                rows.append((group, layer, step, maps.values[at, first, place], maps.values[at, last, place]))
    return pd.DataFrame(rows, columns=["group", "layer", "step", "start", "end"])


def checkpoint_block(found: Map, row: tuple[Run, int], column: tuple[Run, int]) -> Map:
    """The part of a map that sets one checkpoint (a run and an index into its steps) against another."""
    places = []
    for run, at in (row, column):
        label = (run.path.name, run.steps()[at])
        places.append([place for place, each in enumerate(found.rows) if each[:2] == label])
    rows, columns = places
    return dataclasses.replace(
        found,
        rows=tuple(found.rows[at] for at in rows),
        columns=tuple(found.columns[at] for at in columns),
        values=found.values[rows][:, columns],
        chance=found.chance[rows][:, columns],
        row_notes=[found.row_notes[at] for at in rows],
        column_notes=[found.column_notes[at] for at in columns],
    )


def layers_by_checkpoint(found: Map, chosen: Mapping[str, Run]) -> dict[str, Any]:
    """For an explorer: every stage against every other at the checkpoints that all these runs have.

    Returns:
        layers, steps, measure, and pairs: of networks, each with a name and values (steps, layers x layers), None where
        a similarity is not known.
    """
    runs = {group: run for group, run in chosen.items() if group in NAMES}
    steps = sorted(set.intersection(*(set(run.steps()) for run in runs.values())))
    pairs = []
    for one, other in itertools.combinations_with_replacement(runs, 2):
        blocks = [
            checkpoint_block(found, *((runs[group], runs[group].steps().index(step)) for group in (one, other)))
            for step in steps
        ]
        alone = f"{NAMES[one]}, with itself"
        name = alone if one == other else f"{NAMES[one]} (rows), {NAMES[other]} (columns)"
        pairs.append({"name": name, "values": [rounded(block.values) for block in blocks]})
    pairs.sort(key=lambda pair: "itself" in pair["name"])  # that of two networks first
    layers = list(dict.fromkeys(label.layer for label in found.rows))
    return {"layers": layers, "steps": steps, "measure": "CKA", "pairs": pairs}


def layer_pairs(found: Map, chosen: Mapping[str, Run]) -> dict[str, Map]:
    """The maps that are worth a look: each network with itself, untrained and trained, and the two with one another."""
    own, random = chosen["own"], chosen["random"]
    maps = {
        "untrained | with itself": checkpoint_block(found, (random, 0), (random, 0)),
        "from random weights | with itself": checkpoint_block(found, (random, -1), (random, -1)),
        "from a source | with itself": checkpoint_block(found, (own, -1), (own, -1)),
        "source (rows) | with random (columns)": checkpoint_block(found, (own, -1), (random, -1)),
    }
    if "shuffled" in chosen:
        maps["shuffled labels | with itself"] = checkpoint_block(
            found, (chosen["shuffled"], -1), (chosen["shuffled"], -1)
        )
    return maps
