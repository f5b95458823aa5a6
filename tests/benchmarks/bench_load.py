"""How long commands take, and how much memory, as a home fills with finished runs.

    python tests/benchmarks/bench_load.py FOLDER 500 5000 50000   # an hour on two busy cores, 2 GB in FOLDER

Makes homes of so many runs under FOLDER (`many_runs`; one that is there is used again), runs commands on each in a
process of its own, and writes the record `many_runs` (`analysis.tables.recorded_measurements`). Seconds are told by the
clock and of the processor: on a machine with other work only the latter mean something.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from many_runs import make  # noqa: E402

from analysis.tables.recorded_measurements import RECORDS, write_record  # noqa: E402

# What is run: a command line, or code on the suite `suite`, a path.
READ = """
from analysis.tables.results import evaluation_table, run_and_evaluation_tables
from lib.study.plan import load_suite, runs_at_all_rates
loaded = load_suite(suite)
runs = runs_at_all_rates(loaded, goal=None)
"""
LEDGER = """
from analysis.claims.ledger.evaluate import evaluate
from analysis.tables.learning_rates import with_chosen
table, curves = run_and_evaluation_tables(runs)
evaluate(with_chosen(loaded, table), curves)
"""
SUITES = """
from pathlib import Path
from lib.study.plan import load_suite
for number in range(200):
    file = Path(suite).parent / "suites" / f"class_{number}.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f'extends = "class"\\nshift_seeds = {number + 1}\\n')
    load_suite(str(file))
"""
COMMANDS = {
    "start": "import analysis.claims.ledger.evaluate",  # what every one of them takes without any run
    "lib runs": ["lib", "runs"],
    "lib runs --verify": ["lib", "runs", "--verify"],
    "analysis table": ["analysis", "table", "SUITE"],
    "learning curves": READ + "evaluation_table(runs)",
    "ledger without checkpoints": READ + LEDGER,  # tables, curves, and all claims but those that read weights
    "200 suites": SUITES,  # `class` with other seeds, loaded one after the other
}
VERIFIED = 5_000  # runs; it reads every byte, whatever else is done
MEASURED = """
import resource, runpy, sys
suite = sys.argv[1]
{code}
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=sys.stderr)
"""


def measured(home: Path, suite: Path, name: str) -> dict[str, float]:
    """Seconds by the clock and of the processor, and peak megabytes, of a command in a process of its own."""
    command = COMMANDS[name]
    if isinstance(command, list):
        words = [str(suite) if word == "SUITE" else word for word in command]
        code = f"from {words[0]}.__main__ import main\nassert main({words[1:]!r}) == 0"
    else:
        code = command
    begun = time.monotonic()
    environment = {**os.environ, "STUDY_HOME": str(home), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(code=code), str(suite)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, megabytes = map(float, done.stderr.splitlines()[-1].split())
    return {"clock_s": round(time.monotonic() - begun, 1), "cpu_s": round(seconds, 1), "peak_mb": round(megabytes)}


def with_growth(table: pd.DataFrame) -> pd.DataFrame:
    """The exponent of growth beside each row: of processor seconds without those of the start, from the row before."""
    rows, start = [], table[table.command == "start"].set_index("runs").cpu_s
    for _, own in table.groupby("command", sort=False):
        before = None
        for row in own.sort_values("runs").to_dict("records"):
            work = row["cpu_s"] - start[row["runs"]]
            known = before is not None and before[1] > 0 and work > 0
            growth = math.log(work / before[1]) / math.log(row["runs"] / before[0]) if known else math.nan
            rows.append({**row, "growth": round(growth, 2)})
            before = row["runs"], work
    return pd.DataFrame(rows)


def main() -> None:
    folder, counts = Path(sys.argv[1]).resolve(), [int(word) for word in sys.argv[2:]]
    rows = []
    for count in counts:
        home = folder / f"h{count}"
        suite = make(home, count)
        for name in COMMANDS:
            if (name == "lib runs --verify" and count > VERIFIED) or (name == "200 suites" and count != counts[0]):
                continue
            rows.append({"command": name, "runs": count, **measured(home, suite, name)})
            print(json.dumps(rows[-1]), flush=True)
        table = with_growth(pd.DataFrame(rows))  # written after each number: the next one takes ten times as long
        made = f"python tests/benchmarks/bench_load.py FOLDER {' '.join(map(str, counts))}; {date.today()}"
        busy = f"{os.cpu_count()} cores, on average {os.getloadavg()[2]:.0f} processes wanting them"
        write_record(RECORDS / "many_runs.csv", table, f"{made}; {busy}")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
