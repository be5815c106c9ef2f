"""polars and pyarrow tables, as Arrow IPC. Neither library is imported by us.

Both read IPC with native code that does not expect damage, so the bytes carry a checksum that is looked at first.
"""

from __future__ import annotations

import io
import sys
from typing import Any

from xxhash import xxh3_64_digest

from durable.codec import extensions as x
from durable.codec.arrays import library
from durable.codec.walker import Handler, Refused, Walker, bulk_extension
from durable.errors import CorruptPayload, UnresolvedClass


def _checked(data: Any, checksum: Any) -> Any:
    if xxh3_64_digest(data) != checksum:
        raise CorruptPayload("a table's bytes do not match their checksum")
    return data


def write_polars(value: Any, _walker: Walker, _depth: int) -> Any:
    """A DataFrame or Series as an uncompressed Arrow IPC file, read back once to be sure."""
    pl = sys.modules["polars"]
    series = type(value) is pl.Series
    frame = value.to_frame() if series else value
    try:
        buffer = io.BytesIO()
        frame.write_ipc(buffer, compression="uncompressed")
        data = buffer.getvalue()
        again = pl.read_ipc(io.BytesIO(data))
        exact = again.shape == frame.shape and again.schema == frame.schema and again.equals(frame, null_equal=True)
    except BaseException as error:
        # A Rust panic is not an Exception.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise Refused(value, f"polars cannot write it as Arrow IPC ({str(error)[:200]})") from error
    if not exact:
        raise Refused(value, "it does not come back equal from Arrow IPC")
    shape = list(value.shape)
    return bulk_extension(x.POLARS, ["Series" if series else "DataFrame", shape, xxh3_64_digest(data)], data)


def read_polars(payload: Any) -> Any:
    name, shape, checksum, data = payload
    pl = library("polars")
    try:
        frame = pl.read_ipc(io.BytesIO(_checked(data, checksum)))
        value = frame.to_series() if name == "Series" else frame
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise CorruptPayload(f"polars cannot read its table: {str(error)[:200]}") from error
    if list(value.shape) != shape:
        raise CorruptPayload("a table of another shape than recorded")
    return value


def as_arrow_table(value: Any) -> Any:
    """Any of pyarrow's arrays and tables as a Table, without copying."""
    pa = sys.modules["pyarrow"]
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    return pa.table([value], names=[""])


def write_arrow(value: Any, _walker: Walker, _depth: int) -> Any:
    """A Table, RecordBatch, Array or ChunkedArray as an Arrow IPC stream."""
    pa = sys.modules["pyarrow"]
    table = as_arrow_table(value)
    try:
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        data = sink.getvalue()
        again = _from_table(type(value).__name__, pa.ipc.open_stream(data).read_all())
    except Exception as error:
        raise Refused(value, f"pyarrow cannot write it as Arrow IPC ({str(error)[:200]})") from error
    schema = as_arrow_table(again).schema
    if (
        type(again) is not type(value)
        or not schema.equals(table.schema, check_metadata=True)
        or len(again) != len(value)
    ):
        raise Refused(value, "it does not come back equal from Arrow IPC")
    shape = [table.num_rows, table.num_columns] if isinstance(value, pa.Table | pa.RecordBatch) else [len(value)]
    head = [type(value).__name__, shape, str(table.schema.types), xxh3_64_digest(data)]
    return bulk_extension(x.ARROW, head, data)


def _from_table(name: str, table: Any) -> Any:
    if name == "Table":
        return table
    if name == "RecordBatch":
        return _one_batch(table)
    column = table.column(0)
    return column if name == "ChunkedArray" else one_chunk(column)


def _one_batch(table: Any) -> Any:
    pa = sys.modules["pyarrow"]
    batches = table.to_batches()
    if len(batches) == 1:
        return batches[0]
    arrays = [one_chunk(column) for column in table.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema)


def one_chunk(column: Any) -> Any:
    """A ChunkedArray as one Array."""
    pa = sys.modules["pyarrow"]
    if column.num_chunks == 1:
        return column.chunk(0)
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def read_arrow(payload: Any) -> Any:
    name, shape, types, checksum, data = payload
    pa = library("pyarrow")
    try:
        table = pa.ipc.open_stream(_checked(data, checksum)).read_all()
        value = _from_table(name, table)
    except MemoryError:
        raise
    except Exception as error:
        raise CorruptPayload(f"pyarrow cannot read its table: {str(error)[:200]}") from error
    if type(value).__name__ != name or table.num_rows != shape[0]:
        reason = f"recorded as {name}, and read as {type(value).__name__}; register its extension type with pyarrow"
        raise UnresolvedClass("pyarrow", name, reason)
    if str(table.schema.types) != types:
        raise UnresolvedClass("pyarrow", name, f"its types were {types[:200]}; register their extension types")
    return value


def find(cls: Any) -> Handler | None:
    """The rule for one of polars' or pyarrow's classes."""
    pl, pa = sys.modules.get("polars"), sys.modules.get("pyarrow")
    if pl is not None and cls in (pl.DataFrame, pl.Series):
        return write_polars
    if pa is None or not cls.__module__.startswith("pyarrow"):
        return None
    return write_arrow if issubclass(cls, pa.Table | pa.RecordBatch | pa.Array | pa.ChunkedArray) else None


NESTED_READERS = {x.POLARS: read_polars, x.ARROW: read_arrow}
