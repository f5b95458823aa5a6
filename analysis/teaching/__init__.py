"""What the teaching notebooks share: checks of answers, a clickable U-Net, a quiz.

Read `answers`, `layer_chooser`, `trained_or_random`.
"""

from __future__ import annotations

from analysis.teaching.answers import check

__all__ = ["check"]
