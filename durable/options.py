"""What a task may be told, checked once at decoration and frozen."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from durable.errors import ConfigurationError

OnInterrupt = Literal["retry", "fail"]
Resume = Literal["auto", "never", "require"]
Serializer = Literal["durable", "pickle"]
Delay = float | Sequence[float]

DEFAULT_RESUME_WITHIN: Final = 12 * 3600.0  # seconds: tonight's job must not continue last night's with stale data
MAX_RETRY_DELAYS: Final = 50  # Prefect's bound


@dataclass(frozen=True)
class TaskOptions:
    """A task's checked options. Field names are the arguments of ``@task``; see there."""

    retries: int = 0
    retry_delays: tuple[float, ...] = ()
    persist_result: bool = True
    on_interrupt: OnInterrupt = "retry"
    result_serializer: Serializer = "durable"

    def delay_before_retry(self, number: int) -> float:
        """Seconds to wait before retry `number` (0 is the first). A short list repeats its last value, as in
        Prefect.
        """
        if not self.retry_delays:
            return 0.0
        return self.retry_delays[min(number, len(self.retry_delays) - 1)]


def task_options(
    where: str,
    *,
    retries: Any,
    retry_delay_seconds: Any,
    persist_result: Any,
    on_interrupt: Any,
    result_serializer: Any,
) -> TaskOptions:
    """Check a task's options.

    Args:
        where: the function with its file and line, for messages.

    Raises:
        ConfigurationError: an option that cannot be meant.
    """
    return TaskOptions(
        retries=_count(where, "retries", retries),
        retry_delays=_delays(where, retry_delay_seconds),
        persist_result=_flag(where, "persist_result", persist_result),
        on_interrupt=_choice(where, "on_interrupt", on_interrupt, ("retry", "fail")),
        result_serializer=_choice(where, "result_serializer", result_serializer, ("durable", "pickle")),
    )


@dataclass(frozen=True)
class FlowOptions:
    """A flow's checked options. Field names are the arguments of ``@flow``; see there."""

    resume: Resume = "auto"
    resume_within: float = DEFAULT_RESUME_WITHIN
    idempotency_key: str | None = None
    journal: str | None = None


def flow_options(where: str, *, resume: Any, resume_within: Any, idempotency_key: Any, journal: Any) -> FlowOptions:
    """Check a flow's options; arguments and errors as in `task_options`."""
    if resume_within is None:
        resume_within = DEFAULT_RESUME_WITHIN
    elif isinstance(resume_within, timedelta):
        resume_within = resume_within.total_seconds()
    if not _is_number(resume_within) or resume_within < 0:
        raise ConfigurationError(
            f"{where}: resume_within={resume_within!r}: expected seconds (a number, 0 or more) or a timedelta"
        )
    if idempotency_key is not None and (not isinstance(idempotency_key, str) or not idempotency_key):
        raise ConfigurationError(f"{where}: idempotency_key={idempotency_key!r}: expected a non-empty str")
    return FlowOptions(
        resume=_choice(where, "resume", resume, ("auto", "never", "require")),
        resume_within=float(resume_within),
        idempotency_key=idempotency_key,
        journal=path_option(where, "journal", journal),
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


def _count(where: str, option: str, value: Any) -> int:
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{where}: {option}={value!r}: expected a whole number, 0 or more")
    return value


def _delays(where: str, value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    delays = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not all(_is_number(delay) and delay >= 0 for delay in delays):
        raise ConfigurationError(
            f"{where}: retry_delay_seconds={value!r}: expected seconds (a number, 0 or more) or a list of them"
        )
    if len(delays) > MAX_RETRY_DELAYS:
        raise ConfigurationError(
            f"{where}: retry_delay_seconds has {len(delays)} values; at most {MAX_RETRY_DELAYS} can be meant"
        )
    return tuple(float(delay) for delay in delays)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _flag(where: str, option: str, value: Any) -> bool:
    if value is None:
        return True
    if type(value) is not bool:
        raise ConfigurationError(f"{where}: {option}={value!r}: expected True or False")
    return value


def _choice(where: str, option: str, value: Any, choices: tuple[str, ...]) -> Any:
    """One of `choices`; the first of them when None."""
    if value is None:
        return choices[0]
    if not isinstance(value, str) or value not in choices:
        raise ConfigurationError(f"{where}: {option}={value!r}: expected {' or '.join(map(repr, choices))}")
    return value
