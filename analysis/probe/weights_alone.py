"""What checkpoints tell without their network: how far filters moved and when, and whether they look random."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.filters.change import changes_since
from analysis.filters.randomness.battery import battery
from analysis.filters.randomness.laws import ANY
from analysis.filters.randomness.verdicts import laws_at_start, verdicts
from analysis.probe.subjects import Subject
from lib.networks.checkpoint_files import common_prefix
from lib.networks.checkpoint_series import Moment
from lib.networks.stages import stage_of

Report = Callable[[str], None]
MOVED = 1.0  # degrees that count as having moved at all: float16 files round by less


def moment_text(moment: Moment) -> str:
    """A checkpoint as tables call it: "step 500", "epoch 3", or the name of its file where nothing is known."""
    return moment.file.name if moment.unit == "place" else f"{moment.unit} {moment.at}"


def with_stages(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `stage`: the first part of a layer's name, without a beginning that all layers share."""
    shared = common_prefix([f"{layer}.weight" for layer in dict.fromkeys(table.layer)])
    return table.assign(stage=[stage_of(layer.removeprefix(shared)) for layer in table.layer])


def moves(subject: Subject, report: Report | None = None) -> pd.DataFrame:
    """How far the filters of each layer are from the first checkpoint, of step 0 or not, at every later one.

    Columns of `analysis.filters.change` by layer, with its nulls, and series, checkpoint, at (the step,
    epoch or place).

    Raises:
        StudyError: see `analysis.filters.change.filter_change`.
    """
    moments = subject.series.moments
    start = subject.weights(moments[0])
    shapes = subject.shapes(start)
    changes = changes_since(start, (subject.weights(moment) for moment in moments[1:]), model=shapes)
    tables = []
    for moment, table in zip(moments[1:], changes, strict=True):
        tables.append(table.assign(series=subject.title, checkpoint=moment_text(moment), at=moment.at))
        if report:
            report(f"{subject.title}: filters of {moment_text(moment)}")
    return with_stages(pd.concat(tables, ignore_index=True)) if tables else pd.DataFrame()


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
    start = subject.series.start
    begun, begun_table, laws, weights = None, None, ANY, subject.weights(first)
    shapes = subject.shapes(weights)
    if start is not None:
        begun = weights
        laws, begun_table = laws_at_start(weights, model=shapes, draws=draws)
        counts = pd.Series(list(laws.values())).value_counts()
        told = ", ".join(f"{law} ({count} layers)" for law, count in counts.items())
        said = f"a fresh draw of the law found at step 0: {told}"
    else:
        said = (
            "a fresh draw of a normal, uniform or truncated normal law, whichever a layer fits best, since no "
            "checkpoint is known to be of step 0"
        )
    found, tables = [], []
    for moment in dict.fromkeys((first, last)):
        if report:
            report(f"{subject.title}: do filters of {moment_text(moment)} look random?")
        if moment is start and begun_table is not None:
            table = begun_table
        else:
            table = battery(subject.weights(moment), model=shapes, draws=draws, law=laws, start=begun)
        about = {"series": subject.title, "checkpoint": moment_text(moment)}
        tables.append(table.assign(**about))
        found.append(verdicts(table, begun_table).assign(**about))
    return *(with_stages(pd.concat(each, ignore_index=True)) for each in (found, tables)), said


def verdict_counts(table: pd.DataFrame) -> pd.DataFrame:
    """From `randomness`, how many layers got which verdict: series, checkpoint, verdict, layers."""
    counts = table.groupby(["series", "checkpoint", "verdict"], sort=False).size()
    return counts.rename("layers").reset_index().assign(share=lambda rows: np.round(
        rows.layers / rows.groupby(["series", "checkpoint"]).layers.transform("sum"), 3))  # fmt: skip
