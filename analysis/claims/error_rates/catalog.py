"""All scenes, by claim."""

from __future__ import annotations

from analysis.claims.error_rates import layer_sets, networks, reconstruction, segmentation

EXACT = {"L8": "exact: tensors are the same bit for bit or they are not, and nothing is drawn"}
SCENES = {each.id: each for part in (segmentation, layer_sets, reconstruction, networks) for each in part.SCENES}
