"""The same matrices through anatome, as a cross-check: where it agrees with `measures.catalog`, and where it does not.

Only its functions on matrices are used, on matrices that are oriented here (samples by features): its hooks choose the
orientation from layer names. Both the release on the package index (`ultimate-anatome` 0.0.10, module
`anatome.similarity`) and the original (module `anatome.distance`) are found; neither is imported before it is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from analysis.representations.measures import cka, procrustes
from analysis.representations.measures.catalog import MEASURES
from analysis.representations.measures.cca import mean_correlation, whitened
from analysis.representations.measures.gram import centered, checked_pair
from lib.common.errors import StudyError

MODULES = {"anatome.distance": "anatome (the original)", "anatome.similarity": "ultimate-anatome"}


class Call(NamedTuple):
    """How anatome computes a measure.

    function: its name there. arguments: what follows x and y. agrees: whether it is the quantity that the measure
    names. their_way: this project's code with anatome's departure put in, from centered features, to show what the
    departure is.
    """

    function: str
    arguments: tuple[Any, ...]
    agrees: bool
    remark: str
    their_way: Callable[[Tensor, Tensor], float]


def _without_roots(x: Tensor, y: Tensor) -> float:
    """Debiased CKA as ultimate-anatome has it: no square roots, and both sides' statistics in each norm."""
    k, m = x.square().sum(1), y.square().sum(1)
    squares = [(first.mT @ second).square().sum() for first, second in ((x, y), (x, x), (y, y))]
    cross, own_x, own_y = (cka.unbiased(each, k.sum(), m.sum(), k @ m, len(x)) for each in squares)
    return float(cross / (own_x * own_y))


def _without_last(x: Tensor, y: Tensor) -> float:
    """SVCCA by the sum of singular values, without the direction that crosses 99 % of it."""
    return mean_correlation(*(whitened(each, "singular_sum").u[:, :-1] for each in (x, y)))


def _by_variates(x: Tensor, y: Tensor) -> float:
    """CCA weighted by the sums over samples of the absolute variates, which have nothing to do with x's features."""
    basis_x, basis_y = whitened(x), whitened(y)
    a, correlations, _ = torch.linalg.svd(basis_x.u.mT @ basis_y.u, full_matrices=False)
    weights = (basis_x.u @ a).abs().sum(0)
    return float(weights @ correlations / weights.sum())


_SVCCA = ("svcca_distance", (0.99, "svd"))
CALLS: dict[str, Call] = {
    "cka": Call("linear_cka_distance", (False,), True, "the same quantity", cka.cka),
    "procrustes": Call(
        "orthogonal_procrustes_distance",
        (),
        True,
        "the same quantity (half the squared distance)",
        procrustes.procrustes,
    ),
    "cka_debiased": Call(
        "linear_cka_distance", (True,), False,
        "leaves out square roots, and mixes both sides in the norms (in the release; the original is right)",
        _without_roots,
    ),
    "svcca": Call(
        *_SVCCA, False, "sums singular values instead of variances, and drops the direction that crosses 99 %",
        _without_last,
    ),
    "svcca_singular_sum": Call(
        *_SVCCA, False, "drops the direction that crosses 99 %, and reduces before it centers", _without_last
    ),
    "pwcca": Call(
        "pwcca_distance", ("svd",), False,
        "weights by sums of the variates over samples, not by projections of the features, and uncentered",
        _by_variates,
    ),
}  # fmt: skip


def find() -> tuple[Any, str]:
    """anatome's module of matrix functions, and the name and version of the package it comes from.

    Raises:
        StudyError: it is not installed, or does not import here.
    """
    errors = []
    for module, package in MODULES.items():
        try:
            found = importlib.import_module(module)
        except Exception as error:  # other releases fail in many ways, such as on torchvision's operators
            errors.append(f"{module}: {error}")
            continue
        name = "ultimate-anatome" if module == "anatome.similarity" else "anatome"
        try:
            return found, f"{package} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            return found, package
    raise StudyError(
        f"anatome cannot be imported ({'; '.join(errors)}); install ultimate-anatome==0.0.10 without its dependencies, "
        "or do without the cross-check"
    )


def similarity(measure: str, x: Any, y: Any, *, center: bool = True) -> float:
    """anatome's value for a measure of this project, as a similarity; NaN where anatome gives NaN.

    Args:
        x: (n, p). y: (n, q), the same samples.
        center: hand it centered features. Without, it shows what it does with raw ones.

    Raises:
        StudyError: anatome has no such measure or is not installed, or the matrices do not fit.
    """
    if measure not in CALLS:
        raise StudyError(f"anatome has nothing to check {measure!r} against; it has {', '.join(CALLS)}")
    a, b = checked_pair(x, y, 2)
    if center:
        a, b = centered(a), centered(b)
    call = CALLS[measure]
    function: Callable[..., Tensor] = getattr(find()[0], call.function)
    with torch.no_grad():
        return 1 - float(function(a.clone(), b.clone(), *call.arguments))  # it writes into what it gets


def cross_check(pairs: Mapping[str, tuple[Any, Any]]) -> pd.DataFrame:
    """Both implementations on the same pairs of representations.

    Returns:
        One row a pair and measure: pair, measure, ours, anatome, their_way (ours with anatome's departure put in),
        difference (anatome - ours), agrees (whether both mean the same quantity, so that a difference would be an
        error), remark, package.
    """
    package = find()[1]
    rows = []
    for label, (x, y) in pairs.items():
        a, b = (centered(each) for each in checked_pair(x, y, 2))
        for measure, call in CALLS.items():
            ours, theirs = MEASURES[measure](x, y), similarity(measure, x, y)
            values = {"ours": ours, "anatome": theirs, "their_way": call.their_way(a, b), "difference": theirs - ours}
            about = {"agrees": call.agrees, "remark": call.remark, "package": package}
            rows.append({"pair": label, "measure": measure, **values, **about})
    return pd.DataFrame(rows)
