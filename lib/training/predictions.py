"""What a run on volumes finds in them, as files beside which a user's own lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.common.errors import StudyError
from lib.data.tasks.images import load_volumes
from lib.imaging.grids import Grid, as_in_file, read_grid, write_grid
from lib.runs.run import Run
from lib.training.goals.volume_segmentation import VolumeSegmentation
from lib.training.objective import evaluation_batch
from lib.training.people import split_of


def write_predictions(run: Run, folder: Path, device: torch.device) -> Iterator[Path]:
    """Write the mask of every test volume of a finished run, as its scores were taken; yields each file.

    A mask is NIfTI, named as the user's image was, of its voxels, in the order and with the geometry of the user's
    mask. Labels are numbered as on the card; of volumes that are drawn and not imaged, voxels are 1 mm.

    Raises:
        StudyError: the run is of images and not of volumes, or not finished, or a file cannot be written.
    """
    spec = run.spec
    if spec.dim != 3:
        raise StudyError(f"{run.path.name} segments images; masks are written of volumes, and Run.segment draws others")
    if run.result is None or run.result["status"] != "done":
        raise StudyError(f"{run.path.name} has no weights to predict with; train it to its end")
    data = load_volumes(spec.task, spec.size)
    judge, model = VolumeSegmentation(spec, data, split_of(spec, data), device), run.model().to(device)

    @torch.no_grad()
    def predict(index: np.ndarray) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=spec.arithmetic == "bfloat16"):
            parts = judge.inputs(index).split(evaluation_batch(spec))
            return torch.cat([judge.output(model, part) for part in parts])

    for volume, output in zip(judge.split.test, judge.whole(judge.split.test, predict), strict=True):
        found, _, _ = data.as_drawn(volume, output.reshape(-1, *output.shape[-3:]))
        affine, name = np.eye(4), data.ids[volume]
        if data.index is not None:
            affine, name = read_grid(data.index.file("originals", name)).affine, data.index.sources[volume]
            found = as_in_file(found, affine)
        file = folder / f"{name.replace('/', '_')}.nii.gz"
        try:
            write_grid(file, Grid(np.ascontiguousarray(found)[None], affine))
        except OSError as error:
            raise StudyError(f"cannot write {file}: {error.strerror}") from error
        yield file
