"""What was found, in sentences: planted ledgers of every kind, and the words of claims.toml themselves."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.claims.ledger import findings as module
from analysis.claims.ledger.decide import decide
from analysis.claims.ledger.evaluate import load_claims
from analysis.claims.ledger.findings import claim_sentence, findings, how_sure, questions, show_findings, with_data
from analysis.claims.means import mean
from analysis.claims.verdicts import VERDICTS, Finding, data_of

CLAIMS = {claim.id: claim for claim in load_claims()}


def row(name: str, task: str, verdict: str, effect: float = 0.5, **changes: Any) -> dict[str, Any]:
    known = {"id": name, "task": task, "verdict": verdict, "effect": effect, "interval": [effect - 0.1, effect + 0.1]}
    known |= {"side": "below", "line": 1.0, "fragile": False, "withheld": False, "seeds": 3, "data": "simulated"}
    if verdict == "not tested":
        known |= {"effect": None, "interval": [None, None], "side": None, "line": None}
    return known | changes


def said(name: str, *rows: dict[str, Any]) -> str:
    return claim_sentence(CLAIMS[name], rows)


# ---- the words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLAIMS)
def test_words_of_a_claim_are_clauses_without_numbers(name: str):
    claim = CLAIMS[name]
    for words in (claim.supported, claim.contradicted):
        assert not re.search(r"\d", words), "numbers come from the rows"
        assert words[0].islower()
        assert not words.endswith(".")
    assert claim.supported != claim.contradicted
    assert bool(claim.published) == (name == "L4"), "the one number that is known of the papers"


def test_questions_take_every_claim_once_and_are_answered_by_their_own():
    letters = [question.letter for question in questions()]
    assert sorted(letters) == sorted({name[0] for name in CLAIMS})
    for question in questions():
        assert question.answers
        assert all(name in CLAIMS and name.startswith(question.letter) for name in question.answers)


# ---- one claim ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("truth", "wanted"), [(0.4, "supported"), (2.5, "contradicted"), (1.0, "open")])
def test_the_truth_of_a_planted_study_is_what_the_sentence_says(truth: float, wanted: str):
    claim = CLAIMS["K1"]
    index = pd.MultiIndex.from_tuples([(at, at) for at in range(6)], names=["seed", "fold"])
    values = pd.Series(math.log(truth) + 0.05 * np.array([-1.0, 1.0, -2.0, 2.0, 0.5, -0.5]), index)
    part = mean("ratio", values, 0.0, above=False, unit="log steps", scale=math.exp)
    rows = decide([Finding(claim, "busi", "", part, 6)], 0.05)
    text = claim_sentence(claim, [{**each, "data": "real"} for each in rows])
    clauses = {"supported": claim.supported, "contradicted": claim.contradicted, "open": claim.supported}
    start = "It is open whether " if wanted == "open" else ""
    clause = clauses[wanted]
    assert text.startswith(start + (clause if start else clause[0].upper() + clause[1:]))
    assert f"busi; {rows[0]['effect']:.3g} [" in text
    assert "the claim holds below 1)" in text
    assert ("needs more steps" in text) == (wanted == "contradicted")


def test_a_mixture_over_tasks_says_how_many_of_each():
    unsure = [row("K1", "d", "inconclusive"), row("K1", "e", "inconclusive"), row("K1", "f", "not tested")]
    text = said("K1", row("K1", "a", "supported", 0.5), row("K1", "b_c", "contradicted", 1.5, fragile=True), *unsure)
    decided, third = text.split("; it is open")
    first, second = decided.split("); ")
    assert first.startswith(f"In 1 of 4 tasks, {CLAIMS['K1'].supported} (K1, a; 0.5 [0.4, 0.6] times the steps")
    assert second.startswith(f"in 1 of 4 tasks, {CLAIMS['K1'].contradicted} (K1, b c; 1.5 [1.4, 1.6] times the steps")
    assert second.endswith("fragile)")
    assert third == " in 2 of 4 tasks."
    assert "fragile" not in first


def test_several_rows_are_told_by_their_range_and_how_many_are_fragile():
    rows = [row("K1", "a", "supported", 0.5), row("K1", "b", "supported", 0.7, fragile=True)]
    assert "(K1; 0.5 to 0.7 times the steps, the claim holds below 1; 1 of 2 fragile)" in said("K1", *rows)
    assert said("K1", *rows).startswith("In both tasks, a network")
    many = [*rows, row("K1", "c", "supported")]
    assert said("K1", *many).startswith("In all 3 tasks, a network")


def test_numbers_of_different_parts_make_no_range():
    slope = {"name": "slope over depth", "effect": -0.3, "interval": [-0.4, -0.2], "side": "above", "line": -0.1}
    reuse = {"name": "reuse", "effect": 0.01, "interval": [0.0, 0.02], "side": "above", "line": 0.05}
    one = row("K8", "a", "contradicted", -0.3, side="above", line=-0.1, parts=[slope, reuse])
    other = row("K8", "b", "contradicted", 0.01, side="above", line=0.05, parts=[slope, reuse])
    assert "(K8, a; slope over depth: -0.3 [-0.4, -0.2], the claim holds above -0.1)" in said("K8", one)
    both = "reuse: 0.01, the claim holds above 0.05; slope over depth: -0.3, the claim holds above -0.1"
    assert said("K8", one, other).endswith(f"(K8; {both}).")
    alone = row("K8", "c", "contradicted", -0.2, side="above", line=-0.1)
    assert said("K8", one, alone).endswith("(K8; -0.3 to -0.2, the claim holds above -0.1).")


def test_support_that_is_withheld_is_open_and_said():
    text = said("K1", row("K1", "a", "inconclusive", withheld=True), row("K1", "b", "inconclusive"))
    assert text.startswith("It is open in both tasks whether ")
    assert "support is withheld in 1 task, for the reason that the ledger gives" in text


def test_the_number_of_the_paper_stands_beside_ours():
    text = said("L4", row("L4", "all", "contradicted", 0.02, side="above", line=2.06))
    assert "(L4; 0.02 [-0.08, 0.12] dB, the claim holds above 2.06; the paper: 2.06 dB)" in text


def test_an_exact_verdict_has_no_interval():
    text = said("L8", row("L8", "all", "supported", 0.0, interval=[None, None], side="at most", line=0.0))
    assert text.endswith("(L8; 0 tensors, the claim holds at most 0).")


# ---- a ledger -------------------------------------------------------------------------------------------------------


def test_nothing_is_said_of_what_was_not_tested():
    rows = [row(name, "all", "not tested", data="") for name in CLAIMS]
    found = findings(rows)
    assert found["claims"] == []
    assert found["data"] == []
    assert found["notebooks"]["03_transfer_value"] == [
        {"data": "", "leads": [], "sentences": ["Not tested: K1, K2, K3."]}
    ]
    assert found["sure"] == "No claim was tested: the runs for it are not there."
    assert findings([])["counts"] == dict.fromkeys((*VERDICTS, "fragile"), 0)


def test_simulated_and_real_are_told_apart():
    rows = [row("K1", "sim_a", "supported"), row("K1", "busi", "contradicted", 1.5, data="real")]
    rows.append(row("K2", "all", "inconclusive"))
    found = findings(rows)
    assert found["data"] == ["simulated", "real"]
    simulated, real = found["notebooks"]["03_transfer_value"]
    assert (simulated["data"], real["data"]) == ("simulated", "real")
    assert "fewer steps" in simulated["sentences"][0]
    assert "more steps" in real["sentences"][0]
    assert simulated["sentences"][1:] == ["Also open: K2.", "Not tested: K3."]
    assert real["sentences"][1:] == ["Not tested: K2, K3."]
    assert [(each["claim"], each["data"], each["word"]) for each in found["claims"]] == [
        ("K1", "simulated", "supported"), ("K1", "real", "contradicted"), ("K2", "simulated", "inconclusive"),
    ]  # fmt: skip


def test_a_notebook_leads_with_what_is_decided_and_counts_the_rest():
    rows = [row("K1", "a", "inconclusive"), row("K2", "all", "supported", 0.9, fragile=True),
            row("K3", "all", "contradicted")]  # fmt: skip
    (told,) = findings(rows)["notebooks"]["03_transfer_value"]
    assert "(K2;" in told["sentences"][0]
    assert told["sentences"][1] == "Also contradicted: K3; open: K1."
    (asked,) = findings(rows)["questions"][0]["said"]
    assert ["(K1" in asked["sentences"][0], "(K3" in asked["sentences"][1]] == [True, True], "the answers, also if open"
    assert asked["leads"] == ["K1", "K3"]
    assert asked["sentences"][2].startswith("Also supported: K2 (fragile).")


def test_how_sure_counts_what_is_decided_and_what_is_fragile():
    rows = [row("K1", "a", "supported"), row("K1", "b", "contradicted", fragile=True),
            row("K1", "c", "inconclusive", fragile=True), row("K1", "d", "not tested")]  # fmt: skip
    assert how_sure(rows, 0.05).startswith("2 of 3 rows that were tested are decided. At most 5 % of decided rows are")
    assert "1 of them is fragile" in how_sure(rows, 0.05)
    assert how_sure(rows[:1], 0.05).endswith("None of them is fragile.")
    assert how_sure(rows[2:], 0.05) == "0 of 1 row that was tested is decided; the others are open."


def test_data_of_a_row_is_that_of_its_task():
    kinds = {"sim_a@4": "simulated", "busi": "real"}
    wanted = {"sim_a": "simulated", "sim_a@8": "simulated", "busi@net": "real", "all": "real and simulated"}
    assert {task: data_of(task, kinds) for task in wanted} == wanted
    assert data_of("all", {}) == ""
    about = {"data": [{"task": "busi", "kind": "real"}]}
    assert [each["data"] for each in with_data([{"task": "busi"}, {"task": "x", "data": "simulated"}], about)] == [
        "real", "simulated",
    ]  # fmt: skip


def test_a_notebook_shows_its_findings_with_links_only_in_a_report(monkeypatch: pytest.MonkeyPatch):
    rows = [row("K1", "<b>task</b>", "supported"), row("A6", "busi", "contradicted", data="real")]
    monkeypatch.setattr(module, "suite_ledger", lambda suite: rows)
    html = str(show_findings("any", "03_transfer_value").data)
    assert "<em>Simulated data:</em> A network that starts" in html
    assert "&lt;b&gt;task&lt;/b&gt;" in html
    assert "href" not in html
    assert 'href="ledger.html#rule-K1"' in str(show_findings("any", "03_transfer_value", "reports/any").data)
    every = str(show_findings("any", "10_claims").data)
    assert every.count("<b>") == 3, "the questions"
    assert "<em>Real data:</em>" in every
