"""What is told of a suite's claims, computed once for as long as its runs and the code stay what they are.

Verdicts depend on one another (the false discovery rate is held over all rows), so every notebook and page that shows
some of them shows rows of one ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.ledger.evaluate import evaluate
from analysis.tables.results import evaluation_table, run_table
from lib.common import paths
from lib.runs.run import Run, locked
from lib.study.plan import finished_runs, load_suite, runs_at_all_rates

ANALYSIS = Path(__file__).parents[2]


def suite_ledger(suite: str, ids: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """The ledger of a suite, or its rows on some claims.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    rows = kept("cache/ledgers", suite, lambda frame, evaluations, runs: evaluate(frame, evaluations, runs=runs))
    wanted = None if ids is None else set(ids)
    return [row for row in rows if wanted is None or row["id"] in wanted]


def kept(
    kind: str, suite: str, compute: Callable[[pd.DataFrame, pd.DataFrame, list[Run]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Rows that follow from the finished runs of a suite, ready for JSON: read in the study's home, or put there.

    Kept under what they depend on: the results of the runs and the files of `analysis`.

    Args:
        kind: of rows; their folder in the home. compute: makes them of the run table, the evaluations and the runs.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    read = load_suite(suite)
    runs, chosen = runs_at_all_rates(read, goal=None), {run.path.name for run in finished_runs(read, goal=None)}
    folder = paths.home() / kind
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{_key(runs, chosen)}.json"
    with locked(folder, lambda: None):  # notebooks of one report ask at the same time
        if not target.is_file():
            table = run_table(runs)
            table["chosen"] = table.run_id.isin(chosen)
            paths.write_atomic(target, json.dumps(compute(table, evaluation_table(runs), runs), allow_nan=False))
        return json.loads(target.read_text())


def _key(runs: Iterable[Run], chosen: Iterable[str]) -> str:
    digest = hashlib.sha256(" ".join(sorted(chosen)).encode())
    code = [*sorted(ANALYSIS.rglob("*.py")), *sorted(ANALYSIS.rglob("*.toml"))]
    for file in [*(run.path / "result.json" for run in runs), *code]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:32]
