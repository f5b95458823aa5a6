"""The seal of a finished run: which files it has, byte for byte, so that what is read is what was written.

`result.json` lists every other file of the run with its size and sha256 under `files`, and holds under `seal` the
sha256 of all the rest of itself. A file is checked when it is first read in a process, and again once it has changed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lib.common.errors import StudyError, shown
from lib.common.outside import JSON_BYTES, inside, is_file, read_bytes, read_json
from lib.data.tasks.task import SCORE
from lib.runs.spec import RunSpec

Files = dict[str, list[Any]]  # path in the run's folder, with /: size in bytes, sha256 in hex
_NUMBER, _TABLE, _TEXT = (int, float, type(None)), (dict, type(None)), (str, type(None))
_OWN_NAME = re.compile(r"(checkpoints/)?[\w-]{1,99}\.\w{1,20}")  # as the study names the files of a run
_MOST = 2**53  # what is told of a run is less; and JSON as the study writes it has no NaN and no infinity
_KINDS = dict.fromkeys(("steps", "seconds", "trainable", "parameters", "peak_mb"), _NUMBER)
_KINDS |= dict.fromkeys(("val", "test", "images", "subjects", "start", "source_before", "source_after"), _TABLE)
_KINDS |= dict.fromkeys(("status", "reason", "data", "source", "device"), _TEXT)
_SCORES = ("dice", "hd95", "misses", "empty", "images", "psnr", "ssim", "nmse", "artifacts", "train", "val", "test")
_RECENT = 1024  # results that stay in memory, some 30 MB
_SETTLED = 2 * 10**9  # nanoseconds; what was written later may have been written to again with the same time
State = tuple[int, int, int]  # of a file: another one once it was written to, or put in the place of another
_checked: set[tuple[str, State, str]] = set()


class Brief(NamedTuple):
    """What is asked of a result again and again, and is kept: status, validation score, digests of data and source."""

    status: str
    score: float | None
    data: str | None
    source: str | None


_briefs: dict[tuple[str, State, str], Brief] = {}


def read_record(file: Path) -> Any:
    """What a JSON file in a run's folder holds.

    Raises:
        StudyError: it is damaged; says what to do.
    """
    try:
        return read_json(file)
    except StudyError as error:
        raise StudyError(f"{file} is damaged ({error}); delete {file.parent} to train the run again") from error


def file_entry(content: bytes) -> list[Any]:
    """What the seal says of a file with this content."""
    return [len(content), hashlib.sha256(content).hexdigest()]


def sealed(result: Mapping[str, Any], files: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The result with the list of files and with its own seal."""
    whole = {**result, "files": {name: files[name] for name in sorted(files)}}
    return {**whole, "seal": _seal_of(whole)}


def spec_text(spec: RunSpec) -> str:
    """What `spec.json` holds."""
    return spec.text + "\n"


def holds_spec(file: Path, spec: RunSpec) -> bool:
    """Whether a spec.json holds this spec, byte for byte."""
    try:
        return read_bytes(file, JSON_BYTES) == spec_text(spec).encode()
    except StudyError:
        return False


def read_result(folder: Path, spec: RunSpec) -> dict[str, Any] | None:
    """The result of a spec's run, None where there is none; checked once per process and state of the file.

    It may be the very one that was given before: nobody writes into it.

    Raises:
        StudyError: see `check_result`.
    """
    state = _state_of_result(folder)
    if state is None:
        return None
    if time.time_ns() - state[1] < _SETTLED:
        return _checked_result(folder, spec)
    return _result(folder, state, spec)


def forget() -> None:
    """Check every file anew, as a new process does."""
    _checked.clear()
    _briefs.clear()
    _result.cache_clear()


def read_brief(folder: Path, spec: RunSpec) -> Brief | None:
    """The brief of the result of a spec's run, None where there is none; checked as `read_result` does it."""
    state = _state_of_result(folder)
    if state is None:
        return None
    key = str(folder), state, spec.digest
    return _briefs.get(key) or _brief(read_result(folder, spec) or {}, spec)


def _brief(result: Mapping[str, Any], spec: RunSpec) -> Brief:
    done = result["status"] == "done"
    data, source = (result.get(name) and sys.intern(result[name]) for name in ("data", "source"))
    return Brief(result["status"], result["val"][SCORE[spec.goal]] if done else None, data, source)


def _state_of_result(folder: Path) -> State | None:
    file = folder / "result.json"
    try:
        return _state(os.stat(file))
    except OSError:
        if not file.exists() and not file.is_symlink():
            return None
        return 0, 0, 0  # a link that leads nowhere, say, which is an error when it is read


def _checked_result(folder: Path, spec: RunSpec) -> dict[str, Any]:
    record = read_record(folder / "result.json")
    return check_result(folder, record, spec_text(spec).encode(), SCORE[spec.goal])


@functools.lru_cache(_RECENT)
def _result(folder: Path, state: State, spec: RunSpec) -> dict[str, Any]:
    key = str(folder), state, spec.digest
    if key in _briefs:
        with (folder / "result.json").open("rb") as stream:
            if _state(os.fstat(stream.fileno())) == state:
                return json.loads(stream.read())
    found = _checked_result(folder, spec)
    _briefs[key] = _brief(found, spec)
    return found


def _state(found: os.stat_result) -> State:
    return found.st_ino, found.st_mtime_ns, found.st_size


def check_result(folder: Path, result: Any, spec: bytes, score: str) -> dict[str, Any]:
    """A result that is as it was written, and is the one of this run.

    Anybody can seal anything, so what it holds is looked at too: that files lie in the folder, and that numbers are.

    Args:
        spec: what `spec.json` of the run must hold. score: what a run that is done was judged by.

    Raises:
        StudyError: it has no seal, was changed, belongs to another run, or lacks what a result tells.
    """
    file, again = folder / "result.json", f"Delete {folder} and train the run again"
    if not isinstance(result, dict):
        raise StudyError(f"{file} is damaged (it is no table). {again}")
    files, own = result.get("files"), {key: value for key, value in result.items() if key != "seal"}
    if "seal" not in result or not isinstance(files, dict):
        raise StudyError(f"{file} has no seal: it was cut, edited, or written before runs were sealed. {again}")
    if result["seal"] != _seal_of(own):
        raise StudyError(f"{file} was changed since it was written: its seal does not fit. {again}")
    if files.get("spec.json") != file_entry(spec):
        raise StudyError(f"{file} is that of another run: it lists another spec.json. {again}")
    for name, entry in files.items():
        if not _OWN_NAME.fullmatch(name):
            inside(folder, name, f"{file}: files")
        if not isinstance(entry, list) or list(map(type, entry)) != [int, str]:
            raise StudyError(f"{file} must list a size and a sha256 of {name}, got {shown(entry)}. {again}")
    wrong = [key for key, kinds in _KINDS.items() if key in result and not isinstance(result[key], kinds)]
    wrong += [key for key in result if isinstance(result[key], float) and not _number(result[key])]
    tables = [(key, result[key]) for key in _KINDS if isinstance(result.get(key), dict)]
    wrong += [f"{key}.{name}" for key, table in tables for name in _SCORES if not _number(table.get(name))]
    if result.get("status") == "done":
        scores = [(result.get(part) or {}).get(score) for part in ("val", "test")] if not wrong else []
        wrong += ["val and test"] if not all(isinstance(each, (int, float)) for each in scores) else []
    elif not isinstance(result.get("status"), str):
        wrong.append("status")
    if wrong:
        raise StudyError(f"{file} does not tell {', '.join(wrong)} as a result does. {again}")
    return result


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
        state = file.stat() if is_file(file) else None
    except OSError:
        state = None
    if state is None:
        raise StudyError(f"{file} is missing. {again}")
    key = str(file), _state(state), digest
    if key in _checked:
        return
    if state.st_size != size:
        raise StudyError(f"{file} is damaged: it has {state.st_size} bytes, and was written with {size}. {again}")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != digest:
        raise StudyError(f"{file} is damaged or was changed: its sha256 is not the one it was written with. {again}")
    _checked.add(key)


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and abs(value) < _MOST)


def _seal_of(result: Mapping[str, Any]) -> str:
    text = json.dumps(result, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
