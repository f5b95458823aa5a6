"""anatome beside this project's measures: equal where both mean the same, explained where they do not."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from analysis.representations.measures import anatome_check
from analysis.representations.measures.anatome_check import CALLS, cross_check, similarity
from analysis.representations.measures.conformance import reference_pair
from lib.common.errors import StudyError

pytest.importorskip("anatome.similarity")


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    x, y = reference_pair()
    return x[:, :20], y[:, :16]


def test_where_both_mean_the_same_they_agree(pair) -> None:
    table = cross_check({"reference": pair, "moved": (pair[0] + 3, 2 * pair[1])})
    assert len(table) == 2 * len(CALLS)
    same = table[table["agrees"]]
    assert set(same["measure"]) == {"cka", "procrustes"}
    assert same["difference"].abs().max() < 1e-10


def test_each_difference_is_the_one_that_is_named(pair) -> None:
    table = cross_check({"reference": pair})
    wrong = table[~table["agrees"]]
    assert set(wrong["measure"]) == {"cka_debiased", "svcca", "svcca_singular_sum", "pwcca"}
    assert (wrong["difference"].abs() > 1e-3).all()
    assert np.allclose(wrong["their_way"], wrong["anatome"], rtol=1e-8, atol=1e-13)
    assert wrong["remark"].str.len().min() > 20


def test_raw_features_show_what_is_not_centered(pair) -> None:
    x, y = pair
    for measure in ("cka", "procrustes"):
        assert similarity(measure, x + 3, y, center=False) == pytest.approx(similarity(measure, x, y), abs=1e-10)
    for measure in ("svcca", "pwcca"):
        assert abs(similarity(measure, x + 3, y, center=False) - similarity(measure, x, y)) > 1e-3


def test_a_dominant_direction_is_not_a_number_there(pair) -> None:
    x, y = pair[0].copy(), pair[1]
    x[:, 0] *= 1e5
    assert np.isnan(similarity("svcca", x, y))


def test_a_measure_that_anatome_lacks_is_an_error(pair) -> None:
    with pytest.raises(StudyError, match="anatome has nothing to check 'rsa' against; it has cka, procrustes"):
        similarity("rsa", *pair)


def test_the_package_is_named(pair) -> None:
    assert set(cross_check({"reference": pair})["package"]) == {"ultimate-anatome 0.0.10"}


def test_without_anatome_it_says_what_to_install(monkeypatch, pair) -> None:
    def missing(name: str):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        StudyError, match=r"anatome.similarity: operator torchvision::nms .* install ultimate-anatome==0\.0\.10"
    ):
        anatome_check.find()


def test_the_original_is_taken_where_it_is_installed(monkeypatch, pair) -> None:
    class Original:
        @staticmethod
        def linear_cka_distance(x, y, reduce_bias):
            return 0.25

    monkeypatch.setattr(importlib, "import_module", lambda name: Original)
    assert anatome_check.find()[1].startswith("anatome (the original)")
    assert similarity("cka", *pair) == 0.75
