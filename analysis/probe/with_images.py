"""What a network computes at every checkpoint of a series: layers against layers, checkpoints against checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.probe.networks import Called, called_layers, choose_layers, input_channels
from analysis.probe.probe_images import read_images
from analysis.probe.subjects import Subject
from analysis.probe.weights_alone import moment_text
from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.represent import Probe, Representations, join, represent_model
from analysis.representations.comparison.compare import Map, compare
from analysis.representations.measures.gram import unpack
from analysis.statistics.random_matrices import effective_rank
from lib.common.errors import StudyError

BUDGET_MB = 1024.0  # of whole maps at a time; beside it lie the network's own maps of four images
AT_ONCE = 4  # images through the network
FEWEST = 16  # images; CKA of fewer says little
MEASURE = "cka_debiased"


def activations_of(
    subjects: Sequence[Subject], images: str, layers: str = "", report: Callable[[str], None] | None = None
) -> tuple[Representations, str]:
    """Representations of chosen layers at every checkpoint of all subjects on the same images, and what was chosen.

    Whole maps, of which Gram matrices are kept. Layers are taken a few at a time, and images left out, so that the
    maps stay within 1024 MB; the words say how many.

    Args:
        images: see `analysis.probe.probe_images.read_images`.
        layers: see `analysis.probe.networks.choose_layers`.

    Raises:
        StudyError: there is no network, or see the two above; fewer than 16 images, or maps too large for 16.
    """
    model = subjects[0].load(subjects[0].series.moments[0])
    given, said = read_images(images, input_channels(model))
    called = called_layers(model, given[:1])
    chosen, how = choose_layers(model, layers, called)
    most = int(BUDGET_MB * 1e6 // (4 * max(each.features for each in chosen)))
    if min(most, len(given)) < FEWEST:
        largest = max(chosen, key=lambda each: each.features)
        raise StudyError(
            f"{FEWEST} images are needed, there are {len(given)} and the maps of {largest.name} ({largest.features} "
            f"numbers an image) leave room for {most} in {BUDGET_MB:.0f} MB; give more or smaller images, or --layers"
        )
    kept = given[:most]
    if len(kept) < len(given):
        said += f"; the first {len(kept)}, as more would not fit into {BUDGET_MB:.0f} MB"
    groups = _groups(chosen, len(kept))
    probe = Probe(kept, Reduction("flatten"), chunk=AT_ONCE)
    parts = []
    for subject in subjects:
        for moment in subject.series.moments:
            network = subject.load(moment)
            for group in groups:
                probe.workspace.clear()
                parts.append(
                    represent_model(network, group, probe, run=subject.title, step=moment.at, budget_mb=2 * BUDGET_MB)
                )
            if report:
                report(f"{subject.title}: {moment_text(moment)} on {len(kept)} images")
    return join(parts), f"{how}; {said}"


def _groups(chosen: Sequence[Called], count: int) -> list[list[str]]:
    """Layers in parts whose whole maps of `count` images fit into the budget."""
    groups, held = list[list[str]](), 0.0
    for each in chosen:
        need = 4 * each.features * count / 1e6
        if not groups or held + need > BUDGET_MB:
            groups.append([])
            held = 0.0
        groups[-1].append(each.name)
        held += need
    return groups


def similarities(found: Representations) -> Map:
    """Every layer of every checkpoint against every other."""
    return compare(found, None, MEASURE)


def block(found: Map, row: tuple[str, int], column: tuple[str, int]) -> pd.DataFrame:
    """Layers of one checkpoint (series, at) down and of another across, with their similarity."""
    rows, columns = (
        [place for place, each in enumerate(found.rows) if (each.run, each.step) == wanted] for wanted in (row, column)
    )
    return pd.DataFrame(
        found.values[np.ix_(rows, columns)],
        index=[found.rows[at].layer for at in rows],
        columns=[found.columns[at].layer for at in columns],
    )


def panels(found: Map, subjects: Sequence[Subject]) -> dict[str, pd.DataFrame]:
    """The blocks worth a look: first, last, first against last of each series, and the last ones of two series."""
    maps, ends = {}, []
    for subject in subjects:
        first, last = subject.series.moments[0], subject.series.moments[-1]
        a, b = (subject.title, first.at), (subject.title, last.at)
        ends.append(b)
        maps[f"{subject.title}, {moment_text(first)}"] = block(found, a, a)
        if a != b:
            maps[f"{subject.title}, {moment_text(last)}"] = block(found, b, b)
            maps[f"{subject.title}, {moment_text(first)} (rows) | {moment_text(last)} (columns)"] = block(found, a, b)
    if len(ends) == 2:
        maps[f"{ends[0][0]} (rows) | {ends[1][0]} (columns), last checkpoints"] = block(found, ends[0], ends[1])
    return maps


def to_ends(found: Map, subject: Subject) -> pd.DataFrame:
    """Similarity of each layer to itself at the first and at the last checkpoint.

    Columns: series, layer, checkpoint, at, start, end.
    """
    first, last = subject.series.moments[0], subject.series.moments[-1]
    rows = []
    for moment in subject.series.moments:
        at = subject.title, moment.at
        start, end = (block(found, at, (subject.title, each.at)) for each in (first, last))
        for place, layer in enumerate(start.index):
            values = start.iloc[place, place], end.iloc[place, place]
            rows.append((subject.title, layer, moment_text(moment), moment.at, *values))
    return pd.DataFrame(rows, columns=["series", "layer", "checkpoint", "at", "start", "end"])


def counterparts(found: Map, subjects: Sequence[Subject]) -> pd.DataFrame:
    """For each layer of the first series' last checkpoint the layer of the second's that is most like it.

    Columns: layer, counterpart, similarity, same (to the layer of the same name; NaN where there is none).
    """
    a, b = ((subject.title, subject.series.moments[-1].at) for subject in subjects)
    table = block(found, a, b)
    rows = []
    for layer, values in table.iterrows():
        same = values[layer] if layer in values.index else np.nan
        known = values.dropna()
        best = known.idxmax() if len(known) else ""
        rows.append((layer, best, known.max() if len(known) else np.nan, same))
    return pd.DataFrame(rows, columns=["layer", "counterpart", "similarity", "same"])


def dimensions(found: Representations, subjects: Sequence[Subject]) -> pd.DataFrame:
    """Effective dimension of each layer's representation of the images at every checkpoint, 1 to images - 1.

    exp of the entropy of the shares of singular values (Roy and Vetterli 2007) of the centered representation.
    Columns: series, layer, checkpoint, at, dimension, most.
    """
    (grams,) = found.grams
    titles = {(s.title, moment.at): moment_text(moment) for s in subjects for moment in s.series.moments}
    rows = []
    for label, packed in zip(found.labels, grams, strict=True):
        values = torch.linalg.eigvalsh(_gram(packed)).clamp_min(0).numpy()
        where = titles[label.run, label.step]
        rows.append((label.run, label.layer, where, label.step, float(effective_rank(values)), len(values) - 1))
    return pd.DataFrame(rows, columns=["series", "layer", "checkpoint", "at", "dimension", "most"])


def _gram(packed: Tensor) -> Tensor:
    return unpack(packed[None].double())[0]
