"""Which of two panels was trained? Pairs of kernels, trained and fresh, in an order that only the answer tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats as sps
from torch import Tensor

from lib.common.errors import StudyError


@dataclass(frozen=True)
class PanelPair:
    """One pair of panels: `panels` maps "A" and "B" to weights; `answer` is the trained one."""

    layer: str
    panels: Mapping[str, Mapping[str, Tensor]]
    answer: str


def panel_pairs(trained: Mapping[str, Tensor], layers: Sequence[str], *, seed: int = 0) -> list[PanelPair]:
    """One pair per layer: its trained weights beside a fresh Gaussian draw of the same size, in random order.

    The fresh filters have, one by one, the length of the trained ones, so that no scale gives the answer away.

    Raises:
        StudyError: a layer is not there.
    """
    rng = np.random.default_rng(seed)
    made = []
    for layer in layers:
        name = f"{layer}.weight"
        if name not in trained:
            raise StudyError(f"the network must have the layer {layer!r}, got {', '.join(trained)}")
        weight = trained[name]
        fresh = torch.from_numpy(rng.normal(size=tuple(weight.shape))).to(weight)
        across = tuple(range(1, weight.dim()))
        lengths = [torch.linalg.vector_norm(each, dim=across, keepdim=True) for each in (weight, fresh)]
        fresh = fresh * (lengths[0] / lengths[1])
        answer = "AB"[int(rng.integers(2))]
        other = "B" if answer == "A" else "A"
        made.append(PanelPair(layer, {key: {name: {answer: weight, other: fresh}[key]} for key in "AB"}, answer))
    return made


def score(made: Sequence[PanelPair], guesses: str) -> tuple[pd.DataFrame, float]:
    """How well guesses fit: layer, guess, trained, right; and the chance of so many right by tossing a coin.

    Args:
        guesses: a letter per pair, such as "ABBA".

    Raises:
        StudyError: not one A or B per pair.
    """
    letters = guesses.upper()
    if len(letters) != len(made) or set(letters) - set("AB"):
        raise StudyError(f"guesses must be {len(made)} letters, each A or B, got {guesses!r}")
    rows = [(each.layer, guess, each.answer, guess == each.answer) for each, guess in zip(made, letters, strict=True)]
    table = pd.DataFrame(rows, columns=["layer", "guess", "trained", "right"])
    return table, float(sps.binom.sf(int(table.right.sum()) - 1, len(table), 0.5))
