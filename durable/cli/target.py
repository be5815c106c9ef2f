"""What a command is about: the journal's file and one flow run in it."""

from __future__ import annotations

from durable.cli.choosing import flow_run_of, needed
from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.liveness import alive_for
from durable.journal import Journal, open_journal
from durable.reader import FlowRun, JournalReader
from durable.settings import durability, journal_path
from durable.states import ROLLED_BACK

SCHEMA = 1  # of the JSON documents


def split(words: tuple[str, ...], *, needs_run: bool) -> tuple[str, str | None]:
    """``[DB] [RUN]`` as given, the journal by its path.

    Raises:
        UsageError: there are more words, or there is no run and `needs_run`.
    """
    journal, rest = needed(words, ("RUN",), 1 if needs_run else 0)
    return journal_path(journal), rest[0] if rest else None


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


def flow_run(reader: JournalReader, word: str) -> FlowRun:
    """The flow run that a word means, which is not a subflow; ``-`` is the newest.

    Raises:
        Stopped: there is none, or several; or it is a subflow, whose root is named.
    """
    run = flow_run_of(reader, word)
    if run.parent_row is not None:
        top, seen = run, {run.row}
        while top.parent_row is not None and top.parent_row not in seen:  # in a damaged file it may be its own ancestor
            seen.add(top.parent_row)
            top = reader.flow_run(top.parent_row)
        raise Stopped(NO_SUCH, f"{reader.path}: {run.id[:7]} is a subflow of run {top.id[:7]}: name that one")
    return run


def is_over(run: FlowRun) -> bool:
    """Whether no run of the script continues it: it completed, and was not rolled back since, or it was cancelled."""
    return run.type == "CANCELLED" or (run.completed and run.state != ROLLED_BACK.name)


def writing(reader: JournalReader) -> Journal:
    """The journal that `reader` has shown to be one, opened to be written. Closes the reader: within one process SQLite
    shares what it knows of a file, and would go on without writing to the log's index.
    """
    reader.close()
    return open_journal(reader.path, durability())
