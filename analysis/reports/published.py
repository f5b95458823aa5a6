"""A figure as PNG or a table as CSV beside the report."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from lib.common import paths


def publish(name: str, thing: Any, report: str) -> None:
    """Write a figure (Figure or Axes) as PNG or a table as CSV into the folder `report`; without one, do nothing."""
    if not report:
        return
    if hasattr(thing, "to_csv"):
        paths.write_atomic(Path(report, f"{name}.csv"), thing.to_csv(index=False))
        return
    stream = io.BytesIO()
    thing.get_figure(root=True).savefig(stream, format="png", dpi=150, bbox_inches="tight")
    paths.write_atomic(Path(report, f"{name}.png"), stream.getvalue())
