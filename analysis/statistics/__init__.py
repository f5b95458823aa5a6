"""Statistics for few replicates, as pure functions on numbers, and the laws of random matrices.

Read `intervals`, `tests` (many p-values), `moderation` (variances of few replicates), `looks` (more than one look),
then `random_matrices` (null distributions of spectra).
"""
