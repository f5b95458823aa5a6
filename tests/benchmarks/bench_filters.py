"""Calibration, power, controls and speed of the filter statistics and the randomness battery, as CSV.

    python tests/benchmarks/bench_filters.py level --layers 1000   # a quarter of an hour
    python tests/benchmarks/bench_filters.py power --layers 200
    python tests/benchmarks/bench_filters.py controls
    python tests/benchmarks/bench_filters.py speed

Each prints its table and writes it to `--out` as a record (see `analysis.tables.recorded_measurements`). Numbers of
`level` and `power` depend on the seed alone, so that they can be made again anywhere; those of `speed` on the machine:
they are CPU seconds of one core, each the best of `--rounds`, beside one pass over the same numbers in numpy as a
yardstick.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.filters.change import filter_change, filter_change_over_training
from analysis.filters.kernels import read_layers
from analysis.filters.matching import matched
from analysis.filters.randomness import calibration
from analysis.filters.randomness.battery import TESTS, battery
from analysis.tables.recorded_measurements import write_record
from lib.common import paths
from lib.networks.unet import build
from lib.runs.run import Run
from lib.runs.spec import RunSpec, run_id
from lib.runs.tensor_files import write_tensors


def cpu_seconds(work: Callable[[], object], rounds: int) -> float:
    """The least CPU time of a few rounds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def walked_run(folder: Path, checkpoints: int = 20) -> Run:
    """A run of the default U-Net whose weights take a random walk, with that many checkpoints after step 0."""
    spec = RunSpec(task="sim_natural", strategy="scratch", lr=1e-3)
    run = folder / run_id(spec)
    paths.write_atomic(run / "spec.json", spec.text)
    state = build(width=spec.width, depth=spec.depth, norm=spec.norm, seed=0).state_dict()
    draw = torch.Generator().manual_seed(0)
    found = Run(run)
    for step in range(checkpoints + 1):
        write_tensors(found.checkpoint(step), state, {})
        state = {
            name: value + 0.02 * value.std() * torch.randn(value.shape, generator=draw) if value.dim() > 1 else value
            for name, value in state.items()
        }
    return found


def speed(rounds: int) -> pd.DataFrame:
    """CPU seconds on a run of the default U-Net: 23 layers, 1.9 million weights, 20 checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        run = walked_run(Path(folder))
        start, end = run.weights(0), run.weights()
        other = build(width=16, depth=4, norm="batch", seed=1).state_dict()
        layers = list(read_layers(end).values())
        work: dict[str, Callable[[], object]] = {
            "yardstick: mean square of the weights, 20 times": lambda: [
                [np.mean(layer.kernels**2) for layer in layers] for _ in range(20)
            ],
            "reading 20 checkpoints": lambda: [run.weights(step) for step in run.steps()],
            "filters.trajectory, 20 checkpoints": lambda: filter_change_over_training(run),
            "filters.trajectory by filter": lambda: filter_change_over_training(run, by="filter"),
            "filters.between, two checkpoints": lambda: filter_change(start, end),
            "matching.matched, two seeds": lambda: matched(end, other),
            "randomness.battery, one checkpoint": lambda: battery(end),
        }
        for name in TESTS:
            work[f"  of it {name}"] = lambda name=name: battery(end, names=[name])
        rows = [{"work": name, "seconds": round(cpu_seconds(each, rounds), 3)} for name, each in work.items()]
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["level", "power", "controls", "speed"])
    parser.add_argument("--layers", type=int, default=200, help="random layers per cell (default 200)")
    parser.add_argument(
        "--shapes", nargs="+", metavar="16x1x3x3", help="filters x inputs x kernel, for level and power"
    )
    parser.add_argument("--draws", type=int, default=4999, help="draws per null distribution (default 4999)")
    parser.add_argument("--rounds", type=int, default=3, help="repeats of each timing (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of level and power (default 0)")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    options: dict[str, Any] = {"layers": arguments.layers, "draws": arguments.draws, "seed": arguments.seed}
    if arguments.shapes:
        options["shapes"] = [tuple(map(int, shape.split("x"))) for shape in arguments.shapes]
    work: dict[str, Callable[[], pd.DataFrame]] = {
        "level": lambda: calibration.level(**options),
        "power": lambda: calibration.power(**options),
        "controls": lambda: calibration.controls(draws=arguments.draws),
        "speed": lambda: speed(arguments.rounds),
    }
    table = work[arguments.what]()
    print(table.to_string(index=False))
    if arguments.out:
        command = " ".join(
            ["tests/benchmarks/bench_filters.py", *(each for each in sys.argv[1:] if not each.endswith(".csv"))]
        )
        write_record(arguments.out, table, command.removesuffix(" --out"))


if __name__ == "__main__":
    main()
