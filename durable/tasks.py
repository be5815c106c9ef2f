"""``@task``: a function whose calls are journaled."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from durable.blocks import active, remember_hooks
from durable.call import Call
from durable.decorated import decorate
from durable.definitions import Counted, TaskDefinition
from durable.drivers import drive, drive_async, drive_async_generator, drive_generator
from durable.errors import ConfigurationError, MissingContextError
from durable.journal import open_journal
from durable.keys import digest, plain_name
from durable.logs import root_log, show_by_default
from durable.options import OnInterrupt, Serializer, name_option, tags_option, task_options, text_option
from durable.ownership import executes_a_run
from durable.policies import DEFAULT, CachePolicy, key_function
from durable.recall import TO_DECIDE, at_once
from durable.retries import Delays, exponential_backoff
from durable.retries import checked as checked_retries
from durable.runs import FlowRun, Scope, current, standalone
from durable.settings import durability, journal_path, setting
from durable.states import State
from durable.submitting import Submitting
from durable.upstream import Need, wait_for_option

if TYPE_CHECKING:
    from durable.context import TaskRunContext

__all__ = ["Task", "exponential_backoff", "task", "task_input_hash"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)  # noqa: PLC0105 - it is Task[P, R] to those who read it
S = TypeVar("S")
T = TypeVar("T")


class Task(Submitting[P, R]):
    """A function decorated with `task`. Call it like the function it was made from.

    In a flow run a call is a checkpoint: once completed, it is never executed again in that run. Outside of any flow it
    runs and is journaled. A call of a coroutine function gives a coroutine; what identifies the call is settled when
    the call is made, not when it is awaited.

    Attributes:
        fn: the undecorated function.
    """

    decorator = "@task"
    options = frozenset(
        {
            "name",
            "description",
            "tags",
            "retries",
            "retry_delay_seconds",
            "retry_jitter_factor",
            "retry_condition_fn",
            "on_running",
            "on_completion",
            "on_failure",
            "on_rollback",
            "on_commit",
            "persist_result",
            "on_interrupt",
            "cache_policy",
            "cache_key_fn",
            "cache_expiration",
            "refresh_cache",
            "result_serializer",
            "cache_result_in_memory",
            "timeout_seconds",
            "task_run_name",
            "version",
            "log_prints",
            "record_inputs",
        }
    )

    def _define(self, at: str, fn: Callable[P, R], options: dict[str, Any]) -> TaskDefinition:
        retries, delays = options.get("retries"), options.get("retry_delay_seconds")
        policy, key_fn = options.get("cache_policy"), options.get("cache_key_fn")
        if key_fn is not None:
            if not callable(key_fn):
                raise ConfigurationError(f"{at}: cache_key_fn={key_fn!r}: expected a callable of (context, parameters)")
            if policy is not None:
                root_log.warning("%s: both cache_policy and cache_key_fn are given; cache_key_fn decides", at)
            policy = key_function(key_fn)
        if policy is not None and not isinstance(policy, CachePolicy):
            raise ConfigurationError(f"{at}: cache_policy={policy!r}: expected a policy of durable.cache_policies")
        hooks = self._hooks(at, options)
        definition = TaskDefinition(
            fn,
            name_option(at, "name", options.get("name"), plain_name(fn)),
            text_option(at, "description", options.get("description")),
            text_option(at, "version", options.get("version")),
            tags_option(at, options.get("tags")),
            task_options(
                at,
                retries=checked_retries(
                    at,
                    retries=setting("task_default_retries") if retries is None else retries,
                    delays=setting("task_default_retry_delay_seconds") if delays is None else delays,
                    jitter=options.get("retry_jitter_factor"),
                    condition=options.get("retry_condition_fn"),
                ),
                hooks=hooks,
                persist_result=options.get("persist_result"),
                on_interrupt=options.get("on_interrupt"),
                result_serializer=options.get("result_serializer"),
                cache_result_in_memory=options.get("cache_result_in_memory"),
                timeout_seconds=options.get("timeout_seconds"),
                cache_expiration=options.get("cache_expiration"),
                refresh_cache=options.get("refresh_cache"),
                task_run_name=options.get("task_run_name"),
                log_prints=options.get("log_prints"),
                record_inputs=options.get("record_inputs"),
            ),
            DEFAULT if policy is None else policy,
        )
        self._kind: type[Call] = Call
        if definition.is_generator:
            from durable.generation import GeneratorCall  # few tasks are generators

            self._kind = GeneratorCall
        if hooks.on_rollback:
            remember_hooks(definition.key, self)
        return definition

    def on_rollback(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: call `hook` when a completed run is to be undone, as the option of the same name does."""
        return self._add_hook("on_rollback", hook)

    def on_commit(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: call `hook` when the transaction of a run commits, as the option of the same name does."""
        return self._add_hook("on_commit", hook)

    @property
    def task_key(self) -> str:
        """A hash (32 hex digits) of its name, its function's qualified name and its tags: by it its runs are found."""
        return self.definition.key.hex()

    @property
    def tags(self) -> frozenset[str]:
        """The task's tags."""
        return self.definition.tags

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(
        self: Task[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Any = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, State[T]]: ...
    @overload
    def __call__(self, *args: Any, return_state: Literal[True], wait_for: Any = None, **kwargs: Any) -> State[R]: ...
    @overload
    def __call__(self, *args: Any, wait_for: Any, **kwargs: Any) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, or give what its recorded run ended in.

        Args:
            args, kwargs: the function's arguments. Futures and states in them are waited for; the function gets values.
            return_state: give a `State` instead of the value, and raise nothing the function raised.
            wait_for: futures and states that must have completed first.

        Raises:
            ParameterBindError: the arguments do not fit.
            ConfigurationError: `wait_for` holds something else, or the state of a generator was asked for.
            UnfinishedRun: something it waits for did not complete.
            NotSerializable: the result could not be given back exactly after a crash. The function is not run again.
            JournalError: the journal cannot be written.
            Exception: whatever the function raised.
        """
        return_state, wait_for = False, None
        if kwargs:
            return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        scope = current.get()
        if scope is None:
            show_by_default()
            if executes_a_run():
                self.definition.tell_lost_context()
            scope = standalone(open_journal(journal_path(), durability()))
        elif scope.is_away:
            return scope.plainly(self.definition, self._bound + args, kwargs)
        definition = self.definition
        needs = wait_for_option(definition.where, wait_for) if wait_for is not None else ()
        if self._bound:
            args = self._bound + args
        identity = self._identity(scope, args, kwargs)
        if scope.has_history and not return_state and wait_for is None and definition.replays_at_once:
            counted, key, _ = identity
            if counted.needs is None and active.get() is None:
                value = at_once(definition, scope, key)
                if value is not TO_DECIDE:
                    return value
        call: Any = self._kind(definition, args, kwargs, scope, identity, needs, return_state)
        if definition.is_generator:
            if return_state:
                raise ConfigurationError(f"{definition.where}: a generator task gives what it yields, no state")
            return drive_async_generator(call) if definition.is_async else drive_generator(call)
        return drive_async(call) if definition.is_async else drive(call)

    def _identity(self, scope: Scope, args: Any, kwargs: Any) -> tuple[Counted, bytes, int]:
        """What identifies a call made now in `scope`: what its arguments count by, its id, and its occurrence."""
        definition = self.definition
        counted = definition.identity_inputs(args, kwargs)
        key, occurrence = scope.identify(definition.key, counted.inputs)
        return counted, key, occurrence

    def _submitted(self, scope: Scope, args: Any, kwargs: Any, needs: Sequence[Need]) -> Call:
        """A call for the task runner."""
        if self._bound:
            args = self._bound + args
        return self._kind(self.definition, args, kwargs, scope, self._identity(scope, args, kwargs), needs, True)

    def _submit(self, args: Any, kwargs: Any) -> Any:
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        run, scope = self._submitting("submit")
        needs = wait_for_option(self.definition.where, wait_for)
        future = run.running().submit(self._submitted(scope, args, kwargs, needs))
        if not return_state:
            return future
        future.wait()
        return future.state

    def _submitting(self, method: str) -> tuple[FlowRun, Scope]:
        scope = current.get()
        if scope is None or scope.flow_run is None:
            raise MissingContextError(
                f"{self.definition.where}: .{method}() was called outside of any flow, where there is no task runner. "
                "Call it in a flow, or call the task itself"
            )
        return scope.flow_run, scope

    def _map(self, args: Any, kwargs: Any) -> Any:
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        run, scope = self._submitting("map")
        needs = wait_for_option(self.definition.where, wait_for)
        from durable.futures import FutureList  # these are not for programs that submit nothing
        from durable.runners import mapped

        items = mapped(self.definition.where, args, kwargs)
        needs += items.needs
        futures: FutureList[Any] = FutureList()
        with run.running().mapping(items.length) as submit:
            for one_args, one_kwargs in items.calls:
                futures.append(submit(self._submitted(scope, one_args, one_kwargs, needs)))
        if not return_state:
            return futures
        futures.wait()
        return [future.state for future in futures]

    if TYPE_CHECKING:  # as a method it loses its first parameter

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Task[P, R]: ...
        @overload
        def __get__(self: Task[Concatenate[S, Q], R], instance: S, owner: type | None = None) -> Task[Q, R]: ...
        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    def with_options(self, **changes: Any) -> Task[P, R]:
        """The same function under other options: those of `task`, each in place of the one it had. None: the default.

        Raises:
            ConfigurationError: an option that does not exist or cannot be meant.
        """
        made: Task[P, R] = self._with_options(changes)
        return made


def task_input_hash(context: TaskRunContext, arguments: dict[str, Any]) -> str | None:
    """A ``cache_key_fn`` that makes a memo of a task's arguments, across runs. Borrowed from Prefect 3.

    Args:
        context: of the call.
        arguments: its arguments by name; their canonical form is in `context`.

    Returns:
        The key; None where an argument has no canonical form, so that the call is never a hit.
    """
    del arguments
    return None if context.unhashable else digest("task_input_hash", context.inputs).hex()


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Iterable[str] | None = None,
    task_run_name: str | Callable[..., str] | None = None,
    retries: int | None = None,
    retry_delay_seconds: Delays | None = None,
    retry_jitter_factor: float | None = None,
    retry_condition_fn: Callable[..., Any] | None = None,
    timeout_seconds: float | timedelta | None = None,
    on_running: Iterable[Callable[..., Any]] | None = None,
    on_completion: Iterable[Callable[..., Any]] | None = None,
    on_failure: Iterable[Callable[..., Any]] | None = None,
    on_rollback: Iterable[Callable[..., Any]] | None = None,
    on_commit: Iterable[Callable[..., Any]] | None = None,
    persist_result: bool | None = None,
    on_interrupt: OnInterrupt = "retry",
    cache_policy: CachePolicy | None = None,
    cache_key_fn: Callable[..., str | None] | None = None,
    cache_expiration: float | timedelta | None = None,
    refresh_cache: bool | None = None,
    result_serializer: Serializer = "durable",
    cache_result_in_memory: bool | None = None,
    version: str | None = None,
    log_prints: bool | None = None,
    record_inputs: bool | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a task, with or without parentheses. Borrowed from Prefect 3's ``@task``.

    Args:
        fn: the function: plain, coroutine, generator, async generator, method, class method (``@task`` above
            ``@classmethod``, for its `submit` and `with_options` on Python 3.13), static method, or any other callable
            but a class. What a partial, a method or a callable object was given already counts like arguments.
        name: the task's name; the function's by default. Part of what identifies the task.
        description: the function's docstring by default.
        tags: part of what identifies the task.
        task_run_name: the name of each run: a template such as ``"load-{day}"`` for the arguments, or a callable that
            gives a str (given them as ``parameters``, if it has an argument of that name).
        retries: how often a failed call is tried again; by default the setting ``task_default_retries`` (0). Never
            after an interruption or an error of durable's own, such as a result that cannot be recorded.
        retry_delay_seconds: seconds before a retry; a list gives one for each, its last value repeated; a callable is
            given `retries`, once, and gives the list (see `exponential_backoff`). By default the setting
            ``task_default_retry_delay_seconds`` (0).
        retry_jitter_factor: spreads each delay at random, to at most ``delay * (1 + factor)`` seconds; the mean stays.
        retry_condition_fn: ``(task, task_run, state) -> bool``, sync or async: asked before each retry. One that raises
            is logged and means no.
        timeout_seconds: how long an attempt may run; then it fails with `TaskRunTimeoutError`, and retries go on. What
            it can end: anything on the main thread; on other threads, Python code (a blocking call ends when it
            returns); in a coroutine, an ``await``.
        on_running: hooks, called ``(task, task_run, state)`` once it is recorded that an attempt begins. Hooks may be
            sync or async; one that raises is logged and disturbs nothing. What is only replayed is not told again.
        on_completion: hooks, called when the task run has completed, or was found cached.
        on_failure: hooks, called when it has finally failed.
        on_rollback: hooks, called with the transaction when what the task did is to be undone: its transaction, or the
            task that called it, has failed. At least once; see `durable.transactions`.
        on_commit: hooks, called with the transaction when it commits; outside of one, when the task has completed. One
            that raises rolls the task back.
        persist_result: False keeps the value out of the journal; the task then runs again in a resumed run.
        on_interrupt: ``"fail"``: if the process dies while the task runs, a resume raises `TaskInterrupted` instead of
            running it again.
        cache_policy: what must agree for a recorded result to be used; `DEFAULT` (a checkpoint) by default.
        cache_key_fn: ``(context, parameters) -> str | None`` instead of a policy: any completed, unexpired run of the
            task with the same key is a hit, across runs; None is none. See `task_input_hash`.
        cache_expiration: how long (seconds or timedelta) a result may be a memo's hit; for ever by default. A resumed
            run keeps its own results whatever their age.
        refresh_cache: True looks no memo up, and records a new result under the key; by default the setting
            ``task_refresh_cache`` (False).
        result_serializer: ``"pickle"`` records the result with pickle, for types the codec refuses.
        cache_result_in_memory: False keeps no value in the future of a submitted run: it is read from the journal when
            it is asked for. By default the newest 1,000 values of a flow run are kept.
        version: recorded with each run, for people. It is no part of what identifies the task.
        log_prints: True logs what the body prints; by default as its flow says, else the setting of the same name.
        record_inputs: False keeps only a digest of the arguments in the journal: they identify the call, and nobody can
            read them there; what is short can be guessed.

    Raises:
        ConfigurationError: an option that does not exist or cannot be meant.
    """
    return decorate(Task, fn, options)
