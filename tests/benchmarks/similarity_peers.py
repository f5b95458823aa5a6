"""Other packages' similarity functions behind one face, for the benchmarks and the conformance table.

None is a dependency. Install what is wanted in an environment of its own (`pytorch-cka`, `torch-cka`, `ckatorch`), put
clones of google/svcca, netrep or the original anatome on PYTHONPATH, and whatever imports is used.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 64
Function = Callable[[np.ndarray, np.ndarray], float]


def _tensors(function: Callable[..., Any], *arguments: Any, distance: bool = False, **options: Any) -> Function:
    def call(x: np.ndarray, y: np.ndarray) -> float:
        with torch.no_grad():
            value = float(function(torch.from_numpy(x.copy()), torch.from_numpy(y.copy()), *arguments, **options))
        return 1 - value if distance else value

    return call


def _anatome(module: str) -> dict[str, Function]:
    found = importlib.import_module(module)
    return {
        "cka": _tensors(found.linear_cka_distance, False, distance=True),
        "cka_debiased": _tensors(found.linear_cka_distance, True, distance=True),
        "svcca_singular_sum": _tensors(found.svcca_distance, 0.99, "svd", distance=True),
        "pwcca": _tensors(found.pwcca_distance, "svd", distance=True),
        "procrustes": _tensors(found.orthogonal_procrustes_distance, distance=True),
    }


def _google() -> dict[str, Function]:
    core, weighted = importlib.import_module("cca_core"), importlib.import_module("pwcca")

    def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        found = core.get_cca_similarity(x.T, y.T, epsilon=0.0, compute_dirns=False, compute_coefs=False, verbose=False)
        return found["cca_coef1"][: min(x.shape[1], y.shape[1])]

    def reduced(x: np.ndarray, power: int) -> np.ndarray:
        """The tutorials' recipe: center, then keep directions; the variance rule is the paper's."""
        x = x - x.mean(0)
        u, s, _ = np.linalg.svd(x, full_matrices=False)
        share = np.cumsum(s**power) / np.sum(s**power)
        count = int(np.searchsorted(share, 0.99)) + 1
        return u[:, :count] * s[:count]

    return {
        "cca": lambda x, y: float(correlations(x, y).mean()),
        "svcca": lambda x, y: float(correlations(reduced(x, 2), reduced(y, 2)).mean()),
        "svcca_singular_sum": lambda x, y: float(correlations(reduced(x, 1), reduced(y, 1)).mean()),
        "pwcca": lambda x, y: float(weighted.compute_pwcca(x.T, y.T)[0]),
    }


def _netrep() -> dict[str, Function]:
    metrics = importlib.import_module("netrep.metrics")
    kernel = importlib.import_module("netrep.metrics.cka").LinearCKA

    def procrustes(x: np.ndarray, y: np.ndarray) -> float:
        width = max(x.shape[1], y.shape[1])  # it wants equally many features on both sides
        x, y = (np.pad(each, ((0, 0), (0, width - each.shape[1]))) for each in (x, y))
        return math.cos(metrics.LinearMetric(alpha=1.0, center_columns=True).fit_score(x, y))

    return {"cka": lambda x, y: math.cos(kernel().score(x, y)), "procrustes": procrustes}


def _pytorch_cka() -> dict[str, Function]:
    found = importlib.import_module("cka").cka_from_features

    def batches(x: np.ndarray, y: np.ndarray) -> float:
        hsic = importlib.import_module("cka").hsic
        sums = np.zeros(3)
        for part in np.array_split(np.arange(len(x)), math.ceil(len(x) / 64)):
            a, b = (torch.from_numpy(each[part]) for each in (x, y))
            sums += [float(each.squeeze()) for each in hsic((a @ a.T)[None], (b @ b.T)[None])]
        return min(1.0, max(0.0, sums[0] / math.sqrt(sums[1] * sums[2])))  # as its class does

    return {"cka_debiased": _tensors(found), "cka_minibatch": batches}


def _torch_cka() -> dict[str, Function]:
    model = importlib.import_module("torch_cka").CKA

    def debiased(x: np.ndarray, y: np.ndarray) -> float:
        own = model.__new__(model)
        own.device = "cpu"
        k, m = (torch.from_numpy(each.astype(np.float32)) for each in (x, y))  # it takes no float64
        grams = [(each @ each.T).fill_diagonal_(0) for each in (k, m)]
        cross, first, second = (own._HSIC(a, b) for a, b in ((grams[0], grams[1]), (grams[0],) * 2, (grams[1],) * 2))
        return cross / (math.sqrt(first) * math.sqrt(second))

    return {"cka_debiased": debiased}


def _ckatorch() -> dict[str, Function]:
    base = importlib.import_module("ckatorch.core").cka_base
    return {
        "cka": _tensors(base),
        "cka_debiased": _tensors(base, unbiased=True, method="fro_norm"),
    }


# ---- maps of two networks: (layers, layers), convolutions flattened unless it says otherwise -------------------------


def _loader(images: Tensor) -> Any:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=BATCH)


def pytorch_cka_map(models: list[nn.Module], images: Tensor, layers: list[str]) -> np.ndarray:
    from cka import compute_cka

    return compute_cka(*models, _loader(images), layers=layers, device="cpu", progress=False)[0].numpy()


def torch_cka_map(models: list[nn.Module], images: Tensor, layers: list[str]) -> np.ndarray:
    import torch_cka as package

    own = [copy.deepcopy(model) for model in models]  # it leaves its hooks behind
    found = package.CKA(*own, "a", "b", model1_layers=layers, model2_layers=layers, device="cpu")
    with torch.no_grad():  # which it does not do itself
        found.compare(_loader(images), _loader(images))
    return found.hsic_matrix.numpy()


def _all_maps(models: list[nn.Module], images: Tensor, layers: list[str]) -> list[list[Tensor]]:
    sides = []
    for model in models:
        held: list[Tensor] = []
        handles = [
            dict(model.named_modules())[name].register_forward_hook(lambda *a, h=held: h.append(a[2]))
            for name in layers
        ]
        model(images)
        for handle in handles:
            handle.remove()
        sides.append(held)
    return sides


def ckatorch_map(models: list[nn.Module], images: Tensor, layers: list[str]) -> np.ndarray:
    """Its function on pairs of matrices; its class cannot do convolutions. The mean over batches."""
    from ckatorch.core import cka_base

    values = []
    with torch.no_grad():
        for part in images.split(BATCH):
            a, b = ([each.flatten(1) for each in side] for side in _all_maps(models, part, layers))
            values.append([[float(cka_base(x, y, unbiased=True)) for y in b] for x in a])
    return np.mean(values, axis=0)


def anatome_map(models: list[nn.Module], images: Tensor, layers: list[str]) -> np.ndarray:
    """On maps pooled to 4 x 4, because its products are features by features."""
    from anatome.similarity import linear_cka_distance

    with torch.no_grad():
        parts = [_all_maps(models, part, layers) for part in images.split(BATCH)]
        sides = [
            [
                torch.cat([F.adaptive_avg_pool2d(part[side][at], 4).flatten(1) for part in parts])
                for at in range(len(layers))
            ]
            for side in (0, 1)
        ]
        return np.array([[1 - float(linear_cka_distance(x, y, False)) for y in sides[1]] for x in sides[0]])


# ---- what is here ------------------------------------------------------------------------------------------------

PACKAGES: dict[str, tuple[str, Callable[[], dict[str, Function]]]] = {
    # name: (distribution for the version, functions by measure)
    "ultimate-anatome": ("ultimate-anatome", lambda: _anatome("anatome.similarity")),
    "anatome (original)": ("anatome", lambda: _anatome("anatome.distance")),
    "google/svcca": ("svcca", _google),
    "netrep": ("netrep", _netrep),
    "pytorch-cka": ("pytorch-cka", _pytorch_cka),
    "torch-cka": ("torch-cka", _torch_cka),
    "ckatorch": ("ckatorch", _ckatorch),
}


def installed() -> dict[str, tuple[str, dict[str, Function]]]:
    """The packages that import here: name to (version, functions by measure)."""
    found = {}
    for name, (distribution, functions) in PACKAGES.items():
        try:
            made = functions()
        except Exception as error:
            print(f"{name}: not here ({type(error).__name__}: {error})")
            continue
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            version = "clone"
        found[name] = (version, made)
    return found
