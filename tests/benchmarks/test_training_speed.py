"""The aims of `bench_training.py`, checked: `python -m pytest tests/benchmarks -m benchmark -s`, on a quiet machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.common import paths

SCRIPT = Path(__file__).with_name("bench_training.py")


def measured(what: str, *options: str) -> list[dict[str, Any]]:
    """Rows of one benchmark, run in a process of its own with two threads; its file goes to the study's own reports."""
    environment = {name: value for name, value in os.environ.items() if name not in ("STUDY_HOME", "OMP_NUM_THREADS")}
    subprocess.run([sys.executable, str(SCRIPT), what, *options], env=environment, check=True)
    return json.loads((paths.REPOSITORY / "reports" / "benchmarks" / f"{what}-cpu.json").read_text())["rows"]


@pytest.mark.benchmark
def test_training_costs_little_more_than_a_bare_loop():
    rows = measured("loop", "--width", "16")
    assert min(row["ratio"] for row in rows) >= 0.9


@pytest.mark.benchmark
def test_training_is_faster_than_monai_with_a_loader():
    rows = [row for row in measured("monai") if row["precision"] == "as both come"]
    assert len(rows) == 2  # without worker processes and with two: the better one counts
    assert min(row["ratio"] for row in rows) >= 1.5


@pytest.mark.benchmark
def test_a_finished_run_is_returned_at_once():
    (row,) = measured("finished")
    assert row["finished run with a source, ms"] < 50


@pytest.mark.benchmark
def test_checkpoints_of_frozen_runs_are_small():
    rows = {row["strategy"]: row for row in measured("checkpoint")}
    assert rows["norm_only"]["later, MB"] < rows["scale_shift"]["later, MB"] < 0.2 * rows["scratch"]["later, MB"]


@pytest.mark.benchmark
def test_a_thousand_images_are_drawn_in_a_minute():
    rows = measured("images")
    assert len(rows) >= 3
    assert max(row["ms/image"] for row in rows) < 60
