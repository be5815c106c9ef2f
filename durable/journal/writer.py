"""The one connection of this process that writes to a journal: group commit, checkpoints, and when to stop.

Contract with the caller. `commit(entry)` returns when the entry is in the file, as durably as the entry asks; the
caller may then tell its own caller. `await commit_soon(entry, loop)` makes the same promise. An error means the
entry may or may not be in the file (`JournalFailed`) or is not (`JournalBusy`).

Rules:

1. Whoever holds the lock commits everything that is queued, for everybody: threads that need durability at once share a
   transaction, and so do the coroutines of one event loop turn. Each still waits for the commit that covers its entry,
   at a gate of its own and not at the lock: else it would stand there through the next commit as well.
2. What asks for it is synced after its commit, without any lock on the file (`durable.journal.syncing`), by whoever
   committed it. What is queued meanwhile is committed together after that, for the next fsync. In a write-ahead log
   what survives a power cut is a prefix of the commits, so a start is covered by the next completion's.
3. After any SQLite error but a busy BEGIN the outcome is unknown, so the journal is poisoned: it writes nothing more,
   and its connection is left alone, for closing it would checkpoint. So it is when a file was lost (`files`); only a
   log that was deleted is checkpointed first, for nobody else has what it holds.
4. Checkpoints happen here only, on purpose, in RESTART mode, which holds the write lock: SQLite 3.7.0 to 3.51.2 may
   corrupt the file when one connection resets the log while another checkpoints (fixed in 3.51.3, 3.50.7, 3.44.6).
   RESTART also leaves the log at its length, so that the next fsync need not grow it.
5. A connection never crosses a fork, nor does anything SQLite knows of the file. Its tables of files and locks are
   global to the process, and a child that inherits them writes without locks, into a log the parent may delete: seen,
   2026-11, results of a forked child lost without an error. So the connection is closed before a fork, when no commit
   is under way, and both sides open their own.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from durable.dialect import bound
from durable.errors import JournalBusy, JournalFailed
from durable.journal import opening
from durable.journal.entries import Entry, finish
from durable.journal.files import Files, FilesLost, LogDeleted
from durable.journal.syncing import Syncing
from durable.logs import root_log

BUSY_SECONDS: Final = 60  # how long the write lock may be somebody else's before JournalBusy
# Until the log has once been this long, each fsync also grows the file, which costs half as much again; a longer log is
# moved less often. Measured 2026-11: a task costs the same from 4 to 16 MB, and a tenth more at 32 MB.
CHECKPOINT_BYTES: Final = 8 << 20
_FRAME: Final = 4096 + 24  # a page in the log, with its header
_FRAMES_A_COMMIT: Final = 3  # b-tree pages a small transaction touches, on average
_BATCH: Final = 1000  # entries in one transaction at most, so that followers do not wait for ever
_is_synced: Final = attrgetter("synced")  # of an entry; asked of each in a batch, in C
_LOST: Final = 0.05  # seconds until a follower looks for itself: a leader that a signal handler ended tells nobody


class Writer:
    """The write side of an open journal. One a file and process; safe to use from any thread.

    Attributes:
        is_inherited: this is a forked child's copy of its parent's journal object.
    """

    def __init__(self, path: Path, durability: str) -> None:
        self.path = path
        self.durability = durability
        self.commits = 0  # transactions committed
        self.checkpoints = 0
        self._power = durability == "power"
        self._connect()
        self._syncs = Syncing(needed=self._power)
        self._lock = threading.Lock()
        self._queue: deque[Entry] = deque()
        self._leader: Entry | None = None  # the entry of the caller who commits, or is about to
        self._batch: list[Entry] = []  # the transaction under way, until it is known how it ended
        self._committing = False  # its COMMIT was sent
        self._turns: dict[Any, list[Entry]] = {}
        self._alone = False  # the last turn had one entry
        self._log_bytes = 0
        self._poison: sqlite3.Error | None = None
        self._closed = False
        self.is_inherited = False

    def _connect(self) -> None:
        self._connection = opening.connect(self.path)
        self._execute = self._connection.cursor().execute  # one cursor for all: making one costs a tenth of an insert
        self._execute("PRAGMA synchronous = NORMAL")
        self._files = Files(self.path, synced=self._power)
        self._files.watch()
        self._parked = False

    def _disconnect(self) -> None:
        self._files.close_log()
        self._connection.close()
        self._files.unwatch()

    @property
    def syncs(self) -> int:
        """How often was waited for an fsync of the log; those of checkpoints are not counted."""
        return self._syncs.count

    def commit(self, entry: Entry) -> int:
        """Record `entry`; returns the rowid of its first statement once it is as durable as it asks.

        Raises:
            JournalFailed: the outcome is unknown, and the journal is poisoned.
            JournalBusy: another process kept the write lock; nothing was written.
        """
        self._queue.append(entry)
        return self.wait(entry)

    def queue(self, entry: Entry) -> None:
        """Have `entry` recorded with whatever is committed next. Whoever goes on by it waits first: see `wait`."""
        self._queue.append(entry)

    def wait(self, entry: Entry) -> int:
        """Wait until `entry`, which is queued, is as durable as it asks. Returns and raises as `commit`."""
        lost = False
        while not entry.done:
            if entry.committed:  # by somebody who was interrupted before it was synced, or is just at it
                self._sync()
                continue
            if self._leader is not None and not (lost and not (self._lock.locked() or self._syncs.lock.locked())):
                lost = self._follow(entry)
                continue
            self._leader = entry
            try:
                with self._lock:
                    self._commit_queue()
                self._sync()
            finally:
                self._leader = None
                if self._queue:
                    self._hand_over()
        if entry.error is not None:
            raise entry.error
        return entry.rowid

    def _follow(self, entry: Entry) -> bool:
        """Wait while another caller commits: until `entry` is done, or it may be its caller's turn. Whether in vain."""
        gate = entry.gate
        if gate is None:
            gate = threading.Lock()
            gate.acquire()
            entry.gate = gate
        if self._leader is None or entry.done:
            return False
        return not gate.acquire(timeout=_LOST)

    def _hand_over(self) -> None:
        """Nobody commits: whoever waits with an entry that is not done does it now, with all that is queued."""
        queue = self._queue
        with suppress(IndexError):  # somebody else commits by now, and hands over in turn
            for at in range(len(queue)):
                if queue[at].gate is not None and not queue[at].done:
                    queue[at].open_gate()
                    break

    def commit_soon(self, entry: Entry, loop: Any) -> Entry:
        """Like `commit`, from a coroutine: to be awaited at once, done with the one commit of this loop turn.

        Where the last turn had one entry, nobody is there to share with: what needs no sync and is the first of its
        turn is then committed at once. The next one waits, so that no coroutine keeps the loop to itself.
        """
        turn = self._turns.get(loop)
        if turn is None:
            turn = self._turns[loop] = []
            loop.call_soon(self._commit_turn, loop)  # and so before any coroutine that gives way from here on
            if self._alone and not entry.synced:
                self.commit(entry)
                return entry
        turn.append(entry)
        return entry

    def _commit_turn(self, loop: Any) -> None:
        turn = self._turns.pop(loop)
        if not turn:
            return
        self._alone = len(turn) == 1
        self._queue.extend(turn)
        with self._lock:
            while not (turn[-1].committed or turn[-1].done):
                self._commit_queue()
        self._sync()

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Run a query and return all its rows (list of tuples)."""
        with self._lock:
            self._check_usable()
            try:
                return self._connection.execute(sql, bound(sql, parameters)).fetchall()
            except sqlite3.Error as error:
                raise self._poisoned(error) from error

    def _commit_queue(self) -> None:
        """Commit what is queued, as one transaction. The lock is held. What is committed leaves the queue."""
        queue = self._queue
        if self._batch:
            self._settle()
        while queue and (queue[0].committed or queue[0].done):
            queue.popleft()
        # By index: another thread may append at any moment, which ends an iteration over the queue with an error.
        batch = self._batch = [queue[at] for at in range(min(len(queue), _BATCH))]
        try:
            if self.is_inherited:
                # A forked child that unwinds through its parent's flow has nothing to record in it.
                finish(batch)
                return
            self._check_usable()
            synced = any(map(_is_synced, batch))
            self._begin()
            # A result recorded in a file that has lost its name is lost: people do delete journals under a running job.
            if synced:
                self._files.look_at_journal()
            self._files.look_at_log(synced)
            self._write(batch)
            self._batch, self._committing = [], False
            for _ in batch:
                queue.popleft()
        except (JournalFailed, JournalBusy, FilesLost) as raised:
            error = self._poisoned(raised) if isinstance(raised, FilesLost) else raised
            for entry in batch:
                entry.error = error
            finish(batch)
        except BaseException:
            # A signal handler raised in here (Ctrl-C): the leader goes, and its followers must not be forgotten.
            self._settle()
            raise

    def _settle(self) -> None:
        """Find out how an interrupted commit ended. May be interrupted itself: whoever comes next does it again."""
        if self._batch and not self._batch[-1].done and not self._closed and not self._parked and self._poison is None:
            if self._connection.in_transaction:
                self._committing = False
                self._connection.execute("ROLLBACK")
            elif self._committing:
                self._syncs.committed(self._batch)
        self._batch, self._committing = [], False

    def _sync(self) -> None:
        """Have synced what is committed and waits for it."""
        if not self._syncs.is_wanted:
            return
        with self._syncs.lock:
            try:
                self._syncs.sync(self._files)
            except sqlite3.Error as error:
                with self._lock:
                    self._syncs.fail(self._poisoned(error))

    def _begin(self) -> None:
        execute = self._execute
        try:
            for _ in range(BUSY_SECONDS * 1000 // opening.BUSY_TIMEOUT_MS):
                try:
                    execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error):
                        raise
                else:
                    return
        except sqlite3.Error as error:
            raise self._poisoned(error) from error
        raise JournalBusy(
            str(self.path),
            f"another process has held the write lock for {BUSY_SECONDS} s. Find it with `fuser {self.path}`; "
            "nothing was written, run the same command again",
        )

    def _write(self, batch: list[Entry]) -> None:
        execute = self._execute
        size = 0
        try:
            for entry in batch:
                (sql, parameters), *others = entry.statements
                entry.rowid = execute(sql, parameters).lastrowid or 0
                if type(parameters[-1]) is bytes:
                    size += len(parameters[-1])
                for sql, parameters in others:
                    execute(sql, parameters)
            self._committing = True
            execute("COMMIT")
        except sqlite3.Error as error:
            raise self._poisoned(error) from error
        self._syncs.committed(batch)
        self.commits += 1
        self._log_bytes += _FRAMES_A_COMMIT * _FRAME + size
        if self._log_bytes > CHECKPOINT_BYTES:
            self._checkpoint("RESTART")

    def _checkpoint(self, mode: str) -> None:
        """Move the log into the file. If a reader is in the way it is tried again later, not waited for."""
        try:
            try:
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {opening.BUSY_TIMEOUT_MS}")
        except sqlite3.Error as error:
            raise self._poisoned(error) from error
        self.checkpoints += 1
        self._log_bytes = 0

    def _check_usable(self) -> None:
        if self._poison is not None:
            raise self._poisoned(self._poison)
        if self._closed:
            raise JournalFailed(str(self.path), "the journal is closed")
        if self._parked:
            self._return_from_fork()

    def _poisoned(self, error: sqlite3.Error) -> JournalFailed:
        if self._poison is None:
            self._poison = self._files.cause(error)
            with suppress(sqlite3.Error):
                self._connection.rollback()  # gives the write lock back to other processes
            if isinstance(error, LogDeleted):  # and SQLite has not failed
                self._files.save_log(self._connection, error)
            opening.leave_open(self._connection)
        return JournalFailed(str(self.path), _told(self._poison))

    def close(self) -> None:
        """Checkpoint, give the log's space back and close. A poisoned journal is left as it is (rule 3)."""
        with self._syncs.lock, self._lock:
            if self._closed or self._poison is not None or self._parked:
                self._closed = True
                return
            self._closed = True
            try:
                self._files.look_closely()
                self._syncs.sync(self._files)
                self._checkpoint("TRUNCATE")
            except FilesLost as error:
                root_log.warning("%s", self._poisoned(error))
                return
            except sqlite3.Error as error:
                self._syncs.fail(self._poisoned(error))
                return
            except JournalFailed:
                return
            self._disconnect()

    def abandon(self) -> None:
        """Write no more, and leave the connection alone: its file was deleted or replaced under it."""
        with self._lock:
            if not self._closed and not self._parked:
                opening.leave_open(self._connection)
            self._closed = True

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is written here: it was closed, or a write has failed."""
        return self._closed or self._poison is not None

    @property
    def crosses_forks(self) -> bool:
        """Whether a forked child inherits what SQLite knows of the file: a poisoned connection cannot be closed."""
        return self._poison is not None

    def before_fork(self) -> None:
        """Wait for a commit under way and close the connection (rule 5)."""
        self._syncs.lock.acquire()
        self._lock.acquire()
        if self._closed or self._poison is not None or self._parked:
            return
        try:
            self._files.look_closely()
            self._syncs.sync(self._files)
        except sqlite3.Error as error:
            self._syncs.fail(self._poisoned(error))
            return
        self._disconnect()
        self._parked = True

    def after_fork_in_parent(self) -> None:
        """Go on; the connection is opened again when it is next needed."""
        self._lock.release()
        self._syncs.lock.release()

    def after_fork_in_child(self) -> None:
        """The journal object is the parent's: the child opens its own."""
        self._closed = self.is_inherited = True
        self._lock.release()
        self._syncs.lock.release()

    def _return_from_fork(self) -> None:
        try:
            self._files.look_at_journal()
        except FilesLost as error:
            raise self._poisoned(error) from None
        self._connect()


def _told(poison: sqlite3.Error) -> str:
    if isinstance(poison, FilesLost):
        return f"{poison}, so this process writes no more to it. {poison.then}"
    return (
        f"a write failed ({poison}), so what the file holds is unknown and this process writes no more to it. "
        "Nothing recorded before is lost: mend the cause and run the same command again"
    )
