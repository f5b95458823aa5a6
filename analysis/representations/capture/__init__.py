"""Representations of a network on probe images, computed once and kept on disk.

Read `reduction` (maps to rows), `activations` (one network), `streamed_grams` (maps too large to keep), then
`represent` (many checkpoints).
"""
