"""How far filters move (notebook 06, claims K4 and L7).

Read `tables`, `claim_tests`, then `figures`; the measurements are `analysis.filters.change`.
"""

from __future__ import annotations

# These register their tests of claims.
from analysis.claims.filter_change import claim_tests as claim_tests
