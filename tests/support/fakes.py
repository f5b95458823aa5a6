"""Run folders and tables with planted outcomes, for tests of `analysis`: nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables import run_row
from lib.data.tasks.images import data_digest
from lib.data.tasks.task import get_task
from lib.runs.run import Run, run_dir
from lib.runs.seal import file_entry, sealed
from lib.runs.spec import RunSpec, run_id

ALL = 240  # training images of a fold of an embedded task


def fake_run(
    root: Path,
    spec: RunSpec,
    *,
    dice: float | None = 0.8,
    curve: Sequence[tuple[int, float]] = (),
    status: str = "done",
    train_images: int | None = ALL,
) -> Run:
    """A run folder as training leaves it, with this test Dice and this validation Dice by step."""
    folder = root / run_id(spec)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(spec.text + "\n")
    rows = [
        {"step": step, "seconds": step / 10, "train_loss": None if step == 0 else 0.5, "val_dice": value,
         "val_loss": 0.5, "lr": spec.lr}
        for step, value in curve
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = status == "done"
    trained = spec.source is not None and (run_dir(spec.source) / "result.json").is_file()
    source = Run(run_dir(spec.source)).start_digest() if trained else None
    data = None if get_task(spec.task).kind == "simulated" else data_digest(spec.task, spec.size)
    result = {
        "status": status, "reason": None if done else "the loss was not finite at step 7",
        "steps": spec.steps if done else 7, "seconds": spec.steps / 10, "trainable": 1000, "parameters": 2000,
        "val": {"dice": dice} if done else None,
        "test": {"dice": dice, "hd95": 5.0, "misses": 1, "empty": 0, "images": 80} if done else None,
        "images": {"train": spec.volume or train_images, "val": 80, "test": 80},
        "data": data, "source": source, "peak_mb": 100.0, "device": "cpu",
    }  # fmt: skip
    if train_images is None:
        del result["images"]
    if status != "unfinished":
        (folder / "result.json").write_text(json.dumps(result))
        reseal(folder)
    return Run(folder)


def reseal(folder: Path) -> None:
    """Seal a finished run again, with the files that a test has put into its folder since."""
    result = json.loads((folder / "result.json").read_text())
    own = {key: value for key, value in result.items() if key not in ("files", "seal")}
    names = ["spec.json", "metrics.jsonl", *(f"checkpoints/{each.name}" for each in folder.glob("checkpoints/*"))]
    files = {name: file_entry((folder / name).read_bytes()) for name in names}
    (folder / "result.json").write_text(json.dumps(sealed(own, files)))


def climb(plateau: float, reach: float, steps: int = 400) -> list[tuple[int, float]]:
    """A validation curve that climbs along a line to `plateau` at step `reach` and stays there."""
    return [(step, plateau * min(1.0, step / reach)) for step in range(0, steps + 1, 20)]


def row(task: str, strategy: str, seed: int, dice: float | None, **changes: Any) -> dict[str, Any]:
    """A row of the results table; `dice=None` means that the run diverged."""
    volume = changes.pop("volume", None)
    source = "" if strategy in ("scratch", "frozen_random_encoder") else changes.pop("source", "sim_natural")
    values = {
        "task": task, "title": f"{task} title", "modality": "ultrasound",
        "kind": "simulated" if task.startswith("sim_") else "real",
        "strategy": strategy, "options": "{}", "arm": strategy, "source": source,
        "volume": ALL if volume is None else volume, "volume_label": "all" if volume is None else str(volume),
        "seed": seed, "fold": seed, "lr": 1e-3, "budget": 400, "batch": 16, "size": 64, "width": 16, "depth": 4,
        "norm": "group", "steps": 400, "seconds": 40.0, "trainable": 1_900_000, "parameters": 1_900_000,
        "status": "done" if dice is not None else "diverged", "reason": "", "val_dice": dice, "dice": dice,
        "hd95": 5.0, "hd95_unit": "px", "misses": 0, "empty": 0, "images": 80, "peak_mb": 100.0, "device": "cpu",
        "data": "", "dim": 2, "flat": None, "foreground": None,
        "goal": "segmentation", "model": "unet", "arithmetic": "float32", "groups_known": True,
        "score": dice, "val_score": dice, "stages": 10, "encoder_stages": 5, "levels": 5,
    }  # fmt: skip
    values |= changes
    identity = [values[key] for key in ("task", "arm", "source", "volume_label", "seed", "fold", "lr")]
    return {"run_id": "-".join(map(str, identity)), **values}


def frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """The results table of these rows."""
    columns = run_row.IDENTITY + run_row.SETTINGS + run_row.OUTCOMES
    return pd.DataFrame(list(rows), columns=columns)


def grid(
    tasks: Sequence[str],
    volumes: Sequence[int | None],
    seeds: int,
    dice: Callable[[str, str, int | None, int], float | None],
    strategies: Sequence[str] = ("scratch", "full_finetuning"),
) -> pd.DataFrame:
    """The results table of a whole grid, with `dice(task, strategy, volume, seed)` as outcome."""
    return frame(
        row(task, strategy, seed, dice(task, strategy, volume, seed), volume=volume)
        for task in tasks
        for volume in volumes
        for strategy in strategies
        for seed in range(seeds)
    )


def evaluations(table: pd.DataFrame, curve: Callable[[pd.Series], Sequence[tuple[int, float]]]) -> pd.DataFrame:
    """The curves table that goes with a results table, with `curve(row)` as validation Dice by step."""
    rows = []
    for _, run in table.iterrows():
        identity = {key: run[key] for key in [*run_row.IDENTITY, "status"]}
        for step, value in curve(run):
            more = {"step": float(step), "val_dice": value, "val_score": value, "val_loss": 0.5, "train_loss": 0.5}
            rows.append({**identity, **more, "seconds": step / 10, "lr": run.lr})
    return pd.DataFrame(rows, columns=[*run_row.IDENTITY, "status", *run_row.EVALUATION, "seconds", "lr"])
