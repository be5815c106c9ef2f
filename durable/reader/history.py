"""One task run with all that is recorded of it: transitions, yields, dependencies, what its key was made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from durable.reader import queries
from durable.reader.calls import Source, source_of
from durable.reader.journal import JournalReader
from durable.reader.model import TaskRun

_LONGEST: Final = 10_000  # transitions of one task run that are shown
_PAGE: Final = 500
_NEIGHBOURS: Final = 100


class Transition(NamedTuple):
    """A task run's entry into a state.

    Attributes:
        source: row of the task, where it was executed from another source than before.
        size: bytes of the result.
    """

    seq: int
    state: int
    at: int
    process: int
    message: str | None
    result: int | None
    source: int | None
    size: int | None


class Yield(NamedTuple):
    """A value that a generator handed out. `result` is None where the value could not be recorded."""

    number: int
    at: int
    process: int
    result: int | None
    size: int | None


class Dependency(NamedTuple):
    """A task run that another waited for, and in which argument it got the result."""

    task_run: int
    argument: str


class Extras(NamedTuple):
    """What is written about a task run beside what `TaskRun` tells."""

    reason: str | None
    version: str | None
    worker: str | None
    tags: tuple[str, ...]
    source: Source
    source_row: int
    cache_key: bytes | None
    expires: int | None
    format: int | None
    yields: int


def transitions(reader: JournalReader, row: int) -> Iterator[Transition]:
    """The transitions of a task run after the first, in order."""
    for found in reader.rows(queries.TASK_STATES, row, _LONGEST):
        yield Transition(*found)


def history(reader: JournalReader, run: TaskRun) -> list[Transition]:
    """All transitions of a task run, in order."""
    ((_, _, _, _, process, state, at, _),) = reader.rows(queries.TASK_RUN_EXTRAS, run.row)
    return [Transition(0, state, at, process, None, None, None, None), *transitions(reader, run.row)]


def extras(reader: JournalReader, run: TaskRun) -> Extras:
    """What else is known of a task run."""
    ((reason, version, worker, tags, _, _, _, row),) = reader.rows(queries.TASK_RUN_EXTRAS, run.row)
    newest = [one.source for one in transitions(reader, run.row) if one.source is not None]
    source_row = newest[-1] if newest else row
    source = source_of(reader, source_row)
    ((count,),) = reader.rows(queries.COUNT_YIELDS, run.row)
    heads = reader.rows(queries.RESULT_HEAD, run.result_row) if run.result_row is not None else []
    format_, _, key, expires, _ = heads[0] if heads else (None,) * 5
    own = (*_list(source.tags), *_list(tags))
    return Extras(reason, version, worker, own, source, source_row, key, expires, format_, count)


def yields(reader: JournalReader, row: int) -> Iterator[Yield]:
    """What a generator yielded, in order, a page at a time."""
    after = 0
    while page := [Yield(*found) for found in reader.rows(queries.YIELDS, row, after, _PAGE)]:
        yield from page
        after = page[-1].number


def upstream(reader: JournalReader, row: int) -> list[Dependency]:
    """The task runs a task run waited for."""
    return [Dependency(*found) for found in reader.rows(queries.UPSTREAM, row, _NEIGHBOURS)]


def downstream(reader: JournalReader, run: TaskRun) -> list[Dependency]:
    """The first task runs that waited for this one, among the next 100,000 of its flow run."""
    if run.flow_run_row is None:
        return []
    return [Dependency(*found) for found in reader.rows(queries.DOWNSTREAM, run.flow_run_row, run.row)]


def _list(text: str | None) -> tuple[str, ...]:
    try:
        found = json.loads(text) if text else []
    except (ValueError, TypeError, RecursionError):
        return ()
    return tuple(str(item) for item in found) if isinstance(found, list) else ()
