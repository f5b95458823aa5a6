"""A figure with its files, its caption and its alternative text, or a table as CSV, beside the report."""

from __future__ import annotations

import base64
import io
import json
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.dark import darken
from analysis.figures.described import described
from lib.common import paths
from lib.common.errors import StudyError

MARK = "palimpsest"  # where a notebook's output says which figure it is
DPI = 150


def publish(name: str, thing: Any, report: str, *, data: pd.DataFrame | None = None, caption: str = "") -> None:
    """Show a figure with its caption, and write it into the folder `report`; or write a table there.

    A figure becomes NAME.png, NAME-dark.png for pages in the dark, NAME.svg, and NAME.csv with what is drawn; a table
    becomes NAME.csv. Without a folder nothing is written. Spaces in a name become underscores.

    Args:
        thing: Figure, Axes or DataFrame.
        data: what is drawn, one row a mark, line point, cell or picture. caption: what a reader needs to read the
            figure, in a sentence or two.

    Raises:
        StudyError: a figure without data or caption.
    """
    name, folder = "_".join(name.split()), Path(report)
    if hasattr(thing, "to_csv"):
        if report:
            paths.write_atomic(folder / f"{name}.csv", thing.to_csv(index=False))
        return
    if data is None or not caption.strip():
        raise StudyError(
            f"a figure is published with what is drawn and what it says; give {name!r} data= (a table) and caption="
        )
    figure = thing if isinstance(thing, Figure) else thing.get_figure(root=True)
    picture = _png(figure)
    alternative = described(figure, data)
    if report:
        paths.write_atomic(folder / f"{name}.png", picture)
        paths.write_atomic(folder / f"{name}.svg", svg_text(figure, Title=caption))
        paths.write_atomic(folder / f"{name}.csv", _plain(data).to_csv(index=False))
        darken(figure)
        paths.write_atomic(folder / f"{name}-dark.png", _png(figure))
    _show(figure, {"name": name, "caption": caption.strip(), "alt": alternative}, picture)


def _show(figure: Figure, about: dict[str, str], picture: bytes) -> None:
    """One output in a notebook's cell: the figure with its caption, and in its metadata what a page makes of it."""
    from IPython.core.getipython import get_ipython
    from IPython.display import publish_display_data
    from matplotlib import pyplot

    pyplot.close(figure)  # or the notebook would show it again at the end of the cell
    if get_ipython() is None:
        return
    source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    html = (
        f'<figure style="margin: 0"><img src="{source}" alt="{escape(about["alt"])}" style="max-width: 100%">'
        f"<figcaption>{escape(about['caption'])}</figcaption></figure>"
    )
    publish_display_data({"text/html": html, "text/plain": about["alt"]}, {MARK: about})


def _png(figure: Figure) -> bytes:
    """The figure in at most 256 colors, which is a third of the size and looks the same."""
    from PIL import Image

    stream, small = io.BytesIO(), io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, bbox_inches="tight")
    image = Image.open(stream).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(small, "PNG", optimize=True, dpi=(DPI, DPI))
    return small.getvalue()


def svg_text(figure: Figure, *, fonts: str = "none", **about: str) -> str:
    """The figure as drawing; the same figure gives the same file.

    Args:
        fonts: "none" keeps words as text, "path" draws them, for pages that have not the font. about: as in `savefig`.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": fonts, "svg.hashsalt": "palimpsest"}):
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None, **about})
    return stream.getvalue()


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Cells that hold several numbers as JSON, which any reader of CSV can take apart."""

    def cell(value: Any) -> Any:
        nested = isinstance(value, list | tuple | dict | np.ndarray)
        return json.dumps(value, default=lambda each: each.tolist()) if nested else value

    objects = [name for name in table if table[name].dtype == object]
    return table.assign(**{str(name): table[name].map(cell) for name in objects})
