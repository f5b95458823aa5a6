"""A classifier two-sample test: can the filters of a layer be told from fresh ones?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from analysis.filters.kernels import FilterLayer
from analysis.filters.randomness.kernel_patterns import lags
from analysis.filters.randomness.layer_tests import NotApplicable, Nulls, Outcome, kernels_of, upper_p

Floats = NDArray[np.float64]
FOLDS = 5
LEAST_FRESH = 64  # fresh filters, however few the layer has


def classifier(layer: FilterLayer, rng: np.random.Generator, nulls: Nulls) -> Outcome:
    """AUC, 0 to 1, with which a classifier tells the filters from fresh ones that it did not see in training.

    A classifier two-sample test (Lopez-Paz and Oquab, arXiv 1610.06545). Each filter is divided by its own length and
    described by its mean and its energy at every tap, its mean products at every offset of up to two taps, and two
    fourth moments (of weights, and of the energies of its kernels). A ridge classifier is trained on four fifths of
    the filters and scores the rest, five times. Filters come in blocks, one of the layer's and one or more fresh ones,
    and a block never falls into two folds; p comes from exchanging labels within blocks, an exact permutation test
    (one-sided: only an AUC above chance speaks against randomness). The scores are linear in the labels, so all
    relabelings cost one matrix product. The interval is that of DeLong et al. (1988); it takes the scores of five
    classifiers for those of one.
    """
    kernels_of(layer)
    filters = layer.taps()
    count = len(filters)
    if count < FOLDS:
        raise NotApplicable(f"needs {FOLDS} filters or more, got {count}")
    each = 1 + math.ceil(LEAST_FRESH / count)  # filters in a block
    fresh = rng.normal(size=(count * (each - 1), *filters.shape[1:]))
    described = zip(_describe(filters, layer), _describe(fresh, layer), strict=True)
    features = np.column_stack([_standard(np.concatenate(both)) for both in described])
    block = np.concatenate([np.arange(count), np.repeat(np.arange(count), each - 1)])
    fold = rng.permutation(np.arange(count) % FOLDS)[block]
    hat = np.zeros((len(features), len(features)), dtype=np.float32)
    for number in range(FOLDS):
        test, train = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        x = features[train]
        gram = x.T @ x + np.eye(x.shape[1])
        hat[np.ix_(test, train)] = features[test] @ np.linalg.solve(gram, x.T)
    members = np.argsort(block, kind="stable").reshape(count, each)  # the layer's own filter comes first
    labels = np.zeros((nulls.permutations + 1, len(features)), dtype=np.float32)
    chosen = rng.integers(each, size=(nulls.permutations + 1, count))
    chosen[0] = 0
    np.put_along_axis(labels, members[np.arange(count), chosen], 1.0, axis=1)
    scores = (labels - np.float32(1 / each)) @ hat.T
    order = np.argsort(scores, axis=1)
    ranks = np.take_along_axis(labels, order, axis=1).astype(np.float64) @ np.arange(1.0, len(features) + 1)
    auc = (ranks - count * (count + 1) / 2) / (count * count * (each - 1))
    statistic = float(auc[0])
    half = 1.96 * _delong(scores[0, :count], scores[0, count:])
    interval = max(0.0, statistic - half), min(1.0, statistic + half)
    return Outcome(statistic, float(auc[1:].mean()), upper_p(auc[1:], statistic), *interval)


def _describe(filters: Floats, layer: FilterLayer) -> list[Floats]:
    """What a linear classifier can use of filters (n, inputs, taps): groups of features, each (n, features)."""
    inputs, taps = filters.shape[1:]
    x = filters / np.sqrt(np.einsum("fit,fit->f", filters, filters) / (inputs * taps))[:, None, None]
    products = np.matmul(x.transpose(0, 2, 1), x).reshape(len(x), -1) / inputs
    energies = np.einsum("fit,fit->fi", x, x) / taps
    fourth = np.column_stack([(x**4).mean(axis=(1, 2)), (energies**2).mean(axis=1)])
    return [x.mean(axis=1), products[:, :: taps + 1], products @ lags(layer.used).T, fourth]


def _standard(group: Floats) -> Floats:
    """Features with mean 0, and a variance of 1 for the whole group, so that large groups do not drown small ones."""
    spread = group.std(axis=0)
    return (group - group.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0) / math.sqrt(group.shape[1])


def _delong(high: Floats, low: Floats) -> float:
    """Standard error of the AUC of two lists of scores."""
    above = (high[:, None] > low[None]).astype(np.float64)
    parts = (above.mean(axis=1), above.mean(axis=0))
    return math.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))
