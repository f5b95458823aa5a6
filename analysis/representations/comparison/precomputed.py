"""Representations as a measure needs them: each prepared once, however many pairs it is part of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analysis.representations.capture.represent import Representations
from analysis.representations.comparison.all_pairs import signature
from analysis.representations.measures.catalog import MEASURES
from analysis.representations.measures.cca import Basis, TooFewSamples, check_samples, whitened
from analysis.representations.measures.cka import BATCH, batches, order_note, unbiased
from analysis.representations.measures.gram import ConstantRepresentation, checked, gram, normalized, unpack
from analysis.representations.measures.procrustes import fold
from analysis.representations.measures.rsa import unit_rows
from lib.common.errors import StudyError

RULES = {"cca": "rank", "pwcca": "rank", "svcca": "variance", "svcca_singular_sum": "singular_sum"}
DECOMPOSED = (*RULES, "procrustes")
VECTORS = ("cka", "cka_debiased", "cka_minibatch", "rsa", "rsa_correlation")
NEED_FEATURES = ("cca", "pwcca", "rsa_correlation")
NOTHING = "constant for all samples but one, or for all"
FAINT = 1e-12  # of the squared trace: what rounding leaves of a Gram matrix that has nothing off its diagonal


class Prepared(NamedTuple):
    """The prepared forms of those representations that can be compared.

    used: their places in the list. notes: what is to be said of each in the list, or "". forms: one for each in `used`.
    """

    used: list[int]
    notes: list[str]
    forms: list[Any]


def check(found: Representations, measure: str) -> None:
    """That what was kept of the maps suffices for the measure.

    Raises:
        StudyError: it does not; the message says what to keep.
    """
    declared = MEASURES[measure].invariant_x & MEASURES[measure].invariant_y
    if found.grams and (measure in NEED_FEATURES or "orthogonal" not in declared):
        raise StudyError(
            f"{measure} needs features, but of flattened maps only Gram matrices are kept; take the reduction 'pool' "
            "or 'positions', or another measure"
        )
    if len(found.grams) > 1 and measure != "cka_minibatch":
        raise StudyError(
            f"{measure} needs one Gram matrix of all images, but there are {len(found.grams)} of batches; take "
            "batch=None, or the measure cka_minibatch"
        )


class Features(NamedTuple):
    """Centered features, and what CKA needs of each alone.

    x: (n, p). square: sum of squares of the Gram matrix, or n (n - 3) times the unbiased HSIC. spread: (n,), its
    diagonal.
    """

    x: Tensor
    square: Tensor
    spread: Tensor


def features(found: Representations, measure: str, device: Any) -> Prepared:
    """Centered features for CKA by products of features."""

    def make(at: int) -> tuple[Features, str]:
        x = normalized(*_features(found, at, device))
        spread = torch.linalg.vecdot(x, x)
        square = ((x.mT @ x) if x.shape[1] <= len(x) else gram(x)).square().sum()
        if measure == "cka_debiased":
            square = unbiased(square, spread.sum(), spread.sum(), spread.square().sum(), len(x))
            if square <= FAINT * spread.sum() ** 2:
                raise ConstantRepresentation(f"{NOTHING}; its similarity to anything is undefined")
        return Features(x, square, spread), ""

    return _kept(found.labels, make)


def vectors(found: Representations, measure: str, device: Any) -> Prepared:
    """The vectors whose cosines a measure of the CKA or RSA kind takes."""

    def make(at: int) -> tuple[Tensor, str]:
        in_order = measure == "cka_minibatch" and bool(found.features)
        note = order_note(normalized(*_features(found, at, device)), BATCH) if in_order else ""
        return _vector(found, at, measure, device), note

    return _kept(found.labels, make)


def bases(found: Representations, measure: str, device: Any) -> Prepared:
    """Whitened bases for canonical correlations, with notes on those that have few samples."""

    def make(at: int) -> tuple[Basis, str]:
        basis = whitened(_matrix(found, at, device), RULES[measure])
        return basis, check_samples(found.samples, len(basis.s))

    return _kept(found.labels, make)


def plain(found: Representations, measure: str, device: Any) -> Prepared:
    """Features as they are, for a measure that is computed pair by pair; of a Gram matrix, features that have it."""

    def make(at: int) -> tuple[Tensor, str]:
        x = _matrix(found, at, device)  # also where features were kept: it names a constant representation
        return _features(found, at, device)[0] if found.features else x, ""

    return _kept(found.labels, make)


def folded(found: Representations, device: Any) -> Prepared:
    """Features of norm 1 and at most n of them, for Procrustes."""

    def make(at: int) -> tuple[Tensor, str]:
        x = _matrix(found, at, device)
        x = fold(gram(x)) if x.shape[1] > len(x) else x
        return x / x.norm(), ""

    return _kept(found.labels, make)


def _kept(labels: Iterable[Any], make: Callable[[int], tuple[Any, str]]) -> Prepared:
    used, notes, forms = [], [], []
    for at, label in enumerate(labels):
        try:
            form, note = make(at)
        except (ConstantRepresentation, TooFewSamples) as error:
            notes.append(f"{label.layer}: {error}")
            continue
        used.append(at)
        forms.append(form)
        notes.append(f"{label.layer}: {note}" if note else "")
    return Prepared(used, notes, forms)


def _features(found: Representations, at: int, device: Any) -> tuple[Tensor, str]:
    name = f"{found.labels[at].layer!r}"
    return checked(found.features[at].to(device), name), name


def _matrix(found: Representations, at: int, device: Any) -> Tensor:
    """Centered features, or a matrix (n, n) that has the Gram matrix that was kept."""
    if found.features:
        return normalized(*_features(found, at, device))
    return fold(_gram(found, at, 0, device))


def _gram(found: Representations, at: int, batch: int, device: Any) -> Tensor:
    k = unpack(found.grams[batch][at].to(device, torch.float64))
    if not k.diagonal().any():
        raise ConstantRepresentation(f"{NOTHING}; its similarity to anything is undefined")
    return k / k.diagonal().max()


def _vector(found: Representations, at: int, measure: str, device: Any) -> Tensor:
    if measure == "cka_minibatch":
        blocks = [signature("cka_debiased", k) / (len(k) * (len(k) - 3)) ** 0.5 for k in _blocks(found, at, device)]
        vector, most = torch.cat(blocks), 0.0
    else:
        if measure == "rsa_correlation":
            k = gram(unit_rows(*_features(found, at, device)))
        elif found.features:
            k = gram(normalized(*_features(found, at, device)))
        else:
            k = _gram(found, at, 0, device)
        vector = signature("rsa" if measure == "rsa_correlation" else measure, k)
        most = float(k.trace()) ** 2 if measure == "cka_debiased" else 0.0
    if float(vector.square().sum()) <= FAINT * most:
        raise ConstantRepresentation(f"{NOTHING}; its similarity to anything is undefined")
    return vector


def _blocks(found: Representations, at: int, device: Any) -> list[Tensor]:
    """The Gram matrices of a representation's batches, all on one scale."""
    if found.features:
        x = normalized(*_features(found, at, device))
        return [gram(x[part]) for part in batches(len(x), BATCH)]
    if len(found.grams) == 1:
        k = _gram(found, at, 0, device)
        return [k[part, part] for part in batches(len(k), BATCH)]
    blocks = [unpack(packed[at].to(device, torch.float64)) for packed in found.grams]
    largest = max(float(k.diagonal().max()) for k in blocks)
    if largest == 0:
        raise ConstantRepresentation(f"{NOTHING}; its similarity to anything is undefined")
    return [k / largest for k in blocks]
