"""A folder of checkpoints of one network, in the order of training, and a network that they are loaded into."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lib.common.errors import StudyError
from lib.networks.checkpoint_files import ENDINGS, INDEX, Checkpoint, read_checkpoint
from lib.networks.loading import LEAST_SHARE, LoadedTensor, load_weights, names_in_file, names_of_tensors

TABLE = "series.csv"
_BESIDE = ("optimizer", "scheduler", "scaler", "rng_state", "training_args", "random_states")  # of Hugging Face
_SHARD = re.compile(r"-\d+-of-\d+\.\w+$")
_STEP = re.compile(r"(?i)(?:global_?step|steps?|iter(?:ation)?s?|it)[=_\-]?(\d+)")
_EPOCH = re.compile(r"(?i)(?:epochs?|ep)[=_\-]?(\d+)")


@dataclass(frozen=True)
class Moment:
    """One checkpoint of a series: `at` is its place in `unit` (`step`, `epoch`, or `place` where nothing is known)."""

    file: Path
    at: int
    unit: str


@dataclass(frozen=True)
class Series:
    """Checkpoints of one network in the order of training; weights are read when they are asked for, one at a time.

    Args:
        name: of the folder.
        moments: ascending.
        said: what a reader should know: how the order was found, what was passed over, where weights were found.
        unread: tensors that not all checkpoints hold in one shape, rows of (file, tensor, status, shape, first shape).
    """

    name: str
    moments: tuple[Moment, ...]
    said: tuple[str, ...]
    unread: tuple[tuple[str, str, str, str, str], ...]

    @property
    def start(self) -> Moment | None:
        """The checkpoint of step 0, None where none is known to be."""
        first = self.moments[0]
        return first if first.unit == "step" and first.at == 0 else None

    def weights(self, moment: Moment) -> dict[str, Tensor]:
        """The tensors of a checkpoint that all of the series hold in one shape."""
        left = {name for _, name, _, _, _ in self.unread}
        found = read_checkpoint(moment.file).weights
        return {name: value for name, value in found.items() if name not in left}


def read_series(folder: Path) -> Series:
    """The checkpoints of a folder, or of its subfolders (`checkpoint-500/...`) where it holds none itself.

    Their order is that of `series.csv` (columns file and step), else of the steps in the files, in their names, of
    epochs in the files or names, and else the natural order of names, in which epoch=15 comes after epoch=2.

    Raises:
        StudyError: no checkpoints, unreadable ones, several of one step, or networks that share less than half.
    """
    if folder.is_file():
        folder, files, said = folder.parent, [folder], list[str]()
    else:
        files, said = _files(folder)
    listed = _listed(folder)
    if listed:
        files = list(listed)
    reads, shapes, first, unread = [], {}, dict[str, tuple[int, ...]](), list[tuple[str, str, str, str, str]]()
    for file in files:
        found = read_checkpoint(file)
        own = {name: tuple(value.shape) for name, value in found.weights.items()}
        sums = tuple(float(value.double().sum()) for value in found.weights.values())
        reads.append((file, dataclasses.replace(found, weights={}), sums))
        first = first or own
        shapes[file] = own
    for file, own in shapes.items():
        unread += _differences(file, own, first)
    _enough(shapes, first, unread)
    moments, how = _ordered(reads, listed)
    said += [how, *dict.fromkeys(line for _, found, _ in reads for line in found.said)]
    return Series(folder.resolve().name, moments, tuple(said), tuple(unread))


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """Files that may be checkpoints, in natural order, and what was passed over."""
    if not folder.is_dir():
        raise StudyError(f"no folder at {folder}; give the folder that holds the checkpoints")
    inside = _candidates(folder)
    for each in sorted((each for each in folder.iterdir() if each.is_dir()), key=_natural):
        inside += _candidates(each) if not _candidates(folder) else []
    used = [file for file in inside if not file.stem.startswith(_BESIDE)]
    if not used:
        raise StudyError(f"{folder} holds no checkpoints; they end in {', '.join(ENDINGS)} or {INDEX}")
    passed = [file.name for file in inside if file not in used]
    return used, [f"passed over, by name no networks: {', '.join(dict.fromkeys(passed))}"] if passed else []


def _candidates(folder: Path) -> list[Path]:
    indices = sorted(folder.glob(f"*{INDEX}"), key=_natural)
    files = [file for file in folder.iterdir() if file.suffix in ENDINGS and not file.name.startswith(".")]
    plain = [file for file in files if not _SHARD.search(file.name)]
    if len(plain) < len(files) and not indices:
        raise StudyError(f"{folder} holds shards of a checkpoint and no index; put the file *{INDEX} beside them")
    return [*sorted(plain, key=_natural), *indices]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Numbers in a name by value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _listed(folder: Path) -> dict[Path, int]:
    """File to step, as `series.csv` says; empty where there is none."""
    table = folder / TABLE
    if not table.is_file():
        return {}
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or not {"file", "step"} <= set(rows[0]):
        raise StudyError(f"{table} must have the columns file and step and a row per checkpoint")
    found = {}
    for row in rows:
        if not (row["step"] or "").strip().isdigit():
            raise StudyError(
                f"{table}: the step of {row['file']} must be a whole number of at least 0, got {row['step']!r}"
            )
        found[folder / row["file"]] = int(row["step"])
    return found


def _differences(
    file: Path, own: Mapping[str, tuple[int, ...]], first: Mapping[str, tuple[int, ...]]
) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for name in dict.fromkeys([*first, *own]):
        here, there = own.get(name), first.get(name)
        if here != there:
            status = "missing" if here is None else "unexpected" if there is None else "mismatched"
            rows.append((file.name, name, status, str(here or "-"), str(there or "-")))
    return rows


def _enough(
    shapes: Mapping[Path, Mapping[str, tuple[int, ...]]],
    first: Mapping[str, tuple[int, ...]],
    unread: list[tuple[str, str, str, str, str]],
) -> None:
    """That the checkpoints share most of their numbers."""
    left = {name for _, name, _, _, _ in unread}
    total, shared = (
        sum(torch.Size(shape).numel() for name, shape in first.items() if name not in skipped) for skipped in ((), left)
    )
    if shared < LEAST_SHARE * total:
        one, other = next(iter(shapes)).name, next(row[0] for row in unread)
        raise StudyError(
            f"{one} and {other} share {shared / total:.0%} of the first one's numbers by name and shape: they are not "
            f"of one network. Put each network's checkpoints into a folder of its own"
        )


def _ordered(
    reads: list[tuple[Path, Checkpoint, tuple[float, ...]]], listed: Mapping[Path, int]
) -> tuple[tuple[Moment, ...], str]:
    """The checkpoints in order, and how it was found."""
    ways: list[tuple[str, str, dict[Path, int | None]]] = [
        ("step", f"steps as {TABLE} says", {file: listed.get(file) for file, _, _ in reads}),
        ("step", "steps as the files say", {file: found.step for file, found, _ in reads}),
        ("step", "steps as the names say", {file: _named(file, _STEP) for file, _, _ in reads}),
        ("step", "steps as the files or their names say",
         {file: _named(file, _STEP) if found.step is None else found.step for file, found, _ in reads}),
        ("epoch", "epochs as the files say", {file: found.epoch for file, found, _ in reads}),
        ("epoch", "epochs as the names say", {file: _named(file, _EPOCH) for file, _, _ in reads}),
        ("place", "by name, numbers by value; no file or name tells a step (a table series.csv with file and step can)",
         {file: at for at, (file, _, _) in enumerate(reads)}),
    ]  # fmt: skip
    unit, how, at = next(way for way in ways if all(each is not None for each in way[2].values()))
    chosen, twins = {}, []
    for file, _, sums in sorted(reads, key=lambda each: (at[each[0]], _natural(each[0]))):
        place = at[file]
        assert place is not None
        if place in chosen and chosen[place][1] != sums:
            raise StudyError(
                f"{chosen[place][0].name} and {file.name} are both of {unit} {place} and differ; say which is which in "
                f"{TABLE} (columns file and step), or move one away"
            )
        if place in chosen:
            twins.append(f"{file.name} = {chosen[place][0].name}")
        else:
            chosen[place] = file, sums
    moments = tuple(Moment(file, place, unit) for place, (file, _) in sorted(chosen.items()))
    return moments, how + (f"; the same weights twice, read once: {', '.join(twins)}" if twins else "")


def _named(file: Path, pattern: re.Pattern[str]) -> int | None:
    """The last number of that kind in a name, or in that of the folder `checkpoint-500`."""
    found = pattern.findall(file.name) or pattern.findall(file.parent.name)
    folder = re.fullmatch(r"(?i)checkpoint[-_](\d+)", file.parent.name)
    if not found and pattern is _STEP:
        found = [folder[1]] if folder else ["0"] if re.search(r"(?i)untrained|init\b|initial", file.stem) else []
    return int(found[-1]) if found else None


def fit(model: nn.Module, weights: Mapping[str, Tensor]) -> list[LoadedTensor]:
    """Load weights into a network whose names may begin otherwise, and say of every tensor what became of it.

    Which name is which, `lib.networks.loading.names_in_file` finds; what does not fit stays as it was in the network
    and is in the result.

    Raises:
        StudyError: less than half of the network's numbers are in the file.
    """
    own = {name: value.shape for name, value in model.state_dict().items()}
    given = {name: weights[theirs] for name, theirs in names_in_file(model, weights).items()}
    given |= {name: given[first] for name, first in names_of_tensors(model).items() if first in given}
    fitting = sum(value.numel() for name, value in given.items() if own.get(name) == value.shape)
    share = fitting / max(1, sum(shape.numel() for shape in own.values()))
    if share < LEAST_SHARE:
        raise StudyError(
            f"the weights do not fit the network ({share:.0%} of its numbers by name and shape): it has "
            f"{next(iter(own), 'nothing')} {tuple(next(iter(own.values()), ()))}, and the file "
            f"{next(iter(weights), 'nothing')} {tuple(next(iter(weights.values()), torch.empty(0)).shape)}; build the "
            "network that was trained"
        )
    return load_weights(model, given, allow_partial=True)
