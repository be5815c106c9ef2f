"""``.submit`` and ``.map`` of a task, as a type checker sees them; `durable.tasks` does the work.

What a future gives depends on the function: of a coroutine function what it returns, of a generator function, sync or
async, the list of what it yields, and of any other function its value.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from durable.decorated import Decorated
from durable.definitions import TaskDefinition

if TYPE_CHECKING:
    from durable.futures import Future, FutureList
    from durable.states import State

P = ParamSpec("P")
R = TypeVar("R", covariant=True)  # noqa: PLC0105 - it is Task[P, R] to those who read it
T = TypeVar("T")
Awaited = Coroutine[Any, Any, T]
Yielded = Iterator[T] | AsyncIterator[T]


class Submitting(Decorated[P, R, TaskDefinition]):
    """The part of a task that makes futures."""

    def _submit(self, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError

    def _map(self, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError

    # An overload that takes anything comes after the one that takes what the function takes: it is for the arguments of
    # the call itself. They overlap for a function that takes `return_state` itself, which is refused.
    @overload
    def submit(  # type: ignore[overload-overlap]
        self: Submitting[P, Awaited[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]: ...
    @overload
    def submit(  # type: ignore[overload-overlap]
        self: Submitting[..., Awaited[T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Any = None,
        **kwargs: Any,
    ) -> State[T]: ...
    @overload
    def submit(self: Submitting[..., Awaited[T]], *args: Any, wait_for: Any, **kwargs: Any) -> Future[T]: ...
    @overload
    def submit(  # type: ignore[overload-overlap]
        self: Submitting[P, Yielded[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Future[list[T]]: ...
    @overload
    def submit(  # type: ignore[overload-overlap]
        self: Submitting[..., Yielded[T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Any = None,
        **kwargs: Any,
    ) -> State[list[T]]: ...
    @overload
    def submit(self: Submitting[..., Yielded[T]], *args: Any, wait_for: Any, **kwargs: Any) -> Future[list[T]]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def submit(self, *args: Any, return_state: Literal[True], wait_for: Any = None, **kwargs: Any) -> State[R]: ...
    @overload
    def submit(self, *args: Any, wait_for: Any, **kwargs: Any) -> Future[R]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task on the flow's task runner, concurrently with its caller. Borrowed from Prefect 3.

        What identifies the call is settled now. A submitted generator task ends in the list of what it yields.

        Args:
            args, kwargs: the function's arguments. Futures and states in them are waited for first.
            return_state: wait for the end and give its `State`.
            wait_for: futures and states that must have completed first.

        Returns:
            A `Future`; an async one may be awaited.

        Raises:
            MissingContextError: called outside of any flow.
            ParameterBindError: the arguments do not fit.
        """
        return self._submit(args, kwargs)

    @overload
    def map(
        self: Submitting[..., Awaited[T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Any = None,
        **kwargs: Any,
    ) -> list[State[T]]: ...
    @overload
    def map(self: Submitting[..., Awaited[T]], *args: Any, **kwargs: Any) -> FutureList[T]: ...
    @overload
    def map(
        self: Submitting[..., Yielded[T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Any = None,
        **kwargs: Any,
    ) -> list[State[list[T]]]: ...
    @overload
    def map(self: Submitting[..., Yielded[T]], *args: Any, **kwargs: Any) -> FutureList[list[T]]: ...
    @overload
    def map(self, *args: Any, return_state: Literal[True], wait_for: Any = None, **kwargs: Any) -> list[State[R]]: ...
    @overload
    def map(self, *args: Any, **kwargs: Any) -> FutureList[R]: ...
    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Submit the task once for each item of its iterable arguments, in step. Borrowed from Prefect 3.

        Strings and bytes are no iterables here, and what is wrapped in `unmapped` is not either: every call gets such
        an argument whole. Futures among the arguments are waited for, and their values mapped over. Iterators are read
        as the calls are submitted.

        Args:
            args, kwargs: the function's arguments: what each call gets one of, or constants.
            return_state: wait for the end and give a list of `State` instead.
            wait_for: futures and states that must have completed first.

        Returns:
            The futures, in the order of the items.

        Raises:
            MappingError: nothing to map over, or iterables of unequal length.
            MissingContextError: called outside of any flow.
            ParameterBindError: the arguments do not fit.
        """
        return self._map(args, kwargs)
