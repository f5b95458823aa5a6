"""How every figure looks, and the figures that belong to no single topic.

Read `style` and `charts` (what seaborn draws), then `performance` (curves and scores) and `images`; `described` puts a
figure into words, `dark` into the colors of a dark page. Figures of a topic lie with it, as `figures.py`.
"""

from __future__ import annotations

from analysis.figures.images import example_grid, example_table, image_grid, picture_table, real_and_simulated
from analysis.figures.performance import accuracy_by_volume, learning_curves, learning_rates, strategy_scores

__all__ = [
    "accuracy_by_volume", "example_grid", "example_table", "image_grid", "learning_curves", "learning_rates",
    "picture_table", "real_and_simulated", "strategy_scores",
]  # fmt: skip
