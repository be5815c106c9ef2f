"""The folder beside a journal in which processes tell each other what they hold: ``runs.db-limits``.

Rules:

1. A look at the others and what follows from it happen under a lock on the folder itself. It is held for some ten
   microseconds and never waited for: whoever finds it taken looks again a moment later.
2. A process that holds or wants slots of a limit has an entry there, which it locks as long as it lives. The kernel
   frees the lock at any death, so an entry that can be locked is a dead process's, and is removed.
3. A process gives slots back by writing to its own entry, which needs no lock: it never has to wait for anybody.
4. A forked child closes its copies of the entries, or a dead parent's slots would stay taken.
5. A bucket (`durable.concurrency.rates`) is a file of its own and stays: how much was used outlives who used it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64_hexdigest

from durable.errors import JournalNotWritable

_ENTRY: Final = struct.Struct("<qqq")
_BUCKET: Final = struct.Struct("<dq")
_PLAIN: Final = re.compile(r"[^A-Za-z0-9_-]+")
_PRIVATE: Final = 0o600


class Standing(NamedTuple):
    """What a process tells of itself.

    Attributes:
        held: slots it holds.
        since: since when its first in line waits, in microseconds since the epoch; 0: nobody waits.
        looked: when that one last looked.
    """

    held: int = 0
    since: int = 0
    looked: int = 0


class Bucket(NamedTuple):
    """How full a bucket was, and when (microseconds since the epoch)."""

    filled: float = 0.0
    at: int = 0


def file_name(limit: str) -> str:
    """The beginning of the names of a limit's files: to be recognised, and another one for every other limit."""
    return f"{_PLAIN.sub('-', limit)[:40]}-{xxh3_64_hexdigest(limit.encode('utf-8', 'surrogatepass'))}"


class Folder:
    """The folder of one journal."""

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_name(journal.name + "-limits")
        self._journal = journal

    @contextmanager
    def locked(self) -> Iterator[int | None]:
        """Have the folder to oneself: gives its descriptor, or None if another process has it.

        Raises:
            JournalNotWritable: there is no such folder, and none can be made.
        """
        import fcntl

        descriptor = self._opened()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield descriptor if self._is_there(descriptor) else None
        finally:
            os.close(descriptor)

    def tidy(self) -> None:
        """Remove the folder if nothing is in it."""
        with suppress(OSError), self.locked() as descriptor:
            if descriptor is not None:
                self.path.rmdir()

    def _opened(self) -> int:
        while True:
            try:
                with suppress(FileExistsError):
                    self.path.mkdir(mode=0o700)
                return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                if isinstance(error, FileNotFoundError) and self.path.parent.is_dir():
                    continue  # another process has just removed the empty folder
                reason = f"its limits cannot be kept in {self.path}: {error.strerror or error}. Make it a folder we may"
                raise JournalNotWritable(str(self._journal), f"{reason} write") from error

    def _is_there(self, descriptor: int) -> bool:
        """Whether the folder still has its name: it may have been removed before it was locked."""
        try:
            named, opened = self.path.stat(), os.fstat(descriptor)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


class Entry:
    """What this process tells of one limit, from the first that holds or waits to the last."""

    def __init__(self, folder: int, limit: str) -> None:
        import fcntl

        self._name = f"{file_name(limit)}.{os.getpid()}-{os.urandom(4).hex()}.held"
        self._descriptor = os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE, dir_fd=folder)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def write(self, standing: Standing) -> None:
        """Tell the others, in one write: nobody reads half of it."""
        os.pwrite(self._descriptor, _ENTRY.pack(*standing), 0)

    def others(self, folder: int) -> list[tuple[str, Standing]]:
        """What the other live processes tell of the same limit, by pid. The folder is locked."""
        begin = self._name.partition(".")[0] + "."
        names = [name for name in os.listdir(folder) if name.startswith(begin) and name.endswith(".held")]
        found = ((name.split(".")[1].partition("-")[0], _look(folder, name)) for name in names if name != self._name)
        return [(pid, standing) for pid, standing in found if standing is not None]

    def remove(self, folder: Path) -> None:
        """Nobody holds or waits any more."""
        with suppress(OSError):
            (folder / self._name).unlink()
        os.close(self._descriptor)

    def forget(self) -> None:
        """It is the parent's: close the copy."""
        os.close(self._descriptor)


def _look(folder: int, name: str) -> Standing | None:
    """What an entry tells; None if its process is dead or done."""
    import fcntl

    try:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        told = os.read(descriptor, _ENTRY.size)
        return Standing(*_ENTRY.unpack(told)) if len(told) == _ENTRY.size else Standing()
    else:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        return None
    finally:
        os.close(descriptor)


def read_bucket(folder: int, limit: str) -> Bucket:
    """How full a limit's bucket is. One that a power cut has damaged is empty."""
    try:
        descriptor = os.open(f"{file_name(limit)}.rate", os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return Bucket()
    try:
        told = os.read(descriptor, _BUCKET.size)
    finally:
        os.close(descriptor)
    bucket = Bucket(*_BUCKET.unpack(told)) if len(told) == _BUCKET.size else Bucket()
    return bucket if 0.0 <= bucket.filled < float("inf") else Bucket()


def write_bucket(folder: int, limit: str, bucket: Bucket) -> None:
    """Keep how full it is. Not synced: after a power cut a bucket may be as it was some seconds before."""
    descriptor = os.open(f"{file_name(limit)}.rate", os.O_WRONLY | os.O_CREAT, _PRIVATE, dir_fd=folder)
    try:
        os.pwrite(descriptor, _BUCKET.pack(*bucket), 0)
    finally:
        os.close(descriptor)
