"""A dictionary of named things that refuses duplicates and answers a misspelt name with the nearest one."""

from __future__ import annotations

from typing import TypeVar

from lib.common.errors import StudyError, nearest

T = TypeVar("T")


class Registry(dict[str, T]):
    """Names to values of one kind, in order of registration.

    Args:
        kind: what is registered, as it should read in an error ("task", "strategy").
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, value: T) -> T:
        """Register `value` under `name`.

        Raises:
            StudyError: the name is taken; two things under one name would make old runs ambiguous.
        """
        if name in self:
            raise StudyError(f"{self.kind} {name!r} is registered already; choose another name")
        self[name] = value
        return value

    def __getitem__(self, name: str) -> T:
        if not isinstance(name, str):  # a list from a suite file could not even be looked up
            raise StudyError(f"{self.kind} must be a name, got {name!r}")
        return super().__getitem__(name)

    def __missing__(self, name: str) -> T:
        raise StudyError(nearest(self.kind, name, self))
