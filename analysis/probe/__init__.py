"""Checkpoints of any network, looked at with the study's instruments: what the report `probe` is made of.

Read `kept` (what is computed once), `networks` (a network and its layers), `probe_images`, `subjects` (what is to be
looked at), `weights_alone`, `with_images`, then `figures`.
"""

from __future__ import annotations

from analysis.probe.subjects import open_subjects
from analysis.probe.weights_alone import moves, randomness
from analysis.probe.with_images import activations_of, dimensions, similarities

__all__ = ["activations_of", "dimensions", "moves", "open_subjects", "randomness", "similarities"]
