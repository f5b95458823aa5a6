"""How the map of a layer becomes rows: the mean over space, channels at drawn places, or the whole map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.common.errors import StudyError, nearest

REDUCTIONS = ("pool", "positions", "flatten")
CHANNELS = ("first", "last")


@dataclass(frozen=True)
class Reduction:
    """How a map (n, c, *space) becomes samples by features; it stands in every table made from it.

    Args:
        kind: `pool`: the mean over space, (n, c), one sample an image. `flatten`: the whole map, (n, c * space), one
            sample an image. `positions`: channels at places drawn at random, (n * per_image, c), one sample a place.
            The places are the same for every layer, relative to the size of its map, so that rows correspond.
        per_image: places an image, for `positions`.
        seed: of the places.
        channels: which axis of an output holds the channels: `first`, as convolutions give them, (n, c, *space), or
            `last`, as transformers do, (n, tokens, c), (n, h, w, c) or (n, x, y, z, c). None takes `first` where the
            shape leaves no doubt, and refuses the others.
    """

    kind: str = "pool"
    per_image: int = 16
    seed: int = 0
    channels: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in REDUCTIONS:
            raise StudyError(nearest("reduction", self.kind, REDUCTIONS))
        if self.channels not in (None, *CHANNELS):
            raise StudyError(nearest("channels", self.channels, CHANNELS))
        if self.per_image < 1:
            raise StudyError(f"per_image must be at least 1, got {self.per_image}")

    def __str__(self) -> str:
        kind = f"positions({self.per_image}, seed {self.seed})" if self.kind == "positions" else self.kind
        return f"{kind}, channels last" if self.channels == "last" else kind

    def places(self, first: int, count: int, dim: int) -> np.ndarray:
        """Relative places (count, per_image, dim) in [0, 1) in the images `first ... first + count - 1`."""
        draws = [
            np.random.default_rng([self.seed, first + each]).random((self.per_image, dim)) for each in range(count)
        ]
        return np.stack(draws)

    def apply(self, output: Tensor, first: int) -> Tensor:
        """Rows of the output (n, c, *space) of the images that begin with number `first`; (n, p) stays as it is."""
        if output.ndim == 2:
            return output
        if self.kind == "flatten":
            return flattened(output)
        output = self._channels_first(output.to(torch.promote_types(output.dtype, torch.float32)))
        if self.kind == "pool":
            return output.flatten(2).mean(2)
        count, space = len(output), output.shape[2:]
        places = torch.from_numpy(self.places(first, count, len(space))).to(output.device)
        index = [(places[..., axis] * side).long() for axis, side in enumerate(space)]
        image = torch.arange(count, device=output.device)[:, None].expand(-1, self.per_image)
        return output.movedim(1, -1)[(image, *index)].flatten(0, 1)

    def _channels_first(self, output: Tensor) -> Tensor:
        """The output as (n, c, *space).

        Raises:
            StudyError: its shape may be either, and `channels` was not given.
        """
        shape = tuple(output.shape)
        long = len(shape) == 4 and max(shape[2:]) >= 2 * min(shape[2:])  # no map is, of images that are about square
        square_last = long and shape[1] == shape[2]
        cube_last = len(shape) == 5 and len(set(shape[1:4])) == 1 and shape[4] >= 2 * shape[3]
        if self.channels is None and (len(shape) < 4 or square_last or cube_last):
            reading = "(n, tokens, c) or (n, c, length)"
            if len(shape) > 3:
                reading = f"(n, {'h, w' if len(shape) == 4 else 'x, y, z'}, c), channels last"
            raise StudyError(
                f"an output of shape {shape} may be {reading}: say which axis holds the channels, with "
                f"Reduction({self.kind!r}, channels='last') or channels='first'"
            )
        return output.movedim(-1, 1) if self.channels == "last" else output


def flattened(output: Tensor) -> Tensor:
    """Outputs (n, c, *space) as rows (n, c * space), in the order in which they lie in memory: nothing is copied.

    The order of features, which depends on whether channels come last there, is free: no measure here depends on it.
    """
    return output.flatten(1) if output.ndim == 2 or output.is_contiguous() else output.movedim(1, -1).flatten(1)
