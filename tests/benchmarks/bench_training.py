"""Speed of training beside a bare loop and beside MONAI, cost of a checkpoint, of a finished run, of a drawn image.

    python tests/benchmarks/bench_training.py loop          # `train` over a bare forward-backward-step loop
    python tests/benchmarks/bench_training.py monai         # `train` over BasicUNet fed by a PyTorch DataLoader
    python tests/benchmarks/bench_training.py monai --device cuda --size 256 --width 32
    python tests/benchmarks/bench_training.py checkpoint finished images

Prints a table and writes it to `reports/benchmarks/<what>.json`. In `loop` and `monai` the rival runs inside the real
`train`, between two of its evaluations, with as many steps as `train` has just made: ratios are medians over such
pairs, so that a neighbor who comes or goes slows both alike. On a busy machine `--clock cpu` with OMP_NUM_THREADS=1
counts processor time instead (of the main process: it says nothing of loaders with worker processes).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
import tiny
import torch
from torch import Tensor

from lib.common import paths
from lib.common.provenance import stamp
from lib.data.simulate.catalog import SIMULATORS, simulate
from lib.data.tasks.carried import intensities
from lib.data.tasks.images import standardize
from lib.runs.run import run_dir
from lib.runs.spec import RunSpec
from lib.training.goals.segmentation import segmentation_loss
from lib.training.loop import Training, train

Row = dict[str, Any]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def wait(device: str) -> None:
    """Let a GPU finish what it was given, so that the clock may be read."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """The median over some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return round(1000 * statistics.median(taken), 2)


class Captured:
    """What `train` works with, kept when it begins: so that a rival gets the very same model, optimizer and batches."""

    def __init__(self) -> None:
        self.state: Any = None
        original = Training.__init__

        def keep(state: Any, *arguments: Any) -> None:
            original(state, *arguments)
            self.state = state

        self.patch = mock.patch.object(Training, "__init__", keep)


def against(
    spec: RunSpec, options: argparse.Namespace, rival: Callable[[Any, int], float], autocast: bool = True
) -> Row:
    """Train a spec, and after every block of steps let the rival make as many; `rival(state, steps) -> seconds`."""
    captured, ours, theirs, before = Captured(), [], [], [0.0]

    def report(event: Row) -> None:
        if event["kind"] == "evaluation" and event["step"]:
            ours.append(captured.state.seconds - before[0])
            before[0] = captured.state.seconds
            theirs.append(rival(captured.state, options.block))

    # `train` reads the clock that everybody reads; while it runs, that may be one of processor time
    clock = mock.patch.object(time, "perf_counter", CLOCKS[options.clock])
    spec = spec.but(arithmetic="bfloat16" if autocast else "float32")
    with captured.patch, clock:
        train(spec, device=options.device, report=report, save_every=1e9)
    ours, theirs = ours[1:], theirs[1:]  # the first block warms up
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    images = spec.batch * options.block
    return {
        "width": spec.width, "size": spec.size, "batch": spec.batch,
        "arithmetic": captured.state.spec.arithmetic,
        "images/s train": round(images / statistics.median(ours), 1),
        "images/s rival": round(images / statistics.median(theirs), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio, quartiles": [round(float(each), 3) for each in np.quantile(ratios, [0.25, 0.75])],
        "pairs": len(ratios),
    }  # fmt: skip


def spec_of(width: int, size: int, blocks: int, block: int, **changes: Any) -> RunSpec:
    steps = (blocks + 1) * block
    return RunSpec(
        task="blobs",
        width=width,
        size=size,
        steps=steps,
        evaluations=blocks + 1,
        checkpoints="ends",
        **changes,
    )


# ---- loop ---------------------------------------------------------------------------------------------------------


def bare_loop(device: str) -> Callable[[Any, int], float]:
    """Forward, backward and step on batches made beforehand: same model, optimizer, precision and memory format."""
    made: Row = {}

    def rival(state: Any, steps: int) -> float:
        if not made:
            model = copy.deepcopy(state.model)
            order = np.arange(state.spec.batch * 4) % len(state.split.train)
            at = torch.from_numpy(state.split.train[order])
            images, masks = (each[at].to(device) for each in (state.data.images, state.data.masks))
            made["batches"] = list(zip(standardize(images).chunk(4), masks.chunk(4), strict=True))
            made["model"] = model.train()
            made["optimizer"] = torch.optim.AdamW(model.parameters(), lr=state.spec.lr, fused=True)
        model, optimizer = made["model"], made["optimizer"]
        wait(device)
        start = time.perf_counter()
        for step in range(steps):
            images, masks = made["batches"][step % 4]
            with torch.autocast(state.device.type, torch.bfloat16, enabled=state.bf16):
                logits = model(images)[:, 0].float()
            loss = segmentation_loss(logits, masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        wait(device)
        return time.perf_counter() - start

    return rival


def loop(options: argparse.Namespace) -> list[Row]:
    """Aim: at least 0.9 of the bare loop's steps per second, all included that `train` does in a step."""
    shapes = [(options.width, options.size)] if options.width else [(8, 64), (16, 64), (16, 128)]
    rows = []
    for width, size in shapes:
        for augmented in (True, False):
            spec = spec_of(width, size, options.blocks, options.block, augment=augmented)
            row = against(spec, options, bare_loop(options.device))
            rows.append({"rival": "bare loop", "augmented": augmented, **row})
    return rows


# ---- MONAI --------------------------------------------------------------------------------------------------------


def monai_batches(state: Any, workers: int) -> Iterator[Row]:
    """Batches without end from MONAI's transforms and a PyTorch DataLoader; the dataset lies in memory."""
    from monai import transforms
    from monai.data import DataLoader, Dataset  # type: ignore[attr-defined]

    at = torch.from_numpy(state.split.train)
    images, masks = intensities(state.data.images[at]), state.data.masks[at].unsqueeze(1).float()
    side = state.spec.size
    both = ["image", "mask"]
    pipeline = transforms.Compose([
        transforms.RandFlipd(both, prob=0.5, spatial_axis=1),
        transforms.RandAffined(
            both, prob=1.0, rotate_range=np.pi / 12, scale_range=0.2, translate_range=0.1 * side,
            mode=("bilinear", "nearest"), padding_mode="reflection",
        ),
        transforms.RandAdjustContrastd(["image"], prob=1.0, gamma=(0.7, 1.43)),
        transforms.RandScaleIntensityd(["image"], prob=1.0, factors=0.2),
        transforms.NormalizeIntensityd(["image"]),
    ])  # fmt: skip
    items = [{"image": image, "mask": mask} for image, mask in zip(images, masks, strict=True)]
    loader = DataLoader(
        Dataset(items, pipeline), batch_size=state.spec.batch, shuffle=True, drop_last=True,
        num_workers=workers, persistent_workers=workers > 0, pin_memory=state.device.type == "cuda",
    )  # fmt: skip
    while True:
        yield from loader


def monai_loop(device: str, workers: int, autocast: bool) -> Callable[[Any, int], float]:
    """BasicUNet at equal width, with MONAI's own loss and transforms."""
    made: Row = {}

    def rival(state: Any, steps: int) -> float:
        if not made:
            from monai.losses import DiceCELoss  # type: ignore[attr-defined]
            from monai.networks.nets import BasicUNet  # type: ignore[attr-defined]

            width = state.spec.width
            features = (*(width * 2**level for level in range(5)), width)
            model = BasicUNet(2, 1, 1, features, norm=("group", {"num_groups": min(8, width)})).to(device).train()
            made.update(model=model, loss=DiceCELoss(sigmoid=True), batches=monai_batches(state, workers))
            made["optimizer"] = torch.optim.AdamW(model.parameters(), lr=state.spec.lr)
            next(made["batches"])  # starts the worker processes
        wait(device)
        start = time.perf_counter()
        for _ in range(steps):
            batch = next(made["batches"])
            images, masks = (_plain(batch[key]).to(device, non_blocking=True) for key in ("image", "mask"))
            with torch.autocast(state.device.type, torch.bfloat16, enabled=autocast):
                logits = made["model"](images)
            loss = made["loss"](logits.float(), masks)
            made["optimizer"].zero_grad(set_to_none=True)
            loss.backward()
            made["optimizer"].step()
        wait(device)
        return time.perf_counter() - start

    return rival


def _plain(batch: Tensor) -> Tensor:
    return batch.as_tensor() if hasattr(batch, "as_tensor") else batch  # type: ignore[operator]


def monai(options: argparse.Namespace) -> list[Row]:
    """Aim: at least 1.5 times the images per second of the better of the loaders with and without worker processes."""
    width, size = options.width or 16, options.size or 64
    rows = []
    for label, ours, theirs in (
        ("as both come", True, False),
        ("both float32", False, False),
        ("both autocast", True, True),
    ):
        for workers in (0, 2) if options.clock == "wall" else (0,):
            spec = spec_of(width, size, options.blocks, options.block, norm=options.norm, seed=len(rows))
            rival = monai_loop(options.device, workers, theirs)
            row = against(spec, options, rival, ours)
            rows.append({"rival": "MONAI BasicUNet", "precision": label, "loader workers": workers, **row})
    return rows


# ---- the rest -----------------------------------------------------------------------------------------------------


def checkpoint(options: argparse.Namespace) -> list[Row]:
    """Milliseconds and bytes of a checkpoint and of the state to resume from, by strategy."""
    source = RunSpec(task="blobs", steps=1, evaluations=1)
    rows = []
    for strategy in ("scratch", "decoder_only", "scale_shift", "norm_only"):
        needs = strategy != "scratch"
        captured = Captured()
        with captured.patch:
            run = train(
                RunSpec(task=source.task, steps=2, evaluations=1, strategy=strategy, source=source if needs else None)
            )
        state = captured.state
        row = {"strategy": strategy, "step 0, MB": _megabytes(run.checkpoint(0))}
        row |= {"later, MB": _megabytes(run.checkpoint(2)), "later, ms": milliseconds(state.keep, 7)}
        row["state, ms"] = milliseconds(state.save, 7)
        row["state, MB"] = _megabytes(run.path / "resume.safetensors")
        rows.append(row)
    return rows


def _megabytes(file: Path) -> float:
    return round(file.stat().st_size / 1e6, 3)


def finished(options: argparse.Namespace) -> list[Row]:
    """Milliseconds of `train` for a run that is finished; aim: under 50."""
    source = RunSpec(task="blobs", steps=1, evaluations=1)
    spec = RunSpec(task="blobs", steps=1, evaluations=1, strategy="scale_shift", source=source)
    run = train(spec)
    assert run.path == run_dir(spec)
    return [{"finished run with a source, ms": milliseconds(lambda: train(spec), 51)}]


def images(options: argparse.Namespace) -> list[Row]:
    """Milliseconds of one core per simulated image of 128 pixels a side; aim: a thousand in a minute, 60 each."""
    rows = []
    for name in SIMULATORS:
        start = time.process_time()
        simulate(name, 40)
        rows.append({"simulator": name, "ms/image": round(1000 * (time.process_time() - start) / 40, 1)})
    return rows


WHAT: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "loop": loop, "monai": monai, "checkpoint": checkpoint, "finished": finished, "images": images,
}  # fmt: skip


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=list(WHAT))
    parser.add_argument("--device", default="cpu", help="default: cpu")
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS), help="default: wall")
    parser.add_argument("--width", type=int, default=0, help="width of both networks (default: several, or 16)")
    parser.add_argument("--size", type=int, default=64, help="pixels a side, where --width is given (default: 64)")
    parser.add_argument("--norm", default="batch", help="normalization of ours beside MONAI (default: batch)")
    parser.add_argument("--blocks", type=int, default=15, help="pairs of blocks (default: 15)")
    parser.add_argument("--block", type=int, default=10, help="steps a block (default: 10)")
    return parser.parse_args(arguments)


def measure(what: str, options: argparse.Namespace) -> list[Row]:
    """Measure in a home of its own, print, and write the JSON file."""
    file = paths.reports_dir() / "benchmarks" / f"{what}-{options.device.split(':')[0]}.json"
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as home, mock.patch.dict(os.environ, {"STUDY_HOME": home, "STUDY_DATA": home}):
        tiny.make_blobs(Path(home), count=90)
        rows = WHAT[what](options)
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    load = [round(each, 1) for each in (busy, os.getloadavg()[0])]
    record = {
        "what": WHAT[what].__doc__,
        "clock": options.clock,
        "load before and after": load,
        "provenance": stamp(torch.device(options.device)),
    }
    paths.write_atomic(file, json.dumps({**record, "rows": rows}, indent=1, default=str) + "\n")
    print(f"{file} (load of the machine {load[0]} before, {load[1]} after)", flush=True)
    return rows


def main() -> None:
    options = parse()
    for what in options.what:
        measure(what, options)


if __name__ == "__main__":
    main()
