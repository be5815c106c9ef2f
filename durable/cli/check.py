"""``durable check``: is the journal sound, and is this a good place for one?"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click

from durable.cli import facts
from durable.cli.exits import DAMAGED, Stopped
from durable.cli.liveness import alive_for
from durable.cli.target import SCHEMA
from durable.cli.terminal import Colour, Screen, note
from durable.errors import JournalError
from durable.filesystem import filesystem_type, is_unsafe
from durable.ownership import live_runs
from durable.phrases import counted, duration, safe, size
from durable.reader import JournalReader
from durable.reader.checking import EVERYTHING, STRUCTURE, USUAL, Check
from durable.reader.opening import has_log, sizes
from durable.settings import journal_path

_SHOWN: Final = 20  # of what one check finds
_PRAGMAS: Final = ("journal_mode", "page_size", "page_count", "freelist_count", "auto_vacuum", "encoding")
_SYNCS: Final = 20


@click.command()
@click.argument("journal", metavar="[DB]", required=False)
@click.option("--full", is_flag=True, help="Compare every index with its table, and decode every value, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document; its shape is told below.")
@click.option("--color", "colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def check(journal: str | None, *, full: bool, as_json: bool, colour: Colour) -> None:
    """Check that a journal is sound: SQLite's own check, and every promise of schema/journal.sql on every row. And tell
    about the place it is in: SQLite's version and known bugs, the file system, how long an fsync takes there (measured
    on a file of its own, which is removed).

    All of the file is read, in memory that does not grow with it. It may be live; checkpoints then wait a little.

    The shape of --json is documented in schema/cli/check.schema.json.

    \b
    Exit codes:
      0  sound
      5  damaged
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    path = journal_path(journal)
    with JournalReader(path, alive_for(path)) as reader:
        checks = (EVERYTHING if full else USUAL) if reader.complete else (STRUCTURE,)
        found = [(each, *_run(reader, each)) for each in checks]
        place = _place(reader)
        if reader.changed():
            note("a process began to write while this was read: run the command again for a true picture")
            found = [(each, 0, []) for each, _, _ in found]
    sound = not any(number for _, number, _ in found)
    if as_json:
        document = {
            "schema": SCHEMA,
            "journal": str(reader.path),
            "sound": sound,
            "checks": [
                {"name": each.name, "promise": each.promise, "found": number, "examples": examples}
                for each, number, examples in found
            ],
            "place": place,
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _show(Screen(colour), reader, found, place)
    if not sound:
        raise Stopped(
            DAMAGED,
            "the journal is damaged. Keep a copy of it and of its -wal file; `sqlite3 FILE .recover` may save most",
        )


def _run(reader: JournalReader, each: Check) -> tuple[int, list[str]]:
    """How much is wrong, and the first of it. A file that cannot be read further is damaged, not an error of ours."""
    lines = each.find(reader)
    try:
        examples = [safe(line) for line in islice(lines, _SHOWN)]
        return len(examples) + sum(1 for _ in lines), examples
    except JournalError as error:
        return 1, [safe(error.reason)]


def _place(reader: JournalReader) -> dict[str, Any]:
    folder = reader.path.parent
    kind = filesystem_type(folder)
    return {
        "bytes": sizes(reader.path),
        "schema": reader.version,
        "sqlite": sqlite3.sqlite_version,
        "wal_reset_bug": facts.has_wal_reset_bug(),
        "file_system": kind,
        "unsafe": is_unsafe(kind),
        # Read without a log beside it, a file is opened as if it never changed, and SQLite tells of no journal mode.
        "pragmas": {
            name: reader.rows(f"PRAGMA {name}")[0][0]
            for name in _PRAGMAS
            if name != "journal_mode" or has_log(reader.path)
        },
        "fsync_seconds": _fsync_seconds(folder),
        "live_runs": live_runs(reader.path),
        "notes": list(reader.notes),
    }


def _fsync_seconds(folder: Path) -> float | None:
    """The median of some fsyncs of a page that is appended, in seconds; None where nothing can be written."""
    times = []
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".durable-check-", buffering=0) as file:
            for _ in range(_SYNCS):
                before = time.perf_counter()
                file.write(b"\0" * 4096)
                os.fsync(file.fileno())
                times.append(time.perf_counter() - before)
    except OSError:
        return None
    return sorted(times)[len(times) // 2]


def _show(
    screen: Screen, reader: JournalReader, found: list[tuple[Check, int, list[str]]], place: dict[str, Any]
) -> None:
    for told in reader.notes:
        note(told)
    for each, number, examples in found:
        word = screen.paint("damaged", "BAD") if number else screen.paint("ok", "ok ")
        screen.line(f"  {word}  {each.name.ljust(15)} {each.promise}")
        for line in examples:
            screen.line(f"       {line}")
        if number > len(examples):
            screen.line(f"       and {number - len(examples)} more")
    screen.line()
    pragmas = place["pragmas"]
    bug = " has the WAL-reset bug, which durable avoids (fixed in 3.51.3, 3.50.7, 3.44.6)"
    free = pragmas["freelist_count"] * pragmas["page_size"]
    unsafe = ": a write-ahead log can be corrupted there" if place["unsafe"] else ""
    sync = place["fsync_seconds"]
    lines = {
        "file": f"{safe(str(reader.path))}, {size(place['bytes'])}, schema {place['schema']}, {size(free)} free in it",
        "SQLite": sqlite3.sqlite_version + (bug if place["wal_reset_bug"] else ""),
        "file system": (place["file_system"] or "unknown here") + unsafe,
        "pragmas": ", ".join(f"{name} {value}" for name, value in pragmas.items()),
        "fsync": "the folder cannot be written" if sync is None else f"{duration(sync * 1e6)}, about what a task costs",
        "live": counted(len(place["live_runs"]), "run"),
    }
    for name, text in lines.items():
        screen.line(f"  {screen.paint('quiet', name.ljust(11))}  {text}")
