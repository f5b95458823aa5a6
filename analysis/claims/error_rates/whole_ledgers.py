"""Whole ledgers of planted rows: how many verdicts are false, and how many a second study says again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.claims.error_rates.catalog import SCENES
from analysis.claims.error_rates.measure import turns
from analysis.claims.error_rates.shortcut import shortened
from analysis.claims.error_rates.study import FOLDS, Floats
from analysis.claims.ledger.decide import FRAGILE, decide, judge
from analysis.claims.means import mean
from analysis.claims.verdicts import Claim, Finding

ROWS, ARMS = 43, 5  # rows of a ledger; arms of a cell, of which one is what the others are set against
TRUE, EFFECT = 0.6, 1.5  # share of rows with an effect, and its standard deviation in those of a seed's difference
DOF = 2.5  # of the inverse chi-square law of the variances of cells
RATE = 0.5  # spread of an arm with its choice of a learning rate, in standard deviations of a seed
TOLD = 60  # ledgers whose rows are asked how often they would come again
FOLD = 0.5  # share of a seed's variance that an arm has in common on a fold


def at_the_line(claims: Mapping[str, Claim], seeds: int, ledgers: int, rng: np.random.Generator) -> dict[str, Any]:
    """Ledgers of real tests, all on their lines: per ledger, false verdicts of each kind.

    Every claim that this many seeds can test has one row, claims that are told by task as many more as `ROWS` needs.
    """
    chosen = {name: each for name, each in SCENES.items() if each.fewest <= seeds}
    single = sum(each.copies == 1 for each in chosen.values())
    copies = math.ceil((ROWS - single) / (len(chosen) - single))
    studies = {
        name: shortened(each.build(claims[name], seeds, copies if each.copies > 1 else 1), rng)
        for name, each in chosen.items()
    }
    counts = []
    for _ in range(ledgers):
        findings = [
            each for name, study in studies.items()
            for each in study.draw(rng, turns(chosen[name], "line", len(study.knobs)))
        ]  # fmt: skip
        words = list(judge(findings[:ROWS], _alpha(claims)).words.values())
        counts.append([words.count("supported"), words.count("contradicted")])
    found = np.array(counts)
    return {
        "ledger": "every test on its line", "seeds": seeds, "pooled": True, "bh": True, "ledgers": ledgers,
        "false": found.sum(1).mean(), "error": found.sum(1).std(ddof=1) / math.sqrt(ledgers),
        "any_false": (found.sum(1) > 0).mean(), "false_supported": found[:, 0].mean(),
        "false_contradicted": found[:, 1].mean(),
    }  # fmt: skip


def mixed(
    claims: Mapping[str, Claim], seeds: int, ledgers: int, rng: np.random.Generator, *,
    effects: bool = True, one_rate: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Ledgers of differences between arms, of which `TRUE` have an effect; each is studied twice.

    Cells have variances of their own; rows of one cell share the arm they are set against. one_rate: whether learning
    rates are chosen once for all seeds of a study, and not for each.

    Returns:
        A row for every rule: with and without pooled variances, with and without Benjamini and Hochberg.
    """
    claim, alpha = next(iter(claims.values())), _alpha(claims)
    cells = math.ceil(ROWS / (ARMS - 1))
    counts: dict[tuple[bool, bool], list[list[float]]] = {(a, b): [] for a in (True, False) for b in (True, False)}
    told: list[tuple[bool, float, bool]] = []
    for _ in range(ledgers):
        sd = np.sqrt(DOF / rng.chisquare(DOF, cells)).repeat(ARMS - 1)[:ROWS]
        truth = rng.normal(0, EFFECT, ROWS) * sd * math.sqrt(2) * (rng.random(ROWS) < (TRUE if effects else 0.0))
        studies = [_differences(seeds, cells, one_rate, rng)[:, :ROWS] * sd + truth for _ in range(2)]
        for pooled in (True, False):
            if pooled and len(told) < TOLD * ROWS:
                told += _told(claim, studies[0], studies[1], alpha)
            judged = [judge(_ledger(claim, values, pooled), alpha) for values in studies]
            for bh in (True, False):
                words = [_signs(each.sides, each.adjusted if bh else each.p, alpha) for each in judged]
                decided = words[0] != 0
                false = decided & (words[0] != np.sign(truth))
                again = decided & (words[0] == words[1])
                numbers = [decided.sum(), false.sum(), again.sum(), (false & (words[0] > 0)).sum()]
                counts[pooled, bh].append([float(each) for each in numbers])
    name = ("no effects" if not effects else "40 % without effect") + (", one rate for all seeds" if one_rate else "")
    rows = []
    for (pooled, bh), found in counts.items():
        table = np.array(found)
        decided, false, again, supported = table.mean(0)
        rows.append(
            {"ledger": name, "seeds": seeds, "pooled": pooled, "bh": bh, "ledgers": ledgers, "decided": decided / ROWS,
             "false": false, "error": table[:, 1].std(ddof=1) / math.sqrt(ledgers),
             "any_false": (table[:, 1] > 0).mean(), "false_supported": supported,
             "false_contradicted": false - supported, "share_false": false / max(decided, 1e-9),
             "again": again / max(decided, 1e-9), **(_kept(told) if pooled and bh else {})}
        )  # fmt: skip
    return rows


def _differences(seeds: int, cells: int, one_rate: bool, rng: np.random.Generator) -> Floats:
    """Differences (folds, cells x (arms - 1)) from the first arm of a cell, in its standard deviations of a seed.

    Seeds of one fold are averaged, as `evidence.per_fold` does.
    """
    runs = rng.normal(0, math.sqrt(1 - FOLD), (seeds, cells, ARMS))
    runs = runs + rng.normal(0, RATE, (1 if one_rate else seeds, cells, ARMS))
    folds = np.array([runs[fold::FOLDS].mean(0) for fold in range(min(seeds, FOLDS))])
    folds = folds + rng.normal(0, math.sqrt(FOLD), folds.shape)
    return (folds[:, :, 1:] - folds[:, :, :1]).reshape(len(folds), -1)


def _ledger(claim: Claim, values: Floats, pooled: bool) -> list[Finding]:
    return [
        Finding(claim, str(at), "", mean("", row, 0.0, above=True, unit="" if pooled else str(at)))
        for at, row in enumerate(values.T)
    ]


def _told(claim: Claim, first: Floats, second: Floats, alpha: float) -> list[tuple[bool, float, bool]]:
    """Of a ledger's rows: whether it is decided, its `replication`, and whether the second study says the same."""
    rows, words = decide(_ledger(claim, first, True), alpha), judge(_ledger(claim, second, True), alpha).words
    return [
        (row["verdict"] != "inconclusive", row["replication"], row["verdict"] == words[at])
        for at, row in enumerate(rows)
    ]


def _kept(told: list[tuple[bool, float, bool]]) -> dict[str, float]:
    """Of decided rows: the mean of what they print, the share that is not called fragile, and of those, said again."""
    rows = np.array([(printed, again) for decided, printed, again in told if decided]).reshape(-1, 2)
    if not len(rows):
        return {}
    firm = rows[rows[:, 0] >= FRAGILE]
    again = firm[:, 1].mean() if len(firm) else math.nan
    return {"printed": rows[:, 0].mean(), "firm": len(firm) / len(rows), "firm_again": again, "firm_rows": len(firm)}


def _signs(sides: Mapping[int, Any], p: Mapping[int, float], alpha: float) -> Floats:
    return np.array([(p[at] <= alpha) * (1.0 if each.support < each.against else -1.0) for at, each in sides.items()])


def _alpha(claims: Mapping[str, Claim]) -> float:
    return next(iter(claims.values())).value("alpha")
