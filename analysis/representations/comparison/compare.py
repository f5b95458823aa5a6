"""Every representation against every other: all (run, checkpoint, layer) pairs of a measure in one pass, as a table.

Each representation is prepared once. Its centered Gram matrix becomes a vector, so that all CKA and RSA pairs are one
matrix product; or its features become an orthonormal basis, so that all CCA pairs are small decompositions, done
together; any other measure of the catalog is computed pair by pair. The arithmetic is float64. A layer that is
constant, or has too few samples for the measure, gets NaN and a note that says so.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.representations.capture.represent import Label, Representations
from analysis.representations.comparison import all_pairs, precomputed
from analysis.representations.comparison.precomputed import Prepared
from analysis.representations.measures.catalog import MEASURES
from analysis.representations.measures.cca import Basis, chance_correlation
from analysis.representations.measures.cka import unbiased
from lib.common.device import memory_budget_mb
from lib.common.errors import StudyError
from lib.common.progress import QUIET_SECONDS, time_text
from lib.runs.tensor_files import read_kept, write_tensors

BUDGET_MB = 512.0
VERSION = 1  # of kept maps; those of another version are made again
Report = Callable[[str], None]


@dataclass(frozen=True)
class Map:
    """A measure between two lists of representations.

    Args:
        values: (rows, columns), NaN where a note says why.
        chance: (rows, columns), about what representations with nothing in common would give.
        row_notes: what is to be said of each row's representation, or "".
        column_notes: the same for columns.
        samples: how many the representations have.
        about: the probe.
    """

    measure: str
    rows: tuple[Label, ...]
    columns: tuple[Label, ...]
    values: np.ndarray
    chance: np.ndarray
    row_notes: list[str]
    column_notes: list[str]
    samples: int
    about: str

    def table(self) -> pd.DataFrame:
        """One row a pair: run, step and layer of both, measure, value, chance, note, samples, probe."""
        rows = np.repeat(np.arange(len(self.rows)), len(self.columns))
        columns = np.tile(np.arange(len(self.columns)), len(self.rows))
        labels = {
            f"{field}_{side}": [each[at] for each in (all_of[where] for where in places)]
            for side, all_of, places in (("a", self.rows, rows), ("b", self.columns, columns))
            for at, field in enumerate(Label._fields)
        }
        notes = [(self.row_notes[row], self.column_notes[column]) for row, column in zip(rows, columns, strict=True)]
        return pd.DataFrame(labels).assign(
            measure=self.measure,
            value=self.values.ravel(),
            chance=self.chance.ravel(),
            note=["; ".join(dict.fromkeys(note for note in both if note)) for both in notes],
            samples=self.samples,
            probe=self.about,
        )


def compare(
    a: Representations,
    b: Representations | None = None,
    measure: str = "cka_debiased",
    *,
    device: str | torch.device = "cpu",
    budget_mb: float | None = None,
    seed: int = 0,
    cache: Path | None = None,
    report: Report | None = None,
) -> Map:
    """A measure between all representations of `a` and all of `b` (None: those of `a`, each pair once).

    Args:
        measure: a name in `analysis.representations.measures.catalog.MEASURES`.
        budget_mb: what is worked on at once may take, beside bases of CCA; None: 512, on a GPU half of what is free.
        seed: of the random pairing of samples behind the chance level of `procrustes`; the others' are computed.
        cache: folder to keep the map in, under the content of both sides; worth it for CCA-type maps of many layers.
        report: gets a line every few seconds while pairs are decomposed, with the time left.

    Raises:
        StudyError: unknown measure; not the same probe; only Gram matrices where features are needed, or those of
            batches where one of all images is needed.
    """
    MEASURES[measure]  # a misspelt name is told before anything is computed
    sides = [a] if b is None else [a, b]
    for each in sides:
        precomputed.check(each, measure)
        if (each.samples, each.about, each.probe) != (a.samples, a.about, a.probe):
            other = "other images" if each.about == a.about else repr(each.about)
            raise StudyError(f"both sides must share a probe, got {a.about!r} and {other}")
    if cache is not None:
        again = functools.partial(compare, a, b, measure, device=device, budget_mb=budget_mb, seed=seed, report=report)
        return _kept(sides, measure, seed, cache, again)
    own = BUDGET_MB if torch.device(device).type == "cpu" else memory_budget_mb(torch.device(device))
    budget = int((own if budget_mb is None else budget_mb) * 1e6)
    if measure in precomputed.DECOMPOSED:
        kind = "folded" if measure == "procrustes" else "bases"
    elif measure not in precomputed.VECTORS:
        kind = "plain"
    else:
        kind = "features" if _in_feature_space(sides, measure, budget) else "vectors"
    most = max(1, budget // (8 * a.samples**2))  # representations a side whose vectors, 4 n^2 bytes each, fit
    if kind == "vectors" and max(len(each.labels) for each in sides) > most:
        return _in_parts(a, sides[-1], measure, most, {"device": device, "budget_mb": budget_mb, "seed": seed})
    with torch.no_grad():
        ready = [_prepare(each, kind, measure, device) for each in sides]
        left, right = ready[0], ready[-1]
        values = torch.zeros(len(left.used), len(right.used), dtype=torch.float64)
        chance = values
        if values.numel():
            values, chance = _values(left, right, kind, measure, a.samples, budget, seed, _lines(report))
    spread = [_spread(found, left, right) for found in (values, chance)]
    return Map(measure, a.labels, sides[-1].labels, spread[0], spread[1], left.notes, right.notes, a.samples, a.about)


def _kept(sides: list[Representations], measure: str, seed: int, cache: Path, make: Callable[[], Map]) -> Map:
    """The map as it was kept in a folder, or made now and kept."""
    digest = hashlib.sha256(f"{VERSION} {measure} {seed} {sides[0].about}".encode())
    for side in sides:
        digest.update(json.dumps(side.labels).encode())
        for each in (*side.features, *side.grams):
            digest.update(f"{each.dtype}{tuple(each.shape)}".encode() + each.cpu().contiguous().numpy().tobytes())
    key = digest.hexdigest()
    file = cache / f"{measure}-{key[:16]}.safetensors"
    stored = read_kept(file, key)
    if stored is not None:
        tensors, metadata = stored
        a, b = sides[0], sides[-1]
        arrays = [tensors[name].numpy() for name in ("values", "chance")]
        notes = json.loads(metadata["notes"])
        return Map(measure, a.labels, b.labels, arrays[0], arrays[1], notes[0], notes[1], a.samples, a.about)
    made = make()
    cache.mkdir(parents=True, exist_ok=True)
    tensors = {"values": torch.from_numpy(made.values), "chance": torch.from_numpy(made.chance)}
    write_tensors(file, tensors, {"key": key, "notes": json.dumps([made.row_notes, made.column_notes])})
    return made


def _in_parts(a: Representations, b: Representations, measure: str, most: int, options: dict[str, Any]) -> Map:
    """The map put together from maps of at most `most` representations a side."""
    rows, columns = (
        [each.at(range(first, min(first + most, len(each.labels)))) for first in range(0, len(each.labels), most)]
        for each in (a, b)
    )
    grid = [[compare(row, column, measure, **options) for column in columns] for row in rows]
    return Map(
        measure,
        a.labels,
        b.labels,
        np.block([[each.values for each in line] for line in grid]),
        np.block([[each.chance for each in line] for line in grid]),
        [note for line in grid for note in line[0].row_notes],
        [note for each in grid[0] for note in each.column_notes],
        a.samples,
        a.about,
    )


def _spread(found: Tensor, left: Prepared, right: Prepared) -> np.ndarray:
    """Values of the representations that could be compared, among NaN for those that could not."""
    whole = np.full((len(left.notes), len(right.notes)), np.nan)
    whole[np.ix_(left.used, right.used)] = found.cpu().numpy()
    return whole


def _in_feature_space(sides: list[Representations], measure: str, budget: int) -> bool:
    """Whether CKA is less work, or fits, only as products of features rather than of Gram matrices."""
    if measure not in ("cka", "cka_debiased") or not sides[0].features:
        return False
    n = sides[0].samples
    widths = [sum(each.shape[1] for each in side.features) for side in sides]
    counts = [len(side.labels) for side in sides]
    in_features = n * widths[0] * widths[-1]
    in_grams = n**2 * sum(widths) + n**2 * counts[0] * counts[-1] // 2
    return in_features < in_grams or 4 * n**2 * sum(counts) > budget


def _prepare(found: Representations, kind: str, measure: str, device: str | torch.device) -> Prepared:
    if kind == "folded":
        return precomputed.folded(found, device)
    return getattr(precomputed, kind)(found, measure, device)


def _values(
    left: Prepared,
    right: Prepared,
    kind: str,
    measure: str,
    n: int,
    budget: int,
    seed: int,
    report: Callable[[float], None] | None,
) -> tuple[Tensor, Tensor]:
    """Values and chance levels of all pairs of prepared forms."""
    if kind == "vectors":
        a = torch.stack(left.forms)
        b = a if right is left else torch.stack(right.forms)
        values = all_pairs.cosines(a, b)
        chance = torch.zeros_like(values)
        return values, _trace_chance(_vector_spread(a, n), _vector_spread(b, n), n) if measure == "cka" else chance
    if kind == "features":
        return _of_features(left.forms, right.forms, measure, n, budget)
    if kind == "folded":
        values = all_pairs.decompositions(left.forms, right.forms, _nuclear, budget, report)
        shuffle = torch.from_numpy(np.random.default_rng(seed).permutation(n))
        others = [each[shuffle] for each in right.forms]
        return values, all_pairs.decompositions(left.forms, others, _nuclear, budget, report)
    if kind == "plain":
        return all_pairs.one_by_one(left.forms, right.forms, MEASURES[measure], seed, report)
    value = functools.partial(_weighted, left.forms) if measure == "pwcca" else _mean
    sides = [[basis.u for basis in side.forms] for side in (left, right)]
    mirrored = right is left and MEASURES[measure].symmetric
    values = all_pairs.decompositions(sides[0], sides[0] if mirrored else sides[1], value, budget, report)
    widths = [[each.shape[1] for each in side] for side in sides]
    chance = [[chance_correlation(n, p, q) for q in widths[1]] for p in widths[0]]
    return values, torch.tensor(chance, dtype=torch.float64)


def _nuclear(products: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
    return torch.linalg.svdvals(products).sum(-1)


def _mean(products: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
    return torch.linalg.svdvals(products).mean(-1)


def _weighted(bases: list[Basis], products: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
    """PWCCA of every pair, seen from its row."""
    vectors, correlations, _ = torch.linalg.svd(products, full_matrices=False)
    projected = [a.mT * bases[row].s @ bases[row].v.mT for a, (row, _) in zip(vectors, places, strict=True)]
    weights = torch.stack([each.abs().sum(1) for each in projected])
    return (weights * correlations).sum(1) / weights.sum(1)


def _of_features(
    a: list[precomputed.Features], b: list[precomputed.Features], measure: str, n: int, budget: int
) -> tuple[Tensor, Tensor]:
    """CKA, biased or not, from products of features."""
    left = [each.x for each in a]
    cross = all_pairs.square_norms(left, left if b is a else [each.x for each in b], budget)
    norms = [torch.stack([each.square for each in side]).sqrt() for side in (a, b)]
    spread = [torch.stack([each.spread for each in side]) for side in (a, b)]
    traces = [each.sum(1) for each in spread]
    if measure == "cka":
        return cross / norms[0][:, None] / norms[1], _trace_chance(traces[0] / norms[0], traces[1] / norms[1], n)
    cross = unbiased(cross, traces[0][:, None], traces[1], spread[0] @ spread[1].mT, n)
    return cross / norms[0][:, None] / norms[1], torch.zeros_like(cross)


def _vector_spread(vectors: Tensor, n: int) -> Tensor:
    """Traces of the Gram matrices behind vectors of biased CKA, over their norms."""
    row = torch.arange(n, device=vectors.device)
    diagonal = row * n - row * (row - 1) // 2  # places of the diagonal in a packed upper triangle
    return vectors[:, diagonal].sum(1) / vectors.norm(dim=1)


def _trace_chance(a: Tensor, b: Tensor, n: int) -> Tensor:
    """Biased CKA's mean over all pairings of samples: tr K tr L / ((n - 1) |K| |L|), exactly."""
    return a[:, None] * b / (n - 1)


def _lines(report: Report | None) -> Callable[[float], None] | None:
    """Turns shares that are done into a line every few seconds."""
    if report is None:
        return None
    began = last = time.monotonic()

    def line(share: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > QUIET_SECONDS:
            last = now
            report(f"{share:.0%} of all pairs ({time_text((now - began) * (1 - share) / share)} left)")

    return line
