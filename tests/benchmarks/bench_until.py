"""What seeds where they are needed cost and bring, on planted ledgers, as CSV.

    python tests/benchmarks/bench_until.py 20   # four minutes on two busy cores

Every truth is studied twice, so that rows that are said again can be counted. Numbers depend on the seed alone. Writes
the record `seeds_until` (`analysis.tables.recorded_measurements`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from growing_ledgers import TRUE, Runs, Truth, errors, fixed, signs, until  # noqa: E402

from analysis.claims import means  # noqa: E402
from analysis.claims.ledger.decide import FRAGILE  # noqa: E402
from analysis.tables.recorded_measurements import RECORDS, write_record  # noqa: E402

DRAWN = 500  # studies that say how often a row would come again: chances to .02, in an eighth of the time
Design = Callable[[Runs], tuple[list[dict[str, Any]], float]]
DESIGNS: dict[str, Design] = {
    **{f"{seeds} seeds": lambda runs, seeds=seeds: fixed(runs, seeds) for seeds in (3, 5, 10, 20)},
    "until 12 (3, 5, 8, 12)": lambda runs: until(runs, (3, 5, 8, 12)),
    "until 20 (3, 5, 8, 12, 20)": lambda runs: until(runs, (3, 5, 8, 12, 20)),
}


def measured(share: float, truths: int) -> pd.DataFrame:
    """One row per design: means over ledgers.

    Columns: design, effects (share of rows that have one), ledgers, seeds (a cell), decided (share of rows), false
    (decided rows a ledger without an effect, or on the wrong side), error (its standard error), any_false (share of
    ledgers), decided_again (share of decided rows that a second study says again), firm (decided rows a ledger that are
    not called fragile), firm_again (of those), flips (share of rows whose words differ between the two studies).
    """
    means.REPEATS = DRAWN
    rng, found = np.random.default_rng(17), []
    for _ in range(truths):
        truth = Truth(rng, share)
        studies = [Runs(truth, rng, 20) for _ in range(2)]
        for name, design in DESIGNS.items():
            (first, spent), (second, other) = (design(runs) for runs in studies)
            words, again = signs(first), signs(second)
            firm = np.array([row["replication"] >= FRAGILE for row in first]) & (words != 0)
            for each in (words, again):
                found.append(
                    {"design": name, "seeds": (spent + other) / 2, "decided": (each != 0).mean(),
                     "false": errors(each, truth), "any_false": errors(each, truth) > 0,
                     "flips": (words != again).mean(), "count": (words != 0).sum(),
                     "again": ((words != 0) & (words == again)).sum(), "firm": firm.sum(),
                     "firm_again": (firm & (words == again)).sum()}
                )  # fmt: skip
    table = pd.DataFrame(found)
    by = table.groupby("design", sort=False)
    rows = by.mean()
    rows["error"] = by.false.sem()
    rows["decided_again"], rows["firm_again"] = rows.again / rows["count"], rows.firm_again / rows.firm
    rows["ledgers"], rows["effects"] = 2 * truths, share
    kept = [
        "effects",
        "ledgers",
        "seeds",
        "decided",
        "false",
        "error",
        "any_false",
        "decided_again",
        "firm",
        "firm_again",
    ]
    return rows[[*kept, "flips"]].round(3).reset_index()


def main() -> None:
    truths = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with ProcessPoolExecutor(2) as pool:
        table = pd.concat(pool.map(measured, (TRUE, 0.0), (truths, truths)), ignore_index=True)
    print(table.to_string(index=False))
    write_record(RECORDS / "seeds_until.csv", table, f"python tests/benchmarks/bench_until.py {truths}")


if __name__ == "__main__":
    main()
