"""Damaged and hostile copies of small valid files: seeded, so that what was found is found again."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import struct
import tomllib
from typing import Any

LONG = "x" * 300
ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 10**30, -(10**30), 0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf"), "",
    " ", LONG, "../../outside", "/etc/hostname", "..", ".", "a/b", "a\\b", "a\0b", "a\nb", "{x}", "%s", "os:system",
    "<script>alert(1)</script>", "$(touch x)", "\u202egnp", "\U0001f9e0", "\u00e9", "e\u0301", "file:///etc/passwd",
    [], {}, [[]], [None], {"": ""}, [1, 2, 3], ["a"] * 50, {"import": "os:system"}, {"null": True}, 1 << 40, 70000,
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1]
REALS = [0.0, -0.0, 1e-40, -1.0, 1e19, 3e38, -3e38, float("nan"), float("inf"), float("-inf"), 0.5, 352.5, 60000.0]


def mutant(name: str, content: bytes, draw: random.Random) -> bytes:
    """One damaged copy of a file: as bytes, or where its name tells of a text, as a structure or as lines."""
    ending = name.rpartition(".")[2]
    way = draw.random()
    if ending in ("json", "toml") and way < 0.7:
        return structure(json.loads(content) if ending == "json" else tomllib.loads(content.decode()), ending, draw)
    if ending == "csv" and way < 0.7:
        return table(content, draw)
    return text(content, draw) if ending in ("json", "toml", "csv", "jsonl") and way < 0.9 else binary(content, draw)


def structure(table: Any, kind: str, draw: random.Random) -> bytes:
    """A table with one to three values replaced, deleted, repeated or nested deeper."""
    try:
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            _change(table, draw)
        return json.dumps(table).encode() if kind == "json" else toml(table).encode("utf-8", "surrogatepass")
    except RecursionError:  # nested deeper than Python itself can write
        return b"[" * 5000


def _change(table: Any, draw: random.Random) -> None:
    places = list(_places(table))
    if not places:
        return
    holder, key = draw.choice(places)
    what = draw.random()
    if what < 0.6:
        holder[key] = copy.deepcopy(draw.choice(ODD))
    elif what < 0.7:
        del holder[key]
    elif what < 0.8:
        holder[key] = copy.deepcopy([holder[key]]) * draw.choice((1, 2, 40))
    elif what < 0.9:
        for _ in range(draw.choice((1, 30, 90, 400))):
            holder[key] = {"a": holder[key]} if draw.random() < 0.5 else [holder[key]]
    elif isinstance(holder, dict):
        holder[str(draw.choice(ODD))] = copy.deepcopy(holder[key])


def _places(holder: Any) -> Any:
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def toml(table: Any) -> str:
    """A table as TOML: every value inline."""
    return "".join(f"{json.dumps(str(key))} = {_inline(value)}\n" for key, value in table.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps("none" if value is None else value, ensure_ascii=False).replace("\x7f", "")


def table(content: bytes, draw: random.Random) -> bytes:
    """A CSV table with cells, rows or columns changed."""
    rows = list(csv.reader(io.StringIO(content.decode())))
    row = draw.randrange(len(rows))
    cell = draw.randrange(len(rows[row]))
    what = draw.random()
    if what < 0.5:
        rows[row][cell] = str(draw.choice([*ODD, "y" * 200_000, '"', "1" * 5000, "nan", "-3", "1e9"]))
    elif what < 0.6:
        rows[row] = rows[row][:cell]
    elif what < 0.7:
        rows[row] = rows[row] * draw.choice((2, 50))
    elif what < 0.8:
        rows.insert(row, list(rows[row]))
    elif what < 0.9:
        rows = rows[: row + 1]
    else:
        rows = [[*each[:cell], *each[cell + 1 :]] for each in rows]
    stream = io.StringIO()
    csv.writer(stream, lineterminator=draw.choice(("\n", "\r\n", "\r"))).writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogatepass")


def text(content: bytes, draw: random.Random) -> bytes:
    """A text with a piece replaced, nested, encoded otherwise, or put twice."""
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    end = min(end, start + 40)
    piece = draw.choice((
        b"", b"[" * 400, b"{" * 100_000, b'{"a":' * 2000, b"[[" * 50 + b"]]" * 50, b"9" * 5000, b"a." * 3000, b'"',
        b"\xff\xfe", b"\x00", b"\xef\xbb\xbf", b"\r", b"nan", b"-inf", b"1e999", b'"\\ud800"', b"=", b"\n\n", b",,,",
        content[start:end] * 2,
    ))  # fmt: skip
    changed = content[:start] + piece + content[end:]
    return changed.decode(errors="replace").encode("utf-16") if draw.random() < 0.03 else changed


def binary(content: bytes, draw: random.Random) -> bytes:
    """Bytes with bits flipped, a number put in, a piece cut, or the end lost; mostly near the beginning."""
    found = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5))):
        place = draw.randrange(max(1, len(found)))
        if draw.random() < 0.6:
            place = min(place, draw.randrange(400))
        what = draw.random()
        if what < 0.35 and found:
            found[place % len(found)] ^= 1 << draw.randrange(8)
        elif what < 0.6:
            order, code = draw.choice("<>"), draw.choice("bhiq")
            size = 8 * struct.calcsize(code)
            value = draw.choice(NUMBERS) % (1 << size)
            found[place : place + size // 8] = struct.pack(order + code.upper(), value)
        elif what < 0.8:
            found[place : place + 4] = struct.pack(draw.choice("<>") + "f", draw.choice(REALS))
        elif what < 0.9:
            del found[place : place + draw.choice((1, 4, 100))]
        elif what < 0.95:
            del found[place:]
        else:
            found[place:place] = draw.randbytes(draw.choice((1, 16, 300)))
    return bytes(found)
