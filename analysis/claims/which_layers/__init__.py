"""Which layers of a U-Net to tune (notebook 04, claims A1 to A9).

Read `layer_sets` (tables), `claim_tests`, `tuning_speed` (with A4), `texture_or_shape` (with A8), `recommendation`,
`agreement` (with trained runs), `take_home` (as a command), then `figures`.
"""

from __future__ import annotations

# These register their tests of claims.
from analysis.claims.which_layers import claim_tests as claim_tests
from analysis.claims.which_layers import texture_or_shape as texture_or_shape
from analysis.claims.which_layers import tuning_speed as tuning_speed
