"""Ctrl-C inside the writer: whoever leads may be interrupted anywhere, and no entry is lost, doubled or forgotten.

A signal handler runs between two bytecodes, in practice when a call into C returns. So the sweep raises at every such
return, and at every line, of one commit that also carries two followers; the last test sends real signals.
"""

import random
import signal
import sys
import threading
import time
from contextlib import suppress

import pytest
from marked import DEADLINE, mark, marks

from durable.errors import JournalError
from durable.journal import close_journals, entries, open_journal, opening, syncing, writer

pytestmark = pytest.mark.usefixtures("nothing_stays_open")

WRITER = {writer.__file__, syncing.__file__, entries.__file__}


class AtEveryReturn:
    """Raises KeyboardInterrupt when the n-th call into C made in the writer's code returns."""

    def __init__(self, number):
        self.left = number

    def __enter__(self):
        sys.setprofile(self.profile)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def profile(self, frame, event, argument):
        if event == "c_return" and frame.f_code.co_filename in WRITER:
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt


class AtEveryLine:
    """Raises KeyboardInterrupt before the n-th line executed in the writer's code."""

    def __init__(self, number):
        self.left = number

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)

    def trace(self, frame, event, argument):
        if frame.f_code.co_filename not in WRITER:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self.trace


class Follower(threading.Thread):
    """A thread in `commit`, and what it was told."""

    def __init__(self, journal, entry):
        super().__init__(daemon=True)
        self.journal, self.entry, self.told = journal, entry, None
        self.start()

    def run(self):
        try:
            self.told = self.journal.commit(self.entry)
        except JournalError as error:
            self.told = error


def commit_while_followed(journal, interrupt, name, *, synced, following):
    """One commit that leads others, interrupted. Returns (what the leader was told, the followers)."""
    with journal._lock:
        followers = []
        for n in range(following):
            followers.append(Follower(journal, mark(f"{name} follower {n}", synced=synced)))
            while len(journal._queue) <= n:
                time.sleep(0)
        # The rest of Writer.commit, from within: were the lock given up here, a follower might lead.
        own = mark(f"{name} leader", synced=synced)
        journal._queue.append(own)
        told = "interrupted"
        with suppress(KeyboardInterrupt), interrupt:
            while not (own.committed or own.done):
                journal._commit_queue()
            with journal._syncs.lock:  # here, for a line is also told of when a block is left, where no signal is heard
                journal._syncs.sync(journal._files)
            told = "committed"
    for follower in followers:
        follower.join(DEADLINE)
    return told, followers


@pytest.mark.parametrize("at_every", [AtEveryReturn, AtEveryLine])
@pytest.mark.parametrize("case", ["synced", "not synced", "alone", "with a checkpoint"])
def test_an_interrupted_leader_loses_doubles_and_forgets_nothing(tmp_path, monkeypatch, at_every, case):
    synced, following = case not in ("not synced", "alone"), 2 * (case != "alone")
    number, wrong = 0, []
    while True:
        number += 1
        journal = open_journal(tmp_path / "runs.db", "power")
        journal.commit(mark("earlier", synced=not synced))  # so that the level of syncing has to change
        with monkeypatch.context() as patch:
            if case == "with a checkpoint":
                patch.setattr(writer, "CHECKPOINT_BYTES", 0)
            interrupt, name = at_every(number), str(number)
            told, followers = commit_while_followed(journal, interrupt, name, synced=synced, following=following)
        found = marks(journal.path)
        own = found.count(f"{number} leader")
        if not own <= 1 or (told == "committed" and own != 1):
            wrong.append(f"{number}: the leader was told {told}, its entry is there {own} times")
        for n, follower in enumerate(followers):
            count = found.count(f"{number} follower {n}")
            if follower.is_alive():
                wrong.append(f"{number}: follower {n} hangs")
            elif isinstance(follower.told, JournalError):
                wrong.append(f"{number}: follower {n} was told {follower.told}")
            elif count != 1 or follower.told <= 0:
                wrong.append(f"{number}: follower {n} was told rowid {follower.told}, its entry is there {count} times")
        wrong += [f"{number}: afterwards {what}" for what in still_sound(journal)]
        close_journals()
        if told == "committed":
            break
    assert number >= 8, "the sweep must have gone through a whole commit"
    assert not wrong, "\n" + "\n".join(wrong)


def still_sound(journal):
    """What an interruption has left in disorder; nothing, hopefully."""
    if journal._lock.locked():
        yield "the lock is held"
        return
    if journal._syncs.lock.locked():
        yield "the lock of the fsync is held"
        return
    if journal._connection.in_transaction:
        yield "a transaction is open"
    for synced in (True, False):
        before = journal.syncs
        journal.commit(mark("later", synced=synced))
        if journal.syncs - before != synced:
            yield f"a commit with synced={synced} was synced {journal.syncs - before} times"
    waiting = sum(not entry.done for entry in journal._queue)
    if waiting:
        yield f"{waiting} entries are left in the queue"
    if journal._syncs._waiting:
        yield f"{len(journal._syncs._waiting)} entries wait for an fsync"


@pytest.mark.parametrize("at_every", [AtEveryReturn, AtEveryLine])
@pytest.mark.parametrize("again", [1, 2])
def test_a_second_interruption_while_the_first_is_settled_changes_nothing(tmp_path, monkeypatch, at_every, again):
    """Ctrl-C twice. The second comes when the n-th call into C returns of what cleans up after the first."""
    settle, pending = writer.Writer._settle, []

    def interrupted_again(self):
        if self._batch and pending:
            pending.clear()
            with AtEveryReturn(again):
                return settle(self)
        return settle(self)

    monkeypatch.setattr(writer.Writer, "_settle", interrupted_again)
    wrong, number, told = [], 0, ""
    while told != "committed":
        number += 1
        journal = open_journal(tmp_path / "runs.db", "power")
        pending.append("second")
        told, followers = commit_while_followed(journal, at_every(number), number, synced=True, following=2)
        found = marks(journal.path)
        if found.count(f"{number} leader") > 1 or (told == "committed" and f"{number} leader" not in found):
            wrong.append(f"{number}: the leader was told {told}")
        for n, follower in enumerate(followers):
            if (
                follower.is_alive()
                or isinstance(follower.told, JournalError)
                or found.count(f"{number} follower {n}") != 1
            ):
                wrong.append(f"{number}: follower {n} was told {follower.told}")
        wrong += [f"{number}: afterwards {what}" for what in still_sound(journal)]
        close_journals()
    assert number > 8
    assert not wrong, "\n" + "\n".join(wrong)


def test_an_interrupted_checkpoint_waits_for_locks_again(tmp_path):
    """Checkpoints do not wait for anybody; commits do, also after a checkpoint that was interrupted."""
    journal = open_journal(tmp_path / "runs.db", "power")
    for number in range(1, 100):
        with suppress(KeyboardInterrupt), AtEveryReturn(number), journal._lock:
            journal._checkpoint("RESTART")
            break
        assert journal._connection.execute("PRAGMA busy_timeout").fetchone() == (opening.BUSY_TIMEOUT_MS,)
    assert number > 3


def test_an_interrupted_query_leaves_the_journal_usable(tmp_path):
    journal = open_journal(tmp_path / "runs.db", "power")
    journal.commit(mark(1))
    number, found = 0, None
    while found is None:
        number += 1
        with suppress(KeyboardInterrupt), AtEveryReturn(number):
            found = journal.rows("SELECT payload FROM result")
        assert not journal._lock.locked()
    assert found == [(b"1",)]
    assert number > 2


def test_an_interrupted_wait_for_the_lock_leaves_an_entry_that_is_written_at_most_once(tmp_path):
    """The thread gives up waiting; its entry may still be taken along by whoever commits next."""
    journal = open_journal(tmp_path / "runs.db", "power")

    def interrupt(number, frame):
        # Rung until then: too early it would not be in `commit`, just before the wait it is not noticed.
        if journal._leader is not None:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        journal._lock.acquire()
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
            journal.commit(mark("given up"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        journal._lock.release()
    journal.commit(mark("next"))
    found = marks(journal.path)
    assert found.count("next") == 1
    assert found.count("given up") <= 1


@pytest.mark.parametrize("seed", range(3))
def test_real_signals_at_random_moments_lose_and_double_nothing(tmp_path, seed):
    """The main thread and three more commit; the main one is interrupted again and again."""
    journal = open_journal(tmp_path / "runs.db", "power")
    rng = random.Random(seed)
    stop = threading.Event()
    told = [[] for _ in range(4)]

    def work(thread):
        n = 0
        while not stop.is_set():
            n += 1
            journal.commit(mark(f"{thread}-{n}", synced=n % 2 == 0))
            told[thread].append(f"{thread}-{n}")

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in (1, 2, 3)]
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    interrupts, n = 0, 0
    for thread in threads:
        thread.start()
    try:
        while interrupts < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00005, 0.001))
                while True:
                    n += 1
                    journal.commit(mark(f"0-{n}", synced=n % 2 == 0))
                    told[0].append(f"0-{n}")
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
    assert not any(thread.is_alive() for thread in threads)
    journal.commit(mark("end"))
    found = marks(journal.path)
    assert len(found) == len(set(found)), "something is there twice"
    lost = {name for names in told for name in names} - set(found)
    assert not lost, f"{len(lost)} entries were promised and are not there: {sorted(lost)[:5]}"
