"""``durable report``: a journal and one of its runs as a page to look at and to pass on."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from durable.cli.choosing import run_of
from durable.cli.exits import DAMAGED, NO_SUCH, WRONG_USAGE, Stopped
from durable.cli.liveness import alive_for
from durable.cli.page import page, viewed_page
from durable.cli.terminal import note
from durable.phrases import size
from durable.reader import FlowRun, JournalReader, TaskRun
from durable.settings import journal_path

_NEWEST: Final = 25
_STDOUT: Final = "-"
_SQLITE: Final = b"SQLite format 3\0"


@click.command(name="report")
@click.argument("journal", metavar="[DB]", required=False)
@click.argument("run", metavar="[RUN]", required=False)
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    help="The file to write; - is standard output.",
)
def report(journal: str | None, run: str | None, output: str) -> None:
    """Write one HTML page about a flow run: where the time went, a timeline, the tree of calls, each task run.

    DB is the journal's file; without it DURABLE_JOURNAL, else runs.db. RUN is the beginning of the id of a flow run, or
    of a task run in it, or "-" for the newest; without it the page lists the newest runs as well.

    The page is one file that needs no network, of at most about 3 MB. Up to 2,000 task runs are shown one by one; of a
    longer run the page has its sums, and by themselves those that failed, were cut off or retried, and the slowest.
    It holds what the journal holds: arguments, messages and tracebacks among it.

    Nothing is written but the page, no code of yours is imported and nothing is unpickled. Exit codes are those of
    `durable inspect`.
    """
    path = journal_path(journal)
    target = None if output == _STDOUT else _target(output, path)
    with JournalReader(path, alive_for(path)) as reader:
        for told in reader.notes:
            note(told)
        problem = reader.health().problem if reader.complete else None
        if problem is not None:
            note(f"a check of the file's structure found: {problem}")
        content = _content(reader, run)
        if reader.changed():
            note("a process began to write while this was read: run the command again for a true picture")
    if target is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        _write(target, content)
        note(f"wrote {target} ({size(len(content))})")
    if problem is not None:
        raise Stopped(DAMAGED, "the journal is damaged: what the page says of it may be wrong")


def _content(reader: JournalReader, prefix: str | None) -> bytes:
    if not reader.complete:
        return viewed_page(reader, prefix)
    if prefix is None:
        newest = reader.flow_runs(1)
        return page(reader, newest[0] if newest else None, _NEWEST)
    return page(reader, _flow_run(reader, prefix), None)


def _flow_run(reader: JournalReader, prefix: str) -> FlowRun:
    run = run_of(reader, prefix)
    if not isinstance(run, TaskRun):
        return run
    if run.flow_run_row is None:
        raise Stopped(
            NO_SUCH,
            f"{reader.path}: {run.id[:7]} is a task run outside any flow, and a report is of a flow run. "
            f"`durable inspect` shows it",
        )
    return reader.flow_run(run.flow_run_row)


def _target(output: str, journal: str) -> Path:
    """Where to write. Refuses what must not be overwritten, before anything is read for long."""
    try:
        file = Path(os.path.realpath(Path(output).expanduser()))
        source = Path(os.path.realpath(Path(journal).expanduser()))
        # The journal is told without opening it: closing it again would drop locks this process may hold on it.
        if str(file).startswith((f"{source}-", f"{source}/")) or file == source or _same(file, source):
            raise Stopped(WRONG_USAGE, f"{file}: that is the journal. Give the page another name: -o report.html")
        if file.exists():
            if not file.is_file():
                raise Stopped(WRONG_USAGE, f"{file}: it is not a regular file. Name a file to write, or use -o -")
            with file.open("rb") as existing:
                if existing.read(len(_SQLITE)) == _SQLITE:
                    raise Stopped(WRONG_USAGE, f"{file}: it is an SQLite database, which a report does not overwrite")
    except (OSError, ValueError, RuntimeError) as error:
        raise Stopped(WRONG_USAGE, f"{output}: it cannot be written: {error}") from None
    return file


def _same(file: Path, other: Path) -> bool:
    return file.exists() and other.exists() and file.samefile(other)


def _write(file: Path, content: bytes) -> None:
    """All of it or nothing: a page that is being looked at is replaced at once."""
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name[:100]}.", suffix=".tmp", dir=file.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        os.replace(temporary, file)  # noqa: PTH105 - as the comment says: at once
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise Stopped(WRONG_USAGE, f"{file}: it cannot be written: {error}") from None
