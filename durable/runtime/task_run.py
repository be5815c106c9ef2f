"""The task run whose body is executing.

Attributes: ``id``, ``name``, ``task_name``, ``task_version``, ``tags``, ``parameters``, ``run_count``, ``flow_run_id``.
"""

from __future__ import annotations

from typing import Any, Final

from durable.runs import current
from durable.runtime.facts import fact

_OUTSIDE: Final[dict[str, Any]] = {
    "id": None,
    "name": None,
    "task_name": None,
    "task_version": None,
    "tags": [],
    "parameters": {},
    "run_count": 0,
    "flow_run_id": None,
}


def __getattr__(name: str) -> Any:
    scope = current.get()
    return fact("task_run", name, None if scope is None or not scope.is_task_run else scope.view(), _OUTSIDE)


def __dir__() -> list[str]:
    return sorted(_OUTSIDE)
