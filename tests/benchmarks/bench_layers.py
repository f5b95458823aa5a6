"""What a truncated backward pass saves: seconds of one training step by set of layers, against the whole network.

    python tests/benchmarks/bench_layers.py [--width 8] [--size 64] [--batch 8] [--rounds 20] [--out layers.json]

Steps of all sets are taken in turns, so that a busy machine slows all of them alike; the ratio of each set is that of
medians over rounds. `passed` are the stages whose output carries a gradient: what is not among them is not
back-propagated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.common.provenance import stamp
from lib.common.seeding import generator
from lib.networks.unet import UNet, build
from lib.strategies.frozen_normalization import set_training_mode
from lib.strategies.strategy import freeze, trainable
from lib.training.goals.segmentation import segmentation_loss

SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "all layers": ("full_finetuning", {}),
    "path: 2 first": ("layer_subset", {"order": "path", "side": "shallow", "count": 2}),
    "path: 2 last": ("layer_subset", {"order": "path", "side": "deep", "count": 2}),
    "path: encoder": ("encoder_only", {}),
    "path: decoder": ("decoder_only", {}),
    "level: 2 top": ("layer_subset", {"order": "level", "side": "shallow", "count": 2}),
    "level: 2 bottom": ("layer_subset", {"order": "level", "side": "deep", "count": 2}),
}


def prepared(
    name: str, options: dict[str, Any], width: int, images: Tensor
) -> tuple[UNet, Callable[[], None], list[str]]:
    """A network of the set, one training step of it, and the stages whose output carries a gradient."""
    model = build(width=width, depth=4, norm="batch", seed=0)
    freeze(model, name, options, generator(0))
    passed: list[str] = []

    def watch(at: str) -> Callable[..., None]:
        return lambda _, __, output: passed.append(at) if output.requires_grad else None

    hooks = [stage.register_forward_hook(watch(at)) for at, stage in model.named_children()]
    set_training_mode(model)
    model(images)
    for hook in hooks:
        hook.remove()
    moving = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=1e-3, fused=True)
    masks = (images[:, 0] > 0.5).to(torch.uint8)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        segmentation_loss(model(images)[:, 0], masks).backward()
        optimizer.step()

    return model, step, passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    images = torch.rand(chosen.batch, 1, chosen.size, chosen.size, generator=generator(0))
    made = {label: prepared(*each, chosen.width, images) for label, each in SETS.items()}
    seconds: dict[str, list[float]] = {label: [] for label in made}
    for round_ in range(chosen.rounds + 2):
        for label, (_, step, _) in made.items():
            began = time.perf_counter()
            step()
            if round_ >= 2:
                seconds[label].append(time.perf_counter() - began)
    whole = statistics.median(seconds["all layers"])
    rows = [
        {"set": label, "trainable": trainable(model), "seconds": statistics.median(seconds[label]),
         "ratio": statistics.median(seconds[label]) / whole, "passed": passed}
        for label, (model, _, passed) in made.items()
    ]  # fmt: skip
    for row in rows:
        print(
            f"{row['set']:16} {row['trainable']:8,} parameters  {1000 * row['seconds']:7.1f} ms  x {row['ratio']:.2f}"
        )
    if chosen.out:
        settings = {key: value for key, value in vars(chosen).items() if key != "out"}
        chosen.out.write_text(
            json.dumps({"settings": settings, "rows": rows, "machine": stamp(torch.device("cpu"))}, indent=1)
        )


if __name__ == "__main__":
    main()
