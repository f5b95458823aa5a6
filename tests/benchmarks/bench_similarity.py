"""Speed, memory, error and conformance of the similarity engine beside other packages, as JSON.

    python tests/benchmarks/bench_similarity.py conformance         # which checks each package passes
    python tests/benchmarks/bench_similarity.py stored              # one pair of stored features, and a 20 x 20 map
    python tests/benchmarks/bench_similarity.py map --rounds 3      # two U-Nets, 20 convolutions each, 256 images
    python tests/benchmarks/bench_similarity.py series --checkpoints 4
    python tests/benchmarks/bench_similarity.py cost                # against layers, images and checkpoints

Each prints its table and writes it to `--out`. Times are CPU seconds of one core, each the best of `--rounds`,
contestants taking turns in one process; peak memory comes from a process of its own for each. Peers that are not
installed are left out: see `similarity_peers.py`. `--size` and `--images` make a trial small; figures to quote are of
the defaults.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import contextlib
import copy
import io
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import similarity_peers as peers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.representations.capture.activations import capture
from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.represent import Probe, from_features, join, represent_model
from analysis.representations.comparison.compare import compare
from analysis.representations.measures import conformance as conformance_kit
from analysis.representations.measures.catalog import MEASURES
from lib.common.provenance import stamp
from lib.networks.unet import build

BLOCKS = [*(f"enc{level}" for level in range(5)), *(f"dec{level}" for level in reversed(range(4)))]
LAYERS = [f"{block}.conv{at}" for block in BLOCKS for at in (1, 2)] + ["head"]
LAYERS.insert(LAYERS.index("dec0.conv1"), "dec0.up")  # 20 convolutions, in the order in which they are called
BATCH = 64


def race(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """CPU seconds of each, the least of a few rounds in which all take turns."""
    best = dict.fromkeys(contestants, np.inf)
    for _ in range(rounds):
        for name, work in contestants.items():
            start = time.process_time()
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                work()
            best[name] = min(best[name], time.process_time() - start)
    return best


def networks(count: int) -> list[nn.Module]:
    """U-Nets of the study's default width that differ a little from one to the next, like checkpoints."""
    models = [build(width=16, depth=4, norm="batch", seed=0).eval()]
    draw = torch.Generator().manual_seed(1)
    for _ in range(count - 1):
        model = copy.deepcopy(models[-1])
        with torch.no_grad():
            for each in model.parameters():
                each += 0.2 * each.std(correction=0) * torch.randn(each.shape, generator=draw)
        models.append(model)
    return models


def pictures(count: int, size: int) -> Tensor:
    """Smooth random images at mean 0 and deviation 1."""
    coarse = torch.randn(count, 1, size // 8, size // 8, generator=torch.Generator().manual_seed(0))
    images = F.interpolate(coarse, (size, size), mode="bicubic")
    return images / images.std()


def fast(model: nn.Module) -> nn.Module:
    """As `represent.represent` makes it; the weights are copied, as they are when read from disk."""
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


# ---- contestants for the map of two networks ----------------------------------------------------------------------


def forward(models: list[nn.Module], images: Tensor) -> None:
    with torch.no_grad():
        for model in models:
            for part in images.split(BATCH):
                model(part)


def ours(models: list[nn.Module], images: Tensor, kind: str, batch: int | None, chunk: int | None) -> np.ndarray:
    probe = Probe(images, Reduction(kind), batch=batch, chunk=chunk)
    a, b = (represent_model(fast(model), LAYERS, probe) for model in models)
    return compare(a, b, "cka_minibatch" if batch else "cka_debiased").values


CONTESTANTS: dict[str, Callable[[list[nn.Module], Tensor], Any]] = {
    "two forward passes alone": forward,
    "two forward passes as ours are run": lambda models, images: [
        forward([fast(model)], part) for model in models for part in images.split(16)
    ],
    "ours, batches of 64": lambda models, images: ours(models, images, "flatten", BATCH, 16),
    "ours, batches of 64 not collected": lambda models, images: ours(models, images, "flatten", BATCH, None),
    "ours, exact over all images": lambda models, images: ours(models, images, "flatten", None, None),
    "ours, exact over all images, collected": lambda models, images: ours(models, images, "flatten", None, 16),
    "ours, pooled": lambda models, images: ours(models, images, "pool", None, 16),
    "pytorch-cka": lambda models, images: peers.pytorch_cka_map(models, images, LAYERS),
    "torch-cka": lambda models, images: peers.torch_cka_map(models, images, LAYERS),
    "anatome, pooled to 4 x 4": lambda models, images: peers.anatome_map(models, images, LAYERS),
    "ckatorch, its pair function": lambda models, images: peers.ckatorch_map(models, images, LAYERS),
}


def available() -> dict[str, Callable[[list[nn.Module], Tensor], Any]]:
    here = set(peers.installed())
    missing = {"pytorch-cka", "torch-cka", "ckatorch", "ultimate-anatome"} - here
    short = {each.split("-")[0] if each == "ckatorch" else each.replace("ultimate-", "") for each in missing}
    return {name: work for name, work in CONTESTANTS.items() if name.split(",")[0] not in short}


def exact_minibatch(models: list[nn.Module], images: Tensor) -> np.ndarray:
    """The minibatch map in float64 from features, the yardstick of errors."""
    doubles = [copy.deepcopy(model).double() for model in models]
    sums = [0.0, 0.0, 0.0]
    for part in images.double().split(BATCH):
        sides = [from_features(capture(model, LAYERS, part, reduce="flatten")) for model in doubles]
        k, m = (torch.stack([_u_centered(each) for each in side.features]) for side in sides)
        sums[0] += k @ m.mT
        sums[1] += k.square().sum(1)
        sums[2] += m.square().sum(1)
    return (sums[0] / sums[1].sqrt()[:, None] / sums[2].sqrt()).numpy()


def _u_centered(x: Tensor) -> Tensor:
    from analysis.representations.measures.gram import centered, gram, u_center

    return u_center(gram(centered(x))).flatten()


def two_networks(arguments: argparse.Namespace) -> pd.DataFrame:
    """Time, memory and error of the whole map of two networks."""
    models, images = networks(2), pictures(arguments.images, arguments.size)
    here = available()
    here = {name: here[name] for name in arguments.contestant or here}
    seconds = race({name: lambda work=work: work(models, images) for name, work in here.items()}, arguments.rounds)
    truth = exact_minibatch(models, images)
    rows = []
    base, mine = (seconds.get(name, np.nan) for name in ("two forward passes alone", "ours, batches of 64"))
    for name, taken in seconds.items():
        value = None if "forward" in name else np.asarray(here[name](models, images))
        same = value is not None and not any(word in name for word in ("pooled", "exact", "pair function"))
        rows.append({
            "contestant": name, "seconds": taken, "times the forward passes": taken / base,
            "on top of them": taken - base, "times ours": taken / mine,
            "error": float(np.abs(value - truth).max()) if same else None,
            "peak MB": peak_of(name, arguments),
        })  # fmt: skip
    return pd.DataFrame(rows)


def peak_of(name: str, arguments: argparse.Namespace) -> float:
    """Peak memory of one contestant, in a process of its own."""
    command = [sys.executable, __file__, "one", "--contestant", name]
    command += ["--images", str(arguments.images), "--size", str(arguments.size)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return float(lines[-1])


def one(arguments: argparse.Namespace) -> None:
    CONTESTANTS[arguments.contestant[0]](networks(2), pictures(arguments.images, arguments.size))
    # of this process since it began; what getrusage tells includes the parent's memory at the fork
    status = Path("/proc/self/status").read_text()
    print(float(status.split("VmHWM:")[1].split()[0]) / 1e3)


# ---- a series of checkpoints --------------------------------------------------------------------------------------


def our_series(models: list[nn.Module], images: Tensor) -> np.ndarray:
    probe = Probe(images, Reduction("flatten"), batch=BATCH)
    parts = [represent_model(fast(model), LAYERS, probe, step=at) for at, model in enumerate(models)]
    return compare(join(parts), measure="cka_minibatch").values


def series(arguments: argparse.Namespace) -> pd.DataFrame:
    """All pairs of layers of T checkpoints; pytorch-cka goes pair by pair: T (T + 1) / 2 times the seconds of one."""
    images, rows = pictures(arguments.images, arguments.size), []
    for count in arguments.checkpoints:
        models = networks(count)
        work = {"ours": lambda models=models: our_series(models, images)}
        if "pytorch-cka" in available():
            work["peer, two networks"] = lambda models=models: peers.pytorch_cka_map(
                [models[0], models[1]], images, LAYERS
            )
            work["peer, one network with itself"] = lambda models=models: peers.pytorch_cka_map(
                [models[0], models[0]], images, LAYERS
            )
        taken = race(work, arguments.rounds)
        row = {"checkpoints": count, "ours": taken["ours"]}
        if len(taken) > 1:
            pairs = count * (count - 1) / 2
            row["peer"] = pairs * taken["peer, two networks"] + count * taken["peer, one network with itself"]
            row["ratio"] = row["peer"] / row["ours"]
        rows.append(row)
    return pd.DataFrame(rows)


# ---- stored features ----------------------------------------------------------------------------------------------


def stored(arguments: argparse.Namespace) -> pd.DataFrame:
    """One pair of stored features, and a map of 20 x 20 layers, for every measure and package that has it."""
    rows, others = [], peers.installed()
    for n, p in ((2000, 64), (2000, 512), (10000, 256)):
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((n, p)), rng.standard_normal((n, p))
        a, b = torch.from_numpy(x), torch.from_numpy(y)
        for measure in ("cka", "cka_debiased", "svcca", "procrustes"):
            work: dict[str, Callable[[], Any]] = {"products alone": lambda a=a, b=b: (a.T @ a, b.T @ b, a.T @ b)}
            work["ours"] = lambda m=measure, a=a, b=b: MEASURES[m](a, b)
            for name, (_, functions) in others.items():
                own = functions.get(measure) or functions.get("svcca_singular_sum" if measure == "svcca" else "")
                if own and not (n > 5000 and name not in ("ultimate-anatome", "google/svcca")):
                    work[name] = lambda own=own, x=x, y=y: own(x, y)
            for name, taken in race(work, arguments.rounds).items():
                rows.append({"n": n, "p": p, "measure": measure, "contestant": name, "seconds": taken})
    rng = np.random.default_rng(1)
    layers = {
        f"layer{at}": torch.from_numpy(rng.standard_normal((2000, (16, 32, 64, 128)[at % 4]))) for at in range(20)
    }
    for measure in ("cka_debiased", "svcca_singular_sum", "pwcca", "procrustes"):
        work = {"ours": lambda m=measure: compare(from_features(layers), measure=m)}
        if "ultimate-anatome" in others:
            own = others["ultimate-anatome"][1][measure]
            arrays = [each.numpy() for each in layers.values()]
            work["ultimate-anatome"] = lambda own=own, arrays=arrays: [own(x, y) for x in arrays for y in arrays]
        for name, taken in race(work, 1).items():
            rows.append({"n": 2000, "p": "20 x 20 map", "measure": measure, "contestant": name, "seconds": taken})
    return pd.DataFrame(rows)


# ---- cost and conformance -----------------------------------------------------------------------------------------


def cost(arguments: argparse.Namespace) -> pd.DataFrame:
    """Seconds of the map as layers, images and checkpoints grow, forward passes and comparison apart."""
    rows = []
    settings = [("layers", count, count, 256, 2) for count in (5, 10, 20)]
    settings += [("images", count, 20, count, 2) for count in (64, 128, 256)]
    settings += [("checkpoints", count, 20, 64, count) for count in (2, 4, 8)]
    for axis, value, layers, count, checkpoints in settings:
        models, images = networks(checkpoints), pictures(min(count, arguments.images), arguments.size)
        probe = Probe(images, Reduction("flatten"), batch=BATCH)
        start = time.process_time()
        parts = [represent_model(fast(model), LAYERS[:layers], probe, step=at) for at, model in enumerate(models)]
        middle = time.process_time()
        compare(join(parts), measure="cka_minibatch")
        end = time.process_time()
        rows.append({"axis": axis, "value": value, "representing": middle - start, "comparing": end - middle})
    return pd.DataFrame(rows)


def conformance(arguments: argparse.Namespace) -> pd.DataFrame:
    """The conformance kit over every package that imports here, and over this project."""
    tables = []
    everyone = {"palimpsest": ("this commit", {name: each.value for name, each in MEASURES.items()})}
    for package, (version, functions) in {**everyone, **peers.installed()}.items():
        for measure, function in functions.items():
            found = conformance_kit.conformance(measure, function)
            found.insert(0, "version", version)
            found.insert(0, "package", package)
            tables.append(found)
    return pd.concat(tables, ignore_index=True)


PARTS = {"conformance": conformance, "stored": stored, "map": two_networks, "series": series, "cost": cost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "one"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[4, 8, 20])
    parser.add_argument("--contestant", choices=CONTESTANTS, nargs="+", help="of the map: only these")
    parser.add_argument("--out", type=Path, help="JSON file for the table")
    arguments = parser.parse_args()
    if arguments.part == "one":
        return one(arguments)
    table = PARTS[arguments.part](arguments)
    shown = table
    if arguments.part == "conformance":
        shown = table.groupby(["package", "version", "measure"])["ok"].agg(["sum", "count"])
        wrong = table[~table["ok"]].groupby(["package", "measure"])["check"].agg("; ".join)
        print(wrong.to_string())
    print(shown.to_string())
    if arguments.out:
        settings = {key: value for key, value in vars(arguments).items() if key != "out"}
        record = {"settings": settings, "stamp": stamp(torch.device("cpu")), "rows": table.to_dict("records")}
        arguments.out.write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
