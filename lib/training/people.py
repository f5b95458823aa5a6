"""Which images a run trains, validates and tests on, and that no one of its test was in the training of its source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lib.common.errors import StudyError
from lib.data.tasks.carried import Data
from lib.data.tasks.images import load_data
from lib.data.tasks.splits import Split, split
from lib.data.tasks.task import get_task
from lib.data.tasks.volumes import VolumeData
from lib.runs.spec import RunSpec

NAMED = 3  # groups in a message


def split_of(spec: RunSpec, data: Data | VolumeData) -> Split:
    """The split of a run: of the validation images those that it looks at.

    Raises:
        StudyError: no such fold, or too few images.
    """
    parts = split(spec.task, data.groups, fold=spec.fold, volume=spec.volume, seed=spec.seed, folds=data.folds)
    if spec.validation is None or spec.validation >= len(parts.val):
        return parts
    # By fold and not by seed: arms and seeds are compared on the same images.
    chosen = np.random.default_rng([spec.fold, 0x7A1]).permutation(len(parts.val))[: spec.validation]
    return replace(parts, val=parts.val[np.sort(chosen)])


def check_apart(spec: RunSpec, data: Data | VolumeData, own: Split) -> None:
    """Refuse a source that was trained, or chosen, on a group that is a test group of this run.

    Groups are compared by name, where both sets are real and know their groups. Simulated sets have no people.

    Raises:
        StudyError: names the groups, and what to write into the cards.
    """
    here, tested, source = get_task(spec.task), {data.groups[index] for index in own.test}, spec.source
    while source is not None:
        there = get_task(source.task)
        if here.kind == there.kind == "real" and here.groups_known and there.groups_known:
            theirs = load_data(source.task, source.size)
            parts = split_of(source, theirs)
            shared = sorted(tested & {theirs.groups[index] for part in (parts.train, parts.val) for index in part})
            if shared:
                some = ", ".join(shared[:NAMED]) + (" ..." if len(shared) > NAMED else "")
                raise StudyError(
                    f"{len(shared)} test groups of {spec.task!r} have the names of groups that the source was trained "
                    f'on in {source.task!r} ({some}). If they are the same people, write people = "NAME" under [split] '
                    "in both cards, and give both runs one fold; if they are not, rename the groups of one set"
                )
        source = source.source
