"""Every parser of bytes from elsewhere, with small valid files for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import tiny
from outside import valid_files as valid

from analysis.claims.ledger.evaluate import CLAIMS, load_claims
from analysis.probe.probe_images import read_images
from analysis.reports.parameters import NOTEBOOKS, check_parameters
from analysis.tables.results import evaluation_table, run_table
from analysis.teaching.hand_in import tally
from lib.common.errors import StudyError
from lib.common.outside import read_json, read_toml
from lib.data.cards import load_card
from lib.data.preparation.checks import check_prepared
from lib.data.preparation.originals import originals
from lib.data.preparation.own.grouping import groups_of
from lib.data.preparation.pictures import color_values, mask_values, open_picture, to_color, to_gray
from lib.data.preparation.volumes.described import described
from lib.data.prepared_folder import read_prepared
from lib.imaging.grids import read_grid
from lib.imaging.kspace import read_kspace
from lib.imaging.volumes import read_volume, square_slices
from lib.networks.checkpoint_files import read_checkpoint
from lib.networks.checkpoint_series import read_series
from lib.networks.foreign import construct, planned
from lib.networks.stage_map import load_map
from lib.runs.name_tables import read_names
from lib.runs.run import Run
from lib.runs.seal import file_entry, sealed
from lib.runs.spec import run_id, spec_from_dict
from lib.runs.tensor_files import read_with_metadata
from lib.study.bundle import merge
from lib.study.plan import load_suite


@dataclass(frozen=True)
class Parser:
    """Valid files, by name in a folder, and what reads them; `after` mends a damaged folder, such as its seal."""

    files: Callable[[], dict[str, bytes]]
    read: Callable[[Path], Any]
    damaged: tuple[str, ...] = ()  # of the files; all, where none is named
    after: Callable[[Path], Any] = lambda folder: None


def _all(read: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Every file of a folder read; the first that is refused ends it."""
    return lambda folder: [read(file) for file in sorted(folder.iterdir())] and None


def _look(file: Path) -> None:
    open_picture(file)
    for read in (to_color, to_gray, lambda file: mask_values(file, {}), color_values):
        with contextlib.suppress(StudyError):  # no picture is an image and a mask at once
            read(file)


def _volume(file: Path) -> None:
    read_grid(file)
    for direction in ("axial", "sagittal"):
        square_slices(read_volume(file), direction, 16, 4)


def sealed_anew(folder: Path) -> None:
    """Seal a damaged run as anybody can: its seal then says nothing against it."""
    try:
        result = json.loads((folder / "result.json").read_text())
        own = {key: value for key, value in result.items() if key not in ("files", "seal")}
        held = result.get("files") or {}
        names = ["spec.json", "metrics.jsonl", *(f"checkpoints/{each.name}" for each in folder.glob("checkpoints/*"))]
        files = {**held, **{name: file_entry((folder / name).read_bytes()) for name in names}}
        (folder / "result.json").write_text(json.dumps(sealed(own, files)))
    except (ValueError, AttributeError, TypeError, OSError, RecursionError):
        return  # too damaged to be sealed, and read as it is


def _read_run(folder: Path) -> None:
    """The folder under the name of the spec that it holds, as a stranger would give it."""
    try:
        name = run_id(spec_from_dict(read_json(folder / "spec.json")))
    except StudyError:
        name = run_id(valid.NEXT)
    home = folder.parent / f"{folder.name}-named" / name
    shutil.copytree(folder, home)
    try:
        run = Run(home)
        run.outdated(lambda task, size: None)
        run.metrics()
        with mock.patch("lib.runs.listing.data_digest", return_value=None):  # which would draw the task
            run_table([run])
            evaluation_table([run])
        run.model()
    finally:
        shutil.rmtree(home.parent)


def _parameters(folder: Path) -> None:
    given = read_toml(folder / "parameters.toml")
    for name, values in given.items():
        if isinstance(values, dict) and name in ("00_start_here", "11_your_network"):
            path = NOTEBOOKS / f"{name}.ipynb"
            injected(path, check_parameters(path, values))


def injected(path: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """The names that a notebook has after the cell that papermill writes for these parameters is run."""
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    notebook = parameterize_notebook(load_notebook_node(str(path)), parameters)
    cell = next(each for each in notebook.cells if "injected-parameters" in each.metadata.get("tags", []))
    names: dict[str, Any] = {"__builtins__": {"float": float}}
    exec(cell.source, names)
    assert {key: repr(names[key]) for key in parameters} == {key: repr(value) for key, value in parameters.items()}
    return names


def _read_prepared(folder: Path) -> None:
    os.environ["STUDY_DATA"] = str(folder)
    card = load_card(folder / "blobs/card.toml")
    check_prepared(card)
    read_prepared(card)


def _map(folder: Path) -> None:
    _, found = load_map(str(folder / "m.toml"))
    found.build(1, 1, 2, seed=0)


def _hand_ins(folder: Path) -> None:
    students, _ = tally(folder)
    if students.note.any():  # one bad file of a class must not hide the others, and is noted
        raise StudyError(students.note[0])


def _plan(folder: Path) -> None:
    name, given = planned(folder / "T__P__x")
    with contextlib.suppress(StudyError):  # no layer takes these arguments
        construct(name, given, 0)


PARSERS: dict[str, Parser] = {
    "suite": Parser(lambda: {"s.toml": valid.SUITE}, lambda folder: load_suite(str(folder / "s.toml"))),
    "spec": Parser(valid.spec_files, lambda folder: spec_from_dict(read_json(folder / "s.json"))),
    "card": Parser(lambda: {"card.toml": tiny.CARD.encode()}, lambda folder: load_card(folder / "card.toml")),
    "claims": Parser(lambda: {"c.toml": CLAIMS.read_bytes()}, lambda folder: load_claims(folder / "c.toml")),
    "groups.csv": Parser(
        lambda: {"groups.csv": valid.GROUPS}, lambda folder: groups_of(folder, [f"s{n}" for n in range(6)], None)
    ),
    "table of originals": Parser(
        valid.originals_files, lambda folder: originals(load_card(folder / "t.toml")), ("t.csv",)
    ),
    "names of weights": Parser(
        lambda: {"n.csv": b"in_file,in_network\na,b\nc.d,e.f\n"}, lambda folder: read_names(folder / "n.csv")
    ),
    "dataset.json": Parser(lambda: {"dataset.json": json.dumps(valid.DATASET).encode()}, described),
    "hand-ins of a class": Parser(valid.hand_in_files, _hand_ins),
    "stage map": Parser(lambda: {"m.toml": valid.SMALL}, _map),
    "plans of nnU-Net": Parser(valid.plans_files, _plan),
    "notebook parameters": Parser(lambda: {"parameters.toml": valid.PARAMETERS}, _parameters),
    "pictures and masks": Parser(valid.pictures_files, _all(_look)),
    "prepared folder": Parser(valid.prepared_files, _read_prepared),
    "NIfTI": Parser(valid.volumes_files, _all(_volume)),
    "k-space": Parser(valid.kspace_files, _all(read_kspace)),
    "arrays (.npy)": Parser(lambda: {"a.npy": valid.npy()}, lambda folder: read_images(str(folder / "a.npy"), None)),
    "checkpoints": Parser(valid.checkpoints_files, _all(read_checkpoint)),
    "sharded checkpoints": Parser(
        valid.shards_files, lambda folder: read_checkpoint(folder / "m.safetensors.index.json")
    ),
    "series of checkpoints": Parser(valid.series_files, read_series),
    "tensors of runs": Parser(
        valid.tensors_files, lambda folder: read_with_metadata(next(folder.rglob("*.safetensors")))
    ),
    "run folder": Parser(valid.run_files, _read_run),
    "run folder, sealed anew": Parser(valid.run_files, _read_run, after=sealed_anew),
    "bundle": Parser(valid.archive_files, _all(merge)),
}
