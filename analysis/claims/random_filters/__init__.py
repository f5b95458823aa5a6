"""Do trained filters look random, and do frozen random encoders suffice? (notebook 07, claims K5 to K7)

Read `claim_tests` (K5), `frozen_encoder` (K6, K7), then `figures`; the battery is `analysis.filters.randomness`.
"""

from __future__ import annotations

# These register their tests of claims.
from analysis.claims.random_filters import claim_tests as claim_tests
from analysis.claims.random_filters import frozen_encoder as frozen_encoder
