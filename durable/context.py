"""The run whose body is executing, as an object. Names follow Prefect 3's ``prefect.context``; see `durable.runtime`
for single facts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from durable.errors import MissingContextError
from durable.runs import around
from durable.tagging import tags
from durable.views import FlowRun, TaskRun

__all__ = ["FlowRunContext", "TaskRunContext", "get_run_context", "tags"]


@dataclass(frozen=True)
class FlowRunContext:
    """A flow run, seen from its body or from a task in it.

    Attributes:
        flow: the flow.
        flow_run: the flow run.
        parameters: its parameters by name, defaults applied.
    """

    flow: Any
    flow_run: FlowRun
    parameters: dict[str, Any] = field(repr=False)

    @classmethod
    def get(cls) -> FlowRunContext | None:
        """The flow run around the call, or None where there is none."""
        scope = around()
        run = scope.flow_run if scope is not None else None
        if run is None:
            return None
        view = run.view()
        return cls(run.flow, view, view.parameters)


@dataclass(frozen=True)
class TaskRunContext:
    """A task run, seen from its body; and what a ``cache_key_fn`` is handed with the arguments.

    Attributes:
        task: the task.
        task_run: the task run.
        parameters: its arguments by name, defaults applied.
        inputs: the canonical bytes of the arguments.
        unhashable: names of the arguments that have none, and count in `inputs` by their type only.
    """

    task: Any
    task_run: TaskRun
    parameters: dict[str, Any] = field(repr=False)
    inputs: bytes = field(repr=False)
    unhashable: tuple[str, ...] = ()

    @staticmethod
    def get() -> TaskRunContext | None:
        """The task run whose body makes the call, or None where there is none."""
        scope = around()
        if scope is None or scope is scope.flow_run:
            return None
        context: TaskRunContext = scope.context()
        return context


def get_run_context() -> FlowRunContext | TaskRunContext:
    """The run whose body makes the call: the task run, otherwise the flow run. Borrowed from Prefect 3.

    Raises:
        MissingContextError: there is none.
    """
    found = TaskRunContext.get() or FlowRunContext.get()
    if found is None:
        raise MissingContextError("get_run_context() was called outside of any flow or task: call it in a body")
    return found
