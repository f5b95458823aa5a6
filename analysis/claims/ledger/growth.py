"""Seeds where they are needed: a study that grows look by look until its rows are decided, futile, or at their cap.

A suite with `until = { replication = R, seeds = N }` begins with its few seeds in every cell. Its looks are fixed by
its file (`statistics.looks`), and all of them together decide as many true nulls as one would: a group-sequential
design with Pocock's (1977) bound at every look. After a look, a row is

- *decided*, where a study of the same size would say the same with chance R;
- *futile*, where fewer than one in ten studies at the cap would come to a decision, as forecast from what there is
  (stopping for that costs power alone, so that the bound need not know of it);
- *open* otherwise. The cells that it reads have as many seeds as the next look by then.

All rows are told from all seeds that there are. One that is decided may be open again after later looks, where cells
that it shares with others have grown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.claims.ledger.evaluate import load_claims
from analysis.claims.ledger.kept import planned_looks, suite_ledger
from analysis.claims.verdicts import TESTS, Claim
from analysis.tables.run_row import task_names
from lib.common.errors import StudyError
from lib.common.progress import print_line
from lib.data.tasks.task import get_task
from lib.study.growth import can_grow, write_looks
from lib.study.plan import load_suite, missing_runs, train_suite
from lib.study.suite import Cell, Look, Suite

FUTILE = 0.1  # a decision at the cap that is less probable is not waited for


def row_state(row: Mapping[str, Any], replication: float) -> str:
    """`decided`, `futile` or `open`; `not tested` for a row that has no verdict.

    Args:
        row: of a ledger that says `decided_ahead`, that is, of a suite with `until`.
    """
    if row["verdict"] == "not tested" or row["p"] is None:  # what is exact is decided
        return "not tested" if row["verdict"] == "not tested" else "decided"
    if row["verdict"] == "inconclusive":
        return "futile" if row["decided_ahead"] < FUTILE else "open"
    return "decided" if row["replication"] >= replication else "open"


def row_name(row: Mapping[str, Any]) -> str:
    """What a row is called among its ledger's."""
    return f"{row['id']}, {row['task']}"


def reads(row: Mapping[str, Any], claim: Claim, suite: Suite, cell: Cell) -> bool:
    """Whether runs of a cell decide a row: of its task (or any of its claim's goal), by a strategy its test reads."""
    test, task = TESTS[claim.test], get_task(cell.task)
    if cell.strategy not in (test.strategies or claim.compare) or test.goal not in (None, task.goal):
        return False
    if row["task"] in ("all", "simulated"):
        return row["task"] == "all" or task.kind == "simulated"
    label, _ = task_names(suite.spec(cell, cell.seeds[0], cell.rates[0]))
    return row["task"] in (label, cell.task)  # reconstructions: told at a sampling rate, or over all


def next_look(suite: Suite, rows: Iterable[Mapping[str, Any]], looks: Sequence[int]) -> Look | None:
    """The next look at a suite whose open rows are these; None where no cell that they read can have more seeds."""
    claims, now = {claim.id: claim for claim in load_claims()}, suite.looks[-1]
    wanted = [(row, claims[row["id"]]) for row in rows]
    grow = [can_grow(suite, cell) and any(reads(*each, suite, cell) for each in wanted) for cell in suite.cells]
    for at in looks:
        seeds = tuple(max(old, at) if more else old for old, more in zip(now.seeds, grow, strict=True))
        if at > now.at and seeds != now.seeds:
            return Look(at, seeds, {})
    return None


def look(name: str, show: Callable[[str], None] = print) -> bool:
    """Look at a suite whose runs are all finished, say which rows are open, and ask for the seeds that they need.

    Safe to interrupt and to call again: the file of looks is written once, at the end.

    Returns:
        Whether there is something to train.

    Raises:
        StudyError: the suite does not say `until`, or runs of the look that it is at are missing.
    """
    suite = growing(name)
    assert suite.until is not None
    if missing := len(missing_runs(suite)):
        raise StudyError(
            f"{missing} runs of the look at {suite.looks[-1].at} seeds are missing: python -m lib train {name}"
        )
    rows, wanted = suite_ledger(name), suite.until.replication
    states = {row_name(row): row_state(row, wanted) for row in rows}
    still = [row for row in rows if states[row_name(row)] == "open"]
    *before, now = suite.looks
    following = next_look(suite, still, planned_looks(suite))
    write_looks(suite, [*before, replace(now, rows=states), *([following] if following else [])])
    counts = {state: list(states.values()).count(state) for state in ("decided", "futile", "open")}
    show(f"look at {now.at} seeds: " + ", ".join(f"{count} rows {state}" for state, count in counts.items()))
    for row in still:
        show(f"{row_name(row)}: {_why(row, wanted, suite.until.seeds)}")
    if following is None:
        show(f"nothing is left to train: {'the open rows are at their cap' if still else 'no row is open'}")
        return False
    added = [
        (len(cell.rates), new - old) for cell, old, new in zip(suite.cells, now.seeds, following.seeds, strict=True)
    ]
    show(
        f"to train for the look at {following.at} seeds: {sum(count > 0 for _, count in added)} of {len(added)} cells "
        f"grow by {sum(count for _, count in added)} seeds, {sum(rates * count for rates, count in added)} runs, and "
        "the sources that these start from"
    )
    return True


def _why(row: Mapping[str, Any], wanted: float, most: int) -> str:
    told = f"{row['verdict']} with {row['seeds']} seeds"
    if row["verdict"] == "inconclusive":
        return f"{told}, decided with {most} in {row['decided_ahead']:.2f} of studies"
    return f"{told}, comes again in {row['replication']:.2f} of studies, {wanted:g} wanted"


def growing(name: str) -> Suite:
    """The suite of that name.

    Raises:
        StudyError: its seeds are fixed.
    """
    suite = load_suite(name)
    if suite.until is None:
        raise StudyError(
            f"the seeds of suite {name} are fixed; write until = {{ replication = 0.9, seeds = 20 }} at the top of a "
            f"suite that extends it, or train it as it is: python -m lib train {name}"
        )
    return suite


def grow(name: str, show: Callable[[str], None] = print_line, **options: Any) -> list[str]:
    """Train a suite and look at it in turn, until nothing is left to train; called again, it goes on.

    Args:
        options: as of `train_suite`.

    Returns:
        A sentence for every run that could not be trained; with any, it stops before the next look.
    """
    growing(name)
    while True:
        failures = train_suite(load_suite(name), show=show, **options)
        if failures or not look(name, show):
            return failures
