"""A table of results whose effects are put in by hand, for a ledger where nothing has been trained yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.tables import run_row

SEEDS, STEPS, EVALUATIONS = 5, 400, 20
VOLUMES = {"20": 20, "100": 100, "all": 240}
STRATEGIES = ("scratch", "full_finetuning", "frozen_random_encoder")
NOISE = 0.012  # standard deviation of a run's Dice


def planted_results(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results and learning curves as `results.run_table` and `evaluation_table` return them; effects hang on the seed.

    Three tasks, named `planted_...`, by three volumes, three strategies and five seeds. On the hard task a source helps
    the more the fewer images there are; a frozen random encoder loses a little everywhere, by a drawn amount.
    """
    rng = np.random.default_rng([seed, 4])
    level = {"planted_easy": 0.92, "planted_lungs": 0.88, "planted_hard": 0.72}
    gain = {task: float(rng.uniform(0.02, 0.12) if task == "planted_hard" else rng.uniform(0, 0.015)) for task in level}
    loss = {
        task: float(rng.uniform(*ends))
        for task, ends in zip(level, ((0, 0.015), (0.02, 0.04), (0.04, 0.07)), strict=True)
    }
    rows, curves = [], []
    for task in level:
        for label, images in VOLUMES.items():
            few = np.log10(240 / images) / np.log10(12)  # 1 with 20 images, 0 with all
            for strategy in STRATEGIES:
                for number in range(SEEDS):
                    dice = level[task] - 0.08 * few + rng.normal(0, NOISE)
                    dice += gain[task] * few * (strategy == "full_finetuning")
                    dice -= loss[task] * (strategy == "frozen_random_encoder")
                    row = _row(task, label, images, strategy, number, float(dice))
                    reach = rng.uniform(120, 200) * (0.8 if strategy == "full_finetuning" else 1.0)
                    rows.append(row)
                    curves += _curve(row, float(dice), float(reach))
    columns = run_row.IDENTITY + run_row.SETTINGS + run_row.OUTCOMES
    measured = [*run_row.IDENTITY, "status", *run_row.EVALUATION, "seconds", "lr"]
    return pd.DataFrame(rows, columns=columns), pd.DataFrame(curves, columns=measured)


def _row(task: str, label: str, images: int, strategy: str, seed: int, dice: float) -> dict[str, Any]:
    started = strategy == "full_finetuning"
    return {
        "run_id": f"{task}-{label}-{strategy}-{seed}", "task": task, "title": task.replace("_", " "),
        "modality": "planted", "kind": "simulated", "goal": "segmentation", "strategy": strategy, "options": "{}",
        "arm": strategy, "source": "planted_source" if started else "", "source_seed": seed if started else None,
        "volume": images, "volume_label": label, "seed": seed, "fold": seed, "lr": 1e-3, "budget": STEPS,
        "model": "unet", "arithmetic": "float32", "dim": 2, "steps": STEPS, "seconds": 1.0, "status": "done",
        "reason": "", "val_dice": dice, "dice": dice, "device": "cpu", "score": dice, "val_score": dice,
        "groups_known": True,
    }  # fmt: skip


def _curve(row: dict[str, Any], plateau: float, reach: float) -> list[dict[str, Any]]:
    """Validation Dice that climbs along a line and stays where it ends."""
    points = [(step, plateau * min(1.0, step / reach)) for step in range(0, STEPS + 1, STEPS // EVALUATIONS)]
    return [
        {**row, "step": float(step), "val_dice": value, "val_score": value, "seconds": step / STEPS}
        for step, value in points
    ]
