"""Functions, classes, partials and bound methods: how they count in an identity. They are never rebuilt.

What a module or class holds by name counts by that name. A lambda or a nested function has no name of its own, so it
counts by its code, its defaults and the values it closes over.
"""

from __future__ import annotations

import functools
import types
from typing import Any

from durable.codec import extensions as x
from durable.codec.walker import Handler, Refused, Walker, extension
from durable.names import recorded_module


def write_function(value: types.FunctionType, walker: Walker, depth: int) -> Any:
    named = [recorded_module(value.__module__), value.__qualname__]
    if "<locals>" not in value.__qualname__ and value.__name__ != "<lambda>":
        return extension(x.FUNCTION, named)
    parts = {
        "__code__": _code(value.__code__),
        "__defaults__": value.__defaults__,
        "__kwdefaults__": value.__kwdefaults__,
    }
    walked = walker.fields(parts.items(), value, depth)
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        try:
            content = cell.cell_contents
        except ValueError:
            content = ...
        walked[f"closure.{name}"] = walker.part(content, f".__closure__[{name!r}]", value, depth)
    return extension(x.FUNCTION, [*named, walked])


def _code(code: types.CodeType) -> list[Any]:
    """What a code object does: instructions, constants and names, without where it stands in its file."""
    constants = [_code(part) if isinstance(part, types.CodeType) else part for part in code.co_consts]
    return [code.co_code, constants, list(code.co_names), list(code.co_varnames), code.co_argcount, code.co_flags]


def write_builtin(value: types.BuiltinFunctionType, walker: Walker, depth: int) -> Any:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        return extension(x.FUNCTION, [recorded_module(value.__module__), value.__qualname__])
    return extension(x.METHOD, ["builtins", value.__qualname__, walker.part(owner, ".__self__", value, depth)])


def write_descriptor(value: Any, _walker: Walker, _depth: int) -> Any:
    """A method as found on its class: ``str.upper``."""
    return extension(x.FUNCTION, [recorded_module(value.__objclass__.__module__), value.__qualname__])


def write_method(value: types.MethodType, walker: Walker, depth: int) -> Any:
    function: Any = value.__func__
    if not hasattr(function, "__qualname__"):
        raise Refused(value, "a bound callable without a name")
    named = [recorded_module(function.__module__), function.__qualname__]
    return extension(x.METHOD, [*named, walker.part(value.__self__, ".__self__", value, depth)])


def write_partial(value: functools.partial[Any], walker: Walker, depth: int) -> Any:
    function = walker.part(value.func, ".func", value, depth)
    args = walker.part(list(value.args), ".args", value, depth)
    keywords = walker.part(dict(value.keywords), ".keywords", value, depth)
    return extension(x.PARTIAL, [function, args, keywords])


def write_class(value: type, walker: Walker, _depth: int) -> Any:
    return extension(x.CLASS, list(walker.named(value)))


def write_keyed(value: Any, walker: Walker, depth: int) -> Any:
    """An object that says itself what it counts by."""
    try:
        key = value.__durable_key__()
    except Exception as error:
        raise Refused(value, f"its __durable_key__() raised {type(error).__name__}: {str(error)[:200]}") from error
    return extension(x.KEYED, [*walker.named(type(value)), walker.part(key, ".__durable_key__()", value, depth)])


HANDLERS: dict[type, Handler] = {
    types.FunctionType: write_function,
    types.BuiltinFunctionType: write_builtin,
    types.MethodDescriptorType: write_descriptor,
    types.WrapperDescriptorType: write_descriptor,
    types.MethodType: write_method,
    functools.partial: write_partial,
}
