"""Naming classes in the journal, and finding them again without importing anything.

A class is recorded by module and qualified name. It is looked up among the modules this process has already imported,
in their dictionaries only: a module's ``__getattr__`` could import, so it is never asked.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from typing import Any, TypeVar

import msgspec

from durable.codec import extensions as x
from durable.codec.walker import Refused, per_class
from durable.errors import UnresolvedClass
from durable.names import live_module, main_name, recorded_module

T = TypeVar("T", bound=type)

_registered: dict[tuple[str, str], type] = {}
_HEAP_TYPE = 1 << 9

KINDS = {
    x.ENUM: "an Enum",
    x.FLAG: "a Flag",
    x.EXCEPTION: "an exception",
    x.STRUCT: "a msgspec Struct",
    x.MODEL: "a pydantic model",
    x.ATTRS: "an attrs class",
    x.NAMEDTUPLE: "a NamedTuple",
    x.DATACLASS: "a dataclass",
}


def register(cls: T) -> T:
    """Make a class known by its name, where a look-up in its module would not find it (a local class, say).

    Register it in every process that writes or reads it, before it does. Usable as a decorator.

    Args:
        cls: an Enum, dataclass, NamedTuple, msgspec Struct, attrs class, pydantic model or exception.

    Returns:
        The class itself.

    Raises:
        TypeError: for anything else.
    """
    if not isinstance(cls, type) or kind_of(cls) is None:
        raise TypeError(
            f"durable.register() takes {', '.join(sorted(set(KINDS.values())))}; got {cls!r}. "
            "A plain class has no declared fields to rebuild it from: make it a dataclass."
        )
    _registered[name_of(cls)] = cls
    return cls


def name_of(cls: type) -> tuple[str, str]:
    """The recorded module and the qualified name of a class."""
    return recorded_module(cls.__module__), cls.__qualname__


def find(module: str, qualname: str) -> Any:
    """The object a recorded name stands for now, or None. Registered classes first."""
    found: Any = _registered.get((module, qualname))
    if found is not None:
        return found
    found = _attribute(live_module(module), qualname)
    if found is None and module == main_name():
        # `python -m package` runs package/__main__.py, while `package` itself is imported too.
        found = _attribute(sys.modules.get("__main__"), qualname)
    return found


def _attribute(found: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
        if found is None:
            return None
    return found


def reference(cls: type) -> tuple[str, str]:
    """The recorded module and qualified name, of a class that is found again by them; raises Refused."""
    module, qualname = named = name_of(cls)
    found = find(module, qualname)
    if found is cls:
        return named
    if "<locals>" in qualname:
        reason = "a local class cannot be found again by the next process"
    elif found is None:
        reason = f"its module {module!r} has no {qualname!r}, so the next process could not find the class"
    else:
        reason = f"{module}:{qualname} is another class by now (redefined, or its module was loaded twice)"
    raise Refused(cls, reason, "Move it to module level or pass it to durable.register()") from None


def resolve(module: str, qualname: str) -> type:
    """The class a recorded name stands for now.

    Raises:
        UnresolvedClass: it is not in this process, or the name stands for something else.
    """
    if not isinstance(module, str) or not isinstance(qualname, str):
        raise TypeError("a class is not named by two strings")
    found = find(module, qualname)
    if isinstance(found, type):
        return found
    if found is not None:
        reason = f"the name stands for {type(found).__name__} {qualname!r} now, not a class; restore the class"
    elif live_module(module) is None:
        reason = "the module is not imported in this process; import it first, or pass the class to durable.register()"
    elif "<locals>" in qualname:
        reason = "a local class; pass it to durable.register() before its values are read"
    else:
        reason = f"the module has no {qualname!r} any more; restore it, or pass its successor to durable.register()"
    raise UnresolvedClass(module, qualname, reason)


def resolve_kind(module: str, qualname: str, code: int) -> Any:
    """The class a recorded name stands for now, if it still is of the kind `code` says; raises UnresolvedClass."""
    cls = resolve(module, qualname)
    kind = kind_of(cls)
    wanted = x.ENUM if code == x.FLAG else code
    if kind != wanted:
        now = KINDS[kind] if kind is not None else "a plain class"
        raise UnresolvedClass(module, qualname, f"was recorded as {KINDS[code]} and is {now} now; restore it")
    return cls


@per_class
def kind_of(cls: type) -> int | None:
    """The extension code for instances of a class with declared parts; None for every other class."""
    if isinstance(cls, enum.EnumMeta):
        return x.ENUM
    if issubclass(cls, BaseException):
        return x.EXCEPTION
    if issubclass(cls, msgspec.Struct):
        return x.STRUCT
    pydantic = sys.modules.get("pydantic.main")
    if pydantic is not None and issubclass(cls, getattr(pydantic, "BaseModel", ())):
        return x.MODEL
    if issubclass(cls, tuple):
        names = getattr(cls, "_fields", None)
        named = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        return x.NAMEDTUPLE if named and hasattr(cls, "_make") else None
    if not _is_pure_python(cls):
        return None
    if isinstance(getattr(cls, "__attrs_attrs__", None), tuple):
        return x.ATTRS
    return x.DATACLASS if dataclasses.is_dataclass(cls) else None


def _is_pure_python(cls: type) -> bool:
    """Whether ``object.__new__`` makes a whole instance: no base written in C keeps state of its own."""
    for base in cls.__mro__:
        if base is object:
            continue
        new = vars(base).get("__new__")
        if not base.__flags__ & _HEAP_TYPE or type(new).__name__ == "builtin_function_or_method":
            return False
    return True
