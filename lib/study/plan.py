"""The runs of a suite: which are missing, which are finished, and training them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import as_completed, wait
from pathlib import Path
from typing import Any

from lib.common import paths
from lib.common.device import pick_device
from lib.common.errors import StudyError, nearest
from lib.common.progress import Progress, print_line
from lib.data.tasks.catalog import BUILT_IN
from lib.data.tasks.images import is_drawn, load_data
from lib.data.tasks.splits import split
from lib.data.tasks.task import get_task
from lib.runs.listing import check_current
from lib.runs.run import Run, run_dir
from lib.runs.spec import RunSpec, run_id
from lib.study import dask_engine as dask_engine  # registers itself
from lib.study.engines import ENGINES, LocalProcesses, cores
from lib.study.suite import Suite, from_table, result_of
from lib.training.together import stacks


def suites_dir() -> Path:
    """The folder of the suites that come with the study."""
    return paths.REPOSITORY / "notebooks" / "suites"


def load_suite(name: str) -> Suite:
    """The suite of that name, or of that TOML file.

    A file that says `extends = "NAME"`, a suite of the study, has all that it does not say from there; fields of a run
    one by one, everything else as a whole.

    Raises:
        StudyError: no such suite, an unknown key or name, or a value out of range.
    """
    file = Path(name) if name.endswith(".toml") else suites_dir() / f"{name}.toml"
    if not file.is_file():
        if name.endswith(".toml"):
            raise StudyError(f"there is no file {name} in {Path.cwd()}; a suite of the study is named without .toml")
        raise StudyError(nearest("suite", name, [each.stem for each in suites_dir().glob("*.toml")]))
    try:
        table = tomllib.loads(file.read_text())
        if "extends" in table:
            table = _extended(table)
        return from_table(file, table)
    except ValueError as error:  # not text, not TOML, or a StudyError
        raise StudyError(f"{file.name}: {error}") from error


def _extended(table: dict[str, Any]) -> dict[str, Any]:
    name = table.pop("extends")
    known = [each.stem for each in suites_dir().glob("*.toml")]
    if name not in known:
        raise StudyError(nearest("suite to extend", name, known))
    base = tomllib.loads((suites_dir() / f"{name}.toml").read_text())
    if "extends" in base:
        raise StudyError(f"{name} extends {base['extends']} itself; extend that one")
    return {**base, **table, "run": {**base.get("run", {}), **table.get("run", {})}}


def finished_runs(suite: Suite, goal: str | None = "segmentation") -> list[Run]:
    """The finished runs of a goal (None: all) that results rest on: per cell and seed, at the chosen rate.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    cells = [cell for cell in suite.cells if goal in (None, get_task(cell.task).goal)]
    return _done(spec for cell in cells for spec in suite.chosen(cell) or [])


def tuning_runs(suite: Suite) -> list[Run]:
    """The finished runs among which learning rates were chosen."""
    return _done(spec for cell in suite.cells for spec in suite.tuning_specs(cell))


def _done(specs: Iterable[RunSpec]) -> list[Run]:
    """Two cells may share a run: where seeds start from one source, that seed's run is also the common cell's."""
    unique = {run_id(spec): spec for spec in specs}
    runs = [Run(run_dir(spec)) for spec in unique.values() if (run_dir(spec) / "result.json").is_file()]
    check_current(runs)
    return runs


def missing_runs(suite: Suite) -> list[RunSpec]:
    """Runs that can be named and are not finished: sources, tuning runs and, once a rate is known, the other seeds."""
    specs = suite.source_specs()
    for cell in suite.cells:
        specs += suite.tuning_specs(cell) + (suite.chosen(cell) or [])
    unique = {run_id(spec): spec for spec in specs}
    check_current(Run(run_dir(spec)) for spec in unique.values() if (run_dir(spec) / "result.json").is_file())
    return [spec for spec in unique.values() if result_of(spec) is None]


def phases(suite: Suite) -> list[list[RunSpec]]:
    """What is missing, in the order in which it is trained: sources, tuning runs, the other seeds.

    Runs that have no name until a rate is chosen stand here under that of the first.
    """
    tuning = [spec for cell in suite.cells for spec in suite.tuning_specs(cell)]
    others = []
    for cell in suite.cells:
        chosen = suite.chosen(cell)
        if chosen is None:
            chosen = [suite.spec(cell, seed, cell.rates[0]) for seed in cell.seeds if seed != suite.tuning_seed]
        others += chosen
    found, known = [], set[str]()
    for part in (suite.source_specs(), tuning, others):
        unique = {run_id(spec): spec for spec in part if run_id(spec) not in known and result_of(spec) is None}
        known |= unique.keys()
        found.append(list(unique.values()))
    return found


def train_suite(
    suite: Suite,
    *,
    engine: str = "local",
    device: str = "auto",
    workers: int | None = None,
    cluster: str | None = None,
    show: Callable[[str], None] = print_line,
) -> list[str]:
    """Train what is missing of a suite: sources, then the tuning runs, then all seeds at the chosen rates.

    Safe to interrupt at any moment; called again, it goes on.

    Returns:
        One sentence for every run that could not be trained. Diverged runs are results and not among them.

    Raises:
        StudyError: the engine is unknown, or its options are wrong; or data are missing or too few, before anything
            is trained.
    """
    first = missing_runs(suite)
    ahead = [spec for phase in phases(suite) for spec in phase]
    if not ahead:
        return []
    for note in _check_data(first):
        show(f"note: {note}")
    if engine != "here":
        draw_ahead(ahead, workers or cores(), show)
    progress = Progress({run_id(spec): spec.steps for spec in ahead}, show)
    options: dict[str, Any] = {} if engine == "here" else {"workers": workers}
    if cluster is not None:
        if engine != "dask":
            raise StudyError(f"a cluster is for the engine dask, got the engine {engine}")
        options["cluster"] = cluster
    failures: list[str] = []
    with ENGINES[engine](device=device, report=progress, **options) as pool:

        def run_all(specs: Iterable[RunSpec]) -> None:
            unique = {run_id(spec): spec for spec in specs if result_of(spec) is None}
            if pick_device(device).type == "cuda":  # two cores of a processor are full with one run each
                wait([pool.submit_stack(stack) for stack in stacks(unique.values()) if len(stack) > 1])
            for future in as_completed([pool.submit(spec) for spec in unique.values()]):
                error = future.exception()
                if error is not None:
                    if not isinstance(error, StudyError):
                        raise error
                    failures.append(str(error))
                    show(f"failed: {error}")

        run_all(suite.source_specs())
        run_all(spec for cell in suite.cells for spec in suite.tuning_specs(cell))
        progress.plan({run_id(spec): spec.steps for spec in missing_runs(suite)})
        run_all(spec for cell in suite.cells for spec in suite.chosen(cell) or [])
    return failures


def draw_ahead(specs: Iterable[RunSpec], workers: int, show: Callable[[str], None]) -> None:
    """Draw the simulated images that runs will ask for, each set once, in processes side by side.

    Otherwise every worker that comes to a new set would draw it for itself, and a GPU would wait for one core.
    """
    wanted = sorted({(spec.task, spec.size) for spec in specs})
    absent = [each for each in wanted if BUILT_IN.get(each[0]) is get_task(each[0]) and not is_drawn(*each)]
    if len(absent) < 2:
        return
    show(f"drawing {len(absent)} simulated sets of images")
    with LocalProcesses(device="cpu", workers=min(workers, len(absent)), threads=1) as pool:
        for drawing in [pool.draw(*each) for each in absent]:
            drawing.result()


def _check_data(specs: Iterable[RunSpec]) -> list[str]:
    """Are the real sets of these runs at hand, and large enough? Otherwise every run would fail for itself.

    Returns:
        What there is to say of the sets at the sizes of these runs.
    """
    notes: dict[str, None] = {}
    for spec in specs:
        if get_task(spec.task).kind == "real":
            data = load_data(spec.task, spec.size)
            split(spec.task, data.groups, fold=spec.fold, volume=spec.volume, seed=spec.seed, folds=data.folds)
            notes |= dict.fromkeys(data.notes)
    return list(notes)
