"""Transfer strategies: where weights start, and what may change in the second training.

Read `strategy` (the contract), `catalog` (every strategy, one entry each), then what they are made of: `adapters`,
`partial_layers`, `frozen_normalization`.
"""

from __future__ import annotations

from lib.strategies import catalog as catalog
from lib.strategies.strategy import STRATEGIES, Strategy

__all__ = ["STRATEGIES", "Strategy"]
