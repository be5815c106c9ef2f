"""A transition as a line, for people or for programs."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from durable.cli import facts
from durable.cli.target import SCHEMA
from durable.cli.terminal import Screen, clipped
from durable.phrases import duration, safe
from durable.reader import FlowRun, JournalReader, TaskRun
from durable.reader.following import FLOW, Transition


def of(reader: JournalReader, each: Transition) -> FlowRun | TaskRun:
    """The run that a transition is of."""
    return reader.flow_run(each.row) if each.kind == FLOW else reader.task_run(each.row)


def flow_row(run: FlowRun | TaskRun) -> int | None:
    """The flow run it belongs to: itself, or the one it was called in."""
    return run.row if isinstance(run, FlowRun) else run.flow_run_row


def line(screen: Screen, reader: JournalReader, each: Transition, run: FlowRun | TaskRun) -> str:
    """``02:14:03.120  Completed   load(shard=3) 7f3a91c  3.1 s``."""
    state = reader.state(each.state).name
    at = facts.iso(each.at)
    if screen.tty:
        at = f"{datetime.fromtimestamp(each.at / 1e6):%H:%M:%S.%f}"[:-3]  # noqa: DTZ006 - local on purpose
    took = ""
    if isinstance(run, TaskRun) and run.ended == each.at and run.took is not None:
        took = f"  {duration(run.took)}"
    message = f"  {clipped(each.message, 200)}" if each.message else ""
    text = f"{facts.call(reader, run)} {run.id[:7]}{took}{message}"
    if screen.width is not None:
        text = clipped(text, max(screen.width - len(at) - 18, 20))
    return f"{at}  {screen.paint(state, state.ljust(13))} {text}"


def document(reader: JournalReader, each: Transition, run: FlowRun | TaskRun) -> str:
    """A JSON object on one line."""
    state, process = reader.state(each.state), reader.process(each.process)
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": each.kind,
        "id": run.id,
        "name": safe(run.flow if isinstance(run, FlowRun) else run.task),
        "flow_run": None,
        "seq": each.seq,
        "state": state.name,
        "type": state.type,
        "at": facts.iso(each.at),
        "message": None if each.message is None else safe(each.message),
        "pid": process.pid,
        "host": process.host,
    }
    flow = flow_row(run)
    if flow is not None:
        found["flow_run"] = run.id if isinstance(run, FlowRun) else reader.flow_run(flow).id
    return json.dumps(found)
