"""One run as one row: what it is, how it was set, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from analysis.tables.arm_names import arm_name
from lib.common.errors import StudyError
from lib.data.tasks.task import SCORE, get_task
from lib.runs.run import Run
from lib.runs.spec import RunSpec

SCENARIOS = ("anatomy", "direction", "contrast")
IDENTITY = ["run_id", "task", "title", "modality", "kind", "goal", "strategy", "options", "arm", "source"]
IDENTITY += ["source_seed", "scenario", "volume", "volume_label", "seed", "fold"]
SETTINGS = ["lr", "budget", "batch", "size", "width", "depth", "norm", "model", "arithmetic", "dim", "flat"]
SETTINGS += ["foreground", "stages", "encoder_stages", "levels"]
OUTCOMES = ["steps", "seconds", "trainable", "parameters", "status", "reason"]
OUTCOMES += ["val_dice", "dice", "hd95", "hd95_unit", "misses", "empty", "images", "peak_mb", "device", "data"]
RECONSTRUCTION = ["psnr", "ssim", "nmse", "artifacts"]
OUTCOMES += [*RECONSTRUCTION, "zero_filled_psnr", "start_psnr", "source_before", "source_after"]
OUTCOMES += ["val_psnr", "score", "val_score", "groups_known"]
EVALUATION = ["step", "train_loss", "val_dice", "val_loss", "val_psnr", "train_psnr", "val_score"]


def run_row(run: Run) -> dict[str, Any]:
    """The columns IDENTITY + SETTINGS + OUTCOMES of a run; None where it has no such value.

    Raises:
        StudyError: a finished run on all images does not say how many they were.
    """
    spec, result = run.spec, run.result or {}
    task, (label, title) = get_task(spec.task), task_names(spec)
    test, val = result.get("test") or {}, result.get("val") or {}
    counted = "subjects" if task.goal == "reconstruction" else "images"
    volume = spec.volume if spec.volume is not None else (result.get(counted) or {}).get("train")
    if result and volume is None:
        raise StudyError(
            f"{run.path}/result.json must say how many training {counted} there were ({counted}.train); "
            "delete the folder to train the run again"
        )
    return {
        "run_id": run.path.name,
        "task": label,
        "title": title,
        "modality": task.modality,
        "groups_known": task.groups_known,
        "kind": task.kind,
        "goal": task.goal,
        "strategy": spec.strategy,
        "options": json.dumps(dict(spec.options), sort_keys=True),
        "arm": _arm(spec),
        "source": _source(spec),
        "scenario": _scenario(spec),
        "source_seed": spec.source.seed if spec.source else None,
        "volume": volume,
        "volume_label": "all" if spec.volume is None else str(spec.volume),
        "budget": spec.steps,
        **{name: getattr(spec, name) for name in ("seed", "fold", "lr", *SETTINGS[2:-3])},
        **_outline(spec),
        **({} if spec.stage_map is None else {"width": None}),  # the map's business
        **{
            name: result.get(name)
            for name in ("steps", "seconds", "trainable", "parameters", "peak_mb", "device", "data")
        },
        "status": result.get("status", "unfinished"),
        "reason": result.get("reason") or "",
        "val_dice": val.get("dice"),
        "val_psnr": val.get("psnr"),
        **{name: test.get(name) for name in ("dice", "hd95", "misses", "empty", "images", *RECONSTRUCTION)},
        "hd95_unit": hd95_unit(test),
        "zero_filled_psnr": (test.get("zero_filled") or {}).get("psnr"),
        "start_psnr": (result.get("start") or {}).get("psnr"),
        **{name: (result.get(name) or {}).get("psnr") for name in ("source_before", "source_after")},
        "score": test.get(SCORE[task.goal]),
        "val_score": val.get(SCORE[task.goal]),
    }


def task_names(spec: RunSpec) -> tuple[str, str]:
    """What tables call the task of a run, and its title."""
    task, label, title = get_task(spec.task), spec.task, get_task(spec.task).title
    if task.goal == "reconstruction":  # the same slices at another rate are another task
        label, title = f"{label}@{spec.acceleration:g}", f"{title}, rate {spec.acceleration:g}"
    if spec.stage_map is not None:  # and so is the same task for a network from elsewhere: no figure mixes two of them
        label, title = f"{label}@{spec.model}", f"{title}, {spec.model}"
    return label, title


def _outline(spec: RunSpec) -> dict[str, int | None]:
    """How many stages the network has along its path, in its encoder, and levels; None for a cascade's blocks."""
    if spec.model == "cascade":
        return dict.fromkeys(SETTINGS[-3:])
    if spec.stage_map is None:
        return {"stages": 2 * spec.depth + 2, "encoder_stages": spec.depth + 1, "levels": spec.depth + 1}
    stages = spec.stage_map["stages"]
    encoder, levels = sum(each["encoder"] for each in stages), len({each["level"] for each in stages})
    return {"stages": len(stages), "encoder_stages": encoder, "levels": levels}


def hd95_unit(test: Mapping[str, Any]) -> str:
    """What test distances are measured in: `px`, or `mm` where volumes were imaged; "" where there are none."""
    return test.get("unit", "px") if "hd95" in test else ""


def _arm(spec: RunSpec) -> str:
    """The name of the run's arm; a reconstructor's kind and early stopping belong to it."""
    also = []
    if spec.goal == "reconstruction":
        also = ["U-Net"] * (spec.model == "unet") + ["early stopping"] * (spec.patience is not None)
    return arm_name(spec.strategy, spec.options, also)


def _scenario(spec: RunSpec) -> str:
    """What differs between source and target of a reconstruction: `anatomy`, else `direction`, else `contrast`."""
    if spec.source is None:
        return ""
    source, target = get_task(spec.source.task), get_task(spec.task)
    return next((name for name in SCENARIOS if getattr(source, name) != getattr(target, name)), "")


def _source(spec: RunSpec) -> str:
    if spec.weights is not None:
        return spec.weights["file"]
    if spec.source is None:
        return ""
    return spec.source.task + (f" (seed {spec.source.seed})" if spec.source.seed != spec.seed else "")
