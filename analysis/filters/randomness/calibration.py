"""Does the battery of randomness tests keep its word? Level on random layers, power on planted structure, controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats as sps
from scipy.ndimage import gaussian_filter

from analysis.filters.kernels import FilterLayer
from analysis.filters.randomness.battery import TESTS, examine
from analysis.filters.randomness.layer_tests import NotApplicable, Nulls
from lib.common.registry import Registry
from lib.data.simulate import anatomy
from lib.data.simulate.catalog import SIMULATORS
from lib.networks.gabor import gabor_atoms

Floats = NDArray[np.float64]
# A first layer, a deep one, an upsampling one, large kernels, kernels in space, and few filters of one kernel each.
SHAPES = [(16, 1, 3, 3), (64, 32, 3, 3), (32, 64, 2, 2), (64, 3, 7, 7), (16, 4, 3, 3, 3), (8, 1, 3, 3)]
STRENGTHS = (0.05, 0.2, 0.5)

STRUCTURES: Registry[Callable[[tuple[int, ...], np.random.Generator], Floats]] = Registry("structure")


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Noise blurred inside each kernel by a Gaussian with a standard deviation of one tap."""
    return gaussian_filter(rng.normal(size=shape), sigma=[0, 0, *[1.0] * (len(shape) - 2)], mode="nearest")


def _gabor(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """One Gabor function per kernel, drawn from the dictionary, with a normal amplitude."""
    atoms = gabor_atoms(np.ones(shape[2:], dtype=bool))
    return (atoms[rng.integers(len(atoms), size=shape[:2])] * rng.normal(size=(*shape[:2], 1))).reshape(shape)


def _low_rank(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """A matrix (filters, inputs * taps) of rank two."""
    return (rng.normal(size=(shape[0], 2)) @ rng.normal(size=(2, math.prod(shape[1:])))).reshape(shape)


def _sparse(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Normal values at one weight in ten and zeros elsewhere: heavy tails and no arrangement."""
    return rng.normal(size=shape) * (rng.random(shape) < 0.1)


STRUCTURES.add("smooth", _smooth)
STRUCTURES.add("gabor", _gabor)
STRUCTURES.add("low_rank", _low_rank)
STRUCTURES.add("sparse", _sparse)


def planted(structure: str, shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> FilterLayer:
    """A random layer of which a share `strength`, 0 to 1, of the energy is structure.

    Args:
        structure: one of STRUCTURES.
        shape: (filters, inputs, *grid).
        strength: 0 gives a random layer, 1 nothing but structure.
        rng: where it is drawn from.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be a share of the energy, 0 to 1, got {strength}")
    pattern = STRUCTURES[structure](shape, rng)
    pattern = pattern / np.sqrt(np.mean(pattern**2))
    kernels = math.sqrt(1 - strength) * rng.normal(size=shape) + math.sqrt(strength) * pattern
    return FilterLayer(f"planted.{structure}", "convolution", kernels)


def learned(
    filters: int = 32, side: int = 7, *, dim: int = 2, seed: int = 0, patches: int = 4000, rounds: int = 10
) -> FilterLayer:
    """A layer trained to visible structure: edges and bars, learned from patches of simulated natural scenes.

    Spherical k-means on whitened patches (Coates and Ng 2012) finds what a first layer finds on photographs. In space
    (`dim` 3) patches are those of simulated heads, and what is found are plates and blobs.
    """
    rng = np.random.default_rng(seed)
    if dim == 2:
        images = [SIMULATORS["natural"](index, size=64, seed=seed)[0] for index in range(20)]
    else:
        images = [anatomy.labeled_volume("brain", index, "T1", size=48)[0] for index in range(4)]
    corners = rng.integers(images[0].shape[0] - side, size=(patches, dim))
    chosen = rng.integers(len(images), size=patches)
    cut = [
        images[k][tuple(slice(first, first + side) for first in corner)].ravel()
        for k, corner in zip(chosen, corners, strict=True)
    ]
    x = np.array(cut, dtype=np.float64)
    x = x - x.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    x = x @ vectors / np.sqrt(np.maximum(values, 0.0) + 0.1 * values.mean()) @ vectors.T
    centers = rng.normal(size=(filters, x.shape[1]))
    for _ in range(rounds):
        centers /= np.linalg.norm(centers, axis=1, keepdims=True)
        scores = x @ centers.T
        best = np.abs(scores).argmax(axis=1)
        won = np.zeros_like(scores)
        won[np.arange(patches), best] = scores[np.arange(patches), best]
        centers = won.T @ x + 1e-9 * centers
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    return FilterLayer("learned", "convolution", centers.reshape(filters, 1, *(side,) * dim))


def level(
    *,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    layers: int = 1000,
    names: Sequence[str] | None = None,
    alpha: float = 0.05,
    draws: int = 4999,
    seed: int = 0,
) -> pd.DataFrame:
    """How often each test rejects truly random layers, one row per shape and test.

    Columns: shape, test, layers, rejected, rate, low and high (what rejection at `alpha` gives by chance in 99 of
    100 such counts, as rates), within. Tests that do not apply to a shape have no row.
    """
    rows = []
    for shape in shapes:
        for name, p in _p_values("smooth", shape, 0.0, layers, names, draws, seed).items():
            rejected = int((np.array(p) < alpha).sum())
            low, high = sps.binom.ppf([0.005, 0.995], layers, alpha) / layers
            rate = rejected / layers
            counts = {"layers": layers, "rejected": rejected, "rate": rate, "low": low, "high": high}
            rows.append({"shape": _label(shape), "test": name, **counts, "within": low <= rate <= high})
    return pd.DataFrame(rows)


def power(
    *,
    structures: Sequence[str] | None = None,
    shapes: Sequence[tuple[int, ...]] = SHAPES[:2],
    strengths: Sequence[float] = STRENGTHS,
    layers: int = 100,
    names: Sequence[str] | None = None,
    alpha: float = 0.05,
    draws: int = 999,
    seed: int = 1,
) -> pd.DataFrame:
    """How often each test finds planted structure: shape, structure, strength (share of energy), test, layers, rate."""
    rows = []
    for shape in shapes:
        for structure in STRUCTURES if structures is None else structures:
            for strength in strengths:
                found = _p_values(structure, shape, strength, layers, names, draws, seed)
                described = {"shape": _label(shape), "structure": structure, "strength": strength}
                rows += [
                    {**described, "test": name, "layers": len(p), "rate": float((np.array(p) < alpha).mean())}
                    for name, p in found.items()
                ]
    return pd.DataFrame(rows)


def controls(*, draws: int = 4999, seed: int = 0) -> pd.DataFrame:
    """P-values of every test on layers that nobody would take for random, and on random ones: control, test, p."""
    rng = np.random.default_rng(seed)
    layers = {
        "Gabor bank": planted("gabor", (64, 3, 7, 7), 0.95, rng),
        "smooth filters": planted("smooth", (32, 16, 3, 3), 0.95, rng),
        "learned from scenes": learned(seed=seed),
        "random": planted("smooth", (32, 16, 3, 3), 0.0, rng),
        "Gabor bank in space": planted("gabor", (64, 3, 5, 5, 5), 0.95, rng),
        "smooth filters in space": planted("smooth", (32, 8, 3, 3, 3), 0.95, rng),
        "learned from heads": learned(side=5, dim=3, seed=seed),
        "random in space": planted("smooth", (32, 8, 3, 3, 3), 0.0, rng),
    }
    nulls = Nulls(draws, seed)
    return pd.DataFrame(
        [
            {"control": label, "test": name, **vars(examine(layer, name, nulls, number))}
            for number, (label, layer) in enumerate(layers.items())
            for name in TESTS
        ]
    )


def _p_values(
    structure: str,
    shape: tuple[int, ...],
    strength: float,
    layers: int,
    names: Sequence[str] | None,
    draws: int,
    seed: int,
) -> dict[str, list[float]]:
    """P-values of each test over independent layers; tests that do not apply are left out."""
    nulls = Nulls(draws, seed, permutations=min(draws, 999))  # of each layer anew: more would only cost
    found: dict[str, list[float]] = {}
    for number, layer in enumerate(_draws(structure, shape, strength, layers, seed)):
        for name in TESTS if names is None else names:
            try:
                found.setdefault(name, []).append(examine(layer, name, nulls, number).p)
            except NotApplicable:
                del found[name]  # of a shape, it never does
    return found


def _draws(structure: str, shape: tuple[int, ...], strength: float, layers: int, seed: int) -> Iterator[FilterLayer]:
    for number in range(layers):
        yield planted(structure, shape, strength, np.random.default_rng([seed, number, *shape]))


def _label(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
