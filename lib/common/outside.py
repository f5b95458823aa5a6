"""Bytes from elsewhere, read within bounds: texts, tables, compressed files, arrays; valid, or one line that says why.

Nobody knows who wrote a file that a study is given. So its size is looked at before it is read, what a header promises
is held against a bound before memory is taken for it, what unpacks stops at what was promised, names stay in their
folder, and whatever a parser stumbles over becomes a `StudyError`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from lib.common.errors import StudyError, cut, shown

MB = 1 << 20
TOML_BYTES, JSON_BYTES, TABLE_BYTES = MB, 16 * MB, 64 * MB  # a line of JSON, in a file of many, counts alone
ROWS, CELLS = 1_000_000, 8_000_000  # of a table: a row takes some 400 bytes of memory, and a cell 60
DEPTH = 64  # tables in tables; sources in sources are the deepest that the study itself writes
POINTS = 1000  # in one line of TOML: the time that tomllib takes for a dotted key grows with their square
ARRAY_BYTES = 2048 * MB  # of all arrays that are read from one file
OWN_BYTES = 1 << 40  # the same of a file that the study wrote itself
SLACK = MB  # what a compressed file may hold beyond what its header promises
NAME = 200  # letters of a file's name; file systems take 255 bytes, endings included


def is_file(path: Path) -> bool:
    """Whether a path leads to a plain file; false too where no file can be called so."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def inside(folder: Path, name: str, what: str) -> Path:
    """The file of that name in a folder or below it.

    Args:
        what: names it, and what gave the name, in an error.

    Raises:
        StudyError: the name leads out of the folder, or is none that a file can have.
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    odd = not parts or ".." in parts or name.startswith("/") or any(ord(letter) < 32 for letter in name)
    if odd or "\\" in name or any(len(part.encode(errors="replace")) > NAME for part in parts):
        raise StudyError(f"{what} must name a file inside {folder}, got {shown(name)}")
    return folder / name


def read_bytes(file: Path, most: int | None = None) -> bytes:
    """The content of a plain file.

    Raises:
        StudyError: there is none, it may not be read, or has more than `most` bytes.
    """
    try:
        if not file.is_file():  # a folder, a pipe or a device would be read for ever, or not at all
            raise StudyError(f"{file} is no file" if file.exists() else f"{file} does not exist")
        size = file.stat().st_size
        if most is not None and size > most:
            raise StudyError(f"{file} has {size / MB:,.1f} MB; what is read here has at most {most / MB:,.0f} MB")
        return file.read_bytes()
    except OSError as error:
        raise StudyError(f"{shown(str(file))} cannot be read ({error.strerror})") from error


def read_text(file: Path, most: int = JSON_BYTES, kind: str = "UTF-8") -> str:
    """The text of a file in UTF-8, without the mark that spreadsheets put at its start.

    Raises:
        StudyError: see `read_bytes`; or it is not UTF-8.
    """
    try:
        return read_bytes(file, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{file} is not UTF-8 ({error}); save it as {kind}") from error


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        StudyError: see `read_text` and `parse_json`.
    """
    return parse_json(read_text(file), str(file))


def parse_json(text: str, name: str) -> Any:
    """What a JSON text holds; tables in tables at most `DEPTH` deep.

    Raises:
        StudyError: it is none.
    """
    found = _parsed(json.loads, text, name, "JSON")
    if "\\u" in text:  # JSON can name half a character, which no file can hold
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise StudyError(f"{name} is not valid JSON: it holds half a character ({error.reason})") from error
    return found


def json_lines(lines: Sequence[str], *, sound: bool) -> list[Any]:
    """What lines of JSON hold, without those that are none; where all should be `sound`, at once, in half the time."""
    if sound:
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(f"[{','.join(lines)}]")
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return found


def read_toml(file: Path) -> dict[str, Any]:
    """What a TOML file holds, as `parse_json` reads.

    Raises:
        StudyError: see `read_text`; or it is not TOML.
    """
    text = read_text(file, TOML_BYTES)
    if any(line.count(".") > POINTS for line in text.splitlines()):
        raise StudyError(f"{file} is not valid TOML that is read here: a line has more than {POINTS} points; break it")
    return _parsed(tomllib.loads, text.replace("\r\n", "\n"), str(file), "TOML")


def _parsed(parse: Callable[[str], Any], text: str, name: str, kind: str) -> Any:
    try:
        found = parse(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        reason = f"nested more than {DEPTH} deep" if isinstance(error, RecursionError) else str(error)
        raise StudyError(f"{name} is not valid {kind}: {cut(reason)}") from error
    if kind == "JSON" and text.count("{") + text.count("[") <= DEPTH:
        return found  # no level without a bracket: most files of the study need no closer look
    level = [found]
    for _ in range(DEPTH - 1):
        level = [each for holder in level for each in _inner(holder) if isinstance(each, (dict, list))]
        if not level:
            return found
    if not any(_inner(holder) for holder in level):
        return found
    raise StudyError(f"{name} is not valid {kind}: nested more than {DEPTH} deep")


def _inner(holder: Any) -> Collection[Any]:
    return holder.values() if isinstance(holder, dict) else holder if isinstance(holder, list) else ()


def read_table(file: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file in UTF-8 that must have (at least) these columns.

    Raises:
        StudyError: see `read_text`; no CSV, too much of it, a column that is missing or there twice, or a row with more
            or fewer cells than the header.
    """
    text, rows = read_text(file, TABLE_BYTES, "CSV UTF-8"), list[dict[str, str]]()
    try:
        lines = csv.reader(io.StringIO(text, newline=""))
        header = next(lines, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise StudyError(f"{file}: column {', '.join(missing)} is missing; the header is {cut(', '.join(header))}")
        if len(set(header)) < len(header):
            raise StudyError(f"{file}: two columns have one name; the header is {cut(', '.join(header))}")
        most = min(ROWS, CELLS // max(1, len(header)))
        for cells in filter(None, lines):
            if len(cells) != len(header):
                line = f"{file}, line {lines.line_num}"
                raise StudyError(f"{line}: the row does not have the header's {len(header)} cells")
            if len(rows) >= most:
                raise StudyError(f"{file} has more than {most:,} rows; at most {ROWS:,}, of {CELLS:,} cells, are read")
            rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise StudyError(f"{file} is no table in CSV ({error}); save it as CSV UTF-8") from error
    return rows


def gunzip(content: bytes, name: str, promised: Callable[[bytes], int], first: int) -> bytes:
    """What gzip-compressed bytes unpack to, and no more than the beginning of it promises.

    Args:
        promised: how many bytes there are in all, from the `first` of them.

    Raises:
        StudyError: damaged, cut short, or it goes on for more than `SLACK` after what it promises.
    """
    parts = _unpacked(content, name)
    found = bytearray(next(parts, b""))
    while len(found) < first and (more := next(parts, b"")):
        found += more
    most = promised(bytes(found[:first])) + SLACK
    for part in parts:
        found += part
        if len(found) > most:
            raise StudyError(f"{name}: unpacks to more than the {most - SLACK:,} bytes that its header promises")
    return bytes(found)


def _unpacked(content: bytes, name: str) -> Iterator[bytes]:
    """The parts of gzip-compressed bytes, each of at most a megabyte; several streams may follow one another."""
    rest: bytes = content
    try:
        while rest[:2] == b"\x1f\x8b":
            stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
            while not stream.eof:
                part = stream.decompress(rest, MB)
                if not part and not stream.eof and not stream.unconsumed_tail:
                    raise StudyError(f"{name}: damaged (the compressed data end too early)")
                rest = stream.unconsumed_tail
                yield part
            rest = stream.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise StudyError(f"{name}: damaged ({error})") from error


def read_npz(content: bytes, name: str, most: int = ARRAY_BYTES) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, none of them of Python objects.

    Raises:
        StudyError: no such file, damaged, an array is larger than the file says, or all are larger than `most` bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            size = sum(entry.file_size for entry in entries.values())
            if size > most:
                raise StudyError(f"{name}: unpacks to {size / MB:,.0f} MB; at most {most // MB:,} MB are read")
            return {key: read_npy(archive.read(entry), f"{name}: {key}") for key, entry in entries.items()}
    except StudyError:
        raise
    except Exception as error:  # zipfile and zlib raise a dozen kinds for damaged archives
        raise StudyError(f"{name}: not a readable .npz file ({error})") from error


def read_npy(content: bytes, name: str) -> np.ndarray:
    """The array in the bytes of an .npy file; numbers or text, no Python objects.

    Raises:
        StudyError: it is none, or its header promises more or less than there is.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, kind = header(stream)
        if kind.hasobject:
            raise ValueError("it holds Python objects, which may be code")
        if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != len(content) - stream.tell():
            raise ValueError(f"{kind} {shape} does not fit its {len(content)} bytes")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # numpy reads the header as a Python literal, and raises what that raises
        raise StudyError(f"{name} is no array of numbers ({error}); save one with numpy.save") from error


class ArchiveBytes:
    """The bytes of an archive as `tarfile` reads them: none past `most`, and no more than a megabyte at once.

    Headers of an archive may ask for any length, and what is skipped is unpacked all the same.
    """

    def __init__(self, stream: IO[bytes], most: int, name: str) -> None:
        self.stream, self.most, self.name = stream, most, name
        self.tell = stream.tell

    def read(self, size: int) -> bytes:
        """At most so many bytes.

        Raises:
            StudyError: they are too many, or too far in.
        """
        self._check(self.stream.tell() + size, size <= MB)
        return self.stream.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place.

        Raises:
            StudyError: it is too far in.
        """
        self._check(place, whence == 0)
        return self.stream.seek(place)

    def _check(self, place: int, possible: bool) -> None:
        if not possible or place > self.most:
            raise StudyError(f"{self.name} unpacks to more than {self.most / MB:,.0f} MB, or has a header that does")
