"""Tests of one layer, each with the null hypothesis that its weights are independent draws of one N(0, s^2).

The scale s is unknown and removed; biases have no part. Each test returns a p-value that is exact, or a simulation's
(1 + number of draws at least as extreme) / (1 + draws), which is valid for any number of draws; where an approximation
is used the docstring says so. `analysis.filters.randomness.calibration` measures their level and power.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy import stats as sps

from analysis.filters.kernels import FilterLayer
from analysis.filters.randomness.kernel_patterns import neighbors, slow_waves
from analysis.statistics import random_matrices
from lib.common.errors import StudyError
from lib.networks.gabor import gabor_atoms

Floats = NDArray[np.float64]
PACKS = 64
LARGE = 1000  # values from which the law of a distance between distributions no longer depends on their number


class NotApplicable(StudyError):
    """The layer is not of the kind that a test can speak of; the message says what it needs."""


@dataclass(frozen=True)
class Outcome:
    """What a test found: the statistic, its mean for random filters, p, and the statistic's 95 % interval, if any."""

    statistic: float
    expected: float
    p: float
    low: float = math.nan
    high: float = math.nan


@dataclass
class Nulls:
    """How null distributions are drawn; those that depend on a layer's shape alone are drawn once and kept.

    Args:
        draws: per simulated distribution; 4999 lets one p-value of 0.0002 survive Holm's correction over 240 tests.
        seed: of every draw.
        permutations: of the tests that permute the layer at hand; by default as many as draws.

    Raises:
        StudyError: fewer than 19 draws, with which no test can reject at 5 %.
    """

    draws: int = 4999
    seed: int = 0
    permutations: int = 0
    _kept: dict[str, Floats] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.permutations = self.permutations or self.draws
        if min(self.draws, self.permutations) < 19:
            raise StudyError(f"a null distribution needs 19 draws or more, got {self.draws}; 4999 is the default")

    def get(self, key: str, simulate: Callable[[np.random.Generator], Floats]) -> Floats:
        """The distribution of that key; its numbers do not depend on what was asked for before."""
        if key not in self._kept:
            self._kept[key] = simulate(np.random.default_rng([self.seed, zlib.crc32(key.encode())]))
        return self._kept[key]


def upper_p(null: Floats, value: float) -> float:
    # A hair of tolerance: a tie counts as one, whatever the order of summation was.
    return (1 + int((null >= value - 1e-12 * abs(value)).sum())) / (1 + len(null))


def kernels_of(layer: FilterLayer, *, least: int = 1) -> Floats:
    """The kernels one below the other, (filters * inputs, taps in use).

    Raises:
        NotApplicable: they have no spatial extent, or there are fewer than `least`.
    """
    taps = int(layer.used.sum())
    kernels = layer.taps().reshape(-1, taps)
    if taps < 2 or len(kernels) < least:
        raise NotApplicable(f"needs {least} kernels of 2 taps or more, got {len(kernels)} of {taps}")
    return kernels


def _two_sided_p(null: Floats, value: float) -> float:
    """By the distance from the mean of all draws, the observed one among them, so that none is treated apart."""
    center = (null.sum() + value) / (len(null) + 1)
    return upper_p(np.abs(null - center), abs(value - center))


def kolmogorov_smirnov(layer: FilterLayer, rng: np.random.Generator, nulls: Nulls) -> Outcome:
    """Largest distance, 0 to 1, between the distribution of the weights and N(0, their mean square).

    As the scale is estimated the usual tables hold only roughly (Lilliefors 1967). The null is simulated for the same
    number of weights; above 1,000 for 1,000, with the factor sqrt(n) + 0.12 + 0.11 / sqrt(n) of Stephens (1970)
    between.
    """
    values = layer.taps().ravel()
    n = min(values.size, LARGE)

    def simulate(draw: np.random.Generator) -> Floats:
        return np.concatenate([_ks(draw.normal(size=(count, n))) for count in _chunks(nulls.draws, n)])

    null = nulls.get(f"ks {n}", simulate) * _stephens(n) / _stephens(values.size)
    statistic = float(_ks(values[None])[0])
    return Outcome(statistic, float(null.mean()), upper_p(null, statistic))


def anderson_darling(layer: FilterLayer, rng: np.random.Generator, nulls: Nulls) -> Outcome:
    """Anderson-Darling distance (A squared, from 0) of the weights from N(0, their mean square): heeds the tails.

    Null as for `kolmogorov_smirnov`; the law of A squared hardly depends on the number of weights.
    """
    values = layer.taps().ravel()
    n = min(values.size, LARGE)

    def simulate(draw: np.random.Generator) -> Floats:
        return np.concatenate([_ad(draw.normal(size=(count, n))) for count in _chunks(nulls.draws, n)])

    null = nulls.get(f"ad {n}", simulate)
    statistic = float(_ad(values[None])[0])
    return Outcome(statistic, float(null.mean()), upper_p(null, statistic))


def _chunks(draws: int, size: int) -> list[int]:
    """`draws` in parts of about a million numbers."""
    most = max(1, 1_000_000 // size)
    return [most] * (draws // most) + ([draws % most] if draws % most else [])


def _stephens(n: int) -> float:
    return math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)


def _sorted(samples: Floats) -> Floats:
    """Rows sorted and divided by their root mean square."""
    ordered = np.sort(samples, axis=1)
    return ordered / np.sqrt(np.einsum("ij,ij->i", ordered, ordered) / ordered.shape[1])[:, None]


def _ks(samples: Floats) -> Floats:
    law = special.ndtr(_sorted(samples))
    n = law.shape[1]
    steps = np.arange(n + 1) / n
    return np.maximum((steps[1:] - law).max(axis=1), (law - steps[:-1]).max(axis=1))


def _ad(samples: Floats) -> Floats:
    x = _sorted(samples)
    n = x.shape[1]
    tails = special.log_ndtr(x) + special.log_ndtr(-x[:, ::-1])
    return -n - tails @ (2 * np.arange(1, n + 1) - 1.0) / n


def spectrum(layer: FilterLayer, rng: np.random.Generator, nulls: Nulls) -> Outcome:
    """Share of energy beyond the Marchenko-Pastur edge, 0 to 1: the sum of how far singular values squared exceed it.

    Of the matrix (filters, inputs * taps). The null is simulated at the same shape, as in a finite matrix some energy
    lies beyond the edge by chance; where none does, p is by what the largest singular value lacks
    (`random_matrices.beyond`).
    """
    matrix = layer.rows()
    n, p = sorted(matrix.shape)
    if n < 2:
        raise NotApplicable(f"needs a matrix with 2 rows and columns or more, got {matrix.shape}")
    edge = random_matrices.marchenko_pastur_edges(n, p)[1] / n  # as a share of the energy

    def simulate(draw: np.random.Generator) -> Floats:
        diagonal, beside = random_matrices.tridiagonal(n, p, nulls.draws, draw)
        energy = diagonal.sum(axis=1)
        return random_matrices.beyond(diagonal, beside, edge * energy) / energy

    own = random_matrices.squared_singular_values(matrix)
    exceeding = random_matrices.exceeding(own / own.sum(), edge)
    null = nulls.get(f"spectrum {n} {p}", simulate)
    return Outcome(max(exceeding, 0.0), float(np.maximum(null, 0.0).mean()), upper_p(null, exceeding))


def variance_entropy(layer: FilterLayer, rng: np.random.Generator, nulls: Nulls) -> Outcome:
    """Entropy, 0 to 1, of the shares of variance of the kernels' principal components, over that of equal shares.

    After Gavrikov and Keuper (arXiv 2203.15331), for any kernel size. Low: few shapes make up all kernels. Two-sided.
    """
    kernels = kernels_of(layer, least=3)
    count, taps = kernels.shape
    most = math.log(min(count - 1, taps))

    def entropy(values: Floats) -> Floats:
        share = np.maximum(values, 0.0) / values.sum(axis=-1, keepdims=True)
        return special.entr(share).sum(axis=-1) / most

    centered = kernels - kernels.mean(axis=0)
    statistic = float(entropy(random_matrices.squared_singular_values(centered)[-min(count - 1, taps) :]))
    key = f"entropy {count} {taps}"
    null = nulls.get(key, lambda draw: entropy(random_matrices.eigenvalues(count - 1, taps, nulls.draws, draw)))
    return Outcome(statistic, float(null.mean()), _two_sided_p(null, statistic))


def smoothness(layer: FilterLayer, rng: np.random.Generator, nulls: Nulls) -> Outcome:
    """Share of the kernels' energy, 0 to 1, in the slow half of their frequencies (`kernel_patterns.slow_waves`).

    For random filters it follows a beta distribution, so p is exact and can be as small as it likes. Two-sided.
    """
    kernels = kernels_of(layer)
    basis = slow_waves(layer.used)
    slow, taps = basis.shape
    if slow == taps:
        raise NotApplicable(f"needs taps that can tell slow from fast, got {taps} in use")
    statistic = float(((kernels @ basis.T) ** 2).sum() / (kernels**2).sum())
    law = sps.beta(len(kernels) * slow / 2, len(kernels) * (taps - slow) / 2)
    p = min(1.0, 2 * min(float(law.cdf(statistic)), float(law.sf(statistic))))
    return Outcome(statistic, slow / taps, p)


def orientation(layer: FilterLayer, rng: np.random.Generator, nulls: Nulls) -> Outcome:
    """Mean over kernels of the share of energy, 0 to 1, that the best of a dictionary of Gabor functions takes.

    Up to 200 kernels the null is simulated; above, the mean is compared with that of four times as many fresh
    kernels by a z test, which is an approximation only in that it takes means of hundreds for normal. Two-sided.
    """
    kernels = kernels_of(layer)
    atoms = gabor_atoms(layer.used)
    best = _best(kernels[kernels.any(axis=1)], atoms)
    statistic = float(best.mean())
    if len(best) <= 200:
        count = len(best)

        def simulate(draw: np.random.Generator) -> Floats:
            parts = _chunks(nulls.draws, count * len(atoms))
            fresh = (_best(draw.normal(size=(part * count, atoms.shape[1])), atoms) for part in parts)
            return np.concatenate([values.reshape(-1, count).mean(axis=1) for values in fresh])

        null = nulls.get(f"orientation {count} {layer.used.astype(int).tolist()}", simulate)
        return Outcome(statistic, float(null.mean()), _two_sided_p(null, statistic))
    sizes = _chunks(4 * len(best), len(atoms))
    fresh = np.concatenate([_best(rng.normal(size=(size, atoms.shape[1])), atoms) for size in sizes])
    z = (statistic - fresh.mean()) / (fresh.std() * math.sqrt(1 / len(best) + 1 / len(fresh)))
    return Outcome(statistic, float(fresh.mean()), float(2 * sps.norm.sf(abs(z))))


def _best(kernels: Floats, atoms: Floats) -> Floats:
    return ((kernels @ atoms.T) ** 2).max(axis=1) / np.einsum("kt,kt->k", kernels, kernels)


def autocorrelation(layer: FilterLayer, rng: np.random.Generator, nulls: Nulls) -> Outcome:
    """Mean product of neighboring weights in a kernel over the mean square of weights, -1 to 1. Two-sided.

    An exact permutation test that assumes nothing of the weights' law: under the null the taps of a kernel may change
    places. Kernels are dealt into at most 64 packs, and the taps of a pack permuted alike, which is a group of
    permutations as good as any (so p is exact) and needs only one small Gram matrix per pack. It asks for the
    arrangement only: a kernel's mean is the same in every arrangement; `smoothness` heeds it.
    """
    kernels = kernels_of(layer)
    taps = kernels.shape[1]
    packs = np.array_split(kernels, min(PACKS, len(kernels)))
    grams = np.stack([pack.T @ pack for pack in packs])  # (packs, taps, taps)
    beside = neighbors(layer.used)
    if not 0 < len(beside) < taps * (taps - 1) / 2:
        raise NotApplicable(f"needs taps of which some lie side by side and some do not, got {layer.grid}")
    scale = float((kernels**2).sum()) * len(beside) / taps
    # Every pair of taps is as likely to come to lie side by side as any other.
    apart = (grams.sum() - np.trace(grams.sum(axis=0))) / (taps * (taps - 1))
    expected = float(apart * len(beside) / scale)
    statistic = float(grams[:, beside[:, 0], beside[:, 1]].sum() / scale)
    flat, first = grams.ravel(), (np.arange(len(packs)) * taps**2)[None]
    null = []
    for count in _chunks(nulls.permutations, len(packs) * taps):
        orders = rng.permuted(np.tile(np.arange(taps), (count, len(packs), 1)), axis=2)
        places = (flat[first + orders[..., i] * taps + orders[..., j]].sum(axis=1) for i, j in beside)
        null.append(sum(places) / scale)
    distance = np.abs(np.concatenate(null) - expected)
    return Outcome(statistic, expected, upper_p(distance, abs(statistic - expected)))
