"""The published claims: one package per notebook with its tables, tests of claims and figures, and the ledger.

Read `verdicts` (a claim, its test, what a test finds), `means` and `evidence` (numbers against lines), `per_run_test`,
then the topic you came for, named as its notebook without the number; `ledger` evaluates them all, and `choices` does
so under the alternatives to the study's choices. Where is K6? Its row in the ledger names notebook, figure and test.
"""

from __future__ import annotations

from analysis.claims.ledger.choices.specifications import agreeing_choices, suite_choices, with_agreement
from analysis.claims.ledger.evaluate import evaluate, load_claims, write_claims_file
from analysis.claims.ledger.findings import show_findings
from analysis.claims.ledger.kept import suite_ledger
from analysis.claims.ledger.spent import looks_taken, rows_ended, seeds_spent
from analysis.claims.ledger.table import verdict_table

__all__ = ["agreeing_choices", "evaluate", "load_claims", "looks_taken", "rows_ended", "seeds_spent", "suite_choices"]
__all__ += ["show_findings", "suite_ledger", "verdict_table", "with_agreement", "write_claims_file"]
