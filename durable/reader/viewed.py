"""A journal of a newer schema, read by its public views alone: they keep their columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from durable.reader import sql
from durable.reader.journal import JournalReader
from durable.spoken import digits_of

_NEWEST: Final = (1 << 63) - 1
_PAGE: Final = 500


class ViewedRun(NamedTuple):
    """A row of the view ``flow_runs``. Times are ISO 8601 text. A run that says Running may have lost its process."""

    id: str
    flow: str
    function: str
    state: str
    type: str
    started: str
    ended: str | None
    executions: int
    message: str | None
    row: int


class ViewedTask(NamedTuple):
    """A row of the view ``task_runs``."""

    id: str
    task: str
    state: str
    type: str
    started: str
    seconds: float | None
    attempts: int
    result_bytes: int | None
    message: str | None
    row: int


def viewed_runs(reader: JournalReader, limit: int) -> list[ViewedRun]:
    """The newest flow runs, newest first."""
    return [ViewedRun(*row) for row in reader.rows(sql.VIEWED_RUNS, _NEWEST, limit)]


def viewed_run(reader: JournalReader, prefix: str) -> list[ViewedRun]:
    """At most two flow runs whose id begins with `prefix`, or with what that name says; ``-`` is the newest."""
    if prefix == "-":
        return viewed_runs(reader, 1)
    return [ViewedRun(*row) for row in reader.rows(sql.VIEWED_RUN, digits_of(prefix) or prefix.lower())]


def viewed_tasks(reader: JournalReader, run: ViewedRun) -> Iterator[ViewedTask]:
    """The task runs of a flow run in the order they began."""
    after = 0
    while page := [ViewedTask(*row) for row in reader.rows(sql.VIEWED_TASKS, run.row, after, _PAGE)]:
        yield from page
        after = page[-1].row
