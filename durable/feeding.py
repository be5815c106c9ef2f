"""Which generators feed a call: those whose consumer, where it is made, holds their last value."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

# Task run id -> the value its consumer holds. A call that is handed it depends on the generator.
yielding: ContextVar[dict[bytes, Any] | None] = ContextVar("durable_yielding", default=None)


def fed_by(live: dict[bytes, Any], arguments: dict[str, Any]) -> tuple[tuple[bytes, str], ...]:
    """Generators whose last value is an argument, each with its name. Asked when a call is made: it is the last yet."""
    given = arguments.items()
    return tuple((run, name) for run, last in list(live.items()) for name, value in given if value is last)
