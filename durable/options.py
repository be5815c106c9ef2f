"""What a task may be told, checked once at decoration and frozen."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any, Final, Literal

from msgspec import Struct

from durable import runnames
from durable.errors import ConfigurationError
from durable.retries import NO_RETRIES, Retries, is_number
from durable.runnames import Maker
from durable.states import StateKind, StateType

OnInterrupt = Literal["retry", "fail"]
Resume = Literal["auto", "never", "require"]
Serializer = Literal["durable", "pickle"]

DEFAULT_RESUME_WITHIN: Final = 12 * 3600.0  # seconds: tonight's job must not continue last night's with stale data


class Hooks(Struct, frozen=True, dict=True):
    """Callables told of a run's states: ``(task, task_run, state)`` or ``(flow, flow_run, state)``, sync or async."""

    on_running: tuple[Callable[..., Any], ...] = ()
    on_completion: tuple[Callable[..., Any], ...] = ()
    on_failure: tuple[Callable[..., Any], ...] = ()
    on_cancellation: tuple[Callable[..., Any], ...] = ()
    on_crashed: tuple[Callable[..., Any], ...] = ()
    on_rollback: tuple[Callable[..., Any], ...] = ()  # these two are called with the transaction
    on_commit: tuple[Callable[..., Any], ...] = ()

    @cached_property
    def any(self) -> bool:
        """Whether there is one that is told of states."""
        return bool(self.on_running or self.on_completion or self.on_failure or self.on_cancellation or self.on_crashed)

    def for_state(self, kind: StateKind) -> tuple[Callable[..., Any], ...]:
        """Those that a state is told to."""
        return {
            StateType.RUNNING: self.on_running,
            StateType.COMPLETED: self.on_completion,
            StateType.FAILED: self.on_failure,
            StateType.CANCELLED: self.on_cancellation,
            StateType.CRASHED: self.on_crashed,
        }.get(kind.type, ())


NO_HOOKS: Final = Hooks()


def hooks_option(where: str, given: dict[str, Any]) -> Hooks:
    """Check hooks: each option an iterable of callables, or None."""
    checked: dict[str, tuple[Callable[..., Any], ...]] = {}
    for option, value in given.items():
        try:
            hooks = tuple(value or ())
        except TypeError:
            raise ConfigurationError(f"{where}: {option}={value!r}: expected a list of callables") from None
        for hook in hooks:
            if not callable(hook):
                raise ConfigurationError(f"{where}: {option} holds {hook!r}: expected callables")
        checked[option] = hooks
    return Hooks(**checked)


class TaskOptions(Struct, frozen=True):
    """A task's checked options. Field names are the arguments of ``@task``; see there."""

    retries: Retries = NO_RETRIES
    persist_result: bool = True
    on_interrupt: OnInterrupt = "retry"
    result_serializer: Serializer = "durable"
    timeout: float | None = None
    hooks: Hooks = NO_HOOKS
    cache_expiration: float | None = None
    refresh_cache: bool | None = None
    run_name: Maker | None = None
    log_prints: bool | None = None
    record_inputs: bool = True
    cache_result_in_memory: bool = True


def task_options(
    where: str,
    *,
    retries: Retries,
    hooks: Hooks,
    persist_result: Any,
    on_interrupt: Any,
    result_serializer: Any,
    cache_result_in_memory: Any,
    timeout_seconds: Any,
    cache_expiration: Any,
    refresh_cache: Any,
    task_run_name: Any,
    log_prints: Any,
    record_inputs: Any,
) -> TaskOptions:
    """Check a task's options.

    Args:
        where: the function with its file and line, for messages.
        retries, hooks: checked already.

    Raises:
        ConfigurationError: an option that cannot be meant.
    """
    return TaskOptions(
        retries=retries,
        hooks=hooks,
        persist_result=_flag(where, "persist_result", persist_result, default=True),
        on_interrupt=_choice(where, "on_interrupt", on_interrupt, ("retry", "fail")),
        result_serializer=_serializer(where, result_serializer),
        cache_result_in_memory=_flag(where, "cache_result_in_memory", cache_result_in_memory, default=True),
        timeout=_seconds(where, "timeout_seconds", timeout_seconds),
        cache_expiration=_seconds(where, "cache_expiration", cache_expiration),
        refresh_cache=_optional_flag(where, "refresh_cache", refresh_cache),
        run_name=runnames.checked(where, "task_run_name", task_run_name),
        log_prints=_optional_flag(where, "log_prints", log_prints),
        record_inputs=_flag(where, "record_inputs", record_inputs, default=True),
    )


class FlowOptions(Struct, frozen=True):
    """A flow's checked options. Field names are the arguments of ``@flow``; see there."""

    resume: Resume | None = None
    resume_within: float = DEFAULT_RESUME_WITHIN
    idempotency_key: str | None = None
    journal: str | None = None
    retries: Retries = NO_RETRIES
    hooks: Hooks = NO_HOOKS
    timeout: float | None = None
    validate_parameters: bool = True
    run_name: Maker | None = None
    log_prints: bool | None = None
    record_inputs: bool = True
    persist_result: bool = True
    task_runner: Any = None


def flow_options(
    where: str,
    *,
    resume: Any,
    resume_within: Any,
    idempotency_key: Any,
    journal: Any,
    retries: Retries,
    hooks: Hooks,
    timeout_seconds: Any,
    validate_parameters: Any,
    flow_run_name: Any,
    log_prints: Any,
    record_inputs: Any,
    persist_result: Any,
    task_runner: Any,
) -> FlowOptions:
    """Check a flow's options; arguments and errors as in `task_options`, and `task_runner` is checked already."""
    if resume_within is None:
        resume_within = DEFAULT_RESUME_WITHIN
    elif isinstance(resume_within, timedelta):
        resume_within = resume_within.total_seconds()
    if not is_number(resume_within) or resume_within < 0:
        raise ConfigurationError(
            f"{where}: resume_within={resume_within!r}: expected seconds (a number, 0 or more) or a timedelta"
        )
    if idempotency_key is not None and (not isinstance(idempotency_key, str) or not idempotency_key):
        raise ConfigurationError(f"{where}: idempotency_key={idempotency_key!r}: expected a non-empty str")
    return FlowOptions(
        resume=None if resume is None else _choice(where, "resume", resume, ("auto", "never", "require")),
        resume_within=float(resume_within),
        idempotency_key=idempotency_key,
        journal=path_option(where, "journal", journal),
        retries=retries,
        hooks=hooks,
        timeout=_seconds(where, "timeout_seconds", timeout_seconds),
        validate_parameters=_flag(where, "validate_parameters", validate_parameters, default=True),
        run_name=runnames.checked(where, "flow_run_name", flow_run_name),
        log_prints=_optional_flag(where, "log_prints", log_prints),
        record_inputs=_flag(where, "record_inputs", record_inputs, default=True),
        persist_result=_flag(where, "persist_result", persist_result, default=True),
        task_runner=task_runner,
    )


def name_option(where: str, option: str, value: Any, default: str) -> str:
    """A name: `default` when None, otherwise a non-empty str."""
    if value is None:
        return default
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{where}: {option}={value!r}: expected a non-empty str")
    return value


def text_option(where: str, option: str, value: Any) -> str | None:
    """A text, which may be empty, or None."""
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{where}: {option}={value!r}: expected a str")
    return value


def path_option(where: str, option: str, value: Any) -> str | None:
    """A file's path (str or os.PathLike), or None."""
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path:
        raise ConfigurationError(f"{where}: {option}={value!r}: expected a path (str or os.PathLike)")
    return path


def tags_option(where: str, value: Any) -> frozenset[str]:
    """Tags: any iterable of str but a str itself."""
    if value is None:
        return frozenset()
    if isinstance(value, (str, bytes)):
        raise ConfigurationError(
            f"{where}: tags={value!r}: expected a list or set of str, found one {type(value).__name__}"
        )
    try:
        tags = frozenset(value)
    except TypeError:
        raise ConfigurationError(f"{where}: tags={value!r}: expected a list or set of str") from None
    if not all(isinstance(tag, str) for tag in tags):
        raise ConfigurationError(f"{where}: tags={value!r}: every tag must be a str")
    return tags


def _seconds(where: str, option: str, value: Any) -> float | None:
    """A time: seconds above 0 or a timedelta; None for no limit."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return None
    if not is_number(seconds) or seconds <= 0:
        raise ConfigurationError(
            f"{where}: {option}={value!r}: expected seconds (a number above 0) or a timedelta; None for no limit"
        )
    return float(seconds)


def _optional_flag(where: str, option: str, value: Any) -> bool | None:
    return None if value is None else _flag(where, option, value, default=False)


def _flag(where: str, option: str, value: Any, *, default: bool) -> bool:
    if value is None:
        return default
    if type(value) is not bool:
        raise ConfigurationError(f"{where}: {option}={value!r}: expected True or False")
    return value


def _serializer(where: str, value: Any) -> Any:
    if isinstance(value, str) and (value == "json" or value.startswith("compressed/")):
        raise ConfigurationError(
            f"{where}: result_serializer={value!r} is Prefect's and not durable's: leave it out. What JSON can say is "
            'recorded exactly as it is, and `durable result --json` shows it as JSON. "pickle" is for types that '
            "durable refuses"
        )
    return _choice(where, "result_serializer", value, ("durable", "pickle"))


def _choice(where: str, option: str, value: Any, choices: tuple[str, ...]) -> Any:
    """One of `choices`; the first of them when None."""
    if value is None:
        return choices[0]
    if not isinstance(value, str) or value not in choices:
        raise ConfigurationError(f"{where}: {option}={value!r}: expected {' or '.join(map(repr, choices))}")
    return value
