"""Opening a journal file: what is refused, and with which pragmas it is written.

Rules:

1. Nothing is touched before it is known to be ours: its header is read, by no connection, which could take a lock or
   make a side file. The descriptor it is read through stays open: closing one drops every POSIX lock this process
   holds on the file, SQLite's among them, those of a connection of the user's too.
2. A new journal is made under another name, with mode 0600 and its whole schema, checkpointed, and then given its name
   in one step. So no crash and no power cut leaves a file of that name which is not yet a journal, and whatever has
   that name without being one is somebody else's. An empty file of that name is filled where it is, in one transaction:
   a connection that somebody has to it would delete the log of any other file of that name. Seen, 2026-11.
3. Every pragma is read back; a mismatch is an error, not a hope.
4. A log whose journal is gone is set aside before another journal gets that name: SQLite would take it for the new
   one's and mix the two. Seen, 2026-11: `rm runs.db` after a crash, and the next run went on in the deleted run.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Final

from durable.errors import (
    JournalBusy,
    JournalError,
    JournalNotFound,
    JournalNotWritable,
    NewerJournal,
    NotAJournal,
    UnsupportedFilesystem,
)
from durable.filesystem import filesystem_type, is_unsafe
from durable.journal import schema
from durable.logs import root_log
from durable.ownership import SidecarLock

BUSY_TIMEOUT_MS: Final = 1000  # one wait inside SQLite, where Ctrl-C is not heard; the journal repeats it
CREATION_SECONDS: Final = 60.0  # how long another process may take to create the journal
_HEADER: Final = 100  # bytes
_kept_open: dict[tuple[int, int], int] = {}  # device and inode: descriptor
_LEFTOVER: Final = r"-\d+\.new(-wal|-shm)?"
_CHOOSE: Final = "Choose another file with DURABLE_JOURNAL"
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
    try:
        _check_folder(path)
        if _is_new(path):
            _create(path)
    except OSError as error:
        raise JournalNotWritable(str(path), f"it cannot be used: {error.strerror or error}. {_CHOOSE}") from error
    except sqlite3.Error as error:
        raise JournalNotWritable(
            str(path), f"SQLite cannot create it: {error}. Check the disk; nothing was recorded yet"
        ) from error
    connection = _open(path)
    try:
        if _version(path, connection) < schema.VERSION:
            _upgrade(path, connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise JournalError(str(path), f"SQLite cannot upgrade it: {error}. It was not changed") from error
        raise
    return connection


def _open(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise JournalNotWritable(str(path), f"SQLite cannot open it: {error}") from error
    try:
        _set_pragmas(path, connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError):
            raise JournalError(str(path), f"SQLite cannot use it: {error}. Check the disk and the file") from error
        raise
    return connection


def identity(path: Path | str | int) -> tuple[int, int]:
    """Which file a path names, or a descriptor has open: device and inode; zeros if there is none."""
    return standing(path)[0]


def standing(path: Path | str | int) -> tuple[tuple[int, int], int]:
    """Which file a path names, or a descriptor has open, and its size in bytes."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked for each result; Path.stat costs half as much again
    except OSError:
        return (0, 0), 0
    return (status.st_dev, status.st_ino), status.st_size


def is_cut(path: Path, size: int) -> bool:
    """Whether a database of `size` bytes is shorter than its header says, so that somebody has truncated it.

    It may also be so while a checkpoint is under way, or after one was cut off: then the log has the rest.
    """
    try:
        head = _head(path)
    except (NotAJournal, OSError):
        return True
    return size < int.from_bytes(head[28:32], "big") * (int.from_bytes(head[16:18], "big") & 0xFFFE or 1 << 16)


def _check_folder(path: Path) -> None:
    folder = path.parent
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        raise JournalNotFound(
            str(path), f"the folder {folder} does not exist. Create it, or choose another with DURABLE_JOURNAL"
        ) from None
    if not is_folder:
        raise JournalNotFound(str(path), f"{folder} is not a folder. {_CHOOSE}")
    # The write-ahead log and the locks are files beside the journal.
    if not os.access(folder, os.W_OK | os.X_OK):
        raise JournalNotWritable(
            str(path), f"the folder {folder} is read-only, and the journal needs files beside it. {_CHOOSE}"
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
        status = path.stat()
    except FileNotFoundError:
        return True
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise NotAJournal(str(path), f"expected a file, found {kind}. {_CHOOSE}")
    if not os.access(path, os.R_OK):
        raise JournalNotWritable(str(path), f"this user may not read the file. {_CHOOSE}")
    if not os.access(path, os.W_OK):
        raise JournalNotWritable(str(path), f"the file is read-only. Make it writable, or c{_CHOOSE[1:]}")
    if status.st_size == 0 or _rolls_back_to_nothing(path):
        return True
    application, version = read_header(path)
    if application != schema.APPLICATION_ID:
        raise NotAJournal(
            str(path), f"it is an SQLite database of another program (application_id {application}). {_CHOOSE}"
        )
    if version > schema.VERSION:
        raise NewerJournal(
            str(path), f"it has schema {version}, this durable writes up to {schema.VERSION}. Upgrade durable-journal"
        )
    # Looked at twice: another process may have moved its log into the file since the first look.
    if is_cut(path, status.st_size) and not standing(_beside(path, "-wal"))[1] and is_cut(path, standing(path)[1]):
        raise JournalError(
            str(path), f"it was truncated: {status.st_size} bytes are left. Restore a backup, or move it away"
        )
    return False


def leave_open(connection: sqlite3.Connection) -> None:
    """Make sure that no garbage collector closes `connection`: it belongs to another process, or is past trusting."""
    import ctypes  # needed in a forked child or after a disk error only

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def read_header(path: Path) -> tuple[int, int]:
    """``(application_id, user_version)`` of a database file, without locks or side files (rule 1).

    Raises:
        NotAJournal: the file does not begin like an SQLite database.
        OSError: it cannot be read.
    """
    head = _head(path)
    # https://www.sqlite.org/fileformat.html#the_database_header
    return int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big")


def _head(path: Path) -> bytes:
    file = identity(path)
    descriptor = _kept_open.get(file)
    if descriptor is None:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        _kept_open[file] = descriptor
    if sys.platform == "win32":
        head = os.read(descriptor, _HEADER)
        os.close(_kept_open.pop(file))  # no such locks there, and an open file cannot be deleted
    else:
        head = os.pread(descriptor, _HEADER, 0)  # at no offset: a forked child shares it, and may read just now
    if not head.startswith(b"SQLite format 3\0") or len(head) < _HEADER:
        raise NotAJournal(str(path), f"it is not an SQLite database. {_CHOOSE}")
    return head


def _create(path: Path) -> None:
    """Make the journal under another name and give it its own in one step (rule 2)."""
    lock = SidecarLock(path, "create")
    if not lock.acquire(seconds=CREATION_SECONDS):
        raise JournalBusy(
            str(path), f"another process has been creating it for {CREATION_SECONDS:.0f} s. Find that process"
        )
    try:
        if not _is_new(path):
            return  # another process was first
        for leftover in path.parent.glob("*.new*"):
            if leftover.name.startswith(path.name) and re.fullmatch(_LEFTOVER, leftover.name.removeprefix(path.name)):
                leftover.unlink(missing_ok=True)
        if path.exists():
            _fill(path)
            _is_new(path)
            return
        made = path.with_name(f"{path.name}-{os.getpid()}.new")
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = _open(made)
        try:
            connection.execute("BEGIN IMMEDIATE")
            schema.create(connection)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()
        _set_aside_logs(path)
        made.replace(path)
        _sync_folder(path.parent)
    finally:
        lock.release()


def _fill(path: Path) -> None:
    """Make a journal of an empty file, if it is still empty when nobody else writes to it."""
    _set_aside_logs(path)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
    try:
        _begin_exclusive(path, connection)
        if standing(path)[1]:
            return
        schema.create(connection)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = wal").fetchall()
    finally:
        connection.close()


def _begin_exclusive(path: Path, connection: sqlite3.Connection) -> None:
    """Begin a transaction when nobody else has one. Undoes what was half done.

    The lock is kept until the connection is closed: others who write are not in the way of the change to a log, either.
    """
    for _ in range(int(CREATION_SECONDS * 1000 / BUSY_TIMEOUT_MS)):
        try:
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        else:
            return
    raise JournalBusy(
        str(path), f"another program has been writing to the empty file for {CREATION_SECONDS:.0f} s. Find it"
    )


def _rolls_back_to_nothing(path: Path, *, begun: bool = False) -> bool:
    """Whether a file's rollback journal says that it was empty before a transaction that did not end.

    SQLite will then make it empty again. If the transaction has only `begun`, SQLite has not signed the journal yet.
    https://www.sqlite.org/fileformat.html#the_rollback_journal
    """
    try:
        with _beside(path, "-journal").open("rb") as rollback:
            head = rollback.read(20)
    except OSError:
        return False
    signed = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
    return len(head) == 20 and head[:8] in ((signed, bytes(8)) if begun else (signed,)) and head[16:] == bytes(4)


def _set_aside_logs(path: Path) -> None:
    """Give what a deleted journal left beside it other names (rule 4)."""
    for suffix in ("-wal", "-journal"):
        log = _beside(path, suffix)
        if not standing(log)[1] or (suffix == "-journal" and _rolls_back_to_nothing(path, begun=True)):
            continue
        names = (_beside(path, f"{suffix}.orphan{number or ''}") for number in range(1_000_000))
        kept = next(name for name in names if not name.exists())
        try:
            log.rename(kept)
        except FileNotFoundError:  # it was another program's, which has rolled back just now
            continue
        _sync_folder(path.parent)
        root_log.warning("%s: it was deleted without its log, which is kept as %s", path, kept.name)
    _beside(path, "-shm").unlink(missing_ok=True)  # a live process may have it, and has the deleted file


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


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


def _upgrade(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _version(path, connection) < schema.VERSION:  # another process may have been first
            schema.upgrade(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _version(path: Path, connection: sqlite3.Connection) -> int:
    """The schema's version, read through the log."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > schema.VERSION:
        raise NewerJournal(str(path), f"it has schema {version}, this durable writes up to {schema.VERSION}")
    return int(version)


def _sync_folder(folder: Path) -> None:
    """Make the new file's name survive a power cut. Windows has no such call, and needs none."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
