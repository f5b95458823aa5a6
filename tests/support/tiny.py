"""A real task so small that a run takes a moment: thirty drawn disks in a prepared folder, and specs to match."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib.runs.run import Run
from lib.runs.spec import RunSpec

CARD = """
name = "blobs"
title = "Disks"
what = "bright disks on noise"
kind = "real"
modality = "drawn"
licence = "CC0-1.0"
citation = "none"
pairs = 30
groups = 10
[split]
folds = 5
rule = "three images in a row are a group"
"""


def make_blobs(root: Path, count: int = 30) -> Path:
    """Write the prepared folder `blobs` with its card under `root`; returns `root`."""
    folder = root / "blobs"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    rows = ["id,source,group,cls,width,height,fg_fraction"]
    y, x = np.mgrid[:32, :32]
    for index in range(count):
        draw = np.random.default_rng(index)
        row, column, radius = draw.uniform([10, 10, 4], [22, 22, 9])
        mask = (y - row) ** 2 + (x - column) ** 2 < radius**2
        image = draw.normal(80, 12, mask.shape) + 90 * mask
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{index:02d}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "masks" / f"{index:02d}.png")
        rows.append(f"{index:02d},,g{index // 3},disk,32,32,{mask.mean():.3f}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    (folder / "card.toml").write_text(CARD)
    return root


def spec(**changes: Any) -> RunSpec:
    """A run of some milliseconds."""
    values: dict[str, Any] = {"width": 2, "depth": 1, "size": 16, "volume": 6, "steps": 8, "evaluations": 4, "batch": 4}
    return RunSpec(**{"task": "blobs", "lr": 0.01, **values, **changes})


def fingerprint(run: Run) -> str:
    """sha256 over the names and bytes of the final weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(run.weights().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def outcome(run: Run) -> dict[str, Any]:
    """All of a run that must be the same however often it was interrupted: everything but times and memory."""
    assert run.result is not None
    result = {key: value for key, value in run.result.items() if key not in ("seconds", "peak_mb", "files", "seal")}
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in run.metrics()]
    steps = {step: hashlib.sha256(run.checkpoint(step).read_bytes()).hexdigest() for step in run.steps()}
    return {"weights": fingerprint(run), "result": result, "metrics": rows, "checkpoints": steps}


def plant(target: RunSpec, *, dice: float | None) -> None:
    """Write the folder of a finished run without training it; `dice` None for one that diverged."""
    from lib.data.tasks.images import data_digest
    from lib.runs.run import open_run, run_dir
    from lib.runs.seal import file_entry, sealed, spec_text

    result = {"status": "diverged" if dice is None else "done", "reason": None, "val": None, "test": None}
    if dice is not None:
        result["val"] = result["test"] = {"dice": dice}
    result["data"] = data_digest(target.task, target.size)
    trained = target.source is not None and (run_dir(target.source) / "result.json").is_file()
    result["source"] = Run(run_dir(target.source)).start_digest() if trained else None
    whole = sealed(result, {"spec.json": file_entry(spec_text(target).encode())})
    (open_run(target).path / "result.json").write_text(json.dumps(whole))


def make_volumes(root: Path, *, name: str = "balls", wide: float = 1.0, count: int = 15) -> Path:
    """Write originals, in the layout of nnU-Net, of balls with a bright core: labels shell and core, channels a and b.

    Volumes differ in size, place and in the direction of their axes; the last one is `wide` millimeters a voxel.
    """
    from lib.imaging.grids import Grid, encoded

    folder = root / name
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        draw = np.random.default_rng([index, 0xBA11])
        right, front, up = draw.integers(20, 27, 3).tolist()
        shape = (right, front, int(up / wide))
        affine = np.diag([*draw.choice([-1.0, 1.0], 3), 1.0]) @ np.diag([1, 1, wide, 1])
        affine[:3, 3] = draw.uniform(-50, 50, 3)
        middle = np.array(shape) / 2 + draw.uniform(-2, 2, 3) / [1, 1, wide]
        away = np.linalg.norm((np.moveaxis(np.indices(shape), 0, -1) - middle) * [1, 1, wide], axis=-1)
        mask = (away < 7).astype(np.uint8) + (away < 4)
        for channel, value in enumerate((60, -40)):
            image = draw.normal(200, 10, shape) + value * (mask > 0) + value * (mask > 1)
            whole = Grid(image[None].astype(np.float32), affine)
            (folder / "imagesTr" / f"c{index:02d}_{channel:04d}.nii.gz").write_bytes(encoded(whole))
        (folder / "labelsTr" / f"c{index:02d}.nii.gz").write_bytes(encoded(Grid(mask[None].astype(np.uint8), affine)))
    about = {
        "channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "shell": 1, "core": 2},
        "numTraining": count, "file_ending": ".nii.gz",
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def volume_spec(**changes: Any) -> RunSpec:
    """A run on volumes of some tens of milliseconds."""
    values: dict[str, Any] = {"width": 2, "depth": 1, "size": 16, "volume": 6, "steps": 8, "evaluations": 4}
    return RunSpec(**{"task": "balls", "lr": 0.01, **values, **changes})
