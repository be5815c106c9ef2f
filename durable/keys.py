"""What identifies a task, a flow and one call of either.

Rules:

1. A key is xxh3_128 over unambiguous bytes that start with a version, so a changed rule can never meet an old key.
2. `__main__` is the script's stem (see `durable.names`), so the way a script is started does not matter.
3. A partial, a bound method and a callable object are functions that were given arguments already, and those count like
   any others: ``task(partial(f, 1))`` and ``task(partial(f, 2))`` are calls of one task with other arguments.
4. An identity says where a call was made, of what, with which arguments, and how many equal calls came before it. It is
   the same in every process and Python, whatever the hash seed; golden vectors hold it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType
from typing import Any, Final

from msgspec import msgpack
from xxhash import xxh3_128_digest

from durable.errors import ParameterBindError
from durable.names import recorded_module

KEY_VERSION: Final = b"durable-key-1"
_SIMPLE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NONE: Final[dict[str, Any]] = {}


def digest(*parts: Any) -> bytes:
    """xxh3_128 (16 bytes) of parts that msgpack can tell apart: str, bytes, int, None and lists of them."""
    return xxh3_128_digest(KEY_VERSION + msgpack.encode(parts))


def function_name(function: Any) -> str:
    """``module:qualname`` of a function, or of the class of a callable object, as recorded."""
    function = without_partial(function)
    named = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(named, "__module__", None) or getattr(getattr(named, "__objclass__", None), "__module__", None)
    return f"{recorded_module(module)}:{named.__qualname__}"


def plain_name(function: Any) -> str:
    """What a function is called in its own module; a callable object, as its class."""
    function = without_partial(function)
    return str(getattr(function, "__name__", type(function).__name__))


def without_partial(function: Any) -> Any:
    """What a partial is a partial of."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def unbound(function: Any) -> tuple[Any, tuple[Any, ...]]:
    """A callable as a function and the positional arguments it was given already: rule 3.

    Keywords of a partial stay with it: in its signature they are defaults, and count as those do.
    """
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    while True:
        if isinstance(function, functools.partial):
            args, keywords = function.args + args, {**function.keywords, **keywords}
            function = function.func
        elif isinstance(function, MethodType):
            args, function = (function.__self__, *args), function.__func__
        elif (method := _method_of(function)) is not None:
            args, function = (getattr(function, "__self__", function), *args), method
        else:
            return (functools.partial(function, **keywords) if keywords else function), args


def _method_of(function: Any) -> Any:
    """The function behind a callable object, or behind a method of a builtin type; None if it is neither."""
    if isinstance(function, BuiltinFunctionType):
        method = inspect.getattr_static(type(function.__self__), function.__name__, None)
        return method if isinstance(method, MethodDescriptorType) else None
    if isinstance(function, type) or hasattr(function, "__qualname__"):
        return None
    method = inspect.getattr_static(type(function), "__call__", None)
    return method if isinstance(method, FunctionType) else None


def task_key(name: str, function: str, tags: frozenset[str]) -> bytes:
    """A task's key (16 bytes): its name, its function's qualified name and its tags."""
    return digest("task", name, function, sorted(tags))


def flow_key(name: str, function: str) -> bytes:
    """A flow's key (16 bytes): its name and its function's qualified name."""
    return digest("flow", name, function)


def where(function: Any) -> str:
    """A function with its file and line, for messages: ``load (job.py:12)``."""
    function = without_partial(function)
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    name = getattr(function, "__qualname__", None) or repr(function)
    if code is None and callable(function) and (method := _method_of(function)) is not None:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        code = getattr(method, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else str(name)


class Binder:
    """A function's signature, compiled once, so that binding a call costs next to nothing.

    Attributes:
        names: the parameters, in order.
        signature: what they were taken from.
    """

    __slots__ = ("_count", "_defaults", "_required", "_simple", "_where", "names", "signature")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._where = where(function)
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # some builtins have none
            signature = inspect.signature(lambda *args, **kwargs: None)
        self.signature = signature
        parameters = signature.parameters
        self.names = tuple(parameters)
        self._count = len(self.names)
        self._simple = all(parameter.kind in _SIMPLE for parameter in parameters.values())
        # The defaults of the last parameters, such that values + defaults[len(values):] is the whole.
        self._defaults = tuple(parameter.default for parameter in parameters.values())
        self._required = sum(default is inspect.Parameter.empty for default in self._defaults)

    def values(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NONE) -> tuple[Any, ...]:
        """The arguments in the order of `names`, defaults applied; ``*args`` is a tuple, ``**kwargs`` a dict.

        Raises:
            ParameterBindError: they do not fit the signature.
        """
        if self._simple and not kwargs:
            given = len(args)
            if given == self._count:
                return args
            if self._required <= given < self._count:
                return args + self._defaults[given:]
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ParameterBindError(f"{self._where}: {error}; its parameters are {self.signature}") from None
        bound.apply_defaults()
        values = tuple(bound.arguments.values())
        if len(values) != self._count:  # Python 3.13.0 lets f(x=1) pass for a function f(x, /, **more)
            missing = ", ".join(name for name in self.names if name not in bound.arguments)
            raise ParameterBindError(f"{self._where}: missing {missing}; its parameters are {self.signature}")
        return values
