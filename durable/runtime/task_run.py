"""The task run whose body is executing.

Attributes: ``id``, ``name``, ``task_name``, ``tags``, ``parameters``, ``run_count``, ``flow_run_id``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from durable.runs import current

# What `__getattr__` gives, to a type checker.
id: str | None  # noqa: A001 - the fact is called so
name: str | None
task_name: str | None
flow_run_id: str | None
tags: list[str]
parameters: dict[str, Any]
run_count: int

_OUTSIDE: Final[dict[str, Any]] = {
    "id": None,
    "name": None,
    "task_name": None,
    "tags": [],
    "parameters": {},
    "run_count": 0,
    "flow_run_id": None,
}


if not TYPE_CHECKING:  # an attribute that is not there is an error already

    def __getattr__(name: str) -> Any:
        if name not in _OUTSIDE:
            raise AttributeError(f"durable.runtime.task_run has no {name!r}; there are {', '.join(sorted(_OUTSIDE))}")
        scope = current.get()
        if scope is None or scope is scope.flow_run:
            return _OUTSIDE[name]
        value = getattr(scope.view(), name)
        return sorted(value) if name == "tags" else value


def __dir__() -> list[str]:
    return sorted(_OUTSIDE)
