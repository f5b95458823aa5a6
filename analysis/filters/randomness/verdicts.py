"""What a battery comes to for networks from elsewhere: the null by layer, and a verdict or why there is none."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from torch import Tensor, nn

from analysis.filters.kernels import Geometry, geometry
from analysis.filters.randomness.battery import battery
from analysis.filters.randomness.laws import OWN, find_laws

ALPHA = 0.05


def laws_at_start(
    start: Mapping[str, Tensor],
    *,
    model: nn.Module | Geometry | None = None,
    draws: int | None = None,
    seed: int = 0,
) -> tuple[dict[str, str], pd.DataFrame]:
    """The null of each layer, found out from the weights at step 0, and the battery at step 0 under these nulls.

    The law that the weights follow best (`laws.find_laws`); where the tests reject even that, the distribution of the
    layer's own weights, whose arrangement alone is then tested.

    Args:
        start: weights of step 0.
        model: as in `analysis.filters.change.filter_change`.
        draws: as in `battery.battery`.
    """
    found = find_laws(start, geometry(model))
    laws = dict(zip(found.layer, found.law, strict=True))
    table = battery(start, model=model, draws=draws, seed=seed, law=laws, start=start)
    failed = set(table[table.p_holm < ALPHA].layer)
    if failed:
        laws |= dict.fromkeys(failed, OWN)
        table = battery(start, model=model, draws=draws, seed=seed, law=laws, start=start)
    return laws, table


def verdicts(table: pd.DataFrame, start: pd.DataFrame | None = None, alpha: float = ALPHA) -> pd.DataFrame:
    """What a battery says of each layer, in words that say what it cannot.

    Args:
        table: of one checkpoint.
        start: of step 0 under the same laws. Where a layer fails there already, its fresh draw was not of that law, or
            was no fresh draw; then nothing is said of it later on.

    Returns:
        layer, stage, kind, filters, laws, tests (that apply), rejected (names of those that reject, with the correction
        over the table) and verdict: `not random`, `looks random`, or `no verdict` and why.
    """
    failed = set() if start is None else set(start[start.p_holm < alpha].layer)
    rows = []
    for name, own in table.groupby("layer", sort=False):
        tested = own[own.p.notna()]
        rejected = list(tested[tested.p_holm < alpha].test)
        verdict = "not random" if rejected else "looks random"
        if name in failed:
            verdict = "no verdict: step 0 fails as well, so it was no fresh draw of that law"
        elif not len(tested):
            verdict = "no verdict: no test applies"
        elif not rejected and (tested.p_holm_least >= alpha).any():
            verdict = "no verdict: too few draws to reject anything among so many rows"
        about = {column: own[column].iloc[0] for column in ("layer", "stage", "kind", "filters")}
        laws = ", ".join(each for each in dict.fromkeys(own.law) if each)
        rows.append({**about, "laws": laws, "tests": len(tested), "rejected": ", ".join(rejected), "verdict": verdict})
    return pd.DataFrame(rows)
