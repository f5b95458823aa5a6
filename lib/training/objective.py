"""What every goal gives the training loop: inputs, loss and evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from lib.networks.stages import Staged
from lib.runs.spec import RunSpec

Through = Callable[[Tensor], Tensor]  # network inputs -> output, batch by batch
# Indices -> what the network makes of the images there. Of volumes they are numbers of windows.
Predict = Callable[[np.ndarray], Tensor]


EVALUATION_BATCH, EVALUATION_VOXELS = 64, 2**18


def evaluation_batch(spec: RunSpec) -> int:
    """How many inputs a network is given at once where it is evaluated: images, or in 3-D windows."""
    return EVALUATION_BATCH if spec.dim == 2 else max(1, EVALUATION_VOXELS // math.prod(spec.patch))


class Feed(Protocol):
    """The batches of several runs of one goal, that are trained together."""

    recorded: bool  # whether `at` reads the step from `place` and works on the device alone: a CUDA graph can hold it

    def at(self, step: int, place: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and truth of a step for every run, (runs, batch, ...).

        Args:
            place: the step as a tensor on the device.
        """
        ...


class Objective(Protocol):
    """What the training loop asks of a goal."""

    validated: tuple[np.ndarray, ...]  # the sets of images that `validate` asks predictions of
    typical: np.ndarray  # images that stand for those of the training

    @staticmethod
    def together(runs: Sequence[Any], steps: int) -> Feed:
        """The batches of the steps of several runs of this goal."""
        ...

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Network inputs and truth of a step, a pure function of (seed, step)."""
        ...

    def inputs(self, index: np.ndarray) -> Tensor:
        """Network inputs of the images at `index`, the same at every call."""
        ...

    def output(self, model: Staged, inputs: Tensor) -> Tensor:
        """What the network makes of inputs: logits (n, h, w), or images (n, 2, h, w)."""
        ...

    def loss(self, output: Tensor, truth: Tensor) -> Tensor:
        """What a step minimizes."""
        ...

    def validate(self, predict: Predict) -> dict[str, float]:
        """`val_loss`, `val_` with the name of every score, and whatever else a line of metrics.jsonl should say."""
        ...

    def test(self, predict: Predict) -> dict[str, Any]:
        """What result.json says under "test"."""
        ...

    def further(self, model: Staged, start: Mapping[str, Tensor], through: Through) -> dict[str, Any]:
        """What else result.json says of a trained model against that of its `start`, in which it leaves it."""
        ...
