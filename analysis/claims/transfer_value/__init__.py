"""What transfer is worth: accuracy and time saved (notebook 03, claims K1 to K3).

Read `claim_tests`, then `figures` and `drawings`; the tables are `analysis.tables.paired_gains` and `convergence`.
"""

from __future__ import annotations

# These register their tests of claims.
from analysis.claims.transfer_value import claim_tests as claim_tests
