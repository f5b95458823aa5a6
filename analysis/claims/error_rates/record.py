"""The record of error rates in `results/error_rates`: `python -m analysis errors` makes it, pages read it."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.error_rates import whole_ledgers
from analysis.claims.error_rates.catalog import EXACT, SCENES
from analysis.claims.error_rates.measure import power_at_detectable, rates, situations, told
from analysis.claims.error_rates.scene import Scene
from analysis.claims.error_rates.shortcut import shortened
from analysis.claims.ledger.evaluate import load_claims
from analysis.claims.verdicts import Claim
from analysis.tables.recorded_measurements import write_record
from lib.common import paths
from lib.common.errors import StudyError, nearest
from lib.common.provenance import commit

RECORD = paths.REPOSITORY / "results" / "error_rates"
SEEDS = (3, 5, 10, 20)
SLOW = 5  # where every study goes through the test itself, so many times fewer are drawn
TOLD = 40  # studies that are asked how often they would come again: it takes longer than their verdict
TABLES = ("tests", "replication", "detectable")
BINS = (0.0, 0.5, 0.8, 0.9, 1.0)


def measure_claim(claim: Claim, scene: Scene, seeds: int, count: int) -> dict[str, list[dict[str, Any]]]:
    """Tables `tests`, `replication` and `detectable` of one claim at one number of seeds."""
    key = [zlib.crc32(claim.id.encode()), seeds]
    rng = np.random.default_rng(key)
    built = scene.build(claim, seeds, scene.copies)
    study = shortened(built, rng)
    count = count if study is not built else max(20, count // SLOW)
    some = max(20, count // 4)
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in TABLES}
    for situation in situations(scene):
        each = count if situation in ("line", "edge") else some
        found["tests"].append(rates(claim, scene, study, situation, each, rng) | {"seeds": seeds})
    for situation in ("opposite", "line", "smallest", "twice"):
        found["replication"] += told(claim, scene, study, min(some, TOLD), rng, situation)
    power = power_at_detectable(claim, scene, study, min(some, 4 * TOLD), np.random.default_rng([*key, 1]))
    found["detectable"] += [power | {"seeds": seeds}] if power else []
    return {name: [row | {"seeds": seeds} for row in rows] for name, rows in found.items()}


def errors(options: argparse.Namespace) -> int:
    """Measure and record; returns the exit code."""
    claims = {claim.id: claim for claim in load_claims()}
    chosen = options.claims.split(",") if options.claims else list(SCENES)
    for name in chosen:
        if name not in SCENES:
            raise StudyError(f"{name} is {EXACT[name]}" if name in EXACT else nearest("claim", name, list(SCENES)))
    about = f"python -m analysis errors --replications {options.replications}, commit {commit()}"
    folder = options.out or RECORD
    if not options.claims:
        ledgers = pd.DataFrame(measure_ledgers(claims, options.replications // 2))
        write_record(folder / "ledgers.csv", ledgers.round(4), about)
    for name in chosen:
        found: dict[str, list[dict[str, Any]]] = {key: [] for key in TABLES}
        for seeds in [each for each in SEEDS if each >= SCENES[name].fewest]:
            begun = time.process_time()
            for key, rows in measure_claim(claims[name], SCENES[name], seeds, options.replications).items():
                found[key] += rows
            print(f"{name}, {seeds} seeds: {time.process_time() - begun:.0f} s", file=sys.stderr, flush=True)
        found["replication"] = calibration(pd.DataFrame(found["replication"])).to_dict("records")
        for key, rows in found.items():
            _put(folder / f"{key}.csv", name, pd.DataFrame(rows), about)
    print(rates_table(folder).to_string(index=False))
    print(f"written to {folder}", file=sys.stderr)
    return 0


def _put(path: Path, name: str, table: pd.DataFrame, about: str) -> None:
    """Write a claim's rows in place of those that are there; what is drawn for a claim does not hang on the others."""
    old = pd.read_csv(path, comment="#") if path.is_file() else pd.DataFrame(columns=["claim"])
    kept = [part for part in (old[old.claim != name], table.round(4)) if len(part)]
    if kept:
        write_record(path, pd.concat(kept, ignore_index=True), about)


def measure_ledgers(claims: Mapping[str, Claim], ledgers: int) -> list[dict[str, Any]]:
    """Whole ledgers at 3, 5 and 10 seeds."""
    rows = []
    for seeds in SEEDS[:3]:
        rng = np.random.default_rng([43, seeds])
        rows.append(whole_ledgers.at_the_line(claims, seeds, ledgers // SLOW, rng))
        rows += whole_ledgers.mixed(claims, seeds, ledgers, rng, effects=False)
        for one_rate in (False, True):
            rows += whole_ledgers.mixed(claims, seeds, ledgers, rng, one_rate=one_rate)
        print(f"ledgers, {seeds} seeds", file=sys.stderr, flush=True)
    return rows


def calibration(rows: pd.DataFrame) -> pd.DataFrame:
    """Studies in bins of the chance that they print, and how often the next study said the same word.

    Columns: claim, seeds, word ("decided": supported or contradicted), low, high (of the bin), studies, printed (mean
    chance), again (share).
    """
    bins = pd.cut(rows.replication, BINS, include_lowest=True, labels=list(BINS[:-1]))
    word = rows.word.where(rows.word == "inconclusive", "decided")
    groups = rows.assign(low=bins.astype(float), word=word).groupby(["claim", "seeds", "word", "low"])
    found = groups.agg(studies=("again", "size"), printed=("replication", "mean"), again=("again", "mean"))
    found = found.reset_index()
    found.insert(4, "high", found.low.map(dict(itertools.pairwise(BINS))))
    return found


def calibration_table(folder: Path = RECORD) -> pd.DataFrame:
    """For pages: calibration over all claims, a row per word, seeds and bin, with the standard error of the share."""
    rows = read("replication", folder)
    rows = rows.assign(printed=rows.printed * rows.studies, again=rows.again * rows.studies)
    table = rows.groupby(["word", "seeds", "low", "high"])[["studies", "printed", "again"]].sum().reset_index()
    table["printed"], table["again"] = table.printed / table.studies, table.again / table.studies
    table["error"] = np.sqrt(table.again * (1 - table.again) / table.studies)
    return table.round(3)


def read(name: str, folder: Path = RECORD) -> pd.DataFrame:
    """A table of the record: tests, replication, detectable or ledgers.

    Raises:
        StudyError: it is not there.
    """
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise StudyError(f"there is no {path}; make it with: python -m analysis errors")
    return pd.read_csv(path, comment="#")


def rates_table(folder: Path = RECORD) -> pd.DataFrame:
    """For pages: a row per claim and seeds. At the line: the larger share of each word, of all parts there or one
    alone; opposite: contradicted; smallest and twice: supported; failing: supported and contradicted; coverage at the
    line. Standard error of a share: sqrt(share (1 - share) / replications).
    """
    tests, rows = read("tests", folder), []
    for (claim, seeds), own in tests.groupby(["claim", "seeds"], sort=False):
        by = own.set_index("situation")
        null = by.loc[[name for name in ("line", "edge") if name in by.index]]
        rows.append(
            {
                "claim": claim, "seeds": seeds, "replications": by.replications["line"],
                "line supported": null.supported.max(), "line contradicted": null.contradicted.max(),
                "opposite contradicted": by.contradicted["opposite"], "smallest supported": by.supported["smallest"],
                "twice supported": by.supported["twice"], "coverage": by.coverage["line"],
                "failing supported": by.supported["failing"], "failing contradicted": by.contradicted["failing"],
            }
        )  # fmt: skip
    return pd.DataFrame(rows).round(3)


def effects_table(scenes: Sequence[Scene] = tuple(SCENES.values())) -> pd.DataFrame:
    """The smallest effect of interest of every claim, in the unit of its parts, and why it is that one."""
    told = [{"claim": each.id, "effect": ", ".join(f"{own:.3g}" for own in each.effect), "why": each.why}
            for each in scenes]  # fmt: skip
    return pd.DataFrame(told)
