"""A suite carried to a machine without a network, and its finished runs brought home."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import os
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from lib.common import paths
from lib.common.errors import StudyError, shown
from lib.common.outside import MB, ArchiveBytes, is_file
from lib.common.provenance import COMMIT, commit
from lib.data.cards import find_card
from lib.data.prepared_volumes import volume_files
from lib.data.tasks import carried
from lib.data.tasks.images import drawn_file, load_task, load_volumes
from lib.data.tasks.task import Task, get_task
from lib.networks.foreign import TRUST, trusted
from lib.networks.stage_map import OWN, map_text, stage_map
from lib.runs.foreign_start import weights_file
from lib.runs.run import Run, locked, open_run, run_dir
from lib.runs.seal import check_file
from lib.runs.spec import RunSpec
from lib.runs.tensor_files import writing
from lib.study.growth import looks_file
from lib.study.plan import all_specs, suite_files, suite_table
from lib.study.suite import Cell, Suite, brief_of
from lib.training.together import computation

UNPACKED = 20  # weights hardly shrink when they are packed; what does is a bomb
CODE = ("lib", "data_manifests", "notebooks/suites")
START = """#!/bin/sh
# Trains what is missing. Needs Python 3.11 or later with torch, numpy, scipy and safetensors, and no network.
cd "$(dirname "$0")" || exit 1
STUDY_HOME="$PWD" STUDY_DATA="$PWD/data" {trust}exec "${{PYTHON:-python3}}" -m lib train {suite}.toml{part} "$@"
"""


def part_of(suite: Suite, number: int, parts: int) -> Suite:
    """One of several parts of a suite, about equal in runs: whole cells, those of one computation side by side.

    Raises:
        StudyError: there is no such part.
    """
    if not 1 <= number <= parts <= len(suite.cells):
        raise StudyError(
            f"{suite.name} has {len(suite.cells)} cells, and so at most as many parts, numbered from 1; got part "
            f"{number} of {parts}"
        )

    def alike(cell: Cell) -> str:
        return repr(computation(suite.spec(cell, cell.seeds[0], cell.rates[0])))

    ordered = sorted(suite.cells, key=alike)
    sizes = [len(cell.rates) * len(cell.seeds) for cell in ordered]
    ends = [round(sum(sizes) * each / parts) for each in range(parts + 1)]
    middles = [sum(sizes[:place]) + sizes[place] / 2 for place in range(len(sizes))]
    chosen = [
        cell
        for cell, middle in zip(ordered, middles, strict=True)
        if ends[number - 1] <= middle < ends[number] or (number == parts and middle >= ends[parts])
    ]
    return replace(suite, cells=tuple(chosen))


def check_absent(target: Path) -> None:
    """That an archive is not there yet.

    Raises:
        StudyError: it is.
    """
    if target.exists():
        raise StudyError(f"{target} exists; name another file, or delete it")


def write_bundle(
    suite: Suite,
    target: Path,
    *,
    number: int = 1,
    parts: int = 1,
    more: Sequence[Path] = (),
    notes: Mapping[str, str] | None = None,
) -> int:
    """Write what trains a suite, or a part of it, elsewhere: code, images, the runs that are finished, the suite.

    Args:
        more: other files and folders of the repository to put in.
        notes: texts to put in, by the name of their file.

    Returns:
        Its size in bytes.

    Raises:
        StudyError: the target exists or cannot be written, data are missing, or there is no such part.
    """
    check_absent(target)
    specs = all_specs(part_of(suite, number, parts))
    root = suite.name if parts == 1 else f"{suite.name}-{number}-of-{parts}"
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # two may write it at once
    temporary = Path(made)
    try:
        with (
            writing(target.parent),
            open(handle, "wb") as stream,
            tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive,
        ):
            extra = [(name, text.encode(), 0o644) for name, text in (notes or {}).items()]
            for name, content, mode in chain(_members(suite, specs, number, parts), _files(more), extra):
                about = tarfile.TarInfo(f"{root}/{name}")
                about.size, about.mode = len(content), mode
                archive.addfile(about, io.BytesIO(content))
        temporary.chmod(0o644)  # temporary files are private
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target.stat().st_size


def _members(suite: Suite, specs: list[RunSpec], number: int, parts: int) -> Iterator[tuple[str, bytes, int]]:
    part = "" if parts == 1 else f" --part {number}/{parts}"
    trust = f"{TRUST}={shlex.quote(','.join(trusted()))} " if trusted() else ""  # whoever runs this runs our code too
    yield "train.sh", START.format(suite=suite.name, part=part, trust=trust).encode(), 0o755
    for file in suite_files(suite.file):
        if file.parent == suite.file.parent:  # else it is one of the study, and there
            yield file.name, file.read_bytes(), 0o644
    if suite.until is not None and looks_file(suite.name).is_file():
        yield f"looks/{suite.name}.json", looks_file(suite.name).read_bytes(), 0o644
    yield COMMIT, f"{commit()}\n".encode(), 0o644
    yield from _files(paths.REPOSITORY / folder for folder in CODE)
    with_sources = [each for spec in specs for each in _chain(spec)]
    maps = {spec.model: spec.stage_map for spec in with_sources if spec.stage_map is not None}
    for name in sorted(maps):
        yield f"{OWN}/{name}.toml", map_text(stage_map(maps[name])).encode(), 0o644
    for file in sorted({weights_file(spec.weights) for spec in with_sources if spec.weights is not None}):
        yield f"weights/{file.relative_to(paths.weights_dir()).as_posix()}", file.read_bytes(), 0o644
    for source in suite_table(suite.file).get("sources", {}).values():  # the suite is read anew there
        if "names" in source:
            yield f"weights/{source['names']}", (paths.weights_dir() / source["names"]).read_bytes(), 0o644
    for name in sorted({spec.task for spec in with_sources}):
        task = get_task(name)
        if task.kind == "real" and task.goal == "segmentation" and (find_card(name).path / "card.toml").is_file():
            yield f"data/{find_card(name).folder}/card.toml", (find_card(name).path / "card.toml").read_bytes(), 0o644
    for name, size in sorted({(spec.task, spec.size) for spec in with_sources}):
        yield from _images(get_task(name), size)
    for folder in sorted({run_dir(spec) for spec in with_sources if brief_of(spec) is not None}):
        run = Run(folder)
        for name in [*sorted((run.result or {})["files"]), "result.json"]:
            yield f"runs/{folder.name}/{name}", (folder / name).read_bytes(), 0o644


def _files(places: Iterable[Path]) -> Iterator[tuple[str, bytes, int]]:
    """Files of the repository, those of folders one by one."""
    for place in places:
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file.relative_to(paths.REPOSITORY).as_posix(), file.read_bytes(), 0o644


def _images(task: Task, size: int) -> Iterator[tuple[str, bytes, int]]:
    """What a task is learned from: pictures at a size and drawn sets as one file, prepared volumes as they lie."""
    place = f"data/carried/{task.name}-{size}.npz"
    if task.dim == 2:
        yield place, carried.content(load_task(task.name, size)), 0o644
    elif task.kind == "simulated":
        load_volumes(task.name, size)
        yield place, drawn_file(task, size).read_bytes(), 0o644
    else:
        card = find_card(task.name)
        for file in volume_files(card):
            yield f"data/{card.folder}/{file.relative_to(card.path).as_posix()}", file.read_bytes(), 0o644


def _chain(spec: RunSpec) -> list[RunSpec]:
    return [spec, *_chain(spec.source)] if spec.source else [spec]


@dataclass(frozen=True)
class Merged:
    """What became of the runs of a bundle, by name; a sentence for each that was not taken."""

    taken: list[str]
    here: list[str]
    refused: list[str]
    unfinished: list[str]


def merge(source: Path) -> Merged:
    """Bring the finished runs of a bundle home: an unpacked one, its `runs`, or an archive of either.

    A run is taken if every file is as its seal says, its data are those that lie here now (where they do), and its
    source is the one that is here. A finished run that is here stays as it is.

    Raises:
        StudyError: there are no runs, or the archive cannot be read.
    """
    paths.check_home()
    found = Merged([], [], [], [])
    with _unpacked(source) as folder:
        runs = []
        for file in sorted(folder.rglob("spec.json")):
            try:
                runs.append(Run(file.parent))
            except StudyError as error:
                found.refused.append(str(error))
        if not runs and not found.refused:
            raise StudyError(f"{source} holds no run; name an unpacked bundle, its folder runs, or an archive of one")
        for run in sorted(runs, key=lambda each: len(_chain(each.spec))):  # a source before what started from it
            try:
                _take(run, found)
            except StudyError as error:
                found.refused.append(str(error))
    return found


def _take(run: Run, found: Merged) -> None:
    name, result, home = run.path.name, run.result, run_dir(run.spec)
    if result is None:
        found.unfinished.append(name)
        return
    for each in result["files"]:
        check_file(run.path, each, result["files"])
    fault = run.outdated()
    if fault:
        raise StudyError(f"{name} is not taken: {fault}")
    here = open_run(run.spec)
    with locked(here.path, lambda: None):
        if here.result is not None:
            if here.result["seal"] != result["seal"]:
                raise StudyError(f"{name} is not taken: {home} holds another result of it; delete that to take this")
            found.here.append(name)
            return
        for each in [*sorted(result["files"]), "result.json"]:  # the result last: with it the run is finished
            with writing(home):
                paths.write_atomic(home / each, (run.path / each).read_bytes())
        for leftover in here.path.glob("*.safetensors"):
            leftover.unlink()
        found.taken.append(name)


@contextlib.contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield source
        return
    if not is_file(source):
        raise StudyError(f"there is no file or folder {source}")
    folder = Path(tempfile.mkdtemp(dir=paths.home(), prefix=".merge."))
    try:
        _unpack(source, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(source: Path, folder: Path) -> None:
    """Unpack what an archive holds of runs, and at most `UNPACKED` times as much as it is long.

    Raises:
        StudyError: it is no archive, damaged, unpacks to more, or holds links or names that lead elsewhere.
    """
    with source.open("rb") as stream:
        start = stream.read(3)
    opened = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}.get(start[:2], open)
    try:
        with opened(source, "rb") as stream:
            bounded: Any = ArchiveBytes(stream, UNPACKED * source.stat().st_size + 64 * MB, str(source))
            with tarfile.open(fileobj=bounded, mode="r:") as archive:
                archive.extractall(folder, members=_of_runs(archive, source), filter="data")
    except StudyError:
        raise
    except Exception as error:  # tarfile and the decompressors raise a dozen kinds for damaged archives
        raise StudyError(f"{source} cannot be read as an archive, .tar, .tar.gz or .tar.bz2 ({error})") from error


def _of_runs(archive: tarfile.TarFile, source: Path) -> Iterable[tarfile.TarInfo]:
    for member in archive:
        parts = Path(member.name).parts
        if member.isdir() or "runs" not in parts:
            continue
        plain = member.isfile() and not member.issparse() and ".." not in parts and not member.name.startswith("/")
        if not plain:
            name = shown(member.name)
            raise StudyError(f"{source} holds {name}, which is no plain file inside it; nothing was taken")
        yield member
