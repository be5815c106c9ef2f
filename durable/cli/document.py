"""The screens of `durable inspect` as JSON: one document, ids in full, times ISO 8601 UTC, durations in seconds.

The dashboard is ``{"schema": 1, "journal": {...}, "next": {...} | null, "outside": {...} | null, "runs": [...]}``, a
flow run ``{"schema": 1, "journal", "run", "entries"}``, a task run ``{"schema": 1, "journal", "task", "entries"}``. An
entry of a tree has its ``depth``, its ``status`` and how many equal calls it stands for (``count``; more than one only
without ``--all``), with ``first`` and ``last`` of them. What JSON cannot say is ``{"$bytes": base64}`` or
``{"$repr": text}``.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

from durable.cli import facts
from durable.reader import Counts, Failure, FlowRun, Health, JournalReader, Node, TaskRun, queries

SCHEMA: Final = 1
_FIRST: Final = 100
_SAFE_INTEGER: Final = 1 << 53


def dashboard(reader: JournalReader, health: Health, limit: int | None) -> bool:
    """All runs of a journal, or the newest `limit`. Returns whether the newest completed."""
    rows = facts.rows(reader, limit)
    first = list(islice(rows, _FIRST))
    hint = facts.hint(reader, first)
    head = {
        "schema": SCHEMA,
        "journal": _journal(reader, health),
        "next": {"run": hint.run.id, "text": hint.text} if hint is not None else None,
        "outside": _counts(facts.outside(reader, limit)) if health.outside else None,
    }
    written(head, "runs", (_row(row) for row in chain(first, rows)))
    return not first or first[0].run.completed


def flow_run(reader: JournalReader, health: Health, run: FlowRun, nodes: Iterable[Node]) -> None:
    """One flow run and its tree."""
    counts = reader.counts(run)
    parameters = reader.parameters(run)
    facts_of_run = {
        **flow_facts(run),
        "version": facts.flow_version(reader, run.row),
        "tasks": _counts(counts),
        "note": facts.why(reader, run, counts),
        "parameters": None if parameters is None else {key: plain(value) for key, value in parameters.items()},
        "executions": [
            {
                "state": execution.state,
                "started": facts.iso(execution.started),
                "ended": _iso(execution.ended),
                "message": execution.message,
                "process": _process(reader, execution.process.row),
            }
            for execution in reader.executions(run)
        ],
        "error": _failure(None if run.completed else reader.failure(run)),
    }
    written(
        {"schema": SCHEMA, "journal": _journal(reader, health), "run": facts_of_run}, "entries", _entries(reader, nodes)
    )


def task_run(reader: JournalReader, health: Health, run: TaskRun, nodes: Iterable[Node]) -> None:
    """One task run and what it called."""
    from durable.cli import taskpage  # what it reads with takes its time to import: other screens do without

    flow = reader.flow_run(run.flow_run_row) if run.flow_run_row is not None else None
    parent = reader.task_run(run.parent_row) if run.parent_row is not None else None
    facts_of_task = {
        **task_facts(reader, run),
        "process": _process(reader, run.process_row),
        "flow_run": flow.id if flow is not None else None,
        "called_by": parent.id if parent is not None else None,
        **(taskpage.document(reader, run) if reader.fits(queries.ALL) else {}),
    }
    written(
        {"schema": SCHEMA, "journal": _journal(reader, health), "task": facts_of_task},
        "entries",
        _entries(reader, nodes),
    )


def outside(reader: JournalReader, health: Health, nodes: Iterable[Node]) -> None:
    """The task runs outside any flow."""
    head = {"schema": SCHEMA, "journal": _journal(reader, health), "outside": _counts(reader.counts(None))}
    written(head, "entries", _entries(reader, nodes))


def viewed(reader: JournalReader, name: str, found: dict[str, Any], items: Iterable[Any]) -> None:
    """What the public views offer of a journal that is newer than this durable."""
    journal = {"path": str(reader.path), "schema": reader.version, "notes": list(reader.notes)}
    written({"schema": SCHEMA, "journal": journal, **found}, name, (item._asdict() for item in items))


def plain(value: Any) -> Any:
    """A recorded value as JSON, where JSON can say it; otherwise as text."""
    if value is None or isinstance(value, bool) or (type(value) is str and value.isascii()):
        return value
    if type(value) is str:
        return value.encode("utf-8", "backslashreplace").decode()
    if type(value) is int and abs(value) <= _SAFE_INTEGER:
        return value
    if type(value) is float and abs(value) < float("inf"):
        return value
    if type(value) is bytes:
        return {"$bytes": b64encode(value).decode()}
    if type(value) is list:
        return [plain(item) for item in value]
    if type(value) is dict and all(type(key) is str and not key.startswith("$") for key in value):
        return {plain(key): plain(item) for key, item in value.items()}
    try:
        return {"$repr": repr(value).encode("utf-8", "backslashreplace").decode()}
    except (ValueError, RecursionError):
        return {"$repr": f"<{type(value).__name__}>"}


def written(head: dict[str, Any], name: str, items: Iterator[dict[str, Any]]) -> None:
    """One document whose last member is a list, written as it is read: it may be long."""
    write = sys.stdout.write
    write(json.dumps(head, indent=2)[:-2] + f',\n  "{name}": [')
    separator = "\n    "
    for item in items:
        write(separator + json.dumps(item))
        separator = ",\n    "
    write("\n  ]\n}\n")


def _journal(reader: JournalReader, health: Health) -> dict[str, Any]:
    return {
        "path": str(reader.path),
        "bytes": health.bytes,
        "schema": health.version,
        "checked": health.checked,
        "problem": health.problem,
        "runs": health.runs,
        "unfinished": health.unfinished,
        "outside": health.outside,
        "sqlite": sqlite3.sqlite_version,
        "wal_reset_bug": facts.has_wal_reset_bug(),
        "notes": list(reader.notes),
    }


def _row(row: facts.Row) -> dict[str, Any]:
    return {**flow_facts(row.run), "tasks": _counts(row.counts), "note": row.note}


def flow_facts(run: FlowRun) -> dict[str, Any]:
    """A flow run, without its tasks."""
    return {
        "id": run.id,
        "called": run.called,
        "flow": run.flow,
        "function": run.function,
        "name": run.name,
        "state": run.state,
        "type": run.type,
        "recorded": run.recorded,
        "died": run.died,
        "started": facts.iso(run.started),
        "ended": _iso(run.ended),
        "seconds": run.took / 1e6,
        "executions": run.executions,
        "pid": run.process.pid,
        "host": run.process.host,
        "message": run.message,
        "idempotency_key": run.idempotency_key,
    }


def task_facts(reader: JournalReader, run: TaskRun) -> dict[str, Any]:
    """A task run, as in a tree."""
    arguments = reader.arguments(run)
    return {
        "id": run.id,
        "task": run.task,
        "function": run.function,
        "name": run.name,
        "status": run.status,
        "state": run.state,
        "started": facts.iso(run.started),
        "attempt_started": facts.iso(run.began),
        "ended": _iso(run.ended),
        "seconds": None if run.took is None else run.took / 1e6,
        "attempts": run.attempts,
        "occurrence": run.occurrence,
        "arguments": None if arguments is None else {key: plain(value) for key, value in arguments.items()},
        "message": run.message,
        "result_bytes": run.result_bytes,
        "error": _failure(None if run.status in ("ok", "cached") else reader.failure(run)),
    }


def _entries(reader: JournalReader, nodes: Iterable[Node]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        kind = "task" if isinstance(node.first, TaskRun) else "flow"
        entry: dict[str, Any] = {"kind": kind, "depth": node.depth, "status": node.status, "count": node.calls}
        if node.calls > 1:
            entry["retried"] = node.retried
            entry["seconds"] = None
            if node.times is not None:
                times = node.times
                entry["seconds"] = {"total": times.total / 1e6, "p50": times.p50 / 1e6, "p95": times.p95 / 1e6}
        entry["first"] = task_facts(reader, node.first) if isinstance(node.first, TaskRun) else flow_facts(node.first)
        if node.calls > 1:
            entry["last"] = task_facts(reader, node.last) if isinstance(node.last, TaskRun) else flow_facts(node.last)
        yield entry


def _counts(counts: Counts) -> dict[str, int | bool]:
    found = counts._asdict()
    del found["newest_cut_off"]
    if not counts.more:
        del found["more"]
    return found


def _process(reader: JournalReader, row: int) -> dict[str, Any]:
    process = reader.process(row)
    try:
        command = json.loads(process.command)
    except (ValueError, RecursionError):
        command = process.command
    return {
        "pid": process.pid,
        "host": process.host,
        "started": facts.iso(process.started),
        "python": process.python,
        "durable": process.durable,
        "sqlite": process.sqlite,
        "durability": process.durability,
        "command": command,
        "folder": process.folder,
    }


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {"type": failure.type_name, "message": failure.message, "traceback": failure.traceback}


def _iso(microseconds: int | None) -> str | None:
    return None if microseconds is None else facts.iso(microseconds)
