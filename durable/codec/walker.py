"""The walk: from any Python value to one msgspec can write without changing its meaning.

msgspec alone silently turns a tuple into a list, an enum into its value, a dataclass into a dict. So before it sees a
value, every part that is not exactly native to MessagePack is swapped for an `Ext`. The rules:

1. Dispatch is by exact type, ``type(value)``: a subclass without a rule of its own is refused, never flattened.
2. Copy on write: an all-native tree is handed over as it is, and a flat list is checked at C speed.
3. Two things native types cannot hold, integers beyond 64 bits and lone surrogates, are left to msgspec to stumble on;
   the caller then walks again with a *careful* walker, so that the common case never pays for them.
4. A refusal travels up as `Refused`, collecting the path on its way; only the faces turn it into a public error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import AsyncGeneratorType, BuiltinFunctionType, CoroutineType, FunctionType, MethodType, NoneType
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec.msgpack import Ext

from durable.codec.extensions import DICT
from durable.names import qualified_name

MAX_DEPTH = 200
LEAF_LIMIT = 1024  # bytes; a longer leaf is a digest in the canonical form
NATIVE: frozenset[type] = frozenset({NoneType, bool, int, float, str, bytes})
CAREFUL_NATIVE: frozenset[type] = frozenset({NoneType, bool, float, bytes})

Handler = Callable[[Any, "Walker", int], Any]

F = TypeVar("F", bound=Callable[..., Any])


def per_class(rule: F) -> F:
    """Remember what `rule` says of each class (its only argument); forget old classes rather than keep them all."""
    return lru_cache(maxsize=1024)(rule)  # type: ignore[return-value]  # the same signature, and lru_cache loses it


_ENCODER = msgspec.msgpack.Encoder()
pack = _ENCODER.encode
PATH_TEXT = 40
_WRITTEN_OUT = 1024  # bits of an integer: Python refuses to write out long ones


class Refused(Exception):
    """A value without a rule. Internal: the faces turn it into `NotSerializable` or `Unhashable`.

    Args:
        value: what was refused; only its type is kept.
        reason: why, as a clause without advice.
        advice: what to do, when the face's general advice does not fit.
    """

    def __init__(self, value: object, reason: str, advice: str | None = None) -> None:
        super().__init__(reason)
        # By its type alone: an object may raise from anything it is asked.
        self.type_name = qualified_name(value if issubclass(type(value), type) else type(value))
        self.reason = reason
        self.advice = advice
        self.steps: list[str] = []
        self.owners: list[object] = []

    def within(self, step: str, owner: object) -> None:
        """Note that this happened in `owner`, one `step` (as Python would write it) down."""
        self.steps.append(step)
        self.owners.append(owner)

    def located(self, root: str) -> tuple[str, str]:
        """The path from `root` and the reason; a value that contains itself is told as the cycle it is."""
        steps, owners = self.steps[::-1], self.owners[::-1]
        if isinstance(self, TooDeep):
            seen: dict[int, int] = {}
            for position, owner in enumerate(owners):
                first = seen.setdefault(id(owner), position)
                if first != position:
                    self.type_name = qualified_name(owner)
                    back = root + "".join(steps[:first])
                    return root + "".join(steps[:position]), f"a cycle: it is {back} again"
            return root + "".join(steps[:8]) + "...", self.reason
        return root + "".join(steps), self.reason


class TooDeep(Refused):
    """Nested beyond `MAX_DEPTH`, which a cycle always is."""


def as_refused(error: Exception, value: object) -> Refused:
    """Whatever ended a walk over `value`, as a refusal of all of it."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RecursionError):
        return Refused(value, "it is nested too deeply for the call stack it was met on")
    return Refused(value, f"it cannot be read ({type(error).__name__}: {str(error)[:200]})")


def cause_of(error: Exception) -> Exception | None:
    """What a public error is raised from: nothing for a refusal, which says it all."""
    return None if isinstance(error, Refused) else error


def step_of(key: object) -> str:
    """A subscript with `key`, as Python would write it, of bounded length."""
    if type(key) in NATIVE and not (type(key) is int and key.bit_length() > _WRITTEN_OUT):
        text = repr(key[:PATH_TEXT] if isinstance(key, str | bytes) else key)
        return f"[{text[:PATH_TEXT]}]"
    return f"[<{qualified_name(key)}>]"


class Walker:
    """One walk over one value. A subclass says which rules it follows.

    Args:
        careful: also look at every integer and string.
    """

    __slots__ = ("careful", "names", "native")

    handlers: ClassVar[dict[type, Handler]] = {}
    plain: ClassVar[frozenset[type]] = NATIVE
    plain_when_careful: ClassVar[frozenset[type]] = CAREFUL_NATIVE

    def __init__(self, *, careful: bool = False) -> None:
        self.careful = careful
        self.native = self.plain_when_careful if careful else self.plain
        self.names: dict[type, tuple[str, str]] = {}

    def to_careful(self) -> Walker:
        """A walker like this one that also looks at every integer and string."""
        return self if self.careful else type(self)(careful=True)

    def find(self, cls: type) -> Handler | None:
        """The rule for a class that is not in `handlers`, or None."""
        raise NotImplementedError

    def name(self, cls: type) -> tuple[str, str]:
        """The module and qualified name that stand for a class; raises Refused for one that must not be named."""
        raise NotImplementedError

    def named(self, cls: type) -> tuple[str, str]:
        """`name`, asked once a walk."""
        found = self.names.get(cls)
        if found is None:
            found = self.names[cls] = self.name(cls)
        return found

    def walk(self, value: Any, depth: int) -> Any:
        """`value` with every non-native part swapped; raises Refused."""
        cls = type(value)
        if cls in self.native:
            return value
        if depth > MAX_DEPTH:
            raise TooDeep(value, f"nested more than {MAX_DEPTH} levels deep")
        # The two commonest are no handlers: 200 levels must fit the call stack, and every frame counts.
        if cls is dict:
            return self.mapping(value, depth + 1)
        if cls is list:
            return self.sequence(value, value, depth + 1)
        handler = self.handlers.get(cls) or self.find(cls)
        if handler is None:
            raise Refused(value, why_refused(value))
        return handler(value, self, depth + 1)

    def sequence(self, value: Iterable[Any], owner: object, depth: int) -> Any:
        """The elements in order; the owner's own list when nothing had to be swapped."""
        if self.native.issuperset(map(type, value)):
            return value if type(value) is list else list(value)
        out: list[Any] = []
        append, native, walk = out.append, self.native, self.walk
        i = 0
        try:
            for i, item in enumerate(value):  # noqa: B007  # read when a part is refused
                append(item if type(item) in native else walk(item, depth))
        except Refused as refused:
            refused.within(f"[{i}]", owner)
            raise
        return out

    def mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        """A dict's items in order: a native map, or a DICT where a key is not native."""
        native = self.native
        if not self.plain_keys(value, depth):
            return extension(DICT, self.flat(value, depth))
        if native.issuperset(map(type, value.values())):
            return value if type(value) is dict else dict(value)
        out = {}
        walk = self.walk
        key: Any = None
        try:
            for key, item in value.items():
                out[key] = item if type(item) in native else walk(item, depth)
        except Refused as refused:
            refused.within(step_of(key), value)
            raise
        return out

    def plain_keys(self, value: Mapping[Any, Any], depth: int) -> bool:
        """Whether every key is native to MessagePack as it is."""
        if self.native.issuperset(map(type, value)):
            return True
        # Only an Ext cannot be a key, and the careful walk leaves most strings and integers as they are.
        return self.careful and NATIVE.issuperset(map(type, value)) and all(self.walk(k, depth) is k for k in value)

    def flat(self, value: Mapping[Any, Any], depth: int) -> list[Any]:
        """``[key, value, key, value, ...]`` in order."""
        out: list[Any] = []
        step = ""
        try:
            for i, (key, item) in enumerate(value.items()):
                step = f".keys()[{i}]"
                out.append(self.walk(key, depth))
                step = step_of(key)
                out.append(self.walk(item, depth))
        except Refused as refused:
            refused.within(step, value)
            raise
        return out

    def elements(self, value: Iterable[Any], depth: int) -> Any:
        """A set's elements."""
        if self.native.issuperset(map(type, value)):
            return list(value)
        try:
            return [self.walk(item, depth) for item in value]
        except Refused as refused:
            refused.within("[...]", value)
            raise

    def fields(self, items: Iterable[tuple[str, Any]], owner: object, depth: int) -> dict[str, Any]:
        """Named parts of an object, in order."""
        out = dict(items)
        native, walk = self.native, self.walk
        if native.issuperset(map(type, out.values())):
            return out
        name = ""
        try:
            for name, item in out.items():
                if type(item) not in native:
                    out[name] = walk(item, depth)
        except Refused as refused:
            refused.within(f".{name}", owner)
            raise
        return out

    def attributes(self, state: dict[str, Any] | None, owner: object, depth: int) -> Any:
        """Undeclared named parts of an object, whose order is only that of their assignment."""
        return None if state is None else self.fields(state.items(), owner, depth)

    def given(self, names: Iterable[str]) -> Any:
        """Which fields of a pydantic model were given, not defaulted."""
        return sorted(names)

    def part(self, value: Any, step: str, owner: object, depth: int) -> Any:
        """One part of an object, `step` below it."""
        try:
            return self.walk(value, depth)
        except Refused as refused:
            refused.within(step, owner)
            raise


def extension(code: int, payload: Any) -> Ext:
    """An Ext whose payload is MessagePack itself."""
    return Ext(code, packed(payload))


def bulk_extension(code: int, head: list[Any], data: Any) -> Ext:
    """An Ext whose payload is the list ``[*head, data]``, where `data` is a large buffer, copied once.

    The same bytes as `extension` makes, at a tenth of the cost for 10 MB: msgspec grows its buffer as it goes.
    """
    size = len(data)
    if size < 1 << 16:
        return extension(code, [*head, data])
    if size >= 1 << 32:
        raise Refused(data, "more than 4 GB in one piece do not fit one record")
    lead = bytes([0x91 + len(head)])
    return Ext(code, b"".join([lead, *map(packed, head), b"\xc6" + size.to_bytes(4, "big"), data]))


def packed(payload: Any) -> bytes:
    """msgspec's bytes for a walked value.

    Raises:
        OverflowError, UnicodeEncodeError: to be walked again, carefully.
        Refused: MessagePack has no room for it.
    """
    try:
        return pack(payload)
    except (OverflowError, UnicodeEncodeError):
        raise
    except ValueError as error:
        raise Refused(payload, f"too large for one record ({error})") from error


def why_refused(value: object) -> str:
    """The reason a value has no rule, as a clause. Looks at its type alone."""
    cls = type(value)
    if hasattr(cls, "fileno"):
        return "an open file or connection lives and dies with its process"
    if issubclass(cls, type):
        return "a class is not a value"
    if issubclass(cls, FunctionType | BuiltinFunctionType | MethodType):
        return "a function is code, not a value"
    if issubclass(cls, CoroutineType | AsyncGeneratorType) or hasattr(cls, "__next__"):
        return "it can be run or read only once, so await it or make it a list"
    for base in (dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, complex):
        if issubclass(cls, base):
            return f"a subclass of {base.__name__} that durable has no rule for would come back as something else"
    return "durable has no rule to rebuild it exactly"
