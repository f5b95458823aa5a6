"""What is planted for a claim: how large an effect is of interest, and studies at any number of seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.claims.error_rates.study import Study
from analysis.claims.verdicts import Claim


@dataclass(frozen=True)
class Scene:
    """A claim with its smallest effect of interest.

    effect: how far each knob of the study is turned, in the unit of the part that it moves; why: the reason.
    fewest: seeds below which the claim is not tested. one_is_enough: whether one knob beyond its line makes the claim
    hold. copies: findings that one table gives (tests that count tasks, or ask of all cells, give one).
    """

    id: str
    effect: tuple[float, ...]
    why: str
    build: Callable[[Claim, int, int], Study]
    fewest: int = 3
    one_is_enough: bool = False
    copies: int = 20
