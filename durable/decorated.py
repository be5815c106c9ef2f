"""What ``@task`` and ``@flow`` have in common: options checked early, binding to instances, `with_options`."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar, Final, Generic, ParamSpec, TypeVar

from durable.definitions import FlowDefinition, TaskDefinition
from durable.errors import ConfigurationError
from durable.keys import unbound, where, without_partial
from durable.options import Hooks, hooks_option
from durable.settings import refresh

P = ParamSpec("P")
R = TypeVar("R", covariant=True)  # noqa: PLC0105 - it is Task[P, R] to those who read it
H = TypeVar("H", bound=Callable[..., Any])
D = TypeVar("D", TaskDefinition, FlowDefinition)

HOOKS: Final = (
    *("on_running", "on_completion", "on_failure", "on_cancellation", "on_crashed"),
    *("on_rollback", "on_commit"),
)
RESERVED: Final = ("return_state", "wait_for")  # Prefect's; they are durable's own arguments of a call


class Decorated(Generic[P, R, D]):
    """A decorated function. Subclasses name their options and turn them into a definition."""

    decorator: ClassVar[str]
    options: ClassVar[frozenset[str]]

    __wrapped__: Any  # what it looks like, to `inspect`

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        at = self._checked(fn)
        refresh()
        self.check_options(at, options)
        _wear(self, fn)
        self.fn = fn
        self.definition: D = self._define(at, fn, options)
        self.definition.owner = self
        for name in RESERVED:
            if name in self.definition.binder.names:
                raise ConfigurationError(
                    f"{at}: a parameter may not be named {name!r}: it is an argument of every call. Rename it"
                )
        self._options = options
        self._bound: tuple[Any, ...] = self.definition.bound
        self._made_from: tuple[Any, dict[str, Any]] | None = None
        if self.definition.is_async and not self.definition.is_generator:
            _mark_coroutine_function(self)

    @classmethod
    def _checked(cls, fn: Any) -> str:
        """Refuse what is no function; its place, for messages."""
        if isinstance(fn, (property, functools.cached_property)):
            raise ConfigurationError(f"{cls.decorator}: expected a function, found a property: put @property above it")
        if not callable(fn):
            raise ConfigurationError(f"{cls.decorator}: expected a function, found {fn!r}")
        plain, _ = unbound(fn)
        if isinstance(plain, Decorated):
            again = "give its options to .with_options()" if type(plain) is cls else "call one in the other"
            raise ConfigurationError(
                f"{cls.decorator}: {plain.definition.where} has {plain.decorator} already; a function is a task or a "
                f"flow, once: {again}"
            )
        if isinstance(plain, type):
            raise ConfigurationError(
                f"{cls.decorator}: expected a function, found the class {plain.__qualname__}: decorate its methods, or "
                "a function that makes one"
            )
        return where(fn)

    def _define(self, at: str, fn: Callable[P, R], options: dict[str, Any]) -> D:
        raise NotImplementedError

    @classmethod
    def check_options(cls, at: str, options: dict[str, Any]) -> None:
        """Refuse options that do not exist.

        Raises:
            ConfigurationError: there is one; it is named, with those that exist.
        """
        unknown = sorted(options.keys() - cls.options)
        if unknown:
            raise ConfigurationError(f"{at}: unknown option {unknown[0]!r}; there are {', '.join(sorted(cls.options))}")

    def _hooks(self, at: str, options: dict[str, Any]) -> Hooks:
        """The hooks among `options`, and those a decorator adds later (``@my_task.on_failure``)."""
        return hooks_option(at, {name: options.get(name) for name in HOOKS if name in self.options})

    def _add_hook(self, option: str, hook: H) -> H:
        given = {**self._options, option: [*(self._options.get(option) or ()), hook]}
        self.definition = self._define(self.definition.where, self.fn, given)
        self.definition.owner, self._options = self, given
        if self._made_from is not None:
            self._made_from = self._made_from[0], {**self._made_from[1], option: given[option]}
        return hook

    def on_running(self, hook: H) -> H:
        """Decorator: call `hook` whenever a run of this begins, as the option of the same name does."""
        return self._add_hook("on_running", hook)

    def on_completion(self, hook: H) -> H:
        """Decorator: call `hook` when a run of this has completed, as the option of the same name does."""
        return self._add_hook("on_completion", hook)

    def on_failure(self, hook: H) -> H:
        """Decorator: call `hook` when a run of this has finally failed, as the option of the same name does."""
        return self._add_hook("on_failure", hook)

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def description(self) -> str | None:
        """Its description, by default the function's docstring."""
        return self.definition.description

    @property
    def version(self) -> str | None:
        """Its version, if it was given one."""
        return self.definition.version

    @property
    def retries(self) -> int:
        """How often it is tried again after a failure."""
        return int(self.definition.options.retries.count)

    @property
    def timeout_seconds(self) -> float | None:
        """How long an attempt may take, in seconds; None: any time."""
        seconds: float | None = self.definition.options.timeout
        return seconds

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: the same, bound to `instance` (which may be falsy). Only what is a method undecorated is one."""
        if instance is None or self.definition.bound or not hasattr(self.fn, "__get__"):
            return self
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound._bound = (instance,)
        bound.__wrapped__ = self.fn.__get__(instance, owner)  # so that its signature is that of a method
        return bound

    def __reduce__(self) -> Any:
        """By name, like a function; bound, as an attribute of its instance; otherwise by what it was made from."""
        if self._made_from is not None:
            made_from, changes = self._made_from
            return _remade, (made_from, changes)
        if self._bound and not self.definition.bound:
            return getattr, (self._bound[0], self.fn.__name__)
        if self.definition.bound or not isinstance(self.fn, FunctionType) or _has_own_name(self.fn):
            return _rebuilt, (type(self), self.fn, self._options)
        return self.fn.__qualname__

    def _with_options(self, changes: dict[str, Any]) -> Any:
        self.check_options(self.definition.where, changes)
        made = type(self)(self.fn, **{**self._options, **changes})
        made._bound, made.__wrapped__ = self._bound, self.__wrapped__  # noqa: SLF001 - of this very class
        made._made_from = self, changes  # noqa: SLF001 - likewise
        return made

    def __repr__(self) -> str:
        return f"<{self.decorator} {self.name} ({self.definition.function})>"


def decorate(kind: type[Decorated[Any, Any, Any]], fn: Any, options: dict[str, Any]) -> Any:
    """A decorator with or without parentheses, over a function, a class method or a static method."""
    if fn is None:
        return functools.partial(_apply, kind, options)
    return _apply(kind, options, fn)


def _apply(kind: type[Decorated[Any, Any, Any]], options: dict[str, Any], fn: Any) -> Any:
    if isinstance(fn, (classmethod, staticmethod)):
        inner: Any = kind(fn.__func__, **options)
        return _ClassMethod(inner) if isinstance(fn, classmethod) else staticmethod(inner)
    return kind(fn, **options)


class _ClassMethod(classmethod):  # type: ignore[type-arg]  # generic at type-check time only
    """A class method that is bound by what it holds, so that it keeps ``with_options``; Python 3.13's is not."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        inner: Any = self.__func__
        return inner.__get__(type(instance) if owner is None else owner, type)


def _wear(decorated: Any, fn: Any) -> None:
    """Look like `fn`: its name, docstring and attributes, but those that are the decorated object's own."""
    worn = without_partial(fn)
    if isinstance(worn, FunctionType):
        own = type(decorated)
        decorated.__dict__.update((name, value) for name, value in vars(worn).items() if not hasattr(own, name))
    functools.update_wrapper(decorated, worn, updated=())
    decorated.__wrapped__ = fn
    if not hasattr(worn, "__qualname__"):  # a callable object
        decorated.__name__, decorated.__qualname__ = type(worn).__name__, type(worn).__qualname__


def _mark_coroutine_function(decorated: Any) -> None:
    """Tell frameworks that a call gives a coroutine."""
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(decorated)
        return
    from asyncio import coroutines  # until Python 3.12 only asyncio had a mark; a program with coroutines has it anyway

    decorated._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other


def _has_own_name(fn: Any) -> bool:
    """Whether a function, decorated, is still found undecorated under its name: ``load_task = task(load)``."""
    return getattr(sys.modules.get(fn.__module__), fn.__qualname__, None) is fn


def _rebuilt(kind: type[Decorated[Any, Any, Any]], fn: Any, options: dict[str, Any]) -> Any:
    return kind(fn, **options)


def _remade(made_from: Any, changes: dict[str, Any]) -> Any:
    return made_from.with_options(**changes)
