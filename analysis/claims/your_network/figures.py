"""What strategies moved in a network from elsewhere. Table in, axes out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.charts import heat_map
from analysis.figures.style import axes, study_style, title_and_note


@study_style
def what_moved(table: pd.DataFrame) -> Axes:
    """Median angle of filters, stages down and strategies across; a white cell is frozen whole.

    Args:
        table: from `tuning.moved_table`.
    """
    stages, strategies = list(dict.fromkeys(table.stage)), list(dict.fromkeys(table.strategy))
    values = table.pivot(index="stage", columns="strategy", values="angle").reindex(stages)[strategies]
    by_place = table.set_index(["stage", "strategy"])
    words = np.array([[_words(by_place.loc[(stage, strategy)]) for strategy in strategies] for stage in stages])
    shown = values.mask(words == "frozen")
    ax = axes(None, width=3.5 + 2.2 * len(strategies), height=1.6 + 0.42 * len(stages))
    top = max(1.0, float(np.nanmax(values.to_numpy())))
    image = heat_map(ax, shown, 0, top, words=words)
    ax.get_figure(root=True).colorbar(image, ax=ax, label="degrees")  # type: ignore[union-attr]
    title_and_note(
        ax, "What each strategy moved", "median angle of a stage's filters between start and end; one run each"
    )
    return ax


def _words(row: pd.Series) -> str:
    if not row.moved and not row.statistics:
        return "frozen"
    share = row.moved / row.parameters
    if np.isnan(row.angle):  # a stage without convolutions
        return f"{100 * share:.0f} % moved"
    return f"{row.angle:.1f}°" if share > 0.5 else f"{row.angle:.0f}°, {100 * share:.0f} % moved"
