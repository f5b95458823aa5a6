"""Which layers are reused, and how much runs vary (notebook 09, claims K8 to K10).

Read `layer_reuse` and `variability` (tables), `claim_tests`, then `figures`.
"""

from __future__ import annotations

# These register their tests of claims.
from analysis.claims.feature_reuse import claim_tests as claim_tests
