"""``durable inspect``: what happened, without touching anything."""

from __future__ import annotations

import click

from durable.cli import document, text, viewed
from durable.cli.exits import DAMAGED, NO_SUCH, NOT_COMPLETED, Stopped
from durable.cli.liveness import alive_for
from durable.cli.terminal import Colour, Screen, note
from durable.reader import FlowRun, JournalReader, TaskRun, calls_of, collapsed, every
from durable.settings import journal_path

OUTSIDE = "outside"


@click.command(name="inspect")
@click.argument("journal", metavar="[DB]", required=False)
@click.argument("run", metavar="[RUN]", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="Every run of the journal; every call of a run; whole tracebacks."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many runs of the journal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document; its shape is told below.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the run, or the newest one, did not complete.")
@click.option("--color", "colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def inspect(
    journal: str | None,
    run: str | None,
    *,
    everything: bool,
    limit: int,
    as_json: bool,
    exit_code: bool,
    colour: Colour,
) -> None:
    """Show what a journal holds, or one run of it.

    DB is the journal's file; without it the one that is set (by DURABLE_JOURNAL, say), else runs.db. RUN is the
    beginning of the id of a flow run or task run, the name of a flow run, "-" for the newest flow run, or "outside" for
    the tasks called outside any flow.

    Equal calls (the same task in the same state) are shown together from four up; --all shows each. Nothing is written,
    no code of yours is imported and nothing is unpickled, whatever state the file is in.

    \b
    States of a task run:
      ok, cached           completed; with another run's result
      failed, timed out    ended with an error
      crashed, lost        cut off: the process said so, or died
      rolled back          completed, then undone with its transaction
      running, retrying, waiting, pending, cancelled
      running?             nobody can tell whether the process lives

    \b
    JSON (--json), on standard output:
      {"schema": 1, "journal": {...}, "next": {"run", "text"} | null,
       "outside": {counts} | null, "runs": [{"id", "called", "flow",
       "state", "started", "ended", "seconds", "tasks": {counts},
       "note", ...}]}
      with RUN: {"schema": 1, "journal", "run" or "task", "entries":
       [{"kind", "depth", "status", "count", "first", "last", ...}]}
      Ids are whole, times ISO 8601 UTC, durations seconds. What JSON
      cannot say is {"$bytes": base64} or {"$repr": text}.

    \b
    Exit codes:
      0  shown
      1  with --exit-code: the run did not complete
      2  wrong usage
      3  no such file or run, or the file is no journal
      4  another process keeps the journal locked
      5  the journal is damaged
      130  interrupted
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    path = journal_path(journal)
    with JournalReader(path, alive_for(path)) as reader:
        for told in reader.notes:
            note(told)
        if not reader.complete:
            completed = viewed.show(reader, run, None if everything else limit, as_json=as_json)
        elif run is None:
            completed = _dashboard(reader, None if everything else limit, colour, as_json=as_json)
        else:
            completed = _run(reader, run, colour, everything=everything, as_json=as_json)
        if reader.changed():
            note("a process began to write while this was read: run the command again for a true picture")
    if exit_code and not completed:
        raise Stopped(NOT_COMPLETED)


def _dashboard(reader: JournalReader, limit: int | None, colour: Colour, *, as_json: bool) -> bool:
    health = reader.health()
    if health.problem is not None:
        note(f"a check of the file's structure found: {health.problem}")
    if as_json:
        completed = document.dashboard(reader, health, limit)
    else:
        completed = text.dashboard(Screen(colour), reader, health, limit)
    if health.problem is not None:
        raise Stopped(
            DAMAGED,
            "the journal is damaged. Keep a copy of it and of its -wal file; `sqlite3 FILE .recover` may save most",
        )
    return completed


def _run(reader: JournalReader, prefix: str, colour: Colour, *, everything: bool, as_json: bool) -> bool:
    if prefix == OUTSIDE:
        nodes = (every if everything else collapsed)(reader, None)
        if as_json:
            document.outside(reader, reader.health(), nodes)
        else:
            text.outside(Screen(colour), reader, nodes, everything=everything)
        return True
    run = chosen(reader, prefix)
    if isinstance(run, TaskRun):
        if as_json:
            document.task_run(reader, reader.health(), run, calls_of(reader, run))
        else:
            text.task_run(Screen(colour), reader, run, calls_of(reader, run))
        return run.status in ("ok", "cached")
    nodes = (every if everything else collapsed)(reader, run)
    if as_json:
        document.flow_run(reader, reader.health(), run, nodes)
    else:
        text.flow_run(Screen(colour), reader, run, nodes, everything=everything)
    return run.completed


def chosen(reader: JournalReader, prefix: str) -> FlowRun | TaskRun:
    """The run a person means: by the beginning of its id, or ``-`` for the newest."""
    if prefix == "-":
        newest = reader.latest()
        if newest is None:
            raise Stopped(NO_SUCH, f"{reader.path}: nothing was run yet")
        return newest
    found = reader.find(prefix)
    if not found:
        raise Stopped(
            NO_SUCH,
            f"{reader.path}: no flow run is called {prefix!r}, and no id begins so. See `durable inspect`",
        )
    if len(found) > 1:
        ids = ", ".join(run.id[: max(len(prefix) + 4, 7)] for run in found)
        raise Stopped(
            NO_SUCH, f"{reader.path}: several runs are called {prefix!r}, or have ids that begin so: {ids}... Give one"
        )
    return found[0]
