"""A notebook's own parameters in a running kernel: misspelt names and wrong types told in one line."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from lib.common.errors import StudyError, nearest


def check_parameters(**declared: type) -> None:
    """Check the parameters that a notebook was given in this kernel; from here on a user's mistake shows as one line.

    Reads what the cell above assigned. Outside of a kernel nothing is there to be checked.

    Args:
        declared: the notebook's parameters with their types.

    Raises:
        StudyError: the cell assigns a name that is no parameter; a parameter is missing or of another type.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    shell.set_custom_exc((StudyError,), _in_one_line)
    check_given(shell.user_ns, shell.user_ns.get("In", [])[:-1], declared)


def check_given(values: Mapping[str, Any], cells: Iterable[str], declared: Mapping[str, type]) -> None:
    """The same on a namespace and the sources of the cells that were run, the latest last.

    Raises:
        StudyError: see `check_parameters`.
    """
    given = next((names for cell in reversed([*cells]) if declared.keys() & (names := set(_assigned(cell)))), set())
    for name in sorted(given - declared.keys()):
        raise StudyError(nearest("parameter", name, declared))
    for name, kind in declared.items():
        if name not in values:
            raise StudyError(f"parameter {name} is missing; run the cell with the parameters, which must set it")
        value, kinds = values[name], (int, float) if kind is float else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            raise StudyError(f"parameter {name} must be {kind.__name__}, got {value!r} ({type(value).__name__})")


def _assigned(source: str) -> list[str]:
    """The names that a cell assigns, if it does nothing else."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a line for the shell
        return []
    targets = [
        target
        for node in body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
    ]
    return [each.id for each in targets if isinstance(each, ast.Name)] if all(targets) else []


def _in_one_line(shell: Any, kind: type, error: BaseException, trace: Any, tb_offset: int | None = None) -> list[str]:
    """Shows an error by its words alone, and tells whoever runs all cells that this one failed."""
    shown = [f"{kind.__name__}: {error}"]
    shell._showtraceback(kind, error, shown)
    return shown
