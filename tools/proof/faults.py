"""Faults: calls that fail, disks that fill, files that vanish under a run, clocks that jump.

Each must end in a clear error of durable's own (or be survived), lose nothing that was acknowledged, leave a journal
that is whole, and a run that the same command finishes.
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from proof import oracle, scenarios
from proof.harness import FAIL, SHORT, SYNCS, WRITES, Arm, Ended, Job
from proof.kill import Row, baseline

_SCENARIOS: Final = ("sync", "async", "threads", "generators")
_OURS: Final = re.compile(r"^durable\.errors\.Journal\w+: ", re.MULTILINE)


class Fault(NamedTuple):
    """A way in which a call fails."""

    name: str
    action: int
    error: int = 0
    forever: bool = False
    kinds: int = WRITES | SYNCS


FAULTS: Final = (
    Fault("EIO once", FAIL, errno.EIO),
    Fault("EIO from then on", FAIL, errno.EIO, forever=True),
    Fault("ENOSPC once", FAIL, errno.ENOSPC, kinds=WRITES),
    Fault("ENOSPC from then on", FAIL, errno.ENOSPC, forever=True, kinds=WRITES),
    Fault("EINTR once", FAIL, errno.EINTR),
    Fault("a short write", SHORT, kinds=WRITES),
)


def check_error(ended: Ended, what: str) -> None:
    """A run that failed must have said why, in durable's words.

    Raises:
        Violated: it did not.
    """
    if ended.code and not _OURS.search(ended.err):
        raise oracle.Violated(f"{what}: it ended with {ended.code}, and not in a clear error:\n{ended.err[-1500:]}")


def tried(base: Path, text: str, arm: Arm, expected: oracle.Expected, what: str) -> tuple[bool, int]:
    """Run into a fault and run again: whether the first run failed, and how many effects were repeated."""
    job = Job(base / "case", text)
    try:
        ended = job.run(arm)
        check_error(ended, what)
        seen = oracle.look(job)
        if not ended.code:
            oracle.check_end(job, [], ended.out, expected)
            return False, 0
        again = job.run()
        if again.code:
            raise oracle.Violated(f"{what}: the run after it failed:\n{again.err[-1500:]}")
        return True, oracle.check_end(job, [seen], again.out, expected)
    finally:
        shutil.rmtree(job.base)


def prove(base: Path, seed: int, limit: int | None, before: str = "") -> Iterator[Row]:
    """Every fault at every write and sync; `limit` places of each scenario at most.

    `before` is code that the jobs begin with.
    """
    for fault in FAULTS:
        count = failed = repeated = 0
        for scenario in _SCENARIOS:
            text = before + scenarios.ALL[scenario]
            expected = baseline(base, text, fault.kinds)
            places: list[int] = list(range(1, expected.calls + 1))
            if limit is not None and limit < len(places):
                places = random.Random(f"{seed} {fault.name} {scenario}").sample(places, limit)
            for at in places:
                arm = Arm(at, fault.action, fault.error, fault.forever, fault.kinds)
                what = f"{fault.name} at write or sync {at} of {scenario}"
                broke, again = tried(base, text, arm, expected, what)
                count, failed, repeated = count + 1, failed + broke, repeated + again
        yield Row(f"{fault.name} ({failed} stopped the run)", count, count, repeated)
    yield from _meddling(base, before)
    if os.geteuid() == 0:
        yield from _full_disk(base)


# What other people do to a run. `AT` is executed once, in the third step.

_MEDDLED: Final = """
import pathlib, shutil, sqlite3, threading
from durable.clock import Clock, use_clock

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

_MEDDLERS: Final = {
    "the journal deleted under a live run": "os.unlink('runs.db')",
    "the journal replaced under a live run": "shutil.copy('runs.db', 'other.db'); os.replace('other.db', 'runs.db')",
    "the lock file removed under a live run": "[p.unlink() for p in pathlib.Path('runs.db-locks').iterdir()]",
    "a clock that jumps a year back": "time.time_ns = lambda was=time.time_ns: was() - 31_536_000_000_000_000",
    "a clock that jumps a year ahead": "time.time_ns = lambda was=time.time_ns: was() + 31_536_000_000_000_000",
    "another connection that keeps the write lock for a while": (
        "other = sqlite3.connect('runs.db', isolation_level=None, check_same_thread=False); "
        "other.execute('BEGIN IMMEDIATE'); threading.Timer(0.5, other.execute, ['ROLLBACK']).start()"
    ),
    "a reader that keeps an old snapshot": (
        "global other; other = sqlite3.connect('file:runs.db?mode=ro', uri=True, isolation_level=None); "
        "other.execute('BEGIN'); other.execute('SELECT count(*) FROM task_run').fetchone()"
    ),
}


def _meddling(base: Path, before: str) -> Iterator[Row]:
    for what, code in _MEDDLERS.items():
        job = Job(base / "case", before + _MEDDLED.replace("AT", code))
        try:
            ended = job.run()
            check_error(ended, what)
            lost = "deleted" in what or "replaced" in what  # what somebody threw away cannot be there
            if not lost:
                oracle.look(job)
            again = job.run() if ended.code else ended
            if again.code or again.out != "[0, 1, 2, 3, 4]\n":
                raise oracle.Violated(f"{what}: then {again.out!r}\n{again.err[-1500:]}")
            if lost and not ended.code:
                raise oracle.Violated(f"{what}: nobody noticed")
            yield Row(what, 1, 1, 0)
        finally:
            shutil.rmtree(job.base)


def _full_disk(base: Path) -> Iterator[Row]:
    """A file system that is really full, and then is not."""
    mounted = base / "small"
    text = (
        scenarios.ALL["sync"]
        .replace("range(4)", "range(60)")
        .replace('"squared": x * x', '"squared": x * x, "b": b"." * 9000')
    )
    expected = oracle.Expected(f"{[x * x for x in range(60)]}\n", 1, 0)
    sizes = ("300k", "450k", "700k")
    for size in sizes:
        mounted.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "proof", str(mounted)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            return  # not allowed here
        try:
            job = Job(mounted / "case", text)
            job.log = base / "full.log"
            job.log.write_text("")
            ended = job.run()
            check_error(ended, f"a full disk of {size}")
            if not ended.code:
                raise oracle.Violated(f"a disk of {size} was not full")
            seen = oracle.look(job)
            subprocess.run(["mount", "-o", "remount,size=64m", str(mounted)], check=True)
            again = job.run()
            if again.code:
                raise oracle.Violated(f"a disk of {size}, freed: {again.err[-1500:]}")
            oracle.check_end(job, [seen], again.out, expected)
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
    yield Row("a really full disk, then freed", len(sizes), len(sizes), 0)
