"""Whether an open journal's three files are still those its connection works with: people do delete them in a live run.

SQLite does not look: it goes on in files that have lost their names, and says that all is well. What is deleted like
that is gone once the process ends. Here is looked in every transaction, when it has the write lock, so that no other
process changes what is looked at.

Rules:

1. `runs.db` must have its name, and may be shorter than it was only if its own header says so, too (pruned).
2. `runs.db-wal`, the log, must have at least the frames that SQLite counts in it. Others may shorten it,
   by a checkpoint, and then count less. The count is at the head of the shared index, whose layout is documented:
   https://www.sqlite.org/walformat.html#the_wal_index_header. It is compared in every transaction: frames that are
   added to a log that was cut make it as long as it was, with a hole in it.
3. The log and `runs.db-shm`, the index, must have their names, or processes that come later write another log, or count
   and lock by another index, and two write at the same place. So this, too, is looked at in every transaction, but for
   those of a moment in which no other process can have come. Of the log each result is asked, for a kill would take it.
   An fstat tells, but a file whose times were asked for is given new ones at its next write (Linux 6.13 and later),
   which makes an fsync of the log a third slower: where there is one, the kernel is asked what it calls the open file.
4. A descriptor of the index is not closed while this process may have a connection to the file: that would drop
   SQLite's locks on it. A link count of 0 says that the last connection of all has removed it.
5. The log is synced by its own descriptor, the way SQLite would: an fsync covers whatever was written to it before.
"""

from __future__ import annotations

import mmap
import os
import sqlite3
import struct
import sys
from os import SEEK_END, fstat, lseek, readlink
from pathlib import Path
from time import monotonic
from typing import Any, Final

from durable.errors import JournalFailed
from durable.journal.opening import identity, is_cut, standing

_INDEX_VERSION: Final = 3007000
_INDEX_HEAD: Final = 20  # bytes
_counted: Final = struct.Struct("=HI").unpack_from  # page size, how many frames
_COUNTED_AT: Final = 14
_LOG_HEAD: Final = 32  # bytes
_FRAME_HEAD: Final = 24
_SETTLED: Final = 0.005  # seconds in which no process can have begun, opened the journal and written
_READ: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)
# On Windows only what is open for writing can be synced.
_SYNC: Final = os.O_RDWR | getattr(os, "O_BINARY", 0) if sys.platform == "win32" else _READ

_AGAIN: Final = "run the same command again"
_ANEW: Final = f"End every process that uses it, and {_AGAIN}"
_RENAMED: Final = "was deleted, renamed or replaced while it was in use"
_NEWEST_LOST: Final = f"The newest results may be lost; what is lost is executed again. {_ANEW}"


class FilesLost(sqlite3.OperationalError):
    """A file of the journal is not what it was, which SQLite has not noticed.

    Args:
        what: what is wrong.
        then: what became of the results, and what to do.
    """

    def __init__(self, what: str, then: str) -> None:
        super().__init__(what)
        self.then = then


class LogDeleted(FilesLost):
    """The log has lost its name. This process still has it whole, and can move it into the journal."""


class _Index:
    """A file of shared memory, open for good (rule 4)."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.open(name, _READ)
        self.file = identity(self.descriptor)
        self.map: Any = mmap.mmap(self.descriptor, _INDEX_HEAD, prot=mmap.PROT_READ)
        if int.from_bytes(self.map[:4], sys.byteorder) != _INDEX_VERSION:  # of a later SQLite: it cannot be read
            self.map = bytes(_INDEX_HEAD)


if sys.platform == "darwin":
    from fcntl import F_FULLFSYNC, fcntl

    def _sync(descriptor: int) -> None:
        """As SQLite does under ``fullfsync``: an fsync there leaves it in the disk's cache, but not all can do more."""
        try:
            fcntl(descriptor, F_FULLFSYNC)
        except OSError:
            os.fsync(descriptor)

else:
    _sync = getattr(os, "fdatasync", os.fsync)


def _path_of(link: str) -> str:
    """What the kernel calls an open file now; "" if it does not say, as where there is no /proc."""
    try:
        return readlink(link)  # noqa: PTH115 - asked for each result
    except OSError:
        return ""


_indexes: dict[tuple[int, int], _Index] = {}


class Files:
    """The files of one open journal.

    Args:
        path: of the journal.
        synced: its log is synced at each result.
    """

    def __init__(self, path: Path, *, synced: bool) -> None:
        self.path = path
        self._synced = synced
        self._name = os.fspath(path)
        self._file, self._size = standing(self._name)
        self._index_name, self._log_name = f"{self._name}-shm", f"{self._name}-wal"
        self._index: _Index | None = None
        self._log, self._log_file = -1, (0, 0)
        self._log_link, self._log_path = "", ""
        self._looked = -_SETTLED

    def watch(self) -> None:
        """A connection is there, and with it all three files."""
        try:
            self._log = os.open(self._log_name, _SYNC)
            if sys.platform == "win32":  # what is open cannot be deleted there
                return
            self._log_file, self._log_link = identity(self._log), f"/proc/self/fd/{self._log}"
            self._log_path = _path_of(self._log_link)
            if identity(self._log_name) != self._log_file:  # it was lost just now, and so that was no name of it
                self._log_path = ""
            index = _indexes.get(identity(self._index_name))
            if index is None:
                index = _Index(self._index_name)
                _indexes[index.file] = index
        except FileNotFoundError as error:
            raise JournalFailed(
                self._name, f"{error.filename} was deleted while it was being opened. {_ANEW}"
            ) from None
        self._index = index

    def sync(self) -> None:
        """Rule 5.

        Raises:
            sqlite3.OperationalError: it failed, so that what the log holds on the disk is unknown.
        """
        try:
            _sync(self._log)
        except OSError as error:
            raise sqlite3.OperationalError(f"disk I/O error: {self._log_name} cannot be synced: {error}") from error

    def close_log(self) -> None:
        """The connection is about to be closed, and may delete the log, which on Windows must not be open then."""
        os.close(self._log)

    def unwatch(self) -> None:
        """The connection was closed."""
        index, self._index = self._index, None
        if index is None:
            return
        if not fstat(index.descriptor).st_nlink:
            del _indexes[index.file]
            if not isinstance(index.map, bytes):
                index.map.close()
            os.close(index.descriptor)

    def look_at_journal(self) -> None:
        """Rule 1.

        Raises:
            FilesLost: what is wrong.
        """
        file, size = standing(self._name)
        if file != self._file:
            raise FilesLost(
                "the file was deleted or replaced while it was in use",
                f"Put it back if it is somewhere, and {_AGAIN}: it goes on with what the file holds then",
            )
        if size < self._size and is_cut(self.path, size):
            raise FilesLost(
                "the file was truncated while it was in use", f"Restore a backup or move it away, and {_AGAIN}"
            )
        self._size = size

    def look_at_log(self, named: bool) -> None:  # noqa: FBT001 - hot path
        """Rules 2 and 3; whether the log has its name in every moment only if so asked, before a result is recorded.

        Raises:
            FilesLost: what is wrong.
        """
        index = self._index
        if index is None:
            return
        now = monotonic()
        if now - self._looked > _SETTLED:
            self._looked = now
            self._look_at_names(index)
        counted = page, frames = _counted(index.map, _COUNTED_AT)
        size = lseek(self._log, 0, SEEK_END)
        if size < _LOG_HEAD + frames * (_FRAME_HEAD + page) and self._is_cut(index, counted, size):
            raise FilesLost(f"{self.path.name}-wal was truncated while it was in use", _NEWEST_LOST)
        if named and not (self._has_log() if self._synced else fstat(self._log).st_nlink):
            raise self._log_deleted()

    def _look_at_names(self, index: _Index) -> None:
        """Rule 3."""
        if identity(self._index_name) != index.file:
            raise FilesLost(f"{self.path.name}-shm {_RENAMED}", f"Nothing is lost. {_ANEW}")
        if not self._has_log():
            raise self._log_deleted()

    def _has_log(self) -> bool:
        """Whether the log has its name."""
        path = _path_of(self._log_link)
        return path == self._log_path if path else identity(self._log_name) == self._log_file

    def _log_deleted(self) -> LogDeleted:
        return LogDeleted(f"{self.path.name}-wal {_RENAMED}", _NEWEST_LOST)

    def _is_cut(self, index: _Index, counted: tuple[int, int], size: int) -> bool:
        """Whether the log lacks frames.

        A checkpoint changes the count before it shortens the log, so that one that is under way is no cut.
        """
        page, frames = counted
        needed = _LOG_HEAD + frames * (_FRAME_HEAD + (page if page > 1 else 1 << 16))
        return frames > 0 and size < needed and counted == _counted(index.map, _COUNTED_AT)

    def look_closely(self) -> None:
        """Rules 2 and 3, with nothing left out: before the connection is closed, which moves the log into the journal.

        Raises:
            FilesLost: what is wrong.
        """
        self._looked = -_SETTLED
        self.look_at_log(named=True)

    def cause(self, error: sqlite3.Error) -> sqlite3.Error:
        """Why SQLite failed: a file that was lost, or `error` itself."""
        if not isinstance(error, FilesLost):
            try:
                self.look_at_journal()
                self.look_closely()
            except FilesLost as found:
                return found
        return error

    def save_log(self, connection: sqlite3.Connection, lost: LogDeleted) -> None:
        """Move a log that has lost its name into the journal, so that nothing is lost.

        TRUNCATE leaves nothing counted, so that others may begin another log. Not if there is another log of that name
        with something in it: whoever opens the journal next reads it, and what it has must not be older than the
        journal.
        """
        try:
            if standing(self._log_name)[1]:
                return
            _, frames, moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            return
        if frames == moved:
            lost.then = f"What it held was moved into the journal, and nothing is lost: {_AGAIN}"
