"""What counts as the same argument, and what does not; and how an argument without an identity is told."""

# ruff: noqa: DTZ001, DTZ901, PIE796, PYI024, SLOT000, SLOT002, B904  # naive times and odd classes are the subject

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import functools
import pathlib
import sqlite3
import subprocess
import sys
import threading

import attrs
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_codec_support import (
    Attr,
    Color,
    Derived,
    Key,
    Model,
    OpenModel,
    Pair,
    Perm,
    Point,
    Rec,
    hashables,
    same,
    values,
)

from durable.codec import (
    ARGUMENT_LIMIT,
    LEAF_LIMIT,
    canonical,
    canonical_digest_abridged,
    canonical_items,
    decode_inert,
    summary,
    type_only,
)
from durable.errors import Unhashable

NAN = float("nan")
LOCK = threading.Lock()


def c(value):
    return canonical(value, "v")


def make_adder(n):
    return lambda x: x + n


def make_default(n):
    return lambda x, y=n: x


def plain():
    pass


class Service:
    def __init__(self, url):
        self.url = url

    def __durable_key__(self):
        return self.url

    def call(self):
        pass

    @classmethod
    def make(cls):
        pass


@dataclasses.dataclass
class KeyedPoint:
    x: int
    y: int

    def __durable_key__(self):
        return self.x


class KeyedList(list):
    def __durable_key__(self):
        return len(self)


def make_local(n):
    @dataclasses.dataclass
    class Local:
        v: int

    return Local(n)


DIFFERENT = [
    (1, True),
    (1, 1.0),
    (1.0, True),
    (0, False),
    (0.0, -0.0),
    (1, "1"),
    ("a", b"a"),
    (b"a", bytearray(b"a")),
    ((1, 2), [1, 2]),
    ({1: "a"}, {"1": "a"}),
    ({1}, frozenset({1})),
    ({1}, [1]),
    ({}, []),
    (None, ()),
    ([[1], [2]], [[1, 2]]),
    (["ab"], ["a", "b"]),
    (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
    ({"a": 1}, collections.OrderedDict(a=1)),
    ({"a": 1}, collections.Counter(a=1)),
    (collections.defaultdict(list), collections.defaultdict(set)),
    (np.float64(1.5), 1.5),
    (np.float32(1.5), np.float64(1.5)),
    (np.int64(1), 1),
    (np.str_("a"), "a"),
    (np.bool_(True), True),
    (Point(1, 2), Point(2, 1)),
    (Point(1), {"x": 1, "y": 0}),
    (Point(1), Rec(1, 0)),
    (Pair(1, 2), (1, 2)),
    (Point(1), Point(True)),
    (Color.RED, 1),
    (Color.RED, Color.GREEN),
    (Perm.R, Perm.W),
    (Perm.R | Perm.X, Perm.R | Perm.W),
    (Attr(1), Attr(1, hidden=1)),
    (dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)),
    (dt.datetime(2024, 1, 1), dt.date(2024, 1, 1)),
    (dt.datetime(2024, 1, 1, fold=1), dt.datetime(2024, 1, 1)),
    (decimal.Decimal(1), 1),
    (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    (pathlib.PurePosixPath("a"), "a"),
    (range(3), [0, 1, 2]),
    (collections.deque([1]), collections.deque([1], 2)),
    (make_adder(1), make_adder(2)),
    (make_default(1), make_default(2)),
    (lambda x: x + 1, lambda x: x + 2),
    (len, max),
    (Point, Rec),
    (Service("a"), Service("b")),
    (Service("a").call, Service("b").call),
    (Service("a"), "a"),
    (Service.make, Service("a").call),
    (functools.partial(len, 1), functools.partial(len, 2)),
    (functools.partial(len), len),
    (Point, "Point"),
    (int, bool),
    ("x" * 2000, "x" * 2001),
    ("x" * 2000, b"x" * 2000),
    (b"x" * 2000, bytearray(b"x" * 2000)),
    ([1] * 2000, [1] * 1999 + [True]),
    (np.arange(6), np.arange(6).reshape(2, 3)),
    (np.arange(3, dtype="i4"), np.arange(3, dtype="i8")),
    (np.zeros(0, "i4"), np.zeros(0, "f4")),
    (np.array([0.0]), np.array([-0.0])),
    (np.arange(500), np.arange(1, 501)),
    (np.array([1, 2]), [1, 2]),
    (np.array(1), np.int64(1)),
    (np.array([(1, 2)], dtype="i1,i1"), np.array([(1, 3)], dtype="i1,i1")),
    (np.array(["a"]), np.array([b"a"])),
    (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}, index=[1])),
    (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.0]})),
    (pd.Series([1]), pd.Series([1], name="n")),
    (pd.Series([None], dtype=object), pd.Series([NAN], dtype=object)),
    (pd.DataFrame({"a": range(999)}), pd.DataFrame({"a": range(1, 1000)})),
    (pd.Series(pd.Categorical(["a"], ["a", "b"])), pd.Series(pd.Categorical(["a"]))),
    (pd.Series([1, None], dtype="Int64"), pd.Series([1, 0], dtype="Int64")),
    (pl.Series([1, None]), pl.Series([1, 0])),
    (pl.Series([1, 0]), pl.Series([1, 0], dtype=pl.Int8)),
    (pl.Series(["a"]), pl.Series(["a"], dtype=pl.Categorical)),
    (pl.DataFrame({"a": [1]}), pl.DataFrame({"b": [1]})),
    (pl.Series([None, 1.0]), pl.Series([NAN, 1.0])),
    (pl.Series("a", [1]), pl.DataFrame({"a": [1]})),
    (pl.Series([b"a"]), pl.Series(["a"])),
    (pl.Series(["a"], dtype=pl.Enum(["a"])), pl.Series(["a"], dtype=pl.Enum(["a", "b"]))),
    (pa.array([1, None]), pa.array([1, 0])),
    (pa.array([1]), pa.array([1], pa.int8())),
    (pa.table({"a": [1]}), pa.table({"b": [1]})),
    (pa.table({"a": [1]}), pa.table({"a": [1]}).to_batches()[0]),
    (pa.array([1.0, None]), pa.array([1.0, NAN])),
    (pa.array([1, 2], pa.timestamp("s")), pa.array([1, 2], pa.timestamp("ms"))),
    (pa.array(["a"]), pa.array([b"a"])),
]


@pytest.mark.parametrize("a, b", DIFFERENT, ids=lambda v: type(v).__name__)
def test_different_values_differ(a, b):
    assert c(a) != c(b)
    assert c([a]) != c([b]) and c({"k": (a,)}) != c({"k": (b,)})
    assert c(a) == c(a)


def two_nans():
    return np.frombuffer(b"\x01\0\0\0\0\0\xf8\xff" + b"\0\0\0\0\0\0\xf0\x3f", dtype="<f8")


FRAME = pd.DataFrame({"a": [1, 2, 3], "s": ["x", None, "z"], "f": [0.5, NAN, -0.0]})
LONG = pl.DataFrame({"a": range(1000), "f": [float(i) for i in range(1000)], "s": [str(i) for i in range(1000)]})
ARROW = pa.table(
    {
        "a": [1, 2, None, 4],
        "s": ["x", None, "yy", "z"],
        "f": [1.5, NAN, 2.5, None],
        "t": pa.array([1, 2, 3, None], pa.timestamp("ns")),
    }
)
shared = ["s"]
EQUAL = [
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({1, 2, "x"}, {"x", 2, 1}),
    (NAN, -NAN),
    ([NAN] * 50, [-NAN] * 50),
    (dict.fromkeys(range(50), NAN), dict.fromkeys(range(50), -NAN)),
    ([1, "x" * 2000] * 20, [1, "x" * 2000] * 20),
    ([NAN], [float("nan")]),
    (complex(NAN, 1), complex(-NAN, 1)),
    ([shared, shared], [["s"], ["s"]]),
    ({(1, 2): 3, "k": 4}, {"k": 4, (1, 2): 3}),
    (collections.Counter("ab"), collections.Counter("ba")),
    ({NAN: 1, float("nan"): 2}, {NAN: 2, float("nan"): 1}),
    (make_adder(1), make_adder(1)),
    (Service("a"), Service("a")),
    (KeyedPoint(1, 2), KeyedPoint(1, 3)),
    (KeyedList([1]), KeyedList([2])),
    (Model(a=1), Model(a=1, b=[])),
    (make_local(1), make_local(1)),
    (functools.partial(plain, a=1, b=2), functools.partial(plain, b=2, a=1)),
    (Service("a").call, Service("a").call),
    (np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6.0).reshape(2, 3)),
    (np.arange(10)[::2], np.array([0, 2, 4, 6, 8])),
    (np.asfortranarray(np.ones((50, 50))), np.ones((50, 50))),
    (two_nans(), np.array([NAN, 1.0])),
    (np.float64(NAN), two_nans()[0]),
    (np.array([complex(NAN, 0)]), np.array([complex(-NAN, 0)])),
    (np.longlong(5) * np.ones(1, "q"), np.array([5], "i8") * np.ones(1, "l")),
    (
        np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.array([(0, 0.0)] * 2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    ),
    (FRAME, FRAME.copy()),
    (FRAME.iloc[1:], FRAME.copy().drop(0)),
    (FRAME, pd.concat([FRAME[["a"]], FRAME[["s", "f"]]], axis=1)),
    (FRAME.index, pd.RangeIndex(3)),
    (LONG, pl.concat([LONG[:500], LONG[500:]], rechunk=False)),
    (LONG[10:20], pl.DataFrame(LONG[10:20].to_dict(as_series=False))),
    (pl.Series([1, 2, None])[1:], pl.Series([2, None])),
    (pl.Series(["a", None, "c"])[1:], pl.Series([None, "c"])),
    (pl.Series([None, 1, 2])[1:], pl.Series([1, 2])),
    (pl.Series([NAN]), pl.Series([-NAN])),
    (pl.Series([[1], None]), pl.concat([pl.Series([[1]]), pl.Series([None], dtype=pl.List(pl.Int64))])),
    (pl.Series([True, None, False])[1:], pl.Series([None, False])),
    (pl.Series(["b", "a"], dtype=pl.Categorical)[1:], pl.Series(["a"], dtype=pl.Categorical)),
    (pl.Series([1, 5]).replace(5, None), pl.Series([1, 7]).replace(7, None)),
    (ARROW, pa.concat_tables([ARROW.slice(0, 2), ARROW.slice(2)])),
    (ARROW.slice(1, 2), pa.Table.from_pylist(ARROW.slice(1, 2).to_pylist(), schema=ARROW.schema)),
    (pa.array([1, 2, 3])[1:], pa.array([2, 3])),
    (pa.array([True, False, True])[1:], pa.array([False, True])),
    (pa.array(["a", "b", "a"]).dictionary_encode()[1:], pa.array(["b", "a"]).dictionary_encode()),
    (pa.array([1, 99], mask=np.array([False, True])), pa.array([1, 5], mask=np.array([False, True]))),
    (pa.array([NAN]), pa.array([-NAN])),
    (pa.chunked_array([[1], [2]]), pa.chunked_array([[1, 2]])),
    (pa.array(two_nans()), pa.array([NAN, 1.0])),
]


@pytest.mark.parametrize("a, b", EQUAL, ids=lambda v: type(v).__name__)
def test_equal_values_agree(a, b):
    assert c(a) == c(b)


@settings(max_examples=300, deadline=None)
@given(values, values)
def test_canonical_forms_agree_exactly_when_values_do(a, b):
    assert (c(a) == c(b)) == unordered_same(a, b)
    assert c(a) == c(a)
    decode_inert(c(a))
    assert summary(c(a)).isprintable()


def unordered_same(a, b):
    """`same`, with dicts in any order."""
    if type(a) is not type(b):
        return False
    if type(a) in (dict, collections.Counter, collections.defaultdict):
        if len(a) != len(b) or getattr(a, "default_factory", None) is not getattr(b, "default_factory", None):
            return False
        rest = list(b.items())
        for pair in a.items():
            found = next((i for i, other in enumerate(rest) if unordered_same(pair, other)), None)
            if found is None:
                return False
            del rest[found]
        return True
    if type(a) in (list, tuple, collections.deque) and getattr(a, "maxlen", 0) == getattr(b, "maxlen", 0):
        return len(a) == len(b) and all(map(unordered_same, a, b))
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        return same(a, b) or unordered_same(fields_of(a), fields_of(b))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(unordered_same, a, b))
    if isinstance(a, msgspec.Struct):
        return all(unordered_same(getattr(a, name), getattr(b, name)) for name in a.__struct_fields__)
    if attrs.has(type(a)):
        return all(unordered_same(getattr(a, f.name), getattr(b, f.name)) for f in attrs.fields(type(a)))
    if isinstance(a, OpenModel):
        return unordered_same(a.a, b.a) and unordered_same(a.model_extra, b.model_extra)
    return same(a, b)


def fields_of(value):
    return [getattr(value, field.name, None) for field in dataclasses.fields(value)]


@settings(deadline=None)
@given(st.lists(st.tuples(hashables, values), max_size=6), st.randoms())
def test_insertion_order_does_not_count(pairs, rng):
    value = dict(pairs)
    items = list(value.items())
    rng.shuffle(items)
    assert c(dict(items)) == c(value)
    keys = list(value)
    rng.shuffle(keys)
    assert c(set(keys)) == c(set(value))


@given(values)
@settings(max_examples=200, deadline=None)
def test_the_fast_path_of_items_says_what_the_slow_one_says(value):
    name = "x"
    alone = canonical_items((name,), (value,))
    with_slow = canonical_items((name, "t"), (value, (1,)))
    assert alone[1:] == with_slow[1 : len(alone)]


def test_items_keep_their_order_and_are_a_map():
    assert msgspec.msgpack.decode(canonical_items(("b", "a"), (1, "x"))) == {"b": 1, "a": "x"}
    assert list(decode_inert(canonical_items(("b", "a"), ((1,), 2)))) == ["b", "a"]
    assert canonical_items((), ()) == b"\x80"
    with pytest.raises(ValueError, match="2 names for 1"):
        canonical_items(("a", "b"), (1,))


@pytest.mark.parametrize("size", [255, 256, 257, 1020, 1021, 1022, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("char", ["x", "é", "\U0001f600"])
def test_long_leaves_and_arguments_are_bounded(size, char):
    text = char * size
    encoded = c(text)
    assert len(encoded) <= LEAF_LIMIT + 5
    items = canonical_items(("a", "b"), (text, 1))
    assert len(items) <= ARGUMENT_LIMIT + 10
    assert items == canonical_items(("a", "b"), (text, 1)) and c([text]) != c([text + "!"])
    assert (
        canonical_items(("a", "b"), (text, 1))[: len(items) - 3]
        == canonical_items(("a", "b"), (text, (1,)))[: len(items) - 3]
    )


def test_a_long_argument_is_abridged_to_its_digest():
    value = list(range(1000))
    items = canonical_items(("x",), (value,))
    assert items == b"\x81\xa1x" + canonical_digest_abridged(c(value))
    assert summary(canonical_digest_abridged(c(value))).startswith(f"<value {len(c(value)) / 1000:.1f} kB xxh3:")
    assert decode_inert(canonical_digest_abridged(b"abc")).data["length"] == 3
    assert canonical_digest_abridged(b"abc") != canonical_digest_abridged(b"abd")


def test_a_big_array_is_hashed_where_it_lies():
    import tracemalloc

    value = np.arange(4_000_000.0)
    c(value[:10])
    tracemalloc.start()
    encoded = c(value)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A mask of one byte an element to look for NaN, not another copy of 32 MB.
    assert len(encoded) < 100 and peak < value.nbytes / 4
    assert summary(encoded) == "<ndarray float64 (4000000,) 32 MB>"


UNHASHABLE = [
    (LOCK, "v", "lock"),
    ({"a": [1, LOCK]}, "v['a'][1]", "lock"),
    (Point(1, LOCK), "v.y", "lock"),
    (object(), "v", "object"),
    (sqlite3.connect(":memory:"), "v", f"{sqlite3.Connection.__module__}.Connection"),
    ((x for x in ()), "v", "generator"),
    (make_adder(LOCK), "v.__closure__['n']", "lock"),
    (functools.partial(plain, LOCK), "v.args[0]", "lock"),
    (functools.partial(plain, k=LOCK), "v.keywords['k']", "lock"),
    (LOCK.acquire, "v.__self__", "lock"),
    (make_default(LOCK), "v.__defaults__[0]", "lock"),
    (Service(LOCK), "v.__durable_key__()", "lock"),
    (np.array([1], dtype=object), "v", "object"),
    (np.longdouble(1), "v", "float64"),
    (np.ones(2, np.longdouble), "v", "float64"),
    (pl.Series([LOCK], dtype=pl.Object), "v['']", "Object"),
    (pl.Series("t", [[dt.time(1)]]), "v['t']", "Time"),
    (pl.DataFrame({"n": pl.Series([[1]], dtype=pl.List(pl.Datetime("ns")))}), "v['n']", "canonical form"),
    (pa.table({"m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8()))}), "v['m']", "canonical form"),
    (pa.array([[1]], pa.list_(pa.timestamp("ns"))), "v['']", "canonical form"),
    (pl.LazyFrame(), "v", "LazyFrame"),
    (pd.Series(pd.period_range("2024", periods=1)), "v", "period"),
    (type("L", (list,), {})(), "v", "subclass of list"),
    (msgspec.Raw(b"\x01"), "v", "Raw"),
    (memoryview(b""), "v", "memoryview"),
    ({}.keys(), "v", "dict_keys"),
]


@pytest.mark.parametrize("value, path, says", UNHASHABLE, ids=lambda v: type(v).__name__)
def test_what_has_no_identity_says_where_and_what_to_do(value, path, says):
    with pytest.raises(Unhashable) as caught:
        c(value)
    told = str(caught.value)
    assert caught.value.path == path and says in told
    assert "dataclass" in told and "__durable_key__" in told and "cache_policy=DEFAULT - 'v'" in told
    with pytest.raises(Unhashable) as caught:
        canonical_items(("a", "conn"), (1, value))
    assert caught.value.path == "conn" + path[1:] and "DEFAULT - 'conn'" in str(caught.value)


def test_an_argument_without_identity_counts_by_its_type_when_asked():
    told = []
    items = canonical_items(("a", "conn", "b"), (1, [LOCK], 2), lambda name, error: told.append((name, error.path)))
    assert told == [("conn", "conn[0]")]
    assert items == b"\x83\xa1a\x01\xa4conn" + type_only([]) + b"\xa1b\x02"
    assert summary(type_only(LOCK)) == "<any _thread.lock>"
    assert type_only(Point(1)) != type_only(Key("k"))


def test_a_key_that_raises_is_told_as_such():
    class Broken:
        def __durable_key__(self):
            raise ZeroDivisionError("oops")

    with pytest.raises(Unhashable, match=r"__durable_key__\(\) raised ZeroDivisionError: oops"):
        c(Broken())


def test_a_function_that_closes_over_itself_is_a_cycle():
    def outer():
        def inner():
            return inner

        return inner

    with pytest.raises(Unhashable, match="cycle"):
        c(outer())


def test_a_cycle_and_depth_are_unhashable():
    value = []
    value.append(value)
    with pytest.raises(Unhashable, match="cycle"):
        c(value)
    deep = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Unhashable, match="200 levels"):
        c(deep)


def test_hashing_leaves_nothing_behind():
    value = Derived(1, {"b": 2, "a": {3, 1}}, z=[NAN])
    before = list(value.y)
    c(value)
    assert list(value.y) == before


SCRIPT = """
import sys
sys.modules["numpy"] = None  # not to be had
import polars as pl, pyarrow as pa
from durable.codec import canonical
print(canonical(pl.DataFrame({"a": [1, None], "f": [float("nan"), None]}), "v").hex())
print(canonical(pl.Series(range(5)), "v").hex())
print(canonical(pa.array([1.5, float("nan")]), "v").hex())
assert sys.modules["numpy"] is None
"""


def test_tables_count_the_same_without_numpy():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        c(pl.DataFrame({"a": [1, None], "f": [NAN, None]})).hex(),
        c(pl.Series(range(5))).hex(),
        c(pa.array([1.5, NAN])).hex(),
    ]


@pytest.mark.parametrize("value", [v for pair in DIFFERENT for v in pair], ids=lambda v: type(v).__name__)
def test_every_canonical_form_can_be_shown(value):
    decode_inert(c(value))
    assert summary(c(value)).isprintable()
