"""`python -m lib data list | check | fetch | prepare | card`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from lib.common.errors import StudyError
from lib.common.outside import read_table
from lib.data.cards import Card, all_cards, find_card, root_note
from lib.data.preparation import own_folder
from lib.data.preparation.checks import check_prepared
from lib.data.preparation.fetch import MovingLine, fetch
from lib.data.preparation.pictures import COLOR
from lib.data.preparation.prepare import prepare
from lib.data.tasks.scans import scan_files


def add_parser(commands: Any) -> None:
    """Add the command `data` to the subparsers of a command line; every command sets `run`, (args) -> exit code."""
    parser = commands.add_parser(
        "data",
        help="list, check, fetch and prepare datasets, or add your own folder",
        description="Datasets: prepared folders in the data root (STUDY_DATA, else data/ in the study's home), each "
        "described by a card. Simulated sets need none of this.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_list(actions)
    _add_check(actions)
    _add_fetch(actions)
    _add_prepare(actions)
    _add_card(actions)


def _add_list(actions: Any) -> None:
    parser = actions.add_parser("list", help="every dataset, and which are there")
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    rows = [("name", "kind", "pairs", "here", "licence")]
    for card in all_cards().values():
        pairs = str(card.pairs) if card.kind == "real" else "any"
        rows.append((card.name, card.kind, pairs, _presence(card), _short(card.licence)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))
    print(root_note())
    return 0


def _presence(card: Card) -> str:
    if card.kind == "simulated":
        return "drawn on demand"
    if card.goal != "segmentation":
        count = len(scan_files(card))
        return f"{count} volumes" if count else "no"
    index = card.path / "index.csv"
    return f"{len(read_table(index, ('id',)))} pairs" if index.is_file() else "no"


def _short(licence: str) -> str:
    """A licence without the remarks in its card."""
    for mark in ("(", ":", ",", ";"):
        licence = licence.split(mark)[0]
    return licence.strip()


def _add_check(actions: Any) -> None:
    parser = actions.add_parser(
        "check",
        help="verify prepared folders",
        description="Files against the index, image against mask, mask values, hashes, counts against the card, groups "
        "against the split. A line per finding; exit code 1 if something is wrong.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="datasets (default: all that are there)")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    chosen = [find_card(name) for name in options.names]
    if not chosen:
        real = [card for card in all_cards().values() if card.kind == "real"]
        chosen = [card for card in real if card.path.exists()]
        absent = [card.name for card in real if not card.path.exists()]
        if absent:
            print(f"not here, so not checked: {', '.join(absent)}")
    wrong, warned = [], []
    for card in chosen:
        if card.kind == "simulated":
            print(f"{card.name}: ok: simulated, drawn on demand; there is nothing to check")
            continue
        findings = check_prepared(card)
        for finding in findings:
            print(f"{card.name}: {finding.level}: {finding.text}", flush=True)
        levels = {finding.level for finding in findings}
        if "error" in levels:
            wrong.append(card.name)
        elif "warning" in levels:
            warned.append(card.name)
    print(f"{len(chosen)} checked, {len(wrong)} wrong{_names(wrong)}, {len(warned)} with a warning{_names(warned)}")
    print(root_note())
    return 1 if wrong else 0


def _names(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _add_fetch(actions: Any) -> None:
    parser = actions.add_parser(
        "fetch",
        help="get the originals of a dataset",
        description="Get the originals of a dataset into data/originals of the study's home, each verified by sha256. "
        "What is there already is kept, so that an interrupted fetch goes on when called again.",
    )
    parser.add_argument("name", metavar="NAME")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help="copy from a folder that holds them as OWNER/REPOSITORY/COMMIT/PATH or as PATH, without a network",
    )
    where.add_argument(
        "--base",
        metavar="ADDRESS",
        help="fetch from another address, with {repository} and {commit} in it, or with these as folders below it",
    )
    parser.set_defaults(run=_fetch)


def _fetch(options: argparse.Namespace) -> int:
    card = find_card(options.name)
    fetch(card, source=options.source, base=options.base)
    print(f"next: python -m lib data prepare {card.name}")
    return 0


def _add_prepare(actions: Any) -> None:
    parser = actions.add_parser(
        "prepare",
        help="make the prepared folder from the originals",
        description="Make the prepared folder of a dataset, in the data root, from its originals, as its card says. "
        "The folder appears whole at the end, or not at all.",
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--originals", type=Path, metavar="FOLDER", help="where they are (default: where fetch puts them)"
    )
    parser.add_argument("--allow-partial", action="store_true", help="prepare what is there although some are missing")
    parser.set_defaults(run=_prepare)


def _prepare(options: argparse.Namespace) -> int:
    card = find_card(options.name)
    line = MovingLine("pictures read", every=5.0)
    try:
        prepare(card, folder=options.originals, allow_partial=options.allow_partial, step=line)
    finally:
        line.end()
    return 0


def _add_card(actions: Any) -> None:
    parser = actions.add_parser(
        "card",
        help="make a dataset of your own folder of images and masks",
        description="Make a dataset of your own pictures or volumes: FOLDER holds images/ and masks/ with the same "
        "names, or NAME.png beside NAME_mask.png (png, jpg or tif, any size, color or gray; volumes as NIfTI, "
        "NAME.nii.gz). Folders with a dataset.json, as the Medical Segmentation Decathlon and nnU-Net make them, and "
        "those of BIDS with masks among the derivatives are understood too. A table groups.csv (columns: name, group) "
        "tells which images belong together, such as those of one patient.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--name", help="name of the task (default: that of the folder)")
    parser.add_argument("--licence", default="", help="as it should stand in reports")
    parser.add_argument("--modality", default="", help="such as ultrasound; CT is normalized as such")
    parser.add_argument(
        "--foreground", type=_values, metavar="1,2", help="mask values that are foreground, if masks are not binary"
    )
    parser.add_argument(
        "--labels",
        type=_labels,
        metavar='"1=front, 2=back"',
        help="names of mask values or colors; the name ignore for no label",
    )
    parser.add_argument("--color", action="store_true", help="keep red, green and blue, where color tells labels apart")
    parser.add_argument(
        "--people", default="", metavar="NAME", help="whose images these are: sets of the same people share folds"
    )
    parser.add_argument(
        "--groups", metavar="EXPRESSION", help=r"what in an image's name tells its group, such as 'patient\d+'"
    )
    parser.add_argument(
        "--spacing",
        type=_spacing,
        metavar="1,1,1",
        help="of volumes: millimeters to the right, front and up (default: the median of all)",
    )
    parser.set_defaults(run=_card)


def _values(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"whole numbers with commas between them, got {text!r}") from None


def _spacing(text: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in text.split(","))
        if not all(0 < each < 1000 for each in (x, y, z)):
            raise ValueError
        return x, y, z
    except ValueError:
        raise argparse.ArgumentTypeError(f"three distances in millimeters, such as 1,1,1.5, got {text!r}") from None


def _labels(text: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for part in text.split(","):
        value, _, name = (each.strip() for each in part.partition("="))
        color = re.fullmatch("#[0-9a-fA-F]{6}", value)
        number = COLOR + int(value[1:], 16) if color else int(value) if value.isdecimal() else -1
        if number < 0 or not name or number in found:
            raise argparse.ArgumentTypeError(
                f'VALUE=NAME with commas between them, such as "1=front" or "#ff0000=front", got {text!r}'
            )
        found[number] = name
    return found


def _card(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        raise StudyError(f"no folder {options.folder}")
    line = MovingLine("pairs read", every=5.0)
    try:
        own_folder.add_own_folder(
            options.folder,
            name=options.name,
            licence=options.licence,
            modality=options.modality,
            foreground=options.foreground,
            labels=options.labels,
            groups=options.groups,
            people=options.people,
            color=options.color,
            spacing=options.spacing,
            step=line,
        )
    finally:
        line.end()
    return 0
