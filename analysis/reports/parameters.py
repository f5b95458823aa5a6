"""Which notebooks a suite runs and with which parameters, all of it checked before any kernel starts."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.common import paths
from lib.common.errors import StudyError, nearest
from lib.study.plan import load_suite

NOTEBOOKS = paths.REPOSITORY / "notebooks"
KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "list": (list,),
    "dict": (dict,),
    "None": (type(None),),
}


@dataclass(frozen=True)
class Job:
    """One notebook to execute, with every parameter it will see; `given` names those that are not its defaults."""

    path: Path
    parameters: dict[str, Any]
    given: frozenset[str]
    alone: bool = False  # waits for the notebooks before it, and those after wait for it

    @property
    def name(self) -> str:
        return self.path.stem


def declared(path: Path) -> dict[str, tuple[tuple[type, ...], Any]]:
    """Parameters of a notebook: name to (types it takes, default), from the cell tagged `parameters`.

    Raises:
        StudyError: a line of that cell is not `name: type = literal`.
    """
    import nbformat

    found: dict[str, tuple[tuple[type, ...], Any]] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if "parameters" not in cell.metadata.get("tags", []):
            continue
        for node in ast.parse(cell.source).body:
            try:
                name, types, default = _declaration(node)
            except (AttributeError, KeyError, ValueError):
                raise StudyError(
                    f"{path.name}: parameters must read `name: type = literal` with a type among "
                    f"{', '.join(KINDS)}; got `{ast.unparse(node)}`"
                ) from None
            found[name] = types, default
    return found


def _declaration(node: Any) -> tuple[str, tuple[type, ...], Any]:
    """Name, types and default of an annotated assignment; raises one of several errors on anything else."""
    words = [word.split("[")[0].strip() for word in ast.unparse(node.annotation).split("|")]
    return node.target.id, tuple(kind for word in words for kind in KINDS[word]), ast.literal_eval(node.value)


def check_parameters(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook's parameters with the given values put in.

    Raises:
        StudyError: a name is not declared, or a value is of another type than the declared one.
    """
    known = declared(path)
    for name, value in given.items():
        if name not in known:
            raise StudyError(nearest(f"parameter of {path.stem}", name, known))
        types, _ = known[name]
        if (isinstance(value, bool) and bool not in types) or not isinstance(value, types) or not _plain(value):
            wanted = " or ".join(dict.fromkeys(kind.__name__ for kind in types))
            raise StudyError(
                f"parameter {name} of {path.stem} must be {wanted}, got {value!r} ({type(value).__name__})"
            )
    return {name: given.get(name, default) for name, (_, default) in known.items()}


def _plain(value: Any) -> bool:
    """Whether papermill injects the value as it is; a tuple or a date would arrive as something else."""
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_plain, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


def plan(suite: str, names: Sequence[str] = (), overrides: Mapping[str, Any] | None = None) -> list[Job]:
    """The jobs of a suite in the order of their names, those for teaching last.

    `names` picks some, `overrides` sets parameters in each.

    Raises:
        StudyError: an unknown suite, notebook or parameter, or a value of the wrong type.
    """
    import nbformat

    chosen = load_suite(suite)
    settings = chosen.notebooks
    known = {
        path.stem: path for folder in (NOTEBOOKS, NOTEBOOKS / "teaching") for path in sorted(folder.glob("*.ipynb"))
    }
    for name in [*settings, *(Path(name).stem for name in names)]:
        if name not in known:
            raise StudyError(nearest("notebook", name, known))
    wanted = {Path(name).stem for name in names} or known.keys()
    called = str(chosen.file.resolve()) if suite.endswith(".toml") else suite  # kernels run in another folder
    for own, words in (("suite", f"is the one it is made for, {chosen.name!r}"), ("report", "lies among its pages")):
        if own in (overrides or {}):
            raise StudyError(f"the {own} of a notebook {words}; leave out the parameter {own!r}")
    jobs = []
    for name, path in known.items():
        if name in wanted:
            offered = {"suite": called, "report": str(paths.reports_dir() / chosen.name / name)}
            common = {key: value for key, value in offered.items() if key in declared(path)}
            given = {**common, **settings.get(name, {}), **(overrides or {})}
            house = nbformat.read(path, as_version=4).metadata.get("palimpsest", {})
            jobs.append(Job(path, check_parameters(path, given), frozenset(given), bool(house.get("alone"))))
    if not jobs:
        raise StudyError(f"no notebook in {NOTEBOOKS}; there must be at least one *.ipynb")
    return jobs
