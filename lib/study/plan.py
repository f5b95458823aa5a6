"""The runs of a suite: which are missing, which are finished, and training them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import as_completed, wait
from pathlib import Path
from typing import Any

from lib.common import paths
from lib.common.device import pick_device
from lib.common.errors import StudyError, check_keys, nearest, shown
from lib.common.outside import is_file, read_toml
from lib.common.progress import Progress, print_line
from lib.data.tasks.catalog import BUILT_IN
from lib.data.tasks.images import is_drawn, load_data
from lib.data.tasks.splits import split
from lib.data.tasks.task import get_task
from lib.runs.listing import check_current
from lib.runs.run import Run
from lib.runs.spec import RunSpec, run_id
from lib.study import dask_engine as dask_engine  # registers itself
from lib.study.engines import ENGINES, LocalProcesses, check_workers, cores
from lib.study.growth import grown
from lib.study.suite import Cell, Suite, are_numbers, from_table
from lib.training.together import stacks


def suites_dir() -> Path:
    """The folder of the suites that come with the study."""
    return paths.REPOSITORY / "notebooks" / "suites"


def load_suite(name: str) -> Suite:
    """The suite of that name, or of that TOML file.

    A file that says `extends = "NAME"`, a suite of the study, or `"FILE.toml"`, one beside it, has all that it does not
    say from there; fields of a run one by one, everything else as a whole. `shift_seeds = 10` beside it is the same
    study once more, with 10 added to every seed. Where it says `until`, cells have the seeds of the look that it is at.

    Raises:
        StudyError: no such suite, an unknown key or name, or a value out of range; or a damaged file of looks.
    """
    if len(Path(name).parts) > 1 and not name.endswith(".toml"):
        raise StudyError(f"{name} is no suite: one is named as in notebooks/suites, or by its TOML file")
    file = Path(name) if name.endswith(".toml") else suites_dir() / f"{name}.toml"
    if not re.fullmatch(r"\w[\w.-]{0,99}", file.stem):  # reports lie in a folder of that name
        raise StudyError(
            f"a suite is named by letters, digits, points and dashes, at most 100, got {shown(file.stem)}; rename it"
        )
    if not is_file(file):
        if name.endswith(".toml"):
            raise StudyError(f"there is no file {name} in {Path.cwd()}; a suite of the study is named without .toml")
        raise StudyError(nearest("suite", name, [each.stem for each in suites_dir().glob("*.toml")]))
    try:
        table = suite_table(file)
        if "shift_seeds" in table:
            table = _shifted(table)
        suite = from_table(file, table)
    except StudyError as error:
        raise StudyError(f"{file.name}: {error}") from error
    return suite if suite.until is None else grown(suite)


def suite_files(file: Path) -> list[Path]:
    """The file of a suite, and that of the suite that it extends, if it does.

    Raises:
        StudyError: a file cannot be read, or what it extends is no suite or extends another.
    """
    return list(_with_base(file))


def _with_base(file: Path) -> dict[Path, dict[str, Any]]:
    """What those files hold, by file."""
    table = read_toml(file)
    name = table.pop("extends", None)
    if name is None:
        return {file: table}
    if isinstance(name, str) and name.endswith(".toml"):  # beside it, so that both can be carried elsewhere
        base = file.with_name(Path(name).name)
        if base.name != name or not is_file(base):
            raise StudyError(
                f"there is no file {shown(name)} beside it to extend; put it there, and name it without a folder (a "
                "suite of the study is named without .toml)"
            )
    else:
        known = [each.stem for each in suites_dir().glob("*.toml")]
        if name not in known:
            raise StudyError(nearest("suite to extend", name, known))
        base = suites_dir() / f"{name}.toml"
    first = read_toml(base)
    if "extends" in first:
        raise StudyError(f"{name} extends {first['extends']} itself; extend that one")
    return {file: table, base: first}


def suite_table(file: Path) -> dict[str, Any]:
    """What a file says of its suite, with what it has from the one that it extends.

    Raises:
        StudyError: as `suite_files`.
    """
    table, *bases = _with_base(file).values()
    for base in bases:
        first, own = base.get("run", {}), table.get("run", {})
        for run in (first, own):
            check_keys("field of a run", run, run)
        table = {**base, **table, "run": {**first, **own}}
    return table


def _shifted(table: dict[str, Any]) -> dict[str, Any]:
    """A suite with a number added to all of its seeds: no run of it is one of the other's."""
    by = table.pop("shift_seeds")
    if not isinstance(by, int) or isinstance(by, bool) or by < 1:
        raise StudyError(f"shift_seeds must be a whole number from 1, got {by!r}")

    def moved(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part  # which is refused where the suite is made
        own: Any = part.get("seeds")
        start: Any = part.get("source_seed")
        seeds = {"seeds": [each + by for each in own]} if are_numbers(own, int) else {}
        return {**part, **seeds, **({"source_seed": start + by} if are_numbers([start], int) else {})}

    blocks = table.get("grid")
    grid = {"grid": [moved(block) for block in blocks]} if isinstance(blocks, list) else {}
    return {**moved(table), **grid}


def finished_runs(suite: Suite, goal: str | None = "segmentation") -> list[Run]:
    """The finished runs of a goal (None: all) that results rest on: per cell and seed, the one at the chosen rate.

    A cell's seed counts once its runs at all rates are finished.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    return _done(_chosen(suite, goal))


def chosen_runs(suite: Suite) -> set[str]:
    """The names of the runs that results rest on, of any goal: those of `finished_runs`, which are not looked at."""
    return {run_id(spec) for spec in _chosen(suite, None)}


def _chosen(suite: Suite, goal: str | None) -> list[RunSpec]:
    cells = [cell for cell in suite.cells if goal in (None, get_task(cell.task).goal)]
    chosen = [suite.chosen(cell, seed) for cell in cells for seed in cell.seeds]
    return [spec for spec in chosen if spec is not None]


def runs_at_all_rates(suite: Suite, goal: str | None = "segmentation") -> list[Run]:
    """All finished runs of a goal (None: all) but sources: per cell and seed at every rate, chosen or not.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    cells = [cell for cell in suite.cells if goal in (None, get_task(cell.task).goal)]
    return _done(_of_cells(cells, suite))


def _of_cells(cells: Iterable[Cell], suite: Suite) -> list[RunSpec]:
    return [spec for cell in cells for seed in cell.seeds for spec in suite.at_all_rates(cell, seed)]


def all_specs(suite: Suite) -> list[RunSpec]:
    """All runs of a suite, sources first; one that two cells share comes twice."""
    return [*suite.source_specs(), *_of_cells(suite.cells, suite)]


def _done(specs: Iterable[RunSpec]) -> list[Run]:
    """Two cells may share a run: where seeds start from one source, that seed's run is also the common cell's."""
    unique = {run_id(spec): spec for spec in specs}
    root = paths.runs_dir()
    runs = [Run(root / name, spec) for name, spec in unique.items() if (root / name / "result.json").is_file()]
    check_current(runs)
    return runs


def missing_runs(suite: Suite) -> list[RunSpec]:
    """The runs that are not finished: sources, and those of every cell and seed at every rate."""
    return [spec for phase in phases(suite) for spec in phase]


def count_untrained(suite: Suite) -> tuple[int, int]:
    """How many runs of a suite have no result, and how many runs it has, sources included; no file is read."""
    names = set(map(run_id, all_specs(suite)))
    root = paths.runs_dir()
    return sum(not (root / name / "result.json").is_file() for name in names), len(names)


def phases(suite: Suite) -> list[list[RunSpec]]:
    """What is missing, in the order in which it is trained: sources, everything else.

    Raises:
        StudyError: a finished run is damaged, or its data or source changed since.
    """
    sources = {run_id(spec): spec for spec in suite.source_specs()}
    others = {run_id(spec): spec for spec in _of_cells(suite.cells, suite)}
    finished = {run.path.name for run in _done([*sources.values(), *others.values()])}
    return [
        [spec for name, spec in part.items() if name not in finished and name not in before]
        for part, before in ((sources, {}), (others, sources))
    ]


def train_suite(
    suite: Suite,
    *,
    engine: str = "local",
    device: str = "auto",
    workers: int | None = None,
    cluster: str | None = None,
    show: Callable[[str], None] = print_line,
) -> list[str]:
    """Train what is missing of a suite: sources, then every cell and seed at every rate.

    Safe to interrupt at any moment; called again, it goes on.

    Returns:
        One sentence for every run that could not be trained. Diverged runs are results and not among them.

    Raises:
        StudyError: the engine is unknown, or its options are wrong; or data are missing or too few, before anything
            is trained.
    """
    made = ENGINES[engine]
    check_workers(workers)
    if cluster is not None and engine != "dask":
        raise StudyError(f"a cluster is for the engine dask, got the engine {engine}")
    dealt = phases(suite)
    ahead = [spec for phase in dealt for spec in phase]
    if not ahead:
        return []
    for note in _check_data(ahead):
        show(f"note: {note}")
    if engine != "here":
        draw_ahead(ahead, workers or cores(), show)
    progress = Progress({run_id(spec): spec.steps for spec in ahead}, show)
    options: dict[str, Any] = {} if engine == "here" else {"workers": workers}
    if cluster is not None:
        options["cluster"] = cluster
    failures: list[str] = []
    with made(device=device, report=progress, **options) as pool:

        def run_all(specs: Sequence[RunSpec]) -> None:
            if pick_device(device).type == "cuda":  # two cores of a processor are full with one run each
                wait([pool.submit_stack(stack) for stack in stacks(specs) if len(stack) > 1])
            for future in as_completed([pool.submit(spec) for spec in specs]):
                error = future.exception()
                if error is not None:
                    if not isinstance(error, StudyError):
                        raise error
                    failures.append(str(error))
                    show(f"failed: {error}")

        for phase in dealt:
            run_all(phase)
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
