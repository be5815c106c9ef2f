"""The screens of `durable inspect` as text."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

from durable.cli import facts
from durable.cli.terminal import Screen, clipped, note, value_text
from durable.phrases import counted, duration, safe, size
from durable.reader import Counts, Failure, FlowRun, Health, JournalReader, Node, TaskRun, queries

_COLUMNS: Final = ("RUN", "NAME", "FLOW", "STATE", "STARTED", "TOOK", "DONE", "CACHED", "FAILED", "IN FLIGHT")
_STATE: Final = _COLUMNS.index("STATE")
_RIGHT: Final = frozenset({"TOOK", "DONE", "CACHED", "FAILED", "IN FLIGHT"})
_FIRST: Final = 100  # rows that decide how wide the columns are
_NAME: Final = 32
_CALL: Final = 52
_TRACEBACK: Final = 14  # lines of a traceback, unless all is asked for


def header(screen: Screen, reader: JournalReader, health: Health) -> None:
    """The first line: the file and its health."""
    state = (
        screen.paint("damaged", "journal damaged")
        if health.problem
        else "journal ok"
        if health.checked
        else "header ok"
    )
    bug = " (WAL-reset bug: avoided by durable)" if facts.has_wal_reset_bug() else ""
    runs = f"{counted(health.runs, 'run')}, {health.unfinished} unfinished"
    title = screen.paint("title", safe(reader.path.name))
    screen.line(
        f"{title}  {size(health.bytes)}  schema {health.version}  {state}  {runs}  SQLite {sqlite3.sqlite_version}{bug}"
    )


def dashboard(screen: Screen, reader: JournalReader, health: Health, limit: int | None) -> bool:
    """All runs of a journal, or the newest `limit`. Returns whether the newest completed."""
    header(screen, reader, health)
    found = facts.rows(reader, limit)
    first = list(islice(found, _FIRST))
    if first:
        screen.line()
        _table(screen, first, found)
    outside = facts.outside(reader, limit) if health.outside else None
    if outside is not None:
        screen.line()
        screen.line(f"  tasks outside flows: {_counted(outside)}  (durable inspect {safe(reader.path.name)} outside)")
    next_ = facts.hint(reader, first)
    if next_ is not None:
        screen.line(f"\nNext: {next_.text}.")
    if not first and outside is None:
        screen.line("\nNothing was run yet.")
    if any(row.counts.more for row in first):
        note("of some runs only the newest task runs were counted: --all counts each")
    if limit is not None and health.runs > limit:
        note(f"{counted(health.runs - limit, 'older run')} not shown: --limit N or --all")
    return not first or first[0].run.completed


def _counted(counts: Counts) -> str:
    words = (
        (counts.completed, "done"),
        (counts.cached, "cached"),
        (counts.failed, "failed"),
        (counts.crashed, "crashed"),
        (counts.running + counts.lost, "without an end"),
        (counts.rolled_back, "rolled back"),
        (counts.other, "other"),
    )
    return ", ".join(f"{_at_least(counts, number)} {word}" for number, word in words if number)


def _at_least(counts: Counts, number: int) -> str:
    """A number of task runs; there may be more of them where not all were counted."""
    return f"{number}+" if counts.more else str(number)


def _table(screen: Screen, first: list[facts.Row], rest: Iterator[facts.Row]) -> None:
    cells = [_cells(screen, row) for row in first]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(_COLUMNS)]
    screen.line(screen.paint("quiet", _aligned(_COLUMNS, widths)))
    for row, line in chain(zip(first, cells, strict=True), ((row, _cells(screen, row)) for row in rest)):
        text = _aligned(line, widths)
        room = None if screen.width is None else max(screen.width - len(text) - 3, 20)
        state = line[_STATE].ljust(widths[_STATE])
        at = 2 + sum(width + 2 for width in widths[:_STATE])
        painted = (
            text[:at]
            + screen.paint(row.run.type if row.run.completed else row.run.state, state)
            + text[at + len(state) :]
        )
        screen.line(f"{painted}   {clipped(row.note, room)}".rstrip())


def _cells(screen: Screen, row: facts.Row) -> tuple[str, ...]:
    run, counts = row.run, row.counts
    return (
        run.id[:7],
        clipped(run.called, _NAME),
        clipped(run.flow, _NAME),
        safe(run.state),
        facts.when(run.started, tty=screen.tty),
        duration(run.took),
        *(
            _at_least(counts, number)
            for number in (counts.completed, counts.cached, counts.failed, counts.running + counts.cut_off)
        ),
    )


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  " + "  ".join(
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for name, cell, width in zip(_COLUMNS, cells, widths, strict=True)
    )


def flow_run(screen: Screen, reader: JournalReader, run: FlowRun, nodes: Iterable[Node], *, everything: bool) -> None:
    """One flow run: its facts, and the tree of what it called."""
    counts = reader.counts(run)
    screen.line(f"{screen.paint('title', safe(run.flow))} {run.id}  {screen.paint(run.state, safe(run.state))}")
    lines = [("name", safe(run.called)), ("function", safe(run.function))]
    if (version := facts.flow_version(reader, run.row)) is not None:
        lines.append(("version", clipped(version, _NAME)))
    if run.idempotency_key:
        lines.append(("idempotency key", safe(run.idempotency_key)))
    parameters = reader.parameters(run)
    if parameters:
        lines += [
            ("parameters" if i == 0 else "", f"{safe(key)} = {value_text(value, 100)}")
            for i, (key, value) in enumerate(parameters.items())
        ]
    lines.append(("started", f"{facts.when(run.started, tty=screen.tty)}, took {duration(run.took)}"))
    said = facts.why(reader, run, counts)
    if said:
        lines.append(("note", said))
    lines.append(("tasks", _counted_run(counts)))
    for number, execution in enumerate(reader.executions(run), 1):
        process = execution.process
        ended = f"to {facts.when(execution.ended, tty=screen.tty)}" if execution.ended is not None else "until now"
        span = f"{facts.when(execution.started, tty=screen.tty)} {ended}"
        versions = f"Python {safe(process.python)}, durable {safe(process.durable)}, SQLite {safe(process.sqlite)}"
        where = f"pid {process.pid} on {safe(process.host)}"
        lines.append((f"execution {number}", f"{safe(execution.state)}, {span}: {where}, {versions}"))
        lines.append(("", f"{safe(facts.command(process.command))}  in {safe(process.folder)}"))
    _facts(screen, lines)
    failure = reader.failure(run)
    if failure is not None and not run.completed:
        screen.line()
        _failure(screen, failure, "  ", None if everything else _TRACEBACK)
    tree(screen, reader, nodes, everything=everything)


def outside(screen: Screen, reader: JournalReader, nodes: Iterable[Node], *, everything: bool) -> None:
    """The task runs outside any flow."""
    screen.line(f"{screen.paint('title', 'tasks outside flows')}: {_counted(reader.counts(None))}")
    tree(screen, reader, nodes, everything=everything)


def task_run(screen: Screen, reader: JournalReader, run: TaskRun, nodes: Iterable[Node]) -> None:
    """One task run: its facts, its error, and what it called."""
    screen.line(f"{screen.paint('title', safe(run.task))} {run.id}  {screen.paint(run.status, run.status)}")
    process = reader.process(run.process_row)
    lines = [("function", safe(run.function))]
    if run.name:
        lines.append(("name", safe(run.name)))
    arguments = reader.arguments(run)
    if arguments:
        lines += [
            ("arguments" if i == 0 else "", f"{safe(key)} = {value_text(value, 100)}")
            for i, (key, value) in enumerate(arguments.items())
        ]
    if run.occurrence > 1:
        lines.append(("occurrence", f"{run.occurrence}: as many equal calls came before it, and itself"))
    lines.append(("state", safe(run.state) + (f": {safe(run.message)}" if run.message else "")))
    took = f", took {duration(run.took)}" if run.took is not None else ", no end recorded"
    lines.append(("started", f"{facts.when(run.began, tty=screen.tty)}{took}, {counted(run.attempts, 'attempt')}"))
    if run.result_bytes is not None:
        lines.append(("recorded", size(run.result_bytes)))
    lines.append(("process", f"pid {process.pid} on {safe(process.host)}, Python {safe(process.python)}"))
    if run.flow_run_row is not None:
        flow = reader.flow_run(run.flow_run_row)
        lines.append(("in flow run", f"{safe(flow.flow)} {flow.id[:7]}, called {safe(flow.called)}"))
    if run.parent_row is not None:
        parent = reader.task_run(run.parent_row)
        lines.append(("called by", f"{facts.call(reader, parent)} {parent.id[:7]}"))
    known = reader.fits(queries.ALL)  # an older journal has no more than the above
    if known:
        from durable.cli import taskpage  # what it reads with takes its time to import: other screens do without

        lines += taskpage.key_lines(screen, reader, run)
    _facts(screen, lines)
    failure = reader.failure(run)
    if failure is not None:
        screen.line()
        _failure(screen, failure, "  ", None)
    if known:
        taskpage.sections(screen, reader, run)
    tree(screen, reader, nodes, everything=True)


def tree(screen: Screen, reader: JournalReader, nodes: Iterable[Node], *, everything: bool) -> None:
    """What was called, one line each or for several equal ones."""
    hidden = False
    for number, node in enumerate(nodes):
        if number == 0:
            screen.line()
        several = f"x{node.calls}  " if node.calls > 1 else ""
        indent = "  " * min(node.depth, 30)
        label = f"{indent}{several}{facts.call(reader, node.first, node.last)}"
        details = _details(screen, node)
        if screen.width is not None:
            label = clipped(label, max(screen.width - 12 - min(len(details), 40), 30))
        line = f"  {screen.paint(node.status, node.status.ljust(8))}  {label.ljust(_CALL)}  {details}"
        screen.line(line.rstrip())
        hidden = hidden or node.calls > 1
        if everything and node.status in ("failed", "timed out"):
            failure = reader.failure(node.first)
            if failure is not None:
                _failure(screen, failure, f"            {indent}", None)
    if hidden:
        note("equal calls are shown together: --all shows each")


def _details(screen: Screen, node: Node) -> str:
    first = node.first
    parts = []
    if node.times is not None:
        parts += [duration(node.times.total), f"p50 {duration(node.times.p50)}", f"p95 {duration(node.times.p95)}"]
    elif node.calls == 1 and first.took is not None and node.status != "pending":
        parts.append(duration(first.took))
    if node.calls > 1:
        parts += [f"[{node.retried} retried]"] if node.retried else []
    elif isinstance(first, TaskRun):
        if first.attempts > 1:
            parts.append(f"[{first.attempts} attempts]")
        if node.status in ("ok", "cached") and first.result_bytes is not None:
            parts.append(size(first.result_bytes))
        if node.status in ("lost", "running?"):
            parts.append(f"attempt {first.attempts} began {facts.when(first.began, tty=screen.tty)}, no end recorded")
        parts.append(first.id[:7])
    else:
        parts.append(first.id[:7])
    if first.message and node.status not in ("ok", "cached"):
        parts.append(clipped(first.message, 100))
    return "  ".join(parts)


def _counted_run(counts: Counts) -> str:
    words = (
        (counts.completed, "done"),
        (counts.cached, "cached"),
        (counts.failed, "failed"),
        (counts.crashed, "crashed"),
        (counts.lost, "lost"),
        (counts.running, "in flight"),
        (counts.rolled_back, "rolled back"),
        (counts.other, "other"),
    )
    return ", ".join(f"{number} {word}" for number, word in words if number) or "none"


def _facts(screen: Screen, lines: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        screen.line(f"  {screen.paint('quiet', name.ljust(width))}  {text}")


def _failure(screen: Screen, failure: Failure, indent: str, longest: int | None) -> None:
    lines = failure.traceback.rstrip("\n").split("\n") if failure.traceback else []
    if not lines:
        lines = f"{failure.type_name}: {failure.message}".split("\n")
    if longest is not None and len(lines) > longest:
        left_out = len(lines) - longest
        lines = [lines[0], f"  ... {counted(left_out, 'line')} left out, --all shows them ...", *lines[-longest + 1 :]]
    for line in lines:
        screen.line(f"{indent}{safe(line)}".rstrip())
