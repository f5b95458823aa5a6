"""The command line of training: `python -m lib train | plan | bundle | merge | runs | data | network | doctor`."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads starve a busy machine
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is begun while modules load; `run_command` takes it back

import argparse
import functools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from lib.common import paths
from lib.common.command_line import add_engine_options, engine_options, run_command, told_failures
from lib.common.device import DEVICES, bfloat16_is_fast, device_name, pick_device
from lib.common.errors import StudyError
from lib.common.outside import read_json
from lib.common.progress import Progress, counted, time_text
from lib.common.provenance import stamp
from lib.data import cli as data_cli
from lib.data.tasks.images import data_digest, load_data
from lib.data.tasks.task import SCORE
from lib.networks import cli as network_cli
from lib.networks.stages import parameters_by_stage
from lib.runs.listing import find_run, list_runs
from lib.runs.run import Digest, Run, Sources
from lib.runs.spec import RunSpec, run_id, spec_from_dict
from lib.study import engines
from lib.study.bundle import merge, part_of, write_bundle
from lib.study.forecast import forecast, measure, units
from lib.study.plan import count_untrained, load_suite, phases, train_suite
from lib.training.predictions import write_predictions
from lib.training.together import train_stack


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a mistake of the user's is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_plan(commands)
    _add_bundle(commands)
    _add_runs(commands)
    _add_predict(commands)
    data_cli.add_parser(commands)
    network_cli.add_parser(commands)
    doctor = commands.add_parser("doctor", help="what this machine and installation offer, and what is amiss")
    doctor.set_defaults(run=_doctor)
    worker = commands.add_parser("worker")  # started by the engine `local`; reads specs from standard input
    worker.add_argument("--device", default="auto")
    worker.set_defaults(run=_worker)
    options = parser.parse_args(arguments)
    return run_command(lambda: options.run(options))


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train what is missing of a suite, or one run",
        description="Train what is missing of a suite (a name in notebooks/suites, or a TOML file), or one run, given "
        "as a JSON file of its spec or as fields: task=sim_ultrasound steps=200 lr=0.003. Finished runs are left "
        "alone, interrupted ones go on. Exit code 1 if a run could not be trained.",
    )
    parser.add_argument("target", nargs="+", metavar="SUITE | FILE | FIELD=VALUE")
    add_engine_options(parser)
    parser.add_argument("--part", metavar="K/N", help="only the K-th of N parts of a suite")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    engine = engine_options(options)
    paths.check_home()
    device = pick_device(options.device)
    print(f"device: {device_name(device)}; runs: {paths.runs_dir()}", flush=True)
    target = options.target[0]
    if "=" not in target and not target.endswith(".json"):
        if len(options.target) > 1:
            raise StudyError(f"one suite at a time, got {' '.join(options.target)}")
        suite = part_of(load_suite(target), *_part(options.part))
        return told_failures(target + (f", part {options.part}" if options.part else ""), train_suite(suite, **engine))
    spec = _one_spec(options.target)
    for note in load_data(spec.task, spec.size).notes:
        print(f"note: {note}", flush=True)
    progress = Progress({run_id(spec): spec.steps}, every_evaluation=True)
    (run,) = train_stack([spec], device=options.device, report=progress)
    _print_result(run)
    return 0


def _add_plan(commands: Any) -> None:
    parser = commands.add_parser(
        "plan",
        help="what the training of a suite will cost",
        description="Runs, steps, bytes and time of what is missing of a suite. A few steps of each kind of run are "
        "trained for that, about a minute, in a folder that is deleted.",
    )
    parser.add_argument("suite", metavar="SUITE")
    parser.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}, or cuda:N (default: auto)")
    parser.add_argument("--workers", type=int, help="worker processes (default: one per core, or one on a GPU)")
    parser.set_defaults(run=_plan)


def _part(text: str | None) -> tuple[int, int]:
    """ "2/4" as (2, 4)."""
    if text is None:
        return 1, 1
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal()):
        raise StudyError(f"part must be K/N, such as 2/4, got {text!r}")
    return int(number), int(parts)


def _add_bundle(commands: Any) -> None:
    parser = commands.add_parser(
        "bundle",
        help="one archive that trains a suite on a machine without a network",
        description="Code, images, finished sources and the suite, for a machine with torch, numpy, scipy and "
        "safetensors: unpack it there and run ./train.sh.",
    )
    parser.add_argument("suite", metavar="SUITE")
    parser.add_argument("--parts", type=int, default=1, help="how many archives, for as many machines (default: 1)")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the archives (default: this one)")
    parser.set_defaults(run=_bundle)
    parser = commands.add_parser("merge", help="bring the finished runs of a bundle home")
    parser.add_argument("source", type=Path, help="an unpacked bundle, its folder runs, or an archive of either")
    parser.set_defaults(run=_merge)


def _bundle(options: argparse.Namespace) -> int:
    suite, parts = load_suite(options.suite), options.parts
    for number in range(1, parts + 1):
        name = f"{suite.name}.tar.gz" if parts == 1 else f"{suite.name}-{number}-of-{parts}.tar.gz"
        size = write_bundle(suite, options.out / name, number=number, parts=parts)
        print(f"{options.out / name}: {size / 1e6:.1f} MB; unpack it there and run ./train.sh", flush=True)
    return 0


def _merge(options: argparse.Namespace) -> int:
    found = merge(options.source)
    for line in found.refused:
        print(f"refused: {line}")
    for name in found.unfinished:
        print(f"unfinished, left there: {name}")
    print(f"{len(found.taken)} runs taken, {len(found.here)} were here, {len(found.refused)} refused")
    return 1 if found.refused else 0


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser("predict", help="write what a run on volumes finds in its test volumes, as NIfTI")
    parser.add_argument("name", metavar="RUN", help="the run's name, or the beginning of it")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where masks are written, named as the images are")
    parser.add_argument("--device", default="auto", help=f"{', '.join(DEVICES)}, or cuda:N (default: auto)")
    parser.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> int:
    files = list(write_predictions(find_run(options.name), options.folder, pick_device(options.device)))
    print(f"{len(files)} masks: {options.folder}")
    return 0


def _plan(options: argparse.Namespace) -> int:
    paths.check_home()
    suite, device = load_suite(options.suite), pick_device(options.device)
    dealt = [units(phase, options.device) for phase in phases(suite)]
    workers = options.workers or (engines.cores() if device.type == "cpu" else 1)
    untrained, runs = count_untrained(suite)
    print(f"{runs - untrained} of {runs} runs of {suite.name} are finished; {device_name(device)}", flush=True)
    if not any(dealt):
        print("nothing is missing")
        return 0
    progress = Progress({})
    wanted = [unit for phase in dealt for unit in phase]
    costs = measure(wanted, device=options.device, workers=workers, report=progress)
    found = forecast(dealt, costs, sorted({workers, 1, 4, 16}))
    print(f"missing   {found.runs} runs, {found.sources} of them sources, {found.steps:,} steps, {found.units} units")
    print(f"disk      {found.bytes / 1e9:.2f} GB for their folders")
    for count, seconds in found.seconds.items():
        print(f"time      {time_text(seconds)} on {count} worker{'s' if count > 1 else ''} like those of this machine")
    print(f"          {time_text(found.least)} at least, on any number of workers")
    return 0


def _one_spec(target: list[str]) -> RunSpec:
    if target[0].endswith(".json"):
        return spec_from_dict(read_json(Path(target[0])))
    values: dict[str, Any] = {}
    for each in target:
        name, separator, value = each.partition("=")
        if not separator:
            raise StudyError(f"expected FIELD=VALUE, got {each!r}")
        if name == "source" and not value.startswith("{"):  # a name, even where its digits read as a number
            values[name] = find_run(value).spec.to_dict()
            continue
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return spec_from_dict(values)


def _add_runs(commands: Any) -> None:
    parser = commands.add_parser("runs", help="list the runs, or show one")
    parser.add_argument("name", nargs="?", help="a run's name or its last eight digits; without it, all are listed")
    parser.add_argument("--verify", action="store_true", help="check all files, data, sources; exit code 1 for a fault")
    parser.set_defaults(run=_runs)


def _verify(name: str | None) -> int:
    """Print what is wrong with the run of that name (None: with any run), a line each."""
    faults: list[str] = []
    runs = [find_run(name)] if name else list_runs(warn=faults.append)
    digest, sources = functools.cache(data_digest), Sources()
    for run in counted(runs, "checking all files of runs"):
        faults += run.faults(digest, sources)
    for fault in faults:
        print(fault)
    print(f"{len(runs)} runs in {paths.runs_dir()} verified, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


def _runs(options: argparse.Namespace) -> int:
    if options.verify:
        return _verify(options.name)
    if options.name:
        run = find_run(options.name)
        print(json.dumps(run.spec.to_dict(), indent=1))
        if run.steps():
            for stage, count in parameters_by_stage(run.model()).items():
                print(f"{stage:8}{count['parameters']:>12,} parameters {count['trainable']:>12,} trained")
        _print_result(run)
        return 0
    digest, sources = functools.cache(data_digest), Sources()
    runs = list_runs(warn=lambda message: print(f"left out: {message}", file=sys.stderr))
    for run in runs:
        print(f"{run.path.name:60} {_status(run, digest, sources)}")
    print(f"{len(runs)} runs in {paths.runs_dir()}")
    return 0


def _status(run: Run, digest: Digest = data_digest, sources: Sources | None = None) -> str:
    try:
        result, outdated = run.result, run.outdated(digest, sources)
    except StudyError as error:  # one damaged run must not hide the others
        return str(error)
    if outdated:
        return outdated
    if result is None:
        rows = run.metrics()
        return f"unfinished, step {rows[-1]['step'] if rows else 0}/{run.spec.steps}"
    if result["status"] != "done":
        return f"{result['status']}: {result['reason']}"
    score = SCORE[run.spec.goal]
    name = {"dice": "Dice", "psnr": "PSNR"}[score]
    return f"test {name} {result['test'][score]:.3f} in {time_text(result['seconds'])}"


def _print_result(run: Run) -> None:
    print(f"{run.path}: {_status(run)}")


def _doctor(options: argparse.Namespace) -> int:
    device = pick_device()
    found = stamp(device)
    for name in ("device", "commit", "platform"):
        print(f"{name:12} {found[name]}")
    speed = "has" if bfloat16_is_fast(device) else "has no"
    print(f"{'arithmetic':12} float32, unless a run's spec says bfloat16, for which this device {speed} instructions")
    print(f"{'versions':12} {', '.join(f'{name} {version}' for name, version in found['versions'].items())}")
    print(f"{'interpreter':12} {sys.executable} (notebooks of reports run in this one)")
    disk = next(folder for folder in (paths.home(), *paths.home().parents) if folder.exists())
    print(f"{'home':12} {paths.home()} ({shutil.disk_usage(disk).free / 1e9:.0f} GB free)")
    print(f"{'data':12} {paths.data_root()} ({paths.data_origin()})")
    return 0


def _worker(options: argparse.Namespace) -> int:
    engines.work(sys.stdin, device=options.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
