"""What other people do to a live run: files that vanish, clocks that jump, locks that others keep."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from proof import oracle, rivals, scenarios
from proof.effort import Effort, Proof, Row
from proof.faults import check_error
from proof.harness import KILL_BEFORE, KIT, Arm, Job
from proof.kill import baseline

# `AT` is executed once, in the third step.
_JOB: Final = """
import pathlib, shutil, sqlite3, threading

@task(task_run_name="step-{x}")
def step(x):
    ran("step", x)
    if x == 2 and not os.path.exists("../meddled"):
        open("../meddled", "w").close()
        AT
    return x

@flow
def job():
    got = []
    for x in range(5):
        got.append(step(x))
        ran("ack", x)
    return got

print(job())
"""
_OUT: Final = "[0, 1, 2, 3, 4]\n"


class Meddling(NamedTuple):
    """Something that is done to a live run.

    Attributes:
        lost: what was recorded is gone, so the run must notice: it may not end well.
        noticed: the run must notice, and nothing that was recorded is gone.
        damaged: what is left is no journal, so that the next run must refuse it; it ends well once that is moved away.
    """

    code: str
    lost: bool = False
    noticed: bool = False
    damaged: bool = False


MEDDLERS: Final = {
    "the journal deleted under a live run": Meddling("os.unlink('runs.db')", lost=True),
    "the journal replaced under a live run": Meddling(
        "shutil.copy('runs.db', 'other.db'); os.replace('other.db', 'runs.db')", lost=True
    ),
    "the journal truncated to nothing under a live run": Meddling("os.truncate('runs.db', 0)", lost=True),
    "the journal truncated to half under a live run": Meddling(
        "os.truncate('runs.db', os.path.getsize('runs.db') // 8192 * 4096)", lost=True, damaged=True
    ),
    "the log deleted under a live run": Meddling("os.unlink('runs.db-wal')", noticed=True),
    "the log truncated to nothing under a live run": Meddling("os.truncate('runs.db-wal', 0)", lost=True),
    "the log truncated to half under a live run": Meddling(
        "os.truncate('runs.db-wal', os.path.getsize('runs.db-wal') // 2)", lost=True
    ),
    "the log replaced under a live run": Meddling(
        "shutil.copy('runs.db-wal', 'other-wal'); os.replace('other-wal', 'runs.db-wal')", noticed=True
    ),
    "the log renamed under a live run": Meddling(
        "time.sleep(0.01); os.rename('runs.db-wal', 'other-wal')", noticed=True
    ),
    "the index renamed under a live run": Meddling(
        "time.sleep(0.01); os.rename('runs.db-shm', 'other-shm')", noticed=True
    ),
    "the index deleted under a live run": Meddling("time.sleep(0.01); os.unlink('runs.db-shm')", noticed=True),
    "the lock file removed under a live run": Meddling("[p.unlink() for p in pathlib.Path('runs.db-locks').iterdir()]"),
    "a clock that jumps a year back": Meddling(
        "time.time_ns = lambda was=time.time_ns: was() - 31_536_000_000_000_000"
    ),
    "a clock that jumps a year ahead": Meddling(
        "time.time_ns = lambda was=time.time_ns: was() + 31_536_000_000_000_000"
    ),
    "another connection that keeps the write lock for a while": Meddling(
        "other = sqlite3.connect('runs.db', isolation_level=None, check_same_thread=False); "
        "other.execute('BEGIN IMMEDIATE'); threading.Timer(0.5, other.execute, ['ROLLBACK']).start()"
    ),
    "a reader that keeps an old snapshot": Meddling(
        "global other; other = sqlite3.connect('file:runs.db?mode=ro', uri=True, isolation_level=None); "
        "other.execute('BEGIN'); other.execute('SELECT count(*) FROM task_run').fetchone()"
    ),
}


def _meddled(what: str, base: Path, effort: Effort, before: str) -> Row:  # noqa: ARG001 - a proof's signature
    meddling = MEDDLERS[what]
    job = Job(base / "case", before + _JOB.replace("AT", meddling.code))
    try:
        ended = job.run()
        check_error(ended, what)
        if not meddling.lost:  # what somebody threw away cannot be there
            oracle.look(job)
        if not ended.code and (meddling.lost or meddling.noticed):
            raise oracle.Violated("the run did not notice")
        again = job.run() if ended.code else ended
        if meddling.damaged:
            check_error(again, "the next run")
            if not again.code:
                raise oracle.Violated(f"the next run took what is left for a journal: {again.out!r}")
            for file in job.folder.glob("runs.db*"):
                file.rename(job.base / file.name)
            again = job.run()
        if again.code or again.out != _OUT:
            raise oracle.Violated(f"then {again.out!r}\n{again.err[-1500:]}")
        oracle.look(job, acknowledged=not meddling.lost)
        return Row(what, 1, 1)
    finally:
        shutil.rmtree(job.base)


# The write lock, taken again and again by others for some milliseconds each.
_STORM: Final = """
import random, sqlite3
seeded = random.Random(os.environ["SEED"])
other = sqlite3.connect("runs.db", timeout=30, isolation_level=None)
open("fights." + os.environ["NUMBER"], "w").close()
while not os.path.exists("over"):
    other.execute("BEGIN IMMEDIATE")
    time.sleep(seeded.random() * 0.02)
    other.execute("ROLLBACK")
    time.sleep(seeded.random() * 0.002)
"""
_OTHERS: Final = 6


def _storm(base: Path, effort: Effort, before: str) -> Row:
    """Others fight for the write lock while jobs that were killed are resumed."""
    count = repeated = 0
    for scenario in effort.in_time(("sync", "async", "threads", "transactions")):
        expected = baseline(base, scenarios.ALL[scenario])
        job = Job(base / "case", before + scenarios.ALL[scenario])
        try:
            job.run(Arm(effort.seeded(f"busy {scenario}").randrange(140, 200), KILL_BEFORE))
            seen = oracle.look(job)
            with _stormed(job, effort.seed):
                ended = job.run()
            rivals.refuse_locked(ended.err)
            if ended.code:
                raise oracle.Violated(f"{scenario}: it failed:\n{ended.err[-1500:]}")
            repeated += oracle.check_end(job, [seen], ended.out, expected)
            count += 1
        finally:
            shutil.rmtree(job.base)
    return Row(f"{_OTHERS} others fight for the write lock (SQLITE_BUSY)", count, count, repeated)


@contextmanager
def _stormed(job: Job, seed: int) -> Iterator[None]:
    (job.folder / "storm.py").write_text(KIT + _STORM, encoding="utf-8")
    others = [rivals.start(job, "storm.py", SEED=f"{seed} {number}", NUMBER=str(number)) for number in range(_OTHERS)]
    try:
        rivals.wait_for(lambda: len(list(job.folder.glob("fights.*"))) == _OTHERS, "the others did not begin")
        yield
    finally:
        (job.folder / "over").touch()
        for other in others:
            rivals.ended(other)


def _log_left(base: Path, effort: Effort, before: str) -> Row:  # noqa: ARG001 - a proof's signature
    """A journal deleted after a crash, without its log: the next run is a new one, in a journal that is whole."""
    job = Job(base / "case", before + _JOB.replace("AT", "os.kill(os.getpid(), 9)"))
    try:
        if not job.run().killed:
            raise oracle.Violated("the run that should be killed was not")
        job.journal.unlink()
        job.log.write_text("", encoding="utf-8")
        again = job.run()
        if again.code or again.out != _OUT:
            raise oracle.Violated(f"then {again.out!r}\n{again.err[-1500:]}")
        oracle.look(job)
        if job.ran()["step 0"] != 1:
            raise oracle.Violated("the next run went on in the deleted one")
        return Row("the journal deleted after a crash, and its log left", 1, 1)
    finally:
        shutil.rmtree(job.base)


PROOFS: Final[dict[str, Proof]] = {f"meddling/{what}": partial(_meddled, what) for what in MEDDLERS} | {
    "meddling/log left": _log_left,
    "meddling/busy": _storm,
}
