"""What both the text and the JSON say about a run: its call, why it stopped, and what running again would do."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from durable.cli.terminal import value_text
from durable.clock import clock
from durable.phrases import counted, moment, safe
from durable.reader import Counts, FlowRun, JournalReader, TaskRun, queries

RESUME_WITHIN: Final = 12 * 3600 * 1_000_000  # the default of @flow(resume_within=...); the journal does not record it
_ARGUMENT: Final = 40
_PAGE: Final = 100
_COUNTED: Final = 2_000_000  # task runs that a dashboard counts at most,
_COUNTED_OF_ONE: Final = 10_000  # and of a run when it has counted so many


class Row(NamedTuple):
    """One flow run of the dashboard."""

    run: FlowRun
    counts: Counts
    note: str


class Hint(NamedTuple):
    """What to do next."""

    run: FlowRun
    text: str


def outside(reader: JournalReader, limit: int | None) -> Counts:
    """The task runs outside any flow, as a dashboard of `limit` runs counts them."""
    return reader.counts(None, None if limit is None else _COUNTED)


def rows(reader: JournalReader, limit: int | None) -> Iterator[Row]:
    """The newest runs, newest first; None: all of them, with all of their task runs counted."""
    before: int | None = None
    rest = _COUNTED
    while limit is None or limit > 0:
        page = reader.flow_runs(_PAGE if limit is None else min(limit, _PAGE), before)
        for run in page:
            counts = reader.counts(run, None if limit is None else max(rest, _COUNTED_OF_ONE))
            rest -= counts.total
            yield Row(run, counts, why(reader, run, counts))
        if not page:
            return
        before = page[-1].row
        limit = None if limit is None else limit - len(page)


def why(reader: JournalReader, run: FlowRun, counts: Counts) -> str:
    """Why a run is where it is, in a line; empty if there is nothing to say."""
    if run.type in ("COMPLETED", "CANCELLED"):
        return safe(run.message or "")
    if run.type == "PENDING":
        return f"a fork, not begun: durable resume {safe(reader.path.name)} {run.id[:7]}"
    owner = f"process {run.process.pid} on {safe(run.process.host)}"
    if run.ended is None:
        return owner if run.live else f"{owner}, if it still lives"
    said = f"{owner} died" if run.died else safe(run.message or "")
    if counts.cut_off and counts.newest_cut_off is not None:
        others = f" and {counted(counts.cut_off - 1, 'other')}" if counts.cut_off > 1 else ""
        ran = f"while {call(reader, reader.task_run(counts.newest_cut_off))}{others} ran"
        said = f"{said} {ran}" if run.died else f"{said} ({ran})" if said else ran
    return said


def hint(reader: JournalReader, shown: list[Row]) -> Hint | None:
    """What running the script again would do about the newest run that can be continued."""
    for run, counts, _ in shown:
        if run.type in ("COMPLETED", "CANCELLED") or run.ended is None:
            continue
        again = _again(reader, run, counts)
        kept = counts.completed + counts.cached
        least = "more than " if counts.more else ""
        restored = f"{least}{counted(kept, 'task')} will be restored" if kept else "nothing is there to be restored"
        begin = "re-run your script"
        if clock().now() - run.ended > RESUME_WITHIN and run.idempotency_key is None:
            begin = f"that was more than 12 hours ago: re-run your script with DURABLE_RESUME={run.id[:7]}"
        return Hint(run, f"{begin}: {restored}, {again}")
    return None


def _again(reader: JournalReader, run: FlowRun, counts: Counts) -> str:
    parts = []
    if counts.cut_off == 1 and counts.newest_cut_off is not None:
        task = reader.task_run(counts.newest_cut_off)
        parts.append(f"{call(reader, task)} runs again (attempt {task.attempts + 1})")
    elif counts.cut_off:
        parts.append(f"{counts.cut_off} tasks that were cut off run again")
    if run.type == "FAILED" and counts.failed:
        parts.append(f"{counts.failed} failed {'task runs' if counts.failed == 1 else 'tasks run'} again")
    if counts.rolled_back:
        undone = counts.rolled_back
        parts.append(f"{undone} rolled back {'task runs' if undone == 1 else 'tasks run'} again")
    return " and ".join(parts) or "and the flow goes on from there"


def call(reader: JournalReader, first: TaskRun | FlowRun, last: TaskRun | FlowRun | None = None) -> str:
    """A call as Python would write it, arguments cut short; with `last`, a range of calls: ``load(shard=0 .. 810)``."""
    name = first.task if isinstance(first, TaskRun) else f"flow {first.flow}"
    found = reader.arguments(first)
    if found is None:
        return f"{safe(name)}(?)"
    arguments = {key: _argument(value) for key, value in found.items()}
    if last is not None and last.row != first.row:
        ends = {key: _argument(value) for key, value in (reader.arguments(last) or {}).items()}
        arguments = {
            key: text if ends.get(key, text) == text else f"{text} .. {ends[key]}" for key, text in arguments.items()
        }
    return f"{safe(name)}({', '.join(f'{safe(key)}={text}' for key, text in arguments.items())})"


def _argument(value: Any) -> str:
    return value_text(value, _ARGUMENT)


def when(microseconds: int, *, tty: bool) -> str:
    """A moment: local and in words for a person, ISO 8601 UTC for a program."""
    return moment(microseconds, clock().now()) if tty else iso(microseconds)[:19] + "Z"


def iso(microseconds: int) -> str:
    """A moment as ISO 8601 UTC, to the microsecond."""
    from datetime import datetime, timedelta, timezone

    try:
        at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=microseconds)
    except OverflowError:
        return "?" * 26
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def command(recorded: str) -> str:
    """A process's command line, as a shell would take it."""
    try:
        words = json.loads(recorded)
    except (ValueError, RecursionError):
        return recorded
    import shlex

    return shlex.join(map(str, words)) if isinstance(words, list) else recorded


def has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """Whether an SQLite can corrupt a log when one connection resets it while another checkpoints."""
    if version[:2] in ((3, 50), (3, 44)):
        return version < ((3, 50, 7) if version[1] == 50 else (3, 44, 6))
    return (3, 7, 0) <= version <= (3, 51, 2)


def flow_version(reader: JournalReader, row: int) -> str | None:
    """The version its flow had when a flow run began, if it had one."""
    found = reader.rows(queries.FLOW_RUN_EXTRAS, row)
    return None if not found or found[0][4] is None else str(found[0][4])
