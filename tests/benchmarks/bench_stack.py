"""Network steps per second: alone, in stacks, and in a bare loop of PyTorch's own in the same process.

    python tests/benchmarks/bench_stack.py --device cuda --out stack.json

For each size of network: a bare eager loop (forward, loss, backward, fused AdamW; one batch on the device), on
a GPU the same as one CUDA graph, and this study's stacks, with all that training does but evaluations and files.
Rates are network steps a second: a step of a stack of N counts N times. `busy` is the part of the time in which the
device has a kernel to run, from the profiler. Then representations of all layers against forward passes alone. What a
whole suite takes is the clock's to say: `time python -m lib train class --device cuda` in an empty STUDY_HOME.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.represent import Probe, represent_model
from lib.common.device import device_name, pick_device
from lib.networks.unet import UNet
from lib.runs.run import open_run
from lib.runs.spec import RunSpec
from lib.training.goals.segmentation import segmentation_loss
from lib.training.stack import Member, Stack

SIZES = {"class": (8, 64, 8, 20), "middle": (16, 128, 16, 10), "full": (32, 256, 16, 4)}  # width, side, batch, steps


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(step: Callable[[], None], device: torch.device, steps: int, rounds: int = 3) -> float:
    """Steps per second: the best of some rounds."""
    step()
    taken = []
    for _ in range(rounds):
        synchronize(device)
        began = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return steps / min(taken)


def bare(width: int, side: int, batch: int, device: torch.device, bf16: bool) -> Callable[[], None]:
    """One step of a plain loop of PyTorch's own."""
    model = UNet(width=width, depth=4).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, capturable=device.type == "cuda")
    images = torch.randn(batch, 1, side, side, device=device)
    masks = (torch.rand(batch, side, side, device=device) > 0.5).to(torch.uint8)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(images)[:, 0].float()
        segmentation_loss(logits, masks).backward()
        optimizer.step()

    return step


def graphed(step: Callable[[], None]) -> Callable[[], None]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def stacked(count: int, width: int, side: int, batch: int, device: torch.device, arithmetic: str) -> Stack:
    """A stack of runs at step 0, as `lib.training.together` would begin it."""
    specs = [
        RunSpec("sim_ultrasound", width=width, size=side, batch=batch, seed=seed, steps=400, evaluations=1, lr=1e-3,
                volume=60, arithmetic=arithmetic)
        for seed in range(count)
    ]  # fmt: skip
    members = [Member(open_run(spec), device, lambda event: None, float("inf")) for spec in specs]
    return Stack(members)


def busy(step: Callable[[], None], device: torch.device, steps: int) -> float | None:
    """The part of the time in which the device runs a kernel."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize(device)
        taken = time.perf_counter() - began
    spans = sorted(
        (each.time_range.start, each.time_range.end) for each in seen.events() if each.device_type.name == "CUDA"
    )
    covered, last = 0.0, float("-inf")
    for start, end in spans:
        covered += max(0.0, end - max(start, last))
        last = max(last, end)
    return round(covered / 1e6 / taken, 3)


def measure(
    name: str, counts: list[int], device: torch.device, arithmetic: str, show: Callable[[dict[str, Any]], None]
):
    width, side, batch, steps = SIZES[name]
    known = {"size": name, "width": width, "side": side, "batch": batch, "arithmetic": arithmetic}
    step = bare(width, side, batch, device, arithmetic == "bfloat16")
    eager = rate(step, device, steps)
    show({**known, "what": "bare eager loop", "steps/s": round(eager, 1), "times eager": 1.0})
    if device.type == "cuda":
        found = rate(graphed(step), device, steps)
        show({**known, "what": "bare graphed loop", "steps/s": round(found, 1), "times eager": round(found / eager, 2)})
    for count in counts:
        try:
            stack = stacked(count, width, side, batch, device, arithmetic)
            one_step = stack._recorded() if device.type == "cuda" else stack.one_step
            found = rate(one_step, device, steps) * count
            part = busy(one_step, device, steps)
        except torch.OutOfMemoryError:
            show({**known, "what": f"stack of {count}", "steps/s": None, "note": "too large for this device"})
            torch.cuda.empty_cache()
            continue
        memory = round(torch.cuda.max_memory_allocated(device) / 1e6) if device.type == "cuda" else None
        show({**known, "what": f"stack of {count}", "steps/s": round(found, 1), "times eager": round(found / eager, 2),
              "busy": part, "peak MB": memory})  # fmt: skip
        del stack, one_step
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)


def representations(device: torch.device, show: Callable[[dict[str, Any]], None]) -> None:
    """Every convolution of a network on 256 images of 64 pixels, against its forward pass alone."""
    model = UNet(width=8, depth=4).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)]
    images = torch.rand(256, 1, 64, 64)
    there, probe = images.to(device), Probe(images, Reduction("flatten"))

    def passes() -> None:
        with torch.no_grad():
            model(there)

    forward = 1 / rate(passes, device, 4)
    found = 1 / rate(lambda: represent_model(model, layers, probe), device, 4)
    show({"what": f"representations of {len(layers)} layers", "forward s": round(forward, 4),
          "represent s": round(found, 4), "times forward": round(found / forward, 2)})  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--arithmetic", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = pick_device(options.device)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as home:
        os.environ["STUDY_HOME"] = home

        def show(row: dict[str, Any]) -> None:
            rows.append({"device": device_name(device), "torch": torch.__version__, **row})
            print(json.dumps(rows[-1]), flush=True)
            if options.out:
                options.out.write_text(json.dumps(rows, indent=1) + "\n")

        torch.backends.cudnn.allow_tf32 = False
        for name in options.sizes:
            for arithmetic in options.arithmetic:
                measure(name, options.counts, device, arithmetic, show)
        representations(device, show)


if __name__ == "__main__":
    main()
