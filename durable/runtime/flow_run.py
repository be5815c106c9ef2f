"""The flow run whose body, or a task of which, is executing.

Attributes: ``id``, ``name``, ``flow_name``, ``tags``, ``parameters``, ``run_count``, ``parent_flow_run_id``.
"""

from __future__ import annotations

from typing import Any, Final

from durable.runs import current

_OUTSIDE: Final[dict[str, Any]] = {
    "id": None,
    "name": None,
    "flow_name": None,
    "tags": [],
    "parameters": {},
    "run_count": 0,
    "parent_flow_run_id": None,
}


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
