"""Command line of the analysis: `python -m analysis COMMAND`; `--help` lists the commands."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing is begun while modules load; `run_command` takes it back

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lib.common import paths
from lib.common.command_line import add_engine_options, engine_options, run_command, told_failures

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 where a notebook failed, 2 for a mistake in what was asked."""
    arguments = _parser().parse_args(argv)

    def command() -> int:
        paths.check_home()
        return arguments.command(arguments)

    return run_command(command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Reads runs; writes tables and reports.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    report = commands.add_parser("report", help="execute the notebooks of a suite and write its pages")
    report.set_defaults(command=_report)
    report.add_argument(
        "suite", metavar="SUITE", help="smoke, class, another of notebooks/suites, or the path of a TOML file"
    )
    report.add_argument(
        "--notebook", action="append", default=[], metavar="NAME", help="only this one; may be repeated"
    )
    report.add_argument("--jobs", type=_positive, default=1, metavar="N", help="notebooks at a time (default 1)")
    report.add_argument("--timeout", type=_positive, metavar="S", help="seconds one cell may take (default: no limit)")
    report.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        type=_parameter,
        metavar="NAME=VALUE",
        help="set a parameter in every notebook that runs; VALUE as in JSON, or a plain word",
    )

    _of_suite(
        commands, "table", _table, "write results.csv, one row per cell and seed, at its chosen rate, and print it"
    )
    claims = _of_suite(commands, "claims", _claims, "write claims.json, the claims ledger, and print it")
    claims.add_argument(
        "other",
        nargs="?",
        metavar="OTHER",
        help="print what differs in this ledger, and write a page; each is a suite, or a folder with claims.json",
    )
    _of_suite(commands, "choices", _choices, "write choices.csv: does a verdict hang on the study's own choices?")
    _of_suite(commands, "seeds", _seeds, "look at a suite with `until`: which rows need more seeds, and which cells")
    grow = _of_suite(commands, "grow", _grow, "train a suite with `until` and look at it, in turn, to its end")
    add_engine_options(grow)

    record = commands.add_parser("record", help="write results/SUITE, the record of a finished suite, and the README")
    record.set_defaults(command=_record)
    record.add_argument("suite", nargs="?", metavar="SUITE", help="default: only the tables of the README, anew")

    probe = commands.add_parser("probe", help="look at checkpoints of any network: a report on one folder, or on two")
    probe.set_defaults(command=_probe)
    probe.add_argument("folders", nargs="+", metavar="FOLDER", help="holds checkpoints: .pt, .pth, .ckpt, .safetensors")
    probe.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NETWORK",
        help="package.module:function, monai:NAME, timm:NAME, smp:NAME, nnunet:FOLDER or a stage map; arguments after "
        'it, in one word: --network "monai:BasicUNet spatial_dims=2"; twice for two folders of two networks',
    )
    probe.add_argument(
        "--images",
        default="",
        metavar="WHERE",
        help="a prepared task, a folder of images, or a tensor file",
    )
    probe.add_argument(
        "--layers",
        action="append",
        default=[],
        metavar="PATTERN",
        help="with * and ?; default: a dozen by themselves; twice for two networks",
    )
    probe.add_argument("--out", metavar="FOLDER", help="of the report (default: reports/probe/NAME)")

    recommend = commands.add_parser("recommend", help="which layers of a trained network to tune on a task")
    recommend.set_defaults(command=_recommend)
    recommend.add_argument("--task", required=True, metavar="TASK", help="whose training images are looked at")
    recommend.add_argument("--source", metavar="RUN", help="a finished run, by its name or last eight digits")
    recommend.add_argument("--network", metavar="MAP", help="a stage map, by its name or path")
    recommend.add_argument(
        "--weights", metavar="FILE", help="of the network, in the folder weights of the study's home"
    )
    recommend.add_argument("--volume", type=_positive, default=20, metavar="N", help="images (default 20)")
    recommend.add_argument("--size", type=_positive, default=64, metavar="S", help="with --network: side (default 64)")
    recommend.add_argument("--out", type=Path, metavar="FOLDER", help="default: recommend-TASK among the reports")

    _of_suite(commands, "pdf", _pdf, "print the pages of a suite's report as PDF, with a browser that is there")
    _of_suite(commands, "agreement", _agreement, "hold such recommendations against a suite's trained runs")

    errors = commands.add_parser(
        "errors", help="measure how often the ledger is wrong, on planted tables; half an hour"
    )
    errors.set_defaults(command=_errors)
    errors.add_argument("--replications", type=_positive, default=1000, metavar="N", help="studies (default 1000)")
    errors.add_argument("--claims", default="", metavar="K1,...", help="only these, without whole ledgers")
    errors.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/error_rates")

    classroom = _of_suite(
        commands, "classroom", _classroom, "one archive for a class: exercises, code, the runs of a suite"
    )
    classroom.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="default: this one")

    tally = commands.add_parser("tally", help="who solved what: the files that a class handed in, as two tables")
    tally.set_defaults(command=_tally)
    tally.add_argument("folder", type=Path, metavar="FOLDER")
    return parser


def _of_suite(commands: Any, name: str, command: Command, about: str) -> argparse.ArgumentParser:
    """A command on a suite, which may be given further arguments."""
    parser = commands.add_parser(name, help=about)
    parser.set_defaults(command=command)
    parser.add_argument("suite", metavar="SUITE")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"must read NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _report(arguments: argparse.Namespace) -> int:
    from analysis.reports.build import build_report

    return build_report(
        arguments.suite,
        names=arguments.notebook,
        jobs=arguments.jobs,
        timeout=arguments.timeout,
        overrides=dict(arguments.parameter),
    )


def _probe(arguments: argparse.Namespace) -> int:
    from analysis.reports.probe import build_probe

    return build_probe(
        arguments.folders,
        networks=arguments.network,
        images=arguments.images,
        layers=arguments.layers,
        out=arguments.out,
    )


def _table(arguments: argparse.Namespace) -> int:
    from analysis.reports.build import say_written, write_table

    target, _ = write_table(arguments.suite)
    print(target.read_text(), end="")
    say_written(target, arguments.suite)
    return 0


def _claims(arguments: argparse.Namespace) -> int:
    if arguments.other is not None:
        return _compared(arguments.suite, arguments.other)
    from analysis.claims.ledger.table import ledger_lines
    from analysis.reports.build import say_written, write_claims

    target, ledger = write_claims(arguments.suite)
    print(*ledger_lines(ledger), sep="\n")
    say_written(target, arguments.suite)
    return 0


def _compared(*names: str) -> int:
    from analysis.claims.ledger.compare import compare_ledgers, compared_lines, read_ledger
    from analysis.reports.front.compared import write_comparison

    (one, first), (other, second) = map(read_ledger, names)
    print(*compared_lines((one, other), compare_ledgers(first, second)), sep="\n")
    print(f"written to {write_comparison((one, other), first, second)}", file=sys.stderr)
    return 0


def _seeds(arguments: argparse.Namespace) -> int:
    from analysis.claims.ledger.growth import look

    look(arguments.suite)
    return 0


def _grow(arguments: argparse.Namespace) -> int:
    from analysis.claims.ledger.growth import grow

    return told_failures(arguments.suite, grow(arguments.suite, **engine_options(arguments)))


def _record(arguments: argparse.Namespace) -> int:
    from analysis.reports.recorded.record import record_suite, write_summary

    written = record_suite(arguments.suite) if arguments.suite else write_summary()
    print(f"written to {written}", file=sys.stderr)
    return 0


def _choices(arguments: argparse.Namespace) -> int:
    from analysis.claims.ledger.choices.specifications import agreeing_choices
    from analysis.reports.build import write_choices

    target, table = write_choices(arguments.suite)
    for row in agreeing_choices(table).to_dict("records"):
        print("{claim:4} {task:24} {verdict:13} {same} of {choices} choices agree".format(**row), end="")
        print(f", {row['opposite']} say the opposite" * (row["opposite"] > 0))
        print(f"     {row['hangs on']}\n" * (row["hangs on"] != ""), end="")
    print(f"written to {target}", file=sys.stderr)
    return 0


def _errors(arguments: argparse.Namespace) -> int:
    from analysis.claims.error_rates.record import errors

    return errors(arguments)


def _recommend(arguments: argparse.Namespace) -> int:
    from analysis.claims.which_layers.take_home import recommend

    return recommend(arguments)


def _agreement(arguments: argparse.Namespace) -> int:
    from analysis.claims.which_layers.agreement import agreement_over_conditions, ranking_agreement_summary
    from analysis.reports.build import write_agreement

    target, rows = write_agreement(arguments.suite)
    for table in (ranking_agreement_summary(rows), agreement_over_conditions(rows)):
        print(table.to_string(index=False, float_format="{:.2f}".format), end="\n\n")
    print(f"written to {target}", file=sys.stderr)
    return 0


def _pdf(arguments: argparse.Namespace) -> int:
    from analysis.reports.printed import write_pdfs

    print(*write_pdfs(arguments.suite), sep="\n")
    return 0


def _classroom(arguments: argparse.Namespace) -> int:
    from analysis.teaching.classroom import write_classroom

    target, size = write_classroom(arguments.suite, arguments.out)
    print(f"{target}: {size / 1e6:.1f} MB; unpack it on a laptop and read START.txt")
    return 0


def _tally(arguments: argparse.Namespace) -> int:
    from analysis.teaching.hand_in import tally

    for name, table in zip(("tally", "questions"), tally(arguments.folder), strict=True):
        target = arguments.folder / f"{name}.csv"
        table.to_csv(target, index=False)
        print(table.to_string(index=False, na_rep="", float_format="{:.1f}".format), end="\n\n")
        print(f"written to {target}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
