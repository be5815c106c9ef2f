"""What the user set, and where: see `durable.settings.table` for what there is.

Highest first: the argument of a decorator or call, `temporary_settings`, `configure`, the environment,
``[tool.durable]`` of the nearest pyproject.toml, the user's file (``durable config set``), the default. The order is
Prefect 3's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Literal, NamedTuple, cast

from durable.settings.files import Layer, layers, refresh, user_path
from durable.settings.table import SETTINGS, Setting, find

__all__ = [
    "SETTINGS",
    "Durability",
    "Found",
    "Layer",
    "Setting",
    "configure",
    "durability",
    "find",
    "interrupted_may_run",
    "journal_path",
    "layers",
    "lookup",
    "refresh",
    "resume_default",
    "resume_override",
    "setting",
    "temporary_settings",
    "user_path",
]

Durability = Literal["power", "process"]


class Found(NamedTuple):
    """A setting's value.

    Attributes:
        value: what it is.
        source: the kind of place that says so.
        where: the environment variable or the file, else "".
    """

    value: Any
    source: Literal["temporary", "configured", "environment", "pyproject", "user file", "default"]
    where: str = ""


_DEFAULTS: Final = {name: Found(row.default, "default") for name, row in SETTINGS.items()}
_configured: dict[str, Any] = {}
_temporary: ContextVar[Mapping[str, Any]] = ContextVar("durable_temporary_settings", default={})  # noqa: B039 - never changed


def configure(
    *,
    journal: str | os.PathLike[str] | None = None,
    durability: Durability | None = None,
    resume: Literal["auto", "never", "require"] | None = None,
    logging_level: str | None = None,
    log_prints: bool | None = None,
    task_default_retries: int | None = None,
    task_default_retry_delay_seconds: float | Sequence[float] | None = None,
    flow_default_retries: int | None = None,
    flow_default_retry_delay_seconds: float | Sequence[float] | None = None,
    task_refresh_cache: bool | None = None,
    task_disable_caching: bool | None = None,
    progress: bool | None = None,
    thread_pool_max_workers: int | None = None,
    concurrency_limits: Mapping[str, int | Mapping[str, float]] | None = None,
) -> None:
    """Set defaults for this process, above its environment and the files. Call it before the first flow or task.

    None leaves a setting as it is. The default retries are those of functions decorated afterwards.

    Args:
        journal: path of the journal file; ``runs.db`` in the working directory by default.
        durability: ``"power"`` (default): a returned result survives a power cut; ``"process"``: it survives
            ``kill -9``, a power cut may lose the newest ones.
        resume: which run a call continues, for flows that do not say: see `flow`.
        logging_level: what programs that do not configure ``logging`` see on stderr: ``"INFO"`` by default.
        log_prints: for tasks and flows that do not say.
        task_default_retries, task_default_retry_delay_seconds: for tasks that do not say; 0 by default.
        flow_default_retries, flow_default_retry_delay_seconds: for flows that do not say; 0 by default.
        task_refresh_cache: for tasks that do not say.
        task_disable_caching: True looks no memo up, whatever a task says. A resumed run keeps what it completed.
        progress: whether it is shown how far a flow is, by a line on a terminal, by log lines elsewhere; True by
            default.
        thread_pool_max_workers: threads of a thread pool that does not say.
        concurrency_limits: what the names of `durable.concurrency` stand for: ``{"github-api": 5}``, or for a rate
            ``{"github-api": {"limit": 30, "slot_decay_per_second": 0.5}}``.

    Raises:
        ConfigurationError: a value that cannot be meant. Nothing is set then.
    """
    arguments = locals()
    # A program speaks for all its runs, as a file does: so `filed`, which takes no run's id.
    _configured.update(
        {
            name: SETTINGS[name].filed(given, f"configure({name}={given!r})")
            for name, given in arguments.items()
            if given is not None
        }
    )


@contextmanager
def temporary_settings(settings: Mapping[str, Any]) -> Iterator[None]:
    """Other settings in a ``with`` block, above `configure`, the environment and the files. Borrowed from Prefect 3.

    They hold for what the block calls, coroutines and tasks included, and for nobody else: not for other threads, and
    not for coroutines that were begun before. Blocks nest.

    Args:
        settings: values by name, such as ``{"log_prints": True}``; an environment variable's name will do. None means
            the default, whatever is set elsewhere.

    Raises:
        ConfigurationError: a name that no setting has, or a value that cannot be meant.
    """
    changes = {}
    for spelling, given in settings.items():
        row = find(spelling)
        where = f"temporary_settings({{{spelling!r}: {given!r}}})"
        changes[row.name] = None if given is None else row.checked(given, where)
    token = _temporary.set({**_temporary.get(), **changes})
    try:
        yield
    finally:
        _temporary.reset(token)


def lookup(name: str, outside: dict[str, Found] | None = None) -> Found:
    """The value of a setting, and who says so.

    Args:
        name: as in `SETTINGS`.
        outside: what the environment and the files said when they were first asked, for those who ask at every call:
            it is taken from there, and noted there.

    Raises:
        ConfigurationError: what the environment or a file says cannot be meant.
    """
    row = SETTINGS[name]
    found = _in_block(row) or _in_program(row)
    if found is None and outside is not None:
        found = outside.get(name)
    if found is None:
        found = _in_environment(row) or _in_files(row)
        if outside is not None:
            outside[name] = found
    return found


def _in_block(row: Setting) -> Found | None:
    temporary = _temporary.get()
    if row.name not in temporary:
        return None
    given = temporary[row.name]
    return Found(row.default, "default") if given is None else Found(given, "temporary")


def _in_program(row: Setting) -> Found | None:
    return Found(_configured[row.name], "configured") if row.name in _configured else None


def _in_environment(row: Setting) -> Found | None:
    for variable in row.variables:
        text = os.environ.get(variable)
        if text and not text.isspace():
            return Found(row.read(text, f"{variable}={text!r}"), "environment", variable)
    return None


def _in_files(row: Setting) -> Found:
    for layer in layers():
        if row.name in layer.values:
            return Found(layer.values[row.name], layer.source, layer.path)
    return _DEFAULTS[row.name]


def setting(name: str, outside: dict[str, Found] | None = None) -> Any:
    """The value of a setting. Arguments and errors as for `lookup`."""
    return lookup(name, outside).value


def journal_path(own: str | os.PathLike[str] | None = None) -> str:
    """The journal to use: the flow's own, or the one that is set."""
    return cast("str", setting("journal")) if own is None else os.fspath(own)


def durability() -> str:
    """``"power"`` or ``"process"``, as set."""
    return cast("str", setting("durability"))


# Of a setting `resume`, what is said for one run of the script overrules the flows, and whoever speaks for all runs.


def resume_override() -> str | None:
    """What flows are to do in this run of the script, whatever they say: ``"auto"``, ``"never"``, a flow run's id or
    prefix in lower case, or None.
    """
    found = _in_block(SETTINGS["resume"]) or _in_environment(SETTINGS["resume"])
    return None if found is None or found.source == "default" else found.value


def resume_default() -> str:
    """What flows are to do that do not say: ``"auto"``, ``"never"`` or ``"require"``."""
    row = SETTINGS["resume"]
    found = _in_block(row)
    if found is None or found.source == "temporary":
        found = _in_program(row) or _in_files(row)
    return cast("str", found.value)


def interrupted_may_run() -> bool:
    """Whether every ``on_interrupt="fail"`` is lifted."""
    return cast("str", setting("on_interrupt")) == "retry"
