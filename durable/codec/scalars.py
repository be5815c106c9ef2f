"""The stdlib's value types: how each becomes an Ext, and back.

zoneinfo and fractions take their time to import and are seldom needed: before somebody imports them there are no such
values.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from types import EllipsisType
from typing import TYPE_CHECKING, Any
from uuid import UUID, SafeUUID

from msgspec.msgpack import Ext

from durable.codec import extensions as x
from durable.codec.walker import Handler, Refused, Walker, extension
from durable.errors import CorruptPayload, UnresolvedClass

if TYPE_CHECKING:
    from fractions import Fraction
    from zoneinfo import ZoneInfo

_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_COMPLEX = struct.Struct("<dd")
_ZONE_KEY = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+){0,4}")
_MICROSECOND = timedelta(microseconds=1)
PURE_PATHS: dict[str, type[PurePath]] = {"PurePosixPath": PurePosixPath, "PureWindowsPath": PureWindowsPath}
CONCRETE_PATHS: dict[str, type[PurePath]] = {"PosixPath": PurePosixPath, "WindowsPath": PureWindowsPath}


def int_ext(value: int) -> Ext:
    """An integer of any size."""
    return Ext(x.INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def write_int(value: int, _walker: Walker, _depth: int) -> Any:
    """Only the careful walk comes here; what 64 bits hold, signed or not, stays native."""
    return value if _INT_MIN <= value <= _INT_MAX else int_ext(value)


def write_str(value: str, _walker: Walker, _depth: int) -> Any:
    """Only the careful walk comes here; what UTF-8 can say stays native."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return Ext(x.STR, value.encode("utf-8", "surrogatepass"))
    return value


def write_datetime(value: datetime, walker: Walker, depth: int) -> Any:
    zone = _write_zone(value.tzinfo, value, walker, depth)
    return extension(x.DATETIME, [value.replace(tzinfo=None).isoformat(), value.fold, zone])


def write_time(value: time, walker: Walker, depth: int) -> Any:
    zone = _write_zone(value.tzinfo, value, walker, depth)
    return extension(x.TIME, [value.replace(tzinfo=None).isoformat(), value.fold, zone])


def _write_zone(zone: tzinfo | None, owner: object, walker: Walker, depth: int) -> Any:
    if zone is None:
        return None
    if type(zone) is not timezone and find(type(zone)) is not write_zoneinfo:
        refused = Refused(zone, "only timezone.utc, a fixed-offset timezone and zoneinfo.ZoneInfo can be rebuilt")
        refused.within(".tzinfo", owner)
        raise refused
    return walker.part(zone, ".tzinfo", owner, depth)


def write_timezone(value: timezone, walker: Walker, depth: int) -> Any:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]  # what pickle uses; typeshed has it not
    return extension(x.TIMEZONE, [offset // _MICROSECOND, walker.walk(name[0], depth) if name else None])


def write_zoneinfo(value: ZoneInfo, _walker: Walker, _depth: int) -> Any:
    key: str | None = value.key
    try:
        value.__reduce__()
    except Exception:
        key = None
    if key is None or not _ZONE_KEY.fullmatch(key):
        raise Refused(value, "a zone read from a file has no key to find it by again")
    return Ext(x.ZONEINFO, key.encode())


def write_path(value: PurePath, walker: Walker, depth: int) -> Any:
    return extension(x.PATH, [type(value).__name__, walker.walk(str(value), depth)])


def write_uuid(value: UUID, _walker: Walker, _depth: int) -> Any:
    safe = value.is_safe
    if safe is SafeUUID.unknown:
        return Ext(x.UUID, value.bytes)
    return Ext(x.UUID, value.bytes + safe.value.to_bytes(1, "big", signed=True))


def write_fraction(value: Fraction, walker: Walker, depth: int) -> Any:
    return extension(x.FRACTION, [walker.walk(value.numerator, depth), walker.walk(value.denominator, depth)])


def write_range(value: range, walker: Walker, depth: int) -> Any:
    return extension(x.RANGE, [walker.walk(part, depth) for part in (value.start, value.stop, value.step)])


def write_slice(value: slice, walker: Walker, depth: int) -> Any:
    parts = ((name, getattr(value, name)) for name in ("start", "stop", "step"))
    return extension(x.SLICE, list(walker.fields(parts, value, depth).values()))


HANDLERS: dict[type, Handler] = {
    int: write_int,
    str: write_str,
    bytearray: lambda value, _walker, _depth: Ext(x.BYTEARRAY, bytes(value)),
    complex: lambda value, _walker, _depth: Ext(x.COMPLEX, _COMPLEX.pack(value.real, value.imag)),
    datetime: write_datetime,
    date: lambda value, _walker, _depth: Ext(x.DATE, value.isoformat().encode()),
    time: write_time,
    timedelta: lambda value, _walker, _depth: extension(x.TIMEDELTA, [value.days, value.seconds, value.microseconds]),
    timezone: write_timezone,
    Decimal: lambda value, _walker, _depth: Ext(x.DECIMAL, str(value).encode()),
    UUID: write_uuid,
    range: write_range,
    slice: write_slice,
    EllipsisType: lambda _value, _walker, _depth: Ext(x.ELLIPSIS, b""),
    PosixPath: write_path,
    WindowsPath: write_path,
    PurePosixPath: write_path,
    PureWindowsPath: write_path,
}


def find(cls: type) -> Handler | None:
    """The rule for a class of a module that is not imported here."""
    if cls is getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None):
        return write_zoneinfo
    if cls is getattr(sys.modules.get("fractions"), "Fraction", None):
        return write_fraction
    return None


def read_zoneinfo(data: bytes) -> ZoneInfo:
    from zoneinfo import ZoneInfo  # see the top of this file

    key = data.decode("ascii")
    if not _ZONE_KEY.fullmatch(key) or len(key) > 100:
        raise CorruptPayload(f"{key!r} is not a time zone's key")
    try:
        return ZoneInfo(key)
    except Exception as error:
        reason = f"this machine has no data for the time zone {key!r}; install the tzdata package"
        raise UnresolvedClass("zoneinfo", "ZoneInfo", reason) from error


def read_datetime(payload: Any) -> datetime:
    text, fold, zone = payload
    return datetime.fromisoformat(text).replace(fold=fold, tzinfo=zone)


def read_time(payload: Any) -> time:
    text, fold, zone = payload
    return time.fromisoformat(text).replace(fold=fold, tzinfo=zone)


def read_timezone(payload: Any) -> timezone:
    microseconds, name = payload
    offset = timedelta(microseconds=microseconds)
    return timezone(offset) if name is None else timezone(offset, name)


def read_uuid(data: bytes) -> UUID:
    safe = SafeUUID(int.from_bytes(data[16:], "big", signed=True)) if len(data) == 17 else SafeUUID.unknown
    return UUID(bytes=data[:16] if len(data) == 17 else data, is_safe=safe)


def read_fraction(payload: Any) -> Fraction:
    from fractions import Fraction  # see the top of this file

    return Fraction(*payload)


def read_path(payload: Any) -> PurePath:
    name, text = payload
    if name in PURE_PATHS:
        return PURE_PATHS[name](text)
    if name not in CONCRETE_PATHS:
        raise CorruptPayload(f"{name!r} is not a kind of path")
    if type(Path()).__name__ != name:
        reason = "a path of another operating system; read it on the system that wrote it, or record a PurePath"
        raise UnresolvedClass("pathlib", name, reason)
    return Path(text)


def read_inert_path(payload: Any) -> PurePath:
    name, text = payload
    return (PURE_PATHS.get(name) or CONCRETE_PATHS[name])(text)


RAW_READERS: dict[int, Callable[[Any], Any]] = {
    x.INT: lambda data: int.from_bytes(data, "little", signed=True),
    x.STR: lambda data: data.decode("utf-8", "surrogatepass"),
    x.BYTEARRAY: bytearray,
    x.COMPLEX: lambda data: complex(*_COMPLEX.unpack(data)),
    x.DATE: lambda data: date.fromisoformat(data.decode("ascii")),
    x.DECIMAL: lambda data: Decimal(data.decode("ascii")),
    x.UUID: read_uuid,
    x.ELLIPSIS: lambda _data: ...,
    x.ZONEINFO: read_zoneinfo,
}
NESTED_READERS: dict[int, Callable[[Any], Any]] = {
    x.DATETIME: read_datetime,
    x.TIME: read_time,
    x.TIMEDELTA: lambda payload: timedelta(*payload),
    x.TIMEZONE: read_timezone,
    x.PATH: read_path,
    x.FRACTION: read_fraction,
    x.RANGE: lambda payload: range(*payload),
    x.SLICE: lambda payload: slice(*payload),
}
