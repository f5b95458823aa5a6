"""All runs in a folder, one by its name, and whether the results of many belong to the data that are there."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lib.common import paths
from lib.common.errors import StudyError
from lib.common.progress import counted
from lib.data.tasks.images import data_digest
from lib.runs.run import Run, Sources

NAMED = 5  # of runs that cannot be used are named at once


def list_runs(root: Path | None = None, warn: Callable[[str], None] | None = None) -> list[Run]:
    """Every run in a folder (default: the study's), by name; folders that are no runs are passed to `warn`."""
    root = paths.runs_dir() if root is None else root
    found = []
    for folder in counted(
        sorted(each for each in root.glob("*") if each.is_dir() or each.is_symlink()), "reading runs"
    ):
        try:
            if not folder.exists():
                raise StudyError(f"{folder} is a link that leads nowhere; mend it, or delete it")
            found.append(Run(folder))
        except StudyError as error:
            if warn:
                warn(str(error))
    return found


def find_run(name: str, root: Path | None = None) -> Run:
    """The run of that name, or the only one whose name ends in it (the eight hex digits are enough).

    Raises:
        StudyError: none or several fit.
    """
    root = paths.runs_dir() if root is None else root
    names = [each.name for each in root.glob("*") if each.is_dir()]
    fitting = [each for each in names if each == name or each.endswith(name)]
    if len(fitting) > 1:
        raise StudyError(f"{len(fitting)} runs fit {name!r}; give more of the name")
    if not fitting:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        hint = f"; the nearest is {close[0]}" if close else ""
        raise StudyError(f"no run {name!r} in {root}{hint}. python -m lib runs lists them")
    return Run(root / fitting[0])


def check_current(runs: Iterable[Run]) -> None:
    """That the results of runs are as they were written, and of the data and sources that are there now.

    Raises:
        StudyError: some are not; names the first of them with what to do.
    """
    for _ in current(runs, "checking runs"):
        pass


def current(runs: Iterable[Run], what: str) -> Iterator[Run]:
    """The runs one by one, as far as `check_current` holds for them; what it raises comes after the last one.

    Args:
        what: is done to them, for the progress of long commands.
    """
    digest, sources, faults = functools.cache(data_digest), Sources(), dict[str, None]()
    for run in counted(list(runs), what):
        try:
            fault = run.outdated(digest, sources)
        except StudyError as error:
            fault = str(error)
        if fault:
            faults[fault] = None
        elif not faults:
            yield run
    if faults:
        more = f"\n... and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise StudyError("\n".join(list(faults)[:NAMED]) + more + "\npython -m lib runs --verify names them all")
