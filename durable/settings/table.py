"""The settings, each once: the environment, files, `configure`, the command line and docs/settings.md follow this."""

from __future__ import annotations

from typing import Any, Final

from durable.errors import ConfigurationError
from durable.settings.kinds import COUNT, DELAY, FLAG, LEVEL, LIMITS, PATH, WHICH_RUN, WORKERS, Kind, choice


class Setting:
    """One setting.

    Attributes:
        name: in files, for `configure` and `temporary_settings`.
        variables: its environment variables: its own, then Prefect's spellings. The first that is set decides.
        kind: what its value may be.
        default: its value where nobody sets it.
        about: one line, for people.
        kept: what it may be in a file; None: it is meant for one run of a script only.
    """

    __slots__ = ("about", "default", "kept", "kind", "name", "variables")

    def __init__(
        self, name: str, variables: tuple[str, ...], kind: Kind, default: Any, about: str, kept: Kind | None
    ) -> None:
        self.name = name
        self.variables = variables
        self.kind = kind
        self.default = default
        self.about = about
        self.kept = kept

    def checked(self, value: Any, where: str) -> Any:
        """`value` as it is used.

        Args:
            where: who says so, and what, for messages.

        Raises:
            ConfigurationError: it cannot be meant.
        """
        return _checked(self.kind, value, where)

    def read(self, text: str, where: str) -> Any:
        """The value that `text` means. Arguments and errors as for `checked`."""
        try:
            value = self.kind.read(text)
        except (ValueError, RecursionError):
            raise ConfigurationError(f"{where}: expected {self.kind.expected}") from None
        return _checked(self.kind, value, where)

    def filed(self, value: Any, where: str) -> Any:
        """As `checked`, for a value that is, or is to be, in a file."""
        if self.kept is None:
            raise ConfigurationError(
                f"{where}: this is for one run of the script: set {self.variables[0]} in the environment, not in a file"
            )
        return _checked(self.kept, value, where)


def _checked(kind: Kind, value: Any, where: str) -> Any:
    try:
        return kind.check(value)
    except ValueError:
        raise ConfigurationError(f"{where}: expected {kind.expected}") from None


def _setting(name: str, variables: str, kind: Kind, default: Any, about: str) -> Setting:
    return Setting(name, tuple(variables.split()), kind, default, about, kind)


_ALL: Final = (
    _setting("journal", "DURABLE_JOURNAL", PATH, "runs.db", "The journal file."),
    _setting(
        "durability",
        "DURABLE_DURABILITY",
        choice("power", "process"),
        "power",
        'What a returned result survives: a power cut, or (`"process"`) only `kill -9`.',
    ),
    Setting(
        "resume",
        ("DURABLE_RESUME",),
        WHICH_RUN,
        "auto",
        "Which run a flow call continues, where the flow does not say. In the environment it overrules flows and "
        'programs that do, `resume="require"` apart, and may be the beginning of a run\'s id.',
        kept=choice("auto", "never", "require"),
    ),
    Setting(
        "on_interrupt",
        ("DURABLE_ON_INTERRUPT",),
        choice("retry", "fail"),
        "fail",
        '`"retry"` runs interrupted tasks marked `on_interrupt="fail"` again, once a person has checked.',
        kept=None,
    ),
    _setting(
        "logging_level",
        "DURABLE_LOGGING_LEVEL",
        LEVEL,
        "INFO",
        "What is shown on stderr by programs that do not configure `logging`; at `DEBUG` a line a task.",
    ),
    _setting(
        "log_prints",
        "DURABLE_LOG_PRINTS",
        FLAG,
        default=False,
        about="Log what flows and tasks print, where neither the task nor a flow around it says.",
    ),
    _setting(
        "task_default_retries",
        "DURABLE_TASK_DEFAULT_RETRIES DURABLE_TASKS_DEFAULT_RETRIES",
        COUNT,
        0,
        "`retries` of tasks that do not say.",
    ),
    _setting(
        "task_default_retry_delay_seconds",
        "DURABLE_TASK_DEFAULT_RETRY_DELAY_SECONDS DURABLE_TASKS_DEFAULT_RETRY_DELAY_SECONDS",
        DELAY,
        0,
        "`retry_delay_seconds` of tasks that do not say.",
    ),
    _setting(
        "flow_default_retries",
        "DURABLE_FLOW_DEFAULT_RETRIES DURABLE_FLOWS_DEFAULT_RETRIES",
        COUNT,
        0,
        "`retries` of flows that do not say.",
    ),
    _setting(
        "flow_default_retry_delay_seconds",
        "DURABLE_FLOW_DEFAULT_RETRY_DELAY_SECONDS DURABLE_FLOWS_DEFAULT_RETRY_DELAY_SECONDS",
        DELAY,
        0,
        "`retry_delay_seconds` of flows that do not say.",
    ),
    _setting(
        "task_refresh_cache",
        "DURABLE_TASK_REFRESH_CACHE DURABLE_TASKS_REFRESH_CACHE",
        FLAG,
        default=False,
        about="`refresh_cache` of tasks that do not say: no memo is looked up, new results are recorded.",
    ),
    _setting(
        "task_disable_caching",
        "DURABLE_TASK_DISABLE_CACHING DURABLE_TASKS_DISABLE_CACHING",
        FLAG,
        default=False,
        about="No memo is looked up, whatever a task says. A resumed run still keeps what it completed.",
    ),
    _setting(
        "progress",
        "DURABLE_PROGRESS",
        FLAG,
        default=True,
        about="Show how far a flow is: a line on a terminal, log lines elsewhere.",
    ),
    _setting(
        "thread_pool_max_workers",
        "DURABLE_TASK_RUNNER_THREAD_POOL_MAX_WORKERS DURABLE_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS",
        WORKERS,
        None,
        "Threads of a thread pool that does not say.",
    ),
    _setting(
        "concurrency_limits",
        "DURABLE_CONCURRENCY_LIMITS",
        LIMITS,
        {},
        "What the names of `concurrency` and `rate_limit` stand for; all of them, where it is set.",
    ),
)

SETTINGS: Final = {setting.name: setting for setting in _ALL}
_PREFIX: Final = "durable_"
_BY_SPELLING: Final = {
    spelling.lower().removeprefix(_PREFIX): setting
    for setting in _ALL
    for spelling in (setting.name, *setting.variables)
}


def find(spelling: str) -> Setting:
    """The setting of that name or environment variable, in capitals or not.

    Raises:
        ConfigurationError: there is none.
    """
    found = _BY_SPELLING.get(spelling.strip().lower().removeprefix(_PREFIX))
    if found is None:
        raise unknown("", spelling)
    return found


def unknown(where: str, name: Any) -> ConfigurationError:
    """The error for a name that no setting has."""
    return ConfigurationError(f"{where}unknown setting {name!r}; there are {', '.join(SETTINGS)}")
