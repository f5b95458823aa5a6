"""What is told of a suite's claims, computed once for as long as its runs and the code stay what they are.

Verdicts depend on one another (the false discovery rate is held over all rows), so every notebook and page that shows
some of them shows rows of one ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.ledger.evaluate import evaluate
from analysis.statistics.looks import looks_until
from analysis.tables.learning_rates import with_chosen
from analysis.tables.results import run_and_evaluation_tables
from lib.common import paths
from lib.data.tasks.task import get_task
from lib.runs.run import Run, locked
from lib.study.plan import chosen_runs, load_suite, runs_at_all_rates
from lib.study.suite import Suite

ANALYSIS = Path(__file__).parents[2]
_tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}  # of the suite that was read last: ledger, then choices


def suite_ledger(suite: str | Suite, ids: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """The ledger of a suite, by its name or as it was loaded, or its rows on some claims.

    Of one with `until`, it is corrected for all looks that its file plans.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    read = load_suite(suite) if isinstance(suite, str) else suite
    looks, ahead = planned_looks(read), _ahead(read)

    def rows_of(frame: pd.DataFrame, evaluations: pd.DataFrame, runs: list[Run]) -> list[dict[str, Any]]:
        return evaluate(frame, evaluations, runs=runs, looks=looks, ahead=ahead)

    rows, wanted = kept("cache/ledgers", read, rows_of), None if ids is None else set(ids)
    return [row for row in rows if wanted is None or row["id"] in wanted]


def kept(
    kind: str, suite: Suite, compute: Callable[[pd.DataFrame, pd.DataFrame, list[Run]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Rows that follow from the finished runs of a suite, ready for JSON: read in the study's home, or put there.

    Kept under what they depend on: the results of the runs, the looks that are planned, and the files of `analysis`.

    Args:
        kind: of rows; their folder in the home. compute: makes them of the run table, the evaluations and the runs.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    runs = runs_at_all_rates(suite, goal=None)
    folder = paths.home() / kind
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(runs, chosen_runs(suite), planned_looks(suite))
    target = folder / f"{key}.json"
    with locked(folder, lambda: None):  # notebooks of one report ask at the same time
        if not target.is_file():
            if key not in _tables:
                _tables.clear()
                table, curves = run_and_evaluation_tables(runs)
                _tables[key] = with_chosen(suite, table), curves
            paths.write_atomic(target, json.dumps(compute(*_tables[key], runs), allow_nan=False))
        return json.loads(target.read_text())


def planned_looks(suite: Suite) -> tuple[int, ...]:
    """The numbers of seeds at which a suite is looked at, fixed by its file; none where its seeds are fixed."""
    return () if suite.until is None else looks_until(len(suite.seeds), suite.until.seeds)


def _ahead(suite: Suite) -> tuple[int, int] | None:
    """Seeds of a suite that grows at its cap, and the test folds of its tasks, the fewest."""
    return None if suite.until is None else (suite.until.seeds, min(get_task(cell.task).folds for cell in suite.cells))


def _key(runs: Iterable[Run], chosen: Iterable[str], looks: Sequence[int]) -> str:
    digest = hashlib.sha256(" ".join([*sorted(chosen), *map(str, looks)]).encode())
    code = [*sorted(ANALYSIS.rglob("*.py")), *sorted(ANALYSIS.rglob("*.toml"))]
    for file in [*(run.path / "result.json" for run in runs), *code]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:32]
