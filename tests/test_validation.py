"""What annotations make of a flow's arguments: the rules of `durable.validation`, one by one."""
# ruff: noqa: DTZ001, PYI061, UP006, UP007, UP045  # naive times and the older ways to write a type are what is tested

from __future__ import annotations

import collections
import enum
import functools
import inspect
import typing
from collections import abc, deque
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union
from uuid import UUID

import annotated_types
import attrs
import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from durable import ParameterTypeError, flow
from durable.validation import Validator

T = TypeVar("T")
UserId = NewType("UserId", int)


class Colour(enum.Enum):
    RED = "red"
    ODD = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)


@dataclass
class Other:
    x: int
    tags: list[str] = field(default_factory=list)


@dataclass
class Checked:
    n: int

    def __post_init__(self):
        if self.n < 0:
            raise ValueError("no negatives")


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True):
    name: str


@attrs.define
class Attributed:
    n: int


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Needed(TypedDict):
    depth: int
    why: typing_extensions.NotRequired[str]


class Options(Needed, total=False):
    name: str


class Model(pydantic.BaseModel):
    n: int
    when: date | None = None


class Holder(msgspec.Struct):
    model: Model
    folder: Path


class Plain:
    """An ordinary class."""


class Proto(typing.Protocol):
    def method(self): ...


class Text(str):
    __slots__ = ()


UTC = timezone.utc
SOME_ID = UUID(int=5)


def checked(annotation, value):
    """What becomes of a value for a parameter with that annotation."""

    def function(it):
        """Has one parameter."""

    function.__annotations__ = {"it": annotation}
    function.__signature__ = None
    del function.__signature__
    validator = Validator(function, "function (file.py:1)", inspect.signature(function))
    (args, kwargs) = validator((value,), {})
    (by_name, named) = validator((), {"it": value})
    assert kwargs == {} == dict.fromkeys(by_name)
    again = named["it"]
    assert type(again) is type(args[0])
    return args[0]


def refused(annotation, value):
    with pytest.raises(ParameterTypeError) as caught:
        checked(annotation, value)
    assert "SECRET" not in str(caught.value)
    return caught.value


def numbered(cases):
    """Names for test cases that are the same in every process."""
    return [f"{i} {case[0]}"[:60] for i, case in enumerate(cases)]


CONVERTED = [
    (int, "5", 5),
    (int, 5.0, 5),
    (int, np.int64(5), 5),
    (float, 5, 5.0),
    (float, "5.5", 5.5),
    (float, np.float32(0.5), 0.5),
    (bool, "true", True),
    (bool, 1, True),
    (bool, np.bool_(True), True),
    (bytes, "é", "é".encode()),
    (bytearray, "a", bytearray(b"a")),
    (date, "2026-11-25", date(2026, 11, 25)),
    (datetime, "2026-11-25T10:00:00Z", datetime(2026, 11, 25, 10, tzinfo=UTC)),
    (datetime, "2026-11-25T10:00:00", datetime(2026, 11, 25, 10)),
    (time, "10:00:00", time(10)),
    (timedelta, "PT5S", timedelta(seconds=5)),
    (Decimal, "1.50", Decimal("1.50")),
    (UUID, str(SOME_ID), SOME_ID),
    (Path, "a/b", Path("a/b")),
    (PurePosixPath, "a/b", PurePosixPath("a/b")),
    (Colour, "red", Colour.RED),
    (Colour, (1, 2), Colour.ODD),
    (Level, 1, Level.LOW),
    (Level, "1", Level.LOW),
    (UserId, "5", 5),
    (list[int], ("1", 2), [1, 2]),
    (list[int], {"1": 0}.keys(), [1]),
    (list[int], (n for n in "12"), [1, 2]),
    (list, (1, "a"), [1, "a"]),
    (tuple, [1, "a"], (1, "a")),
    (tuple[int, ...], ["1", "2"], (1, 2)),
    (tuple[int, str], ["1", "2"], (1, "2")),
    (tuple[int, str], ("1", "2"), (1, "2")),
    (set[int], ["1", 1], {1}),
    (frozenset[int], {"1"}, frozenset({1})),
    (deque[int], deque(["1"], maxlen=3), deque([1], maxlen=3)),
    (abc.Sequence[int], ("1",), (1,)),
    (abc.Sequence[int], deque(["1"]), deque([1])),
    (abc.Iterable[int], ["1"], [1]),
    (abc.Collection[int], {"1"}, {1}),
    (abc.Set[int], ["1"], {1}),
    (typing.List[int], ["1"], [1]),
    (dict[str, int], {"a": "1", "b": 2}, {"a": 1, "b": 2}),
    (dict[int, Any], {"1": "1"}, {1: "1"}),
    (abc.Mapping[str, date], {"a": "2026-11-25"}, {"a": date(2026, 11, 25)}),
    (dict[str, list[tuple[int, float]]], {"a": [["1", 2]]}, {"a": [(1, 2.0)]}),
    (Point, {"x": "1", "tags": ("a",)}, Point(1, ["a"])),
    (list[Point], [{"x": 1}, Point(2)], [Point(1), Point(2)]),
    (Cat, {"type": "Cat", "name": "Tom"}, Cat("Tom")),
    (Attributed, {"n": "1"}, Attributed(1)),
    (Pair, ["1"], Pair(1)),
    (Options, {"depth": "1", "more": "x"}, {"depth": 1, "more": "x"}),
    (Optional[int], "5", 5),
    (Union[int, None], "5", 5),
    (int | date, "2026-11-25", date(2026, 11, 25)),
    (float | int, "5", 5.0),
    (list[int] | int, ("1",), [1]),
    (list[int] | dict[str, int], {"a": "1"}, {"a": 1}),
    (Cat | Dog, {"type": "Dog", "name": "Rex"}, Dog("Rex")),
    (Cat | Dog | None, {"type": "Dog", "name": "Rex"}, Dog("Rex")),
    (Point | int, {"x": "1"}, Point(1)),
    (Plain | int, "5", 5),
    (Annotated[int, msgspec.Meta(ge=1)], "5", 5),
    (Annotated[int, "documentation"], "5", 5),
    (Annotated[list[int], msgspec.Meta(max_length=2)], ["1"], [1]),
    (Annotated[int, pydantic.Field(ge=1)], "5", 5),
    (Annotated[int, annotated_types.Gt(1)], "5", 5),
    (Annotated[str, pydantic.AfterValidator(str.upper)], "a", "A"),
    (Model, {"n": "1", "when": "2026-11-25"}, Model(n=1, when=date(2026, 11, 25))),
    (list[Model], [{"n": 1}], [Model(n=1)]),
    (dict[str, Model], {"a": {"n": 1}}, {"a": Model(n=1)}),
    (Model | None, {"n": 1}, Model(n=1)),
    (Model | int, "5", 5),
    (pydantic.SecretStr, "a", pydantic.SecretStr("a")),
    (Holder, {"model": {"n": "1"}, "folder": "a"}, Holder(Model(n=1), Path("a"))),
]


@pytest.mark.parametrize(("annotation", "value", "made"), CONVERTED, ids=numbered(CONVERTED))
def test_a_value_is_made_what_its_annotation_says(annotation, value, made):
    if isinstance(value, abc.Iterator):
        value = list(value).__iter__()

        def function(it: annotation): ...

        function.__annotations__ = {"it": annotation}
        found = Validator(function, "f", inspect.signature(function))((value,), {})[0][0]
    else:
        found = checked(annotation, value)
    assert found == made
    assert type(found) is type(made)
    assert repr(found) == repr(made)
    if annotation is not abc.Iterable[int]:
        assert checked(annotation, found) is found, "what came of it is what the annotation says"


UNCHANGED = [
    (int, True),
    (int, Level.LOW),
    (int, 2**80),
    (float, float("nan")),
    (str, ""),
    (str, Text("a")),
    (date, datetime(2026, 1, 1)),
    (datetime, pd.Timestamp(0)),
    (Path, Path("a")),
    (Colour, Colour.ODD),
    (list, [1, "a"]),
    (list[int], [1, 2]),
    (list[int], []),
    (list[Any], [1, "a"]),
    (list[T], [1, "a"]),
    (list[list[int]], [[1], [2]]),
    (list[Plain], ["no", "matter"]),
    (tuple, (1, "a")),
    (tuple[int, str], (1, "a")),
    (tuple[()], ()),
    (dict[str, int], {"a": 1}),
    (dict[str, int], collections.defaultdict(int, a=1)),
    (dict[str, int], collections.OrderedDict(a=1)),
    (abc.Mapping[str, int], collections.ChainMap({"a": "not looked into"})),
    (abc.Sequence[int], range(3)),
    (abc.Sequence[str], "abc"),
    (abc.Iterable[int], iter([1, 2])),
    (Point, Point("not looked into")),
    (list[Point], [Point(1)]),
    (Cat, Cat("Tom")),
    (Pair, Pair(1)),
    (Options, {"depth": 1, "more": 2}),
    (Optional[int], None),
    (int | str, "5"),
    (int | T, "5"),
    (Union[int, Any], "5"),
    (Proto | int, "no instance, nor an int"),
    (str | int, 5),
    (Optional[list[int]], [1]),
    (Point | Other, {"x": 1}),
    (Plain | int, "five"),
    (Plain | None, 5),
    (Literal["a", 1, None], 1),
    (Literal["a", 1, None], None),
    (Literal[Colour.RED], Colour.RED),
    (Annotated[str, msgspec.Meta(min_length=1)], Text("a")),
    (Annotated[list[int], msgspec.Meta(min_length=1)], [1]),
    (Annotated[list[int], pydantic.Field(min_length=1)], [1]),
    (Model, Model(n=1)),
    (list[Model], [Model(n=1)]),
    (Model | None, Model(n=1)),
    (pydantic.SecretStr, pydantic.SecretStr("a")),
    (Any, "a"),
    (object, "a"),
    (T, "a"),
    (Plain, "left alone"),
    (complex, "left alone"),
    (np.ndarray, [1]),
    (pd.DataFrame, [1]),
    (abc.Callable[[int], int], "left alone"),
    (type[int], "left alone"),
    (collections.defaultdict[str, list[int]], {"a": "left alone"}),
    ("Nowhere", "a"),
    ("list[Nowhere]", ["a"]),
    ("not an annotation", "a"),
    ("1 / 0", "a"),
    (5, "a"),
    (inspect.Parameter.empty, "a"),
]


@pytest.mark.parametrize(("annotation", "value"), UNCHANGED, ids=numbered(UNCHANGED))
def test_what_fits_already_or_nobody_understands_is_the_same_object(annotation, value):
    assert checked(annotation, value) is value


REFUSED = [
    (int, "five", "expected int, found str"),
    (int, 5.5, "expected int, found float"),
    (int, None, "expected int, found NoneType"),
    (int, [1], "expected int, found list"),
    (float, True, "expected float, found bool"),
    (str, 5, "expected str, found int"),
    (str, b"a", "expected str, found bytes"),
    (date, "yesterday", "expected datetime.date, found str"),
    (Colour, "blue", "expected test_validation.Colour, found str"),
    (Path, 5, ".Path, found int"),
    (list[int], [1, "x"], "parameter it[1]: expected int, found str"),
    (list[int], "12", "expected list[int], found str"),
    (list[int], {1, 2}, "pass sorted(...)"),
    (tuple[int, int], (1,), "with 1 elements"),
    (tuple[int, int], {1, 2}, "pass sorted(...)"),
    (dict[str, int], {"a": "x"}, "parameter it['a']: expected int, found str"),
    (dict[str, int], [("a", 1)], "expected dict[str, int], found list"),
    (dict[int, int], {"1": 1, 1: 2}, "two keys become one"),
    (dict[list[int], int], {(1,): 1}, "cannot be hashed"),
    (set[list[int]], [[1]], "cannot be hashed"),
    (set[int], {"x"}, "parameter it[...]: expected int"),
    (dict[str, list[int]], {"a": [0, None]}, "parameter it['a'][1]: expected int, found NoneType"),
    (Point, {"tags": []}, "Object missing required field `x`"),
    (Point, {"x": "one"}, "at `$.x`"),
    (Point, Other(1), "expected test_validation.Point, found test_validation.Other"),
    (Checked, {"n": -1}, "found dict (no negatives)"),
    (Cat | Dog, {"type": "Cow", "name": "Elsa"}, "found dict"),
    (Cat | Dog, {"name": "Elsa"}, "found dict"),
    (Options, {"name": "a"}, "depth"),
    (Options, {"depth": "a"}, "parameter it['depth']: expected int, found str"),
    (int | date, "five", "expected int | datetime.date, found str"),
    (Point | Other, {"y": 1}, "found dict"),
    (Literal["a", 1], "b", "expected Literal['a', 1], found str"),
    (Literal[1], True, "expected Literal[1], found bool"),
    (Literal[Colour.RED], "SECRET", "none of these"),
    (Annotated[int, msgspec.Meta(ge=1)], "0", "`int` >= 1"),
    (Annotated[int, msgspec.Meta(ge=1)], 0, "`int` >= 1"),
    (Annotated[str, msgspec.Meta(pattern="^a")], Text("b"), "matching regex"),
    (Annotated[int, pydantic.Field(ge=1)], 0, "greater than or equal to 1"),
    (Model, {"n": "SECRET"}, "['n'] Input should be a valid integer"),
    (Model, 5, "expected test_validation.Model, found int"),
    (list[Model], [{}], "parameter it[0]: expected test_validation.Model, found dict"),
    (Holder, {"model": {"n": "SECRET"}, "folder": "a"}, "expected test_validation.Model"),
]


@pytest.mark.parametrize(("annotation", "value", "told"), REFUSED, ids=numbered(REFUSED))
def test_what_cannot_be_made_to_fit_is_refused_and_its_place_is_told_but_not_the_value(annotation, value, told):
    error = refused(annotation, value)
    assert told in str(error)
    assert str(error).startswith("function (file.py:1): parameter it")
    assert error.__cause__ is None
    assert error.__suppress_context__


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)
LEAVES = st.sampled_from([int, float, str, bool, bytes, date, datetime, None, Any, Plain, Point, Cat, Colour, Decimal])
ANNOTATIONS = st.recursive(
    LEAVES,
    lambda inner: (
        inner.map(lambda a: list[a])
        | inner.map(lambda a: tuple[a, ...])
        | inner.map(lambda a: set[a])
        | st.tuples(inner, inner).map(lambda two: dict[two])
        | st.tuples(inner, inner).map(lambda two: Union[two])
        | st.tuples(inner, inner).map(lambda two: tuple[two])
    ),
    max_leaves=5,
)


def equal(one, other):
    return one == other or repr(one) == repr(other)  # NaN


@given(annotation=ANNOTATIONS, value=VALUES)
def test_only_a_refusal_is_raised_and_what_was_made_fits_as_it_is(annotation, value):
    """Nothing else is raised whatever meets what; converting twice is converting once."""
    before = repr(value)
    try:
        made = checked(annotation, value)
    except ParameterTypeError:
        made = value
    else:
        assert checked(annotation, made) is made
    assert repr(value) == before, "the caller's value is not changed"


@given(value=VALUES)
def test_what_pydantic_takes_strictly_passes_unchanged(value):
    """Pydantic's strict mode is another's idea of "already is"."""
    for annotation in (list[int], dict[str, Any], tuple[str, float], Optional[list[str]], int | str, bytes, datetime):
        try:
            taken = pydantic.TypeAdapter(annotation).validate_python(value, strict=True)
        except pydantic.ValidationError:
            continue
        if repr(taken) == repr(value):
            assert checked(annotation, value) is value


def test_every_kind_of_parameter_is_looked_at():
    def function(a: int, /, b: int, *rest: int, c: int, **more: int): ...

    validator = Validator(function, "f", inspect.signature(function))
    assert validator(("1", "2", "3", "4"), {"c": "5", "a": "6", "z": "7"}) == (
        (1, 2, 3, 4),
        {"c": 5, "a": 6, "z": 7},
    )
    for args, kwargs, told in (
        (("x", 2), {"c": 5}, "parameter a:"),
        ((1,), {"b": "x", "c": 5}, "parameter b:"),
        ((1, 2, 3, "x"), {"c": 5}, "parameter rest[1]:"),
        ((1, 2), {"c": "x"}, "parameter c:"),
        ((1, 2), {"c": 5, "a": "x"}, "parameter more['a']:"),
    ):
        with pytest.raises(ParameterTypeError, match=told.replace("[", r"\[")):
            validator(args, kwargs)


def test_one_annotation_that_leads_nowhere_does_not_take_the_others_along():
    def function(a: Nowhere, b: int, c: list[Nowhere], d: "1 +", *e: Nowhere): ...  # noqa: F722, F821, UP037

    assert Validator(function, "f", inspect.signature(function))(("1", "2", ["3"], 4, "5"), {}) == (
        ("1", 2, ["3"], 4, "5"),
        {},
    )


def test_references_are_resolved_at_the_first_call_also_to_what_is_closed_over():
    class Local(msgspec.Struct):
        n: int

    @flow
    def later(a: Later, b: Local):  # noqa: F821
        return a, b, Local

    globals()["Later"] = int
    try:
        args, _ = later.definition.accepted(("5", {"n": 1}), {})
    finally:
        del globals()["Later"]
    assert args == (5, Local(1))


def test_wrapped_functions_partials_and_callable_objects_are_understood():
    def inner(a: int, b: int = 0): ...

    @functools.wraps(inner)
    def wrapper(*args, **kwargs): ...

    class Callable:
        def __call__(self, a: int): ...

    for function in (wrapper, functools.partial(inner, b=2), Callable()):
        assert Validator(function, "f", inspect.signature(function))(("1",), {}) == ((1,), {})


def test_types_that_contain_themselves_end():
    namespace = {"TypedDict": TypedDict}
    exec("class Node(TypedDict):\n    value: int\n    next: 'Node'", namespace)  # noqa: S102
    node = namespace["Node"]
    node.__module__ = __name__
    globals()["Node"] = node
    try:
        assert checked(node, {"value": "1", "next": {"value": "1"}}) == {"value": 1, "next": {"value": "1"}}
    finally:
        del globals()["Node"]


@pytest.mark.skipif(not hasattr(typing, "TypeAliasType"), reason="type statements came with Python 3.12")
def test_type_aliases_are_looked_through():
    namespace = {}
    exec("type Days = list[int]\ntype Json = dict[str, Json] | int", namespace)  # noqa: S102
    assert checked(namespace["Days"], ["1"]) == [1]
    assert checked(namespace["Json"], {"a": {"b": "1"}}) == {"a": {"b": "1"}}


def test_a_default_is_never_converted_nor_given_explicitly():
    sentinel = Plain()

    def function(a: int = None, b: int = sentinel): ...

    validator = Validator(function, "f", inspect.signature(function))
    assert validator((None,), {"b": sentinel}) == ((None,), {"b": sentinel})
    assert validator((), {}) == ((), {})


def test_annotations_are_compiled_once(monkeypatch):
    evaluated = []
    real = typing.get_type_hints
    monkeypatch.setattr(typing, "get_type_hints", lambda *a, **k: evaluated.append(a) or real(*a, **k))

    @flow
    def job(a: int): ...

    assert evaluated == []
    for _ in range(3):
        job.definition.accepted(("1",), {})
    assert len(evaluated) == 1
