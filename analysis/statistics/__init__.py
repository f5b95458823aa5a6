"""Statistics for few replicates, as pure functions on numbers, and the laws of random matrices.

Read `intervals`, `tests` (p-values), `power`, then `random_matrices` (null distributions of spectra).
"""
