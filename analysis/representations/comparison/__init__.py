"""Every representation against every other, with errors.

Read `compare` (the table), below it `precomputed` (what each representation contributes alone) and `all_pairs` (the
products), then `uncertainty` (errors, intervals and tests).
"""
