"""How far filters move: statistics between two checkpoints per filter, layer and stage, each beside its null.

A filter is all weights that feed one output channel (`analysis.filters.kernels`). Where a layer is followed by a
normalization the length of a filter means nothing to the network; its direction does: read angles before norms.

Per filter:
    relative_change   |after - before| / |before|; 0 where nothing moved
    cosine, angle     between before and after; in degrees. Null: `random_angle`, and `angle_random_q05`, which one in
                      twenty pairs of independent random filters falls below
    norm_ratio        |after| / |before|
    sign_flips        share of weights that changed sign, of those in use
    affine_share      share of the squared change that one scale and one shift per kernel explain (the assumption
                      of linear fine-tuning, Bi et al. 2023, doi 10.3389/fnins.2023.1202143), 0 to 1. Null: a
                      change that knows nothing of the start gives 2 / taps (`affine_share_chance`), and so does
                      the fit on another kernel's start (`affine_share_permuted`)
    dead_before, dead_after   norm below a thousandth of the layer's median norm
What is undefined (the angle of a zero filter, the affine share of pointwise and of unmoved filters) is NaN.

Per layer, beside quantiles over filters of the above, of the matrix (filters, inputs * taps):
    affine_r2, identity_r2, permuted_r2   share of the energy of the filters after training that is given by their
                      start with one scale and shift per kernel, by their start as it was, and by another kernel's
                      start with scale and shift
    energy_top1, energy_top10   share of the energy of the change in its largest singular direction, and in the
                      largest tenth of them (at least one). Null `..._random`: a random change of the same shape
    rank_before, rank_after     effective rank (Roy and Vetterli 2007), 1 to n. Null `rank_random`: a fresh draw
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats as sps
from torch import Tensor, nn

from analysis.filters.kernels import FilterLayer, Geometry, geometry, geometry_of_run, layer_pairs
from analysis.statistics import random_matrices
from lib.common.errors import StudyError, nearest
from lib.runs.run import Run

Floats = NDArray[np.float64]
QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
PER_FILTER = ["relative_change", "cosine", "angle", "norm_ratio", "sign_flips", "affine_share"]
DEAD = 1e-3
RANDOM_DRAWS = 8  # of a random change: its spectrum hardly varies, and a mean is all that is wanted
_SUMS = ["before2", "after2", "change2", "explained2", "elsewhere2", "permuted2"]


def filter_change(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    *,
    by: str = "layer",
    model: nn.Module | Geometry | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Statistics of the change from one checkpoint to another; columns as the module says.

    Args:
        before: name -> tensor. Factors (`scale_shift` and the like) are multiplied in.
        after: the same network later on.
        by: `filter`, `layer`, or `stage` (which pools the filters of its layers of one kind and has no spectra).
        model: the network, or what `kernels.geometry` says of it; needed where it has transposed layers not called
            `up`, or grouped transposed ones.
        seed: of the random changes that stand beside the spectra.

    Raises:
        StudyError: the checkpoints do not fit each other, hold NaN, or `by` is unknown.
    """
    return _table(before, after, by, geometry(model), _Nulls(seed))


def filter_change_of_run(
    run: Run, *, by: str = "layer", first: int = 0, last: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """`between` for two checkpoints of a run (default: the first and the last)."""
    table = filter_change(run.weights(first), run.weights(last), by=by, model=geometry_of_run(run), seed=seed)
    return table.assign(run_id=run.path.name)


def filter_change_over_training(run: Run, *, by: str = "layer", seed: int = 0) -> pd.DataFrame:
    """`between` step 0 and every later checkpoint of a run, with the columns `run_id` and `step`.

    Raises:
        StudyError: the run has no checkpoint after step 0.
    """
    steps = run.steps()
    if len(steps) < 2 or steps[0] != 0:
        raise StudyError(f"{run.path.name} must have a checkpoint at step 0 and a later one, got steps {steps}")
    later = (run.weights(step) for step in steps[1:])
    tables = changes_since(run.weights(0), later, by=by, model=geometry_of_run(run), seed=seed)
    numbered = [table.assign(step=step) for table, step in zip(tables, steps[1:], strict=True)]
    return pd.concat(numbered, ignore_index=True).assign(run_id=run.path.name)


def changes_since(
    before: Mapping[str, Tensor],
    later: Iterable[Mapping[str, Tensor]],
    *,
    by: str = "layer",
    model: nn.Module | Geometry | None = None,
    seed: int = 0,
) -> Iterator[pd.DataFrame]:
    """`filter_change` from one checkpoint to each of several; what depends on the first alone is computed once."""
    known, nulls = geometry(model), _Nulls(seed)
    for after in later:
        yield _table(before, after, by, known, nulls)


def random_angle(dimension: int, quantile: float = 0.5) -> float:
    """Quantile of the angle in degrees between two independent random filters of `dimension` weights each.

    Closed form for any law without a preferred direction: (1 + cosine) / 2 follows Beta((d - 1) / 2, (d - 1) / 2).

    Raises:
        ValueError: fewer than two weights (one weight is at 0 or 180 degrees), or a quantile outside 0 to 1.
    """
    if dimension < 2 or not 0 <= quantile <= 1:
        raise ValueError(f"a filter needs 2 weights or more and a quantile in 0 to 1, got {dimension}, {quantile}")
    half = (dimension - 1) / 2
    return float(np.degrees(np.arccos(2 * sps.beta.ppf(1 - quantile, half, half) - 1)))


class _Nulls:
    """What a random change of a shape gives, simulated once per shape; and spectra of checkpoints seen before."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random: dict[tuple[int, int], dict[str, float]] = {}
        self._seen: dict[str, tuple[Floats, float]] = {}

    def random(self, rows: int, columns: int) -> dict[str, float]:
        if (rows, columns) not in self._random:
            rng = np.random.default_rng([self.seed, rows, columns])
            spectra = random_matrices.eigenvalues(rows, columns, RANDOM_DRAWS, rng)
            top1, top10 = _top(spectra)
            self._random[rows, columns] = {
                "energy_top1_random": float(top1.mean()),
                "energy_top10_random": float(top10.mean()),
                "rank_random": float(random_matrices.effective_rank(spectra).mean()),
            }
        return self._random[rows, columns]

    def rank_before(self, name: str, matrix: Floats) -> float:
        """Effective rank of a layer at the start, which every later checkpoint is compared with."""
        known = self._seen.get(name)
        if known is None or not np.array_equal(known[0], matrix):
            known = self._seen[name] = (matrix, _rank(matrix))
        return known[1]


def _top(spectrum: Floats) -> tuple[Floats, Floats]:
    """Shares of the largest eigenvalue and of the largest tenth, of ascending spectra (..., n)."""
    total = spectrum.sum(axis=-1)
    count = math.ceil(spectrum.shape[-1] / 10)
    sums = (spectrum[..., -1], spectrum[..., -count:].sum(axis=-1))
    first, second = (np.divide(s, total, out=np.full_like(total, np.nan), where=total > 0) for s in sums)
    return first, second


def _rank(matrix: Floats) -> float:
    return float(random_matrices.effective_rank(random_matrices.squared_singular_values(matrix)))


def _table(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    by: str,
    known: Geometry,
    nulls: _Nulls,
) -> pd.DataFrame:
    if by not in ("filter", "layer", "stage"):
        raise StudyError(nearest("grouping", by, ("filter", "layer", "stage")))
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for first, second in layer_pairs(before, after, known):
        key = (first.stage, first.kind) if by == "stage" else (first.stage, first.kind, first.name)
        measured = _filters(first, second)
        if by == "layer":
            measured |= _spectra(first, second, nulls)
        groups.setdefault(key, []).append(measured)
    if by == "filter":
        frames = [_per_filter(key, measured[0]) for key, measured in groups.items()]
        return pd.concat(frames, ignore_index=True)
    return pd.DataFrame([_pooled(key, measured) for key, measured in groups.items()])


def _per_filter(key: tuple[str, ...], measured: dict[str, Any]) -> pd.DataFrame:
    stage, kind, name = key
    columns = {each: measured[each] for each in [*PER_FILTER, "dead_before", "dead_after"]}
    numbers = np.arange(len(measured["before2"]))
    return pd.DataFrame({"layer": name, "stage": stage, "kind": kind, "filter": numbers, **columns})


def _pooled(key: tuple[str, ...], parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One row for all filters of a layer, or of the layers of a stage."""
    pooled = {name: np.concatenate([part[name] for part in parts]) for name in [*PER_FILTER, *_SUMS]}
    total = {name: float(pooled[name].sum()) for name in _SUMS}
    dead = {name: int(sum(part[name].sum() for part in parts)) for name in ("dead_before", "dead_after")}
    row: dict[str, Any] = {"layer": key[2]} if len(key) == 3 else {"layers": len(parts)}
    row |= {"stage": key[0], "kind": key[1], "filters": len(pooled["before2"]), **dead}
    row["change"] = _ratio(total["change2"], total["before2"]) ** 0.5
    for name in PER_FILTER:
        known = pooled[name][~np.isnan(pooled[name])]
        values = np.quantile(known, list(QUANTILES.values())) if known.size else [math.nan] * len(QUANTILES)
        row |= {f"{name}_{label}": float(value) for label, value in zip(QUANTILES, values, strict=True)}
    random = [random_angle(d, 0.05) if d > 1 else math.nan for d in (part["dimension"] for part in parts)]
    chance = [part["affine_chance"] for part in parts]
    row["angle_random_q05"] = float(np.average(random, weights=[len(part["before2"]) for part in parts]))
    row["affine_share"] = _ratio(total["explained2"], total["change2"])
    row["affine_share_permuted"] = _ratio(total["elsewhere2"], total["change2"])
    row["affine_share_chance"] = float(np.mean(chance))
    row["affine_r2"] = 1 - _ratio(total["change2"] - total["explained2"], total["after2"])
    row["identity_r2"] = 1 - _ratio(total["change2"], total["after2"])
    row["permuted_r2"] = _ratio(total["permuted2"], total["after2"])
    spectra = [name for name in parts[0] if name.startswith(("energy_", "rank_"))]
    return row | {name: parts[0][name] for name in spectra}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _spectra(first: FilterLayer, second: FilterLayer, nulls: _Nulls) -> dict[str, float]:
    used = first.used | second.used
    before, after = first.rows(used), second.rows(used)
    top1, top10 = _top(random_matrices.squared_singular_values(after - before))
    ranks = {"rank_before": nulls.rank_before(first.name, before), "rank_after": _rank(after)}
    return {"energy_top1": float(top1), "energy_top10": float(top10), **ranks, **nulls.random(*before.shape)}


def _filters(first: FilterLayer, second: FilterLayer) -> dict[str, Any]:
    """Every statistic of PER_FILTER, and the sums that the pooled ones are made of, each (filters,)."""
    used = first.used | second.used
    x, y = first.taps(used), second.taps(used)  # (filters, inputs, taps)
    d = y - x
    x2, y2, d2 = (np.einsum("fit,fit->f", each, each) for each in (x, y, d))
    size, after, change = np.sqrt(x2), np.sqrt(y2), np.sqrt(d2)
    with np.errstate(divide="ignore", invalid="ignore"):
        # sin^2 of half the angle, from the distance: for small angles 1 - cosine has no digits left
        half = np.clip((d2 - (after - size) ** 2) / (4 * size * after), 0.0, 1.0)
        result: dict[str, Any] = {
            "relative_change": np.where(change == 0, 0.0, change / size),
            "cosine": 1 - 2 * half,
            "angle": np.degrees(2 * np.arcsin(np.sqrt(half))),
            "norm_ratio": after / size,
        }
        result["relative_change"][np.isinf(result["relative_change"])] = np.nan
        result["norm_ratio"][size == 0] = np.nan
    result["sign_flips"] = (x * y < 0).mean(axis=(1, 2))
    result |= {"dead_before": _dead(size), "dead_after": _dead(after)}
    nan = np.full(len(x), np.nan)
    own = elsewhere = permuted = nan
    taps = x.shape[2]
    if taps > 2:  # a scale and a shift explain anything of two weights
        own = _affine(x, d)
        if x.size > taps:
            source = np.roll(x.reshape(-1, taps), 1, axis=0).reshape(x.shape)  # the start of the kernel before
            elsewhere, permuted = _affine(source, d), _affine(source, y)
    result["affine_share"] = np.minimum(np.divide(own, d2, out=nan.copy(), where=d2 > 0), 1.0)
    sums = (x2, y2, d2, own, elsewhere, permuted)
    return result | dict(zip(_SUMS, sums, strict=True)) | {
        "dimension": x[0].size, "affine_chance": 2 / taps if taps > 2 else math.nan,
    }  # fmt: skip


def _dead(norms: Floats) -> NDArray[np.bool_]:
    return (norms == 0) | (norms < DEAD * np.median(norms))


def _affine(source: Floats, target: Floats) -> Floats:
    """Energy of `target` that a scale times `source` plus a shift, per kernel, explains; (f, i, t) -> (f,)."""
    taps = source.shape[2]
    sums, totals = source.sum(axis=2), target.sum(axis=2)
    across = np.einsum("fit,fit->fi", source, target) - sums * totals / taps
    spread = np.einsum("fit,fit->fi", source, source) - sums**2 / taps
    flat = spread <= 1e-12 * (sums**2 / taps + spread)  # a constant kernel adds nothing to the shift
    return (totals**2 / taps + np.divide(across**2, spread, out=np.zeros_like(across), where=~flat)).sum(axis=1)
