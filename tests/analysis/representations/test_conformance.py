"""The kit passes what is right and catches what is planted wrong, the mistakes of published packages among it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.representations.measures import cka
from analysis.representations.measures.catalog import MEASURES
from analysis.representations.measures.conformance import (
    TRANSFORMATIONS,
    conformance,
    reference_pair,
    two_directions,
    two_directions_value,
)


def failed(measure: str, function) -> set[str]:
    table = conformance(measure, function)
    assert list(table) == ["measure", "check", "expected", "got", "ok"]
    assert set(table["measure"]) == {measure}
    return set(table[~table["ok"]]["check"])


def uncentered(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y))


def clamped(x: np.ndarray, y: np.ndarray) -> float:
    return max(0.0, cka.cka_debiased(x, y))


def with_epsilon(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y) + 1e-4))


def overflowing(x: np.ndarray, y: np.ndarray) -> float:
    a, b = (torch.as_tensor(z - z.mean(0), dtype=torch.float32) for z in (x, y))
    squares = [(left.T @ right).square().sum() for left, right in ((a, b), (a, a), (b, b))]
    return float(squares[0] / (squares[1] * squares[2]).sqrt())


def coefficients_for_variates(x: np.ndarray, y: np.ndarray) -> float:
    """PWCCA with the whitening left out of the variates."""
    x, y = x - x.mean(0), y - y.mean(0)
    (ux, _, vx), (uy, _, _) = (np.linalg.svd(z, full_matrices=False) for z in (x, y))
    a, correlations, _ = np.linalg.svd(ux.T @ uy, full_matrices=False)
    weights = abs((x @ vx.T @ a).T @ x).sum(1)
    return float(np.average(correlations, weights=weights))


def test_missing_centering_is_caught() -> None:
    found = failed("cka", uncentered)
    assert {"translation of x", "translation of y", "a constant representation"} <= found
    assert "orthogonal of x" not in found


def test_clamping_is_caught() -> None:
    assert failed("cka_debiased", clamped) == {"independent representations"}


def test_a_hidden_epsilon_is_caught() -> None:
    found = failed("cka", with_epsilon)
    assert {"scale 1e-12", "scale 1e-12, float32"} <= found
    assert "scale 1e+12" not in found


def test_an_overflow_is_caught() -> None:
    assert {"scale 1e+12", "scale 1e-12", "golden value"} - failed("cka", overflowing) == {"golden value"}


def test_wrong_projection_weights_are_caught() -> None:
    assert {"golden value", "golden value, sides swapped"} <= failed("pwcca", coefficients_for_variates)


def test_another_measure_is_not_taken_for_this_one() -> None:
    assert "golden value" in failed("cka_debiased", cka.cka)
    assert {"golden value", "value by hand"} <= failed("procrustes", cka.cka)
    assert {"linear of x", "feature_scale of x"} <= failed("cca", cka.cka)
    assert "linear of y" in failed("svcca", MEASURES["cca"])


def test_whatever_is_raised_becomes_a_row() -> None:
    def broken(x: np.ndarray, y: np.ndarray) -> float:
        raise IndexError("boolean index did not match")

    table = conformance("pwcca", broken)
    assert set(table[table["ok"]]["check"]) == {
        "more features than samples",
        "a constant representation",
        "NaN among the values",
    }
    assert set(table["got"]) == {"IndexError: boolean index did not match"}


@pytest.mark.parametrize("measure", ["cka", "cca", "svcca", "svcca_singular_sum", "pwcca", "procrustes"])
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2])
def test_values_by_hand(measure: str, angle: float) -> None:
    x, y = two_directions(angle)
    assert np.allclose(x.T @ x, np.diag([4, 1]))
    assert np.allclose(y.T @ y, np.diag([9, 1]))
    expected = two_directions_value(measure, angle)
    assert expected is not None
    assert MEASURES[measure](x, y) == pytest.approx(expected, abs=1e-12)


def test_transformations_do_what_their_names_say() -> None:
    x, _ = reference_pair()
    rng = np.random.default_rng(0)
    moved = {name: transform(x, rng) for name, transform in TRANSFORMATIONS.items()}
    distances = {name: np.linalg.norm(each[0] - each[1]) / np.linalg.norm(x[0] - x[1]) for name, each in moved.items()}
    for name in ("permutation", "orthogonal", "translation"):
        assert distances[name] == pytest.approx(1)
    assert distances["scale"] == pytest.approx(3.7)
    for name in ("feature_scale", "linear"):
        assert not math.isclose(distances[name], 1)
        assert np.linalg.matrix_rank(moved[name]) == x.shape[1]
