"""A copy of the ledger whose thresholds may be changed, decided by the study's own rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.claims.ledger.evaluate import evaluate, load_claims
from analysis.claims.verdicts import Claim, Threshold
from analysis.figures.style import axes, study_style, title_and_note
from lib.common.errors import StudyError, nearest

CLAIMS = ("K1", "K2", "K3", "K6")  # they read tables alone, so that a changed ledger is there in a second
Thresholds = Mapping[str, Mapping[str, float]]
Rows = list[dict[str, Any]]


@dataclass
class LedgerCopy:
    """The ledger of `CLAIMS` over some results.

    frame, evaluations: as `evaluate` takes them. about: what they are, in words.
    """

    frame: pd.DataFrame
    evaluations: pd.DataFrame
    about: str
    _kept: dict[str, Rows] = field(default_factory=dict)

    def rows(self, changed: Thresholds | None = None, alpha: float | None = None) -> Rows:
        """The rows of a ledger of `CLAIMS` alone, under changed thresholds or another false discovery rate.

        Raises:
            StudyError: no such claim or threshold, or no number.
        """
        changed = changed or {}
        key = repr((sorted((name, sorted(each.items())) for name, each in changed.items()), alpha))
        if key not in self._kept:
            found = evaluate(self.frame, self.evaluations, _changed(changed, alpha))
            self._kept[key] = [row for row in found if row["verdict"] != "not tested"]
        return self._kept[key]

    def table(self, verdicts: bool = True) -> pd.DataFrame:
        """The rows as they stand, to read; on wish without what the study says of them."""
        table = pd.DataFrame([_shown(row) for row in self.rows()])
        return table if verdicts else table.drop(columns=["verdict", "p", "adjusted", "comes again", "fragile"])

    def what_if(self, changed: Thresholds) -> pd.DataFrame:
        """Every row before and after a change, those that move first."""
        before, after = self.rows(), {row_name(row): row for row in self.rows(changed)}
        found = []
        for row in before:
            now = after.get(row_name(row))
            moved = now is None or now["verdict"] != row["verdict"]
            lines = [f"{each['side']} {each['line']:.3g}" for each in (row, now) if each]
            words = [each["verdict"] if each else "not tested" for each in (row, now)]
            found.append((row["id"], row["task"], *lines[:1], *lines[-1:], *words, moved))
        columns = ["id", "task", "held", "holds now", "verdict", "verdict now", "moved"]
        return pd.DataFrame(found, columns=columns).sort_values("moved", ascending=False, kind="stable")

    def threshold(self, claim: str, threshold: str) -> float:
        """A threshold as it stands in claims.toml."""
        return next(each for each in load_claims() if each.id == claim).value(threshold)


def _changed(changed: Thresholds, alpha: float | None) -> list[Claim]:
    """A copy of the claims with other thresholds."""
    claims = [each for each in load_claims() if each.id in CLAIMS]
    for name, values in changed.items():
        if name not in CLAIMS:
            raise StudyError(nearest("claim of this ledger", name, CLAIMS))
        known = next(each for each in claims if each.id == name).thresholds
        for threshold, value in values.items():
            if threshold not in known:
                raise StudyError(nearest(f"threshold of {name}", threshold, known))
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise StudyError(f"threshold {threshold} of {name} must be a number, got {value!r}")
    extra = {} if alpha is None else {"alpha": alpha}

    def of(claim: Claim) -> Claim:
        own = {**extra, **changed.get(claim.id, {})}
        return replace(
            claim, thresholds={**claim.thresholds, **{k: Threshold(float(v), "class") for k, v in own.items()}}
        )

    return [of(claim) for claim in claims]


def row_name(row: Mapping[str, Any]) -> str:
    """A row of the ledger in words."""
    return f"{row['id']} on {row['task']}"


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row["interval"]
    return {
        "id": row["id"], "task": row["task"], "effect": row["effect"], "low": low, "high": high,
        "holds": f"{row['side']} {row['line']:.3g}", "verdict": row["verdict"], "p": row["p"],
        "adjusted": row["adjusted"], "comes again": row["replication"], "fragile": row["fragile"],
    }  # fmt: skip


@study_style
def margin_figure(ledger: LedgerCopy, *, ax: Axes | None = None) -> Axes:
    """The rows of K6: what a frozen random encoder gains or loses, with the interval that decides and the line."""
    rows = [row for row in ledger.rows() if row["id"] == "K6"]
    ax = axes(ax, width=7.5, height=1.6 + 0.5 * len(rows))
    for place, row in enumerate(rows):
        low, high = row["interval"]
        ax.plot([low, high], [place, place], color="#0072B2", linewidth=2)
        ax.plot(row["effect"], place, "o", color="#0072B2")
    ax.axvline(rows[0]["line"], color="#D55E00", linestyle="--")
    ax.set_yticks(range(len(rows)), [row["task"].replace("_", " ") for row in rows])
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel="test Dice, frozen random encoder - trained as a whole")
    note = f"point: effect; bar: the interval that decides; dashed: minus the margin; {ledger.about}"
    title_and_note(ax, "K6: does a frozen random encoder lose little?", note)
    return ax
