"""Our battery beside other people's tools on the same layers: false alarms, power and seconds, as a record.

    python tests/benchmarks/randomness_peers.py --layers 40 --slow 5 --shapes 16x16x3x3 --out randomness_peers.csv

Needs torchconvquality 0.3.0 and weightwatcher 0.7.7, which are no part of the study: install them (and powerlaw and
scikit-learn) into an environment of their own beside PyTorch, and put this repository on its path.

What counts as "structured, not random":
    ours, battery           one of eight tests rejects at 5 % after Holm's correction
    ours, variance entropy  that one test rejects at 5 %
    torchconvquality        the layer's variance entropy lies below the tool's own threshold for its size
    weightwatcher           more eigenvalues beyond the fitted Marchenko-Pastur edge than in the shuffled copy
Only layers with 3x3 kernels in the plane are drawn, as torchconvquality skips all others.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from analysis.filters.kernels import FilterLayer
from analysis.filters.randomness.battery import TESTS, examine
from analysis.filters.randomness.calibration import planted
from analysis.filters.randomness.layer_tests import Nulls
from analysis.statistics.tests import holm
from analysis.tables.recorded_measurements import write_record

SHAPES = ["16x16x3x3", "64x32x3x3"]
PLANTED = [("smooth", 0.0), ("smooth", 0.2), ("gabor", 0.2), ("low_rank", 0.2), ("sparse", 0.2)]


def ours(layers: list[FilterLayer], names: list[str]) -> list[bool]:
    nulls = Nulls(4999)
    found = []
    for number, layer in enumerate(layers):
        p = [examine(layer, name, nulls, number).p for name in names]
        found.append(bool(holm(p).min() < 0.05))
    return found


def by_torchconvquality(layers: list[FilterLayer]) -> list[bool]:
    from torchconvquality import variance_entropy

    return [variance_entropy(torch.from_numpy(layer.kernels).float())[1] < 1 for layer in layers]


def by_weightwatcher(layers: list[FilterLayer]) -> list[bool]:
    import weightwatcher

    model = nn.ModuleList()
    for layer in layers:
        filters, inputs = layer.kernels.shape[:2]
        convolution = nn.Conv2d(inputs, filters, 3, bias=False)
        convolution.weight.data = torch.from_numpy(layer.kernels).float()
        model.append(convolution)
    logging.disable(logging.CRITICAL)
    details = weightwatcher.WeightWatcher(model=model).analyze(mp_fit=True, randomize=True, plot=False)
    return (details.num_spikes > details.rand_num_spikes).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=100, help="layers per cell (default 100)")
    parser.add_argument("--slow", type=int, default=20, help="of them for weightwatcher (default 20)")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="16x16x3x3", help="filters x inputs x 3 x 3")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    tools: dict[str, Callable[[list[FilterLayer]], list[bool]]] = {
        "ours, battery": lambda layers: ours(layers, list(TESTS)),
        "ours, variance entropy": lambda layers: ours(layers, ["variance_entropy"]),
        f"torchconvquality {version('torchconvquality')}": by_torchconvquality,
        f"weightwatcher {version('weightwatcher')}": by_weightwatcher,
    }
    rows = []
    for named in arguments.shapes:
        shape = tuple(map(int, named.split("x")))
        for structure, strength in PLANTED:
            layers = [
                planted(structure, shape, strength, np.random.default_rng([number, *shape]))
                for number in range(arguments.layers)
            ]
            for tool, work in tools.items():
                used = layers[: arguments.slow] if tool.startswith("weightwatcher") else layers
                began = time.process_time()
                found = work(used)
                seconds = (time.process_time() - began) / len(used)
                label = f"{structure} {strength:g}" if strength else "random"
                rows.append(
                    ("x".join(map(str, shape)), label, tool, len(used), float(np.mean(found)), round(seconds, 4))
                )
                print(*rows[-1], flush=True)
    columns = ["shape", "layers drawn", "tool", "layers", "called structured", "seconds a layer"]
    if arguments.out:
        told = f"--layers {arguments.layers} --slow {arguments.slow} --shapes {' '.join(arguments.shapes)}"
        write_record(arguments.out, pd.DataFrame(rows, columns=columns), f"tests/benchmarks/randomness_peers.py {told}")


if __name__ == "__main__":
    main()
