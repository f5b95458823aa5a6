"""One run: its specification, its folder, its checkpoints.

Read `spec` (what is to be trained, and the id that follows), `tensor_files`, then `run`.
"""

from __future__ import annotations

from lib.runs.listing import check_current, find_run, list_runs
from lib.runs.run import Run, open_run, run_dir
from lib.runs.spec import RunSpec, run_id

__all__ = ["Run", "RunSpec", "check_current", "find_run", "list_runs", "open_run", "run_dir", "run_id"]
