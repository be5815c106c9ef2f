"""The flow run whose body is executing, or that of a task or of a hook in it.

Attributes: ``id``, ``name``, ``flow_name``, ``flow_version``, ``tags``, ``parameters``, ``run_count``,
``scheduled_start_time``, ``parent_flow_run_id``, ``root_flow_run_id``.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from durable.runs import around
from durable.runtime.facts import fact

# What `__getattr__` gives, to a type checker.
id: str | None  # noqa: A001 - the fact is called so
name: str | None
flow_name: str | None
parent_flow_run_id: str | None
tags: list[str]
parameters: dict[str, Any]
run_count: int
flow_version: str | None
scheduled_start_time: datetime | None
root_flow_run_id: str | None

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


if not TYPE_CHECKING:  # an attribute that is not there is an error already

    def __getattr__(name: str) -> Any:
        scope = around()
        return fact(
            "flow_run", name, None if scope is None or scope.flow_run is None else scope.flow_run.view(), _OUTSIDE
        )


def __dir__() -> list[str]:
    return sorted(_OUTSIDE)
