"""Gains paired by seed and fold, and the difficulty of tasks that they are set against."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.tables.results import finished_rows, summary

PAIR = ["task", "volume_label", "seed", "fold"]


def gain(frame: pd.DataFrame, strategy: str = "full_finetuning", reference: str = "scratch") -> pd.DataFrame:
    """Paired gain in test Dice, strategy - reference: one row per run of `strategy`.

    Pairs share task, volume, seed and fold.

    Columns: PAIR, title, kind, modality, arm, source, volume, reference_dice, dice, gain, status. `gain` is
    missing where status is not "done": the run diverged, or its reference diverged or was not run. Nothing
    is dropped.
    """
    ended = finished_rows(frame)
    base = ended[ended.strategy == reference][[*PAIR, "dice", "status"]]
    keep = [*PAIR, "title", "kind", "modality", "arm", "source", "volume", "dice", "status"]
    merged = ended[ended.strategy == strategy][keep].merge(
        base.rename(columns={"dice": "reference_dice", "status": "reference_status"}),
        on=PAIR,
        how="left",
        validate="many_to_one",
    )
    own, other = merged.status, merged.pop("reference_status")
    merged["status"] = pair_status(own, other, reference)
    merged["gain"] = (merged.dice - merged.reference_dice).where(merged.status == "done")
    return merged


def pair_status(own: pd.Series, other: pd.Series, reference: str) -> np.ndarray:
    """What to say of pairs of finished runs: "done", or why there is no difference; `other` is missing without one."""
    return np.select(
        [own == "diverged", other.isna().to_numpy(), (other == "diverged").to_numpy()],
        ["diverged", f"no {reference} run", f"{reference} diverged"],
        "done",
    )


def difficulty(frame: pd.DataFrame) -> pd.DataFrame:
    """Difficulty of each task: 1 - mean test Dice of `scratch` on all training images.

    Fixed in advance, so that it does not depend on any transfer. Columns: task, title, kind, difficulty,
    seeds. Tasks without a finished scratch run on all images are not listed.
    """
    ended = finished_rows(frame[frame.goal == "segmentation"])
    cells = summary(ended[(ended.arm == "scratch") & (ended.volume_label == "all")], "dice")
    cells = cells[cells.seeds > 0]
    return cells.assign(difficulty=1 - cells["mean"])[["task", "title", "kind", "difficulty", "seeds"]].reset_index(
        drop=True
    )
