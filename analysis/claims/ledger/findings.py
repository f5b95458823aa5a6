"""What was found, in sentences per claim, notebook and question: from rows of a ledger and the words of claims.toml.

Nothing here knows what came out. A sentence says what the decided rows of a claim say, in how many tasks and by how
much; of open rows that they are open; of claims that were not tested only that they were not. Simulated and real data
are never told in one sentence, except of a row that rests on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from IPython.display import HTML

from analysis.claims.ledger.evaluate import CLAIMS, load_claims
from analysis.claims.ledger.kept import suite_ledger
from analysis.claims.ledger.table import deciding_part, number_text, row_numbers
from analysis.claims.verdicts import VERDICTS, Claim, data_of
from lib.common.outside import read_toml

Row = Mapping[str, Any]
DECIDED = ("supported", "contradicted")
KINDS = ("simulated", "real")
PARTS = 3  # of a sentence with the numbers of each; of more, the range of all


class Question(NamedTuple):
    """A question of the front page: the letter of its claims, its words, whose it is, and which claims answer it."""

    letter: str
    words: str
    authors: str
    answers: tuple[str, ...]


def questions() -> list[Question]:
    """The questions of claims.toml, in its order."""
    return [Question(**(entry | {"answers": tuple(entry["answers"])})) for entry in read_toml(CLAIMS)["question"]]


def findings(ledger: Sequence[Row]) -> dict[str, Any]:
    """All sentences of a ledger, ready for JSON.

    Returns:
        data: the kinds of data that its tested rows rest on. counts: rows per verdict, and of the decided ones how many
        are fragile. sure: one sentence on how sure that is. claims: one entry per claim and kind of data (claim, data,
        word, text), word being a verdict, or "mixed". notebooks: per notebook, and questions: per question (with its
        letter, words, authors and the ids of its claims), one entry per kind of data (data, leads: the
        claims in words, sentences).
    """
    claims = {claim.id: claim for claim in load_claims()}
    known = [row for row in ledger if row["id"] in claims]
    tested = [row for row in known if row["verdict"] != "not tested"]
    by_notebook: dict[str, list[str]] = {}
    for name, claim in claims.items():
        by_notebook.setdefault(claim.notebook, []).append(name)
    asked = [
        question._asdict()
        | {"claims": (own := [name for name in claims if name.startswith(question.letter)])}
        | {"said": _told(claims, own, question.answers, known)}
        for question in questions()
    ]
    return {
        "data": _kinds(tested),
        "counts": counts(ledger),
        "sure": how_sure(ledger, next(iter(claims.values())).value("alpha")),
        "questions": asked,
        "notebooks": {name: _told(claims, own, (), known) for name, own in by_notebook.items()},
        "claims": [
            {"claim": name, "data": kind, "word": _word(rows), "text": claim_sentence(claims[name], rows)}
            for name in claims
            for kind in _kinds(tested)
            if (rows := _of(known, name, kind)) and _tested(rows)
        ],
    }


def show_findings(suite: str, notebook: str, report: str = "") -> HTML:
    """What a suite's finished runs say of the claims of one notebook: some sentences, and each claim in words below.

    Args:
        notebook: its name; of "10_claims" all claims, question by question. report: where it is being rendered to, and
            so whether there is a ledger beside it to link to.

    Raises:
        StudyError: a run of the suite is damaged, or its data or source changed since.
    """
    found = findings(suite_ledger(suite))
    shown = {claim.id for claim in load_claims() if claim.notebook == notebook}
    said = [("", entry) for entry in found["notebooks"].get(notebook, [])] or [
        (f"<b>{question['words']}</b> ", entry) for question in found["questions"] for entry in question["said"]
    ]
    lines = [f"<p>{head}{_labeled(each['data'], ' '.join(each['sentences']))}</p>" for head, each in said]
    items = [
        f"<li>{_labeled(each['data'], each['text'])}"
        + (f' <a href="ledger.html#rule-{each["claim"]}">{each["claim"]} in the ledger</a>' if report else "")
        + "</li>"
        for each in found["claims"]
        if each["claim"] in shown
    ]
    every = ["<details><summary>Every claim in words</summary><ul>", *items, "</ul></details>"] if items else []
    return HTML(
        "\n".join(['<div class="found">', *lines, *every, f"<p>The whole ledger: {escape(found['sure'])}</p></div>"])
    )


def _labeled(kind: str, text: str) -> str:
    return (f"<em>{kind.capitalize()} data:</em> " if kind else "") + escape(text)


def with_data(ledger: Sequence[Row], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a record that say whether they are on simulated or real data, where an older one leaves it to `about`.

    Args:
        about: the record's `provenance.json`.
    """
    kinds = {entry.get("task", ""): entry["kind"] for entry in about.get("data", [])}
    return [{**row, "data": row.get("data") or data_of(row["task"], kinds)} for row in ledger]


def counts(ledger: Iterable[Row]) -> dict[str, int]:
    """How many rows have each verdict, and how many of the decided ones are fragile."""
    rows = list(ledger)
    words = {word: sum(row["verdict"] == word for row in rows) for word in VERDICTS}
    return words | {"fragile": sum(bool(row.get("fragile")) for row in rows if row["verdict"] in DECIDED)}


def how_sure(ledger: Iterable[Row], alpha: float) -> str:
    """How many rows are decided and how far that can be trusted, as a sentence or two."""
    found = counts(ledger)
    decided = sum(found[word] for word in DECIDED)
    tested = decided + found["inconclusive"]
    if not tested:
        return "No claim was tested: the runs for it are not there."
    were, are = ("was" if tested == 1 else "were"), ("is" if 1 in (decided, tested) else "are")
    told = f"{decided} of {tested} {'row' if tested == 1 else 'rows'} that {were} tested {are} decided"
    if not decided:
        return f"{told}; the others are open."
    wrong = f"At most {100 * alpha:.0f} % of decided rows are expected to be wrong."
    fragile = found["fragile"]
    again = "a study of the same size with other seeds would say the same less than four times in five"
    if not fragile:
        return f"{told}. {wrong} None of them is fragile."
    return f"{told}. {wrong} {fragile} of them {'is' if fragile == 1 else 'are'} fragile: {again}."


def claim_sentence(claim: Claim, rows: Sequence[Row]) -> str:
    """What rows of one claim, on data of one kind, say of it, as one sentence; rows that were not tested are left out.

    Decided rows are told by what is true then, with the numbers that decide and the line that these are held against;
    the paper's own number stands beside where it is known.
    """
    tested = _tested(rows)
    if not tested:
        return f"{claim.id} was not tested."
    parts = []
    for word, clause in ((DECIDED[0], claim.supported), (DECIDED[1], claim.contradicted)):
        own = [row for row in tested if row["verdict"] == word]
        if own:
            share = _share(own, tested)
            parts.append(f"{share}{', ' * bool(share)}{clause} ({_numbers(claim, own)})")
    unsure = [row for row in tested if row["verdict"] == "inconclusive"]
    if unsure and not parts:
        share = _share(unsure, tested)
        parts = [f"it is open {share}{' ' * bool(share)}whether {claim.supported} ({_numbers(claim, unsure)})"]
    elif unsure:
        parts.append(f"it is open {_share(unsure, tested)}")
    withheld = sum(bool(row.get("withheld")) for row in unsure)
    if withheld:
        tasks = "1 task" if withheld == 1 else f"{withheld} tasks"
        parts.append(f"support is withheld in {tasks}, for the reason that the ledger gives")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _told(
    claims: Mapping[str, Claim], own: Sequence[str], answers: Sequence[str], ledger: Sequence[Row]
) -> list[dict[str, Any]]:
    """One entry per kind of data: some claims in words, the other ones by their verdicts.

    Args:
        answers: the claims in words, where they were tested. Without any, the first that is decided, or is open.
    """
    told = []
    rows = [row for row in ledger if row["id"] in own]
    for kind in _kinds(_tested(rows)):
        of = {name: _tested(_of(rows, name, kind)) for name in own}
        there = [name for name in own if of[name]]
        decided = [name for name in there if any(row["verdict"] in DECIDED for row in of[name])]
        leads = [name for name in answers if of[name]] or (decided or there)[:1]
        said = [claim_sentence(claims[name], of[name]) for name in leads]
        rest = _rest([of[name] for name in there if name not in leads])
        never = [name for name in own if not of[name]]
        said += [rest] if rest else []
        said += [f"Not tested: {', '.join(never)}."] if never else []
        told.append({"data": kind, "leads": leads, "sentences": said})
    return told or [{"data": "", "leads": [], "sentences": [f"Not tested: {', '.join(own)}."]}]


def _rest(each: Sequence[Sequence[Row]]) -> str:
    """Claims by their verdicts, such as "Also supported: A6 (fragile); open: K2, K8 (2 of 3 tasks)."."""
    groups = []
    for word, name in (("supported", "supported"), ("contradicted", "contradicted"), ("inconclusive", "open")):
        found = []
        for rows in each:
            own = [row for row in rows if row["verdict"] == word]
            if own:
                some = f"{len(own)} of {len(rows)} tasks" if len(own) < len(rows) else ""
                about = ", ".join(filter(None, (some, _fragile(own), _withheld(own))))
                found.append(own[0]["id"] + (f" ({about})" if about else ""))
        groups += [f"{name}: {', '.join(found)}"] if found else []
    return f"Also {'; '.join(groups)}." if groups else ""


def _numbers(claim: Claim, rows: Sequence[Row]) -> str:
    """The id and the numbers of rows with one verdict: of several rows the range, part by part where parts decide."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("effect") is not None:
            parts.setdefault(deciding_part(row), []).append(row)
    if "" in parts:  # a number that stands alone in one row is a part of another, where more was trained
        parts = {"": [row for own in parts.values() for row in own]}
    told, line = [claim.id], _line(rows)
    if len(rows) == 1:
        (row,) = rows
        place = "" if row["task"] in ("all", "simulated") else str(row["task"]).replace("_", " ")
        value = _value(claim, row_numbers(row)) if parts else ""
        part = ": ".join(filter(None, (deciding_part(row), value)))
        told = [", ".join(filter(None, (claim.id, place)))] + ([part] if part else [])
    elif len(parts) <= PARTS:
        for name, own in sorted(parts.items()):
            told.append(": ".join(filter(None, (name, _value(claim, _range(own))))) + ("" if line else _line(own)))
    elif line:
        told.append(f"by {len(parts)} parts: {_value(claim, _range(rows))}")
    told[-1] += line if parts else ""
    told += [f"the paper: {claim.published}"] if claim.published else []
    return "; ".join(filter(None, (*told, _fragile(rows))))


def _line(rows: Sequence[Row]) -> str:
    """Where the claim holds, if that is the same for all rows."""
    lines = {(row.get("side"), number_text(row.get("line"))) for row in rows}
    return ", the claim holds {} {}".format(*lines.pop()) if len(lines) == 1 else ""


def _range(rows: Sequence[Row]) -> str:
    effects = [row["effect"] for row in rows if row.get("effect") is not None]
    return " to ".join(dict.fromkeys(number_text(each) for each in (min(effects), max(effects))))


def _value(claim: Claim, value: str) -> str:
    return claim.number.replace("{}", value) if claim.number else value


def _fragile(rows: Sequence[Row]) -> str:
    found = sum(bool(row.get("fragile")) for row in rows)
    return "" if not found else "fragile" if found == len(rows) else f"{found} of {len(rows)} fragile"


def _withheld(rows: Sequence[Row]) -> str:
    found = sum(bool(row.get("withheld")) for row in rows)
    return "" if not found else f"support withheld in {found}" if found < len(rows) else "support withheld"


def _share(own: Sequence[Row], tested: Sequence[Row]) -> str:
    if len(tested) == 1:
        return ""
    if len(own) < len(tested):
        return f"in {len(own)} of {len(tested)} tasks"
    return "in both tasks" if len(own) == 2 else f"in all {len(own)} tasks"


def _word(rows: Sequence[Row]) -> str:
    """The verdict that all tested rows share, or "mixed"."""
    words = {row["verdict"] for row in _tested(rows)}
    return words.pop() if len(words) == 1 else "mixed"


def _tested(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["verdict"] != "not tested"]


def _of(rows: Iterable[Row], name: str, kind: str) -> list[Row]:
    return [row for row in rows if row["id"] == name and str(row.get("data") or "") == kind]


def _kinds(rows: Iterable[Row]) -> list[str]:
    """The kinds of data of rows, simulated first; an older ledger does not say which."""
    found = {str(row.get("data") or "") for row in rows}
    return sorted(found, key=lambda kind: (KINDS.index(kind) if kind in KINDS else len(KINDS), kind))
