"""``@flow``: a function whose tasks are remembered, and whose run continues after a crash."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Final, Literal, ParamSpec, TypeVar, overload

from durable.decorated import Decorated, decorate
from durable.definitions import FlowDefinition
from durable.drivers import drive, drive_async
from durable.errors import ConfigurationError, MissingContextError
from durable.flowcall import FlowCall
from durable.journal import open_journal
from durable.keys import plain_name
from durable.logs import show_by_default
from durable.names import is_being_started
from durable.options import DEFAULT_RESUME_WITHIN, Resume, flow_options, name_option, text_option
from durable.retries import Delays
from durable.retries import checked as checked_retries
from durable.runs import current
from durable.settings import durability, journal_path, refresh, setting
from durable.states import State
from durable.upstream import wait_for_option

if TYPE_CHECKING:
    from durable.runners import TaskRunner

__all__ = ["Flow", "flow"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)  # noqa: PLC0105 - it is Flow[P, R] to those who read it
S = TypeVar("S")
T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])


class Flow(Decorated[P, R, FlowDefinition]):
    """A function decorated with `flow`. Call it like the function it was made from.

    A call continues the newest unfinished run of this flow with the same parameters, or begins a new one. A flow called
    inside a flow or task is a subflow of that run.

    Attributes:
        fn: the undecorated function.
    """

    decorator = "@flow"
    options = frozenset(
        {
            "name",
            "description",
            "resume",
            "resume_within",
            "idempotency_key",
            "journal",
            "retries",
            "retry_delay_seconds",
            "timeout_seconds",
            "validate_parameters",
            "flow_run_name",
            "log_prints",
            "record_inputs",
            "persist_result",
            "task_runner",
            "version",
            "on_running",
            "on_completion",
            "on_failure",
            "on_cancellation",
            "on_crashed",
        }
    )

    def _define(self, at: str, fn: Callable[P, R], options: dict[str, Any]) -> FlowDefinition:
        retries, delays = options.get("retries"), options.get("retry_delay_seconds")
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise ConfigurationError(
                f"{at}: a flow cannot be a generator function, whose values a resume could not give again. Return a "
                "list, or yield from a generator task"
            )
        return FlowDefinition(
            fn,
            name_option(at, "name", options.get("name"), plain_name(fn).replace("_", "-")),
            text_option(at, "description", options.get("description")),
            text_option(at, "version", options.get("version")),
            flow_options(
                at,
                resume=options.get("resume"),
                resume_within=options.get("resume_within"),
                idempotency_key=options.get("idempotency_key"),
                journal=options.get("journal"),
                retries=checked_retries(
                    at,
                    retries=setting("flow_default_retries") if retries is None else retries,
                    delays=setting("flow_default_retry_delay_seconds") if delays is None else delays,
                ),
                hooks=self._hooks(at, options),
                timeout_seconds=options.get("timeout_seconds"),
                validate_parameters=options.get("validate_parameters"),
                flow_run_name=options.get("flow_run_name"),
                log_prints=options.get("log_prints"),
                record_inputs=options.get("record_inputs"),
                persist_result=options.get("persist_result"),
                task_runner=_runner(at, options.get("task_runner")),
            ),
        )

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(
        self: Flow[..., Coroutine[Any, Any, T]],
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
        """Run the flow, or continue its unfinished run.

        Args:
            args, kwargs: the function's arguments. Futures and states in them are waited for; the function gets values.
            return_state: give a `State` instead of the value, and raise nothing the function raised.
            wait_for: futures and states that must have completed first.

        Raises:
            ParameterBindError: the arguments do not fit.
            ParameterTypeError: one is not what its annotation says; with `return_state` a Failed state instead. Either
                way no run was begun.
            FlowRunInProgress: a live process executes the run of this idempotency key.
            NothingToResume: ``resume="require"`` found no unfinished run.
            SubmittedTaskFailed: a task run it submitted failed, and nobody asked for the result.
            UnfinishedRun: something it waits for did not complete.
            TaskInterrupted: a task marked ``on_interrupt="fail"`` was cut off.
            MissingContextError: called in a worker process, in the body of a task.
            ConfigurationError: called while a worker process imports the script.
            JournalError: the journal cannot be written.
            Exception: whatever the function raised.
        """
        return_state, wait_for = kwargs.pop("return_state", False), kwargs.pop("wait_for", None)
        needs = wait_for_option(self.definition.where, wait_for) if wait_for is not None else ()
        refresh()
        show_by_default()
        if self._bound:
            args = self._bound + args
        scope, own = current.get(), self.definition.options.journal
        if scope is not None and scope.is_away:
            raise MissingContextError(
                f"{self.definition.where}: a flow cannot be called in a worker process, in the body of a task: nothing "
                "can be recorded there. Call it in the flow"
            )
        if is_being_started():
            raise ConfigurationError(
                f"{self.definition.where}: it is called while a worker process imports the script, and would begin "
                'once more there. Call it under `if __name__ == "__main__":`'
            )
        if scope is not None and own is not None and open_journal(own, durability()) is not scope.journal:
            scope = None  # a flow with a journal of its own is no part of the caller's run
        journal = scope.journal if scope is not None else open_journal(journal_path(own), durability())
        call = FlowCall(self.definition, args, kwargs, scope, journal, return_state=return_state, wait_for=needs)
        return drive_async(call) if self.definition.is_async else drive(call)

    def on_cancellation(self, hook: H) -> H:
        """Decorator: call `hook` when a run of this was cancelled, as the option of the same name does."""
        return self._add_hook("on_cancellation", hook)

    def on_crashed(self, hook: H) -> H:
        """Decorator: call `hook` when a run of this was cut off, as the option of the same name does."""
        return self._add_hook("on_crashed", hook)

    if TYPE_CHECKING:  # as a method it loses its first parameter

        @overload
        def __get__(self, instance: None, owner: type | None = None) -> Flow[P, R]: ...
        @overload
        def __get__(self: Flow[Concatenate[S, Q], R], instance: S, owner: type | None = None) -> Flow[Q, R]: ...
        def __get__(self, instance: Any, owner: type | None = None) -> Any: ...

    def with_options(self, **changes: Any) -> Flow[P, R]:
        """The same function under other options: those of `flow`, each in place of the one it had. None: the default.

        Raises:
            ConfigurationError: an option that does not exist or cannot be meant.
        """
        made: Flow[P, R] = self._with_options(changes)
        return made


class _Threads:
    """The task runner of flows that name none."""

    def duplicate(self) -> TaskRunner:
        """One for a flow run that is about to submit something."""
        from durable.runners import ThreadPoolTaskRunner  # with futures: not for programs that submit nothing

        return ThreadPoolTaskRunner().duplicate()  # which asks the settings for its size


_THREADS: Final = _Threads()


def _runner(where: str, given: Any) -> TaskRunner | _Threads:
    """The task runner of a flow: an instance or a class, as in Prefect 3; threads by default."""
    if given is None:
        return _THREADS
    from durable.runners import TaskRunner  # whoever gives one has imported it

    runner = given() if isinstance(given, type) and issubclass(given, TaskRunner) else given
    if not isinstance(runner, TaskRunner):
        raise ConfigurationError(f"{where}: task_runner={given!r}: expected one of durable.task_runners")
    return runner


@overload
def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    description: str | None = None,
    flow_run_name: str | Callable[..., str] | None = None,
    resume: Resume | None = None,
    resume_within: float | timedelta = DEFAULT_RESUME_WITHIN,
    idempotency_key: str | None = None,
    journal: str | os.PathLike[str] | None = None,
    retries: int | None = None,
    retry_delay_seconds: Delays | None = None,
    timeout_seconds: float | timedelta | None = None,
    validate_parameters: bool | None = None,
    on_running: Iterable[Callable[..., Any]] | None = None,
    on_completion: Iterable[Callable[..., Any]] | None = None,
    on_failure: Iterable[Callable[..., Any]] | None = None,
    on_cancellation: Iterable[Callable[..., Any]] | None = None,
    on_crashed: Iterable[Callable[..., Any]] | None = None,
    log_prints: bool | None = None,
    record_inputs: bool | None = None,
    persist_result: bool | None = None,
    task_runner: TaskRunner | type[TaskRunner] | None = None,
    version: str | None = None,
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a flow, with or without parentheses. Borrowed from Prefect 3's ``@flow``; the resume is ours.

    Args:
        fn: the function, plain or coroutine.
        name: the flow's name; by default the function's, with ``-`` for ``_``. With the function's qualified name it
            identifies the flow.
        description: the function's docstring by default.
        flow_run_name: the name of each run: a template such as ``"etl-{day}"`` for the parameters, or a callable that
            gives a str (given them as ``parameters``, if it has an argument of that name).
        resume: ``"auto"`` continues an unfinished run, ``"never"`` always begins a new one, ``"require"`` refuses to
            begin one. ``DURABLE_RESUME`` overrules the first two; the setting ``resume`` is the default (``"auto"``).
        resume_within: how old (seconds or timedelta) the last record of a run may be for it to be continued by itself;
            12 hours by default.
        idempotency_key: the run is this key's: completed, its result is given; unfinished, it is continued; executed
            by a live process, `FlowRunInProgress`.
        journal: path of the journal file, instead of the configured one.
        retries: how often a failed flow is run again: in the same flow run, completed tasks kept, failed ones with
            fresh retries of their own. By default the setting ``flow_default_retries`` (0).
        retry_delay_seconds: seconds before a retry; a list gives one for each, its last value repeated. By default the
            setting ``flow_default_retry_delay_seconds`` (0).
        timeout_seconds: how long an attempt may run; then it fails with `FlowRunTimeoutError`. See `task` for what it
            can end.
        validate_parameters: True (the default) makes the arguments what the annotations say, ``"5"`` an int say, and
            refuses one that cannot be; the body gets, and the run is identified by, what came of it. False leaves them
            alone. See `durable.validation` for the rules.
        on_running: hooks, called ``(flow, flow_run, state)`` once it is recorded that an attempt begins. Hooks may be
            sync or async; one that raises is logged and disturbs nothing.
        on_completion: hooks, called when the flow run has completed.
        on_failure: hooks, called when it has finally failed.
        on_cancellation: hooks, called when it was cancelled.
        on_crashed: hooks, called when it was interrupted, and when the run of a dead process is taken over.
        log_prints: True logs what the body and its tasks print; by default as the flow around it says, else the setting
            of the same name (False).
        record_inputs: False keeps only a digest of the arguments in the journal: they identify the call, and nobody can
            read them there; what is short can be guessed.
        persist_result: False keeps the flow's own value out of the journal; a subflow is then run again by a resume,
            its completed tasks kept.
        task_runner: what executes the task runs that are submitted in it (see `durable.task_runners`): a runner or its
            class; a `ThreadPoolTaskRunner` by default.
        version: recorded with each run, for people.

    Raises:
        ConfigurationError: an option that does not exist or cannot be meant.
    """
    return decorate(Flow, fn, options)
