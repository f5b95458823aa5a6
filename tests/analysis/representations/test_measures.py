"""Measures against their published formulas, against answers planted by hand, and against what they declare."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.stats import spearmanr

from analysis.representations.measures import cka as measures_cka
from analysis.representations.measures.catalog import MEASURES, chance, sample_permutation_p
from analysis.representations.measures.cca import (
    FewSamples,
    TooFewSamples,
    cca,
    chance_correlation,
    pwcca,
    svcca,
    svcca_singular_sum,
)
from analysis.representations.measures.cka import SortedSamples, cka, cka_debiased, cka_minibatch
from analysis.representations.measures.conformance import GOLDEN, TRANSFORMATIONS, conformance, reference_pair
from analysis.representations.measures.gram import (
    ConstantRepresentation,
    center_gram,
    centered,
    checked,
    gram,
    normalized,
    pack,
    squared_distances,
    tall_gram,
    u_center,
    unpack,
)
from analysis.representations.measures.procrustes import procrustes
from analysis.representations.measures.rsa import rsa
from lib.common.errors import StudyError

CANONICAL = [name for name, each in MEASURES.items() if each.canonical]


def quiet(measure: str, x, y, **options) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewSamples)
        warnings.simplefilter("ignore", SortedSamples)
        return MEASURES[measure](x, y, **options)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def related(n: int, p: int, q: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two representations that share some directions."""
    x = normal(seed, n, p) * np.linspace(2, 0.5, p)
    shared = min(p, q) // 2
    return x, x[:, :shared] @ normal(seed + 1, shared, q) / 2 + normal(seed + 2, n, q)


# ---- the published formulas, written out without any shortcut ----------------------------------------------------


def direct(measure: str, x: np.ndarray, y: np.ndarray) -> float:
    n = len(x)
    x, y = x - x.mean(0), y - y.mean(0)
    k, m = x @ x.T, y @ y.T
    if measure == "cka":
        h = np.eye(n) - 1 / n
        return np.trace(k @ h @ m @ h) / math.sqrt(np.trace(k @ h @ k @ h) * np.trace(m @ h @ m @ h))
    if measure == "cka_debiased":
        return unbiased_hsic(k, m) / math.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
    if measure == "cka_minibatch":
        parts = np.array_split(np.arange(n), math.ceil(n / 64))
        both = ((k, m), (k, k), (m, m))
        sums = [sum(unbiased_hsic(a[np.ix_(i, i)], b[np.ix_(i, i)]) for i in parts) for a, b in both]
        return sums[0] / math.sqrt(sums[1] * sums[2])
    if measure == "procrustes":
        return np.linalg.norm(y.T @ x, "nuc") / np.linalg.norm(x) / np.linalg.norm(y)
    if measure == "rsa":
        row, column = np.triu_indices(n, 1)
        return spearmanr(*(np.linalg.norm(z[row] - z[column], axis=1) for z in (x, y))).statistic
    assert measure in ("cca", "svcca", "svcca_singular_sum", "pwcca"), f"write out the published formula of {measure}"
    (ux, sx, vx), (uy, sy, _) = (np.linalg.svd(z, full_matrices=False) for z in (x, y))
    power = {"svcca": 2, "svcca_singular_sum": 1}.get(measure)
    if power:
        kept = [int(np.searchsorted(np.cumsum(s**power) / np.sum(s**power), 0.99)) + 1 for s in (sx, sy)]
        ux, uy = ux[:, : kept[0]], uy[:, : kept[1]]
    a, correlations, _ = np.linalg.svd(ux.T @ uy)
    if measure == "pwcca":
        variates = x @ vx.T @ np.diag(1 / sx) @ a  # canonical variates from their coefficients, not from u
        variates = variates[:, : len(correlations)]
        assert np.allclose(variates.T @ variates, np.eye(len(correlations)))
        weights = [sum(abs(h @ feature) for feature in x.T) for h in variates.T]
        return float(np.average(correlations, weights=weights))
    return float(correlations.mean())


def unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. 2012, equation 5, as printed."""
    n, one = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ m) + middle - 2 / (n - 2) * one @ k @ m @ one) / (n * (n - 3)))


@pytest.mark.parametrize("measure", sorted(set(MEASURES) - {"rsa_correlation"}))
@pytest.mark.parametrize(("n", "p", "q"), [(200, 12, 7), (200, 7, 12), (150, 8, 8), (40, 90, 60), (40, 90, 5)])
def test_agrees_with_the_published_formula(measure: str, n: int, p: int, q: int) -> None:
    if MEASURES[measure].canonical and max(p, q) > n:
        pytest.skip("refused, which another test looks at")
    x, y = related(n, p, q)
    assert quiet(measure, x, y) == pytest.approx(direct(measure, x, y), abs=1e-10)
    assert quiet(measure, x, y, dtype=torch.float32) == pytest.approx(direct(measure, x, y), abs=1e-5)


def test_rsa_correlation_agrees_with_numpys_correlations() -> None:
    x, y = related(30, 9, 5)
    row, column = np.triu_indices(30, 1)
    expected = spearmanr(*(1 - np.corrcoef(z)[row, column] for z in (x, y))).statistic
    assert MEASURES["rsa_correlation"](x, y) == pytest.approx(expected, abs=1e-10)


def test_golden_values_are_those_of_the_formulas() -> None:
    x, y = reference_pair()
    for measure, value in GOLDEN.items():
        assert direct(measure, x, y) == pytest.approx(value, abs=5e-7)
    assert direct("pwcca", y, x) == pytest.approx(0.862645, abs=5e-7)


# ---- what the registry declares ----------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
def test_every_declaration_holds_true_and_false(measure: str) -> None:
    table = conformance(measure, MEASURES[measure])
    assert len(table) >= 24
    assert table["ok"].all(), table[~table["ok"]].to_string()


def test_an_asymmetric_measure_says_so() -> None:
    x, y = reference_pair()
    assert quiet("pwcca", x, y) != pytest.approx(quiet("pwcca", y, x), abs=0.1)
    assert not MEASURES["pwcca"].symmetric


def test_only_the_minibatch_estimate_depends_on_the_order_of_samples() -> None:
    x, y = related(200, 12, 7)
    order = np.random.default_rng(3).permutation(200)
    assert cka_minibatch(x[order], y[order]) != pytest.approx(cka_minibatch(x, y), abs=1e-4)
    assert [name for name, each in MEASURES.items() if not each.reorderable] == ["cka_minibatch"]


def test_declarations_name_known_transformations() -> None:
    for each in MEASURES.values():
        assert each.invariant_x | each.invariant_y <= set(TRANSFORMATIONS)


@pytest.mark.parametrize("measure", MEASURES)
def test_values_stay_in_the_declared_range(measure: str) -> None:
    for seed in range(5):
        for x, y in (related(60, 5, 4, seed), (normal(seed, 60, 5), normal(seed + 99, 60, 5))):
            assert MEASURES[measure].low - 1e-12 <= quiet(measure, x, y) <= 1 + 1e-12


def test_unbiased_measures_go_below_zero_and_are_not_cut_off() -> None:
    for measure in [name for name, each in MEASURES.items() if each.unbiased]:
        values = [quiet(measure, normal(seed, 30, 50), normal(seed + 50, 30, 50)) for seed in range(8)]
        assert min(values) < 0 < max(values)


# ---- planted answers ---------------------------------------------------------------------------------------------


def test_biased_cka_of_noise_is_high_and_debiased_is_not() -> None:
    x, y = normal(0, 50, 400), normal(1, 50, 400)
    assert cka(x, y) > 0.85
    assert abs(cka_debiased(x, y)) < 0.1


def test_a_representation_that_contains_another_has_canonical_correlations_of_one() -> None:
    x = normal(0, 300, 9)
    assert cca(x, x[:, :4] @ normal(1, 4, 4)) == pytest.approx(1, abs=1e-10)
    assert pwcca(x, x[:, :4] @ normal(1, 4, 4)) == pytest.approx(1, abs=1e-10)
    assert cka(x, x[:, :4]) < 0.9


def test_svcca_looks_only_at_the_directions_that_hold_the_variance() -> None:
    loud, quiet_x, quiet_y = normal(0, 300, 2), normal(1, 300, 3), normal(2, 300, 3)
    x, y = np.hstack([loud, 0.01 * quiet_x]), np.hstack([loud, 0.01 * quiet_y])
    assert svcca(x, y) > 0.999
    assert cca(x, y) < 0.6


def test_the_two_conventions_of_svcca_differ_where_the_spectrum_is_steep() -> None:
    x, y = reference_pair()
    with pytest.warns(FewSamples):
        assert svcca(x, y) - svcca_singular_sum(x, y) > 0.05


def test_one_dominant_direction_gives_its_correlation() -> None:
    loud, x, y = normal(0, 300, 1), normal(1, 300, 3), normal(2, 300, 3)
    assert svcca(np.hstack([1000 * loud, x]), np.hstack([1000 * loud, y])) == pytest.approx(1, abs=1e-10)


def test_minibatches_leave_no_sample_out() -> None:
    x, y = related(70, 6, 6)
    assert [part.stop - part.start for part in measures_cka.batches(70, 64)] == [35, 35]
    changed = x.copy()
    changed[-1] += 5
    assert cka_minibatch(changed, y) != pytest.approx(cka_minibatch(x, y), abs=1e-6)
    assert cka_minibatch(x, y, batch=70) == pytest.approx(cka_debiased(x, y), abs=1e-12)
    with pytest.raises(StudyError, match="at least 4 samples, got 6 samples in batches of 3"):
        measures_cka.batches(6, 3)


def test_rank_deficient_representations_are_compared_on_what_they_span() -> None:
    x, y = related(200, 6, 5)
    wide = x @ normal(4, 6, 20)
    assert cca(wide, y) == pytest.approx(cca(x, y), abs=1e-9)
    assert pwcca(y, wide) == pytest.approx(pwcca(y, x), abs=1e-9)
    for measure in ("cka", "cka_debiased", "svcca", "procrustes"):
        assert math.isfinite(quiet(measure, wide, y))


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
def test_no_scale_overflows_or_vanishes(scale: float) -> None:
    x, y = related(40, 5, 4)
    for measure in MEASURES:
        if measure != "rsa_correlation":
            assert quiet(measure, x * scale, y / scale) == pytest.approx(quiet(measure, x, y), abs=1e-9), measure


# ---- guard rails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", CANONICAL)
def test_few_samples_are_warned_of_and_too_few_refused(measure: str) -> None:
    with pytest.warns(FewSamples, match=r"50 samples for \d+ directions, fewer than 10 each"):
        MEASURES[measure](normal(0, 50, 8), normal(1, 50, 8))
    with pytest.raises(TooFewSamples, match="8 samples and 7 directions: all of them would be 1"):
        MEASURES[measure](normal(0, 8, 300), normal(1, 8, 300))


@pytest.mark.parametrize("measure", MEASURES)
def test_what_cannot_be_compared_is_an_error(measure: str) -> None:
    x, y = normal(0, 200, 5), normal(1, 200, 5)
    spoiled = x.copy()
    spoiled[7, 2] = np.inf
    with pytest.raises(StudyError, match="x must be finite, got NaN or infinity in 1 of 200 samples, the first"):
        MEASURES[measure](spoiled, y)
    with pytest.raises(StudyError, match="same samples in the same order, got 200 and 199 rows"):
        MEASURES[measure](x, y[1:])
    with pytest.raises(StudyError, match=r"y must be a real matrix of samples by features, got .* of shape \(200,\)"):
        MEASURES[measure](x, y[:, 0])
    with pytest.raises(StudyError, match=r"at least \d samples, got 1"):
        MEASURES[measure](x[:1], y[:1])


@pytest.mark.parametrize("measure", sorted(set(MEASURES) - {"rsa_correlation"}))
@pytest.mark.parametrize("value", [0.0, 0.1, 1e7, np.float32(0.3)])
def test_a_constant_layer_is_named_and_not_nan(measure: str, value: float) -> None:
    with pytest.raises(ConstantRepresentation, match="y is the same for all 200 samples"):
        MEASURES[measure](normal(0, 200, 5), np.full((200, 3), value))


def test_a_layer_that_answers_to_one_sample_only_is_named() -> None:
    lone = np.zeros((30, 4))
    lone[3] = 1
    for x in (lone, np.tile(lone, 20)):
        with pytest.raises(ConstantRepresentation, match="x is constant but for a single one of its 30 samples"):
            cka_debiased(x, normal(1, 30, 4))
    with pytest.raises(ConstantRepresentation, match="constant within every batch"):
        quiet("cka_minibatch", np.repeat([[0.0], [1.0]], 8, 0), normal(1, 16, 4), batch=8)
    with pytest.raises(ConstantRepresentation, match="all distances between the samples of x are equal"):
        rsa(np.eye(3) * 2.0, normal(1, 3, 4))
    with pytest.raises(StudyError, match="at least 3 features that are not all equal in a sample, got x of shape"):
        MEASURES["rsa_correlation"](normal(1, 9, 2), normal(1, 9, 4))


def test_whatever_holds_numbers_is_read_as_those_numbers() -> None:
    plain = np.round(normal(7, 30, 4) * 8)
    others = [
        plain.astype(">f8"), plain.astype(np.float16), plain.astype(np.longdouble), plain.astype(np.int32),
        plain[::-1][::-1], np.asfortranarray(plain), pd.DataFrame(plain), np.ma.masked_array(plain),
        sparse.csr_matrix(plain), plain.tolist(), list(torch.from_numpy(plain)),
        torch.from_numpy(plain).to_sparse(), torch.from_numpy(plain).half(),
    ]  # fmt: skip
    for other in others:
        assert torch.equal(checked(other, "x"), torch.from_numpy(plain)), type(other)
    assert torch.equal(checked(plain[::-1], "x"), torch.from_numpy(plain).flip(0))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ma.masked_greater(np.arange(8.0).reshape(4, 2), 6), "hides 1 values under a mask"),
        (np.array([["a", "b"], ["c", "d"]]), "got a ndarray of <U1; convert it to numbers"),
        (np.array([[1, None]], dtype=object), "got a ndarray of object"),
        ([[1.0, 2.0], [3.0]], "got a list: "),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), "got a DataFrame of object"),
        (np.zeros(5), "samples by features, got torch.float64 of shape"),
        (np.zeros((3, 2), complex), "complex128"),
        (None, "got a NoneType of object"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_one_line(bad, message: str) -> None:
    with pytest.raises(StudyError, match=re.escape(message)):
        checked(bad, "x")


@pytest.mark.parametrize("keep", [0, -1, 1.01, 99, math.nan, "0.99", None])
def test_a_share_that_is_none_is_refused(keep: Any) -> None:
    for measure in ("svcca", "svcca_singular_sum"):
        with pytest.raises(StudyError, match="keep must be a share above 0 and at most 1"):
            MEASURES[measure](normal(0, 60, 4), normal(1, 60, 4), keep=keep)


def test_all_of_the_variance_is_that_of_the_directions_there_are() -> None:
    x = normal(0, 80, 4)
    doubled = np.hstack([x, x])  # dead and doubled features have no direction of their own
    for measure in ("svcca", "svcca_singular_sum"):
        assert MEASURES[measure](doubled, x, keep=1.0) == pytest.approx(1)
        assert MEASURES[measure](doubled, normal(1, 80, 4), keep=1) == pytest.approx(quiet("cca", x, normal(1, 80, 4)))


def test_samples_in_the_order_of_their_classes_are_told() -> None:
    classes = np.repeat(np.eye(4), 64, 0) * 5
    x, y = classes + normal(0, 256, 4) * 0.1, classes @ np.ones((4, 3)) + classes[:, :3] + normal(1, 256, 3) * 0.1
    with pytest.warns(SortedSamples, match="samples come in an order: .* of the variance lies between batches"):
        cka_minibatch(x, y)
    order = np.random.default_rng(0).permutation(256)
    assert cka_minibatch(x[order], y[order]) > 0.9  # no warning, which would be an error here
    for seed in range(40):
        cka_minibatch(normal(seed, 256, 3), normal(seed + 1, 256, 3))


def test_an_unknown_measure_has_a_nearest_name() -> None:
    with pytest.raises(StudyError, match="did you mean 'cka_debiased'"):
        MEASURES["cka_debias"]


# ---- chance ------------------------------------------------------------------------------------------------------


def test_chance_is_zero_for_unbiased_measures_and_high_for_the_others() -> None:
    x, y = related(100, 12, 12)
    assert abs(chance("cka_debiased", x, y)) < 0.03
    assert chance("cca", x, y) > 0.2


@pytest.mark.parametrize(("n", "p", "q"), [(200, 40, 20), (200, 20, 40), (120, 80, 60), (300, 8, 8), (100, 30, 69)])
def test_chance_of_canonical_correlations_follows_its_law(n: int, p: int, q: int) -> None:
    found = [quiet("cca", normal(seed, n, p), normal(seed + 50, n, q)) for seed in range(6)]
    assert chance_correlation(n, p, q) == pytest.approx(np.mean(found), abs=0.015)


def test_chance_is_one_where_samples_are_all_spanned() -> None:
    assert chance_correlation(50, 49, 10) == 1


def test_permutation_p_finds_what_is_planted_and_nothing_else() -> None:
    x, y = related(40, 6, 6)
    assert sample_permutation_p("cka_debiased", x, y, draws=99) == 0.01
    # under independence it is uniform: of 40, 1 to 19 below 0.2 but for one false alarm in ten thousand
    noise = [(normal(seed, 12, 3), normal(seed + 99, 12, 3)) for seed in range(40)]
    assert 1 <= sum(sample_permutation_p("procrustes", *each, draws=19) <= 0.2 for each in noise) <= 19


# ---- Gram matrices -----------------------------------------------------------------------------------------------


def test_centering_is_exact_for_constants_and_keeps_digits_under_offsets() -> None:
    x = torch.full((7, 2), 0.1, dtype=torch.float64)
    assert not centered(x).any()
    y = torch.from_numpy(normal(0, 50, 3))
    assert torch.allclose(centered(y + 1e6), y - y.mean(0), atol=1e-9)
    assert float(normalized(y * 1e200, "y").abs().max()) <= 1


def test_gram_matrices_are_what_features_say() -> None:
    x = torch.from_numpy(normal(0, 9, 4))
    k = gram(x)
    assert torch.allclose(center_gram(k), gram(x - x.mean(0)))
    assert torch.allclose(unpack(pack(torch.stack([k, 2 * k]))), torch.stack([k, 2 * k]))
    assert torch.allclose(squared_distances(k), torch.cdist(x, x) ** 2)
    for block in (1, 4, 9, 64):
        assert torch.allclose(tall_gram(x, block), k)
    u = u_center(k)
    assert torch.allclose(u.sum(1), torch.zeros(9, dtype=torch.float64))
    assert torch.allclose(u, u_center(gram(x + 5)))
    assert float((u * u).sum()) / (9 * 6) == pytest.approx(unbiased_hsic(k.numpy(), k.numpy()), abs=1e-12)


def test_procrustes_is_one_for_a_rotated_copy_and_its_distance_is_known() -> None:
    x = normal(0, 50, 6)
    turned = x @ np.linalg.qr(normal(1, 6, 6))[0] * 3 + 2
    assert procrustes(x, turned) == pytest.approx(1, abs=1e-12)
    y = normal(2, 50, 6)
    a, b = (z - z.mean(0) for z in (x, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    u, _, v = np.linalg.svd(b.T @ a)
    assert np.linalg.norm(a - b @ u @ v) == pytest.approx(math.sqrt(2 - 2 * procrustes(x, y)), abs=1e-12)


def test_a_tensor_without_numbers_is_refused() -> None:
    with pytest.raises(StudyError, match="on the device meta, which holds a shape and no numbers"):
        MEASURES["cka"](torch.empty(20, 3, device="meta"), normal(1, 20, 3))
