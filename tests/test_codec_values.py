"""What is encoded comes back: same types, equal values, nothing of the user's run, nothing imported."""

# ruff: noqa: DTZ001, DTZ901, PIE796, PYI024, SLOT000, SLOT002, B904  # naive times and odd classes are the subject

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import subprocess
import sys
import time
import uuid
import zoneinfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_codec_support import (
    Attr,
    Box,
    Color,
    Derived,
    FrozenRec,
    HashedAttr,
    IntPerm,
    Level,
    LooseAttr,
    LooseHashedAttr,
    LoudAttr,
    LoudChild,
    LoudModel,
    LoudPair,
    LoudPoint,
    LoudRec,
    Model,
    Old,
    OpenModel,
    Outer,
    Pair,
    Perm,
    Point,
    Rec,
    Shape,
    Slotted,
    Word,
    armed,
    same,
    values,
)

from durable.codec import Inert, canonical, decode, decode_inert, encode, register, summary
from durable.errors import CorruptPayload, UnresolvedClass

NAN = float("nan")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
UTC = dt.timezone.utc
TABLE = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    2**64,
    -(2**64),
    10**5000,
    1.5,
    NAN,
    -0.0,
    float("-inf"),
    complex(NAN, -0.0),
    "",
    "é\0",
    "\ud800",
    b"",
    b"\0\xff",
    bytearray(b"x"),
    [],
    {},
    (),
    set(),
    frozenset(),
    (1, [2, (3, {4})]),
    {1: "a", True + 1: 2, None: 3, 2.5: 4, b"b": 5, (1, (2,)): 6, 2**70: 7},
    {"\ud800": {"\ud801": 2**80}},
    {frozenset({(1, "x")}): set()},
    {NAN: 1, float("nan"): 2},
    dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
    dt.datetime(1, 1, 1),
    dt.datetime.max,
    dt.datetime(2020, 1, 1, tzinfo=UTC, fold=1),
    dt.datetime(2020, 1, 1, microsecond=1, tzinfo=UTC),
    dt.date.min,
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=-1, microseconds=5), "odd\ud800")),
    dt.timedelta.min,
    dt.timedelta.max,
    dt.timedelta(microseconds=-1),
    dt.time(1, 2, 3, 4, tzinfo=UTC, fold=1),
    dt.time(),
    UTC,
    BERLIN,
    dt.timezone(dt.timedelta(0), "zero"),
    zoneinfo.ZoneInfo("UTC"),
    decimal.Decimal("sNaN12"),
    decimal.Decimal("-0E+30"),
    decimal.Decimal("-NaN"),
    decimal.Decimal("1E-999999"),
    decimal.Decimal("-Infinity"),
    uuid.UUID(int=0),
    uuid.uuid1(),
    pathlib.Path("a/\udcff"),
    pathlib.PurePosixPath("/x"),
    pathlib.PureWindowsPath(r"c:\x"),
    fractions.Fraction(2**90, 3),
    Color.RED,
    Color.CRIMSON,
    Color.GREEN,
    Level.HIGH,
    Word.HELLO,
    Perm.R | Perm.X,
    Perm(0),
    ~Perm.R,
    IntPerm(6),
    IntPerm(8 | 2),
    IntPerm(2**80),
    Shape.SQUARE,
    range(5),
    range(2**70, 0, -(2**65)),
    slice(None, [1], (2,)),
    ...,
    collections.OrderedDict([(2, 1), ((1,), 2)]),
    collections.Counter({"a": -1, (1,): 2.5}),
    collections.deque([1, ()], 3),
    collections.defaultdict(list, a=[1]),
    collections.defaultdict(None, {(1,): 2}),
    collections.defaultdict(Point),
    Point(1, (2,)),
    Slotted({1}, {2}),
    Derived(1, 2, z=3),
    Outer.Inner(3),
    Box[int](item=5),
    Pair(1, (2,)),
    Old(1, [2]),
    Rec((1,), None),
    FrozenRec(a={1}, b=2),
    Attr((1,), hidden={2}),
    LooseAttr((1,)),
    Model(a=1),
    Model(a=1, b=[(1,)]),
    OpenModel(a=(1,), extra_one={2}),
    [Point(i, (i,)) for i in range(100)],
    "x" * 5000,
    list(range(1000)),
]


def label(value):
    return type(value).__name__


@pytest.mark.parametrize("value", TABLE, ids=label)
def test_every_type_comes_back_exactly(value):
    again = decode(encode(value))
    assert same(again, value)
    assert encode(again) == encode(value) or isinstance(value, set | frozenset)


@pytest.mark.parametrize("value", TABLE, ids=label)
def test_every_type_can_be_shown(value):
    payload = encode(value)
    decode_inert(payload)
    line = summary(payload)
    assert line.isprintable() and 0 < len(line) <= 60


@settings(max_examples=300, deadline=None)
@given(values)
def test_whatever_is_nested_comes_back_exactly(value):
    payload = encode(value)
    assert same(decode(payload), value)
    decode_inert(payload)
    line = summary(payload, 40)
    assert line.isprintable() and len(line) <= 40


@given(values)
@settings(deadline=None)
def test_encoding_leaves_the_value_alone(value):
    before = copy.deepcopy(value)
    encode(value)
    assert same(value, before)


def test_a_number_too_long_for_python_to_write_out_may_be_a_key():
    long = 2**20_000
    for value in ({long: 1}, [{long: {1: (2,)}}]):
        assert decode(encode(value)) == value
        assert canonical(value, "x") == canonical(decode(encode(value)), "x")
        assert summary(encode(value)).isprintable()


def nested(levels, wrap, value=1):
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: {(1,): v}, Point, Rec])
def test_two_hundred_levels_come_back(wrap):
    value = nested(200, wrap)
    again = decode(encode(value))
    for _ in range(200):
        assert type(again) is type(value)
        pick = (lambda v: v.x) if isinstance(value, Point) else (lambda v: v.a) if isinstance(value, Rec) else None
        pick = pick or (lambda v: next(iter(v.values())) if isinstance(v, dict) else v[0])
        value, again = pick(value), pick(again)
    assert again == 1
    payload = encode(nested(200, wrap))
    decode_inert(payload)
    assert summary(payload).endswith("...")


def test_shared_parts_come_back_as_equal_copies():
    shared = [1]
    again = decode(encode([shared, shared]))
    assert again == [[1], [1]] and again[0] is not again[1]


def test_a_tuple_and_a_bool_are_not_flattened():
    assert type(decode(encode({"a": (1,)}))["a"]) is tuple
    assert type(decode(encode([True]))[0]) is bool


@pytest.mark.parametrize(
    "value", [LoudPoint(1), LoudPair(1, 2), LoudRec(1), LoudChild(1, "x"), LoudAttr(1), LoudModel(a=1)], ids=label
)
def test_no_constructor_runs(value):
    payload = encode(value)
    with armed():
        again = decode(payload)
        decode_inert(payload)
        summary(payload)
    assert same(again, value)
    assert type(again) is type(value)


def test_the_constructors_above_are_armed():
    with armed():
        for make in (lambda: LoudPoint(1), lambda: LoudPair(1, 2), lambda: LoudRec(1), lambda: LoudAttr(1)):
            with pytest.raises(RuntimeError):
                make()
        with pytest.raises(RuntimeError):
            LoudModel(a=1)


@pytest.mark.parametrize("cls", [HashedAttr, LooseHashedAttr])
def test_a_cached_hash_is_computed_anew(cls):
    value = cls(5)
    hash(value)
    assert hash(decode(encode(value))) == hash(value)


def test_a_cached_property_is_forgotten_not_refused():
    value = Derived(1, 2, z=3)
    assert value.cached == [1]
    again = decode(encode(value))
    assert "cached" not in vars(again) and again.cached == [1]


def test_a_field_that_was_never_set_stays_unset():
    assert not hasattr(decode(encode(Derived(1, 2, z=3))), "never")


def test_model_state_beyond_fields():
    value = Model(a=1)
    value._secret = (7,)
    again = decode(encode(value))
    assert again._secret == (7,) and again.model_fields_set == {"a"} and again == value
    opened = decode(encode(OpenModel(a=1, more=(2,))))
    assert opened.model_extra == {"more": (2,)} and opened.more == (2,)


def make_local():
    @dataclasses.dataclass
    class Local:
        v: int

    return Local


def test_a_registered_local_class_comes_back():
    local = register(make_local())
    assert type(decode(encode(local(3)))) is local


@pytest.mark.parametrize("wrong", [int, object, 3, type("Plain", (), {}), len])
def test_register_refuses_what_cannot_be_rebuilt(wrong):
    with pytest.raises(TypeError, match="takes"):
        register(wrong)


@dataclasses.dataclass
class Changing:
    a: int
    b: int = 0


class Renamed(enum.Enum):
    A = 1


def replaced(monkeypatch, name, cls):
    cls.__qualname__ = name
    cls.__module__ = __name__
    monkeypatch.setattr(sys.modules[__name__], name, cls)


def unresolved(payload):
    with pytest.raises(UnresolvedClass) as caught:
        decode(payload)
    return str(caught.value)


def test_a_class_whose_fields_changed_says_which(monkeypatch):
    payload = encode(Changing(1))
    replaced(monkeypatch, "Changing", dataclasses.make_dataclass("Changing", ["a", "extra"]))
    told = unresolved(payload)
    assert (
        "new 'extra'" in told and "missing 'b'" in told and "test_codec_values:Changing" in told and "restore" in told
    )


def test_a_class_that_is_gone_or_another_thing_says_so(monkeypatch):
    payload = encode(Changing(1))
    monkeypatch.delattr(sys.modules[__name__], "Changing")
    assert "no 'Changing' any more" in unresolved(payload) and "durable.register" in unresolved(payload)
    monkeypatch.setattr(sys.modules[__name__], "Changing", 3, raising=False)
    assert "not a class" in unresolved(payload)
    replaced(monkeypatch, "Changing", type("Changing", (), {}))
    assert "is a plain class now" in unresolved(payload)
    monkeypatch.delitem(sys.modules, __name__)
    assert "not imported" in unresolved(payload)


def test_an_enum_member_that_is_gone_says_so(monkeypatch):
    payload = encode(Renamed.A)
    replaced(monkeypatch, "Renamed", enum.Enum("Renamed", "B"))
    assert "no member 'A'" in unresolved(payload)


def test_reordered_fields_keep_their_values(monkeypatch):
    payload = encode(Changing(1, 2))
    replaced(monkeypatch, "Changing", dataclasses.make_dataclass("Changing", ["b", "a"]))
    again = decode(payload)
    assert (again.a, again.b) == (1, 2)


def test_a_path_of_another_system_is_not_guessed():
    other = {"PosixPath": "WindowsPath", "WindowsPath": "PosixPath"}[type(pathlib.Path()).__name__]
    foreign = msgspec.msgpack.encode(msgspec.msgpack.Ext(13, msgspec.msgpack.encode([other, "x"])))
    assert "another operating system" in unresolved(foreign)
    assert isinstance(decode_inert(foreign), pathlib.PurePath)


def test_an_unknown_time_zone_is_unresolved_and_still_shown():
    payload = msgspec.msgpack.encode(msgspec.msgpack.Ext(32, b"Atlantis/Deep"))
    assert "Atlantis/Deep" in unresolved(payload)
    assert isinstance(decode_inert(payload), Inert) and "Atlantis" in summary(payload)


def test_a_module_getattr_is_never_asked(monkeypatch):
    module = type(sys)("lazy_module")
    asked = []
    module.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    payload = encode(Changing(1)).replace(b"test_codec_values", b"lazy_module......")
    monkeypatch.setitem(sys.modules, "lazy_module......", module)
    unresolved(payload)
    assert asked == []


SCRIPT = """
import sys, dataclasses
import durable.codec as c
for name in ("numpy", "pandas", "polars", "pyarrow", "pydantic", "attr", "attrs"):
    assert name not in sys.modules, name
@dataclasses.dataclass
class P:
    x: int
before = set(sys.modules)
value = {"a": (1, P(2)), "b": {3}, "e": ValueError(1)}
c.summary(c.canonical(value["a"], "v")), c.summary(c.encode(value)), c.decode(c.encode(value["a"]))
for payload in bytes.fromhex(sys.argv[1]).split(b"||"):
    try:
        c.decode(payload)
    except c_errors.UnresolvedClass as error:
        print(error)
    c.decode_inert(payload), print(c.summary(payload))
known = {*sys.stdlib_module_names, "durable"}  # its own rules come with the first value that needs one
new = {n for n in set(sys.modules) - before if n.partition(".")[0] not in known}
assert not new, new
""".replace("import durable.codec as c\n", "import durable.codec as c, durable.errors as c_errors\n")


def test_nothing_is_imported_by_the_codec_or_by_decoding():
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    made = [np.arange(3.0), np.float64(2.5), pd.Timestamp(0), pl.DataFrame({"a": [1]}), pa.array([1]), Attr(1)]
    argument = b"||".join(map(encode, [*made, Model(a=1)])).hex()
    done = subprocess.run([sys.executable, "-c", SCRIPT, argument], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for library in ("numpy", "pandas", "polars", "pyarrow"):
        assert f"this value needs {library}" in done.stdout
    assert "<ndarray float64 (3,) 24 B>" in done.stdout and "Attr(a=1, _hidden=None)" in done.stdout


MAIN = """
import sys, dataclasses, pathlib
from durable.codec import decode, encode
@dataclasses.dataclass
class P:
    x: int
if sys.argv[1] == "write":
    pathlib.Path(sys.argv[2]).write_bytes(encode(P(3)))
else:
    value = decode(pathlib.Path(sys.argv[2]).read_bytes())
    assert type(value) is P and value.x == 3
"""


@pytest.mark.parametrize("package", [False, True])
def test_a_class_of_the_script_is_found_by_every_way_to_run_it(tmp_path, package):
    if package:
        (tmp_path / "job").mkdir()
        (tmp_path / "job" / "__init__.py").write_text("")
        (tmp_path / "job" / "__main__.py").write_text(MAIN)
        runs = [["-m", "job"], ["-m", "job"], ["job"]]
    else:
        (tmp_path / "job.py").write_text(MAIN)
        runs = [["job.py"], ["-m", "job"], [str(tmp_path / "job.py")]]
    root = str(pathlib.Path(__file__).parent.parent)
    for run, mode in zip(runs, ["write", "read", "read"], strict=True):
        command = [sys.executable, *run, mode, str(tmp_path / "payload")]
        env = {"PYTHONPATH": root, "PATH": ""}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr


@given(st.binary(max_size=60))
@settings(max_examples=500, deadline=None)
def test_random_bytes_are_corrupt_or_a_value(data):
    only_our_errors(data)


def only_our_errors(data):
    for read in (decode, decode_inert, summary):
        try:
            read(data)
        except CorruptPayload:
            pass
        except UnresolvedClass:
            assert read is decode


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_payloads_are_corrupt_or_another_value(data):
    payload = bytearray(encode(data.draw(st.sampled_from(TABLE))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] ^= 1 << data.draw(st.integers(0, 7))
    only_our_errors(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    only_our_errors(bytes(payload))


@given(st.integers(-128, 127), st.binary(max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_extension_with_any_payload(code, data):
    only_our_errors(msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data)))


@given(
    st.integers(1, 110), st.recursive(st.none() | st.integers(-9, 2**63) | st.text(max_size=4), st.lists, max_leaves=6)
)
@settings(max_examples=500, deadline=None)
def test_any_extension_with_wrong_parts(code, parts):
    only_our_errors(msgspec.msgpack.encode(msgspec.msgpack.Ext(code, msgspec.msgpack.encode(parts))))


@pytest.mark.parametrize("value", TABLE, ids=label)
def test_every_truncation_is_corrupt(value):
    payload = encode(value)
    for end in range(min(len(payload), 200)):
        with pytest.raises(CorruptPayload):
            decode(payload[:end])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        b"\x01\x01",
        b"\xd4\x7f\x00",
        b"\xdd\x00\xff\xff\xff" * 50,
    ],
)
def test_claims_larger_than_the_payload_are_corrupt(payload):
    for read in (decode, decode_inert):
        with pytest.raises(CorruptPayload):
            read(payload)
    only_our_errors(payload)


EVIL = "E\x1b[31m\nvil\u202e.C\x07"


@pytest.mark.parametrize(
    "code, parts",
    [
        (15, ["m", EVIL, EVIL]),
        (16, ["m", EVIL, {EVIL: EVIL}, []]),
        (17, [EVIL, EVIL, {EVIL: 1}]),
        (18, [EVIL, [1], "C", b"1"]),
        (19, [EVIL, b"1"]),
        (25, [EVIL, EVIL, EVIL, {}]),
        (25, [EVIL, EVIL, "", {"args": [EVIL]}]),
        (36, [EVIL, EVIL]),
        (37, EVIL),
        (38, [EVIL, [1]]),
        (38, [EVIL, [1], b"x" * 5000]),
        (39, [EVIL, [1], b"", b"x" * 5000]),
        (40, [EVIL, [1], EVIL, b"", b"x"]),
        (18, [EVIL, [1], "C", b"x" * 5000]),
        (100, [EVIL, b"x" * 16, 5]),
        (101, [EVIL, EVIL]),
        (102, [EVIL, EVIL]),
        (105, [EVIL, EVIL, EVIL]),
        (106, [EVIL, EVIL, EVIL]),
        (107, [EVIL, EVIL, [1], []]),
    ],
)
def test_nothing_recorded_can_move_a_terminal(code, parts):
    payload = msgspec.msgpack.encode(msgspec.msgpack.Ext(code, msgspec.msgpack.encode(parts)))
    assert summary(payload, 200).isprintable()
    assert repr(decode_inert(payload)).isprintable()
    assert summary(msgspec.msgpack.encode([EVIL, {EVIL: EVIL.encode()}]), 200).isprintable()


def test_a_line_costs_the_same_for_a_big_payload():
    payload = encode({"a": ["x" * 10, (1, Point(1))] * 300_000, "b": b"x" * 10_000_000, "c": "y" * 10_000_000})
    took = []
    for _ in range(5):  # a busy machine makes one of them slow
        begun = time.process_time()
        line = summary(payload, 80)
        took.append(time.process_time() - begun)
    assert min(took) < 0.05 and len(line) <= 80 and line.startswith("{'a': ['xxxxxxxxxx', (1, Point(x=1, y=0)), 'xxx")
    assert summary(encode(["y" * 10_000_000])).startswith("['yyyy")
    assert summary(encode({"b": b"x" * 10_000_000})) == "{'b': <bytes 10 MB>}"


@pytest.mark.parametrize("payload", [b"", b"\x01\x01", b"\xc1", b"\x92\x01", b"\xa2a", b"\xd4\x7f\x00"])
def test_a_line_of_what_is_no_payload_is_corrupt(payload):
    with pytest.raises(CorruptPayload):
        summary(payload)


def test_nested_extensions_are_bounded():
    payload = b"\x90"
    for _ in range(300):
        payload = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\x91" + payload))
    with pytest.raises(CorruptPayload, match="deep"):
        decode(payload)
    with pytest.raises(CorruptPayload, match="deep"):
        decode_inert(payload)
