"""The claims ledger (notebook 10): every claim of claims.toml tested, as rows, table and figure.

Read `claims.toml` (words and thresholds), `evaluate`, then `table` and `figure`.
"""
