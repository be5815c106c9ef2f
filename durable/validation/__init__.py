"""A flow's parameters, made what its annotations say. Borrowed from Prefect 3's ``validate_parameters``.

Rules:

1. A value that already is what its annotation says is handed on as it is: the same object, never a copy. Elements of
   list, tuple, set, frozenset, deque and dict are looked at too; a container is rebuilt, in its own type, only if one
   of them had to change. Anything else that is an instance (a range for a Sequence) is not looked into.
2. Another value is converted as msgspec does in lax mode: ``"5"`` to int, ISO text to datetime, a list to a tuple or
   set, a dict to a dataclass, Struct, attrs class or TypedDict; besides, text to Path and bytes, a numpy scalar to what
   it holds, a value to its Enum. A set becomes no list: its order differs between processes, so that no resume would
   find the run. Inside a dataclass or Struct made from a dict msgspec's own rules hold (bytes are base64).
3. What is pydantic's (a model, a type, metadata of an Annotated) is converted by pydantic.
4. In a Union the member that the value already is decides; otherwise the first that it converts to. A dict that fits
   several classes is left alone, unless their tags tell them apart: to guess would be worse.
5. What is understood by neither (ordinary classes, Any, type variables, callables, references that cannot be resolved)
   says nothing: the value is left alone, also as one member of a Union that no other member accepts.
6. A default is never converted, nor the same object given explicitly.
7. An error tells types and places, and what a validator of the user's says, never the value: it may be a secret.

Annotations are compiled at the first call, when forward references can be resolved, and never again.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from durable.errors import ParameterTypeError
from durable.validation.annotations import Compiler
from durable.validation.checks import Check, Mismatch


class _Parameter:
    """One parameter: its check and its default."""

    __slots__ = ("check", "default", "name")

    def __init__(self, parameter: inspect.Parameter, check: Check | None) -> None:
        self.name = parameter.name
        self.default = parameter.default
        self.check = check


class Validator:
    """What makes the arguments of a flow's calls what its annotations say.

    Args:
        function: the flow's function.
        where: the function with its file and line, for messages.
        signature: its signature.
    """

    def __init__(self, function: Callable[..., Any], where: str, signature: inspect.Signature) -> None:
        self._function = function
        self._where = where
        self._signature = signature
        self._compiled = False
        self._positional: list[_Parameter] = []
        self._named: dict[str, _Parameter] = {}
        self._more: _Parameter | None = None
        self._more_named: _Parameter | None = None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, which fit the signature, as the body gets them.

        Raises:
            ParameterTypeError: one of them is not what its annotation says.
        """
        if not self._compiled:
            self._compile()
        given = len(self._positional)
        checked = [self._one(parameter, value) for parameter, value in zip(self._positional, args, strict=False)]
        if len(args) > given:
            checked += [self._one(self._more, value, f"[{i}]") for i, value in enumerate(args[given:])]
        named = {
            name: self._one(self._named[name], value)
            if name in self._named
            else self._one(self._more_named, value, f"[{name!r}]")
            for name, value in kwargs.items()
        }
        return tuple(checked), named

    def _one(self, parameter: _Parameter | None, value: Any, step: str = "") -> Any:
        if parameter is None or parameter.check is None or value is parameter.default:
            return value
        try:
            return parameter.check.run(value)
        except Mismatch as mismatch:
            place, path = parameter.name + step, mismatch.path
            raise ParameterTypeError(
                self._where, place + path, mismatch.found, mismatch.expected, mismatch.detail
            ) from None

    def _compile(self) -> None:
        compiler, space = Compiler(), _namespace(self._function)
        positional: list[_Parameter] = []
        for parameter in self._signature.parameters.values():
            made = _Parameter(parameter, compiler.check_of(_resolved(parameter.annotation, *space)))
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._more = made
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._more_named = made
            else:
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    positional.append(made)
                if parameter.kind is not parameter.POSITIONAL_ONLY:
                    self._named[parameter.name] = made
        self._positional = positional
        self._compiled = True


def _namespace(function: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where a function's annotations are looked up: its module's names, and those it closes over."""
    while isinstance(function, functools.partial):
        function = function.func
    inner = inspect.unwrap(function)
    inner = inner if hasattr(inner, "__code__") else getattr(type(inner), "__call__", inner)  # noqa: B004
    closed: dict[str, Any] = {}
    code = getattr(inner, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(inner, "__closure__", None) or (), strict=False):
        try:
            closed[name] = cell.cell_contents
        except ValueError:
            continue
    return getattr(inner, "__globals__", {}), closed


def _resolved(annotation: Any, names: dict[str, Any], closed: dict[str, Any]) -> Any:
    """An annotation without forward references; Any where one leads nowhere."""
    if annotation is inspect.Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, names, closed, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - evaluating an annotation may raise anything
        return Any
