"""What checkpoints tell without their network: how far filters moved and when, and whether they look random."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pandas as pd
from torch import Tensor

from analysis.filters.change import changes_since
from analysis.filters.randomness.battery import battery
from analysis.filters.randomness.laws import ANY
from analysis.filters.randomness.verdicts import laws_at_start, verdicts
from analysis.probe.kept import digest, digest_of_tensors, kept_tables
from analysis.probe.subjects import Subject
from lib.networks.checkpoint_series import Moment

Report = Callable[[str], None]
MOVED = 1.0  # degrees that count as having moved at all: float16 files round by less


def moment_text(moment: Moment) -> str:
    """A checkpoint as tables call it: "step 500", "epoch 3", or the name of its file where nothing is known."""
    return moment.file.name if moment.unit == "place" else f"{moment.unit} {moment.at}"


def moves(subject: Subject, report: Report | None = None) -> pd.DataFrame:
    """How far the filters of each layer are from the first checkpoint, of step 0 or not, at every later one.

    Each later checkpoint is kept by content (`analysis.probe.kept`).

    Columns of `analysis.filters.change` by layer, with its nulls, and series, checkpoint, at (the step,
    epoch or place).

    Raises:
        StudyError: see `analysis.filters.change.filter_change`.
    """
    first, *later = subject.series.moments
    start = subject.weights(first)
    known = subject.geometry(start)
    about = [digest_of_tensors(start), known.shapes, known.stages]
    waiting: list[dict[str, Tensor]] = []
    changes = changes_since(start, iter(waiting.pop, None), model=known)  # what depends on the start is made once

    def change(after: dict[str, Tensor]) -> list[pd.DataFrame]:
        waiting.append(after)
        return [next(changes)]

    tables = []
    for moment in later:
        after = subject.weights(moment)
        key = digest(*about, digest_of_tensors(after))
        (table,), was_kept = kept_tables("moves", key, functools.partial(change, after))
        tables.append(table.assign(series=subject.title, checkpoint=moment_text(moment), at=moment.at))
        _tell(report, f"{subject.title}: filters of {moment_text(moment)}", was_kept)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _tell(report: Report | None, line: str, was_kept: bool) -> None:
    if report:
        report(f"{line} (kept)" if was_kept else line)


def when_moved(table: pd.DataFrame) -> pd.DataFrame:
    """From `moves`, a row per layer: how far it moved in all and by when half of that.

    Columns: series, layer, stage, kind, filters, angle (median over filters, degrees, at the last checkpoint),
    independent (the angle that 95 % of independent random filters exceed), half (the first checkpoint with half of the
    angle), rank_before, rank_after, rank_random (effective ranks of the filters), moved (by more than a degree).
    """
    rows = []
    for (series, layer), own in table.groupby(["series", "layer"], sort=False):
        last = own.iloc[-1]
        reached = own[own.angle_median >= last.angle_median / 2]
        rows.append(
            {
                "series": series,
                "layer": layer,
                "stage": last.stage,
                "kind": last.kind,
                "filters": last.filters,
                "angle": last.angle_median,
                "independent": last.angle_random_q05,
                "half": reached.checkpoint.iloc[0] if len(reached) and last.angle_median > 0 else "",
                "rank_before": last.rank_before,
                "rank_after": last.rank_after,
                "rank_random": last.rank_random,
                "moved": bool(last.angle_median > MOVED),
            }
        )
    return pd.DataFrame(rows)


def randomness(
    subject: Subject, *, draws: int | None = None, report: Report | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Whether filters look like a fresh draw, at the first and at the last checkpoint; and under which null.

    The null of each layer is found out from step 0 (`analysis.filters.randomness.verdicts`). Where no checkpoint is
    known to be of step 0, a layer fails if it fails under the normal, the uniform and the truncated normal law alike.

    Returns:
        Verdicts (a row per layer and checkpoint), the battery (a row per layer, checkpoint and test), and the null.
    """
    first, last = subject.series.moments[0], subject.series.moments[-1]
    start, weights = subject.series.start, subject.weights(first)
    known = subject.geometry(weights)
    about = [known.shapes, known.stages, draws]
    begun, begun_table, laws = None, None, ANY
    if start is not None:
        begun, about = weights, [*about, digest_of_tensors(weights)]

        def at_start() -> list[pd.DataFrame]:
            laws, table = laws_at_start(weights, model=known, draws=draws)
            return [pd.DataFrame(list(laws.items()), columns=["layer", "law"]), table]

        (law_of, begun_table), was_kept = kept_tables("laws", digest(*about), at_start)
        _tell(report, f"{subject.title}: from which law were filters drawn?", was_kept)
        laws = dict(zip(law_of.layer, law_of.law, strict=True))
        told = ", ".join(f"{law} ({count} layers)" for law, count in law_of.law.value_counts().items())
        said = f"a fresh draw of the law found at step 0: {told}"
    else:
        said = (
            "a fresh draw of a normal, uniform or truncated normal law, whichever a layer fits best, since no "
            "checkpoint is known to be of step 0"
        )

    def tested(weights: dict[str, Tensor]) -> list[pd.DataFrame]:
        return [battery(weights, model=known, draws=draws, law=laws, start=begun)]

    found, tables = [], []
    for moment in dict.fromkeys((first, last)):
        if moment is start and begun_table is not None:
            table = begun_table
        else:
            own = subject.weights(moment)
            key = digest(*about, laws, digest_of_tensors(own))
            (table,), was_kept = kept_tables("battery", key, functools.partial(tested, own))
            _tell(report, f"{subject.title}: do filters of {moment_text(moment)} look random?", was_kept)
        told = {"series": subject.title, "checkpoint": moment_text(moment)}
        tables.append(table.assign(**told))
        found.append(verdicts(table, begun_table).assign(**told))
    return pd.concat(found, ignore_index=True), pd.concat(tables, ignore_index=True), said


def verdict_counts(table: pd.DataFrame) -> pd.DataFrame:
    """From `randomness`, how many layers got which verdict: series, checkpoint, verdict, layers."""
    counts = table.groupby(["series", "checkpoint", "verdict"], sort=False).size()
    return counts.rename("layers").reset_index().assign(share=lambda rows: np.round(
        rows.layers / rows.groupby(["series", "checkpoint"]).layers.transform("sum"), 3))  # fmt: skip
