"""The journals this process has open: one object a file, closed at exit and before a fork."""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path

from durable.errors import ConfigurationError, JournalFailed
from durable.journal.journal import Journal
from durable.journal.opening import identity

_open: dict[str, tuple[Journal, tuple[int, int]]] = {}
_inherited: set[str] = set()  # files a forked child may not open: it holds the parent's SQLite state of them
_lock = threading.Lock()
_watching = False


def open_journal(path: str | os.PathLike[str], durability: str) -> Journal:
    """The journal at `path`, opened or created once a process.

    A file that was deleted or replaced since it was opened is opened anew.

    Args:
        path: the file; relative to the working directory.
        durability: ``"power"`` or ``"process"``.

    Raises:
        JournalError: whatever is wrong with the file; the subclass says.
        ConfigurationError: it is already open with another durability.
    """
    file = Path(os.path.realpath(Path(path).expanduser()))
    with _lock:
        if str(file) in _inherited:
            raise JournalFailed(
                str(file), "this process was forked from one whose write to it had failed. Start a new process"
            )
        known = _open.get(str(file))
        if known is not None and known[1] == identity(file):
            journal = known[0]
            if journal.durability != durability:
                raise ConfigurationError(
                    f"{file}: open with durability={journal.durability!r}, asked for {durability!r}. "
                    "Call durable.configure(durability=...) before the first flow or task"
                )
            return journal
        if known is not None:
            known[0].abandon()
        _watch_forks()
        journal = Journal(file, durability)
        _open[str(file)] = journal, identity(file)
        return journal


def close_journals() -> None:
    """Checkpoint and close every open journal. Runs by itself at exit; the next flow or task opens them again."""
    with _lock:
        while _open:
            _open.popitem()[1][0].close()


def _before_fork() -> None:
    _lock.acquire()
    for journal, _ in _open.values():
        journal.before_fork()


def _after_fork_in_parent() -> None:
    for journal, _ in _open.values():
        journal.after_fork_in_parent()
    _lock.release()


def _after_fork_in_child() -> None:
    for file, (journal, _) in _open.items():
        if journal.crosses_forks:
            _inherited.add(file)
        journal.after_fork_in_child()
    _open.clear()
    _lock.release()


def _watch_forks() -> None:
    """From the first journal on. The lock is held."""
    global _watching  # noqa: PLW0603 - of the process
    if _watching or not hasattr(os, "register_at_fork"):
        return
    # First: from Python 3.12 on it lets no other thread fork between its own hooks, and hooks before a fork are called
    # the last one first. What takes long here would else be between them.
    import filelock  # noqa: F401 - for its hooks

    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
    _watching = True


atexit.register(close_journals)
