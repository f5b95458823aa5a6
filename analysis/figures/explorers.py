"""Figures that react, each one piece of HTML with its data inside: they work offline, in a report and in JupyterLab.

What they show stands in a figure for print, too, which their notebook draws beside them. The script (`explorers.js`)
draws from plain form controls, so that a keyboard reaches all that a pointer does.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML
from PIL import Image

from analysis.figures.style import arm_labels, arm_style, arms_in_order, task_title
from lib.common.errors import StudyError

SCRIPT = Path(__file__).with_suffix(".js").read_text()
STYLE = Path(__file__).with_suffix(".css").read_text()
KINDS = ("layers", "filters", "curves", "outlines")
TRUTH = "#FFFFFF"
ON_PICTURES = ("#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#D55E00")  # colors of arms there: some arms have a dark one


def explorer(kind: str, data: Mapping[str, Any], label: str) -> HTML:
    """Data as something to explore.

    Args:
        kind: one of KINDS; what each wants of `data` is said by the functions that make it.
        data: ready for JSON, without NaN.
        label: what a reader who hears the page is told that this is.

    Raises:
        StudyError: an unknown kind.
    """
    if kind not in KINDS:
        raise StudyError(f"an explorer is one of {', '.join(KINDS)}, got {kind!r}")
    content = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return HTML(
        f'<style>{STYLE}</style><div class="explorer" data-kind="{kind}" role="group" aria-label="{escape(label)}">'
        f'<script type="application/json">{content}</script>'
        "<noscript><p>This figure reacts where scripts may run; the figure beside it shows the same.</p></noscript>"
        f"</div><script>{SCRIPT}</script>"
    )


def rounded(values: Any, digits: int = 3) -> list[float | None]:
    """Numbers of any shape as one flat list, what is not finite as None."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return [round(float(each), digits) if np.isfinite(each) else None for each in flat]


def curves_explorer(curves: pd.DataFrame) -> HTML:
    """Validation scores of every run against step, by task and volume.

    A run that has no evaluation at a step of others has a gap there.

    Args:
        curves: from `tables.evaluation_table`.
    """
    curves = curves.assign(label=arm_labels(curves))
    arms, cells = arms_in_order(curves.label), []
    for (_, volume), rows in curves.groupby(["task", "volume_label"], sort=False):
        steps = sorted(set(rows.step.astype(int)))
        wide = rows.pivot_table(index="run_id", columns="step", values="val_score").reindex(columns=steps)
        arm_of = rows.groupby("run_id").label.first()
        measure = (
            "PSNR on validation slices, dB" if rows.goal.iloc[0] == "reconstruction" else "Dice on validation images"
        )
        cells.append(
            {
                "name": f"{task_title(rows)}, {volume}", "measure": measure, "steps": steps,
                "runs": [{"arm": arms.index(arm_of[name]), "values": rounded(own)} for name, own in wide.iterrows()],
            }
        )  # fmt: skip
    known = [{"name": arm, "color": arm_style(arm).color} for arm in arms]
    return explorer("curves", {"arms": known, "cells": cells}, "Learning curves of every run, by task and arm")


def outlines_explorer(
    images: np.ndarray, truth: np.ndarray, drawn: Mapping[str, np.ndarray], names: Sequence[str], title: str
) -> HTML:
    """Images one at a time, with the true outline and those that networks draw, and the Dice of each.

    Args:
        images: float (n, h, w) in [0, 1], h = w. truth: (n, h, w), what is not 0 being inside.
        drawn: arm -> masks of its network, as `truth`; five arms at most. names: of the images. title: what they are.

    Raises:
        StudyError: more arms.
    """
    masks = {"truth": truth, **drawn}
    if len(drawn) > len(ON_PICTURES):
        raise StudyError(f"outlines of {len(drawn)} arms cannot be told apart; show {len(ON_PICTURES)} at most")
    colors = [TRUTH, *ON_PICTURES[: len(drawn)]]
    shown = [
        {
            "name": name, "picture": _picture(image),
            "masks": [_bits(each[at] > 0) for each in masks.values()],
            "dice": [None, *(round(_dice(truth[at] > 0, each[at] > 0), 3) for each in drawn.values())],
        }
        for at, (name, image) in enumerate(zip(names, images, strict=True))
    ]  # fmt: skip
    arms = [{"name": arm, "color": color} for arm, color in zip(masks, colors, strict=True)]
    return explorer("outlines", {"size": images.shape[-1], "arms": arms, "images": shown}, f"Outlines on {title}")


def gray_bytes(values: np.ndarray) -> str:
    """A picture of values -1 to 1 as bytes in base64: gray 0 to 254, and 255 where it is NaN."""
    gray = np.where(np.isnan(values), 255, np.round(127 * (np.nan_to_num(values) + 1)))
    return base64.b64encode(gray.astype(np.uint8).tobytes()).decode()


def _picture(image: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _bits(mask: np.ndarray) -> str:
    return base64.b64encode(np.packbits(mask).tobytes()).decode()


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|), and 1 where both are empty."""
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
