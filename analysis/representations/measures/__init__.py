"""Measures of similarity between two representations (n, p) and (n, q).

Read `gram` (checks and Gram matrices that all share), `cka`, `cca`, `procrustes`, `rsa`, then `catalog` (what each
declares), `conformance` and `anatome_check` (is an implementation right?).
"""
