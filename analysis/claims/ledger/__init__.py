"""The claims ledger (notebook 10): every claim of claims.toml tested, as rows, table and figure.

Read `claims.toml` (words and thresholds), `evaluate`, `decide` (the one rule), then `growth` (seeds where they are
needed) and `spent`, or `table` and `figure`.
"""
