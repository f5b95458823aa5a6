"""From a specification to a finished run: the loop, objectives, batches and metrics.

Read `loop`, then what it calls: `objective` with `segmentation` and `reconstruction`, `batches`, `optimizer`; the
metrics stand in `segmentation_metrics` and `reconstruction_metrics`.
"""

from __future__ import annotations

from lib.training.loop import train

__all__ = ["train"]
