"""What the user set for the whole process, and where it comes from.

Precedence: the argument of a flow or task, then `configure`, then the environment, then the default.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final, Literal

from durable.errors import ConfigurationError

Durability = Literal["power", "process"]
DEFAULT_JOURNAL: Final = "runs.db"
_DURABILITIES: Final = ("power", "process")

_configured: dict[str, str] = {}


def configure(*, journal: str | os.PathLike[str] | None = None, durability: Durability | None = None) -> None:
    """Set defaults for this process. Call it before the first flow or task.

    Args:
        journal: path of the journal file; otherwise ``DURABLE_JOURNAL``, otherwise ``runs.db`` in the working
            directory.
        durability: ``"power"`` (default): a returned result survives a power cut; ``"process"``: it survives
            ``kill -9``, a power cut may lose the newest ones. Otherwise ``DURABLE_DURABILITY``.

    Raises:
        ConfigurationError: `durability` is neither.
    """
    if durability is not None:
        _configured["durability"] = _checked(durability, "configure(durability=...)")
    if journal is not None:
        _configured["journal"] = os.fspath(journal)


def journal_path(own: str | os.PathLike[str] | None = None) -> str:
    """The journal to use: the flow's own, the configured one, ``DURABLE_JOURNAL``, or ``runs.db``."""
    if own is not None:
        return os.fspath(own)
    return _configured.get("journal") or os.environ.get("DURABLE_JOURNAL") or DEFAULT_JOURNAL


def durability() -> str:
    """``"power"`` or ``"process"``, as set."""
    configured = _configured.get("durability")
    if configured:
        return configured
    return _checked(os.environ.get("DURABLE_DURABILITY") or "power", "DURABLE_DURABILITY")


def resume_override() -> str | None:
    """``DURABLE_RESUME``: ``"auto"``, ``"never"``, a flow run's id or prefix in lower case, or None when unset."""
    return (os.environ.get("DURABLE_RESUME") or "").strip().lower() or None


def interrupted_may_run() -> bool:
    """Whether ``DURABLE_ON_INTERRUPT=retry`` lifts every ``on_interrupt="fail"`` for this process."""
    value = os.environ.get("DURABLE_ON_INTERRUPT") or "fail"
    if value not in ("retry", "fail"):
        raise ConfigurationError(f"DURABLE_ON_INTERRUPT={value!r}: expected 'retry' or 'fail'")
    return value == "retry"


def default_retries() -> Any:
    """``DURABLE_TASK_DEFAULT_RETRIES``: the retries of tasks that say nothing of them; not checked. None when unset."""
    return _json("DURABLE_TASK_DEFAULT_RETRIES")


def default_retry_delay() -> Any:
    """``DURABLE_TASK_DEFAULT_RETRY_DELAY_SECONDS``: a number or a list, as JSON; not checked. None when unset."""
    return _json("DURABLE_TASK_DEFAULT_RETRY_DELAY_SECONDS")


def log_level() -> str:
    """``DURABLE_LOGGING_LEVEL``, in capitals; ``INFO`` when unset."""
    return (os.environ.get("DURABLE_LOGGING_LEVEL") or "INFO").upper()


def _json(name: str) -> Any:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigurationError(f"{name}={text!r}: expected a number, or a list of numbers") from None


def _checked(value: str, where: str) -> str:
    if value not in _DURABILITIES:
        raise ConfigurationError(f"{where}: expected 'power' or 'process', found {value!r}")
    return value
