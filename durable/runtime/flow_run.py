"""The flow run whose body, or a task of which, is executing.

Attributes: ``id``, ``name``, ``flow_name``, ``flow_version``, ``tags``, ``parameters``, ``run_count``,
``scheduled_start_time``, ``parent_flow_run_id``, ``root_flow_run_id``.
"""

from __future__ import annotations

from typing import Any, Final

from durable.runs import current
from durable.runtime.facts import fact

_OUTSIDE: Final[dict[str, Any]] = {
    "id": None,
    "name": None,
    "flow_name": None,
    "flow_version": None,
    "tags": [],
    "parameters": {},
    "run_count": 0,
    "scheduled_start_time": None,
    "parent_flow_run_id": None,
    "root_flow_run_id": None,
}


def __getattr__(name: str) -> Any:
    scope = current.get()
    return fact("flow_run", name, None if scope is None or scope.flow_run is None else scope.flow_run.view(), _OUTSIDE)


def __dir__() -> list[str]:
    return sorted(_OUTSIDE)
