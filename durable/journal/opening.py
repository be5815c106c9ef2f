"""Opening a journal file: what is refused, and with which pragmas it is written.

Rules:

1. Nothing is touched before it is known to be ours: the header is read through an immutable connection, which takes no
   lock and makes no side file. Never through `open()`: closing a database file drops every POSIX lock this process
   holds on it, SQLite's among them.
2. A new file is made with mode 0600, gets its whole schema in one synced transaction, and is checkpointed before the
   first task, so that no power cut can leave a journal without its schema.
3. Every pragma is read back; a mismatch is an error, not a hope.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import Final

from durable.errors import (
    JournalError,
    JournalNotFound,
    JournalNotWritable,
    NewerJournal,
    NotAJournal,
    UnsupportedFilesystem,
)
from durable.filesystem import filesystem_type, is_unsafe
from durable.journal import schema

BUSY_TIMEOUT_MS: Final = 1000  # one wait inside SQLite, where Ctrl-C is not heard; the journal repeats it
SYNCHRONOUS: Final = {"power": 2, "process": 1}  # FULL, NORMAL


def connect(path: Path) -> sqlite3.Connection:
    """Open `path` for writing, creating or upgrading it as needed.

    Raises:
        JournalNotFound: its folder does not exist.
        JournalNotWritable: the file or folder cannot be written.
        UnsupportedFilesystem: a network or pass-through file system.
        NotAJournal: the file is not ours, or not a database.
        NewerJournal: written by a later release.
    """
    _check_folder(path)
    new = _is_new(path)
    if not new and not os.access(path, os.W_OK):
        raise JournalNotWritable(
            str(path), "the file is read-only. Make it writable, or choose another journal with DURABLE_JOURNAL"
        )
    if new:
        _create_file(path)
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise JournalNotWritable(str(path), f"SQLite cannot open it: {error}") from error
    try:
        _set_pragmas(path, connection)
        _bring_up_to_date(path, connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise JournalError(str(path), f"SQLite cannot use it: {error}. Check the disk and the file") from error
        raise
    return connection


def identity(path: Path) -> tuple[int, int]:
    """Which file a path names: device and inode; zeros if there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _check_folder(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise JournalNotFound(
            str(path), f"the folder {folder} {found}. Create it, or choose another with DURABLE_JOURNAL"
        )
    if path.is_dir():
        raise NotAJournal(str(path), "expected a file, found a folder")
    # The write-ahead log and the locks are files beside the journal.
    if not os.access(folder, os.W_OK | os.X_OK):
        raise JournalNotWritable(
            str(path),
            f"the folder {folder} is read-only, and the journal needs files beside it. Set DURABLE_JOURNAL",
        )
    kind = filesystem_type(folder)
    if is_unsafe(kind):
        raise UnsupportedFilesystem(
            str(path),
            f"the folder is on a {kind} file system, where a write-ahead log can be corrupted without an error. "
            "Put the journal on a local disk: DURABLE_JOURNAL=/local/folder/runs.db",
        )


def _is_new(path: Path) -> bool:
    """Whether there is no journal yet. Refuses what is not ours without touching it (rule 1)."""
    try:
        if path.stat().st_size == 0:
            return True
    except FileNotFoundError:
        return True
    application, version, tables = read_header(path)
    if application == schema.APPLICATION_ID:
        if version > schema.VERSION:
            raise NewerJournal(
                str(path),
                f"it has schema {version}, this durable writes up to {schema.VERSION}. Upgrade durable-journal",
            )
        return False
    if application or version or tables:
        raise NotAJournal(
            str(path),
            f"it is an SQLite database of another program (application_id {application}, {tables} tables). "
            "Choose another file with DURABLE_JOURNAL",
        )
    return False  # an empty database: a process died while creating the journal, and its log may hold the rest


def read_header(path: Path) -> tuple[int, int, int]:
    """``(application_id, user_version, number of tables)`` of a database file, without locks or side files."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except sqlite3.Error as error:
        raise NotAJournal(str(path), f"SQLite cannot open it: {error}") from error
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise NotAJournal(str(path), f"it is not an SQLite database ({error}). Choose another file") from error
    finally:
        connection.close()
    return application, version, tables


def _create_file(path: Path) -> None:
    try:
        # Only a file that did not exist is opened and closed here, so no lock of this process can be on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise JournalNotWritable(str(path), f"the file cannot be created: {error.strerror}") from error


def _set_pragmas(path: Path, connection: sqlite3.Connection) -> None:
    pragmas: dict[str, object] = {
        "journal_mode": "wal",
        "synchronous": SYNCHRONOUS["power"],
        "wal_autocheckpoint": 0,
        "mmap_size": 0,
        "trusted_schema": 0,
        "cell_size_check": 1,
    }
    if sys.platform == "darwin":
        pragmas |= {"fullfsync": 1, "checkpoint_fullfsync": 1}
    for name, wanted in pragmas.items():
        connection.execute(f"PRAGMA {name} = {wanted}").fetchall()
        row = connection.execute(f"PRAGMA {name}").fetchone()
        if row is not None and row[0] != wanted:
            raise JournalError(
                str(path), f"PRAGMA {name} is {row[0]!r} after being set to {wanted!r}: it cannot be written safely"
            )


def _bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    if _version(path, connection) == schema.VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(path, connection)  # another process may have been first
        if version == 0:
            schema.create(connection)
        elif version < schema.VERSION:
            schema.upgrade(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _sync_folder(path.parent)


def _version(path: Path, connection: sqlite3.Connection) -> int:
    """The schema's version, read through the log this time; 0 for an empty database."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > schema.VERSION:
        raise NewerJournal(str(path), f"it has schema {version}, this durable writes up to {schema.VERSION}")
    if application == schema.APPLICATION_ID:
        return int(version)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application or tables:
        raise NotAJournal(str(path), f"it is an SQLite database of another program (application_id {application})")
    return 0


def _sync_folder(folder: Path) -> None:
    """Make the new file's name survive a power cut. Windows has no such call, and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
