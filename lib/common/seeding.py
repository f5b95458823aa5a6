"""Random generators that are a pure function of a key, such as (seed, purpose, step)."""

from __future__ import annotations

import numpy as np
import torch


def generator(*key: int) -> torch.Generator:
    """A CPU random generator that is a pure function of `key`, e.g. (seed, purpose, step).

    It always lives on the CPU, so that a run draws the same numbers whatever device it trains on.
    """
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
