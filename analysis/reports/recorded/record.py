"""The record: what a suite found, small enough to be kept in the repository, and the table of it in the README."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.error_rates import record as error_rates
from analysis.claims.ledger.choices.specifications import told_ledger
from analysis.claims.ledger.compare import compare_ledgers, repeat
from analysis.claims.ledger.decide import FRAGILE
from analysis.claims.ledger.evaluate import load_claims, write_claims_file
from analysis.claims.ledger.findings import Question, findings, how_sure, questions, with_data
from analysis.claims.verdicts import VERDICTS
from analysis.reports.front.gallery import FINDINGS
from analysis.reports.recorded.explained import explained_text, explanations
from analysis.reports.recorded.figure import data_kinds, verdict_marks, verdict_svg
from analysis.tables.learning_rates import with_chosen
from analysis.tables.results import named_labels, run_table
from lib.common import paths, provenance
from lib.common.errors import StudyError
from lib.runs.run import Run
from lib.runs.seal import read_record
from lib.study.plan import load_suite, missing_runs, runs_at_all_rates, suite_files
from lib.study.suite import Suite

BEGIN, END = "<!-- record: python -m analysis record -->", "<!-- end of record -->"
FIGURE = "verdicts.svg"  # in the folder of records
Record = tuple[Mapping[str, Any], list[dict[str, Any]]]
OFTEN = 12  # letters of a digest that stand in a record


def records_folder() -> Path:
    """Where records lie: `results/` of the repository."""
    return paths.REPOSITORY / "results"


def record_suite(name: str) -> Path:
    """Write the record of a finished suite to `results/SUITE/`, and the table in the README anew.

    runs.csv: every run at every rate, `chosen` where its seed chose it. labels.csv: test scores by label, where a task
    names some. claims.json: the ledger. findings.json: what it says, in sentences. provenance.json: commit, suite file,
    and what the runs were computed with and on.

    Raises:
        StudyError: runs of the suite are missing.
    """
    suite = load_suite(name)
    missing = missing_runs(suite)
    if missing:
        raise StudyError(f"{len(missing)} runs of {suite.name} are missing: python -m lib train {name}")
    runs = runs_at_all_rates(suite, goal=None)
    table = with_chosen(suite, run_table(runs))
    folder = records_folder() / suite.name
    about = json.dumps(_provenance(suite, runs, table), indent=1) + "\n"  # of the commit before this writes into it
    paths.write_atomic(folder / "runs.csv", table.to_csv(index=False, float_format="%.6g"))
    labels = named_labels(run for run, chosen in zip(runs, table.chosen, strict=True) if chosen)
    if len(labels):
        paths.write_atomic(folder / "labels.csv", labels.to_csv(index=False, float_format="%.6g"))
    write_claims_file(folder / "claims.json", told_ledger(suite))
    paths.write_atomic(folder / "provenance.json", about)
    write_summary()
    return folder


def _provenance(suite: Suite, runs: Sequence[Run], table: pd.DataFrame) -> dict[str, Any]:
    stamps = [read_record(run.path / "provenance.json") for run in runs]
    data = table[["task", "kind", "size", "data"]].drop_duplicates()
    return {
        "suite": suite.name,
        "title": suite.title,
        "suite_sha256": hashlib.sha256(b"".join(file.read_bytes() for file in suite_files(suite.file))).hexdigest(),
        **({"looks": [dataclasses.asdict(look) for look in suite.looks]} if suite.looks else {}),
        "recorded": date.today().isoformat(),
        "commit": provenance.commit(),
        "runs": len(table),
        "chosen": int(table.chosen.sum()),
        "seconds": round(float(table.seconds.sum())),
        "commits_of_runs": dict(Counter(stamp["commit"] for stamp in stamps)),
        "devices": dict(Counter(stamp["device"] for stamp in stamps)),
        "arithmetic": dict(Counter(table.arithmetic)),
        "versions": [json.loads(each) for each in dict.fromkeys(json.dumps(stamp["versions"]) for stamp in stamps)],
        "data": [
            {"task": row.task, "kind": row.kind, "size": int(row.size_), "sha256": _short(row.data)}
            for row in data.rename(columns={"size": "size_"}).itertuples()
        ],
    }


def _short(digest: Any) -> str | None:
    """A digest in few letters; None for what is drawn from a seed and has none."""
    return digest[:OFTEN] if isinstance(digest, str) and digest else None


def records() -> list[Record]:
    """What is recorded: provenance and ledger of every suite, simulated data first."""
    found = []
    for file in sorted(records_folder().glob("*/provenance.json")):
        about = json.loads(file.read_text())
        found.append((about, with_data(json.loads((file.parent / "claims.json").read_text()), about)))
    return sorted(found, key=lambda each: (data_kinds(each[0]) != "simulated", each[0]["suite"]))


def summary_text() -> str:
    """What the README says of the records, as Markdown: in short, what was recorded, and the verdicts by claim.

    A cell counts the rows of a claim (one per task, or one for all) by their word; rows that were not tested are left
    out, and so are claims that no record tests. Records with the same rows (one study with other seeds, or in another
    arithmetic) have one column, and a table of which words came again.
    """
    found = records()
    first = once(found)
    lines = [*_in_short(first), ""]
    lines += ["| record | data | runs | seeds | decided rows | of these fragile |", "|---|---|---|---|---|---|"]
    for about, ledger in found:
        decided = [row for row in ledger if row["verdict"] in ("supported", "contradicted")]
        seeds = sorted({row["seeds"] for row in ledger if row["verdict"] != "not tested"})
        lines.append(
            f"| `{about['suite']}` | {data_kinds(about)} | {about['runs']:,} | {_range(seeds)} | {len(decided)} of "
            f"{sum(row['verdict'] != 'not tested' for row in ledger)} | {sum(row['fragile'] for row in decided)} |"
        )
    lines += ["", "| claim | " + " | ".join(f"`{about['suite']}`" for about, _ in first) + " |"]
    lines += ["|---" * (len(first) + 1) + "|"]
    for claim in load_claims():
        cells = [_words([row for row in ledger if row["id"] == claim.id]) for _, ledger in first]
        if any(cells):
            lines.append(f"| {claim.id}: {claim.short} | " + " | ".join(each or "–" for each in cells) + " |")
    return "\n".join([*lines, *_again(found)])


def _in_short(found: Sequence[Record]) -> list[str]:
    """An answer to each question, and how sure all of them are."""
    rows = [row for _, ledger in found for row in ledger]
    if not rows:
        return []
    sure = f"- **How sure is that?** {how_sure(rows, load_claims()[0].value('alpha'))}{_held()}{_one_rate(found)}"
    return [*filter(None, (_answer(question, found) for question in questions())), sure]


def _held() -> str:
    """How often verdicts that are not called fragile came again where claims were planted, by number of seeds."""
    rows = error_rates.read("replication")
    rows = rows[(rows.word == "decided") & (rows.low >= FRAGILE)]
    by = rows.assign(came=rows.again * rows.studies).groupby("seeds")[["came", "studies"]].sum()
    told = ", ".join(f"{100 * row.came / row.studies:.0f} % of {seeds}" for seeds, row in by.iterrows())
    return (
        " Planted claim by claim, with effects on their lines and near them, verdicts that are not called fragile came "
        f"again in {told} seeds."
    )


def _one_rate(found: Sequence[Record]) -> str:
    """Which records speak of one learning rate, and how often they are wrong as answers about more than that."""
    names = [about["suite"] for about, _ in found]
    names = [name for name in names if pd.read_csv(records_folder() / name / "runs.csv").lr.nunique() == 1]
    if not names:
        return ""
    planted = error_rates.read("ledgers")
    planted = planted[planted.pooled & planted.bh & planted.ledger.str.endswith("one rate for all seeds")]
    low, high = (f"{100 * share:.0f}" for share in (planted.share_false.min(), planted.share_false.max()))
    return (
        f" In {', '.join(f'`{name}`' for name in names)} all runs had one learning rate: a verdict there is about that "
        "rate. Read as one about strategies it is wrong more often: in planted ledgers with one rate for all seeds, "
        f"{low} to {high} % of decided rows are."
    )


def _answer(question: Question, found: Sequence[Record]) -> str:
    """The first sentences of the record that tests most claims of a question, real data first; nothing if none does."""

    def tested(record: Record) -> tuple[bool, int]:
        about, ledger = record
        claims = {row["id"] for row in ledger if row["verdict"] != "not tested"}
        own = [name for name in claims if name.startswith(question.letter)]
        return bool(own) and data_kinds(about) == "real", len(own)

    about, ledger = max(found, key=tested)
    said = next(each["said"] for each in findings(ledger)["questions"] if each["letter"] == question.letter)
    if not said or not said[0]["leads"]:
        return ""
    told = " ".join(said[0]["sentences"][:2])
    return f"- **{question.words}** {told} (`{about['suite']}`, {data_kinds(about)} data)"


def findings_text(about: Mapping[str, Any], ledger: Sequence[Mapping[str, Any]]) -> str:
    """What a record found, in sentences, as `findings.json` has it."""
    told = {key: about.get(key) for key in ("suite", "title", "recorded")}
    return json.dumps(told | findings(ledger), indent=1) + "\n"


def once(found: list[Record]) -> list[Record]:
    """Records without those that repeat another."""
    return [each for each in found if not _repeats(each, found)]


def _repeats(record: Record, others: Sequence[Record]) -> str:
    """The record that another one repeats: the shortest name of those with the same rows, tested or not; or none."""
    same = [about["suite"] for about, ledger in others if _keys(ledger) == _keys(record[1])]
    return "" if (first := min(same, key=len)) == record[0]["suite"] else first


def _keys(ledger: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(row["id"], row["task"]) for row in ledger]


def _again(found: Sequence[Record]) -> list[str]:
    """How often the words of one record stand in another that repeats it, both ways round; nothing without any."""
    lines = []
    for before, after in itertools.permutations(found, 2):
        if _keys(before[1]) == _keys(after[1]):
            told = repeat(compare_ledgers(before[1], after[1]))
            names = " | ".join(f"`{about['suite']}`" for about, _ in (before, after))
            cells = [f"{told.differ} of {told.tested}", f"{told.kept} of {told.decided}"]
            cells += [f"{told.firm_kept} of {told.firm}", f"{told.expected:.1f}", f"{told.turned}"]
            lines.append(f"| {names} | {' | '.join(cells)} |")
    head = "| said in | said again in | rows with another word | decided rows: same word | not fragile: same word | "
    told = "One study with other seeds, or in another arithmetic: how often the same words came again"
    table = [f"{head}expected | opposite word |", "|---" * 7 + "|", *lines]
    return ["", f"<details><summary>{told}</summary>", "", *table, "", "</details>"] if lines else []


def _range(seeds: Sequence[int]) -> str:
    return "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else "–"


def _words(rows: Sequence[Mapping[str, Any]]) -> str:
    """The words of a claim's rows with how often each comes, such as "supported 2, one fragile"."""
    told = []
    for word in VERDICTS[:3]:
        own = [row for row in rows if row["verdict"] == word]
        fragile = sum(row["fragile"] for row in own)
        told += [f"{word} {len(own)}" + (f" ({fragile} fragile)" if fragile else "")] if own else []
    return ", ".join(told)


def write_summary() -> Path:
    """Put the tables of the records between the marks of the README; write findings, reasons and figure beside them.

    Raises:
        StudyError: the README has no such marks.
    """
    file = paths.REPOSITORY / "README.md"
    before, begin, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise StudyError(f"{file} has no place for the record; it stands between {BEGIN} and {END}")
    found = records()
    for about, ledger in found:
        paths.write_atomic(records_folder() / about["suite"] / FINDINGS, findings_text(about, ledger))
    told = once(found)
    paths.write_atomic(records_folder() / "README.md", explained_text(told, explanations(records_folder())))
    paths.write_atomic(records_folder() / FIGURE, verdict_svg(verdict_marks(told)))
    paths.write_atomic(file, f"{before}{BEGIN}\n{summary_text()}\n{END}{after}")
    return file
