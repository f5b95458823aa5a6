"""What a segmentation network gives out: logits as they are compared with masks, and the masks that they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.networks.stages import Staged


def network_output(model: Staged, inputs: Tensor) -> Tensor:
    """Logits of a network (n, labels, *size), or without their axis (n, *size) where there is one output."""
    logits = model(inputs).float()
    return logits[:, 0] if logits.shape[1] == 1 else logits


def masks_of(output: Tensor, labels: Sequence[str]) -> Tensor:
    """The masks (n, h, w), or (n, x, y, z), that logits stand for: 0 and 1, or labels by number."""
    return (output.argmax(1) if labels else output > 0).to(torch.uint8)
