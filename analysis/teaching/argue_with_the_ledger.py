"""Exercise t4: thresholds of claims are changed in a copy, and the study's own rule says which verdicts move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.tables.results import run_and_evaluation_tables
from analysis.teaching.answers import Numbers, numbers, one_of, sentence
from analysis.teaching.hand_in import seed_of
from analysis.teaching.ledger_copy import LedgerCopy, row_name
from analysis.teaching.planted_results import planted_results
from analysis.teaching.session import Question, Session, against
from lib.study.plan import finished_runs, load_suite

DECIDED = ("supported", "contradicted")
WORDS = (*DECIDED, "inconclusive")
MARGINS = (0.005, 0.015, 0.05, 0.08, 0.15)
CHANGES = (("K6", "margin", 0.5), ("K6", "margin", 2.0), ("K1", "ratio", 0.7), ("K2", "spread", 4.0))
STRICT = 0.01


@dataclass
class ArgueWithTheLedger(Session):
    """The session: a ledger, and the row, the aim and the change that this student is asked about."""

    ledger: LedgerCopy = field(kw_only=True)
    row: str = ""
    aim: tuple[str, str] = ("", "")
    change: tuple[str, str, float] = CHANGES[0]

    def asked(self, name: str) -> str:
        """The words of a question that differ from student to student."""
        claim, threshold, factor = self.change
        value = self.ledger.threshold(claim, threshold)
        return {
            "reading": f"Your row: {self.row}",
            "margin": f"Your aim: K6 on {self.aim[0]} shall be {self.aim[1]}",
            "moved": f"Your change: {threshold} of {claim} from {value:g} to {value * factor:g}",
        }[name]

    def drawn_change(self) -> dict[str, dict[str, float]]:
        """The change that this student is asked about."""
        claim, threshold, factor = self.change
        return {claim: {threshold: factor * self.ledger.threshold(claim, threshold)}}


def begin(student: str = "", suite: str = "class") -> ArgueWithTheLedger:
    """The exercise of a student: what is asked hangs on the name, and the results too where the suite has none."""
    runs = finished_runs(load_suite(suite))
    ledger = LedgerCopy(*run_and_evaluation_tables(runs), f"{len(runs)} finished runs of the suite {suite}")
    if not _can_be_argued(ledger):
        about = f"a planted table, as no line that is moved would move a verdict of the suite {suite}"
        ledger = LedgerCopy(*planted_results(seed_of(student)), about)
    aims = _aims(ledger)
    session = ArgueWithTheLedger("t4_argue_with_the_ledger", student, {}, ledger=ledger)
    rng = np.random.default_rng([session.seed, 5])
    session.aim = aims[int(rng.integers(len(aims)))]
    rows = ledger.rows()
    session.row = row_name(rows[int(rng.integers(len(rows)))])
    moving = [each for each in CHANGES if _moves(ledger, each)] or list(CHANGES)
    session.change = moving[int(rng.integers(len(moving)))]
    made = [_reading(session), _strict(session), _fragile(session), _moved(session), _margin(session), _others(session)]
    after = "You looked for the threshold that gave the verdict. How often would somebody who does so find one?"
    made += [
        Question(
            "still_five_percent", one_of("yes", "no"), against(lambda: "no", lambda: [], after),
            lambda value: "The rate holds for lines drawn before anybody looks; that is why claims.toml comes first.",
        ),
        Question("defended", sentence(12), lambda value: "", lambda value: "Your teacher will read it."),
    ]  # fmt: skip
    session.questions = {each.name: each for each in made}
    return session


def _by_effect(row: Mapping[str, Any]) -> str:
    """What somebody says who looks at the effect and not at its interval."""
    over = row["effect"] > row["line"]
    return "supported" if over == (row["side"] == "above") else "contradicted"


def _aims(ledger: LedgerCopy) -> list[tuple[str, str]]:
    """Tasks and verdicts of K6 that some margin gives, and today's does not."""
    today = {row["task"]: row["verdict"] for row in ledger.rows() if row["id"] == "K6"}
    found = []
    for margin in MARGINS:
        for row in ledger.rows({"K6": {"margin": margin}}):
            new = (row["task"], row["verdict"])
            if row["id"] == "K6" and new[1] != today.get(new[0]) and new not in found:
                found.append(new)
    return found


def _can_be_argued(ledger: LedgerCopy) -> bool:
    """Whether students can be asked different things: rows of more than one word, some of which a change moves."""
    words = {row["verdict"] for row in ledger.rows()}
    return len(words) > 1 and len(_aims(ledger)) > 1 and any(_moves(ledger, each) for each in CHANGES)


def _moves(ledger: LedgerCopy, change: tuple[str, str, float]) -> bool:
    claim, threshold, factor = change
    table = ledger.what_if({claim: {threshold: factor * ledger.threshold(claim, threshold)}})
    return bool(table.moved.any())


def _reading(session: ArgueWithTheLedger) -> Question:
    def judge(value: str) -> str:
        row = next(row for row in session.ledger.rows() if row_name(row) == session.row)
        truth = row["verdict"]
        if value == truth:
            return ""
        if truth == "inconclusive":
            why = "You looked at the effect alone. " if value == _by_effect(row) else ""
            return f"{why}Does the whole interval lie on one side of the line?"
        if value == "inconclusive":
            return "Does the interval reach over the line? Compare both its ends with it."
        return f"The claim holds {row['side']} the line. On which side does the interval lie?"

    return Question("reading", one_of(*WORDS), judge)


def _strict(session: ArgueWithTheLedger) -> Question:
    def count(key: str, line: float) -> int:
        return sum(row[key] is not None and row[key] <= line for row in session.ledger.rows())

    def truth() -> int:
        return sum(row["verdict"] in DECIDED for row in session.ledger.rows(alpha=STRICT))

    def routes() -> list[tuple[int, str]]:
        return [
            (count("p", STRICT), "You counted p. With many rows some are small by luck; the rule uses adjusted p."),
            (count("adjusted", 0.05), "That is how many are decided at 5 %."),
            (len(session.ledger.rows()) - truth(), "Those are the rows that are not decided."),
        ]

    return Question("strict", numbers, against(truth, routes, f"Rows whose adjusted p is at most {STRICT}."))


def _fragile(session: ArgueWithTheLedger) -> Question:
    def truth() -> int:
        return sum(row["fragile"] for row in session.ledger.rows())

    def routes() -> list[tuple[int, str]]:
        rows = session.ledger.rows()
        low = sum(row["replication"] is not None and row["replication"] < 0.8 for row in rows)
        unsure = sum(row["verdict"] == "inconclusive" for row in rows)
        return [
            (low, "Only a decided row can be fragile; you counted undecided ones, too."),
            (unsure, "Those are inconclusive: nothing was said that could be taken back."),
            (sum(row["verdict"] in DECIDED for row in rows) - truth(), "Those are the decided rows that would hold."),
        ]

    hint = "Decided rows for which comes again is below 0.8."
    return Question("fragile", numbers, against(truth, routes, hint))


def _moved(session: ArgueWithTheLedger) -> Question:
    def truth() -> int:
        return int(session.ledger.what_if(session.drawn_change()).moved.sum())

    def routes() -> list[tuple[int, str]]:
        after = {row_name(row): row for row in session.ledger.rows(session.drawn_change())}
        crossing = [row for row in session.ledger.rows() if row_name(row) in after]
        crossed = sum(_by_effect(row) != _by_effect(after[row_name(row)]) for row in crossing)
        own = sum(row["id"] == session.change[0] for row in session.ledger.rows())
        return [
            (crossed, "You looked where the effects lie; a verdict asks where the whole interval lies."),
            (own, "Not every row of that claim moves: is the new line outside of the interval?"),
            (len(session.ledger.rows()), "That is every row there is."),
        ]

    hint = "Set the new line beside each interval of that claim. On which side of it does the interval lie now?"
    return Question("moved", numbers, against(truth, routes, hint), needs=("reading",))


def _margin(session: ArgueWithTheLedger) -> Question:
    def judge(value: Numbers) -> str:
        if value.ndim:
            return "One number is asked for."
        margin, (task, wanted) = float(value), session.aim
        if margin <= 0:
            return "A margin is a loss that one would accept, written as a number above 0."
        row = next(
            row for row in session.ledger.rows({"K6": {"margin": margin}}) if (row["id"], row["task"]) == ("K6", task)
        )
        if row["verdict"] == wanted:
            return ""
        low, high = row["interval"]
        on_effect = abs(margin + row["effect"]) < 0.1 * (high - low)
        why = "Your line runs through the effect; what counts is the interval. " if on_effect else ""
        return f"{why}With {margin:g} it is {row['verdict']}: [{low:.3f}, {high:.3f}] against {row['line']:.3g}."

    def told(value: Numbers) -> str:
        moved = session.ledger.what_if({"K6": {"margin": float(value)}})
        return f"{int(moved.moved.sum())} of {len(moved)} rows move with it."

    return Question("margin", numbers, judge, told, needs=("reading",))


def _others(session: ArgueWithTheLedger) -> Question:
    def told(value: str) -> str:
        before, after = (
            [row["level"] for row in rows]
            for rows in (session.ledger.rows(), session.ledger.rows(session.drawn_change()))
        )
        level = "It hangs on how many rows are decided, as the level of all intervals does: "
        now = "your change leaves it there" if before[0] == after[0] else f"{after[0]:.2%} after your change"
        return f"{level}{before[0]:.2%} today, and {now}."

    hint = (
        "The false discovery rate is held over the whole ledger. What does the correction of one p know of the others?"
    )
    return Question("others", one_of("yes", "no"), against(lambda: "yes", lambda: [], hint), told)
