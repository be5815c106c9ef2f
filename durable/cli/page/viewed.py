"""The page for a journal whose tables are newer than this durable: tables of what its public views offer."""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import Final

from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.page.markup import badge, section, table
from durable.cli.page.room import Room
from durable.phrases import duration
from durable.reader import JournalReader
from durable.reader.viewed import viewed_run, viewed_runs, viewed_tasks

_RUNS: Final = 200
_TASKS: Final = 2000


def viewed_body(reader: JournalReader, prefix: str | None, room: Room) -> tuple[str, str]:
    """Title and HTML: the newest runs, and the tasks of the one asked for, or of the newest."""

    def cell(text: object) -> str:
        return escape(room.line(text or "", 120))

    runs = viewed_runs(reader, _RUNS)
    rows = [
        (
            f"<code>{cell(each.id)[:7]}</code>",
            cell(each.flow),
            badge(each.state),
            cell(each.started),
            cell(each.message),
        )
        for each in runs
    ]
    body = section("runs", "Runs", table("Runs, newest first", ("Run", "Flow", "State", "Started", "Message"), rows))
    found = runs[:1] if prefix is None else viewed_run(reader, prefix)
    if prefix is not None and len(found) != 1:
        raise Stopped(NO_SUCH, f"{reader.path}: {len(found) or 'no'} flow runs have ids that begin with {prefix!r}")
    if not found:
        return f"{reader.path.name}: no flow runs", body
    run = found[0]
    tasks = [
        (
            f"<code>{cell(each.id)[:7]}</code>",
            cell(each.task),
            badge(each.state),
            duration(each.seconds * 1e6) if each.seconds is not None else "",
            cell(each.attempts),
            cell(each.message),
        )
        for each in islice(viewed_tasks(reader, run), _TASKS)
    ]
    columns = ("Task run", "Task", "State", "Took", "Attempts", "Message")
    title = f"{run.flow} {run.id[:7]}"
    listed = table(f"The first {_TASKS} task runs", columns, tasks, frozenset({"Took", "Attempts"}))
    return title, f"<h1>{cell(title)} {badge(run.state)}</h1>" + section("tasks", "Task runs", listed) + body
