"""What hooks, retry conditions and `durable.runtime` are told about a run: plain facts, named as in Prefect 3."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class TaskRun:
    """A task run, as it stands.

    Attributes:
        id: its id (32 hex digits); short forms of it are shown by ``durable inspect``.
        name: its name.
        task_name: its task's name.
        flow_run_id: id of the flow run it belongs to; None outside any flow.
        run_count: how often its body has begun, this time included.
        parameters: its arguments by name, defaults applied.
        tags: its tags.
        task_version: its task's version, if it was given one.
    """

    id: str
    name: str
    task_name: str
    flow_run_id: str | None
    run_count: int
    parameters: dict[str, Any] = field(repr=False)
    tags: frozenset[str] = frozenset()
    task_version: str | None = None


@dataclass(frozen=True)
class FlowRun:
    """A flow run, as it stands.

    Attributes:
        id: its id (32 hex digits).
        name: its own name, or two words read off the id, such as ``great-ammonite`` (see `durable.spoken`).
        flow_name: its flow's name.
        parent_flow_run_id: of a subflow, the flow run it was called in; otherwise None.
        run_count: how often its body has begun in this process.
        parameters: its parameters by name, defaults applied.
        tags: those in force where it was called.
        flow_version: its flow's version, if it was given one.
        scheduled_start_time: when it first began (aware, UTC).
        root_flow_run_id: of a subflow, the run at the top; otherwise its own id.
    """

    id: str
    name: str
    flow_name: str
    parent_flow_run_id: str | None
    run_count: int
    parameters: dict[str, Any] = field(repr=False)
    tags: frozenset[str] = frozenset()
    flow_version: str | None = None
    scheduled_start_time: datetime | None = None
    root_flow_run_id: str | None = None
