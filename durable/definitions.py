"""A decorated function as the engine sees it: everything about it that can be known before a call, computed once."""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from durable.codec import canonical_items
from durable.errors import ConfigurationError, Unhashable
from durable.journal import Journal
from durable.keys import Binder, digest, flow_key, function_name, task_key, unbound, where, without_partial
from durable.options import FlowOptions, TaskOptions
from durable.policies import CachePolicy
from durable.source import Source, closed_over, fingerprint
from durable.upstream import Need, needs_of

if TYPE_CHECKING:
    from durable.validation import Validator

_log = logging.getLogger("durable")


class Counted(Struct, frozen=True):
    """What arguments count by.

    Attributes:
        inputs: their canonical bytes.
        unhashable: the names of those that have none, and count by their type only.
        needs: what they wait for; None where they are handed on as they are.
    """

    inputs: bytes
    unhashable: tuple[str, ...] = ()
    needs: tuple[Need, ...] | None = None


_NO_ARGUMENTS: Final = Counted(b"\x80")


class _Definition:
    """What tasks and flows have in common.

    Attributes:
        given: what was decorated.
        fn: the function in it, and `bound`, the arguments it was given already (see `durable.keys.unbound`).
    """

    __slots__ = (
        "_warned",
        "binder",
        "bound",
        "description",
        "fn",
        "function",
        "given",
        "has_transaction_hooks",
        "is_async",
        "is_generator",
        "key",
        "name",
        "owner",
        "version",
        "where",
    )

    def __init__(self, fn: Callable[..., Any], name: str, description: str | None, version: str | None) -> None:
        self.given = fn
        self.fn, self.bound = unbound(fn)
        self.name = name
        self.version = version
        self.description = description if description is not None else inspect.getdoc(without_partial(fn))
        self.function = function_name(fn)
        self.where = where(fn)
        self.is_generator = _is(inspect.isgeneratorfunction, self.fn) or _is(inspect.isasyncgenfunction, self.fn)
        self.is_async = _is_coroutine_function(self.fn) or _is(inspect.isasyncgenfunction, self.fn)
        self.binder = Binder(self.fn)
        self.has_transaction_hooks = False
        self.owner: Any = None  # the Task or Flow that hooks and conditions are handed
        self._warned: set[str] = set()

    def inputs(self, names: tuple[str, ...], values: Sequence[Any]) -> Counted:
        """What arguments count by."""
        if not names:
            return _NO_ARGUMENTS
        try:
            return Counted(canonical_items(names, values))
        except Unhashable:
            return self._inputs_with_needs(names, values)

    def _inputs_with_needs(self, names: tuple[str, ...], values: Sequence[Any]) -> Counted:
        """As `inputs`, where something is a future, a state, a wrapper or cannot be hashed."""
        needs, counted = needs_of(names, values)
        swapped = any(new is not old for new, old in zip(counted, values, strict=True))
        unhashable: list[str] = []

        def note(name: str, error: Unhashable) -> None:
            unhashable.append(name)
            self._warn_unhashable(name, error)

        encoded = canonical_items(names, counted, note)
        return Counted(encoded, tuple(unhashable), tuple(needs) if swapped else None)

    def parameters_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """A call's arguments by name, defaults applied."""
        return dict(zip(self.binder.names, self.binder.values(args, kwargs), strict=True))

    def _warn_unhashable(self, name: str, error: Unhashable) -> None:
        if name in self._warned:
            return
        self._warned.add(name)
        _log.warning(
            "%s: argument %r counts by its type only: calls that differ in nothing else are told apart by order. %s",
            self.where,
            name,
            error,
        )


def _is(kind: Callable[[Any], bool], fn: Any) -> bool:
    """Whether a function, or a callable object's ``__call__``, is of a kind."""
    return kind(fn) or kind(getattr(fn, "__call__", None))  # noqa: B004 - not whether, but which


def _is_coroutine_function(fn: Any) -> bool:
    marker = getattr(sys.modules.get("asyncio.coroutines"), "_is_coroutine", None)  # asyncio's own, until Python 3.12
    marked = marker is not None and getattr(fn, "_is_coroutine", None) is marker
    return marked or _is(inspect.iscoroutinefunction, fn)


class TaskDefinition(_Definition):
    """A function decorated with ``@task``."""

    __slots__ = (
        "_identity",
        "_is_named",
        "_lost_context_told",
        "_row",
        "_row_journal",
        "_source",
        "_source_change_told",
        "is_serializable",
        "looks_up",
        "options",
        "policy",
        "replays_at_once",
        "tags",
    )

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        description: str | None,
        version: str | None,
        tags: frozenset[str],
        options: TaskOptions,
        policy: CachePolicy,
    ) -> None:
        super().__init__(fn, name, description, version)
        self.tags = tags
        self.options = options
        self.has_transaction_hooks = bool(options.hooks.on_rollback or options.hooks.on_commit)
        self.policy = policy
        self.looks_up = policy.is_memo or bool(policy.extras)
        self.is_serializable = policy.is_serializable
        # A call that completed gives its value and nothing else is asked: see `durable.recall.at_once`.
        asks_more = self.looks_up or self.is_async or self.is_generator or self.has_transaction_hooks
        self.replays_at_once = policy.reuses and not asks_more
        self.key = task_key(name, self.function, tags)
        code = getattr(without_partial(fn), "__code__", None)
        self._is_named = code is not None and code.co_name != "<lambda>" and not code.co_freevars
        unknown = policy.excluded - set(self.binder.names)
        if unknown:
            raise ConfigurationError(
                f"{self.where}: cache_policy leaves out {', '.join(map(repr, sorted(unknown)))}, "
                f"but its parameters are {', '.join(self.binder.names) or 'none'}"
            )
        # Where arguments are left out: the names that count, and their places.
        self._identity: tuple[tuple[str, ...], tuple[int, ...]] | None = None
        if policy.excluded:
            kept = [(name, place) for place, name in enumerate(self.binder.names) if name not in policy.excluded]
            self._identity = tuple(name for name, _ in kept), tuple(place for _, place in kept)
        self._source: Source | None = None
        self._row = 0
        self._row_journal: Journal | None = None
        self._lost_context_told = False
        self._source_change_told = False

    def identity_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Counted:
        """What a call's arguments count by.

        Raises:
            ParameterBindError: the arguments do not fit.
        """
        values = self.binder.values(args, kwargs)
        if self._identity is None:
            return self.inputs(self.binder.names, values)
        names, places = self._identity
        counted = self.inputs(names, [values[place] for place in places])
        # What does not count may be waited for all the same.
        left_out = [place for place in range(len(values)) if place not in places]
        needs, others = needs_of([self.binder.names[place] for place in left_out], [values[p] for p in left_out])
        if any(new is not values[place] for new, place in zip(others, left_out, strict=True)):
            return replace(counted, needs=(*(counted.needs or ()), *needs))
        return counted

    @property
    def source(self) -> Source:
        """The function's fingerprint, computed at the first call that is recorded."""
        if self._source is None:
            self._source = fingerprint(self.given)
        return self._source

    @property
    def memo_key(self) -> bytes:
        """What stands for the function in the key of a memo, which other functions of the same name may meet: the key
        and, of lambdas and closures, the source and the constants they close over.
        """
        if self._is_named:
            return self.key
        function = without_partial(self.fn)
        captured = closed_over(function)
        if not captured and getattr(function, "__name__", "") != "<lambda>":
            return self.key
        return digest("closure", self.key, self.source.digest, [[name, value] for name, value in captured])

    def row(self, journal: Journal) -> int:
        """The journal's row for this function in its present source."""
        if self._row_journal is not journal:
            source = self.source
            self._row = journal.task_row(
                self.key,
                source.digest,
                self.name,
                self.function,
                json.dumps(sorted(self.tags)),
                json.dumps(source.parts),
            )
            self._row_journal = journal
        return self._row

    def tell_lost_context(self) -> None:
        """Say once that it is called outside the flow run that this process executes."""
        if self._lost_context_told:
            return
        self._lost_context_told = True
        _log.warning(
            "%s: called where no flow run is known, while this process executes one: it is recorded outside of it, and "
            "a resume runs it again. In a thread, use its submit() or map(), or contextvars.copy_context().run",
            self.where,
        )

    def tell_source_change(self, journal: Journal, recorded_row: int) -> None:
        """Say once that results recorded from another source of this function are used."""
        if self._source_change_told:
            return
        self._source_change_told = True
        _log.warning(
            "%s: its source changed since these results were recorded (%s); completed task runs are reused. "
            "To run them again: cache_policy=DEFAULT + TASK_SOURCE",
            self.where,
            ", ".join(self.changed_parts(journal, recorded_row)),
        )

    def changed_parts(self, journal: Journal, recorded_row: int) -> list[str]:
        """What differs between a recorded source of this function and the present one, by name."""
        _, recorded = journal.source_of(recorded_row)
        today = self.source.parts
        return sorted(name for name in recorded.keys() | today.keys() if recorded.get(name) != today.get(name))


class FlowDefinition(_Definition):
    """A function decorated with ``@flow``."""

    __slots__ = ("_validate", "options")

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        description: str | None,
        version: str | None,
        options: FlowOptions,
    ) -> None:
        super().__init__(fn, name, description, version)
        self.options = options
        self.key = flow_key(name, self.function)
        self._validate = self._validator() if options.validate_parameters else None

    def _validator(self) -> Validator | None:
        """What makes its arguments what their annotations say; None where there are no annotations."""
        signature = self.binder.signature
        if all(parameter.annotation is parameter.empty for parameter in signature.parameters.values()):
            return None
        from durable.validation import Validator  # a flow without parameters has nothing for it

        return Validator(self.fn, self.where, signature)

    def accepted(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call's arguments as the body gets them, and as they identify the run.

        Raises:
            ParameterBindError: they do not fit.
            ParameterTypeError: one is not what its annotation says.
        """
        if self._validate is None:
            return args, kwargs
        self.binder.values(args, kwargs)  # what does not fit the signature is told first
        return self._validate(args, kwargs)

    def needs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Need, ...] | None:
        """What a call's arguments wait for; None where they are handed on as they are."""
        values = self.binder.values(args, kwargs)
        needs, counted = needs_of(self.binder.names, values)
        return tuple(needs) if any(new is not old for new, old in zip(counted, values, strict=True)) else None

    def parameters(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Canonical bytes of a call's parameters. Errors as in `TaskDefinition.identity_inputs`."""
        return self.inputs(self.binder.names, self.binder.values(args, kwargs)).inputs
