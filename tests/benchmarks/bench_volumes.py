"""Speed of training on volumes, and of whole volumes from windows, beside MONAI on the same tensors.

    python tests/benchmarks/bench_volumes.py
    python tests/benchmarks/bench_volumes.py --device cuda --size 96 --width 32

Volumes are simulated, lie in memory for both, and are cut, moved and re-lit alike; the network, its optimizer and the
number of windows are the same. Blocks of steps alternate, ratios are medians over pairs of blocks. Prints a table and
writes `reports/benchmarks/volumes.json`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.common import paths
from lib.common.provenance import stamp
from lib.data.tasks.volumes import VolumeData
from lib.runs.run import open_run
from lib.runs.spec import RunSpec
from lib.training.loop import Training, silent


def monai_batches(state: Training, workers: int) -> Iterator[dict[str, Tensor]]:
    """Batches without end from MONAI's transforms and a PyTorch DataLoader."""
    from monai import transforms
    from monai.data import DataLoader, Dataset  # type: ignore[attr-defined]

    data, patch, both = state.data, state.spec.patch, ["image", "mask"]
    assert isinstance(data, VolumeData)
    items = [{"image": data.image(each), "mask": data.mask(each).unsqueeze(0)} for each in state.split.train]
    pipeline = transforms.Compose([
        transforms.RandCropByPosNegLabeld(both, "mask", patch, pos=1, neg=2, num_samples=1, allow_smaller=True),
        transforms.RandFlipd(both, prob=0.5, spatial_axis=0),
        transforms.RandAffined(
            both, prob=1.0, rotate_range=[np.pi / 12] * 3, scale_range=0.2, mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        transforms.RandAdjustContrastd(["image"], prob=1.0, gamma=(0.7, 1.43)),
        transforms.RandScaleIntensityd(["image"], prob=1.0, factors=0.2),
        transforms.RandShiftIntensityd(["image"], prob=1.0, offsets=0.2),
    ])  # fmt: skip
    loader = DataLoader(
        Dataset(items, pipeline), batch_size=state.spec.batch, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0, pin_memory=state.device.type == "cuda",
    )  # fmt: skip
    while True:
        yield from loader


def monai_steps(state: Training, workers: int) -> Callable[[int], None]:
    """Steps of the same network under MONAI's loss, fed by `monai_batches`."""
    from monai.losses import DiceCELoss  # type: ignore[attr-defined]

    model = state.spec.network().to(state.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=state.spec.lr, fused=True)
    loss, batches = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False), monai_batches(state, workers)

    def steps(count: int) -> None:
        for _ in range(count):
            batch = next(batches)
            images, masks = (batch[key].as_tensor().to(state.device, non_blocking=True) for key in ("image", "mask"))
            value = loss(model(images), masks)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()

    steps(1)  # starts the worker processes
    return steps


def our_steps(state: Training) -> Callable[[int], None]:
    """Steps of `train`."""

    def steps(count: int) -> None:
        for _ in range(count):
            state.one_step(*state.objective.batch(state.step % state.spec.steps))
            state.step += 1

    steps(1)
    return steps


def whole_volumes(state: Training) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """The validation volumes from windows: ours, and MONAI's sliding window over the same network."""
    from monai.inferers import sliding_window_inference  # type: ignore[attr-defined]

    objective: Any = state.objective
    model = state.model.eval()

    def ours(count: int) -> None:
        for _ in range(count):
            list(objective.whole(state.split.val, state.predict))

    def theirs(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                for volume in state.split.val:
                    image = objective.data.image(volume)[None].to(state.device)
                    sliding_window_inference(
                        image, state.spec.patch, state.at_once, model, overlap=0.5, mode="gaussian"
                    )

    return ours, theirs


def pairs(state: Training, ours: Callable[[int], None], theirs: Callable[[int], None], blocks: int, block: int) -> Any:
    """How many times as fast: median, lowest and highest over pairs of blocks; and seconds of ours."""

    def seconds(work: Callable[[int], None]) -> float:
        begin = time.perf_counter()
        work(block)
        if state.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    found = [(seconds(ours), seconds(theirs)) for _ in range(blocks)]
    ratios = sorted(b / a for a, b in found)
    return {
        "times as fast": round(statistics.median(ratios), 2),
        "from": round(ratios[0], 2),
        "to": round(ratios[-1], 2),
        "ms each": round(1000 * statistics.median(a for a, _ in found) / block, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--block", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of a foreign package
    home = paths.home()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STUDY_HOME"] = folder
        spec = RunSpec(task="sim_deep_brain_t1_3d", size=options.size, width=options.width)
        spec = spec.but(steps=10_000, evaluations=1)
        state = Training(open_run(spec), torch.device(options.device), silent, 1e9)
        rows = []
        for workers in (0, 2):
            row = pairs(state, our_steps(state), monai_steps(state, workers), options.blocks, options.block)
            rows.append({"what": "training step", "loader workers": workers, **row})
        rows.append({"what": "whole volumes", **pairs(state, *whole_volumes(state), options.blocks, 1)})
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))
    report = {"options": vars(options), "rows": rows, "stamp": stamp(torch.device(options.device))}
    paths.write_atomic(home / "reports" / "benchmarks" / "volumes.json", json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
