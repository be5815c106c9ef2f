"""Any payload as inert placeholders: for the CLI, which resolves nothing and needs none of the libraries.

Values of the standard library come back as they are; whatever is of a class, an array or a table becomes `Inert`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, ClassVar

from durable.codec import containers, scalars
from durable.codec import extensions as x
from durable.codec.arrays import dtype_name
from durable.codec.decoder import Reader, Reading
from durable.codec.objects import Resolve
from durable.errors import CorruptPayload, UnresolvedClass
from durable.phrases import safe, size

_SCALARS = {"<f8": "<d", "<f4": "<f", "<f2": "<e", "|b1": "?", "|i1": "b", "|u1": "B", "<i2": "<h", "<u2": "<H",
            "<i4": "<i", "<u4": "<I", "<i8": "<q", "<u8": "<Q", "d": "<d", "f": "<f", "e": "<e"}  # fmt: skip
_PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_BUILTIN_FACTORY = "builtins"


class Inert:
    """Stands for a value of a class, an array or a table, and can only be shown.

    Args:
        kind: what it is: ``"dataclass"``, ``"enum"``, ``"exception"``, ``"ndarray"``, ``"digest"``...
        type_name: its class, as ``module.QualName``; text as recorded, which may be anything.
        data: its parts, inert themselves.
    """

    __slots__ = ("data", "kind", "type_name")

    def __init__(self, kind: str, type_name: str, data: Any) -> None:
        self.kind = kind
        self.type_name = type_name
        self.data = data

    def __repr__(self) -> str:
        return safe(_shown(self))


def _shown(value: Inert) -> str:
    name, data = value.type_name, value.data
    short = name.rpartition(".")[2] or name
    if value.kind == "fields":
        return f"{short}({', '.join(f'{key}={item!r}' for key, item in data.items())})"
    if value.kind == "enum":
        return f"{short}.{data}" if isinstance(data, str) else f"{short}({data!r})"
    if value.kind == "exception":
        args = data.get("args")
        return f"{short}({', '.join(map(repr, args)) if args else repr(data['message']) if data['message'] else ''})"
    if value.kind == "call":
        return f"{name if name.startswith('np.') else short}({', '.join(map(repr, data))})"
    return f"<{' '.join(part for part in (value.kind, name, data) if isinstance(part, str) and part)}>"


def _named(module: str, qualname: str) -> str:
    if not isinstance(module, str) or not isinstance(qualname, str):
        raise TypeError("a class is not named by two strings")
    return qualname if module == "builtins" else f"{module}.{qualname}"


def _fields(payload: Any) -> Inert:
    module, qualname, fields, *_rest = payload
    return Inert("fields", _named(module, qualname), dict(fields))


def _member(payload: Any) -> Inert:
    module, qualname, member = payload
    return Inert("enum", _named(module, qualname), member)


def _exception(payload: Any) -> Inert:
    module, qualname, message, parts = payload
    return Inert("exception", _named(module, qualname), {"message": message, **parts})


def _shape(shape: Any) -> str:
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"


def array_text(described: Any, shape: list[int], length: int | None) -> str:
    """What is shown of an array: ``float64 (1000, 3) 24 kB``."""
    return " ".join(filter(None, [dtype_name(described), _shape(shape), "" if length is None else size(length)]))


def _array(payload: Any) -> Inert:
    described, shape, _order, data = payload
    length = len(data) if isinstance(data, bytes) else data.data["length"] if isinstance(data, Inert) else None
    return Inert("ndarray", "", array_text(described, shape, length))


def _scalar(payload: Any) -> Inert:
    described, data = payload
    if described in ("str", "bytes"):
        return Inert("call", f"np.{described}_", [data])
    name = f"np.{dtype_name(described)}"
    if isinstance(data, Inert):
        return Inert("ndarray", "", f"{data.data} scalar")
    form = _SCALARS.get(described) if isinstance(described, str) else None
    if form is None:
        return Inert(name, "", "")
    return Inert("call", name.replace("np.bool", "np.bool_"), [struct.unpack(form, data)[0]])


def _pandas(payload: Any) -> Inert:
    name, shape, *parts = payload
    if shape is not None:
        return Inert(f"pandas.{name}", "", _shape(shape))
    if name not in ("Timestamp", "Timedelta"):
        return Inert(f"pandas.{name}", "", "")
    since = timedelta(microseconds=parts[0] * 1_000_000 // _PER_SECOND[parts[1]])
    zone = parts[2] if name == "Timestamp" else None
    if name == "Timedelta":
        shown = str(since)
    elif zone is None:
        shown = (_EPOCH + since).replace(tzinfo=None).isoformat(" ")
    else:
        shown = (_EPOCH + since).astimezone(zone if isinstance(zone, tzinfo) else timezone.utc).isoformat(" ")
    return Inert("call", f"pandas.{name}", [shown])


def _table(library: str) -> Reader:
    def read(payload: Any) -> Inert:
        name, shape, *_types, _checksum, data = payload
        return Inert(f"{library}.{name}", "", f"{_shape(shape)} {size(len(data))}")

    return read


def _canonical_table(payload: Any) -> Inert:
    library, name, shape, _columns = payload
    return Inert(f"{library}.{name}", "", _shape(shape))


class Digest(Inert):
    """What stands for a value too long to keep. `data` has ``digest`` (16 bytes) and ``length`` (bytes)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return safe(f"<{self.type_name} {size(self.data['length'])} xxh3:{self.data['digest'].hex()[:8]}>")


def _digest(payload: Any) -> Inert:
    tag, digest, length = payload
    if not isinstance(digest, bytes) or type(length) is not int or length < 0:
        raise CorruptPayload("a digest is bytes and a length")
    return Digest("digest", str(tag), {"digest": digest, "length": length})


def _method(payload: Any) -> Inert:
    module, qualname, owner = payload
    return Inert("bound", _named(module, qualname), f"of {owner!r}")


def _partial(payload: Any) -> Inert:
    function, args, keywords = payload
    return Inert("call", "partial", [function, *args, *([keywords] if keywords else [])])


def _zone(data: bytes) -> Any:
    try:
        return scalars.read_zoneinfo(data)
    except UnresolvedClass:
        return Inert("zoneinfo", data.decode("ascii"), "")


def _moment(read: Reader, name: str) -> Reader:
    def read_moment(payload: Any) -> Any:
        text, _fold, zone = payload
        return Inert(name, str(text), repr(zone)) if isinstance(zone, Inert) else read(payload)

    return read_moment


def _defaultdict(payload: Any) -> Any:
    named, items = payload
    if named is None or named[0] == _BUILTIN_FACTORY:
        return containers.read_defaultdict(payload)
    return Inert("call", "defaultdict", [Inert("class", _named(*named), ""), items])


def _reference(kind: str) -> Reader:
    return lambda payload: Inert(kind, _named(*payload[:2]), "")


RAW: dict[int, Reader] = {**scalars.RAW_READERS, x.ZONEINFO: _zone}
NESTED: dict[int, Reader] = {
    **scalars.NESTED_READERS,
    **containers.NESTED_READERS,
    x.PATH: scalars.read_inert_path,
    x.DATETIME: _moment(scalars.read_datetime, "datetime"),
    x.TIME: _moment(scalars.read_time, "time"),
    x.DEFAULTDICT: _defaultdict,
    x.ENUM: _member,
    x.FLAG: _member,
    x.DATACLASS: _fields,
    x.NAMEDTUPLE: _fields,
    x.STRUCT: _fields,
    x.ATTRS: _fields,
    x.MODEL: _fields,
    x.EXCEPTION: _exception,
    x.UNRECORDED: lambda payload: Inert("unrecorded", str(payload[0]), str(payload[1])),
    x.NDARRAY: _array,
    x.NPSCALAR: _scalar,
    x.DTYPE: lambda payload: Inert("dtype", dtype_name(payload), ""),
    x.PANDAS: _pandas,
    x.POLARS: _table("polars"),
    x.ARROW: _table("pyarrow"),
    x.DIGEST: _digest,
    x.TYPE_ONLY: _reference("any"),
    x.FUNCTION: _reference("function"),
    x.CLASS: _reference("class"),
    x.PARTIAL: _partial,
    x.METHOD: _method,
    x.KEYED: lambda payload: Inert("call", _named(*payload[:2]), [payload[2]]),
    x.CANONICAL_TABLE: _canonical_table,
    x.SECRET: lambda payload: Inert("call", _named(*payload[:2]), ["**********"]),
}


class InertReading(Reading):
    """A decoding that resolves nothing."""

    __slots__ = ()

    raw = RAW
    nested = NESTED
    classed: ClassVar[Mapping[int, Callable[[Any, Resolve], Any]]] = {}


def decode_inert(payload: bytes) -> Any:
    """Any payload, a result's or a canonical form's, without resolving a class or needing a library.

    Raises:
        CorruptPayload: damaged bytes, or never durable's.
    """
    return InertReading().load(payload)
