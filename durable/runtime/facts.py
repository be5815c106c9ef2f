"""How a fact of the running flow run or task run is looked up."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import Any, Final

from durable.errors import ConfigurationError

_PREFIX: Final = "DURABLE__RUNTIME"


def fact(kind: str, name: str, view: Any, outside: dict[str, Any]) -> Any:
    """One fact.

    A test may set it in the environment, as in Prefect 3: ``DURABLE__RUNTIME__TASK_RUN__NAME=mine``, in the type of the
    real one.

    Args:
        kind: ``"flow_run"`` or ``"task_run"``.
        name: of the fact.
        view: the run, or None outside of one.
        outside: each fact's name, and what it is outside of a run.

    Raises:
        AttributeError: there is no such fact.
        ConfigurationError: what the environment says is of another type.
    """
    if name not in outside:
        raise AttributeError(f"durable.runtime.{kind} has no {name!r}; there are {', '.join(sorted(outside))}")
    value = outside[name] if view is None else getattr(view, name)
    if name == "tags":
        value = sorted(value)
    variable = f"{_PREFIX}__{kind}__{name}".upper()
    mocked = os.environ.get(variable)
    return value if mocked is None else _as(mocked, value, variable)


def _as(text: str, like: Any, variable: str) -> Any:
    if not isinstance(like, (datetime, int, list, dict)):
        return text
    try:
        value = datetime.fromisoformat(text) if isinstance(like, datetime) else json.loads(text)
    except ValueError:
        value = text
    if type(value) is not type(like):
        raise ConfigurationError(f"{variable}={text!r}: expected a {type(like).__name__}, written as JSON")
    return value
