"""Tests that only average and subtract outcomes, read off as matrices, so that studies can be drawn by the thousand.

Most tests turn outcomes into the replicates of their parts by a linear map: pairs, means over conditions, slopes. The
map is found by asking the real test what each single outcome does, and it is held against the real test on random
outcomes: where they differ, the test is no linear map, and every study goes through it. What comes after, from
replicates to words, is the real code in any case.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from analysis.claims.error_rates.study import NONE, Floats, Study
from analysis.claims.evidence import Joint, Part, leaves
from analysis.claims.means import Difference, Mean
from analysis.claims.verdicts import Finding

STEP = 0.01
NUMBERS = {Mean: ("values",), Difference: ("first", "second")}  # by which outcomes enter the parts


def shortened(study: Study, rng: np.random.Generator) -> Study:
    """The same study, through a matrix where its test is linear in the outcomes."""
    if study.spread is not None:  # of squares
        return study
    first = study.find(study.base)
    if any(each.evidence is None or not _plain(each.evidence) for each in first):
        return study
    drawn = np.any([np.atleast_2d(each.codes.T != NONE).any(axis=0) for each in study.noise], axis=0)
    drawn |= (study.knobs != 0).any(axis=0)
    places = np.array([np.flatnonzero((study.copy == copy) & drawn) for copy in range(study.copies)])
    start, count = _numbers(first[0]), places.shape[1]
    matrix = np.zeros((len(start), count))
    for block in range(0, count, study.copies):
        moved, outcomes = range(block, min(block + study.copies, count)), study.base.copy()
        outcomes[[places[copy, at] for copy, at in enumerate(moved)]] += STEP
        for at, before, finding in zip(moved, first, study.find(outcomes), strict=False):
            numbers = _numbers(finding)
            if len(numbers) != len(start):
                return study
            matrix[:, at] = (numbers - _numbers(before)) / STEP

    def find(values: Floats) -> list[Finding]:
        numbers = start + (values - study.base)[places] @ matrix.T
        return [_with(finding, own) for finding, own in zip(first, numbers, strict=True)]

    trial = study.base + np.where(drawn, rng.normal(0, 0.05, len(study.base)), 0.0)
    both = zip(find(trial), study.find(trial), strict=True)
    alike = all(
        one.barred == other.barred and np.allclose(_numbers(one), _numbers(other), atol=1e-6) for one, other in both
    )
    return dataclasses.replace(study, find=find) if alike else study


def _plain(part: Part) -> bool:
    return all(type(leaf) in NUMBERS for leaf, *_ in leaves(part))


def _numbers(finding: Finding) -> Floats:
    assert finding.evidence is not None
    return np.concatenate(
        [getattr(leaf, name) for leaf, *_ in leaves(finding.evidence) for name in NUMBERS[type(leaf)]]
    )


def _with(finding: Finding, numbers: Floats) -> Finding:
    """The finding with other numbers in its parts."""
    rest = list(numbers)

    def filled(part: Any) -> Any:
        if isinstance(part, Joint):
            return type(part)(tuple(filled(each) for each in part.parts))
        sizes = {name: len(getattr(part, name)) for name in NUMBERS[type(part)]}
        return dataclasses.replace(
            part, **{name: np.array([rest.pop(0) for _ in range(size)]) for name, size in sizes.items()}
        )

    return dataclasses.replace(finding, evidence=filled(finding.evidence))
