"""How every figure looks, and the figures that belong to no single topic.

Read `style`, then `performance` (curves and scores) and `images`. Figures of a topic lie with it, as `figures.py`.
"""

from __future__ import annotations

from analysis.figures.images import example_grid, image_grid, real_and_simulated
from analysis.figures.performance import accuracy_by_volume, learning_curves, learning_rates, strategy_scores

__all__ = [
    "accuracy_by_volume", "example_grid", "image_grid", "learning_curves", "learning_rates", "real_and_simulated",
    "strategy_scores",
]  # fmt: skip
