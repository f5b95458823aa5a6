"""What SECURITY.md promises of bytes from strangers: read, or refused in one line, within time and memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from outside.fuzz import ROOM, measured, outcome, tried
from outside.parsers import PARSERS
from outside.valid_files import picture

from lib.common.errors import StudyError
from lib.common.outside import SLACK, read_json, read_table, read_toml
from lib.data.preparation.pictures import to_gray
from lib.imaging.grids import Grid, encoded, read_grid
from lib.imaging.kspace import read_kspace
from lib.networks.checkpoint_files import read_checkpoint
from lib.networks.foreign import construct
from lib.study.bundle import merge
from lib.study.plan import load_suite

MB = 1 << 20


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_copies_are_read_or_refused_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    found = tried(name, 25, seed=0, place=tmp_path)
    assert sum(found.outcomes.values()) == 25
    assert found.outcomes["refused"] >= 3  # the copies are damaged indeed
    assert not found.examples, found.examples[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_many_damaged_copies_within_memory(name: str):
    found = measured(name, 1000, seed=1)
    assert sum(found["outcomes"].values()) == 1000
    assert not found["examples"], found["examples"][0]
    assert found["peak_mb"] < ROOM / MB


def test_a_traceback_and_a_hang_would_be_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("outside.fuzz.LIMIT", 0.2)
    assert outcome(lambda: {}["a"])[0] == "traceback"

    def for_ever() -> None:
        while True:
            try:
                sum(range(1000))
            except Exception:
                continue

    assert outcome(for_ever)[0] == "hang"


def png_of(width: int, height: int, content: bytes) -> bytes:
    """A PNG whose header promises so many gray pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def nifti_of(shape: tuple[int, int, int], more: int = 0) -> bytes:
    """A NIfTI file of 4 x 4 x 4 voxels whose header promises others, and so many bytes after them."""
    content = bytearray(encoded(Grid(np.ones((1, 4, 4, 4), np.uint8), np.eye(4)), compress=False))
    struct.pack_into("<3h", content, 42, *shape)
    return bytes(content) + bytes(more)


def _pt(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _deflated(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _npy_of(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<c8", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(64)


def _safetensors(numbers: int, header: int | None = None) -> bytes:
    about = json.dumps({"a": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}}).encode()
    return struct.pack("<Q", len(about) if header is None else header) + about + bytes(16)


def _tar(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive of one file of zeros, in a run; or of a header of that length."""
    about = tarfile.TarInfo("runs/a/zeros")
    about.size, about.type = size, kind
    head = about.tobuf()
    return gzip.compress(head + bytes(size + -size % 512 + 1024), compresslevel=1)


def _wide(file: Path) -> None:
    construct("torch.nn:Linear", {"in_features": 40_000, "out_features": 40_000, "bias": False}, 0)


def _view(numbers: int) -> torch.Tensor:
    """So many numbers, of which one is in memory."""
    return torch.zeros(1).expand(numbers)


BOMBS: dict[str, tuple[Callable[[], bytes], Callable[[Path], Any], str]] = {
    "a.png": (lambda: png_of(60_000, 60_000, zlib.compress(bytes(1000))), to_gray, "exceeds limit of"),
    "b.png": (lambda: png_of(9_000, 9_000, zlib.compress(bytes(1000))), to_gray, "9000 x 9000 pixels; at most"),
    "z.png": (lambda: png_of(1, 1, b"") + b"", to_gray, "not a readable picture"),
    "many.jpg": (lambda: picture("jpeg") + b"\xff\xda" * 200, to_gray, "more than 64 scans"),
    "tera.nii": (lambda: nifti_of((30_000, 30_000, 30_000)), read_grid, "voxels; at most"),
    "short.nii": (lambda: nifti_of((500, 500, 500)), read_grid, "cut short"),
    "a.nii.gz": (lambda: gzip.compress(nifti_of((4, 4, 4), 200 * MB), 1), read_grid, "unpacks to more than the 416"),
    "b.nii.gz": (lambda: gzip.compress(nifti_of((30_000, 30_000, 30_000))), read_grid, "voxels; at most"),
    "c.nii.gz": (lambda: gzip.compress(bytes(200 * MB), 1), read_grid, "not a single-file NIfTI"),
    "k.npz": (lambda: _deflated({"kspace.npy": _npy_of((1 << 20, 1 << 20))}), read_kspace, "does not fit its"),
    "big.npz": (lambda: _declared(3 << 30), read_kspace, "at most 2,048 MB"),
    "a.safetensors": (lambda: _safetensors(1 << 40), read_checkpoint, "could not be read"),
    "h.safetensors": (lambda: _safetensors(4, header=1 << 50), read_checkpoint, "could not be read"),
    "view.pt": (lambda: _pt({"a": _view(1 << 40)}), read_checkpoint, "claim 4,194,304 MB"),
    "meta.pt": (lambda: _pt({"a": torch.empty(1 << 40, device="meta")}), read_checkpoint, "holds no numbers"),
    "packed.pt": (lambda: _deflated({"a/data.pkl": bytes(200 * MB)}), read_checkpoint, "is compressed"),
    "deep.json": (lambda: b"[" * 100_000, read_json, "nested more than 64 deep"),
    "deep.toml": (lambda: b"a = " + b"[" * 400 + b"]" * 400, read_toml, "nested more than 64 deep"),
    "points.toml": (lambda: b"a." * 400_000 + b"b = 1", read_toml, "more than 1000 points"),
    "large.toml": (lambda: b"a = 1\n" + b"#" * 2 * MB, read_toml, "at most 1 MB"),
    "field.csv": (lambda: b"name,group\na," + b"x" * 200_000, read_table, "field larger than field limit"),
    "short.csv": (
        lambda: b",".join(b"%d" % n for n in range(50_001)) + b"\n" + b"1\n" * 100_000,
        read_table,
        "does not have the header's 50001",
    ),
    "wide.toml": (lambda: b"", _wide, "cannot be made with"),
    "a.tar.gz": (lambda: _tar(200 * MB), merge, "unpacks to more than"),
    "name.tar.gz": (lambda: _tar(200 * MB, tarfile.GNUTYPE_LONGNAME), merge, "unpacks to more than"),
    "pax.tar.gz": (lambda: _tar(200 * MB, tarfile.XHDTYPE), merge, "unpacks to more than"),
}


def _declared(size: int) -> bytes:
    """An archive whose directory says that its array has so many bytes."""
    content = bytearray(_deflated({"kspace.npy": _npy_of((4, 2))}))
    place = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, place + 24, size)
    return bytes(content)


CHILD = """
import importlib, resource, sys
sys.path[:0] = sys.argv[3:]
import test_outside_bytes as tests
from pathlib import Path
from lib.common.errors import StudyError
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (160 << 20),) * 2)
for name, (_, read, said) in tests.BOMBS.items():
    try:
        read(Path(sys.argv[1]) / name)
    except StudyError as error:
        print(name, "|", error)
"""


def test_bombs_take_no_memory(tmp_path: Path, study_home: Path):
    """Each is refused by a process that may take 160 MB beside what its libraries take."""
    for name, (content, _, _) in BOMBS.items():
        (tmp_path / name).write_bytes(content())
    here = Path(__file__).parent
    paths = [str(here), str(here / "support"), str(here.parent)]
    called = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), "", *paths], capture_output=True, text=True, timeout=300
    )
    assert called.returncode == 0, called.stderr
    lines = dict(line.split(" | ", 1) for line in called.stdout.splitlines() if " | " in line)
    assert list(lines) == list(BOMBS)
    for name, (_, _, said) in BOMBS.items():
        assert said in lines[name], lines[name]


def test_a_table_of_too_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lib.common.outside.ROWS", 1000)
    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 1001)
    with pytest.raises(StudyError, match="more than 1,000 rows"):
        read_table(tmp_path / "t.csv")


def test_what_follows_the_voxels_may_be_as_long_as_stated(tmp_path: Path):
    plain = nifti_of((4, 4, 4), SLACK - 1)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]))  # in two streams
    assert read_grid(tmp_path / "a.nii.gz").voxels.sum() == 64


@pytest.mark.parametrize("name", ["a.png", "a.nii", "a.npz", "a.pt", "a.safetensors", "s.toml", "s.json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "nowhere", "long name"])
def test_what_is_no_file_is_refused_and_not_waited_for(name: str, kind: str, tmp_path: Path):
    file = tmp_path / (name if kind != "long name" else "x" * 300 + name)
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "nowhere":
        file.symlink_to(tmp_path / "nothing")
    readers: dict[str, Callable[[Path], Any]] = {
        "a.png": to_gray, "a.nii": read_grid, "a.npz": read_kspace, "a.pt": read_checkpoint,
        "a.safetensors": read_checkpoint, "s.toml": lambda each: load_suite(str(each)), "s.json": read_json,
    }  # fmt: skip
    assert outcome(lambda: readers[name](file))[0] == "refused"
