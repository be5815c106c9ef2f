"""Instances of named classes: how each becomes an Ext, and back without its constructor.

State is what the class declares (fields), nothing else. An attribute beyond them is refused by name, with two
exceptions that hold no state: the memory of a ``functools.cached_property``, and typing's ``__orig_class__``.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable, Iterable
from types import MemberDescriptorType
from typing import Any

import msgspec

from durable.codec import extensions as x
from durable.codec.classes import kind_of
from durable.codec.walker import Handler, Refused, Walker, extension, per_class
from durable.errors import UnresolvedClass

Resolve = Callable[[str, str, int], Any]
_MISSING = object()
_ATTRS_HASH = "_attrs_cached_hash"
_STATELESS = frozenset({"__orig_class__", _ATTRS_HASH})


@per_class
def declared(cls: Any) -> tuple[str, ...]:
    """The names of a class's fields, in order."""
    if issubclass(cls, msgspec.Struct):
        return tuple(cls.__struct_fields__)
    if issubclass(cls, tuple):
        return tuple(cls._fields)
    if hasattr(cls, "__pydantic_fields__"):
        return tuple(cls.__pydantic_fields__)
    if isinstance(getattr(cls, "__attrs_attrs__", None), tuple):
        return tuple(attribute.name for attribute in cls.__attrs_attrs__)
    return tuple(field.name for field in dataclasses.fields(cls))


@per_class
def _undeclared_slots(cls: type) -> tuple[str, ...]:
    names = set(declared(cls)) | _STATELESS
    return tuple(
        name
        for base in cls.__mro__
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType) and name not in names and not name.startswith("__pydantic_")
    )


@per_class
def _slots(cls: type) -> frozenset[str]:
    """The fields that are kept in slots, not in ``__dict__``."""
    return frozenset(name for name in declared(cls) if isinstance(_static(cls, name), MemberDescriptorType))


def _static(cls: type, name: str) -> Any:
    """What a class holds under a name, without asking a descriptor; `_MISSING` if nothing."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), _MISSING)


def check_no_more(value: Any, state: dict[str, Any]) -> None:
    """Refuse an instance that holds more than its fields."""
    cls = type(value)
    names = declared(cls)
    extra = [name for name in state if name not in names and not _stateless(cls, name)]
    extra += [name for name in _undeclared_slots(cls) if hasattr(value, name)]
    if extra:
        raise Refused(value, f"it holds {extra[0]!r}, which is not one of its declared fields and would be lost")


def _stateless(cls: type, name: str) -> bool:
    if name in _STATELESS:
        return True
    return isinstance(_static(cls, name), functools.cached_property)


def _held(value: Any) -> dict[str, Any]:
    """An instance's fields that have a value, in declaration order."""
    state: dict[str, Any] = getattr(value, "__dict__", None) or {}
    names = declared(type(value))
    if tuple(state) == names and not _undeclared_slots(type(value)):
        return state
    check_no_more(value, state)
    held = {}
    for name in names:
        item = state[name] if name in state else _elsewhere(value, name)
        if item is not _MISSING:
            held[name] = item
    return held


def _elsewhere(value: Any, name: str) -> Any:
    """A field's value where ``__dict__`` has none: in a slot, or the class's own default; `_MISSING` if not set."""
    found = _static(type(value), name)
    if isinstance(found, MemberDescriptorType):
        return found.__get__(value) if hasattr(value, name) else _MISSING
    if hasattr(type(found), "__get__") and hasattr(type(found), "__set__"):
        raise Refused(value, f"its field {name!r} is kept by a {type(found).__name__}, which durable cannot fill again")
    return found


def write_enum(value: enum.Enum, walker: Walker, depth: int) -> Any:
    cls = type(value)
    module, qualname = walker.named(cls)
    if cls.__members__.get(value._name_ or "") is value:
        return extension(x.ENUM, [module, qualname, value._name_])
    if isinstance(value, enum.Flag) and _flag(cls, value._value_) is value:
        return extension(x.FLAG, [module, qualname, walker.walk(value._value_, depth)])
    raise Refused(value, "it is not one of its enumeration's members")


def _flag(cls: Any, value: int) -> Any:
    """A flag's combination, made without the class's own ``_missing_``."""
    found = cls._value2member_map_.get(value)
    if found is not None:
        return found
    base: Any = enum.IntFlag if issubclass(cls, enum.IntFlag) else enum.Flag
    return base._missing_.__func__(cls, value)


def write_fields(value: Any, walker: Walker, depth: int) -> Any:
    """A dataclass or an attrs instance."""
    cls = type(value)
    module, qualname = walker.named(cls)
    held = _held(value)
    names = declared(cls)
    unset = [name for name in names if name not in held] if len(held) < len(names) else []
    fields = walker.fields(held.items(), value, depth)
    return extension(kind_of(cls) or x.DATACLASS, [module, qualname, fields, unset])


def write_namedtuple(value: Any, walker: Walker, depth: int) -> Any:
    cls = type(value)
    module, qualname = walker.named(cls)
    names = declared(cls)
    check_no_more(value, getattr(value, "__dict__", None) or {})
    if len(names) != tuple.__len__(value):
        raise Refused(value, f"it has {tuple.__len__(value)} elements for {len(names)} fields")
    items = zip(names, tuple.__iter__(value), strict=True)
    return extension(x.NAMEDTUPLE, [module, qualname, walker.fields(items, value, depth)])


def write_struct(value: Any, walker: Walker, depth: int) -> Any:
    cls = type(value)
    module, qualname = walker.named(cls)
    if "__post_init__" in dir(cls) and _twin(cls) is None:
        raise Refused(value, "a Struct with both __post_init__ and __init_subclass__ cannot be rebuilt without them")
    check_no_more(value, getattr(value, "__dict__", None) or {})
    held = {name: getattr(value, name, _MISSING) for name in declared(cls)}
    if _MISSING in held.values():
        raise Refused(value, "one of its fields has no value")
    return extension(x.STRUCT, [module, qualname, walker.fields(held.items(), value, depth)])


def write_model(value: Any, walker: Walker, depth: int) -> Any:
    cls = type(value)
    module, qualname = walker.named(cls)
    held = _held(value)
    if len(held) < len(declared(cls)):
        raise Refused(value, "one of its fields has no value")
    fields = walker.fields(held.items(), value, depth)
    parts = [walker.attributes(part, value, depth) for part in (value.__pydantic_extra__, value.__pydantic_private__)]
    return extension(x.MODEL, [module, qualname, fields, *parts, walker.given(value.__pydantic_fields_set__)])


WRITERS: dict[int, Handler] = {
    x.ENUM: write_enum,
    x.DATACLASS: write_fields,
    x.ATTRS: write_fields,
    x.NAMEDTUPLE: write_namedtuple,
    x.STRUCT: write_struct,
    x.MODEL: write_model,
}


@per_class
def _twin(cls: Any) -> Any:
    """The class to construct in place of a Struct class: itself, or a subclass without its ``__post_init__``.

    msgspec has no way to make a Struct without running ``__post_init__``; a subclass with an empty one has the same
    layout, so its instance can become the real one. None where making a subclass would run the user's code.
    """
    if not hasattr(cls, "__post_init__"):
        return cls
    if any("__init_subclass__" in vars(base) for base in cls.__mro__ if base is not object):
        return None
    space = {"__post_init__": lambda _self: None, "__module__": __name__}
    return type(cls)(cls.__name__, (cls,), space)


def same_fields(module: str, qualname: str, recorded: Iterable[str], today: Iterable[str]) -> None:
    """Raise UnresolvedClass, naming the difference, unless a class still has the fields it was recorded with."""
    before, now = tuple(recorded), tuple(today)
    if before == now or set(before) == set(now):
        return
    new = [name for name in now if name not in before]
    gone = [name for name in before if name not in now]
    told = [f"{what} {', '.join(map(repr, names))}" for what, names in (("new", new), ("missing", gone)) if names]
    remedy = "restore the fields, or let the task run again"
    raise UnresolvedClass(module, qualname, f"its fields changed since it was recorded: {'; '.join(told)}; {remedy}")


def read_enum(payload: Any, resolve: Resolve) -> Any:
    module, qualname, name = payload
    cls = resolve(module, qualname, x.ENUM)
    try:
        return cls._member_map_[name]
    except KeyError:
        reason = f"it has no member {name!r} any more (it has {', '.join(list(cls._member_map_)[:8])}); restore it"
        raise UnresolvedClass(module, qualname, reason) from None


def read_flag(payload: Any, resolve: Resolve) -> Any:
    module, qualname, value = payload
    cls = resolve(module, qualname, x.FLAG)
    try:
        found = _flag(cls, value) if issubclass(cls, enum.Flag) else None
    except ValueError:
        found = None
    if type(found) is not cls:
        raise UnresolvedClass(module, qualname, f"it has no combination {value!r} any more; restore its flags")
    return found


def _build(code: int, payload: Any, resolve: Resolve) -> Any:
    module, qualname, fields, unset = payload
    cls = resolve(module, qualname, code)
    same_fields(module, qualname, [*fields, *unset], declared(cls))
    made = object.__new__(cls)
    state: dict[str, Any] = getattr(made, "__dict__", {})
    slots = _slots(cls)
    for name, item in fields.items():
        if name in slots:
            object.__setattr__(made, name, item)
        else:
            state[name] = item
    if code == x.ATTRS and _ATTRS_HASH in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ()):
        object.__setattr__(made, _ATTRS_HASH, None)
    return made


def read_namedtuple(payload: Any, resolve: Resolve) -> Any:
    module, qualname, fields = payload
    cls = resolve(module, qualname, x.NAMEDTUPLE)
    names = declared(cls)
    same_fields(module, qualname, fields, names)
    return tuple.__new__(cls, [fields[name] for name in names])


def read_struct(payload: Any, resolve: Resolve) -> Any:
    module, qualname, fields = payload
    cls = resolve(module, qualname, x.STRUCT)
    same_fields(module, qualname, fields, declared(cls))
    twin = _twin(cls)
    if twin is None:
        raise UnresolvedClass(module, qualname, "it gained __post_init__ and __init_subclass__; it cannot be rebuilt")
    made = twin(**fields)
    if twin is not cls:
        msgspec.structs.force_setattr(made, "__class__", cls)
    return made


def read_model(payload: Any, resolve: Resolve) -> Any:
    module, qualname, fields, extra, private, fields_set = payload
    cls = resolve(module, qualname, x.MODEL)
    same_fields(module, qualname, fields, declared(cls))
    made = object.__new__(cls)
    object.__setattr__(made, "__dict__", fields)
    object.__setattr__(made, "__pydantic_fields_set__", set(fields_set))
    object.__setattr__(made, "__pydantic_extra__", extra)
    object.__setattr__(made, "__pydantic_private__", private)
    return made


CLASS_READERS: dict[int, Callable[[Any, Resolve], Any]] = {
    x.ENUM: read_enum,
    x.FLAG: read_flag,
    x.DATACLASS: lambda payload, resolve: _build(x.DATACLASS, payload, resolve),
    x.ATTRS: lambda payload, resolve: _build(x.ATTRS, payload, resolve),
    x.NAMEDTUPLE: read_namedtuple,
    x.STRUCT: read_struct,
    x.MODEL: read_model,
}
