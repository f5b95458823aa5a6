"""Many runs: suites, what is missing of them, and the engines that train it.

Read `suite` (what a TOML file says), `growth` (how many seeds cells have by now, where that may change), `engines`
(where runs execute), then `plan` (what is missing, and training it).
"""

from __future__ import annotations

from lib.study.plan import finished_runs, load_suite, missing_runs, runs_at_all_rates, suites_dir, train_suite

__all__ = ["finished_runs", "load_suite", "missing_runs", "runs_at_all_rates", "suites_dir", "train_suite"]
