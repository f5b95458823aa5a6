"""What the tests of the claims ledger share: a claim, its thresholds, a row of the ledger, and who counts as replicate.

Replicates are (seed, fold). Where a claim is tested over several conditions (volumes, sources), a replicate
counts once, with its mean over the conditions, and only replicates that have all of them are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.claims.evidence import Part
from analysis.statistics.intervals import Interval
from lib.common.registry import Registry
from lib.runs.run import Run

VERDICTS = ("supported", "contradicted", "inconclusive", "not tested")
REPLICATE = ["seed", "fold"]
CONDITIONS = ["volume_label", "source"]  # of one task, over which a replicate is averaged
Runs = Mapping[str, Run]  # by `run_id`


@dataclass(frozen=True)
class Threshold:
    """A number fixed beforehand, and why it is that one."""

    value: float
    why: str


@dataclass(frozen=True)
class Claim:
    """A published claim in checkable words, with its test; one entry of claims.toml.

    measure: of similarity, where the test compares representations; that of `run_similarity` where it says none.
    supported, contradicted: what is true then. number: how an effect is said. published: the paper's own number.
    short: the statement in a few words.
    """

    id: str
    paper: str
    statement: str
    test: str
    unit: str
    notebook: str
    figure: str
    thresholds: Mapping[str, Threshold]
    compare: tuple[str, ...] = ()
    measure: str = ""
    supported: str = ""
    contradicted: str = ""
    number: str = ""
    published: str = ""
    short: str = ""

    def value(self, name: str) -> float:
        """The threshold of that name."""
        return self.thresholds[name].value


@dataclass(frozen=True)
class Finding:
    """What a test has found of a claim on one task ("all": on all of them); `ledger.decide` makes the verdict of it.

    evidence: the numbers and the lines they are held against; None where the claim could not be tested. note: how it
    was measured and what was left out. seeds: replicates it rests on. barred: why the claim cannot be supported,
    whatever the numbers say (an arm is missing, too many runs never got there). exact: the claim is exact, and so is
    its verdict, with no interval: (number found, number it is held against, whether the claim holds). data: simulated
    or real, where a row on all tasks speaks of one kind alone.
    """

    claim: Claim
    task: str
    note: str
    evidence: Part | None = None
    seeds: int = 0
    barred: str = ""
    exact: tuple[float, float, bool] | None = None
    data: str = ""


@dataclass(frozen=True)
class ClaimTest:
    """A test of claims: what it needs in claims.toml, and the function `(claim, table, curves, runs) -> findings`.

    Both tables hold the runs of one goal (None: of all). They are without runs that share one source run (see
    `results.with_own_source`), unless `shared_source` asks for them; and of every cell and seed they hold the run at
    the chosen learning rate, or, with `every_rate`, those at all that were tried. `runs` gives the run of each `run_id`
    in the table, for tests that look at weights. `strategies` are those whose runs decide, by default the ones that the
    claim compares: where a row needs more seeds, they get them.
    """

    run: Callable[[Claim, pd.DataFrame, pd.DataFrame, Runs], list[Finding]]
    thresholds: tuple[str, ...]
    compares: bool
    shared_source: bool = False
    every_rate: bool = False
    goal: str | None = "segmentation"
    strategies: tuple[str, ...] = ()


TESTS: Registry[ClaimTest] = Registry("test of a claim")


def complete_replicates(values: pd.DataFrame, least: int) -> tuple[pd.DataFrame, str]:
    """The replicates (rows) that have every condition (column) which at least `least` replicates have.

    Returns:
        The complete rows, fewer than `least` where there are no more, and what was left out, in words.
    """
    counts = values.notna().sum()
    enough = values.columns[counts >= min(least, counts.max() if len(counts) else 0)]
    kept = values[enough].dropna()
    thin, left = len(values.columns) - len(enough), len(values) - len(kept)
    words = [f"{thin} of {len(values.columns)} conditions left out: fewer than {least} seeds"] if thin else []
    words += [f"{left} of {len(values)} seeds left out: not in every condition"] if left else []
    return kept, "; ".join(words)


def too_few(values: pd.Series | pd.DataFrame, claim: Claim, what: str) -> str:
    """Why these replicates (rows, by seed and fold) are too few for a test; empty where they are enough.

    A seed more on the same test fold is no independent replicate, and one fold has no spread.
    """
    least, folds = int(claim.value("min_seeds")), values.index.unique("fold")
    if len(values) < least:
        return f"{len(values)} seeds{what}, {least} needed"
    return f"{len(values)} seeds{what} on one test fold, 2 folds needed" if len(folds) < 2 else ""


def of_one_network(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of the network that learned most tasks, by name the first of equals, and what was left out, in words.

    For tests over tasks: a data set that two networks learned is not two tasks.
    """
    tasks = frame.groupby("model").task.nunique()
    if len(tasks) < 2:
        return frame, ""
    kept = str(tasks.idxmax())
    return frame[frame.model == kept], f"of {kept} alone: data sets are counted, and other networks learned the same"


def with_runs(rows: pd.DataFrame, runs: Mapping[str, Run]) -> pd.DataFrame:
    """The rows whose run is among these; looked up row by row, as there may be many times as many runs."""
    return rows[np.array([name in runs for name in rows.run_id], dtype=bool)]


def target_tasks(frame: pd.DataFrame) -> list[str]:
    """Tasks of the table, without those that only serve as source (which is named without its sampling rate)."""
    only_scratch = frame.groupby("task").strategy.agg(lambda names: set(names) == {"scratch"})
    sources = set(frame.source)
    return [str(task) for task, alone in only_scratch.items() if not (alone and str(task).split("@")[0] in sources)]


def sentences(*parts: str) -> str:
    """The parts that say something, as sentences; one that begins with a name (`full_finetuning`) keeps it."""
    return ". ".join(part if "_" in part.split()[0] else part[0].upper() + part[1:] for part in parts if part)


def data_kind(frame: pd.DataFrame) -> str:
    """What to say of the data's kind: that they are simulated, or in part."""
    found = set(frame.kind)
    if "simulated" not in found:
        return ""
    return "simulated data" if len(found) == 1 else "real and simulated data"


def data_of(task: str, kinds: Mapping[str, str]) -> str:
    """Whether a row of the ledger is on simulated or real data, or on both: from the kinds of the tasks.

    Args:
        task: of the row; it may carry a sampling rate or a network (`task@4`); "all" and what is no task are on all.
        kinds: by task; empty where there are none, and so is then the answer.
    """
    found = {kind for name, kind in kinds.items() if name.split("@")[0] == task.split("@")[0]}
    return " and ".join(sorted(found or set(kinds.values())))


def diverged_text(frame: pd.DataFrame, strategies: tuple[str, ...]) -> str:
    """How many runs of these strategies diverged, if any."""
    rows = frame[frame.strategy.isin(strategies)]
    count = int((rows.status == "diverged").sum())
    return f"{count} of {len(rows)} runs diverged" if count else ""


def unpaired_text(rows: pd.DataFrame, *, elsewhere: tuple[str, ...] = ("diverged",)) -> str:
    """How many rows cannot be set against a partner, and why, from their `status`; not of those told `elsewhere`."""
    counts = rows.status[~rows.status.isin(["done", *elsewhere])].value_counts()
    return ", ".join(f"{count} runs left out: {status}" for status, count in counts.items())


def interval_text(interval: Interval) -> str:
    """A mean difference with its interval in few letters, for notes."""
    if interval.n < 2:
        return f"{interval.estimate:+.3f} (one seed)" if interval.n else "not run"
    return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def by_replicate(rows: pd.DataFrame, value: str, conditions: list[str]) -> pd.DataFrame:
    """Replicates by conditions."""
    return rows.pivot(index=REPLICATE, columns=conditions, values=value).astype("float64")
