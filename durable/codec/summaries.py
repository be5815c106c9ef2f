"""One line for any payload, at a cost that depends on the line and not on the payload.

The payload is read from its start and only as far as the line goes, so a row of a listing costs the same for three
bytes and for a gigabyte. Nothing that reaches the line can move a terminal's cursor.
"""

from __future__ import annotations

import struct
from typing import Any

from durable.codec import extensions as x
from durable.codec.inert import InertReading, array_text
from durable.errors import CorruptPayload
from durable.phrases import safe, size

_SMALL = 2048  # payloads of an extension up to this many bytes are decoded and shown whole
_MAX_TOKENS = 4096
_MAX_DEPTH = 64
_LENGTHS = {0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4), 0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4),
            0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2), 0xDF: ("map", 4)}  # fmt: skip
_EXT_LENGTHS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h",
            0xD2: ">i", 0xD3: ">q"}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_BRACKETS = {x.TUPLE: ("(", ")"), x.SET: ("{", "}"), x.FROZENSET: ("frozenset({", "})")}
_WRAPPED = {x.COUNTER: "Counter("}
_PAIRED = {x.DICT: "{", x.ORDERED_DICT: "OrderedDict({"}
_FUTURE = b"\x92" + bytes([0xA0 + len(x.FUTURE)]) + x.FUTURE.encode()
_FIELDS = frozenset({x.DATACLASS, x.NAMEDTUPLE, x.STRUCT, x.ATTRS, x.MODEL})


class _Full(Exception):
    """The line is."""


class _Cursor:
    """Reads MessagePack tokens one at a time."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> memoryview:
        """The next `count` bytes; raises CorruptPayload when there are fewer."""
        end = self.at + count
        if end > len(self.data):
            raise CorruptPayload("the payload ends in the middle of a value")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def token(self) -> tuple[str, Any]:
        """The kind of the next value, and the value of a scalar or the length of what follows."""
        first = self.take(1)[0]
        if first < 0x80:
            return "scalar", first
        if first >= 0xE0:
            return "scalar", first - 256
        if first < 0x90:
            return "map", first & 15
        if first < 0xA0:
            return "array", first & 15
        if first < 0xC0:
            return "str", first & 31
        if first in _CONSTANTS:
            return "scalar", _CONSTANTS[first]
        if first in _LENGTHS:
            kind, width = _LENGTHS[first]
            return kind, self.number(width)
        if first in _NUMBERS:
            form = _NUMBERS[first]
            return "scalar", struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if first in _EXT_LENGTHS:
            return "ext", self.number(_EXT_LENGTHS[first])
        if 0xD4 <= first <= 0xD8:
            return "ext", 1 << (first - 0xD4)
        raise CorruptPayload(f"0x{first:02x} begins no value")

    def expect(self, kind: str) -> int:
        """The length of the next value, which must be of `kind`."""
        found, value = self.token()
        if found != kind:
            raise CorruptPayload(f"{kind} expected, {found} found")
        return int(value)

    def text(self) -> str:
        """A whole string, expected to be short: the name of a class or field."""
        length = self.expect("str")
        return str(bytes(self.take(length)[:400]), "utf-8", "replace")


class _Line:
    """The line so far."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.parts: list[str] = []
        self.room = width
        self.tokens = _MAX_TOKENS

    def emit(self, text: str) -> None:
        self.parts.append(text[: self.room + 1])
        self.room -= len(text)
        if self.room < 0:
            raise _Full

    def value(self, cursor: _Cursor, depth: int = 0) -> None:
        """Render the next value."""
        self.tokens -= 1
        if depth > _MAX_DEPTH or self.tokens < 0:
            self.emit(" " * (self.room + 1))
        kind, found = cursor.token()
        if kind == "scalar":
            self.emit(repr(found))
        elif kind == "str":
            held = cursor.take(found)
            self.emit(repr(str(bytes(held[: 4 * self.width + 4]), "utf-8", "replace")))
        elif kind == "bin":
            held = cursor.take(found)
            self.emit(repr(bytes(held)) if found <= self.width else f"<bytes {size(found)}>")
        elif kind == "array":
            self.emit("[")
            self.items(cursor, found, depth)
            self.emit("]")
        elif kind == "map":
            self.emit("{")
            self.pairs(cursor, found, depth)
            self.emit("}")
        else:
            code = int.from_bytes(cursor.take(1), "big", signed=True)
            self.extension(code, cursor.take(found), depth + 1)

    def items(self, cursor: _Cursor, count: int, depth: int) -> None:
        for i in range(count):
            if i:
                self.emit(", ")
            self.value(cursor, depth + 1)

    def pairs(self, cursor: _Cursor, count: int, depth: int) -> None:
        for i in range(count):
            if i:
                self.emit(", ")
            self.value(cursor, depth + 1)
            self.emit(": ")
            self.value(cursor, depth + 1)

    def extension(self, code: int, data: memoryview, depth: int) -> None:
        cursor = _Cursor(data)
        if code == x.TUPLE and data[: len(_FUTURE)] == _FUTURE:
            self.emit(f"<result of {bytes(data[-16:]).hex()[:7]}>")
        elif code in _BRACKETS:
            opening, closing = _BRACKETS[code]
            count = cursor.expect("array")
            if code == x.SET and count == 0:
                opening, closing = "set(", ")"
            self.emit(opening)
            self.items(cursor, count, depth)
            self.emit(",)" if code == x.TUPLE and count == 1 else closing)
        elif code in _PAIRED:
            self.emit(_PAIRED[code])
            self.pairs(cursor, cursor.expect("array") // 2, depth)
            self.emit("})" if code == x.ORDERED_DICT else "}")
        elif code in _WRAPPED:
            self.emit(_WRAPPED[code])
            self.value(cursor, depth)
            self.emit(")")
        elif code in _FIELDS:
            self.fields(cursor, depth)
        elif code == x.EXCEPTION:
            cursor.expect("array")
            _module, qualname = cursor.text(), cursor.text()
            if bytes(cursor.data[cursor.at : cursor.at + 1]) == b"\xa0" and len(data) <= _SMALL:
                # No message, as in a canonical form: the arguments say more.
                self.emit(_whole(code, data))
            else:
                self.emit(f"{short(qualname)}(")
                self.value(cursor, depth)
                self.emit(")")
        elif len(data) <= _SMALL:
            self.emit(_whole(code, data))
        else:
            self.emit(_head(code, cursor))

    def fields(self, cursor: _Cursor, depth: int) -> None:
        cursor.expect("array")
        _module, qualname = cursor.text(), cursor.text()
        self.emit(f"{short(qualname)}(")
        for i in range(cursor.expect("map")):
            self.emit(f"{', ' if i else ''}{safe(cursor.text())}=")
            self.value(cursor, depth + 1)
        self.emit(")")


def short(qualname: str) -> str:
    """The last part of a qualified name, safe to print."""
    return safe(qualname.rpartition(".")[2])


def _whole(code: int, data: memoryview) -> str:
    try:
        return safe(repr(InertReading().hook(code, data)))
    except ValueError:
        # An integer with more digits than Python will print; damage is told apart below.
        if code not in (x.INT, x.FRACTION, x.RANGE, x.SLICE):
            raise
        return _named(code, len(data))


def _named(code: int, length: int) -> str:
    return f"<{x.NAMES.get(code, f'extension {code}').lower()} {size(length)}>"


def _head(code: int, cursor: _Cursor) -> str:
    """A large extension by what stands at its beginning."""
    length = len(cursor.data)
    try:
        if code == x.NDARRAY:
            cursor.expect("array")
            described = cursor.text() if cursor.data[1] >> 5 == 0b101 else None
            if described is not None:
                shape = [cursor.token()[1] for _ in range(cursor.expect("array"))]
                return safe(f"<ndarray {array_text(described, shape, length)}>")
        if code in (x.PANDAS, x.POLARS, x.ARROW):
            cursor.expect("array")
            name = cursor.text()
            shape = [cursor.token()[1] for _ in range(cursor.expect("array"))]
            library = {x.PANDAS: "pandas", x.POLARS: "polars", x.ARROW: "pyarrow"}[code]
            return safe(f"<{library}.{name} ({', '.join(map(str, shape))}) {size(length)}>")
    except IndexError as error:
        raise CorruptPayload("the payload ends in the middle of a value") from error
    return _named(code, length)


def summary(payload: bytes, width: int = 60) -> str:
    """One printable line of at most `width` characters (at least 8) showing a payload, cut short with ``...``.

    Raises:
        CorruptPayload: what had to be read of it is damaged.
    """
    line = _Line(max(width, 8))
    cursor = _Cursor(memoryview(payload))
    try:
        line.value(cursor)
    except _Full:
        return "".join(line.parts)[: line.width - 3].rstrip() + "..."
    except (CorruptPayload, MemoryError):
        raise
    except Exception as error:
        raise CorruptPayload(f"not what durable wrote: {error}") from error
    if cursor.at != len(cursor.data):
        raise CorruptPayload("bytes are left over after the value")
    return "".join(line.parts)
