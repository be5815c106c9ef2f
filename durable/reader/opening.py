"""Opening a journal to look at it: harmless to the file, its log and whoever writes to it.

Rules:

1. Nothing beside the journal is created, changed or removed. So a journal without a log is opened as immutable (a
   plain read-only connection would create a log), and one with a log with its wal-index read-only; SQLite then builds
   a private index where nobody keeps the shared one.
2. Only where that fails is a plain read-only connection made, which may create or rebuild SQLite's own ``-shm`` file
   and nothing else; and only if that fails too, the log is left out. Both are said in a note.
3. Never `open()` the file: closing it would drop the POSIX locks that this process holds on it, SQLite's among them.
   Closing an immutable connection does too; one is only used where nobody has the file open for writing.
4. Whoever wrote the file is not trusted: no functions in its schema, text that is not UTF-8 is shown as it is.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from durable.dialect import APPLICATION_ID, VERSION, bound
from durable.errors import JournalBusy, JournalError, JournalNotFound, NotAJournal
from durable.reader.sql import ALL

BUSY_SECONDS: Final = 5.0
_TABLES: Final = frozenset(
    {"flow", "flow_run", "flow_run_state", "process", "result", "task", "task_run", "task_run_state"}
)


class Damaged(JournalError):
    """The file is a journal, and SQLite or durable cannot make sense of a part of it."""


class Opened(NamedTuple):
    """A read-only connection, and what is to be said about it.

    Attributes:
        version: the journal's schema.
        complete: the tables this durable knows are there; otherwise only the public views can be counted on.
        immutable: the file was without a log, and is read as if it never changed.
        notes: sentences for people.
    """

    connection: sqlite3.Connection
    path: Path
    version: int
    complete: bool
    immutable: bool
    notes: tuple[str, ...]


def open_for_reading(path: str | os.PathLike[str]) -> Opened:
    """Open a journal read-only.

    Raises:
        JournalNotFound: there is no such file.
        NotAJournal: it is something else.
        Damaged: it begins like a journal, and cannot be read.
        JournalBusy: another process keeps it locked.
        JournalError: this user may not read it.
    """
    try:
        file = Path(os.path.realpath(Path(path).expanduser()))
    except (ValueError, RuntimeError) as error:  # a null byte; a home that cannot be found
        raise JournalNotFound(os.fspath(path), f"it cannot be the name of a file: {error}") from None
    _check_file(file)
    try:
        return _opened(file)
    except sqlite3.Error as error:
        if not is_passing(error):
            raise explained(file, error) from error
    try:
        return _opened(file)
    except sqlite3.Error as error:
        raise explained(file, error) from error


def _opened(file: Path) -> Opened:
    notes: list[str] = []
    connection, immutable = _connect(file, notes)
    try:
        if immutable and not notes:
            _check_length(file, connection)
        version, complete = _identify(file, connection)
    except BaseException:
        connection.close()
        raise
    if version > VERSION:
        rest = "" if complete else ", by its public views only"
        known = f"schema {version}, this one knows {VERSION}"
        notes.append(f"written by a newer durable ({known}): shown as far as it is understood{rest}")
    elif not complete:
        notes.append(
            f"written by an older durable (schema {version}): shown by its public views only, until the next run of "
            "its script brings it up to date"
        )
    return Opened(connection, file, version, complete, immutable, tuple(notes))


def is_passing(error: sqlite3.Error) -> bool:
    """Whether opening the file again may help: the log's shared index was whole when this connection was opened, and
    then its writer died in the middle of it. One that is opened now builds an index of its own.
    """
    return "readonly" in str(error)


def explained(file: Path, error: sqlite3.Error) -> JournalError:
    """What an SQLite error while reading means for the user."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return JournalBusy(str(file), f"another process keeps it locked ({text}). Try again; nothing was changed")
    if "not a database" in text or "encrypted" in text:
        return NotAJournal(str(file), "it is not an SQLite database, so not a journal of durable")
    if "unable to open" in text or "readonly" in text:
        return JournalError(
            str(file), f"SQLite cannot open it: {text}. Check the permissions of the file, its folder and its -wal file"
        )
    return Damaged(
        str(file),
        f"it is damaged: {text}. Keep a copy of it and of its -wal file; `sqlite3 FILE .recover` may save most of it",
    )


def sizes(file: Path) -> int:
    """Bytes of the file and its log."""
    return sum(_size(Path(f"{file}{suffix}")) for suffix in ("", "-wal"))


def has_log(file: Path) -> bool:
    """Whether a writer has it open, or left something to be read beside the file."""
    return any(Path(f"{file}{suffix}").exists() for suffix in ("-wal", "-shm", "-journal"))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _check_file(file: Path) -> None:
    try:
        status = file.stat()
    except FileNotFoundError:
        raise JournalNotFound(
            str(file), "there is no such file. A journal is made by the first flow or task that runs"
        ) from None
    except (OSError, ValueError) as error:
        raise JournalError(str(file), f"it cannot be read: {error}") from None
    if file.is_dir():
        raise NotAJournal(str(file), "expected a file, found a folder")
    if not file.is_file():
        raise NotAJournal(str(file), "it is not a regular file")
    if status.st_size == 0 and not has_log(file):
        raise NotAJournal(str(file), "it is empty: nothing was recorded yet")
    if not os.access(file, os.R_OK):
        raise JournalError(str(file), "you may not read it; ask its owner")


def _connect(file: Path, notes: list[str]) -> tuple[sqlite3.Connection, bool]:
    if not has_log(file):
        return _open(file, "immutable=1"), True
    failed: sqlite3.Error | None = None
    for options in ("readonly_shm=1", ""):
        had_index = Path(f"{file}-shm").exists()
        try:
            connection = _open(file, options)
        except sqlite3.OperationalError as error:
            failed = error
            if "locked" in str(error):
                break
            continue
        if not options and not had_index and Path(f"{file}-shm").exists():
            notes.append(f"to read the log beside {file.name}, SQLite made its index {file.name}-shm")
        return connection, False
    assert failed is not None  # noqa: S101 - a loop that does not return has failed
    if "unable to open" in str(failed) or "readonly" in str(failed):
        notes.append(
            f"the write-ahead log {file.name}-wal cannot be read from here ({failed}): what was recorded last may be "
            "missing. Copy the file together with its -wal file to a folder of your own"
        )
        return _open(file, "immutable=1"), True
    raise explained(file, failed) from failed


def _open(file: Path, options: str) -> sqlite3.Connection:
    """A connection that has been seen to read. Raises JournalError for what no other way of opening would mend."""
    uri = f"{file.as_uri()}?mode=ro&{options}"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.OperationalError:
        raise
    except sqlite3.Error as error:
        raise explained(file, error) from error
    try:
        connection.text_factory = _text
        for pragma in ("query_only = ON", "trusted_schema = OFF", "mmap_size = 0", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.OperationalError):
            raise explained(file, error) from error
        raise
    return connection


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _check_length(file: Path, connection: sqlite3.Connection) -> None:
    """Refuse a file that ends before its last page does: SQLite itself notices only when that page is read."""
    ((pages,), (size,)) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    if _size(file) < pages * size:
        raise Damaged(str(file), f"it is cut off: it has {_size(file)} bytes, its header says {pages * size}")


def _identify(file: Path, connection: sqlite3.Connection) -> tuple[int, bool]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if application != APPLICATION_ID:
        if not application and not tables:
            raise NotAJournal(str(file), "it is an empty database: nothing was recorded yet")
        raise NotAJournal(str(file), f"it is an SQLite database of another program (application_id {application})")
    if version <= VERSION and not tables >= _TABLES:
        raise Damaged(str(file), f"it is damaged: the tables {', '.join(sorted(_TABLES - tables))} are missing")
    if version == VERSION:
        return version, True
    return version, all(compiles(connection, query) for query in ALL)


def compiles(connection: sqlite3.Connection, query: str) -> bool:
    """Whether the tables and columns of a query are there: a newer journal may have others."""
    nothing = bound(query, (None,) * (2 if ":a" in query else query.count("?")))
    try:
        connection.execute(f"EXPLAIN {query}", nothing).close()
    except sqlite3.OperationalError as error:
        if "no such" not in str(error):
            raise
        return False
    return True
