"""When what executed a task's body died, and the driver lives: whether the task is tried again, and how it ends.

Such an attempt is recorded as Crashed. Rules:

1. It is tried again within the task's retries and those its runner has to spare.
2. A task marked ``on_interrupt="fail"`` is not: its body may have run to its end. It stays Crashed; a resume says so.
3. An error that merely tells of another task's death is a failure like any other.
"""

from __future__ import annotations

from typing import Any

from durable.settings import interrupted_may_run


def is_crash(call: Any, error: Exception) -> bool:
    """Whether `error` says that what executed this call's body died."""
    return call.elsewhere is not None and call.elsewhere.death is error


def chances(call: Any, error: Exception) -> int:
    """How many retries a call has for such a failure."""
    count: int = call.definition.options.retries.count
    if not is_crash(call, error):
        return count
    return 0 if must_be_seen(call) else count + int(call.elsewhere.spares)


def must_be_seen(call: Any) -> bool:
    """Whether somebody must look before the task runs again."""
    return call.definition.options.on_interrupt == "fail" and not interrupted_may_run()
