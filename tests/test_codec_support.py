"""What the codec's tests share: classes of every kind, a strict comparison, and its own proof."""

# ruff: noqa: DTZ001, DTZ901, PIE796, PYI024, SLOT000, SLOT002, B904  # naive times and odd classes are the subject

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import pathlib
import struct
import typing
import uuid
import zoneinfo

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import strategies as st


class Color(enum.Enum):
    RED = 1
    GREEN = "g"
    CRIMSON = 1


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(str, enum.Enum):
    HELLO = "hello"


class Perm(enum.Flag):
    R = 4
    W = 2
    X = 1
    RW = 6


class IntPerm(enum.IntFlag):
    R = 4
    W = 2


class Shape(enum.Enum):
    SQUARE = (1, 2)

    def __init__(self, a, b):
        self.area = a * b

    @classmethod
    def _missing_(cls, value):
        raise RuntimeError("_missing_ ran")


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass(frozen=True)
class Key:
    name: str
    at: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: object
    b: object = dataclasses.field(default_factory=list)


@dataclasses.dataclass(kw_only=True)
class Derived(Point):
    z: object
    seed: dataclasses.InitVar[int] = 3
    total: object = dataclasses.field(init=False)
    fixed: int = dataclasses.field(default=9, init=False)
    never: object = dataclasses.field(init=False, repr=False)

    def __post_init__(self, seed):
        self.total = seed

    @functools.cached_property
    def cached(self):
        return [self.x]


T = typing.TypeVar("T")


@dataclasses.dataclass
class Box(typing.Generic[T]):
    item: T


class Outer:
    @dataclasses.dataclass
    class Inner:
        v: int


class Pair(typing.NamedTuple):
    left: object
    right: object = None


Old = collections.namedtuple("Old", "a b")


class Rec(msgspec.Struct):
    a: object
    b: object = None


class FrozenRec(msgspec.Struct, frozen=True, array_like=True, tag=True, kw_only=True):
    a: object
    b: int = 0


class LoudRec(msgspec.Struct, frozen=True, gc=False):
    a: int

    def __post_init__(self):
        if ARMED:
            raise RuntimeError("__post_init__ ran")


class LoudChild(LoudRec, frozen=True, gc=False):
    c: str = "c"


@attrs.define
class Attr:
    a: object
    _hidden: object = None


@attrs.frozen
class FrozenAttr:
    a: object


@attrs.define(slots=False)
class LooseAttr:
    a: object


@attrs.define(frozen=True, cache_hash=True)
class HashedAttr:
    a: int


@attrs.define(slots=False, frozen=True, cache_hash=True)
class LooseHashedAttr:
    a: int


class Model(pydantic.BaseModel):
    a: int
    b: list[typing.Any] = []
    _secret: int = pydantic.PrivateAttr(default=5)


class OpenModel(pydantic.BaseModel, extra="allow", frozen=True):
    a: typing.Any


# Raised into by everything that has no business running while a value is rebuilt.
ARMED: list[int] = []


class armed:
    def __enter__(self):
        ARMED.append(1)

    def __exit__(self, *_exc):
        ARMED.clear()


@dataclasses.dataclass
class LoudPoint:
    x: int

    def __new__(cls, *args, **kwargs):
        if ARMED:
            raise RuntimeError("__new__ ran")
        return object.__new__(cls)

    def __post_init__(self):
        if ARMED:
            raise RuntimeError("__post_init__ ran")

    def __setattr__(self, name, value):
        if ARMED:
            raise RuntimeError("__setattr__ ran")
        object.__setattr__(self, name, value)


class LoudPair(collections.namedtuple("LoudPair", "a b")):
    def __new__(cls, *args):
        if ARMED:
            raise RuntimeError("__new__ ran")
        return super().__new__(cls, *args)


@attrs.define
class LoudAttr:
    a: int

    def __attrs_post_init__(self):
        if ARMED:
            raise RuntimeError("__attrs_post_init__ ran")


class LoudModel(pydantic.BaseModel):
    a: int

    @pydantic.model_validator(mode="after")
    def loud(self):
        if ARMED:
            raise RuntimeError("a validator ran")
        return self

    def model_post_init(self, _context):
        if ARMED:
            raise RuntimeError("model_post_init ran")


def same(a, b):
    """Whether two values are of the same types and equal all the way down; NaN is itself, and -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, enum.Enum):
        return a is b
    if type(a) is range:  # two empty ones are equal to Python, however they are written
        return (a.start, a.stop, a.step) == (b.start, b.stop, b.step)
    if type(a) is float:
        return a != a and b != b or struct.pack("<d", a) == struct.pack("<d", b)
    if type(a) is complex:
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, decimal.Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, dt.datetime | dt.time):
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and same(a.tzinfo, b.tzinfo)
    if isinstance(a, dt.timezone):
        return a.__getinitargs__() == b.__getinitargs__()
    if isinstance(a, zoneinfo.ZoneInfo):
        return a.key == b.key
    if isinstance(a, uuid.UUID):
        return a == b and a.is_safe is b.is_safe
    if isinstance(a, slice):
        return all(same(getattr(a, n), getattr(b, n)) for n in ("start", "stop", "step"))
    if isinstance(a, dict):
        if isinstance(a, collections.defaultdict) and a.default_factory is not b.default_factory:
            return False
        # Keys in order: a dict is rebuilt in the order it had.
        return len(a) == len(b) and all(same(p, q) for p, q in zip(a.items(), b.items(), strict=True))
    if isinstance(a, list | tuple | collections.deque):
        if isinstance(a, collections.deque) and a.maxlen != b.maxlen:
            return False
        return len(a) == len(b) and all(same(p, q) for p, q in zip(a, b, strict=True))
    if isinstance(a, set | frozenset):
        rest = list(b)
        for item in a:
            found = next((i for i, other in enumerate(rest) if same(item, other)), None)
            if found is None:
                return False
            del rest[found]
        return not rest
    if dataclasses.is_dataclass(a):
        missing = object()
        names = [f.name for f in dataclasses.fields(a)]
        return all(
            same(getattr(a, n, missing), getattr(b, n, missing)) for n in names if hasattr(a, n) or hasattr(b, n)
        )
    if isinstance(a, msgspec.Struct):
        return all(same(getattr(a, n), getattr(b, n)) for n in a.__struct_fields__)
    if attrs.has(type(a)):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in attrs.fields(type(a)))
    if isinstance(a, pydantic.BaseModel):
        state = a.__getstate__(), b.__getstate__()
        return all(same(state[0][k], state[1][k]) for k in state[0])
    if type(a) is object:
        return a is b
    return a == b


@pytest.mark.parametrize(
    "a, b",
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ((1,), [1]),
        ({1: 1, 2: 2}, {2: 2, 1: 1}),
        ({1}, {True}),
        (Point(1), Point(1.0)),
        (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
        (collections.deque([1]), collections.deque([1], 3)),
        (dt.datetime(2020, 1, 1, fold=1), dt.datetime(2020, 1, 1)),
        (slice(1), slice(1.0)),
        (Rec(1), Rec(True)),
        (collections.Counter("a"), {"a": 1}),
        (Attr(1), Attr(2)),
        (Model(a=1), Model(a=1, b=[])),
    ],
)
def test_same_tells_apart(a, b):
    assert not same(a, b)
    assert same(a, a) and same(b, b)


def test_same_has_one_nan():
    assert same([float("nan")], [-float("nan")])


zones = st.one_of(
    st.none(),
    st.just(dt.timezone.utc),
    st.builds(
        dt.timezone,
        st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=5),
    ),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]).map(zoneinfo.ZoneInfo),
)
texts = st.one_of(st.text(max_size=12), st.text(st.sampled_from("a\ud800\udfffé\0"), max_size=4))
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 200), 1 << 200),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64]),
    st.floats(),
    st.complex_numbers(),
    texts,
    st.binary(max_size=12),
    st.builds(dt.datetime.replace, st.datetimes(), tzinfo=zones, fold=st.integers(0, 1)),
    st.dates(),
    st.builds(dt.time.replace, st.times(), tzinfo=st.just(dt.timezone.utc) | st.none(), fold=st.integers(0, 1)),
    st.timedeltas(),
    zones,
    st.decimals().filter(lambda d: not d.is_snan()),
    st.uuids(),
    st.fractions(),
    st.builds(range, st.integers(-(1 << 70), 1 << 70), st.integers(), st.integers(1, 1 << 66)),
    st.just(...),
    texts.filter(lambda t: "\0" not in t).map(pathlib.PurePosixPath),
    st.text(max_size=5).map(pathlib.PureWindowsPath),
    st.sampled_from([Color.RED, Color.GREEN, Level.HIGH, Word.HELLO, Perm.RW, Perm.R | Perm.X, Perm(0), IntPerm(6)]),
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Key, texts, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=5,
)
leaves = st.one_of(
    hashables,
    st.binary(max_size=8).map(bytearray),
    st.builds(slice, st.none() | st.integers(), st.integers(), st.integers()),
    st.just(decimal.Decimal("sNaN12")),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
        st.dictionaries(texts, inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=3).map(collections.OrderedDict),
        st.dictionaries(hashables, st.integers(), max_size=3).map(collections.Counter),
        st.builds(
            collections.defaultdict,
            st.sampled_from([None, list, int, set, dict, str, float, Point]),
            st.dictionaries(hashables, inner, max_size=3),
        ),
        st.builds(collections.deque, st.lists(inner, max_size=4), st.none() | st.integers(4, 9)),
        st.builds(Point, inner, inner),
        st.builds(Slotted, inner, inner),
        st.builds(Derived, inner, inner, z=inner),
        st.builds(Pair, inner, inner),
        st.builds(Old, inner, inner),
        st.builds(Rec, inner, inner),
        st.builds(FrozenRec, a=inner, b=st.integers()),
        st.builds(Attr, inner, inner),
        st.builds(FrozenAttr, inner),
        st.builds(OpenModel, a=inner, extra_one=inner),
    ),
    max_leaves=10,
)
