"""Canonical forms of bulk: long strings, arrays and table columns, as digests where they are long.

Equal arrays and tables give equal bytes whatever their memory order, chunks, slices and null slots, and whichever
optional library happens to be imported. Where that cannot be promised, the value is refused.
"""

from __future__ import annotations

import array
import re
import struct
import sys
from typing import Any

from msgspec.msgpack import Ext
from xxhash import xxh3_128_digest

from durable.codec import extensions as x
from durable.codec import frames
from durable.codec.arrays import array_bytes, describe_dtype, write_scalar
from durable.codec.tables import as_arrow_table, one_chunk
from durable.codec.walker import LEAF_LIMIT, Refused, Walker, extension, packed

NAN = struct.unpack("<d", b"\0\0\0\0\0\0\xf8\x7f")[0]
_FLOATS = {2: "e", 4: "f", 8: "d"}
_PLAIN_POLARS = re.compile(r"(Boolean|String|Binary|Categorical|Enum|Decimal|Null|List|Array|Struct|Int128)\b")
_INEXACT_POLARS = re.compile(r"\bTime\b|'ns'|\bObject\b|Categorical|Enum")
_PHYSICAL = {"Int8": "b", "Int16": "h", "Int32": "i", "Int64": "q", "UInt8": "B", "UInt16": "H", "UInt32": "I",
             "UInt64": "Q", "Float32": "f", "Float64": "d"}  # fmt: skip
_EXTENDED = "extended precision has padding that differs between equal numbers; use float64"
_TEMPORAL = re.compile(r"(Date|Datetime|Duration|Time)\b")


def digest(tag: str, data: Any, length: int) -> Ext:
    """What stands for `length` bytes of `tag`; the buffer is hashed where it lies."""
    return extension(x.DIGEST, [tag, xxh3_128_digest(data), length])


def leaf(tag: str, data: Any) -> Any:
    """Bytes as they are, or their digest."""
    size = len(data)
    return digest(tag, data, size) if size > LEAF_LIMIT else bytes(data)


def write_str(value: str, walker: Walker, _depth: int) -> Any:
    if len(value) <= LEAF_LIMIT // 4 and not walker.careful:
        return value
    data = value.encode("utf-8", "surrogatepass")
    if len(data) > LEAF_LIMIT:
        return digest("str", data, len(data))
    try:
        data.decode()
    except UnicodeDecodeError:
        return Ext(x.STR, data)
    return value


def write_bytes(value: bytes, _walker: Walker, _depth: int) -> Any:
    return leaf("bytes", value)


def write_bytearray(value: bytearray, _walker: Walker, _depth: int) -> Any:
    return digest("bytearray", value, len(value)) if len(value) > LEAF_LIMIT else Ext(x.BYTEARRAY, bytes(value))


def write_float(value: float, _walker: Walker, _depth: int) -> Any:
    return value if value == value else NAN  # noqa: PLR0124  # the test for NaN


def write_complex(value: complex, walker: Walker, depth: int) -> Any:
    parts = [write_float(part, walker, depth) for part in (value.real, value.imag)]
    return Ext(x.COMPLEX, struct.pack("<dd", *parts))


def plain_floats(data: Any, width: int) -> Any:
    """Little-endian floats with every NaN the same one; the buffer itself where there is none."""
    np = sys.modules.get("numpy")
    if np is not None:
        floats = np.frombuffer(data, dtype=f"<f{width}")
        missing = np.isnan(floats)
        if missing.any():
            floats = floats.copy()
            floats[missing] = NAN
        return memoryview(floats).cast("B") if floats.size else b""
    floats = struct.unpack(f"<{len(data) // width}{_FLOATS[width]}", data)
    return struct.pack(f"<{len(floats)}{_FLOATS[width]}", *(part if part == part else NAN for part in floats))  # noqa: PLR0124


def write_array(value: Any, walker: Walker, depth: int) -> Any:
    """A numpy array in C order. Structured ones field by field, so that padding does not count."""
    np = sys.modules["numpy"]
    dtype = value.dtype
    described = describe_dtype(dtype)
    shape = list(value.shape)
    if dtype.names is not None:
        columns = [write_array(value[name], walker, depth) for name in dtype.names]
        return extension(x.NDARRAY, [described, shape, "C", columns])
    if dtype.kind in "fc":
        if dtype.itemsize > (8 if dtype.kind == "f" else 16):
            raise Refused(value, _EXTENDED)
        missing = np.isnan(value)
        if missing.any():
            value = np.where(missing, dtype.type(NAN), value) if dtype.kind == "f" else _plain_complex(value)
    plain = np.ascontiguousarray(value)
    return extension(x.NDARRAY, [dtype.str, shape, "C", leaf("ndarray", array_bytes(plain))])


def _plain_complex(value: Any) -> Any:
    np = sys.modules["numpy"]
    plain = np.ascontiguousarray(value).copy()
    for part in (plain.real, plain.imag):
        part[np.isnan(part)] = NAN
    return plain


def write_numpy_scalar(value: Any, walker: Walker, depth: int) -> Any:
    """A numpy scalar; only where its bytes say no more than its value."""
    np = sys.modules["numpy"]
    dtype = value.dtype
    if isinstance(value, np.void) and dtype.names is not None:
        return extension(x.NPSCALAR, [describe_dtype(dtype), write_array(np.asarray(value), walker, depth)])
    if dtype.kind in "fc":
        if dtype.char in "gG":
            raise Refused(value, _EXTENDED)
        if np.isnan(value):
            value = _plain_complex(np.asarray(value).reshape(1))[0] if dtype.kind == "c" else dtype.type(NAN)
    return write_scalar(value, walker, depth)


def write_pandas(value: Any, walker: Walker, depth: int) -> Any:
    parts = frames.parts_of(value, walker, depth)
    data = packed(parts[2:])
    if len(data) > LEAF_LIMIT:
        parts[2:] = [digest(parts[0], data, len(data))]
    return extension(x.PANDAS, parts)


def table(library: str, name: str, shape: list[int], columns: list[Any]) -> Ext:
    """A polars or pyarrow table; one digest for all columns when they are long."""
    data = packed(columns)
    held = digest("columns", data, len(data)) if len(data) > LEAF_LIMIT else columns
    return extension(x.CANONICAL_TABLE, [library, name, shape, held])


def write_polars(value: Any, walker: Walker, depth: int) -> Any:
    pl = sys.modules["polars"]
    name = "Series" if type(value) is pl.Series else "DataFrame"
    columns = [value] if name == "Series" else value.get_columns()
    return table("polars", name, list(value.shape), [_polars_column(column, walker, depth) for column in columns])


def _polars_column(column: Any, walker: Walker, depth: int) -> list[Any]:
    dtype = column.dtype
    text = str(dtype)
    head = [walker.walk(column.name, depth), walker.walk(text, depth), len(column)]
    if _TEMPORAL.match(text):
        column = column.to_physical()
    code = _PHYSICAL.get(str(column.dtype))
    if code is not None:
        nulls = bytes(column.is_null().to_list()) if column.null_count() else b""
        plain = column.fill_null(0) if nulls else column
        np = sys.modules.get("numpy")
        if np is not None:
            data = array_bytes(np.ascontiguousarray(plain.to_numpy()))
        else:
            data = array.array(code, plain.to_list()).tobytes()
        if code in "fd":
            data = plain_floats(data, 4 if code == "f" else 8)
        return [*head, leaf("nulls", nulls), leaf("data", data)]
    # The text of an Enum's type names all its categories.
    if not _PLAIN_POLARS.match(text) or (dtype.is_nested() and _INEXACT_POLARS.search(text)):
        refused = Refused(column, f"no canonical form for polars type {text[:80]}")
        refused.within(f"[{column.name!r}]", column)
        raise refused
    return [*head, _long_list(walker.part(column.to_list(), f"[{column.name!r}]", column, depth))]


def _long_list(items: Any) -> Any:
    data = packed(items)
    return digest("list", data, len(data)) if len(data) > LEAF_LIMIT else items


def write_arrow(value: Any, walker: Walker, depth: int) -> Any:
    whole = as_arrow_table(value)
    columns = []
    for i, field in enumerate(whole.schema):
        head = [walker.walk(field.name, depth), walker.walk(str(field.type), depth), field.nullable]
        try:
            columns.append([*head, *_arrow_column(one_chunk(whole.column(i)), walker, depth)])
        except Refused as refused:
            refused.within(f"[{field.name!r}]", value)
            raise
    shape = [whole.num_rows, whole.num_columns] if hasattr(value, "num_columns") else [len(value)]
    return table("pyarrow", type(value).__name__, shape, columns)


def _arrow_column(column: Any, walker: Walker, depth: int) -> list[Any]:
    pa = sys.modules["pyarrow"]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if not _is_plain_arrow(kind):
        raise Refused(column, f"no canonical form for Arrow type {str(kind)[:80]}")
    fixed = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)
    if fixed and not pa.types.is_interval(kind) and not column.null_count:
        width = kind.bit_width // 8
        memory = column.buffers()[1]
        start = column.offset * width
        data = memoryview(memory)[start : start + len(column) * width] if memory is not None else b""
        return [leaf("data", plain_floats(data, width) if pa.types.is_floating(kind) and len(data) else data)]
    if fixed and pa.types.is_temporal(kind):
        column = column.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    return [_long_list(walker.walk(column.to_pylist(), depth))]


def _is_plain_arrow(kind: Any, *, nested: bool = False) -> bool:
    """Whether ``to_pylist`` says everything about such a column, or its memory does."""
    types = sys.modules["pyarrow"].types
    if types.is_struct(kind):
        return all(_is_plain_arrow(kind.field(i).type, nested=True) for i in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_plain_arrow(kind.value_type, nested=True)
    if types.is_temporal(kind):
        return not nested and not types.is_interval(kind)
    if types.is_float16(kind):
        return False
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    return bool(text or number or types.is_null(kind) or types.is_fixed_size_binary(kind))
