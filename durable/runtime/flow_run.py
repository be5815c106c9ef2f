"""The flow run whose body, or a task of which, is executing.

Attributes: ``id``, ``name``, ``flow_name``, ``tags``, ``parameters``, ``run_count``, ``parent_flow_run_id``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from durable.runs import current

# What `__getattr__` gives, to a type checker.
id: str | None  # noqa: A001 - the fact is called so
name: str | None
flow_name: str | None
parent_flow_run_id: str | None
tags: list[str]
parameters: dict[str, Any]
run_count: int

_OUTSIDE: Final[dict[str, Any]] = {
    "id": None,
    "name": None,
    "flow_name": None,
    "tags": [],
    "parameters": {},
    "run_count": 0,
    "parent_flow_run_id": None,
}


if not TYPE_CHECKING:  # an attribute that is not there is an error already

    def __getattr__(name: str) -> Any:
        if name not in _OUTSIDE:
            raise AttributeError(f"durable.runtime.flow_run has no {name!r}; there are {', '.join(sorted(_OUTSIDE))}")
        scope = current.get()
        if scope is None or scope.flow_run is None:
            return _OUTSIDE[name]
        value = getattr(scope.flow_run.view(), name)
        return sorted(value) if name == "tags" else value


def __dir__() -> list[str]:
    return sorted(_OUTSIDE)
