"""Networks as users elsewhere write them, for notebooks and for trying things on: they know nothing of this study.

Read `residual`.
"""
