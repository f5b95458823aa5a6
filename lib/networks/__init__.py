"""Networks made of named stages, their initial weights, and weights read from files.

Read `stages` (what a strategy knows of a network), `unet` and `cascade`, then `initial_weights`, `checkpoint_files`
and `loading`.
"""

from __future__ import annotations

from lib.networks.unet import build

__all__ = ["build"]
