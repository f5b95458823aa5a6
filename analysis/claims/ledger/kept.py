"""The ledger of a suite, evaluated once for as long as its runs and the code stay what they are.

Verdicts depend on one another (the false discovery rate is held over all rows), so every notebook and page that shows
some of them shows rows of one ledger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.claims.ledger.evaluate import evaluate
from analysis.tables.results import evaluation_table, run_table
from lib.common import paths
from lib.runs.run import Run, locked
from lib.study.plan import finished_runs, load_suite, runs_at_all_rates

ANALYSIS = Path(__file__).parents[2]


def suite_ledger(suite: str, ids: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """The ledger of a suite, or its rows on some claims.

    Kept in the study's home under what it depends on: the results of the runs and the files of `analysis`.

    Raises:
        StudyError: a run is damaged, or its data or source changed since.
    """
    read = load_suite(suite)
    runs, chosen = runs_at_all_rates(read, goal=None), {run.path.name for run in finished_runs(read, goal=None)}
    folder = paths.home() / "ledgers"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{_key(runs)}.json"
    with locked(folder, lambda: None):  # notebooks of one report ask at the same time
        if not target.is_file():
            table = run_table(runs)
            table["chosen"] = table.run_id.isin(chosen)
            rows = evaluate(table, evaluation_table(runs), runs=runs)
            paths.write_atomic(target, json.dumps(rows, allow_nan=False))
        rows = json.loads(target.read_text())
    wanted = None if ids is None else set(ids)
    return [row for row in rows if wanted is None or row["id"] in wanted]


def _key(runs: Iterable[Run]) -> str:
    digest = hashlib.sha256()
    code = [*sorted(ANALYSIS.rglob("*.py")), *sorted(ANALYSIS.rglob("*.toml"))]
    for file in [*(run.path / "result.json" for run in runs), *code]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:32]
