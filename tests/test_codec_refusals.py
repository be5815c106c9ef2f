"""What cannot come back exactly is refused when it is written, with the path to it and the way out."""

# ruff: noqa: DTZ001, DTZ901, PIE796, PYI024, SLOT000, SLOT002, B904  # naive times and odd classes are the subject

from __future__ import annotations

import abc
import collections
import contextlib
import ctypes
import dataclasses
import datetime as dt
import enum
import io
import os
import pathlib
import re
import sqlite3
import threading
import time
import types
import zoneinfo

import attrs
import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from test_codec_support import Attr, Color, Key, LooseAttr, Model, Pair, Point, Rec

from durable.codec import encode
from durable.errors import NotSerializable


class MyList(list):
    pass


class MyDict(dict):
    pass


class MyStr(str):
    pass


class MyInt(int):
    pass


class MyDate(dt.datetime):
    pass


class MyArray(np.ndarray):
    pass


class MyFrame(pd.DataFrame):
    pass


class Plain:
    pass


class OddZone(dt.tzinfo):
    def utcoffset(self, when):
        return dt.timedelta(0)


@dataclasses.dataclass
class ListWithFields(list):
    a: int = 1


class Slack:
    __slots__ = ("hidden",)


@dataclasses.dataclass
class SlotBase(Slack):
    a: int = 1


class LooseNT(collections.namedtuple("LooseNT", "a")):
    pass


class HookedRec(msgspec.Struct):
    a: int = 1

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)

    def __post_init__(self):
        pass


class OldModel:
    __fields__ = {}


def local_point():
    @dataclasses.dataclass
    class LocalPoint:
        x: int = 1

    return LocalPoint()


def with_attribute(value, name="extra"):
    object.__setattr__(value, name, 1)
    return value


def slot_set():
    value = SlotBase()
    value.hidden = 3
    return value


class ReplacedLater(enum.Enum):
    A = 1


replaced_member = ReplacedLater.A


class ReplacedLater(enum.Enum):  # noqa: F811  # a notebook's cell run twice
    A = 1


def generator():
    yield 1


async def coroutine():
    pass


def closed(value):
    value.close()
    return value


ADVICE = 'set result_serializer="pickle" or persist_result=False'
CONNECTION = sqlite3.connect(":memory:")
CONNECTION_NAME = f"{sqlite3.Connection.__module__}.Connection"
LOCK = threading.Lock()
REFUSED = [
    # value, path, what the message says
    (CONNECTION, "result", CONNECTION_NAME),
    ({"rows": [1, 2, 3, Point(1, CONNECTION)]}, "result['rows'][3].y", CONNECTION_NAME),
    ({"a": (1, {"b": LOCK})}, "result['a'][1]['b']", "no rule"),
    ([generator()], "result[0]", "make it a list"),
    (iter([1]), "result", "make it a list"),
    (map(str, []), "result", "make it a list"),
    (closed(coroutine()), "result", ""),
    (lambda: 1, "result", "function"),
    (generator, "result", "function"),
    (len, "result", ""),
    (Point, "result", "class"),
    (int, "result", "class"),
    (os, "result", "module"),
    (object(), "result", "no rule"),
    (Plain(), "result", "Plain"),
    (MyList([1]), "result", "subclass of list"),
    ({"x": MyDict()}, "result['x']", "subclass of dict"),
    (MyStr("s"), "result", "subclass of str"),
    (MyInt(3), "result", "subclass of int"),
    ([MyDate(2020, 1, 1)], "result[0]", "MyDate"),
    ({MyStr("k"): 1}, "result.keys()[0]", "subclass of str"),
    ({(1, LOCK): 1}, "result.keys()[0][1]", "lock"),
    ({Key("k"): LOCK}, "result[<test_codec_support.Key>]", "lock"),
    ({("k", 1): LOCK}, "result[<tuple>]", "lock"),
    ({b"k": LOCK}, "result[b'k']", "lock"),
    ({LOCK}, "result[...]", "lock"),
    (collections.deque([LOCK]), "result[0]", "lock"),
    (collections.OrderedDict(a=LOCK), "result['a']", "lock"),
    (slice(None, LOCK), "result.stop", "lock"),
    (Pair(1, LOCK), "result.right", "lock"),
    (Rec(1, LOCK), "result.b", "lock"),
    (Attr(LOCK), "result.a", "lock"),
    (Model(a=1, b=[LOCK]), "result.b[0]", "lock"),
    (types.MappingProxyType({}), "result", "mappingproxy"),
    ({}.keys(), "result", "dict_keys"),
    ({}.values(), "result", "dict_values"),
    (memoryview(b"x"), "result", "memoryview"),
    (collections.ChainMap(), "result", "ChainMap"),
    (collections.UserDict(), "result", "UserDict"),
    (msgspec.Raw(b"\x01"), "result", "Raw"),
    (msgspec.msgpack.Ext(1, b"\x90"), "result", "Ext"),
    (re.compile("x"), "result", "Pattern"),
    (time.localtime(), "result", "subclass of tuple"),
    (io.BytesIO(), "result", "open file"),
    (contextlib.nullcontext(), "result", "nullcontext"),
    (ctypes.c_int(3), "result", "c_int"),
    (dt.datetime(2020, 1, 1, tzinfo=OddZone()), "result.tzinfo", "fixed-offset"),
    ([dt.time(1, tzinfo=OddZone())], "result[0].tzinfo", "OddZone"),
    (collections.defaultdict(lambda: 1), "result.default_factory", "found again"),
    (collections.defaultdict(list, a=LOCK), "result['a']", "lock"),
    (local_point(), "result", "durable.register()"),
    ([local_point()], "result[0]", "local class"),
    (replaced_member, "result", "another class by now"),
    (with_attribute(Point(1)), "result", "'extra'"),
    (with_attribute(LooseAttr(1)), "result", "'extra'"),
    (with_attribute(LooseNT(1)), "result", "'extra'"),
    (slot_set(), "result", "'hidden'"),
    (ListWithFields(), "result", "subclass of list"),
    (HookedRec(), "result", "__init_subclass__"),
    (Model.model_construct(), "result", "no value"),
    (np.array([1, "a"], dtype=object), "result", "object"),
    ({"a": np.array([(1, None)], dtype=[("x", "i4"), ("y", "O")])}, "result['a']", "object"),
    (np.ma.masked_array([1], [True]), "result", "MaskedArray"),
    (np.array([1]).view(MyArray), "result", "MyArray"),
    (np.array([1]).astype(np.dtype("i4", metadata={"a": 1})), "result", "metadata"),
    (np.array(["a"], dtype="T"), "result", ""),
    (MyFrame({"a": [1]}), "result", "MyFrame"),
    (pd.DataFrame({"a": [1], "b": pd.Series([LOCK], dtype=object)}), "result['b'][0]", "lock"),
    (pd.DataFrame({"a": [1]}, index=pd.period_range("2024", periods=1)), "result.index", "PeriodIndex"),
    (pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False), "result", "allows_duplicate_labels"),
    (pd.Series(pd.period_range("2024", periods=2)), "result", "period"),
    (pd.Series([1], name=("a", LOCK)), "result.name[1]", "lock"),
    (pl.DataFrame({"a": pl.Series([LOCK], dtype=pl.Object)}), "result", "Arrow"),
    (pl.LazyFrame(), "result", "LazyFrame"),
    (pa.schema([]), "result", "Schema"),
]


def label(row):
    return type(row).__name__ if not isinstance(row, str) else ""


@pytest.mark.parametrize("value, path, says", REFUSED, ids=label)
def test_a_refusal_names_the_path_and_the_way_out(value, path, says):
    with pytest.raises(NotSerializable) as caught:
        encode(value)
    assert caught.value.path == path
    assert says in str(caught.value)
    assert ADVICE in str(caught.value) or "durable.register()" in str(caught.value)


def test_the_root_is_named_as_asked():
    with pytest.raises(NotSerializable, match=r"^state\[0\]: _?thread\.lock"):
        encode([LOCK], "state")


def test_a_cycle_says_what_it_comes_back_to():
    value = {"a": [1, {"b": None}]}
    value["a"][1]["b"] = value["a"]
    with pytest.raises(NotSerializable) as caught:
        encode(value)
    assert caught.value.path == "result['a'][1]['b']" and "cycle: it is result['a'] again" in str(caught.value)


def test_a_cycle_through_objects_is_found():
    point = Point(1)
    point.y = (point,)
    with pytest.raises(NotSerializable) as caught:
        encode([point])
    assert caught.value.path == "result[0].y[0]" and "it is result[0] again" in str(caught.value)


def test_too_deep_says_so():
    value = 1
    for _ in range(202):
        value = [value]
    with pytest.raises(NotSerializable, match="200 levels"):
        encode(value)
    value = Color.RED
    for _ in range(5000):
        value = (value,)
    with pytest.raises(NotSerializable, match="200 levels"):
        encode(value)


class Kept:
    """A descriptor that keeps values to itself."""

    def __get__(self, obj, cls):
        return 1

    def __set__(self, obj, value):
        pass


@dataclasses.dataclass
class WithDescriptor:
    a: int = Kept()


def test_a_field_kept_by_a_descriptor_is_refused():
    with pytest.raises(NotSerializable, match="'a' is kept by a Kept"):
        encode(WithDescriptor(5))


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"k": (v,)}, Point])
def test_an_object_that_raises_from_everything_is_refused(wrap):
    with pytest.raises(NotSerializable, match="Hostile: "):
        encode(wrap(Hostile()))


def test_a_zone_from_a_file_is_refused(tmp_path):
    root = next(path for path in map(pathlib.Path, zoneinfo.TZPATH) if (path / "UTC").exists())
    with (root / "UTC").open("rb") as file:
        zone = zoneinfo.ZoneInfo.from_file(file, key="Europe/Berlin")
    with pytest.raises(NotSerializable, match="key"):
        encode(zone)


def test_a_key_in_a_path_is_of_bounded_length():
    with pytest.raises(NotSerializable) as caught:
        encode({"k" * 10_000: LOCK})
    assert len(caught.value.path) < 100


def test_memmap_is_refused(tmp_path):
    mapped = np.memmap(tmp_path / "m", dtype="u1", mode="w+", shape=(3,))
    with pytest.raises(NotSerializable, match="memmap"):
        encode(mapped)


def test_a_refused_value_in_a_list_with_wide_integers_has_the_same_path():
    with pytest.raises(NotSerializable) as caught:
        encode([2**70, "\ud800", {"\ud800": LOCK}])
    assert caught.value.path == "result[2]['\\ud800']"


def test_an_abstract_and_unknown_metaclass_are_fine():
    class Meta(abc.ABCMeta):
        pass

    with pytest.raises(NotSerializable, match="local class"):
        encode(
            dataclasses.dataclass(Meta("Strange", (), {"__annotations__": {"a": int}, "__qualname__": "f.<locals>.S"}))(
                1
            )
        )


def test_attrs_slots_beyond_fields_are_named():
    @attrs.define
    class Local:
        a: int

    with pytest.raises(NotSerializable, match="local class"):
        encode(Local(1))
