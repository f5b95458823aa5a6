"""The alternatives to the study's choices that finished runs can answer: measures, thresholds, replicates, rates.

Each changes what the test of a claim is given, a `Case`, or says in words why it has no meaning for that claim.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.claims.evidence import leaves
from analysis.claims.verdicts import Claim, Finding
from analysis.representations.measures.catalog import MEASURES
from analysis.tables.results import CELL


@dataclass(frozen=True)
class Case:
    """What the test of a claim is given."""

    claim: Claim
    frame: pd.DataFrame
    evaluations: pd.DataFrame


@dataclass(frozen=True)
class Choice:
    """An alternative to one of the study's choices.

    name: in few words, unlike any other's. changes: which choice it is about. about: what is done instead. of: from the
    study's case, and what its test found there, the case under this choice; or why there is none; or None where the
    claim has nothing of the kind. picks: it only picks runs, so that it is no other choice for a row that rests on the
    same runs. Otherwise a row counts even where its numbers stay the same.
    """

    name: str
    changes: str
    about: str
    of: Callable[[Case, Sequence[Finding]], Case | str | None]
    picks: bool = False


# What the tests read, apart from weights: test Dice, test PSNR, validation curves, representations.
DICE = ("heterogeneous", "only_hard_and_small", "non_inferior", "features_not_needed", "sets_matter", "last_is_worst")
DICE += ("shallow_better", "contracting_better", "shallow_first_better", "only_in_ultrasound", "follows_texture")
DICE += ("orders_differ",)
PSNR = ("best_across_contrasts", "lead_grows_as_volumes_fall", "largest_lead")
CURVES = ("faster", "shallow_faster")
SIMILARITY = ("reused_beyond_early", "different_representations", "variability_as_high")
FRACTIONS = (0.90, 0.95, 0.99)
COUNTS = ("min_seeds", "min_pairs", "min_sets", "min_tasks", "min_points", "runs")  # of what a test needs


def alternatives(claims: Sequence[Claim], frame: pd.DataFrame) -> list[Choice]:
    """Every choice that these claims and runs leave open, without the study's own.

    Args:
        frame: of `results.run_table`; with runs at several learning rates it says in `chosen` which are the study's.
    """
    return [
        *_performance(),
        *_plateau(),
        *_similarity(),
        *_sizes(),
        *_thresholds(claims),
        *_replicates(frame),
        *_rates(),
    ]


def _performance() -> Iterator[Choice]:
    yield Choice(
        "validation, not test", "metric", "Dice or PSNR on validation images at the end of training",
        _metric(lambda case: case.frame.assign(dice=case.frame.val_dice, psnr=case.frame.val_psnr), DICE + PSNR),
    )  # fmt: skip
    yield Choice(
        "best checkpoint", "checkpoint", "the best validation Dice or PSNR of the evaluations of a run, not the last; "
        "test images were looked at with the last checkpoint alone, and weights of the best are not kept",
        _metric(_best, DICE + PSNR),
    )  # fmt: skip
    yield Choice(
        "HD95, not Dice", "metric", "minus the 95 % Hausdorff distance; diverged runs are as bad as a task's worst",
        _metric(_distance, DICE, "Dice", "HD95 (nearer is better)"),
    )  # fmt: skip
    yield Choice(
        "SSIM, not PSNR", "metric", "structural similarity of reconstructions",
        _metric(lambda case: case.frame.assign(psnr=case.frame.ssim), PSNR, "dB of PSNR", "SSIM", "dB", "SSIM"),
    )  # fmt: skip


def _metric(
    table: Callable[[Case], pd.DataFrame], tests: Sequence[str], *units: str
) -> Callable[[Case, Sequence[Finding]], Case | str]:
    """Another metric in the place of the one that some tests read; in another unit only where every line is 0."""

    def of(case: Case, own: Sequence[Finding]) -> Case | str:
        if case.claim.test not in tests:
            return "the claim does not read this metric"
        if units and any(leaf.line != 0 for each in own if each.evidence for leaf, *_ in leaves(each.evidence)):
            return f"its line is one in {units[0]}"
        unit = case.claim.unit
        for old, new in zip(units[::2], units[1::2], strict=True):
            unit = unit.replace(old, new)
        return replace(case, claim=replace(case.claim, unit=unit), frame=table(case))

    return of


def _best(case: Case) -> pd.DataFrame:
    best = case.evaluations.groupby("run_id")[["val_dice", "val_psnr"]].max().astype("float64")
    done = case.frame.status == "done"
    columns = {name: case.frame.run_id.map(best[f"val_{name}"]).where(done) for name in ("dice", "psnr")}
    return case.frame.assign(**columns)


def _distance(case: Case) -> pd.DataFrame:
    frame = case.frame
    worst = frame.groupby("task").hd95.transform("max")
    return frame.assign(dice=-frame.hd95.where(frame.status != "diverged", worst))


def _plateau() -> Iterator[Choice]:
    for fraction in FRACTIONS:

        def of(case: Case, own: Sequence[Finding], fraction: float = fraction) -> Case | str:
            if case.claim.test not in CURVES:
                return "the claim is not about time"
            own_choice = case.claim.value("fraction") == fraction
            return "it is the study's own" if own_choice else _with(case, "fraction", fraction)

        yield Choice(f"{100 * fraction:g} % of plateau", "plateau", f"time to {100 * fraction:g} % of the plateau", of)


def _similarity() -> Iterator[Choice]:
    for name in ("cka", "svcca", "rsa"):

        def of(case: Case, own: Sequence[Finding], name: str = name) -> Case | str:
            if case.claim.test not in SIMILARITY:
                return "the claim compares no representations"
            unit = case.claim.unit.replace("CKA", MEASURES[name].title)
            return replace(case, claim=replace(case.claim, measure=name, unit=unit))

        yield Choice(MEASURES[name].title, "similarity", f"{MEASURES[name].title}, not debiased linear CKA", of)


def _sizes() -> Iterator[Choice]:
    for matched in (False, True):

        def of(case: Case, own: Sequence[Finding], matched: bool = matched) -> Case | str:
            if case.claim.test != "shallow_better":
                return "the claim makes no difference between sets as they are and sets of equal size"
            options = case.frame.options.map(json.loads)
            cut = np.array([bool(each.get("parameters")) for each in options], dtype=bool)
            whole = [json.dumps({**each, "parameters": None}) if is_cut else json.dumps(each)
                     for each, is_cut in zip(options, cut, strict=True)]  # fmt: skip
            return replace(case, frame=case.frame.assign(options=whole)[cut == matched])

        name = "capacity-matched sets alone" if matched else "raw sets alone"
        about = "sets of equal numbers of parameters" if matched else "sets of equal numbers of blocks"
        yield Choice(name, "capacity", f"{about} decide by themselves", of)


def _thresholds(claims: Sequence[Claim]) -> Iterator[Choice]:
    """Every threshold halved and doubled: on its own scale, `_scaled`."""
    for name in dict.fromkeys(name for claim in claims for name in claim.thresholds if name != "fraction"):
        for factor, word in ((0.5, "halved"), (2.0, "doubled")):

            def of(case: Case, own: Sequence[Finding], name: str = name, factor: float = factor) -> Case | str | None:
                if name not in case.claim.thresholds:
                    return None
                value = _scaled(name, case.claim.value(name), factor)
                return _with(case, name, value) if value != case.claim.value(name) else f"{name} is {value:g} as it is"

            own_values = sorted({claim.value(name) for claim in claims if name in claim.thresholds})
            moved = [(value, _scaled(name, value, factor)) for value in own_values]
            values = ", ".join(f"{value:g} to {new:.3g}" for value, new in moved if new != value)
            yield Choice(
                f"{name} {word}", "threshold", f"{name} from {values or 'where it has no half nor double'}", of
            )


def _scaled(name: str, value: float, factor: float) -> float:
    """A threshold halved or doubled where its scale begins: a cosine's distance from 1, an AUC's from a guess, the odds
    of a share, a ratio's logarithm; a number of what is needed stays whole, and at least 2."""
    if name in COUNTS:
        return float(max(2, math.ceil(value * factor)))
    if name == "cosine":
        return 1 - (1 - value) * factor
    if name == "auc":
        return 0.5 + (value - 0.5) * factor
    if name in ("i2", "share"):
        odds = value / (1 - value) * factor
        return odds / (1 + odds)
    return value**factor if name == "ratio" else value * factor


def _with(case: Case, name: str, value: float) -> Case:
    changed = {**case.claim.thresholds, name: replace(case.claim.thresholds[name], value=value)}
    return replace(case, claim=replace(case.claim, thresholds=changed))


def _replicates(frame: pd.DataFrame) -> Iterator[Choice]:
    for seed in sorted(set(frame.seed)):

        def without(case: Case, own: Sequence[Finding], seed: int = seed) -> Case | str:
            fewer = replace(case, frame=case.frame[case.frame.seed != seed])
            for name in ("min_seeds", "runs"):
                if name in case.claim.thresholds:
                    fewer = _with(fewer, name, max(2.0, case.claim.value(name) - 1))
            return fewer

        about = f"all seeds but {seed}; tests need one seed less than otherwise"
        yield Choice(f"without seed {seed}", "seeds", about, without, picks=True)
    for volume in sorted(set(frame.volume_label), key=lambda label: (label == "all", len(label), label)):

        def only(case: Case, own: Sequence[Finding], volume: str = volume) -> Case | str:
            return replace(case, frame=case.frame[case.frame.volume_label == volume])

        about = f"runs with {volume} training images or subjects alone"
        yield Choice(f"volume {volume} alone", "volume", about, only, picks=True)


def _rates() -> Iterator[Choice]:
    for word in ("chosen", "lowest", "highest"):

        def of(case: Case, own: Sequence[Finding], word: str = word) -> Case | str:
            rates = case.frame.groupby([*CELL, "seed", "fold"], dropna=False).lr
            if not (rates.transform("nunique") > 1).any():
                return "every cell was trained at one learning rate"
            at = {"chosen": case.frame.chosen, "lowest": case.frame.lr == rates.transform("min"),
                  "highest": case.frame.lr == rates.transform("max")}[word]  # fmt: skip
            return replace(case, frame=case.frame[at].assign(chosen=True))

        about = f"every arm at the {word} of the learning rates that it was trained with"
        yield Choice(f"{word} learning rate", "learning rate", about, of, picks=True)
