"""Locks beside a journal, and with them who executes a flow run: ``runs.db-locks/<run id>.lock``.

A request to cancel a run lies beside its lock: ``<run id>.cancel``.

Rules:

1. The kernel frees the lock at any death of its owner, so a take-over never waits and never guesses from pids.
2. The journal file itself is never locked by us: closing it would drop SQLite's own locks.
3. A forked child must not keep a dead run owned: filelock closes the inherited descriptor in the child, and closing a
   copy does not unlock the parent's.
4. The file is removed by its owner while it still holds the lock. Whoever opened it just before sees a file without a
   name and tries again (filelock checks).
"""

from __future__ import annotations

import os
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from threading import get_ident
from time import monotonic
from typing import Any, Final

from durable.errors import ConfigurationError, JournalNotWritable

# A reader that asks whether a run is alive holds its lock for an instant, so a lock is not refused at the first try.
PROBE_SECONDS: Final = 0.25
_LOOK_SECONDS: Final = 0.001  # between two looks whether somebody asked for a run to be cancelled

# In a process that executes a body for another one: the journal of that one. It is not opened there.
locks_beside: Final[ContextVar[Path | None]] = ContextVar("durable_locks_beside", default=None)

# Locks this process holds, so that it need not ask the kernel, and wait, for its own; and the thread that took each.
_ours: dict[Path, int] = {}


class SidecarLock:
    """A kernel lock on a file of its own beside a journal, held from `acquire` to `release`."""

    __slots__ = ("_lock", "journal", "path")

    def __init__(self, journal: Path, name: str) -> None:
        self.journal = journal
        self.path = _lock_path(journal, name)
        self._lock: Any = None

    def acquire(self, seconds: float = PROBE_SECONDS) -> bool:
        """Take the lock, waiting `seconds` at most. False: another process, or this one, has it.

        Raises:
            JournalNotWritable: there is no folder for the lock, and none can be made.
        """
        from filelock import FileLock, Timeout  # imported late: a flow pays for it once, `import durable` never

        if self.path in _ours:
            return False
        folder = self.path.parent
        while True:
            lock = FileLock(self.path, timeout=seconds, poll_interval=0.02, thread_local=False, mode=0o600)
            try:
                with suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
                lock.acquire()
            except Timeout:
                return False
            except OSError as error:
                blocked = not folder.parent.is_dir() or (folder.exists() and not folder.is_dir())
                if isinstance(error, (FileNotFoundError, FileExistsError)) and not blocked:
                    continue  # whoever released another lock has just removed the empty folder
                reason = (
                    f"its locks cannot be kept in {folder}: {error.strerror or error}. Make it a folder we may write"
                )
                raise JournalNotWritable(str(self.journal), reason) from error
            self._lock = lock
            _ours[self.path] = get_ident()
            return True

    def release(self) -> None:
        """Give the lock up and remove its file, and the folder with the last of them."""
        if self._lock is None or self.path not in _ours:  # in a forked child the lock is the parent's
            return
        with suppress(OSError):
            self.path.unlink()
        self._lock.release()
        self._lock = None
        _ours.pop(self.path, None)
        with suppress(OSError):
            self.path.parent.rmdir()


class RunLock(SidecarLock):
    """The lock of a flow run: whoever holds it executes the run."""

    __slots__ = ()

    def __init__(self, journal: Path, run: bytes) -> None:
        super().__init__(journal, run.hex())


class MemoLock(SidecarLock):
    """The lock of whoever computes a memo's result, under isolation ``SERIALIZABLE``.

    Args:
        journal: its path.
        cache_key: the memo's.
        who: what waits for the lock, for messages.
        gives_way: it is a coroutine, which leaves its thread to others while it waits.
    """

    __slots__ = ("_gives_way", "_who")

    def __init__(self, journal: Path, cache_key: bytes, who: str, gives_way: bool) -> None:  # noqa: FBT001 - one call
        super().__init__(journal, f"memo-{cache_key.hex()}")
        self._who = who
        self._gives_way = gives_way

    def acquire(self, seconds: float = 0) -> bool:
        """As in `SidecarLock`.

        Raises:
            ConfigurationError: it would be waited for by the very thread that has to go on for it to come free.
        """
        if super().acquire(seconds):
            return True
        if not self._gives_way and _ours.get(self.path) == get_ident():
            raise ConfigurationError(
                f"{self._who}: with isolation SERIALIZABLE this call would wait for ever: it is made inside another "
                "one with the same key, or in a loop over one. Make it before or after, or take another isolation level"
            )
        return False


class Cancellation:
    """A request to cancel a live flow run: a file beside its lock, looked for by the owner at task boundaries, but not
    more often than every `_LOOK_SECONDS`: each look lets another thread have the interpreter.
    """

    __slots__ = ("_looked", "_path", "noticed")

    def __init__(self, journal: Path, run: bytes) -> None:
        self._path = os.fspath(_lock_path(journal, run.hex()).with_suffix(".cancel"))
        self._looked = float("-inf")
        self.noticed = False

    def asked(self) -> bool:
        """Whether there is a request."""
        if not self.noticed and (now := monotonic()) - self._looked > _LOOK_SECONDS:
            self._looked = now
            self.noticed = os.access(self._path, os.F_OK)  # about a microsecond, and no exception as from stat
        return self.noticed

    def ask(self) -> bool:
        """Leave a request. False: there is no folder of locks, so no live owner either."""
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
        except FileNotFoundError:
            return False
        except OSError as error:
            journal = Path(self._path).parent
            raise JournalNotWritable(
                str(journal), f"no request can be left there: {error.strerror or error}"
            ) from error
        return True

    def withdraw(self) -> None:
        """Remove the request, if there is one: it has been followed, or the run is to go on after all."""
        with suppress(OSError):
            Path(self._path).unlink()


def executes_a_run() -> bool:
    """Whether this process executes a flow run."""
    return any(_is_id(path.stem) for path in [*_ours])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ours.clear)


def _lock_path(journal: Path, name: str) -> Path:
    return journal.with_name(journal.name + "-locks") / f"{name}.lock"


def live_runs(journal: Path) -> list[str]:
    """Ids of the flow runs that other live processes execute; those of which it cannot be told count, too."""
    names = (path.stem for path in _lock_path(journal, "x").parent.glob("*.lock") if path not in _ours)
    return [name for name in names if _is_id(name) and is_held(journal, bytes.fromhex(name)) is not False]


def _is_id(name: str) -> bool:
    return len(name) == 32 and set(name) <= set("0123456789abcdef")


def is_held(journal: Path, run: bytes) -> bool | None:
    """Whether a live process executes the flow run, asked without taking anything from it. None: cannot be told
    here.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        descriptor = os.open(_lock_path(journal, run.hex()), os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
