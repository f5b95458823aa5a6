"""The reading side: runs become tidy tables, verdicts on published claims, figures and reports.

Instruments first (`statistics`, `tables`, `filters`, `figures`, `representations`), then `claims` with a package per
notebook and the ledger, then `reports` and `teaching`.
"""
