"""What layers compute and how similar it is (notebook 08).

Read `measures` (of two matrices), `capture` (activations of a network), `comparison` (all pairs), which know of no
run; then `run_similarity` and `evolution` (the study's runs) and `figures`.
"""

from __future__ import annotations

from analysis.representations.capture.activations import activations
from analysis.representations.capture.reduction import Reduction
from analysis.representations.capture.represent import Probe, represent, represent_all, represent_model
from analysis.representations.comparison.compare import Map, compare
from analysis.representations.measures.catalog import MEASURES
from analysis.representations.measures.cka import cka, cka_debiased

__all__ = [
    "MEASURES", "Map", "Probe", "Reduction", "activations", "cka", "cka_debiased", "compare", "represent",
    "represent_all", "represent_model",
]  # fmt: skip
