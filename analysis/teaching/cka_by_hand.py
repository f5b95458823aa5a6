"""Exercise t1: CKA of two small layers, step by step, and what the number can and cannot say."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from analysis.figures.charts import heat_map
from analysis.figures.style import axes, study_style
from analysis.representations.capture.represent import Representations, represent_model
from analysis.representations.comparison.compare import compare
from analysis.representations.measures.cka import cka, cka_debiased
from analysis.representations.run_similarity import whole_map_probe
from analysis.teaching.answers import Numbers, numbers, one_of
from analysis.teaching.hand_in import SEEDS
from analysis.teaching.session import Question, Session, against
from lib.data.tasks.images import first_images, standardize
from lib.networks.unet import build

STAGES = ["enc0", "enc1", "enc2", "enc3", "enc4", "dec3", "dec2", "dec1", "dec0"]
LEVELS = {"0": 0.0, "0.5": 0.5, "1": 1.0}
IMAGES = 48
CLEARLY = 0.25  # a similarity of untrained bottlenecks that nobody would call near 0


@dataclass
class CkaByHand(Session):
    """The session, with the layers `X` (n, 3) and `Y` (n, 5) of this student.

    changes: what becomes of X, in words; changed: the same as numbers. sizes: images and channels of the unrelated
    pairs. pairs: these, drawn.
    """

    X: Numbers = field(default_factory=lambda: np.empty(0))
    Y: Numbers = field(default_factory=lambda: np.empty(0))
    changes: dict[str, str] = field(default_factory=dict)
    changed: dict[str, Numbers] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    pairs: dict[str, tuple[Numbers, Numbers]] = field(default_factory=dict)


def begin(student: str = "") -> CkaByHand:
    """The exercise of a student: the data hang on the name."""
    session = CkaByHand("t1_cka_by_hand", student, {})
    rng = np.random.default_rng([session.seed, 1])
    n = int(rng.integers(6, 11))
    X = rng.normal(size=(n, 3)) + rng.integers(3, 8)
    session.X, session.Y = X, np.hstack([X[:, :1] * 2, rng.normal(size=(n, 4))])
    kept, lost = _changes(X, rng)
    drawn = [list(each.items())[at] for each, at in ((kept, rng.integers(len(kept))), (lost, rng.integers(len(lost))))]
    third = list({**kept, **lost}.items())
    drawn.append([each for each in third if each not in drawn][int(rng.integers(len(third) - 2))])
    for number, at in enumerate(rng.permutation(3), start=1):
        words, values = drawn[at]
        session.changes[f"change_{number}"], session.changed[f"change_{number}"] = words, values
    order = rng.permutation(3)[:2]
    for number, at in enumerate(order, start=1):
        name = f"unrelated_{number}"
        images, channels = [(20, 1000), (25, 25), (1000, 3)][at]
        session.sizes[name] = images, channels
        session.pairs[name] = rng.normal(size=(images, channels)), rng.normal(size=(images, channels))
    made = [*_steps(session.X, session.Y), *(_changed(name, X, values) for name, values in session.changed.items())]
    made += [_unrelated(name, *pair) for name, pair in session.pairs.items()]
    made += [_debiased(session.pairs["unrelated_1"]), _untrained(session.seed)]
    session.questions = {each.name: each for each in made}
    return session


def _steps(X: Numbers, Y: Numbers) -> list[Question]:
    """Center, compare images, overlap, divide."""
    n, p = X.shape
    A, B = X - X.mean(axis=0), Y - Y.mean(axis=0)
    K, L = A @ A.T, B @ B.T
    overlap, norms = (K * L).sum(), ((K * K).sum(), (L * L).sum())

    def raw(Z: Numbers) -> Numbers:
        return Z @ Z.T

    def gram(name: str, Z: Numbers, C: Numbers, other: Numbers, word: str) -> Question:
        lengths = np.sqrt((C**2).sum(axis=1))
        routes = [
            (C.T @ C, f"Yours compares features ({Z.shape[1]} x {Z.shape[1]}): rows times rows is {word} @ {word}.T."),
            (raw(Z.T), f"Yours compares features ({Z.shape[1]} x {Z.shape[1]}): rows times rows is {word} @ {word}.T."),
            (raw(Z), "Yours has the mean in it: take the centered matrix."),
            (raw(other), "That is the matrix of the other layer."),
            (C @ C.T / (n - 1), "You divided by n - 1 as for a covariance; here plain inner products are asked for."),
            (C @ C.T / n, "You divided by the number of images; here plain inner products are asked for."),
            (raw(C) / np.outer(lengths, lengths), "Yours are cosines: do not divide by the lengths of the rows."),
            (np.corrcoef(Z), "Yours are correlations; plain inner products of the centered rows are asked for."),
            (np.cov(Z), "Yours are covariances over the features; take the mean off the columns, not off the rows."),
        ]
        hint = f"One row and one column per image: {n} x {n}. All inner products at once: {word} @ ..."
        return Question(name, numbers, against(lambda: C @ C.T, lambda: routes, hint), needs=("X_centered",))

    centered = [
        (X - X.mean(axis=1, keepdims=True), "You took the mean of every row (an image); take that of every column."),
        (X - X.mean(), "You took one mean over all numbers; every column has its own: mean(axis=0)."),
        (X, "That is X itself: the columns still have their means."),
        (X + X.mean(axis=0), "You added the mean; take it off."),
        (X.mean(axis=0), "Those are the means; take them off X."),
        (A / X.std(axis=0), "You divided by the standard deviation, too. Only the mean has to go."),
        (A / X.std(axis=0, ddof=1), "You divided by the standard deviation, too. Only the mean has to go."),
        (A.T, "Right numbers, lying on their side: keep images as rows."),
    ]
    size = [
        ([p, p], f"{p} is the number of features of X: that would compare features."),
        ([5, 5], "5 is the number of features of Y: that would compare features."),
        ([n, p], "That is the size of X. How many pairs of images are there?"),
        ([p, 5], "Features of X against features of Y cannot be compared; images can."),
        (n, "Two numbers: rows and columns."),
        (n * n, "That is the number of entries; two numbers are asked for, rows and columns."),
    ]
    sums = [
        (np.trace(raw(X) @ raw(Y)), "Your K and L still hold the mean: center first."),
        ((K @ L).sum(), "@ multiplies matrices, and all of that adds up to 0 here: entry by entry is *."),
        ((K * L).mean(), "You took the mean; add up."),
        ((K + L).sum(), "Multiply entry by entry, then add up; you added."),
        (K * L, "Entry by entry is right; now add everything up."),
        ((A.T @ A).sum() * (B.T @ B).sum(), "Those are sums over features; K and L compare images."),
    ]
    ratios = [
        (overlap, "That is still the overlap: divide by what each matrix gives with itself."),
        (overlap / (norms[0] * norms[1]), "The square root is missing, as in a cosine."),
        (overlap / np.sqrt(norms[0]) / norms[1], "The root belongs over both factors."),
        (overlap**2 / (norms[0] * norms[1]), "That is the square of it."),
        (_uncentered(X, Y), "That is the cosine without centering: take the mean off first."),
        (cka_debiased(X, Y), "That is the debiased form, which comes later."),
    ]
    same = f"The study's own cka(X, Y) says {cka(X, Y):.4f}, too."
    return [
        Question("X_centered", numbers, against(lambda: A, lambda: centered, "Take off every column its own mean.")),
        Question("size", numbers, against(lambda: [n, n], lambda: size, "How many images are compared with how many?")),
        gram("K", X, A, B, "X_centered"),
        gram("L", Y, B, A, "Y_centered"),
        Question(
            "overlap", numbers, needs=("K", "L"),
            judge=against(lambda: overlap, lambda: sums, "Entry by entry is *, and sum() adds up."),
        ),
        Question(
            "by_hand", numbers, needs=("K", "L", "overlap"), told=lambda value: same,
            judge=against(lambda: cka(X, Y), lambda: ratios, "overlap / np.sqrt(K with itself * L with itself)"),
        ),
    ]  # fmt: skip


def _uncentered(X: Numbers, Y: Numbers) -> float:
    K, L = X @ X.T, Y @ Y.T
    return float((K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum()))


def _changes(X: Numbers, rng: np.random.Generator) -> tuple[dict[str, Numbers], dict[str, Numbers]]:
    """Changes of a layer in words: those that CKA does not see, and those that it does."""
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    kept = {
        "X is rotated (times an orthogonal matrix)": X @ rotation,
        "the channels of X change places": X[:, [2, 0, 1]],
        "all of X is doubled": 2 * X,
        "3 is added to the first channel of X": X + np.array([3, 0, 0]),
        "the second channel of X changes its sign": X * [1, -1, 1],
    }
    lost = {
        "the first channel of X is stretched tenfold": X * [10, 1, 1],
        "the last channel of X is switched off": X * [1, 1, 0],
        "the images (rows) of X change places": np.roll(X, 1, axis=0),
    }
    return kept, lost


def _changed(name: str, X: Numbers, changed: Numbers) -> Question:
    value = cka(X, changed)
    truth = "same" if value > 1 - 1e-9 else "lower"
    hint = (
        "K is made of inner products of centered images: write them down after the change. Do their ratios stay?"
        if truth == "same"
        else "Look at K: which images are alike now, and are they the same ones as before?"
    )
    told = f"CKA with X is {value:.4f}."
    return Question(name, one_of("same", "lower"), against(lambda: truth, lambda: [], hint), lambda value: told)


def _unrelated(name: str, A: Numbers, B: Numbers) -> Question:
    value = cka(A, B)
    truth = min(LEVELS, key=lambda each: abs(LEVELS[each] - value))
    n, p = A.shape
    hints = {
        "1": f"With {p} channels and {n} images an image is alike to itself and to no other, in both layers.",
        "0": f"With {n} images and {p} channels most of K lies off its diagonal, and there the layers disagree.",
        "0.5": "As many channels as images: the diagonals of K and L, which agree, weigh as much as all the rest.",
    }
    told = f"It is {value:.3f}. For independent channels it is about channels / (channels + images)."
    return Question(name, one_of(*LEVELS), against(lambda: truth, lambda: [], hints[truth]), lambda value: told)


def _debiased(pair: tuple[Numbers, Numbers]) -> Question:
    values = cka(*pair), cka_debiased(*pair)
    truth = min(LEVELS, key=lambda each: abs(LEVELS[each] - values[1]))
    told = f"Plain {values[0]:.3f}, debiased {values[1]:.3f}."
    hint = "It corrects for what chance alone gives. What should be left of two layers with nothing in common?"
    return Question("debiased", one_of(*LEVELS), against(lambda: truth, lambda: [], hint), lambda value: told)


def _untrained(seed: int) -> Question:
    hint = "Nothing was learned, but both see the same bright and dark images."
    return Question(
        "untrained",
        one_of("near 0", "far above 0"),
        against(lambda: "far above 0", lambda: [], hint),
        lambda value: f"Debiased CKA of the two bottlenecks is {_bottom(seed):.2f}.",
    )


def _bottom(seed: int) -> float:
    return float(list(untrained_maps(seed)[0].values())[1].values[4, 4])


@lru_cache(maxsize=2)
def untrained_maps(seed: int) -> tuple[dict[str, Any], str]:
    """Maps of two untrained networks, by title, and what they are of; each seed draws other weights."""
    pictures = standardize(torch.from_numpy(first_images("sim_radiograph", IMAGES, 64)[0])[:, None])
    first = _represented(2 * seed, pictures)
    for attempt in range(10):  # five pairs in two hundred lie too low to be called either
        second = _represented(2 * seed + 1 + 2 * SEEDS * attempt, pictures)
        between = compare(first, second)
        if between.values[4, 4] > CLEARLY:
            break
    maps = {"network 0 | with itself": compare(first), "network 0 (rows) | with network 1": between}
    return maps, f"debiased CKA, {first.about}"


def _represented(seed: int, pictures: torch.Tensor) -> Representations:
    network = build(width=8, depth=4, norm="batch", seed=seed).eval()
    return represent_model(network, STAGES, whole_map_probe(pictures))


def layers_table(session: CkaByHand) -> pd.DataFrame:
    """What `layers_figure` shows, one row a number: layer, image, feature (both from 1), value."""
    tables = []
    for layer, values in {"X": session.X, "Y": session.Y}.items():
        image, feature = (each.ravel() + 1 for each in np.indices(values.shape))
        tables.append(pd.DataFrame({"layer": layer, "image": image, "feature": feature, "value": values.ravel()}))
    return pd.concat(tables, ignore_index=True)


@study_style
def layers_figure(session: CkaByHand) -> Axes:
    """The two layers as tables of numbers in gray: images down, features across."""
    ax = axes(None, width=6.0, height=0.35 * len(session.X) + 1.2)
    both = pd.DataFrame(np.hstack([session.X, np.full((len(session.X), 1), np.nan), session.Y]))
    both.index = [f"image {number}" for number in range(1, len(both) + 1)]
    words = np.where(both.isna(), "", both.map("{:.1f}".format))
    heat_map(ax, both, session.X.min() - 4, 2 * np.nanmax(both), colors="gray_r", words=words)
    ax.set_xticks([1.5, 6.5], ["X: 3 features", "Y: 5 features"])
    return ax
