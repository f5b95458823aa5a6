"""Moving a reconstruction network by scale and shift factors alone (notebook 05, claims L1 to L6 and L8).

Read `tables`, `claim_tests`, then what the notebook shows beside: `classical_baselines`, `reconstructions`,
`example_images`, and `figures` and `image_figures`. L7 is about filters and stands in `filter_change`.
"""

from __future__ import annotations

# These register their tests of claims.
from analysis.claims.linear_finetuning import claim_tests as claim_tests
