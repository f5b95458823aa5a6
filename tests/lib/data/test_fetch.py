"""Fetching originals from a server on loopback that answers well and badly: nothing half-written, nothing lost."""

from __future__ import annotations

import errno
import http.server
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_originals as tiny

from lib.common.errors import StudyError
from lib.data import cards
from lib.data.cards import Card, find_card
from lib.data.preparation import fetch as fetching
from lib.data.preparation.fetch import TRIES, MovingLine, address, fetch
from lib.data.preparation.originals import Original, originals, originals_dir

FILES = {"a folder/one (1).bin": b"first", "a folder/two.bin": b"second" * 1000, "three.bin": b"third"}


class Mirror:
    """A server of files by path, with faults by path: "missing", "wrong", "cut", "busy once"."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {f"/own/repo/{tiny.COMMIT}/{path}": content for path, content in files.items()}
        self.faults: dict[str, str] = {}
        self.asked: list[str] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urllib.parse.unquote(self.path)
                name = path.split("/")[-1]
                mirror.asked.append(name)
                fault = mirror.faults.get(name, "")
                content = mirror.files.get(path)
                if fault == "busy once" and mirror.asked.count(name) == 1:
                    self.send_error(503)
                elif content is None or fault == "missing":
                    self.send_error(404)
                else:
                    body = b"x" * len(content) if fault == "wrong" else content
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "PAUSE", 0.01)
    mirror = Mirror(FILES)
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mirror: Mirror) -> Card:
    monkeypatch.setattr(cards, "manifest_dir", lambda: tmp_path / "cards")
    tiny.write_card("busi", FILES, tmp_path / "cards", mirror.address + "{repository}/{commit}/")
    return find_card("busi")


def quiet(line: str) -> None:
    pass


def stored(card: Card) -> dict[str, bytes]:
    """What lies in the folder of originals, temporary files and all."""
    root = originals_dir(card)
    prefix = f"own/repo/{tiny.COMMIT}/"
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix().removeprefix(prefix): path.read_bytes() for path in files}


def test_everything_is_fetched_once(card: Card, mirror: Mirror):
    said: list[str] = []
    fetch(card, show=said.append)
    assert stored(card) == FILES
    assert sorted(mirror.asked) == ["one (1).bin", "three.bin", "two.bin"]
    assert "0 of 3 originals" in said[0]
    assert "3 originals (0.0 MB) fetched and verified" in said[1]
    fetch(card, show=said.append)
    assert len(mirror.asked) == 3
    assert "3 of 3 originals" in said[2]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", r"two\.bin: the server answered 404 \(Not Found\); try another mirror with --base"),
        ("wrong", r"two\.bin: what came is not the file of the table \(sha256 differs from .*\) and was deleted"),
        ("cut", r"two\.bin: the download was cut off; try another mirror .*what was fetched before is kept"),
    ],
)
def test_a_bad_answer_leaves_nothing_and_loses_nothing(card: Card, mirror: Mirror, fault: str, message: str):
    mirror.faults = {"two.bin": fault}
    with pytest.raises(StudyError, match=message):
        fetch(card, show=quiet)
    kept = stored(card)
    assert "a folder/two.bin" not in kept
    assert kept.items() <= FILES.items()
    mirror.faults = {}
    mirror.asked = []
    fetch(card, show=quiet)
    assert stored(card) == FILES
    assert len(mirror.asked) == 3 - len(kept)  # goes on from there


def test_a_cut_off_download_is_tried_again(card: Card, mirror: Mirror):
    mirror.faults["two.bin"] = "cut"
    with pytest.raises(StudyError, match="cut off"):
        fetch(card, show=quiet)
    assert mirror.asked.count("two.bin") == TRIES


def test_a_busy_server_is_asked_again(card: Card, mirror: Mirror):
    mirror.faults["two.bin"] = "busy once"
    fetch(card, show=quiet)
    assert stored(card) == FILES


def test_a_file_that_was_changed_is_replaced(card: Card, mirror: Mirror):
    fetch(card, show=quiet)
    next(originals_dir(card).rglob("three.bin")).write_bytes(b"THIRD")
    fetch(card, show=quiet)
    assert stored(card) == FILES


def test_no_network_is_said(card: Card):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        port = taken.getsockname()[1]
        with pytest.raises(StudyError, match=rf":{port}/.*: the server cannot be reached \(is there a network\?\)"):
            fetch(card, base=f"http://127.0.0.1:{port}", show=quiet)
    assert stored(card) == {}


def test_a_silent_server_is_given_up(card: Card, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetching, "SECONDS", (0.05, 0.05))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        with pytest.raises(StudyError, match="no answer within 0 s"):
            fetch(card, base=f"http://127.0.0.1:{silent.getsockname()[1]}", show=quiet)


def test_what_is_no_address_is_refused(card: Card):
    with pytest.raises(StudyError, match=r"nowhere/own/repo/.* cannot be fetched; --base takes an address"):
        fetch(card, base="nowhere", show=quiet)


def test_an_address_is_the_base_with_repository_commit_and_path():
    row = Original("own/repo", "abc", "a b/c (1).png", 1, "0" * 64)
    wanted = "http://x/own/repo/abc/a%20b/c%20%281%29.png"
    assert address(row, "http://x/{repository}/{commit}/") == wanted
    assert address(row, "http://x") == address(row, "http://x/") == wanted


def test_a_full_disk_is_said(card: Card, monkeypatch: pytest.MonkeyPatch):
    class Full:
        free = 10

    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: Full)
    with pytest.raises(StudyError, match=r"0 MB are to be fetched, but .* has 0 MB free; make room, or set STUDY_HOME"):
        fetch(card, show=quiet)

    import pooch

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    Full.free = 10**9
    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(StudyError, match=r"cannot store originals in .*: the disk is full; what was fetched"):
        fetch(card, show=quiet)


@pytest.mark.parametrize("plain", [True, False])
def test_a_folder_serves_without_a_network(card: Card, mirror: Mirror, tmp_path: Path, plain: bool):
    folder = tmp_path / "given"
    for path, content in FILES.items():
        file = folder / path if plain else folder / "own/repo" / tiny.COMMIT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    fetch(card, source=folder, show=quiet)
    assert stored(card) == FILES
    assert mirror.asked == []


def test_a_folder_with_gaps_gives_what_it_has(card: Card, tmp_path: Path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "three.bin").write_bytes(FILES["three.bin"])
    with pytest.raises(StudyError, match=r"2 of 3 originals are not in .*given, .*was copied.*--allow-partial"):
        fetch(card, source=tmp_path / "given", show=quiet)
    assert stored(card) == {"three.bin": FILES["three.bin"]}
    (tmp_path / "given" / "two.bin").write_bytes(b"other")
    (tmp_path / "given" / "a folder").mkdir()
    (tmp_path / "given" / "a folder" / "two.bin").write_bytes(b"other")
    with pytest.raises(StudyError, match=r"1 files in .* are not the originals .*two\.bin"):
        fetch(card, source=tmp_path / "given", show=quiet)
    with pytest.raises(StudyError, match=r"no folder .*nothing; --from takes a folder"):
        fetch(card, source=tmp_path / "nothing", show=quiet)


def test_what_cannot_be_fetched_says_why(card: Card):
    with pytest.raises(StudyError, match="sim_x is simulated: it is drawn on demand"):
        fetch(_replaced(card, name="sim_x", kind="simulated"))
    manual = _replaced(card, fetch="manual", manual="registration is needed; ask at the hospital")
    with pytest.raises(StudyError, match="busi cannot be fetched automatically: registration is needed; ask"):
        fetch(manual)
    with pytest.raises(StudyError, match="busi has no table of originals"):
        fetch(_replaced(card, file=Path("elsewhere.toml")))


def _replaced(card: Card, **changes: object) -> Card:
    import dataclasses

    return dataclasses.replace(card, **changes)


def test_a_table_may_not_point_outside(card: Card):
    table = card.file.with_suffix(".csv")
    table.write_text(table.read_text().replace("three.bin", "../../three.bin"))
    with pytest.raises(StudyError, match=r"busi\.csv, line 4: path must name a file inside .*, got .*\.\./three"):
        originals(card)


def test_progress_counts_and_tells_the_time_left(capsys: pytest.CaptureFixture[str]):
    line = MovingLine("files fetched", 4, 8.0, every=0.0)
    line(1, megabytes=2.0)
    assert "1 of 4 files fetched, 2.0 of 8.0 MB, 0 s left" in capsys.readouterr().err
    line(0)
    assert "time left unknown yet" in capsys.readouterr().err
