"""What a network computes at every checkpoint of a series: layers against layers, checkpoints against checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from analysis.probe.kept import digest, digest_of_network, kept_folder
from analysis.probe.networks import Called, called_layers, choose_layers, input_channels
from analysis.probe.probe_images import read_images
from analysis.probe.subjects import Subject, for_each
from analysis.probe.weights_alone import moment_text
from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.represent import VERSION, Probe, Representations, join, kept, represent_model
from analysis.representations.comparison.compare import Map, compare
from analysis.representations.comparison.uncertainty import half_samples
from analysis.representations.measures.gram import unpack
from analysis.statistics.random_matrices import effective_rank
from lib.common.errors import StudyError

BUDGET_MB = 1024.0  # of whole maps at a time; beside it lie the network's own maps of four images
AT_ONCE = 4  # images through the network
FEWEST = 16  # images; CKA of fewer says little
MEASURE = "cka_debiased"
_NONE = ("", np.nan, np.nan, np.nan)


def activations_of(
    subjects: Sequence[Subject], images: str, layers: Sequence[str] = (), report: Callable[[str], None] | None = None
) -> tuple[Representations, str]:
    """Representations of chosen layers at every checkpoint of all subjects on the same images, and what was chosen.

    Whole maps, of which Gram matrices are kept, by content (`analysis.probe.kept`). Layers are taken a few at a time,
    and images left out, so that the maps stay within 1024 MB; the words say how many.

    Args:
        images: see `analysis.probe.probe_images.read_images`.
        layers: see `analysis.probe.networks.choose_layers`; one pattern for all subjects, one for each, or none.

    Raises:
        StudyError: there is no network, or see the two above; fewer than 16 images, or maps too large for 16.
    """
    given, said, chosen = plan(subjects, images, layers)
    every = [each for own, _ in chosen for each in own]
    most = int(BUDGET_MB * 1e6 // (4 * max(each.features for each in every)))
    if min(most, len(given)) < FEWEST:
        largest = max(every, key=lambda each: each.features)
        raise StudyError(
            f"{FEWEST} images are needed, there are {len(given)} and the maps of {largest.name} ({largest.features} "
            f"numbers an image) leave room for {most} in {BUDGET_MB:.0f} MB; give more or smaller images, or --layers"
        )
    probe = Probe(given[:most], Reduction("flatten"), chunk=AT_ONCE)
    count = len(probe.images)
    if count < len(given):
        said += f"; the first {count}, as more would not fit into {BUDGET_MB:.0f} MB"
    parts = []
    for subject, (own, _) in zip(subjects, chosen, strict=True):
        for moment in subject.series.moments:
            network = subject.load(moment)
            about = digest_of_network(network)
            found = [_layers(network, about, group, probe, subject.title, moment.at) for group in _groups(own, count)]
            parts += [each for each, _ in found]
            if report:
                was_kept = " (kept)" if all(each for _, each in found) else ""
                report(f"{subject.title}: {moment_text(moment)} on {count} images{was_kept}")
    how = [f"{subject.title}: {words}" for subject, (_, words) in zip(subjects, chosen, strict=True)]
    alike = len({words for _, words in chosen}) == 1
    return join(parts), "; ".join([chosen[0][1]] if alike else how) + f"; {said}"


def _layers(
    network: nn.Module, about: str, layers: list[str], probe: Probe, title: str, at: int
) -> tuple[Representations, bool]:
    """Representations of some layers of one checkpoint, and whether they were kept."""
    key = digest(VERSION, probe.digest, about, layers)
    made = []

    def make() -> Representations:
        made.append(key)
        probe.workspace.clear()
        return represent_model(network, layers, probe, run=title, step=at, budget_mb=2 * BUDGET_MB)

    found = kept(kept_folder() / f"layers-{key[:16]}.safetensors", key, make, run=title, step=at)
    return replace(found, probe=probe.digest), not made


def plan(
    subjects: Sequence[Subject], images: str, layers: Sequence[str] = ()
) -> tuple[Tensor, str, list[tuple[list[Called], str]]]:
    """The images and what they are; and of each subject the layers to look at, and how they were chosen.

    Raises:
        StudyError: there is no network, a network does not take the images, or no layer fits its pattern.
    """
    chosen = []
    given, said = torch.empty(0), ""
    for subject, pattern in zip(subjects, for_each(layers, len(subjects), "layers"), strict=True):
        model = subject.load(subject.series.moments[0])
        given, said = read_images(images, input_channels(model))
        chosen.append(choose_layers(model, pattern, called_layers(model, given[:1])))
    return given, said, chosen


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
    return compare(found, None, MEASURE, cache=kept_folder())


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
    """The blocks worth a look: first, last, first against last of each series; of two the last ones, and step 0."""
    maps, ends, starts = {}, [], []
    for subject in subjects:
        first, last = subject.series.moments[0], subject.series.moments[-1]
        a, b = (subject.title, first.at), (subject.title, last.at)
        ends.append(b)
        starts += [a] if subject.series.start else []
        maps[f"{subject.title}, {moment_text(first)}"] = block(found, a, a)
        if a != b:
            maps[f"{subject.title}, {moment_text(last)}"] = block(found, b, b)
            maps[f"{subject.title}, {moment_text(first)} (rows) | {moment_text(last)} (columns)"] = block(found, a, b)
    if len(ends) == 2:
        maps[f"{ends[0][0]} (rows) | {ends[1][0]} (columns), last checkpoints"] = block(found, ends[0], ends[1])
    if len(starts) == 2:
        maps[f"{ends[0][0]} (rows) | {ends[1][0]} (columns), untrained"] = block(found, starts[0], starts[1])
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


def counterparts(found: Representations, subjects: Sequence[Subject]) -> tuple[pd.DataFrame, str]:
    """For each layer of one of two networks the layer of the other that is most like it, at the last checkpoints.

    A best match is a maximum over layers, and higher than 0 between any two networks: what it is to be held against is
    the best match of the same layer between both at step 0, untrained.

    Returns:
        series, layer, other (the other series), counterpart, similarity, low and high (interval over images), untrained
        (NaN where a series has no step 0), same (to the layer of the same name; NaN where there is none); and what the
        interval is.
    """
    last, first = (
        [found.where(lambda label, s=s, end=end: label[:2] == (s.title, s.series.moments[end].at)) for s in subjects]
        for end in (-1, 0)
    )
    spread = half_samples(last[0], last[1], MEASURE)
    untrained = np.full(spread.map.values.shape, np.nan)
    if all(subject.series.start for subject in subjects):
        untrained = compare(first[0], first[1], MEASURE).values
    names = [[label.layer for label in each.labels] for each in last]
    rows = []
    for one, other in ((0, 1), (1, 0)):
        values, low, high, begun = (
            each if one == 0 else each.T for each in (spread.map.values, spread.low, spread.high, untrained)
        )
        for at, layer in enumerate(names[one]):
            known = np.isfinite(values[at]).any()
            best = int(np.nanargmax(values[at])) if known else 0
            chance = np.nanmax(begun[at]) if np.isfinite(begun[at]).any() else np.nan
            same = values[at, names[other].index(layer)] if layer in names[other] else np.nan
            matched = (names[other][best], values[at, best], low[at, best], high[at, best]) if known else _NONE
            rows.append((subjects[one].title, layer, subjects[other].title, *matched, chance, same))
    columns = ["series", "layer", "other", "counterpart", "similarity", "low", "high", "untrained", "same"]
    return pd.DataFrame(rows, columns=columns), spread.method


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
