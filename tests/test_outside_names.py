"""What SECURITY.md promises of names in strangers' files: nothing is called, and no other place or page is reached."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from outside.parsers import PARSERS, injected
from outside.valid_files import NEXT, network

from analysis.claims.ledger.table import verdict_table
from analysis.reports.build import report_folder
from analysis.reports.front.compared import write_comparison
from analysis.reports.front.gallery import write_gallery
from analysis.reports.pages import Card
from analysis.reports.parameters import NOTEBOOKS, check_parameters
from lib.common.errors import StudyError
from lib.data.cards import find_card, load_card
from lib.data.preparation.originals import originals
from lib.data.preparation.own.pairing import files_in
from lib.data.preparation.pictures import to_gray
from lib.data.prepared_folder import prepared_files
from lib.imaging.kspace import read_kspace
from lib.networks.checkpoint_files import read_checkpoint
from lib.networks.foreign import construct, find_object, planned
from lib.runs.listing import list_runs
from lib.runs.run import Run
from lib.runs.seal import file_entry, sealed
from lib.runs.spec import run_id, spec_from_dict
from lib.runs.tensor_files import write_tensors
from lib.study.bundle import merge
from lib.study.plan import load_suite

CALLS = ["os:system", "builtins:exec", "subprocess:run", "torch.hub:load", "torch:load", "torch.nn:os", "evil:make"]
CALLS += ["lib.common.paths:write_atomic", "lib.networks.examples.residual:torch", "monai:UNet.mro"]


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that can be imported and leaves a trace when it is; returns where the trace would be."""
    trace = tmp_path / "trace"
    code = (
        f"import torch\nopen({str(trace)!r}, 'w').close()\n\n\nclass Net(torch.nn.Module):\n    pass\n\n\nmake = Net\n"
    )
    (tmp_path / "evil.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("evil", None)
    return trace


def stage_map_of(name: str, **arguments: Any) -> dict[str, Any]:
    stages = [{"name": "a", "modules": ["x"], "level": 0, "encoder": True}, {"name": "b", "modules": ["y"], "level": 0}]
    return {"network": name, "dim": 2, "inputs": 1, "outputs": 1, "arguments": arguments, "stages": stages}


@pytest.mark.parametrize("name", CALLS)
def test_what_a_file_names_is_not_called(name: str, evil: Path, tmp_path: Path):
    touch = {"command": f"touch {evil}"}
    values = {"task": "sim_ultrasound_easy", "size": 16, "model": "x", "stage_map": stage_map_of(name, **touch)}
    with pytest.raises(StudyError, match=r"is not run because a file names it|no class of networks|unknown name|is a "):
        spec_from_dict(values)
    with pytest.raises(StudyError):  # an argument of a network that is allowed
        construct("lib.networks.examples.residual:ResidualNet", {"inputs": {"import": name}}, 0)
    folder = tmp_path / "T__P__2d"
    folder.mkdir()
    told = {"network_class_name": name.replace(":", "."), "arch_kwargs": touch, "_kw_requires_import": []}
    (folder / "plans.json").write_text(json.dumps({"configurations": {"2d": {"architecture": told}}}))
    (folder / "dataset.json").write_text(json.dumps({"labels": {"a": 0}, "channel_names": {"0": "CT"}}))
    found, given = planned(folder)
    with pytest.raises(StudyError):
        construct(found, given, 0)
    assert not evil.exists()


def test_what_the_user_trusts_is_called(evil: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(StudyError, match=r"code of evil is not run because a file names it; .* STUDY_TRUST=evil"):
        find_object("evil:make")
    assert not evil.exists()
    monkeypatch.setenv("STUDY_TRUST", "other, evil")
    assert type(construct("evil:make", {}, 0)).__name__ == "Net"
    assert evil.exists()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("torch.nn:Linear", {"in_features": 1, "out_features": 1, "device": "https://example.org"}),
        ("torch.nn:Embedding.from_pretrained", {}),
        ("torch.nn.utils:parametrize", {}),
        ("monai:resnet18", {"pretrained": True, "spatial_dims": 2}),
    ],
)
def test_a_network_that_a_file_names_fetches_nothing(name: str, given: dict[str, Any]):
    with pytest.raises(StudyError, match=r"may fetch or read|unknown name|is a module"):
        construct(name, given, 0)


def test_a_network_that_a_file_names_is_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lib.networks.foreign.NUMBERS", 1000)
    assert construct("torch.nn:Linear", {"in_features": 30, "out_features": 30}, 0) is not None
    with pytest.raises(StudyError, match="more than 1,000 numbers"):
        construct("torch.nn:Linear", {"in_features": 30, "out_features": 40}, 0)


def test_pickles_and_scripts_in_files_are_not_run(evil: Path, tmp_path: Path):
    class Call:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {evil}",)

    np.save(tmp_path / "a.npy", np.array([Call()], object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "k.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "kspace.npy")
    torch.save({"a": torch.ones(3), "b": Call()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Call()))
    script = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch {evil}) (w) file\n"
    (tmp_path / "a.png").write_text(script)  # Pillow would hand this to Ghostscript
    readers = ("k.npz", read_kspace), ("a.pt", read_checkpoint), ("b.pt", read_checkpoint), ("a.png", to_gray)
    for name, read in readers:
        with pytest.raises(StudyError):
            read(tmp_path / name)
    assert not evil.exists()


@pytest.mark.parametrize(
    "text", ['"', "\\", "a\nimport os", '"; import os; "', "\u2028", "{x}", "\x00", "#", "'''", '"""\nimport os']
)
def test_parameters_stay_values(text: str):
    path = NOTEBOOKS / "00_start_here.ipynb"
    names = injected(path, check_parameters(path, {"task": text}))
    assert names["task"] == text
    assert "os" not in names


@pytest.mark.parametrize("stem", ["..", "...", ".hidden", "a b", "a$(touch x)", "x" * 150, "-n"])
def test_a_suite_has_a_plain_name(stem: str, tmp_path: Path):
    file = tmp_path / f"{stem}.toml"
    file.write_bytes((NOTEBOOKS / "suites" / "smoke.toml").read_bytes())
    with pytest.raises(StudyError, match="a suite is named by letters, digits, points and dashes"):
        load_suite(str(file))


def test_a_suite_does_not_say_where_its_report_goes(tmp_path: Path):
    file, base = tmp_path / "s.toml", (NOTEBOOKS / "suites" / "smoke.toml").read_text()
    for key in ("report", "suite"):
        file.write_text(f'{base}\n[notebooks.03_transfer_value]\n{key} = "/elsewhere"\n')
        with pytest.raises(StudyError, match=f"{key} of a report is set by whoever makes it"):
            load_suite(str(file))
    file.write_text(base)
    assert report_folder(load_suite(str(file))).name == "s"


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "..", "", "a/../../b", "a\\b", "x" * 300])
def test_names_in_tables_stay_in_their_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_DATA", str(tiny.make_blobs(tmp_path / "data")))
    index = tmp_path / "data" / "blobs" / "index.csv"
    index.write_text(index.read_text().replace("00,,g0", f"{name},,g0", 1))
    if name not in ("..", ""):  # whose pictures are called ...png and .png
        with pytest.raises(StudyError, match="an id must name a file inside"):
            prepared_files(find_card("blobs"))
    card = tiny.CARD.replace("[split]", 'fetch = "table"\naddress = "https://a.b"\nfolder = "b"\n[split]')
    (tmp_path / "t.toml").write_text(card)
    for column in range(3):
        cells = ["owner/name", "c" * 40, "a.png"]
        cells[column] = name
        line = ",".join([*cells, "3", "0" * 64])
        (tmp_path / "t.csv").write_text(f"repository,commit,path,bytes,sha256\n{line}\n")
        with pytest.raises(StudyError, match="must name a file inside"):
            originals(load_card(tmp_path / "t.toml"))


@pytest.mark.parametrize("address", ["file:///etc", "ftp://a.b", "//a.b", ""])
def test_an_address_is_one_of_the_web(address: str, tmp_path: Path):
    card = tiny.CARD.replace("[split]", f'fetch = "table"\naddress = "{address}"\nfolder = "b"\n[split]')
    (tmp_path / "t.toml").write_text(card)
    with pytest.raises(StudyError, match="an address that begins with https:// or http://"):
        load_card(tmp_path / "t.toml")


def given_run(folder: Path, *, files: dict[str, Any] | None = None, **more: Any) -> Path:
    """A finished run as a stranger may give it: with other entries in its result, and sealed."""
    home = folder / run_id(NEXT)
    for name, content in PARSERS["run folder"].files().items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    return seal(home, files or {}, **more)


def seal(home: Path, files: dict[str, Any], **more: Any) -> Path:
    result = json.loads((home / "result.json").read_text())
    held = {**result.pop("files"), **files}
    own = {key: value for key, value in {**result, **more}.items() if key != "seal"}
    (home / "result.json").write_text(json.dumps(sealed(own, held)))
    return home


def test_files_of_a_given_run_stay_in_its_folder(tmp_path: Path, study_home: Path):
    given = tmp_path / "given"
    given_run(given / "runs", files={"../../stolen": file_entry(b"x")})
    (given / "stolen").write_text("x")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(given, "given")
    before = sorted(tmp_path.rglob("*"))
    for source in (given, tmp_path / "a.tar"):
        assert "must name a file inside" in merge(source).refused[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["link", "hard link", "up", "absolute", "device"])
def test_archives_reach_no_further_than_their_folder(kind: str, tmp_path: Path, study_home: Path):
    about = tarfile.TarInfo({"up": "runs/../../../x", "absolute": "/runs/x"}.get(kind, "runs/x"))
    kinds = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
    about.type, about.linkname = kinds.get(kind, tarfile.REGTYPE), "/etc/passwd" if "link" in kind else ""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(about, io.BytesIO())
    with pytest.raises(StudyError, match="no plain file inside it; nothing was taken"):
        merge(tmp_path / "a.tar")
    assert not any(study_home.rglob("x"))


def test_odd_things_among_runs_hide_no_run(study_home: Path):
    runs = study_home / "runs"
    home = given_run(runs)
    (runs / "gone").symlink_to(runs / "nothing")
    (runs / "odd" / "spec.json").mkdir(parents=True)
    told: list[str] = []
    assert [run.path.name for run in list_runs(warn=told.append)] == [run_id(NEXT)]
    assert any("gone is a link that leads nowhere" in line for line in told)
    (home / "result.json").unlink()
    (home / "result.json").mkdir()
    with pytest.raises(StudyError, match=r"result\.json is damaged .*is no file"):
        _ = list_runs()[0].result


@pytest.mark.parametrize(
    "more", [{"status": 3}, {"test": None}, {"test": {}}, {"seconds": "x"}, {"reason": [1]}, {"test": {"dice": "x"}}]
)
def test_a_sealed_result_must_tell_what_a_result_does(more: dict[str, Any], study_home: Path):
    run = Run(given_run(study_home / "runs", **more))
    with pytest.raises(StudyError, match=r"does not tell .* as a result does"):
        _ = run.result


def test_a_checkpoint_of_another_step_run_or_network_is_refused(study_home: Path):
    state, odd, name = NEXT.network().state_dict(), network().state_dict(), "checkpoints/step-000008.safetensors"
    cases = [
        (state, {"step": "5"}, "of another step or run"),
        (state, {"step": "8", "run": "b"}, "another step or run"),
    ]
    for tensors, about, said in [*cases, (odd, {"step": "8"}, "do not fit its network")]:
        home = given_run(study_home / "runs")
        assert Run(home).model() is not None
        write_tensors(home / name, tensors, about)
        seal(home, {name: file_entry((home / name).read_bytes())})
        with pytest.raises(StudyError, match=said):
            Run(home).model()


def test_markup_in_names_is_text(tmp_path: Path, study_home: Path):
    mark = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    keys = ("id", "paper", "statement", "task", "verdict", "unit", "note", "notebook", "figure", "test")
    claim = {
        **dict.fromkeys(keys, mark),
        "side": "above",
        "effect": 0.1,
        "line": 0.0,
        "interval": [0.0, 0.2],
        "seeds": 3,
    }
    (tmp_path / "claims.json").write_text(json.dumps([claim]))
    card = Card(mark, mark, mark, mark, mark, mark)
    (tmp_path / "a.card.json").write_text(json.dumps(card.__dict__))
    page = write_gallery(tmp_path, title=mark, commit=mark, finished=mark, results=None).read_text()
    ledger = (tmp_path / "ledger.html").read_text()
    decided = [[{**claim, "verdict": word}] for word in ("supported", "contradicted")]
    both = write_comparison((mark, mark), *decided)
    assert both.parent == study_home / "reports" / "compared"
    for shown in (page, ledger, both.read_text(), verdict_table([claim]).data):
        assert "&lt;script&gt;" in shown
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown


def test_a_name_that_is_no_text_is_told(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    with pytest.raises(StudyError, match="not UTF-8 or has control characters; rename it"):
        files_in(tmp_path)
