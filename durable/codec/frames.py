"""pandas: frames, series, indexes and scalars, taken apart into columns. pandas is found, never imported.

Arrow would be shorter, and would quietly change a float16, an object column's mix of None and NaN, an index's freq or
a MultiIndex's levels. So each column is recorded as what it is made of: numpy memory, a list of objects, codes and
categories, values and mask. The encoder reads back what it wrote, writes that again, and refuses when the two byte
strings differ: no frame is ever silently another one.
"""

from __future__ import annotations

import sys
from typing import Any

from durable.codec import extensions as x
from durable.codec.arrays import library
from durable.codec.walker import Handler, Refused, Walker, extension
from durable.errors import CorruptPayload

_MASKED = ("Int", "UInt", "Float", "boolean")
_INDEXES = frozenset({"Index", "RangeIndex", "MultiIndex", "CategoricalIndex", "DatetimeIndex", "TimedeltaIndex"})


def column_parts(column: Any, walker: Walker, depth: int) -> list[Any]:
    """A Series' or Index's values: how they are held, then the parts."""
    pd, np = sys.modules["pandas"], sys.modules["numpy"]
    dtype = column.dtype
    if getattr(dtype, "kind", "") == "O" and isinstance(dtype, np.dtype):
        return ["object", walker.sequence(column.to_numpy().tolist(), column, depth)]
    if isinstance(dtype, np.dtype):
        return ["numpy", walker.walk(np.asarray(column.array), depth)]
    if isinstance(dtype, pd.CategoricalDtype):
        codes = np.asarray(column.codes if hasattr(column, "codes") else column.cat.codes)
        return ["category", walker.walk(codes, depth), walker.walk(dtype.categories, depth), dtype.ordered]
    if isinstance(dtype, pd.DatetimeTZDtype):
        zone = walker.part(dtype.tz, ".dtype.tz", column, depth)
        naive = np.asarray(column.array.tz_convert("UTC").tz_localize(None))
        return ["zoned", walker.walk(naive, depth), zone]
    if isinstance(dtype, pd.StringDtype):
        missing = "nan" if dtype.na_value is not pd.NA else "NA"
        items = [item if isinstance(item, str) else None for item in column.array]
        return ["string", dtype.storage, missing, walker.sequence(items, column, depth)]
    if isinstance(dtype, pd.ArrowDtype):
        return ["arrow", walker.walk(column.array.__arrow_array__(), depth)]
    if str(dtype).startswith(_MASKED) and hasattr(dtype, "numpy_dtype"):
        mask = np.asarray(column.isna())
        values = column.array.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0))
        return ["masked", str(dtype), walker.walk(values, depth), walker.walk(mask, depth)]
    raise Refused(column, f"no rule for dtype {dtype}; convert it to a numpy, string, category or nullable dtype")


def column_array(kind: str, *parts: Any) -> Any:
    """The array for `column_parts`."""
    array = _column_array(kind, *parts)
    # pandas would stretch a scalar to any index, and an index can claim any length.
    if getattr(array, "ndim", 0) != 1:
        raise CorruptPayload("a column is not an array of one dimension")
    return array


def _column_array(kind: str, *parts: Any) -> Any:
    pd, np = library("pandas"), library("numpy")
    if kind == "numpy":
        return parts[0]
    if kind == "object":
        made = np.empty(len(parts[0]), dtype=object)
        made[:] = parts[0]
        return made
    if kind == "category":
        codes, categories, ordered = parts
        return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories, ordered=ordered))
    if kind == "zoned":
        return pd.DatetimeIndex(parts[0]).tz_localize("UTC").tz_convert(parts[1]).array
    if kind == "string":
        storage, missing, items = parts
        na_value = pd.NA if missing == "NA" else float("nan")
        # pandas before 2.3 knows no na_value, and only pandas.NA.
        dtype = pd.StringDtype(storage) if missing == "NA" else pd.StringDtype(storage, na_value=na_value)
        return pd.array(items, dtype=dtype)
    if kind == "arrow":
        return pd.arrays.ArrowExtensionArray(parts[0])
    if kind == "masked":
        name, values, mask = parts
        if not name.startswith(_MASKED):
            raise CorruptPayload(f"{name[:40]!r} is not a nullable type durable writes")
        made = pd.array(values, dtype=name)
        made[mask] = pd.NA
        return made
    raise CorruptPayload(f"{str(kind)[:40]!r} is not a kind of column durable writes")


def index_parts(index: Any, walker: Walker, depth: int) -> list[Any]:
    """An Index of a kind durable knows, exactly."""
    pd = sys.modules["pandas"]
    name = type(index).__name__
    if type(index) is pd.MultiIndex:
        levels = [index_parts(level, walker, depth) for level in index.levels]
        codes = [walker.walk(_array(code), depth) for code in index.codes]
        return ["MultiIndex", walker.sequence(list(index.names), index, depth), levels, codes]
    label = walker.part(index.name, ".name", index, depth)
    if type(index) is pd.RangeIndex:
        return ["RangeIndex", label, index.start, index.stop, index.step]
    if name not in _INDEXES:
        raise Refused(index, f"no rule for a {name}; use reset_index() or another index")
    return [name, label, getattr(index, "freqstr", None), *column_parts(index, walker, depth)]


def _array(value: Any) -> Any:
    return sys.modules["numpy"].asarray(value)


def make_index(name: str, label: Any, *parts: Any) -> Any:
    """The Index for `index_parts`."""
    pd = library("pandas")
    if name == "MultiIndex":
        levels = [make_index(*level) for level in parts[0]]
        return pd.MultiIndex(levels=levels, codes=parts[1], names=label, verify_integrity=True)
    if name == "RangeIndex":
        return pd.RangeIndex(*parts, name=label)
    if name not in _INDEXES:
        raise CorruptPayload(f"{str(name)[:40]!r} is not a kind of index durable writes")
    freq, kind, *rest = parts
    array = column_array(kind, *rest)
    if name == "DatetimeIndex":
        return pd.DatetimeIndex(array, freq=freq, name=label)
    if name == "TimedeltaIndex":
        return pd.TimedeltaIndex(array, freq=freq, name=label)
    if name == "CategoricalIndex":
        return pd.CategoricalIndex(array, name=label)
    return pd.Index(array, dtype=array.dtype, name=label)


def parts_of(value: Any, walker: Walker, depth: int) -> list[Any]:
    """The payload of a DataFrame, Series or Index."""
    pd = sys.modules["pandas"]
    if isinstance(value, pd.Index):
        return ["Index", [len(value)], index_parts(value, walker, depth)]
    if not value.flags.allows_duplicate_labels:
        raise Refused(value, "set_flags(allows_duplicate_labels=False) would be lost")
    attrs = walker.part(dict(value.attrs), ".attrs", value, depth)
    index = _part(index_parts, value.index, ".index", value, walker, depth)
    if type(value) is pd.Series:
        name = walker.part(value.name, ".name", value, depth)
        return ["Series", [len(value)], index, name, _part(column_parts, value, "", value, walker, depth), attrs]
    columns = _part(index_parts, value.columns, ".columns", value, walker, depth)
    held = []
    for i, label in enumerate(value.columns):
        step = f"[{label!r}]" if isinstance(label, str) and value.columns.is_unique else f".iloc[:, {i}]"
        held.append(_part(column_parts, value.iloc[:, i], step, value, walker, depth))
    return ["DataFrame", list(value.shape), index, columns, held, attrs]


def _part(rule: Any, value: Any, step: str, owner: Any, walker: Walker, depth: int) -> Any:
    try:
        return rule(value, walker, depth)
    except Refused as refused:
        refused.within(step, owner)
        raise


def make(name: str, shape: Any, *parts: Any) -> Any:
    """The pandas object for a payload."""
    pd = library("pandas")
    if name == "Index":
        value = make_index(*parts[0])
    elif name == "Series":
        index, label, column, attrs = parts
        array = column_array(*column)
        value = pd.Series(array, index=make_index(*index), name=label, dtype=array.dtype)
        value.attrs = attrs
    elif name == "DataFrame":
        index, columns, held, attrs = parts
        rows, labels = make_index(*index), make_index(*columns)
        arrays = [column_array(*column) for column in held]
        series = {i: pd.Series(array, index=rows, dtype=array.dtype) for i, array in enumerate(arrays)}
        value = pd.DataFrame(series, index=rows)
        value.columns = labels
        value.attrs = attrs
    else:
        return make_scalar(name, *parts)
    if list(value.shape) != shape:
        raise CorruptPayload(f"a {name} of another shape than recorded")
    return value


def write_frame(value: Any, walker: Walker, depth: int) -> Any:
    """A DataFrame, Series or Index. The encoder reads it back before it trusts it."""
    return extension(x.PANDAS, parts_of(value, walker, depth))


def write_scalar(value: Any, walker: Walker, depth: int) -> Any:
    """A Timestamp, Timedelta, NaT or NA."""
    pd, np = sys.modules["pandas"], sys.modules["numpy"]
    if value is pd.NaT or value is pd.NA:
        return extension(x.PANDAS, ["NaT" if value is pd.NaT else "NA", None])
    unit = value.unit
    count = int(np.asarray(value.asm8).view("i8"))
    if type(value) is pd.Timedelta:
        return extension(x.PANDAS, ["Timedelta", None, count, unit])
    zone = walker.part(value.tz, ".tz", value, depth) if value.tz is not None else None
    made = make_scalar("Timestamp", count, unit, value.tz, value.fold)
    if made != value or made.tz is not value.tz or made.fold != value.fold or made.unit != unit:
        raise Refused(value, "it does not come back the same")
    return extension(x.PANDAS, ["Timestamp", None, count, unit, zone, value.fold])


def make_scalar(name: str, *parts: Any) -> Any:
    """The pandas scalar for `write_scalar`."""
    pd, np = library("pandas"), library("numpy")
    if name in ("NaT", "NA"):
        return pd.NaT if name == "NaT" else pd.NA
    if name == "Timedelta":
        return pd.Timedelta(np.timedelta64(*parts))
    if name != "Timestamp":
        raise CorruptPayload(f"{str(name)[:40]!r} is not a pandas value durable writes")
    count, unit, zone, fold = parts
    made = pd.Timestamp(np.datetime64(count, unit))
    if zone is not None:
        made = made.tz_localize("UTC").tz_convert(zone)
    return made if made.fold == fold else made.replace(fold=fold)


def find(cls: Any) -> Handler | None:
    """The rule for one of pandas' classes."""
    pd = sys.modules.get("pandas")
    if pd is None or not cls.__module__.startswith("pandas"):
        return None
    if cls in (pd.DataFrame, pd.Series) or (issubclass(cls, pd.Index) and cls.__name__ in _INDEXES | {"Index"}):
        return write_frame
    return write_scalar if cls in (pd.Timestamp, pd.Timedelta, type(pd.NaT), type(pd.NA)) else None


NESTED_READERS = {x.PANDAS: lambda payload: make(*payload)}
