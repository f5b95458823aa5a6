"""The pages in front of the reports: the gallery of a suite, its ledger, two ledgers side by side, all suites.

Read `rows` (a ledger as a page shows it), `forest` (intervals against their lines), then the page that you came for.
"""
