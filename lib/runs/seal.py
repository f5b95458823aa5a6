"""The seal of a finished run: which files it has, byte for byte, so that what is read is what was written.

`result.json` lists every other file of the run with its size and sha256 under `files`, and holds under `seal` the
sha256 of all the rest of itself. A file is checked when it is first read in a process, and again once it has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.common.errors import StudyError

Files = dict[str, list[Any]]  # path in the run's folder, with /: size in bytes, sha256 in hex
_checked: set[tuple[str, int, int, int, str]] = set()


def file_entry(content: bytes) -> list[Any]:
    """What the seal says of a file with this content."""
    return [len(content), hashlib.sha256(content).hexdigest()]


def sealed(result: Mapping[str, Any], files: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The result with the list of files and with its own seal."""
    whole = {**result, "files": {name: files[name] for name in sorted(files)}}
    return {**whole, "seal": _seal_of(whole)}


def check_result(folder: Path, result: Mapping[str, Any], spec: bytes) -> None:
    """That a result is as it was written, and is the one of this run.

    Args:
        spec: what `spec.json` of the run must hold.

    Raises:
        StudyError: it has no seal, was changed, or belongs to another run.
    """
    file, again = folder / "result.json", f"Delete {folder} and train the run again"
    files, own = result.get("files"), {key: value for key, value in result.items() if key != "seal"}
    if "seal" not in result or not isinstance(files, dict):
        raise StudyError(f"{file} has no seal: it was cut, edited, or written before runs were sealed. {again}")
    if result["seal"] != _seal_of(own):
        raise StudyError(f"{file} was changed since it was written: its seal does not fit. {again}")
    if files.get("spec.json") != file_entry(spec):
        raise StudyError(f"{file} is that of another run: it lists another spec.json. {again}")


def check_file(folder: Path, name: str, files: Mapping[str, list[Any]]) -> None:
    """That a file of a finished run is as it was written; looked at once per process and state of the file.

    Raises:
        StudyError: it is not listed, missing, of another length, or of another content.
    """
    file, again = folder / name, f"Put the file back, or delete {folder} and train the run again"
    if name not in files:
        raise StudyError(f"{file} is no part of the run: its seal does not list it. Delete the file")
    size, digest = files[name]
    try:
        state = file.stat()
    except OSError:
        raise StudyError(f"{file} is missing. {again}") from None
    key = (str(file), state.st_ino, state.st_mtime_ns, state.st_size, digest)
    if key in _checked:
        return
    if state.st_size != size:
        raise StudyError(f"{file} is damaged: it has {state.st_size} bytes, and was written with {size}. {again}")
    if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise StudyError(f"{file} is damaged or was changed: its sha256 is not the one it was written with. {again}")
    _checked.add(key)


def _seal_of(result: Mapping[str, Any]) -> str:
    text = json.dumps(result, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
