"""Exceptions: recording never fails, rebuilding runs no ``__init__``, and what is missing says so."""

# ruff: noqa: DTZ001, DTZ901, PIE796, PYI024, SLOT000, SLOT002, B904  # naive times and odd classes are the subject

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import pickle
import socket
import sqlite3
import subprocess
import sys
import traceback
import urllib.error

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_codec_support import ARMED, armed

from durable.codec import (
    Unrecorded,
    UnrecordedValue,
    decode,
    decode_exception,
    decode_inert,
    encode,
    encode_exception,
    summary,
)
from durable.errors import CorruptPayload, TaskFailed


class NeedsTwo(Exception):
    def __init__(self, code, *, reason):
        if ARMED:
            raise RuntimeError("__init__ ran")
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class NewToo(ValueError):
    def __new__(cls, *args):
        if ARMED:
            raise RuntimeError("__new__ ran")
        return super().__new__(cls, *args)


class Loud(Exception):
    def __str__(self):
        raise RuntimeError("__str__ raised")


class Slots(Exception):
    __slots__ = ("extra",)


class Guarded(Exception):
    def __setattr__(self, name, value):
        if ARMED:
            raise RuntimeError("__setattr__ ran")
        super().__setattr__(name, value)

    @property
    def args(self):
        raise RuntimeError("the args property ran")


class NotFoundish(FileNotFoundError):
    def __init__(self, name):
        super().__init__(2, "gone", name)
        self.name = name


class Both(KeyError, AttributeError):
    pass


@dataclasses.dataclass
class Data(Exception):
    a: int
    b: list = dataclasses.field(default_factory=list)


class Response:
    def __init__(self):
        self.status_code = 503
        self.socket = socket.socket


class HTTPStatusError(Exception):
    def __init__(self, message, *, request, response):
        super().__init__(message)
        self.request = request
        self.response = response


def raised(exc, cause=None):
    try:
        raise exc from cause
    except BaseException as caught:
        return caught


def unicode_error():
    try:
        b"\xff".decode("ascii")
    except UnicodeDecodeError as error:
        return error


def there_and_back(exc):
    with armed():
        return decode_exception(encode_exception(exc))


def with_field(exc, **fields):
    for name, value in fields.items():
        setattr(exc, name, value)
    return exc


TABLE = [
    ValueError(),
    ValueError("boom"),
    ValueError("a", 1, (2,), {"x": {3}}),
    KeyError("k"),
    Exception("\ud800", 2**80),
    FileNotFoundError(2, "no", "f"),
    PermissionError(13, "no", "a", None, "b"),
    OSError("only text"),
    OSError(5, "io"),
    BlockingIOError(11, "later"),
    unicode_error(),
    UnicodeEncodeError("ascii", "é", 0, 1, "why"),
    StopIteration((1, 2)),
    UnicodeTranslateError("é", 0, 1, "why"),
    SystemExit(3),
    KeyboardInterrupt(),
    ImportError("no", name="n", path="/p"),
    ModuleNotFoundError("no", name="m"),
    SyntaxError("bad", ("f.py", 1, 2, "text", 1, 3)),
    NameError("n", name="who"),
    AttributeError("a", name="attr", obj=3),
    asyncio.CancelledError(),
    TimeoutError(),
    RecursionError("deep"),
    json.JSONDecodeError("bad", "{", 1),
    subprocess.CalledProcessError(3, ["cmd"], b"out"),
    sqlite3.OperationalError("locked"),
    urllib.error.URLError("reason"),
    NeedsTwo(5, reason="why"),
    NewToo(1),
    Slots(1),
    NotFoundish("f"),
    Data(1, [2]),
    Both("x"),
    ZeroDivisionError("division by zero"),
    AssertionError(),
    with_field(Slots(1), extra=(1, 2)),
    UserWarning("w"),
    with_field(ValueError("v"), detail={"a": (1,)}),
    TaskFailed("m.T", "msg", "tb"),
]
FACTS = (
    "errno",
    "strerror",
    "filename",
    "filename2",
    "object",
    "start",
    "end",
    "reason",
    "encoding",
    "name",
    "path",
    "value",
    "code",
    "msg",
    "lineno",
    "offset",
    "text",
    "end_lineno",
    "end_offset",
    "cmd",
    "returncode",
    "output",
    "doc",
    "pos",
    "colno",
    "extra",
    "a",
    "b",
    "detail",
    "obj",
    "type_name",
    "message",
)


@pytest.mark.parametrize("exc", TABLE, ids=lambda e: type(e).__name__)
def test_an_exception_comes_back_with_its_facts(exc):
    again = there_and_back(exc)
    assert type(again) is type(exc)
    assert again.args == exc.args and str(again) == str(exc) and repr(again) == repr(exc)
    for name in FACTS:
        assert getattr(again, name, None) == getattr(exc, name, None), name
    assert again.__cause__ is None and again.__context__ is None and again.__suppress_context__ is False
    assert decode(encode([exc]))[0].args == exc.args
    assert summary(encode_exception(exc)).isprintable()
    assert type(exc).__name__ in repr(decode_inert(encode_exception(exc)))


def test_wrong_guarded_args_are_read_past_the_class():
    again = there_and_back(Guarded("x"))
    assert type(again) is Guarded and BaseException.args.__get__(again) == ("x",)


def test_a_message_that_cannot_be_made_is_no_obstacle():
    again = there_and_back(raised(Loud(7)))
    assert type(again) is Loud and again.args == (7,)
    assert "__str__ raised" in summary(encode_exception(Loud(7)))


def test_the_traceback_comes_along_as_text():
    exc = raised(ValueError("boom"))
    again = there_and_back(exc)
    assert again.__durable_traceback__ == "".join(traceback.format_exception(exc))
    assert "raise exc from cause" in again.__durable_traceback__ and not hasattr(again, "__notes__")
    # A second record of the rebuilt exception, raised again on resume, still tells where it happened first.
    assert there_and_back(raised(again)).__durable_traceback__ == again.__durable_traceback__


def test_a_long_traceback_keeps_head_and_tail():
    exc = raised(ValueError("x" * 1_000_000 + "the end"))
    text = there_and_back(exc).__durable_traceback__
    assert len(text) <= 64 * 1024 and text.startswith("Traceback") and text.endswith("the end\n") and "left out" in text
    assert there_and_back(exc).args == exc.args


def test_notes():
    exc = ValueError("x")
    exc.__notes__ = ["one", "two\ud800"]
    assert there_and_back(exc).__notes__ == ["one", "two\ud800"]


def chain(exc):
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def test_the_chain_is_restored_link_by_link():
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise NeedsTwo(1, reason="r")
        except NeedsTwo as error:
            raise OSError(2, "x", "f") from error
    except OSError as error:
        exc = error
    again = there_and_back(exc)
    assert [type(e) for e in chain(again)] == [FileNotFoundError, NeedsTwo, KeyError]
    assert again.__cause__ is again.__context__ and again.__suppress_context__ is True
    assert again.__cause__.__context__.args == ("first",) and again.__cause__.__suppress_context__ is False


def test_raise_from_none_stays_suppressed():
    try:
        try:
            raise KeyError(1)
        except KeyError:
            raise ValueError(2) from None
    except ValueError as error:
        again = there_and_back(error)
    assert again.__suppress_context__ and again.__cause__ is None and type(again.__context__) is KeyError


def test_a_cause_with_another_context_keeps_both():
    exc = ValueError(1)
    exc.__cause__, exc.__context__ = KeyError("cause"), IndexError("context")
    again = there_and_back(exc)
    assert type(again.__cause__) is KeyError and type(again.__context__) is IndexError


def test_long_and_circular_chains_end():
    first = exc = ValueError(0)
    for i in range(1, 1000):
        exc.__cause__ = ValueError(i)
        exc = exc.__cause__
    again = there_and_back(first)
    assert [e.args[0] for e in chain(again)] == list(range(17))
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a
    again = there_and_back(a)
    assert [e.args for e in chain(again)] == [("a",), ("b",)]
    bushy = ValueError(0)
    for _ in range(40):
        upper = ValueError(1)
        upper.__cause__, upper.__context__ = bushy, ValueError(2)
        bushy = upper
    assert type(there_and_back(bushy)) is ValueError


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ExceptionGroup is builtin from 3.11 on")
def test_groups():
    group = ExceptionGroup("many", [ValueError(1), ExceptionGroup("inner", [NeedsTwo(2, reason="r")])])  # noqa: F821
    again = there_and_back(raised(group))
    assert type(again) is type(group) and again.message == "many" and again.args[0] == "many"
    assert again.exceptions[1].exceptions[0].code == 2 and type(again.exceptions[0]) is ValueError
    wide = BaseExceptionGroup("wide", [KeyboardInterrupt()] + [ValueError(i) for i in range(500)])  # noqa: F821
    found = there_and_back(wide)
    assert type(found) is type(wide) and len(found.exceptions) == 501
    assert type(found.exceptions[0]) is KeyboardInterrupt and isinstance(found.exceptions[-1], TaskFailed)


def test_what_cannot_be_recorded_fails_loudly_when_it_is_used():
    exc = HTTPStatusError("503", request={"url": "u"}, response=Response())
    again = there_and_back(raised(exc))
    assert type(again) is HTTPStatusError and again.request == {"url": "u"} and again.args == ("503",)
    assert isinstance(again.response, Unrecorded)
    assert repr(again.response) == "<unrecorded exception.response: test_codec_exceptions.Response>"
    for use in (lambda: again.response.status_code, lambda: again.response(), lambda: setattr(again.response, "x", 1)):
        with pytest.raises(
            UnrecordedValue, match=r"exception\.response was a test_codec_exceptions\.Response"
        ) as caught:
            use()
        assert isinstance(caught.value, AttributeError)
    assert there_and_back(again).response == again.response
    assert decode(encode(again.response)) == again.response
    assert copy.copy(again.response) == pickle.loads(pickle.dumps(again.response)) == again.response
    assert len({again.response, copy.deepcopy(again.response)}) == 1


def test_an_unrecordable_part_inside_args_is_named_by_its_path():
    again = there_and_back(ValueError("x", {"conn": [Response()]}))
    assert again.args[0] == "x"
    assert repr(again.args[1]) == "<unrecorded exception.args[1]['conn'][0]: test_codec_exceptions.Response>"


def test_an_exception_held_by_an_exception_comes_along():
    exc = ValueError("x")
    exc.inner = KeyError("y")
    exc.itself = exc
    again = there_and_back(exc)
    assert type(again.inner) is KeyError and isinstance(again.itself, Unrecorded)


def gone():
    class Gone(Exception):
        pass

    return Gone


def test_a_class_that_is_gone_is_a_task_failed_with_everything_said():
    exc = raised(gone()("boom", 1), KeyError("why"))
    exc.__notes__ = ["note"]
    again = there_and_back(exc)
    assert type(again) is TaskFailed
    assert again.type_name.endswith("test_codec_exceptions.gone.<locals>.Gone") and again.message == "('boom', 1)"
    assert "raise exc from cause" in again.traceback_text and again.__durable_traceback__ == again.traceback_text
    assert type(again.__cause__) is KeyError and again.__notes__ == ["note"]


def test_a_name_that_is_no_exception_any_more_is_a_task_failed(monkeypatch):
    payload = encode_exception(NeedsTwo(1, reason="r"))
    monkeypatch.setattr(sys.modules[__name__], "NeedsTwo", int)
    assert type(decode_exception(payload)) is TaskFailed


class Hostile(Exception):
    """Raises from everything it can."""

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __reduce__(self):
        raise RuntimeError("__reduce__")


class HostileValue:
    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __eq__(self, other):
        raise RuntimeError("__eq__")

    __hash__ = None

    def __repr__(self):
        raise RuntimeError("__repr__")


class HostileKey(HostileValue):
    __hash__ = object.__hash__


def self_holding():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hostile("x"),
        lambda: ValueError(HostileValue()),
        lambda: with_field(ValueError(), bad=HostileValue()),
        lambda: ValueError(self_holding()),
        lambda: Exception(lambda: 1),
        lambda: with_field(Exception(), c=self_holding()),
        lambda: Loud(HostileValue()),
        lambda: ValueError(b"x" * 10**6),
        lambda: ValueError({HostileKey(): 1}),
    ],
)
def test_recording_never_fails(make):
    exc = make()
    again = decode_exception(encode_exception(exc))
    assert type(again) in (type(exc), TaskFailed)
    encode({"e": exc})
    summary(encode_exception(exc))


def test_recording_never_fails_on_a_full_stack():
    def dive():
        try:
            return dive()
        except RecursionError as error:
            return encode_exception(error)

    assert isinstance(decode_exception(dive()), RecursionError | TaskFailed)


@given(st.lists(st.recursive(st.integers() | st.text() | st.floats(), st.lists, max_leaves=5)))
@settings(deadline=None)
def test_any_arguments(args):
    exc = ValueError(*args)
    assert repr(there_and_back(exc).args) == repr(exc.args)


def test_other_payloads_are_not_exceptions():
    with pytest.raises(CorruptPayload, match="an exception was expected"):
        decode_exception(encode(3))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_corrupt(data):
    exc = copy.copy(ValueError("v")) if data.draw(st.booleans()) else NeedsTwo(1, reason="r")
    payload = bytearray(encode_exception(raised(exc, KeyError("c"))))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for read in (decode_exception, decode_inert, summary):
        try:
            read(bytes(payload))
        except CorruptPayload:
            pass
