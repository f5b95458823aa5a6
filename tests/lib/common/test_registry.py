"""Registries refuse duplicates and answer a misspelt name; so does every other name in the project."""

from __future__ import annotations

import copy
import pickle

import pytest

from lib.common.errors import StudyError, nearest
from lib.common.registry import Registry


@pytest.fixture
def colors() -> Registry[int]:
    registry: Registry[int] = Registry("color")
    registry.add("vermilion", 1)
    registry.add("azure", 2)
    return registry


def test_values_come_back_in_order_of_registration(colors: Registry[int]) -> None:
    assert list(colors.items()) == [("vermilion", 1), ("azure", 2)]


def test_add_returns_what_it_registered() -> None:
    assert Registry("color").add("azure", [1]) == [1]


def test_a_duplicate_is_refused_and_changes_nothing(colors: Registry[int]) -> None:
    with pytest.raises(StudyError, match="color 'azure' is registered already; choose another name"):
        colors.add("azure", 3)
    assert colors["azure"] == 2


def test_an_unknown_name_is_answered_with_the_nearest_and_the_full_list(colors: Registry[int]) -> None:
    with pytest.raises(StudyError, match=r"unknown color 'azur'; did you mean 'azure'\? Known: azure, vermilion"):
        colors["azur"]


def test_a_name_far_from_all_gets_the_list_alone(colors: Registry[int]) -> None:
    with pytest.raises(StudyError, match=r"unknown color 'xyz'\. Known: azure, vermilion$"):
        colors["xyz"]


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(StudyError, match=r"unknown color 'azure'\. Known: none"):
        Registry("color")["azure"]


def test_looking_without_demanding_raises_nothing(colors: Registry[int]) -> None:
    assert colors.get("azur") is None
    assert "azur" not in colors


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_copies_keep_their_manners(colors: Registry[int], again) -> None:
    twin = again(colors)
    assert twin == colors
    with pytest.raises(StudyError, match="unknown color"):
        twin["azur"]


def test_nearest_takes_any_value_and_does_not_depend_on_the_order_of_the_names() -> None:
    assert nearest("number", 7, ["eight", "six"]) == nearest("number", 7, ["six", "eight"])
    assert nearest("task", "büsi", ["busi"]) == "unknown task 'büsi'; did you mean 'busi'? Known: busi"
    assert nearest("color", None, ["red"]) == "unknown color None. Known: red"


def test_a_mistake_of_the_user_is_a_value_error() -> None:
    assert issubclass(StudyError, ValueError)
