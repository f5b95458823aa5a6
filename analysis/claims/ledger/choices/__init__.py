"""Does a verdict hang on the study's own choices? Every row of the ledger under the alternatives to them.

Read `alternatives` (what else could have been chosen), `specifications` (a whole ledger under each, and the share that
agrees), then `figure` (a specification curve per claim; Simonsohn, Simmons and Nelson 2020, Nature Human Behaviour 4).
"""

from __future__ import annotations
