"""``durable inspect``: what happened, without touching anything."""

from __future__ import annotations

import click

from durable.cli import document, text, viewed
from durable.cli.choosing import flow_run_of, opened, run_of, split, task_of
from durable.cli.completing import words_complete
from durable.cli.exits import DAMAGED, NOT_COMPLETED, Stopped
from durable.cli.terminal import Colour, Screen, note
from durable.reader import JournalReader, TaskRun, calls_of, collapsed, every

OUTSIDE = "outside"


@click.command(name="inspect")
@click.argument("words", metavar="[DB] [RUN [TASK]]", nargs=-1, shell_complete=words_complete)
@click.option(
    "--all", "everything", is_flag=True, help="Every run of the journal; every call of a run; whole tracebacks."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many runs of the journal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: schema/cli/inspect.schema.json.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the run, or the newest one, did not complete.")
@click.option("--color", "colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def inspect(
    words: tuple[str, ...],
    *,
    everything: bool,
    limit: int,
    as_json: bool,
    exit_code: bool,
    colour: Colour,
) -> None:
    """Show what a journal holds, one run of it, or one task run with its whole history.

    DB is the journal's file; without it the one that is set (by DURABLE_JOURNAL, say), else runs.db. RUN is the
    beginning of the id of a flow run or task run, the name of a flow run, "-" for the newest flow run, or "outside" for
    the tasks called outside any flow. TASK is the beginning of the id of a task run of that
    flow run, or the name of one or of its task.

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
    journal, rest = split(words, ("RUN", "TASK"))
    run, task = (*rest, None, None)[:2]
    with opened(journal) as reader:
        if not reader.complete:
            completed = viewed.show(reader, run, None if everything else limit, as_json=as_json)
        elif run is None:
            completed = _dashboard(reader, None if everything else limit, colour, as_json=as_json)
        elif task is not None:
            completed = _task(reader, task_of(reader, flow_run_of(reader, run), task), colour, as_json=as_json)
        else:
            completed = _run(reader, run, colour, everything=everything, as_json=as_json)
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
    run = run_of(reader, prefix)
    if isinstance(run, TaskRun):
        return _task(reader, run, colour, as_json=as_json)
    nodes = (every if everything else collapsed)(reader, run)
    if as_json:
        document.flow_run(reader, reader.health(), run, nodes)
    else:
        text.flow_run(Screen(colour), reader, run, nodes, everything=everything)
    return run.completed


def _task(reader: JournalReader, run: TaskRun, colour: Colour, *, as_json: bool) -> bool:
    if as_json:
        document.task_run(reader, reader.health(), run, calls_of(reader, run))
    else:
        text.task_run(Screen(colour), reader, run, calls_of(reader, run))
    return run.status in ("ok", "cached")
