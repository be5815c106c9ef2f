"""What the words of a read command mean: the journal's file first, then a run, then a task of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import click

from durable.cli import facts
from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.liveness import alive_for
from durable.cli.terminal import note
from durable.phrases import safe
from durable.reader import FlowRun, JournalReader, TaskRun, queries
from durable.settings import journal_path

LATEST: Final = "-"
_CHOICES: Final = 6


def split(words: Sequence[str], names: Sequence[str]) -> tuple[str | None, list[str]]:
    """The journal and the words after it. `names` are what those stand for, for the message of one too many.

    The journal may be left out where the first word cannot be one: it is ``-``, or it has neither a dot nor a slash in
    it and no file is called so.
    """
    journal, rest = (None, list(words)) if not words or _is_no_file(words[0]) else (words[0], list(words[1:]))
    if len(rest) > len(names):
        raise click.UsageError(f"Got unexpected extra argument ({rest[len(names)]})")
    return journal, rest


def needed(words: Sequence[str], names: Sequence[str], least: int) -> tuple[str | None, list[str]]:
    """As `split`, for a command that cannot do without the first `least` of `names`."""
    journal, rest = split(words, names)
    if len(rest) < least:
        raise click.UsageError(f"Missing argument '{names[len(rest)]}'.")
    return journal, rest


def _is_no_file(word: str) -> bool:
    return word == LATEST or not ("." in word or "/" in word or os.sep in word or os.path.exists(word))  # noqa: PTH110 - it may be no path


@contextmanager
def opened(journal: str | None, *, whole: str | None = None) -> Iterator[JournalReader]:
    """The journal, to be read; what is to be said about how it was opened goes to standard error.

    Args:
        whole: the name of the command, if it needs the tables and cannot do with the public views.
    """
    path = journal_path(journal)
    with JournalReader(path, alive_for(path)) as reader:
        for told in reader.notes:
            note(told)
        if whole is not None and not (reader.complete and reader.fits(queries.ALL)):
            raise Stopped(
                NO_SUCH,
                f"{reader.path}: `durable {whole}` does not know the tables of schema {reader.version}. "
                "`durable inspect` shows what can be shown of it; an older journal is brought up to date by the next "
                "run of its script",
            )
        yield reader
        if reader.changed():
            note("a process began to write while this was read: run the command again for a true picture")


def run_of(reader: JournalReader, word: str) -> FlowRun | TaskRun:
    """The run that a word means: the newest for ``-``, otherwise the one whose id begins so.

    Raises:
        Stopped: none, or several.
    """
    if word == LATEST:
        newest = reader.latest()
        if newest is None:
            raise Stopped(NO_SUCH, f"{reader.path}: nothing was run yet")
        return newest
    found = reader.find(word)
    if not found:
        raise Stopped(
            NO_SUCH, f"{reader.path}: no flow run is called {word!r}, and no id begins so. See `durable inspect`"
        )
    if len(found) > 1:
        ids = ", ".join(run.id[: max(len(word) + 4, 7)] for run in found)
        raise Stopped(
            NO_SUCH, f"{reader.path}: several runs are called {word!r}, or have ids that begin so: {ids}... Give one"
        )
    return found[0]


def flow_run_of(reader: JournalReader, word: str) -> FlowRun:
    """The flow run that a word means. Raises `Stopped` also where it means a task run."""
    found = run_of(reader, word)
    if isinstance(found, TaskRun):
        where = f" It belongs to {reader.flow_run(found.flow_run_row).id[:7]}" if found.flow_run_row is not None else ""
        raise Stopped(NO_SUCH, f"{reader.path}: {word!r} is a task run, and a flow run is asked for.{where}")
    return found


def task_of(reader: JournalReader, run: FlowRun, word: str) -> TaskRun:
    """The task run of a flow run, or of its subflows, that a word means: its id begins so, or it or its task is called
    so.

    Raises:
        Stopped: none, or several, which are told.
    """
    found = tasks_of(reader, run, word)
    if not found:
        raise Stopped(
            NO_SUCH,
            f"{reader.path}: in {run.flow} {run.id[:7]} no task run or task is called {word!r}, and no id begins so. "
            f"See `durable inspect {reader.path.name} {run.id[:7]}`",
        )
    if len(found) > 1:
        told = ", ".join(f"{one.id[:7]} {facts.call(reader, one)}" for one in found[: _CHOICES - 1])
        more = ", ..." if len(found) >= _CHOICES else ""
        raise Stopped(NO_SUCH, f"{reader.path}: {word!r} may be {told}{more}. Give the id of one")
    return found[0]


def tasks_of(reader: JournalReader, run: FlowRun, word: str) -> list[TaskRun]:
    """At most six task runs of a flow run and its subflows that a word means."""
    family = reader.family(run.row)
    members = frozenset(family)
    by_id = [one for one in reader.find(word) if isinstance(one, TaskRun) and one.flow_run_row in members]
    if by_id:
        return by_id
    rows: list[int] = []
    for member in family:
        if len(rows) < _CHOICES:
            rows += [row for (row,) in reader.rows(queries.NAMED, member, word)]
    return [reader.task_run(row) for row in rows[:_CHOICES]]


def title(run: FlowRun) -> str:
    """A flow run in a few words."""
    return f"{safe(run.flow)} {run.id[:7]}"
