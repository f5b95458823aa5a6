"""Filters of a network: how far they moved, matched between networks, and whether they look random.

Read `kernels` (weights as filters), `change` and `other_tensors` (between two checkpoints), `matching`,
`scale_factors`, then the package `randomness`.
"""

from __future__ import annotations

from analysis.filters.change import filter_change, filter_change_of_run, filter_change_over_training
from analysis.filters.randomness.battery import battery, rejections

__all__ = ["battery", "filter_change", "filter_change_of_run", "filter_change_over_training", "rejections"]
