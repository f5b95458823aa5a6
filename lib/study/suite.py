"""A suite: everything that a study trains, with learning rates chosen on validation, as one TOML file tells it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.common.errors import StudyError, check_keys, nearest
from lib.data.tasks.task import get_task
from lib.runs.building import resolve_map
from lib.runs.foreign_start import check_weights
from lib.runs.run import run_dir
from lib.runs.seal import Brief, read_brief
from lib.runs.spec import FIELDS, MODELS, RunSpec, run_id
from lib.strategies.strategy import STRATEGIES

_KEYS = ("title", "seeds", "until", "run", "tuning", "sources", "grid", "notebooks")
_GRID_KEYS = ("tasks", "volumes", "strategies", "seeds", "rates", "source", "source_seed", "run")
_SPEC_KEYS = tuple(name for name in FIELDS if name not in ("source", "seed", "fold"))
_SOURCE_KEYS = (*_SPEC_KEYS, "names")
_OF_CELLS = ("task", "strategy", "options", "volume", "lr", "weights")
MOST = 100_000  # runs of one suite: more are a slip of the pen, and would take minutes only to be listed
_RUN_KEYS = tuple(name for name in _SPEC_KEYS if name not in _OF_CELLS)


@dataclass(frozen=True)
class Cell:
    """One arm on one task at one volume: what is repeated over `seeds`.

    `source` names one of the suite's sources. One that is a file of weights alone is the same for all seeds. Else seed
    s starts from the source run of seed s, or, where `source_seed` is a number, from the source run of that seed: then
    the seeds of the cell share one source.
    """

    task: str
    volume: int | None
    strategy: str
    options: Mapping[str, Any]
    source: str | None
    run: Mapping[str, Any]
    seeds: tuple[int, ...]
    source_seed: int | None = None
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Until:
    """When a study has seeds enough: its verdicts would come again with this chance, or cells have so many seeds."""

    replication: float
    seeds: int


@dataclass(frozen=True)
class Look:
    """A look at a study that grows, with `at` seeds in the cells that were asked for more.

    seeds: of every cell by then, in the order of the suite. rows: how the rows of the ledger stood, by name, once they
    were looked at (`analysis.claims.ledger.growth`).
    """

    at: int
    seeds: tuple[int, ...]
    rows: Mapping[str, str]


@dataclass(frozen=True)
class Suite:
    """What a study trains.

    Every cell is trained for each of its seeds: those of its block, or the suite's `seeds`. Seed s uses fold s of its
    task (modulo the number of folds), so replicates differ in initialization, data order, choice of images and split
    alike.

    They differ in the learning rate, too: every cell is trained at all of its rates for every seed, and the run that
    counts for a seed is the one with the best validation score among its own. Choosing is then a part of what is
    repeated, so that intervals over seeds contain it (Bouthillier et al. 2021, arXiv 2103.03098), and no image that a
    seed is tested on takes part in its choice (Cawley and Talbot 2010, JMLR 11). Every cell has equally many rates. A
    source is trained at the rate that its table states.

    With `until`, `seeds` are those of the first look, and `looks` says which looks there were up to now
    (`lib.study.growth`): the seeds of cells are those of the last one.
    """

    name: str
    title: str
    file: Path
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    run: Mapping[str, Any]
    sources: Mapping[str, Mapping[str, Any]]
    cells: tuple[Cell, ...]
    notebooks: Mapping[str, Mapping[str, Any]]
    until: Until | None = None
    looks: tuple[Look, ...] = ()
    _known: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, compare=False, repr=False)

    def spec(self, cell: Cell, seed: int, rate: float) -> RunSpec:
        """The run of a cell for a seed at a learning rate; made once, as to check a spec takes milliseconds."""
        key = id(cell), seed, rate
        if key not in self._known:
            self._known[key] = cell, self._spec(cell, seed, rate)  # with the cell, whose id is its own while it lives
        return self._known[key][1]

    def _spec(self, cell: Cell, seed: int, rate: float) -> RunSpec:
        source = self._start(cell, seed)
        values = {**self.run, **cell.run, "task": cell.task, "volume": cell.volume, "strategy": cell.strategy}
        if cell.source is not None and source is None:
            values |= self.sources[cell.source]
        return RunSpec(**values, options=cell.options, source=source, seed=seed, fold=_fold(cell.task, seed), lr=rate)

    def source(self, name: str, seed: int) -> RunSpec:
        """The source run of that name for a seed; made once."""
        if (name, seed) not in self._known:
            values = {**self.run, **self.sources[name]}
            self._known[name, seed] = RunSpec(**values, seed=seed, fold=_fold(values["task"], seed))
        return self._known[name, seed]

    def _start(self, cell: Cell, seed: int) -> RunSpec | None:
        if cell.source is None or "task" not in self.sources[cell.source]:
            return None
        return self.source(cell.source, seed if cell.source_seed is None else cell.source_seed)

    def source_specs(self) -> list[RunSpec]:
        """The source runs that some cell starts from, each once."""
        starts = [self._start(cell, seed) for cell in self.cells for seed in cell.seeds]
        return list({run_id(start): start for start in starts if start is not None}.values())

    def at_all_rates(self, cell: Cell, seed: int) -> list[RunSpec]:
        """The runs of a cell for a seed, one per rate in ascending order: one of them is chosen."""
        return [self.spec(cell, seed, rate) for rate in cell.rates]

    def chosen(self, cell: Cell, seed: int) -> RunSpec | None:
        """The run that counts for a seed: the best of all rates on the seed's own validation images.

        The lower rate of equals, and one that diverged is the worst; None until the runs at all rates are finished.
        """
        specs, found = self.at_all_rates(cell, seed), []
        for spec in specs:
            brief = brief_of(spec)
            if brief is None:
                return None
            found.append(-math.inf if brief.score is None else brief.score)
        return specs[found.index(max(found))]


def from_table(file: Path, table: dict[str, Any]) -> Suite:
    """The suite that a TOML file holds.

    Raises:
        StudyError: an unknown key or name, or a value out of range.
    """
    check_keys("key of a suite", table, _KEYS)
    for key in ("seeds", "tuning", "grid"):
        if key not in table:
            raise StudyError(f"the key {key!r} is missing")
    tuning, sources, run = table["tuning"], table.get("sources", {}), table.get("run", {})
    if isinstance(tuning, Mapping) and "seed" in tuning:
        raise StudyError(
            f"every seed chooses its own learning rate, so tuning takes no seed: delete seed = {tuning['seed']!r} "
            "under [tuning]"
        )
    check_keys("key of tuning", tuning, ("rates",))
    check_keys("field of a run", run, _RUN_KEYS)
    check_keys("source", sources, sources)
    notebooks = table.get("notebooks", {})
    check_keys("notebook", notebooks, notebooks)
    for name, parameters in notebooks.items():
        check_keys(f"parameter of {name}", parameters, parameters)
        for key in ("suite", "report"):
            if key in parameters:  # a suite that says where its report goes would write anywhere
                raise StudyError(f"{key} of a report is set by whoever makes it; delete it under [notebooks.{name}]")
    for source in sources.values():
        check_keys("field of a source", source, _SOURCE_KEYS)
        if "task" not in source and not {"weights"} <= set(source) <= {"weights", "names"}:
            raise StudyError(f"every source needs a task, or weights alone (and names), got {source}")
        if "names" in source and not isinstance(source.get("weights"), str):
            raise StudyError(f"names of a source are a table beside its file of weights, got {source}")
    run, sources = _pinned(run), {name: _pinned(source) for name, source in sources.items()}
    seeds: Any = table["seeds"]
    rates: Any = tuning.get("rates")
    if not are_numbers(seeds, int):
        raise StudyError(f"seeds must be a list of different whole numbers, at least one, got {seeds!r}")
    if not are_numbers(rates, (int, float)):
        raise StudyError(f"tuning needs a list of different rates, at least one; got {tuning}")
    if not isinstance(table["grid"], list):
        raise StudyError("the grid must be blocks, each under [[grid]]")
    if not isinstance(table.get("title", ""), str):
        raise StudyError(f"title must be a text, got {table['title']!r}")
    cells, runs = list[Cell](), 0
    for cell in (cell for block in table["grid"] for cell in _cells(block, sources, tuple(seeds), rates)):
        cells.append(cell)
        runs += len(cell.seeds) * len(cell.rates)
        if runs > MOST:
            raise StudyError(f"the grid has more than {MOST:,} runs; part it among several suites")
    if len({repr(dataclasses.replace(cell, seeds=())) for cell in cells}) < len(cells):
        raise StudyError("the grid holds a cell twice; merge its blocks")
    suite = Suite(
        file.stem, table.get("title", file.stem), file, tuple(seeds), tuple(sorted(rates)), run, sources,
        tuple(cells), notebooks, _until(table["until"], len(seeds)) if "until" in table else None,
    )  # fmt: skip
    for name in (
        name for name, source in sources.items() if "task" in source
    ):  # so that every field is checked now, not in the middle of the study
        for seed in seeds:
            suite.source(name, seed)
    for cell in cells:
        for seed in cell.seeds:
            suite.spec(cell, seed, cell.rates[0])
        suite.at_all_rates(cell, cell.seeds[0])
    return suite


def _until(table: Any, first: int) -> Until:
    values: dict[str, Any] = table if isinstance(table, dict) else {}
    replication, most = values.get("replication", ""), values.get("seeds", "")
    if len(values) != 2 or not (_number(replication, (int, float)) and _number(most, int)):
        raise StudyError(f"until must read {{ replication = 0.9, seeds = 20 }}, got {table!r}")
    if not 0.5 <= replication < 1:
        raise StudyError(f"replication of until is a chance from 0.5 to below 1, got {replication!r}")
    if most <= first:
        raise StudyError(f"until.seeds must be more than the {first} seeds of the first look, got {most!r}")
    return Until(float(replication), most)


def _pinned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of runs with the files that they name read now: a suite stays one study while files change."""
    found = dict(values)
    if isinstance(found.get("model"), str):
        known = found["model"] in MODELS and "stage_map" not in found
        named = (found["model"], None) if known else resolve_map(found["model"], found.get("stage_map"), MODELS)
        found["model"], found["stage_map"] = named
    if "weights" in found:
        table = {"names": found.pop("names")} if "names" in found else {}
        found["weights"] = check_weights({"file": found["weights"], **table} if table else found["weights"])
    return found


def are_numbers(values: Any, kind: Any) -> bool:
    """Whether these are a list of at least one number of a kind, and no two are equal."""
    if not isinstance(values, list) or not values or not all(_number(each, kind) for each in values):
        return False
    return len(set(values)) == len(values)


def _number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _cells(
    block: dict[str, Any], sources: Mapping[str, Any], seeds: tuple[int, ...], of_suite: list[float]
) -> Iterable[Cell]:
    check_keys("key of a grid block", block, _GRID_KEYS)
    check_keys("field of a run", block.get("run", {}), _RUN_KEYS)
    for key in ("tasks", "volumes", "strategies"):
        if not isinstance(block.get(key), list) or not block[key]:
            raise StudyError(f"every grid block needs a list of {key}, at least one, got {block.get(key)!r}")
    own, start = block.get("seeds", list(seeds)), block.get("source_seed")
    if not are_numbers(own, int):
        raise StudyError(f"seeds of a grid block must be different whole numbers, at least one; got {own!r}")
    rates, count = block.get("rates", of_suite), len(of_suite)
    if not are_numbers(rates, (int, float)) or len(rates) != count:
        raise StudyError(f"rates of a grid block must be {count} different numbers, as for every other; got {rates!r}")
    if "source_seed" in block and (not are_numbers([start], int) or "source" not in block):
        raise StudyError(f"source_seed must be a whole number, in a grid block that has a source; got {block}")
    for task in block["tasks"]:
        for volume in block["volumes"]:
            for entry in block["strategies"]:
                strategy: dict[str, Any] = {"name": entry} if isinstance(entry, str) else entry
                check_keys("key of a strategy", strategy, ("name", "options"))
                if "name" not in strategy:
                    raise StudyError(f"a strategy in the grid needs a name, got {strategy}")
                needed = STRATEGIES[strategy["name"]].needs_source
                if needed and "source" not in block:
                    raise StudyError(
                        f"{strategy['name']} needs a source: add source = NAME to its grid block, and a [sources.NAME] "
                        f"if there is none; there are: {', '.join(sources) or 'none'}"
                    )
                if needed and (not isinstance(block["source"], str) or block["source"] not in sources):
                    raise StudyError(nearest(f"source (which {strategy['name']} needs)", block.get("source"), sources))
                yield Cell(
                    get_task(task).name, None if volume == "all" else volume, strategy["name"],
                    strategy.get("options", {}), block["source"] if needed else None, _pinned(block.get("run", {})),
                    tuple(own), start if needed else None, tuple(sorted(rates)),
                )  # fmt: skip


def _fold(task: str, seed: int) -> int:
    return seed % get_task(task).folds


def brief_of(spec: RunSpec) -> Brief | None:
    """What is asked of a run's result again and again, None while it is not finished."""
    return read_brief(run_dir(spec), spec)
