"""What ``@task`` and ``@flow`` have in common: options checked early, binding to instances, `with_options`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Final, Generic, ParamSpec, TypeVar, cast

from durable.definitions import FlowDefinition, TaskDefinition
from durable.errors import ConfigurationError
from durable.keys import where
from durable.options import Hooks, hooks_option
from durable.settings import refresh

P = ParamSpec("P")
R = TypeVar("R", covariant=True)  # noqa: PLC0105 - it is Task[P, R] to those who read it
H = TypeVar("H", bound=Callable[..., Any])
D = TypeVar("D", TaskDefinition, FlowDefinition)

HOOKS: Final = ("on_running", "on_completion", "on_failure", "on_cancellation", "on_crashed")
RESERVED: Final = ("return_state", "wait_for")  # Prefect's; they are durable's own arguments of a call


class Decorated(Generic[P, R, D]):
    """A decorated function. Subclasses name their options and turn them into a definition."""

    decorator: ClassVar[str]
    options: ClassVar[frozenset[str]]

    def __init__(self, fn: Callable[P, R], **options: Any) -> None:
        if not callable(fn):
            raise ConfigurationError(f"{self.decorator}: expected a function, found {fn!r}")
        at = where(fn)
        refresh()
        self.check_options(at, options)
        self.fn = fn
        self.definition: D = self._define(at, fn, options)
        self.definition.owner = self
        for name in RESERVED:
            if name in self.definition.binder.names:
                raise ConfigurationError(
                    f"{at}: a parameter may not be named {name!r}: it is an argument of every call. Rename it"
                )
        self._options = options
        self._bound: tuple[Any, ...] = ()
        functools.update_wrapper(cast("Any", self), fn)

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

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: the same, bound to `instance` (which may be falsy)."""
        if instance is None:
            return self
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound._bound = (instance,)
        return bound

    def __reduce__(self) -> Any:
        """By name, like a function; bound, as an attribute of its instance. Worker processes find it so."""
        if self._bound:
            return getattr, (self._bound[0], self.fn.__name__)
        return self.fn.__qualname__

    def _with_options(self, changes: dict[str, Any]) -> Any:
        self.check_options(self.definition.where, changes)
        made = type(self)(self.fn, **{**self._options, **changes})
        made._bound = self._bound  # noqa: SLF001 - of this very class
        return made

    def __repr__(self) -> str:
        return f"<{self.decorator} {self.name} ({self.definition.function})>"


def decorate(kind: type[Decorated[Any, Any, Any]], fn: Any, options: dict[str, Any]) -> Any:
    """A decorator with or without parentheses, over a function, a class method or a static method."""
    kind.check_options(kind.decorator, options)
    if fn is None:
        return functools.partial(_apply, kind, options)
    return _apply(kind, options, fn)


def _apply(kind: type[Decorated[Any, Any, Any]], options: dict[str, Any], fn: Any) -> Any:
    if isinstance(fn, (classmethod, staticmethod)):
        inner: Any = kind(fn.__func__, **options)
        return type(fn)(inner)
    return kind(fn, **options)
