"""Maps of similarities with planted groups, for tests of what is made from them: nothing is trained or represented."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.representations.run_similarity import LayerMaps

LAYERS = ("enc0", "enc1", "enc2", "enc3", "enc4", "dec3", "dec2", "dec1", "dec0")


def planted(
    value: Callable[[int, dict, dict], float],
    seeds: int = 5,
    *,
    shared: bool = False,
    starts: bool = False,
    noise: float = 0.0,
    draw: int = 0,
    layers: tuple[str, ...] = LAYERS,
) -> LayerMaps:
    """Maps in which two checkpoints have the similarity `value(layer number, one, other)` plus symmetric noise.

    A checkpoint is a dictionary of strategy, seed, fold (the seed modulo 5), source_seed and point, as in
    `LayerMaps.checkpoints`.

    Args:
        shared: whether every seed but 0 has a run from source 0, too. starts: whether step 0 is there, too.
    """
    kinds = [("scratch", None), ("full_finetuning", "own")] + ([("full_finetuning", "shared")] if shared else [])
    rows = []
    for strategy, source in kinds:
        for seed in range(seeds):
            if source == "shared" and seed == 0:
                continue
            start = {None: None, "own": seed, "shared": 0}[source]
            for point in ("start", "end") if starts and source != "shared" else ("end",):
                name = f"{strategy}-{source}-s{seed}"
                rows.append({"run_id": name, "strategy": strategy, "seed": seed, "fold": seed % 5,
                             "source_seed": start, "step": 0 if point == "start" else 100, "point": point})  # fmt: skip
    rng = np.random.default_rng(draw)
    values = np.ones((len(layers), len(rows), len(rows)))
    for layer in range(len(layers)):
        for a in range(len(rows)):
            for b in range(a):
                found = value(layer, rows[a], rows[b]) + noise * rng.standard_normal()
                values[layer, a, b] = values[layer, b, a] = found
    table = pd.DataFrame(rows).astype({"source_seed": "Int64"})
    return LayerMaps(table, layers, values, "cka_debiased", "flatten of 96 images")
