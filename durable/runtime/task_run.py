"""The task run whose body, or a hook of which, is executing.

Attributes: ``id``, ``name``, ``task_name``, ``task_version``, ``tags``, ``parameters``, ``run_count``, ``flow_run_id``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from durable.runs import around
from durable.runtime.facts import fact

# What `__getattr__` gives, to a type checker.
id: str | None  # noqa: A001 - the fact is called so
name: str | None
task_name: str | None
flow_run_id: str | None
tags: list[str]
parameters: dict[str, Any]
run_count: int
task_version: str | None

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


if not TYPE_CHECKING:  # an attribute that is not there is an error already

    def __getattr__(name: str) -> Any:
        scope = around()
        return fact("task_run", name, None if scope is None or not scope.is_task_run else scope.view(), _OUTSIDE)


def __dir__() -> list[str]:
    return sorted(_OUTSIDE)
