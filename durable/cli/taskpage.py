"""The page of one task run beyond its facts: how it came about, what it waited for, every state it was in."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any, Final

from durable.cli import facts
from durable.cli.policy import policy_of
from durable.cli.terminal import Screen, clipped
from durable.phrases import counted, duration, safe, size
from durable.reader import JournalReader, TaskRun
from durable.reader.calls import EXCEPTION, preview
from durable.reader.history import Dependency, Extras, downstream, extras, history, upstream, yields

_VALUE: Final = 100
_YIELDS: Final = 20
_PARTS: Final = 12


def key_lines(screen: Screen, reader: JournalReader, run: TaskRun) -> list[tuple[str, str]]:
    """What the task run's identity was made of, and why it ran."""
    found = extras(reader, run)
    lines = [("why it ran", safe(found.reason))] if found.reason else []
    if found.worker:
        lines.append(("worker", safe(found.worker)))
    if found.version:
        lines.append(("version", safe(found.version)))
    if found.tags:
        lines.append(("tags", clipped(", ".join(found.tags), _VALUE)))
    if run.result_row is not None and found.format != EXCEPTION:
        lines.append(("result", preview(reader, run.result_row, _VALUE)))
    lines.append(("task key", f"{_hex(found.source.key)}  name, function and tags"))
    lines.append(("source", f"{_hex(found.source.digest)}  {counted(len(found.source.parts), 'part')}"))
    home = found.source.function.partition(":")[0]
    parts = [f"{safe(name.removeprefix(f'{home}:'))} {safe(value)[:8]}" for name, value in found.source.parts.items()]
    lines += [("", part) for part in parts[:_PARTS]]
    if len(parts) > _PARTS:
        lines.append(("", f"and {len(parts) - _PARTS} more"))
    if found.cache_key is not None:
        policy = policy_of(reader, found.cache_key, found.source, run.inputs, run.flow_run_row)
        told = repr(policy) if policy is not None else "with a cache_key_fn, or arguments that are not recorded"
        expiry = f", expires {facts.when(found.expires, tty=screen.tty)}" if found.expires is not None else ""
        lines.append(("cache key", f"{_hex(found.cache_key)}  {told}{expiry}"))
    return lines


def sections(screen: Screen, reader: JournalReader, run: TaskRun) -> None:
    """What it waited for, what waited for it, what it yielded, and its history."""
    _dependencies(screen, reader, "Waited for", upstream(reader, run.row))
    _dependencies(screen, reader, "Waited for by", downstream(reader, run))
    count = extras(reader, run).yields
    if count:
        screen.line(f"\n  {screen.paint('title', 'Yielded')} {counted(count, 'value')}")
        for value in islice(yields(reader, run.row), _YIELDS):
            shown = preview(reader, value.result, _VALUE) if value.result is not None else "could not be recorded"
            screen.line(f"    {str(value.number).rjust(6)}  {shown}")
        if count > _YIELDS:
            screen.line(f"            and {count - _YIELDS} more: durable result shows all")
    screen.line(f"\n  {screen.paint('title', 'History')}")
    before: int | None = None
    for one in history(reader, run):
        state, process = reader.state(one.state), reader.process(one.process)
        since = f"+{duration(one.at - before)}" if before is not None else ""
        told = [safe(one.message)] if one.message else []
        if one.size is not None:
            told.append(size(one.size))
        if one.source is not None:
            told.append("with another source from here on")
        where = f"pid {process.pid} on {safe(process.host)}"
        at = facts.when(one.at, tty=screen.tty)
        name = screen.paint(state.name, safe(state.name).ljust(14))
        screen.line(f"    {at}  {since.rjust(8)}  {name}  {where}  {'  '.join(told)}".rstrip())
        before = one.at


def _dependencies(screen: Screen, reader: JournalReader, title: str, found: list[Dependency]) -> None:
    if not found:
        return
    screen.line(f"\n  {screen.paint('title', title)}")
    for one in found:
        other = reader.task_run(one.task_run)
        status = screen.paint(other.status, other.status.ljust(8))
        screen.line(f"    {status}  {facts.call(reader, other)}  {other.id[:7]}  ({safe(one.argument)})")


def document(reader: JournalReader, run: TaskRun) -> dict[str, Any]:
    """The same as members of the JSON of a task run."""
    found = extras(reader, run)
    return {
        "reason": found.reason,
        "worker": found.worker,
        "version": found.version,
        "tags": list(found.tags),
        "result": None if run.result_row is None else preview(reader, run.result_row, _VALUE),
        "key": _key(reader, run, found),
        "waited_for": _neighbours(reader, upstream(reader, run.row)),
        "waited_for_by": _neighbours(reader, downstream(reader, run)),
        "yields": found.yields,
        "history": [
            {
                "seq": one.seq,
                "state": reader.state(one.state).name,
                "type": reader.state(one.state).type,
                "at": facts.iso(one.at),
                "pid": reader.process(one.process).pid,
                "host": reader.process(one.process).host,
                "message": one.message,
                "result_bytes": one.size,
                "source_changed": one.source is not None,
            }
            for one in history(reader, run)
        ],
    }


def _key(reader: JournalReader, run: TaskRun, found: Extras) -> dict[str, Any]:
    policy = policy_of(reader, found.cache_key, found.source, run.inputs, run.flow_run_row)
    return {
        "task": _hex(found.source.key),
        "source": _hex(found.source.digest),
        "parts": found.source.parts,
        "cache_key": None if found.cache_key is None else _hex(found.cache_key),
        "policy": None if policy is None else repr(policy),
        "expires": None if found.expires is None else facts.iso(found.expires),
    }


def _neighbours(reader: JournalReader, found: list[Dependency]) -> list[dict[str, str]]:
    return [{"id": reader.task_run(one.task_run).id, "argument": one.argument} for one in found]


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else json.dumps(None)
