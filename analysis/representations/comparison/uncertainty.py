"""How sure a map of similarities is: errors over batches, intervals over probe images, and a test against chance.

All of it works on representations that are there already: no network runs again. What varies here are the probe
images; how much runs vary among themselves is another question, and takes runs of other seeds to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from analysis.representations.capture.represent import Representations
from analysis.representations.comparison.compare import Map, compare
from analysis.representations.measures.gram import u_center, unpack
from lib.common.errors import StudyError


class Spread(NamedTuple):
    """A map with what was found about its uncertainty; all arrays are (rows, columns).

    map: of all probe images. error: standard error. low, high: interval. method: as figures should name it.
    """

    map: Map
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    method: str


def jackknife(a: Representations, b: Representations | None = None, *, device: str | torch.device = "cpu") -> Spread:
    """Minibatch CKA with its standard error from leaving out one batch at a time; the interval is +-1.96 errors.

    Comes free from the HSIC of each batch. Meant for ten batches or more; needs three.

    Raises:
        StudyError: fewer than three batches of Gram matrices.
    """
    sides = [a] if b is None else [a, b]
    if min(len(each.grams) for each in sides) < 3:
        raise StudyError(
            f"a jackknife over batches needs Gram matrices of at least 3, got {len(a.grams)}; flatten with a smaller "
            "batch, or take half_samples"
        )
    whole = compare(a, b, "cka_minibatch", device=device)
    cross, own = [], []
    for batch in range(len(a.grams)):
        signed = [_unbiased_vectors(each.grams[batch].to(device, torch.float64)) for each in sides]
        cross.append(signed[0] @ signed[-1].mT)
        own.append([each.square().sum(1) for each in signed])
    crosses = torch.stack(cross)  # (batches, rows, columns)
    norms = [torch.stack([each[at] for each in own]) for at in (0, -1)]  # (batches, representations)
    without = crosses.sum(0) - crosses
    rows, columns = (each.sum(0) - each for each in norms)
    values = (without / rows.sqrt()[:, :, None] / columns.sqrt()[:, None]).cpu().numpy()
    count = len(values)
    error = np.sqrt((count - 1) / count * ((values - values.mean(0)) ** 2).sum(0))
    half = 1.96 * error
    return Spread(whole, error, whole.values - half, whole.values + half, f"95 % jackknife over {count} batches")


def _unbiased_vectors(packed: Tensor) -> Tensor:
    """Vectors (representations, m) whose inner products are unbiased HSIC estimates of one batch."""
    k = unpack(packed)
    n = k.shape[-1]
    return u_center(k).flatten(1) / (n * (n - 3)) ** 0.5


def half_samples(
    a: Representations,
    b: Representations | None = None,
    measure: str = "cka_debiased",
    *,
    groups: Sequence[Any] | None = None,
    draws: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
    report: Callable[[str], None] | None = None,
    **options: Any,
) -> Spread:
    """A map with intervals over probe images: the bootstrap that draws half of the images, without replacement.

    The usual bootstrap draws images twice, and an image beside its own copy is what unbiased estimates must leave out.
    Halves have no copies; the variance of a mean over a random half, around that over all, is the variance over all
    itself, so deviations from the mean of the draws need no rescaling (Politis and Romano 1994; delete-half
    jackknife).

    Args:
        measure: of `catalog.MEASURES`; see `compare.compare` for the other options.
        groups: of each image, such as its patient; halves are then of groups. Images of one group are no replicates.
        draws: random halves.

    Raises:
        StudyError: fewer than 8 images or groups, or only Gram matrices of batches.
    """
    whole = compare(a, b, measure, **options)
    count = a.samples // a.per_image
    names = np.arange(count) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(names) != count:
        raise StudyError(f"groups must name one for each of the {count} images, got {len(names)}")
    units = int(names.max()) + 1
    if units < 8:
        raise StudyError(f"half-samples need at least 8 images or groups, got {units}")
    rng = np.random.default_rng(seed)
    found = []
    for draw in range(draws):
        chosen = torch.from_numpy(np.flatnonzero(rng.permutation(units)[names] < units // 2))
        found.append(compare(a.take(chosen), b.take(chosen) if b else None, measure, **options).values)
        if report and (draw + 1) % 20 == 0:
            report(f"[{draw + 1}/{draws} half-samples]")
    values = np.stack(found)
    deviation = values - values.mean(0)
    low, high = np.quantile(deviation, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    what = "images" if groups is None else "groups of images"
    method = f"{100 * confidence:g} % interval over {units} probe {what}, {draws} half-samples"
    return Spread(whole, deviation.std(0, ddof=1), whole.values - high, whole.values - low, method)


def map_permutation_p(
    a: Representations,
    b: Representations,
    measure: str = "cka_debiased",
    *,
    draws: int = 199,
    seed: int = 0,
    **options: Any,
) -> np.ndarray:
    """P-values (rows, columns) of "more alike than chance": (1 + hits) / (1 + draws) over random pairings of images.

    One-sided; the same pairings for all pairs. Correct for many pairs by `analysis.statistics.tests.holm`.

    Raises:
        StudyError: see `analysis.representations.comparison.compare.compare`.
    """
    whole = compare(a, b, measure, **options).values
    rng = np.random.default_rng(seed)
    hits = np.zeros_like(whole)
    for _ in range(draws):
        order = torch.from_numpy(rng.permutation(b.samples // b.per_image))
        hits += compare(a, b.take(order), measure, **options).values >= whole - 1e-12
    return np.where(np.isnan(whole), np.nan, (1 + hits) / (1 + draws))
