"""All scenes, by claim, in the order of claims.toml."""

from __future__ import annotations

from analysis.claims.error_rates import layer_sets, networks, reconstruction, segmentation
from analysis.claims.ledger.evaluate import load_claims

EXACT = {"L8": "exact: tensors are the same bit for bit or they are not, and nothing is drawn"}
_FOUND = {each.id: each for part in (segmentation, layer_sets, reconstruction, networks) for each in part.SCENES}
SCENES = {claim.id: _FOUND[claim.id] for claim in load_claims() if claim.id not in EXACT}
