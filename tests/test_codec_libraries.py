"""numpy, pandas, polars and pyarrow values come back exactly, or are refused; never silently another one."""

# ruff: noqa: DTZ001, DTZ901, PIE796, PYI024, SLOT000, SLOT002, B904  # naive times and odd classes are the subject

from __future__ import annotations

import datetime as dt
import zoneinfo

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.codec import decode, decode_inert, encode, summary
from durable.errors import CorruptPayload, NotSerializable, UnresolvedClass

ALIGNED = np.dtype([("a", "i1"), ("b", "f8"), ("c", "S3", (2,))], align=True)
NESTED = np.dtype([("p", [("x", "<f4"), ("y", ">i2")]), ("s", "U2")])
ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4)[:, ::2],
    np.array(5),
    np.array([]),
    np.zeros((0, 3), dtype="f4"),
    np.zeros((3, 0, 2)),
    np.array([True, False]),
    np.array(["a", "éé", "\U0001f600"]),
    np.array([b"a", b"bb\0c"]),
    np.array(["", ""]),
    np.zeros(3, dtype="S0"),
    np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
    np.array([1, 2], dtype="m8[25s]"),
    np.array(["NaT"], dtype="M8[as]"),
    np.array([1 + 2j, complex("nan")], dtype="c8"),
    np.array([1, 2], dtype=">i4"),
    np.array([1.5], dtype="f2"),
    np.array([1.5], dtype=np.longdouble),
    np.array([1], dtype=np.longlong),
    np.array([1], dtype=np.intc),
    np.zeros(2, dtype=ALIGNED),
    np.array([((1, 2), "ab")], dtype=NESTED),
    np.array([b"xyz"], dtype="V3"),
    np.array([np.nan, -np.nan, -0.0]),
    np.zeros(2, dtype=[(("title", "name"), "i4")]),
    np.ones((1, 1), order="F"),
]
SCALARS = [
    np.float64(1.5),
    np.float32(np.nan),
    np.float16(-0.0),
    np.int8(-1),
    np.uint64(2**64 - 1),
    np.longlong(3),
    np.intc(2),
    np.bool_(True),
    np.complex64(1j),
    np.longdouble(1) / 3,
    np.str_("a\0"),
    np.str_(""),
    np.str_("\ud800"),
    np.bytes_(b"a\0"),
    np.bytes_(b""),
    np.datetime64("2024-01-01T00:00:00.1"),
    np.datetime64("NaT", "s"),
    np.timedelta64(3, "h"),
    np.void(b"xyz"),
    np.zeros(1, dtype=ALIGNED)[0],
    np.array([((1, 2), "ab")], dtype=NESTED)[0],
]


def same_array(a, b):
    return (
        type(a) is type(b)
        and a.dtype == b.dtype
        and a.dtype.char == b.dtype.char
        and a.shape == b.shape
        # A structured array's padding is no part of its value.
        and (repr(a.tolist()) == repr(b.tolist()) if a.dtype.names else a.tobytes("A") == b.tobytes("A"))
        and a.flags.f_contiguous == b.flags.f_contiguous
        and a.flags.c_contiguous == b.flags.c_contiguous
    )


@pytest.mark.parametrize("value", ARRAYS, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_arrays(value):
    again = decode(encode(value))
    plain = value if value.flags.f_contiguous or value.flags.c_contiguous else np.ascontiguousarray(value)
    assert same_array(again, plain)
    assert again.flags.writeable and again.flags.owndata
    assert "ndarray" in summary(encode(value)) and "ndarray" in repr(decode_inert(encode(value)))


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_numpy_scalars(value):
    again = decode(encode({"a": [value]}))["a"][0]
    assert type(again) is type(value) and again.dtype == value.dtype
    assert isinstance(value, str) or value.dtype.names or again.tobytes() == value.tobytes()
    assert value.dtype.names or again == value or again != again
    assert not isinstance(value, str | bytes) or (len(again), [*again]) == (len(value), [*value])
    assert summary(encode(value)).isprintable()


@pytest.mark.parametrize(
    "value", [np.dtype("f8"), ALIGNED, NESTED, np.dtype("M8[ns]"), np.dtype(">u2"), np.dtype("U7")]
)
def test_dtypes(value):
    again = decode(encode(value))
    assert again == value and type(again) is type(value) and again.isalignedstruct == value.isalignedstruct


@pytest.mark.parametrize("count", [8190, 8191, 8192, 8193, 100_000])
def test_the_same_bytes_at_every_size(count):
    value = np.arange(count, dtype="f8")
    parts = msgspec.msgpack.encode(["<f8", [count], "C", value.tobytes()])
    assert encode(value) == msgspec.msgpack.encode(msgspec.msgpack.Ext(18, parts))
    assert same_array(decode(encode(value)), value)


def test_what_a_line_says_of_an_array():
    assert summary(encode(np.ones((1000, 3)))) == "<ndarray float64 (1000, 3) 24 kB>"
    assert repr(decode_inert(encode(np.ones((1000, 3))))) == "<ndarray float64 (1000, 3) 24 kB>"
    assert repr(decode_inert(encode(np.float64(1.5)))) == "np.float64(1.5)"


def ext(code, parts):
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, msgspec.msgpack.encode(parts)))


@pytest.mark.parametrize(
    "parts",
    [
        ["<f8", [2], "C", b"1234567"],
        ["i4,f4", [1], "C", b"12345678"],
        ["|S0", [10**12], "C", b""],
        ["|V0", [10**12], "C", b""],
        ["<f8", [1], "C", b"1234567812345678"],
        ["<f8", [-1], "C", b""],
        ["|O", [1], "C", b"12345678"],
        ["O", [1], "C", b"12345678"],
        ["<f8", [2**40, 2**40], "C", b"12345678"],
        ["<f8,i4", [1], "C", b"1234"],
        ["f8", [1], "X", b"12345678"],
        ["<f8", [1.0], "C", b"12345678"],
        ["<f8", [0, 2**62, 4], "C", b""],
        [{"names": ["a"]}, [1], "C", b""],
        ["<U999999999", [1], "C", b""],
        ["<f8", [0] * 100, "C", b""],
        [{"base": "|O", "shape": [1]}, [1], "C", b"12345678"],
    ],
)
def test_impossible_arrays_are_corrupt(parts):
    with pytest.raises(CorruptPayload):
        decode(ext(18, parts))


def test_an_array_of_nothing_is_refused():
    with pytest.raises(NotSerializable, match="without a size"):
        encode(np.zeros(2, dtype=[("a", "S0"), ("b", "i4")])["a"])


def test_a_frame_that_claims_to_be_long_is_corrupt():
    index = ["RangeIndex", None, 0, 10**12, 1]
    scalar = msgspec.msgpack.Ext(19, msgspec.msgpack.encode(["<f8", b"12345678"]))
    for column in (["numpy", scalar], ["numpy", 5], ["object", "x"], ["masked", "float64", [1], [True]], ["odd", 1]):
        with pytest.raises(CorruptPayload):
            decode(ext(38, ["Series", [10**12], index, None, column, {}]))
        with pytest.raises(CorruptPayload):
            decode(ext(38, ["DataFrame", [10**12, 1], index, ["RangeIndex", None, 0, 1, 1], [column], {}]))


def frames():
    n = 4
    yield pd.DataFrame({"i": range(n), "f": [1.5, np.nan, -0.0, 2], "b": [True] * n})
    yield pd.DataFrame({"s": ["a", None, "c", ""], "o": pd.Series([1, "x", (2,), None], dtype=object)})
    yield pd.DataFrame({"o": pd.Series([None, np.nan, pd.NA, pd.NaT], dtype=object)})
    yield pd.DataFrame({"f2": np.array([1.5] * n, dtype="f2"), "u1": np.arange(n, dtype="u1"), "c": np.ones(n, "c16")})
    yield pd.DataFrame({"d": pd.date_range("2024", periods=n), "td": pd.to_timedelta(range(n), unit="h")})
    yield pd.DataFrame({"d": pd.date_range("2024", periods=n).astype("M8[s]")})
    yield pd.DataFrame({"z": pd.date_range("2024-10-27", periods=n, freq="h", tz="UTC")})
    yield pd.DataFrame({"z": pd.date_range("2024-10-27", periods=n, freq="h", tz=zoneinfo.ZoneInfo("Europe/Berlin"))})
    yield pd.DataFrame({"z": pd.date_range("2024", periods=n, freq="h", tz=dt.timezone(dt.timedelta(hours=2)))})
    yield pd.DataFrame({"c": pd.Categorical(["x", None, "y", "x"], categories=["y", "x", "z"], ordered=True)})
    yield pd.DataFrame({"c": pd.Categorical([3, 1, 3, None])})
    yield pd.DataFrame(
        {"i": pd.array([1, None, 3, 2**62], dtype="Int64"), "b": pd.array([True, None] * 2, dtype="boolean")}
    )
    yield pd.DataFrame(
        {"f": pd.array([1.5, None, -0.0, 1], dtype="Float32"), "u": pd.array([0, 1, 2, None], dtype="UInt8")}
    )
    yield pd.DataFrame(
        {"s": pd.array(["a", None, "é", ""], dtype="string"), "p": pd.array(["a"] * n, dtype="string[python]")}
    )
    yield pd.DataFrame({"a": pd.array([1, None, 3, 4], dtype=pd.ArrowDtype(pa.int16()))})
    yield pd.DataFrame({"a": pd.array([[1], None, [], [2]], dtype=pd.ArrowDtype(pa.list_(pa.int16())))})
    yield pd.DataFrame()
    yield pd.DataFrame(index=range(3))
    yield pd.DataFrame(columns=["a", "b"])
    yield pd.DataFrame({"a": pd.Series(dtype="i4")})
    yield pd.DataFrame([[1, 2.5]], columns=["x", "x"])
    yield pd.DataFrame([[1, 2]], columns=[1, ("a",)])
    yield pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "x"], name="k"))
    yield pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2024", periods=2, freq="MS", name=("n", 1)))
    yield pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(10, 30, 10, name="r"))
    yield pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["l", None]))
    yield pd.DataFrame({("a", 1): [1], ("b", 2): [2]}).iloc[:, :1]
    yield pd.DataFrame({"a": [1]}, index=pd.CategoricalIndex(["q"]))
    yield pd.DataFrame({"a": range(10)}).iloc[::-2]
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"source": ("x", 1)}
    yield frame


FRAMES = list(frames())


def same_frame(a, b):
    pd.testing.assert_frame_equal(
        a,
        b,
        check_dtype=True,
        check_index_type=True,
        check_column_type=True,
        check_exact=True,
        check_freq=True,
        check_names=True,
        check_flags=True,
        check_categorical=True,
    )
    assert list(a.dtypes) == list(b.dtypes) and a.attrs == b.attrs
    assert type(a.index) is type(b.index) and type(a.columns) is type(b.columns)
    for i in range(a.shape[1]):
        left, right = a.iloc[:, i], b.iloc[:, i]
        assert type(left.array) is type(right.array)
        assert [type(v) for v in left] == [type(v) for v in right]


@pytest.mark.parametrize("value", FRAMES, ids=lambda f: "-".join(map(str, f.dtypes)) or str(f.shape))
def test_pandas_frames(value):
    again = decode(encode([value]))[0]
    assert type(again) is pd.DataFrame
    same_frame(again, value)
    assert encode(again) == encode(value)
    assert f"pandas.DataFrame ({value.shape[0]}, {value.shape[1]})" in summary(encode(value))
    for i in range(value.shape[1]):
        column = value.iloc[:, i]
        series = decode(encode(column))
        pd.testing.assert_series_equal(series, column, check_exact=True, check_freq=True)
        assert type(series.name) is type(column.name)
    for index in (value.index, value.columns):
        found = decode(encode(index))
        pd.testing.assert_index_equal(found, index, exact=True)
        assert found.names == index.names and getattr(found, "freq", None) == getattr(index, "freq", None)


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2024-01-01"),
        pd.Timestamp(1, unit="ns"),
        pd.Timestamp("2024-01-01", tz="UTC"),
        pd.Timestamp.max,
        pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert(zoneinfo.ZoneInfo("Europe/Berlin")),
        pd.Timestamp(5, unit="s").as_unit("s"),
        pd.Timestamp("2024-01-01", tz=dt.timezone(dt.timedelta(hours=1))),
        pd.Timedelta(3, "ns"),
        pd.Timedelta.min,
        pd.Timedelta("1D").as_unit("s"),
        pd.NaT,
        pd.NA,
    ],
    ids=repr,
)
def test_pandas_scalars(value):
    again = decode(encode(value))
    assert type(again) is type(value)
    if value is pd.NaT or value is pd.NA:
        assert again is value
    else:
        assert again == value and again.unit == value.unit and repr(again) == repr(value)
    assert summary(encode(value)).isprintable()


POLARS = [
    pl.DataFrame({"a": [1, None, 3], "s": ["x", None, ""], "f": [1.5, float("nan"), None]}),
    pl.DataFrame({"l": [[1, 2], None, []], "st": [{"x": 1}, {"x": None}, None], "b": [b"x", None, b""]}),
    pl.DataFrame({"d": [dt.date(2024, 1, 1)], "t": [dt.time(1, 2, 3, 4)], "u": [dt.timedelta(microseconds=5)]}),
    pl.DataFrame({"z": pl.Series([dt.datetime(2024, 1, 1)]).dt.replace_time_zone("Europe/Berlin")}),
    pl.DataFrame({"n": pl.Series([1, None], dtype=pl.Datetime("ns")), "i8": pl.Series([1, None], dtype=pl.Int8)}),
    pl.DataFrame(
        {"c": pl.Series(["x", "y"], dtype=pl.Categorical), "e": pl.Series(["b", None], dtype=pl.Enum(["a", "b"]))}
    ),
    pl.DataFrame({"dec": pl.Series(["1.50", None]).cast(pl.Decimal(10, 2)), "nul": [None, None]}),
    pl.DataFrame(),
    pl.DataFrame(schema={"a": pl.Int8, "b": pl.String}),
    pl.concat([pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})], rechunk=False),
    pl.DataFrame({"a": range(10)})[3:5],
    pl.Series("n", [1, None]),
    pl.Series([], dtype=pl.String),
    pl.Series("", ["a"]),
]


@pytest.mark.parametrize("value", POLARS, ids=lambda v: f"{type(v).__name__}-{v.shape}")
def test_polars(value):
    again = decode(encode({"v": value}))["v"]
    assert type(again) is type(value) and again.shape == value.shape
    if isinstance(value, pl.Series):
        assert again.dtype == value.dtype and again.name == value.name and again.equals(value, null_equal=True)
    else:
        assert again.schema == value.schema and again.equals(value, null_equal=True)
    assert "polars." in summary(encode(value))


TABLE = pa.table({"a": [1, None, 3], "s": ["x", None, ""], "f": [1.5, float("nan"), None]})
ARROWS = [
    TABLE,
    TABLE.slice(1, 1),
    TABLE.replace_schema_metadata({"k": "v"}),
    pa.concat_tables([TABLE, TABLE]),
    TABLE.slice(3),
    pa.table({}),
    TABLE.to_batches()[0],
    pa.RecordBatch.from_pydict({"a": pa.array([], pa.int8())}),
    pa.array([1, None, 3]),
    pa.array([1, 2, 3])[1:],
    pa.array(["a", "b", "a"]).dictionary_encode(),
    pa.array([], pa.string()),
    pa.array([[1], None]),
    pa.array([{"x": 1}, None]),
    pa.chunked_array([[1], [2, None]]),
    pa.nulls(3),
    pa.array([1, 2], pa.timestamp("ns", "Europe/Berlin")),
    pa.array([b"x"], pa.binary(1)),
    pa.chunked_array([], pa.int8()),
]


@pytest.mark.parametrize("value", ARROWS, ids=lambda v: f"{type(v).__name__}-{getattr(v, 'type', '')}")
def test_pyarrow(value):
    again = decode(encode([value]))[0]
    assert type(again) is type(value) and len(again) == len(value)
    assert str(again) == str(value) or again.equals(value)
    assert again.to_pylist() == value.to_pylist() or "nan" in str(value)
    if hasattr(value, "schema"):
        assert again.schema.equals(value.schema, check_metadata=True)
    else:
        assert again.type == value.type
    assert "pyarrow." in summary(encode(value))


class Celsius(pa.ExtensionType):
    def __init__(self):
        super().__init__(pa.float64(), "tests.celsius")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()


def test_an_extension_type_that_is_not_registered_is_not_silently_its_storage():
    pa.register_extension_type(Celsius())
    array = pa.ExtensionArray.from_storage(Celsius(), pa.array([1.5]))
    payloads = [encode(array), encode(pa.table({"c": array}))]
    assert type(decode(payloads[0]).type) is type(decode(payloads[1]).schema[0].type) is Celsius
    pa.unregister_extension_type("tests.celsius")
    for payload in payloads:
        with pytest.raises(UnresolvedClass, match="register"):
            decode(payload)


@pytest.mark.parametrize(
    "value", [POLARS[0], POLARS[-3], TABLE, ARROWS[8], FRAMES[0], ARRAYS[0]], ids=lambda v: type(v).__name__
)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_damaged_tables_never_reach_native_code(value, data):
    payload = bytearray(encode(value))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= 1 << data.draw(st.integers(0, 7))
    for read in (decode, decode_inert, summary):
        for damaged in (bytes(payload), bytes(payload[:at])):
            try:
                read(damaged)
            except CorruptPayload:
                pass
            except UnresolvedClass:
                assert read is decode


@pytest.mark.parametrize("value", [POLARS[0], TABLE], ids=lambda v: type(v).__name__)
def test_one_bit_of_a_table_is_not_another_table(value):
    payload = encode(value)
    for at in range(len(payload) - 300, len(payload)):
        damaged = bytearray(payload)
        damaged[at] ^= 16
        with pytest.raises(CorruptPayload, match="checksum"):
            decode(bytes(damaged))


@pytest.mark.parametrize("library", ["numpy", "pandas", "polars", "pyarrow"])
def test_a_library_that_is_not_imported_is_named(monkeypatch, library):
    import sys

    value = {"numpy": ARRAYS[0], "pandas": pd.Timestamp(0), "polars": POLARS[0], "pyarrow": TABLE}[library]
    payload = encode(value)
    monkeypatch.delitem(sys.modules, library)
    with pytest.raises(UnresolvedClass, match=f"needs {library}"):
        decode(payload)


def test_a_frame_pandas_rebuilds_differently_is_refused():
    # Its freq cannot be made again from its text.
    index = pd.DatetimeIndex(["2024-01-01", "2024-01-03"])
    value = pd.DataFrame({"a": [1, 2]}, index=index)
    from durable.codec import frames as module

    real = module.make_index
    try:
        module.make_index = lambda name, label, *parts: real(name, "another", *parts)
        with pytest.raises(NotSerializable, match="does not come back"):
            encode(value)
    finally:
        module.make_index = real
    encode(value)
