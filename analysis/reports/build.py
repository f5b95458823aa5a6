"""Reports of a suite: every notebook executed and rendered, the tables written, a gallery in front."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.reports import execution, page_parts, pages, parameters
from analysis.reports.front import gallery, suites
from lib.common import paths, provenance
from lib.common.errors import StudyError
from lib.runs.run import locked
from lib.study import engines
from lib.study.plan import count_untrained, finished_runs, load_suite
from lib.study.suite import Suite


def report_folder(suite: Suite) -> Path:
    """The folder of a suite's reports and tables, made where it is not there; it belongs to one suite file.

    Raises:
        StudyError: another suite file of the same name has written there.
    """
    folder, file = paths.reports_dir() / suite.name, suite.file.resolve()
    inside = file.is_relative_to(paths.REPOSITORY)  # so that the study may be moved
    own, mark = str(file.relative_to(paths.REPOSITORY) if inside else file), folder / ".suite"
    if not mark.is_file():
        paths.write_atomic(mark, own + "\n")
    if mark.read_text().strip() != own:
        raise StudyError(
            f"{folder} holds the reports of {mark.read_text().strip()}, not of {own}: give one of the two suites "
            f"another file name, or delete {mark} if it is the same suite in another place"
        )
    return folder


def write_table(suite: str) -> tuple[Path, pd.DataFrame]:
    """Write `results.csv`, one row per cell and seed of a suite, at its chosen rate; returns where it is and the table.

    Where a task names labels, `labels.csv` beside it has a row per run and label.
    """
    from analysis.tables.results import named_labels, run_table

    chosen = load_suite(suite)
    runs = finished_runs(chosen, goal=None)
    rows = run_table(runs)
    target = report_folder(chosen) / "results.csv"
    paths.write_atomic(target, rows.to_csv(index=False))
    labels = named_labels(runs)
    if len(labels):
        paths.write_atomic(target.with_name("labels.csv"), labels.to_csv(index=False))
    return target, rows


def write_claims(suite: str) -> tuple[Path, list[dict[str, Any]]]:
    """Write `claims.json`, the claims ledger of a suite; returns where it is and the claims."""
    from analysis.claims.ledger.choices.specifications import told_ledger
    from analysis.claims.ledger.evaluate import write_claims_file

    chosen = load_suite(suite)
    ledger, target = told_ledger(chosen), report_folder(chosen) / "claims.json"
    write_claims_file(target, ledger)
    return target, ledger


def say_written(target: Path, suite: str) -> None:
    """Say where a file of a suite is, and of how many of its runs it knows nothing."""
    print(f"written to {target}", file=sys.stderr)
    untrained, runs = count_untrained(load_suite(suite))
    if untrained:
        told = f"{untrained} of {runs} runs of the suite are not trained; python -m lib train {suite} trains them"
        print(f"note: {told}", file=sys.stderr)


def write_choices(suite: str) -> tuple[Path, pd.DataFrame]:
    """Write `choices.csv`, the rows of the claims ledger under every choice; returns where it is and the table."""
    from analysis.claims.ledger.choices.specifications import suite_choices

    chosen = load_suite(suite)
    table, target = suite_choices(chosen), report_folder(chosen) / "choices.csv"
    paths.write_atomic(target, table.to_csv(index=False))
    return target, table


def write_agreement(suite: str) -> tuple[Path, pd.DataFrame]:
    """Write `agreement.csv`: how rankings of layer sets before training agreed with a suite's finished runs.

    Returns:
        Where it is, and the table of `ranking_agreement`.

    Raises:
        StudyError: no condition of the suite has four finished sets of layers.
    """
    from analysis.claims.which_layers.agreement import FILE, ranking_agreement
    from analysis.tables.recorded_measurements import write_record
    from analysis.tables.results import run_table, with_own_source

    chosen = load_suite(suite)
    runs = finished_runs(chosen)
    rows = ranking_agreement(with_own_source(run_table(runs)), runs)
    if not len(rows):
        raise StudyError(
            f"suite {suite!r} has no condition with four finished sets of layers of one seed: train it first "
            f"(python -m lib train {suite}), or name another, such as foreign_layers"
        )
    target = report_folder(chosen) / FILE
    write_record(target, rows, f"python -m analysis agreement {chosen.name}")
    return target, rows


class Reporter:
    """One call of `report`: prints its progress, keeps the kernels it started, and can end them."""

    def __init__(self, suite: str, count: int, timeout: int | None, threads: int) -> None:
        self.suite, self.timeout, self.threads = suite, timeout, threads
        self.folder = paths.reports_dir() / self.suite
        self.commit, self.begun = provenance.commit(), time.monotonic()
        self.left, self.kernels, self.lock = count, list[int](), threading.Lock()
        self.stopped = False

    def say(self, text: str) -> None:
        """Print a line with the time so far in front."""
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        with self.lock:
            print(f"[{minutes:3d}:{seconds:02d}] {text}", flush=True)

    def run(self, job: parameters.Job) -> str:
        """Execute and render one notebook; returns its status."""
        import nbformat

        if self.stopped:
            return "interrupted"
        target, published = self.folder / f"{job.name}.html", self.folder / job.name
        executed = target.with_suffix(".ipynb")
        for old in (target, executed, target.with_suffix(".card.json")):
            old.unlink(missing_ok=True)
        shutil.rmtree(published, ignore_errors=True)
        published.mkdir(parents=True)

        self.say(f"{job.name} starts")
        outcome = execution.execute(
            job, executed, lambda line: self.say(f"{job.name} | {line}"), self.timeout, self.keep, self.threads
        )
        if self.stopped:
            return "interrupted"
        notebook = nbformat.read(executed if executed.exists() else job.path, as_version=4)
        begun = [i for i, cell in enumerate(notebook.cells) if cell.metadata.get("papermill", {}).get("start_time")]
        run = {
            "name": job.name,
            "suite": self.suite,
            "status": outcome.status,
            "message": outcome.message,
            "seconds": outcome.seconds,
            "stderr": "\n".join(outcome.stderr) if outcome.status != "ok" else "",
            "cell": begun[-1] if begun and outcome.status != "ok" else None,
            "commit": self.commit,
            "finished": f"{datetime.now():%Y-%m-%d %H:%M}",
            "parameters": [
                {"name": name, "value": repr(value).replace(f"{paths.home()}/", ""), "given": name in job.given}
                for name, value in job.parameters.items()
            ],
        }
        pages.write_report(notebook, target, run)
        with self.lock:
            self.left -= 1
        left = f"; {self.left} to go" if self.left else ""
        self.say(f"{job.name} {outcome.status}, {pages.duration(outcome.seconds)}{left}")
        if outcome.status != "ok":
            self.say("\n".join([f"{job.name}: {outcome.message}", *(f"    {line}" for line in outcome.stderr)]))
        return outcome.status

    def keep(self, kernel: int) -> None:
        """Remember the process of a kernel, or end it at once where all is to end."""
        with self.lock:
            self.kernels.append(kernel)
        if self.stopped:
            self.stop()

    def stop(self) -> None:
        """End the kernels and all that they started; runs are safe, they resume where they were."""
        self.stopped = True
        for process in self.kernels:
            try:
                os.killpg(process, signal.SIGKILL)  # a kernel leads a process group of its own
            except ProcessLookupError:
                continue


def build_report(
    suite: str,
    *,
    names: Sequence[str] = (),
    jobs: int = 1,
    timeout: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> int:
    """Execute and render the notebooks of a suite, write its tables, its gallery, and the list of all suites.

    Args:
        suite: name of a suite, or path of its TOML file.
        names: notebooks to run, all by default; the gallery shows what there is.
        jobs: notebooks executed at a time; one that says so in its metadata (`palimpsest.alone`) has no company.
        timeout: seconds one cell may take; None is no limit.
        overrides: parameters set in each of the notebooks.

    Returns:
        0, or 1 if a notebook did not end ok; the others are built all the same.

    Raises:
        StudyError: an unknown suite, notebook or parameter, or a value of the wrong type; nothing was started.
    """
    planned = parameters.plan(suite, names, overrides)
    chosen = load_suite(suite)
    report_folder(chosen)  # refused here, before anything is started
    reporter = Reporter(chosen.name, len(planned), timeout, threads=max(1, engines.cores() // max(1, jobs)))
    with locked(reporter.folder, lambda: reporter.say("another process makes these reports; waiting for it to end")):
        return _build(suite, chosen, planned, reporter, jobs)


def _build(suite: str, chosen: Suite, planned: Sequence[parameters.Job], reporter: Reporter, jobs: int) -> int:
    reporter.say(f"suite {reporter.suite}: {len(planned)} notebooks, into {reporter.folder}")
    statuses: list[str] = []
    # In threads even when there is one at a time: an interrupt then reaches this one, which can stop the kernels.
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            for _, group in groupby(planned, lambda job: job.path if job.alone else None):
                statuses += pool.map(reporter.run, group)
        except KeyboardInterrupt:
            reporter.stop()
            raise
    rows = None
    try:
        rows = write_table(suite)[1]
        write_claims(suite)
    finally:  # a run that cannot be read is an error, but the pages there are should be seen
        finished = f"{datetime.now():%Y-%m-%d %H:%M}"
        page_parts.link_pages(reporter.folder, [(card.name, card.title) for card in pages.read_cards(reporter.folder)])
        index = gallery.write_gallery(
            reporter.folder, title=chosen.title, commit=reporter.commit, finished=finished, results=rows
        )
        suites.write_suites()
    broken = sum(status != "ok" for status in statuses)
    reporter.say(f"{len(statuses) - broken} ok, {broken} not; open {_shown(index)}")
    return int(broken > 0)


def _shown(path: Path) -> str:
    """The path as seen from the current folder where it lies below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
