"""What a command is about: the journal's file and one flow run in it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.liveness import alive_for
from durable.journal import Journal, open_journal
from durable.reader import FlowRun, JournalReader
from durable.settings import durability, journal_path

SCHEMA = 1  # of the JSON documents


def split(words: tuple[str, ...], *, needs_run: bool) -> tuple[str, str | None]:
    """``[DB] [RUN]`` as given. The journal may be left out where the first word cannot be one: it is ``-``, or it has
    neither a dot nor a slash in it and no file is called so.

    Raises:
        UsageError: there are more words, or there is no run and `needs_run`.
    """
    journal, rest = (None, words) if not words or _is_no_file(words[0]) else (words[0], words[1:])
    if len(rest) > 1 or (needs_run and not rest):
        raise click.UsageError(f"expected {'[DB] RUN' if needs_run else '[DB] [RUN]'}")
    return journal_path(journal), rest[0] if rest else None


def _is_no_file(word: str) -> bool:
    return word == "-" or not ("." in word or "/" in word or os.sep in word or Path(word).exists())


def reading(path: str) -> JournalReader:
    """The journal, read-only, with its tables understood.

    Raises:
        Stopped: it is of another schema, which this command cannot do without.
    """
    reader = JournalReader(path, alive_for(path))
    if not reader.complete:
        reader.close()
        raise Stopped(NO_SUCH, f"{reader.path}: {'; '.join(reader.notes)}")
    return reader


def flow_run(reader: JournalReader, prefix: str, *, root: bool = True) -> FlowRun:
    """The flow run whose id begins with `prefix`; ``-`` is the newest.

    Raises:
        Stopped: there is none, or several; or it is a subflow, and `root` asks for one that is not.
    """
    if prefix == "-":
        newest = reader.flow_runs(1)
        if not newest:
            raise Stopped(NO_SUCH, f"{reader.path}: no flow was run yet")
        return newest[0]
    found = [run for run in reader.find(prefix) if isinstance(run, FlowRun)]
    if len(found) > 1:
        ids = ", ".join(run.id[: len(prefix) + 4] for run in found)
        raise Stopped(
            NO_SUCH, f"{reader.path}: several runs have ids that begin with {prefix!r}: {ids}... Give more digits"
        )
    if not found:
        raise Stopped(
            NO_SUCH, f"{reader.path}: no flow run has an id that begins with {prefix!r}. See `durable inspect`"
        )
    (run,) = found
    if root and run.parent_row is not None:
        top = run
        while top.parent_row is not None:
            top = reader.flow_run(top.parent_row)
        raise Stopped(NO_SUCH, f"{reader.path}: {run.id[:7]} is a subflow of run {top.id[:7]}: name that one")
    return run


def writing(reader: JournalReader) -> Journal:
    """The journal that `reader` has shown to be one, opened to be written. Closes the reader: within one process SQLite
    shares what it knows of a file, and would go on without writing to the log's index.
    """
    reader.close()
    return open_journal(reader.path, durability())
