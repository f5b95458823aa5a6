"""The figure that opens the README: every verdict of every record, a mark each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.claims.ledger.evaluate import load_claims
from analysis.claims.ledger.findings import questions
from analysis.figures.style import study_style, title_and_note
from analysis.reports.published import svg_text

MARKS = {"supported": ("#0072B2", "s"), "contradicted": ("#D55E00", "X"), "inconclusive": ("#777777", "o")}
MOST = 6  # marks of a cell that are drawn one by one
STEP = 0.13  # between the marks of a cell, whose width is 1
TITLE = "What came of the claims"


def data_kinds(about: Mapping[str, Any]) -> str:
    """What data a record rests on, by its provenance: "real", "simulated" or both."""
    return " and ".join(sorted({entry["kind"] for entry in about["data"]}))


def verdict_marks(records: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> pd.DataFrame:
    """One row per tested row of the records' ledgers: record, data, claim, claimed, task, verdict, fragile.

    Args:
        records: provenance and ledger of each, in the order of their columns.
    """
    claimed = {claim.id: claim.short for claim in load_claims()}
    rows = [
        (about["suite"], data_kinds(about), row["id"],
         claimed.get(row["id"], ""), row["task"], row["verdict"], bool(row["fragile"]))
        for about, ledger in records
        for row in ledger
        if row["verdict"] in MARKS
    ]  # fmt: skip
    columns = ["record", "data", "claim", "claimed", "task", "verdict", "fragile"]
    order = {name: place for place, name in enumerate(claimed)}
    table = pd.DataFrame(rows, columns=columns)
    table["record"] = pd.Categorical(table.record, list(dict.fromkeys(table.record)))
    return table.sort_values("claim", key=lambda names: names.map(order), kind="stable", ignore_index=True)


@study_style
def verdict_figure(marks: pd.DataFrame) -> Axes:
    """The marks of `verdict_marks`: a row per claim under the question of its paper, a column per record."""
    records, claims = list(marks.record.cat.categories), marks.drop_duplicates("claim")
    asked = {question.letter: question.words for question in questions()}
    figure, ax = plt.subplots(figsize=(max(9.0, 3.2 + 1.3 * len(records)), 1.9 + 0.3 * (len(claims) + 3)))
    place, labels, below = 0.0, [], ""
    for row in claims.itertuples():
        if row.claim[0] != below:
            below, place = row.claim[0], place + (0.0 if not below else 0.5)
            ax.annotate(
                asked.get(below, ""), (0, place), (-4, 0), xycoords=ax.get_yaxis_transform(),
                textcoords="offset points", ha="right", va="center", fontweight="bold",
            )  # fmt: skip
            place += 1
        labels.append((place, f"{row.claimed}  {row.claim}"))
        own = marks[marks.claim == row.claim]
        for column, record in enumerate(records):
            _cell(ax, own[own.record == record], column, place)
        place += 1
    ax.set_yticks([at for at, _ in labels], [text for _, text in labels])
    kinds = marks.drop_duplicates("record").set_index("record").data
    names = [f"{name.replace('_', ' ')}\n({kinds[name]})" for name in records]
    ax.set_xticks(range(len(records)), names)
    ax.set(xlim=(-0.5, len(records) - 0.5), ylim=(place - 0.4, -0.6))
    ax.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False)
    for column in range(1, len(records)):
        ax.axvline(column - 0.5, color="#DDDDDD", linewidth=0.8)
    ax.grid(visible=False, axis="x")
    title_and_note(ax, TITLE, "a mark per task, or one for all tasks; what is not tested has none", lift=38)
    _legend(ax)
    figure.set_layout_engine("constrained")
    return ax


def verdict_svg(marks: pd.DataFrame) -> str:
    """The figure as a drawing, the same for the same marks."""
    figure = verdict_figure(marks).get_figure(root=True)
    assert figure is not None
    plt.close(figure)
    return svg_text(figure, fonts="path", Title=TITLE, Description=marks.to_csv(index=False))


def _cell(ax: Axes, rows: pd.DataFrame, column: int, place: float) -> None:
    """The marks of a claim in a record, in the order of the legend; of many, one of each kind and how many they are."""
    drawn = sorted(zip(rows.verdict, rows.fragile, strict=True), key=lambda each: (list(MARKS).index(each[0]), each[1]))
    many = Counter(drawn) if len(drawn) > MOST else None
    step, drawn = (3 * STEP, list(many)) if many else (STEP, drawn)
    for number, kind in enumerate(drawn):
        x = column + step * (number - (len(drawn) - 1) / 2) - (STEP if many else 0)
        ax.plot([x], [place], **_look(*kind))
        if many:
            ax.text(x + 0.7 * STEP, place, f"× {many[kind]}", va="center")


def _look(verdict: str, fragile: bool) -> dict[str, Any]:
    color, marker = MARKS[verdict]
    face = "white" if fragile or verdict == "inconclusive" else color
    return {"color": color, "marker": marker, "markerfacecolor": face, "markersize": 7, "linestyle": "none"}


def _legend(ax: Axes) -> None:
    kinds = [(verdict, fragile) for verdict in MARKS for fragile in (False, True)][:-1]  # nothing open is fragile
    handles = [
        Line2D([], [], label=verdict + ", fragile" * fragile, **_look(verdict, fragile)) for verdict, fragile in kinds
    ]
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
