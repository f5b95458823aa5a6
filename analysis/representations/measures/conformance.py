"""A conformance kit for similarity measures: what an implementation `(X, Y) -> float` must do, as checks.

Point it at any implementation, of this project or another: `conformance("cka", function)`. It gets NumPy arrays of
samples by features and must return a similarity (1 = alike); wrap a distance. Expected values come from closed forms
and from the published formulas, evaluated directly; `test_conformance.py` holds those evaluations.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from analysis.representations.measures.catalog import MEASURES, Measure

Implementation = Callable[[np.ndarray, np.ndarray], float]
Transformation = Callable[[np.ndarray, np.random.Generator], np.ndarray]
TOLERANCE = 1e-6
RANDOM_ROTATION = 0x407


def _rotated(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x @ np.linalg.qr(rng.standard_normal((x.shape[1], x.shape[1])))[0]


TRANSFORMATIONS: dict[str, Transformation] = {
    "permutation": lambda x, rng: x[:, rng.permutation(x.shape[1])],
    "orthogonal": _rotated,
    "scale": lambda x, rng: 3.7 * x,
    "translation": lambda x, rng: x + 2 * rng.standard_normal(x.shape[1]),
    "feature_scale": lambda x, rng: x * np.exp(rng.standard_normal(x.shape[1])),
    "linear": lambda x, rng: x @ (rng.standard_normal((x.shape[1],) * 2) + 3 * np.eye(x.shape[1])),
}


def reference_pair() -> tuple[np.ndarray, np.ndarray]:
    """400 samples of 48 features with falling spread, and of 32 features that are a noisy map of the first 12."""

    def normal(seed: int, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    x = normal(0, 400, 48) * torch.linspace(3, 0.2, 48, dtype=torch.float64)
    y = 0.5 * x[:, :12] @ normal(1, 12, 32) + normal(2, 400, 32)
    return x.numpy(), y.numpy()


GOLDEN = {  # of the reference pair, to six digits
    "cka": 0.734893,
    "cka_debiased": 0.729043,
    "cca": 0.541577,
    "svcca": 0.651119,
    "svcca_singular_sum": 0.541067,
    "pwcca": 0.615422,
    "procrustes": 0.722285,
}
GOLDEN_REVERSED = {**GOLDEN, "pwcca": 0.862645}  # with x and y in each other's place


def two_directions(angle: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Two orthogonal features a side, of norms 2, 1 and 3, 1: the first of each at `angle`, the second equal."""
    t = np.arange(60) * 2 * np.pi / 60
    u = np.stack([np.cos(t), np.sin(t), np.cos(2 * t)], 1) / math.sqrt(30)  # centered and orthonormal
    x = u[:, :2] * [2, 1]
    y = np.stack([math.cos(angle) * u[:, 0] + math.sin(angle) * u[:, 2], u[:, 1]], 1) * [3, 1]
    return x, y


def two_directions_value(measure: str, angle: float = 0.7) -> float | None:
    """What a measure must give for `two_directions`, where it can be worked out by hand."""
    c = math.cos(angle)
    return {
        "cka": (36 * c**2 + 1) / math.sqrt(17 * 82),
        "cca": (c + 1) / 2,
        "svcca": (c + 1) / 2,
        "svcca_singular_sum": (c + 1) / 2,
        "pwcca": (2 * c + 1) / 3,
        "procrustes": (6 * c + 1) / math.sqrt(5 * 10),
    }.get(measure)


class Check(NamedTuple):
    """One thing an implementation must do: `run` returns (what it must give, what it gave, whether that is right)."""

    name: str
    run: Callable[[], tuple[str, str, bool]]


def checks(measure: str, function: Implementation) -> Iterator[Check]:
    """The checks of a measure, from its golden and closed-form values and from what it declares."""
    declared = MEASURES[measure]
    x, y = reference_pair()
    if measure not in GOLDEN:
        x, y = x[:120], y[:120]  # distances between all pairs of samples take their time
    wide = np.random.default_rng(5)
    a, b = wide.standard_normal((50, 400)), wide.standard_normal((50, 300))

    def equal(name: str, expected: float, left: Any, right: Any, tolerance: float = TOLERANCE) -> Check:
        def run() -> tuple[str, str, bool]:
            value = function(left, right)
            return f"{expected:.6f}", f"{value:.6f}", abs(value - expected) <= tolerance

        return Check(name, run)

    def same(name: str, left: Any, right: Any, tolerance: float = TOLERANCE, *, differs: bool = False) -> Check:
        def run() -> tuple[str, str, bool]:
            base, value = function(x, y), function(left, right)
            near = abs(value - base) <= tolerance
            return ("not " if differs else "") + f"{base:.6f}", f"{value:.6f}", near != differs and math.isfinite(value)

        return Check(name, run)

    def refuses(name: str, left: Any, right: Any) -> Check:
        def run() -> tuple[str, str, bool]:
            value = function(left, right)
            return "an error or NaN", f"{value:.6f}", math.isnan(value)

        return Check(name, run)

    if measure in GOLDEN:
        yield equal("golden value", GOLDEN[measure], x, y)
        yield equal("golden value, sides swapped", GOLDEN_REVERSED[measure], y, x)
    by_hand = two_directions_value(measure)
    if by_hand is not None:
        yield equal("value by hand", by_hand, *two_directions())
    yield equal("itself", 1, x, x)
    yield from _invariances(declared, x, y, same)
    if declared.symmetric:
        yield same("sides swapped", y, x)
    yield same("every feature twice", np.hstack([x, x]), y)
    if measure != "rsa_correlation":
        yield same("a constant feature beside", np.hstack([x, np.full((len(x), 1), 5.0)]), y)
    for scale in (1e-12, 1e12):
        yield same(f"scale {scale:g}", scale * x, y)
        yield same(f"scale {scale:g}, float32", np.float32(scale) * x.astype(np.float32), y.astype(np.float32), 1e-4)
    if "translation" in declared.invariant_x:
        moved = (x + 100 * x.std()).astype(np.float32)
        yield same("offset of 100 standard deviations, float32", moved, y.astype(np.float32), 1e-3)
    loud = x.copy()
    loud[:, 0] *= 100
    yield equal("one direction holds 99.9 % of the variance", 1, loud, loud)
    if measure in ("cca", "pwcca"):  # SVCCA may keep few enough
        yield refuses("more features than samples", a, b)
    elif not declared.canonical:
        yield equal("more features than samples, itself", 1, a, a)
    if declared.unbiased:
        yield _mean_of_independent(function)
    yield refuses("a constant representation", np.ones_like(x), y)
    yield refuses("NaN among the values", np.where(x == x.max(), np.nan, x), y)


def _invariances(declared: Measure, x: np.ndarray, y: np.ndarray, same: Callable[..., Check]) -> Iterator[Check]:
    for name, transform in TRANSFORMATIONS.items():
        other = (
            transform(x, np.random.default_rng(RANDOM_ROTATION)),
            transform(y, np.random.default_rng(RANDOM_ROTATION)),
        )
        yield same(f"{name} of x", other[0], y, differs=name not in declared.invariant_x)
        yield same(f"{name} of y", x, other[1], differs=name not in declared.invariant_y)
    if declared.reorderable:
        order = np.random.default_rng(1).permutation(len(x))
        yield same("samples reordered", x[order], y[order])


def _mean_of_independent(function: Implementation) -> Check:
    def run() -> tuple[str, str, bool]:
        rng = np.random.default_rng(6)
        values = [function(rng.standard_normal((40, 100)), rng.standard_normal((40, 80))) for _ in range(30)]
        mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return "0 on average", f"{mean:.3f} +- {error:.3f}", abs(mean) <= 4 * error

    return Check("independent representations", run)


def conformance(measure: str, function: Implementation) -> pd.DataFrame:
    """What an implementation does, one row a check: measure, check, expected, got, ok. Nothing it raises gets out."""
    rows = []
    for check in checks(measure, function):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected, got, ok = check.run()
            except Exception as error:  # whatever another package raises is what is to be recorded
                refused = check.name in (
                    "more features than samples",
                    "a constant representation",
                    "NaN among the values",
                )
                expected, got, ok = (
                    "an error or NaN" if refused else "a value",
                    f"{type(error).__name__}: {error}"[:80],
                    refused,
                )
        rows.append({"measure": measure, "check": check.name, "expected": expected, "got": got, "ok": ok})
    return pd.DataFrame(rows)
