"""Calls that fail: EIO, ENOSPC, EINTR, EROFS, refused locks, short writes; and disks that are full or read-only.

Each must end in a clear error of durable's own (or be survived), lose nothing that was acknowledged, leave a journal
that is whole, and a run that the same command finishes.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from proof import oracle, scenarios
from proof.effort import Effort, NotHere, Proof, Row
from proof.harness import EVERY, FAIL, LOCK, SHORT, SYNCS, UNLOCK, WRITES, Arm, Ended, Hung, Job
from proof.kill import baseline

_SCENARIOS: Final = ("sync", "async", "threads", "generators", "transactions")
_FEW: Final = 6  # places in a scenario in the quick proof
_OURS: Final = re.compile(r"^durable\.errors\.(Journal\w+|FlowRunInProgress): ", re.MULTILINE)


class Fault(NamedTuple):
    """A way in which a call fails."""

    action: int
    error: int = 0
    forever: bool = False
    kinds: int = WRITES | SYNCS


FAULTS: Final = {
    "EIO once": Fault(FAIL, errno.EIO),
    "EIO from then on": Fault(FAIL, errno.EIO, forever=True),
    "ENOSPC once": Fault(FAIL, errno.ENOSPC, kinds=WRITES),
    "ENOSPC from then on": Fault(FAIL, errno.ENOSPC, forever=True, kinds=WRITES),
    "EINTR once": Fault(FAIL, errno.EINTR),
    "a short write": Fault(SHORT, kinds=WRITES),
    # What a kernel does to a disk that fails (errors=remount-ro), while files on it are open.
    "EROFS from then on": Fault(FAIL, errno.EROFS, forever=True, kinds=EVERY & ~(1 << LOCK | 1 << UNLOCK)),
    "a lock refused once": Fault(FAIL, errno.EAGAIN, kinds=1 << LOCK),
}


def check_error(ended: Ended, what: str) -> None:
    """A run that failed must have said why, in durable's words.

    Raises:
        Violated: it did not.
    """
    if ended.code and not _OURS.search(ended.err):
        raise oracle.Violated(f"{what}: it ended with {ended.code}, and not in a clear error:\n{ended.err[-1500:]}")


def tried(base: Path, text: str, arm: Arm, expected: oracle.Expected) -> tuple[bool, int]:
    """Run into a fault and run again: whether the first run failed, and how many effects were repeated."""
    job = Job(base / "case", text)
    try:
        ended = job.run(arm)
        check_error(ended, "the run with the fault")
        seen = oracle.look(job)
        if not ended.code:
            oracle.check_end(job, [], ended.out, expected)
            return False, 0
        again = job.run()
        if again.code:
            raise oracle.Violated(f"the run after it failed:\n{again.err[-1500:]}")
        return True, oracle.check_end(job, [seen], again.out, expected)
    finally:
        shutil.rmtree(job.base)


def _fault(name: str, base: Path, effort: Effort, before: str) -> Row:
    """One fault at every call of its kinds."""
    fault = FAULTS[name]
    count = failed = repeated = 0
    for scenario in effort.in_time(_SCENARIOS):
        text = before + scenarios.ALL[scenario]
        expected = baseline(base, text, fault.kinds)
        places = range(1, expected.calls + 1)
        for at in effort.choice(places, _FEW, effort.seeded(f"{name} {scenario}")):
            arm = Arm(at, fault.action, fault.error, fault.forever, fault.kinds)
            try:
                broke, again = tried(base, text, arm, expected)
            except (oracle.Violated, Hung) as error:
                raise oracle.Violated(f"at call {at} of {scenario}: {error}") from error
            count, failed, repeated = count + 1, failed + broke, repeated + again
    return Row(f"{name} ({failed} stopped the run)", count, count, repeated)


# Real disks, small ones: a file system in memory.

_TASKS: Final = 60
_BIG: Final = (
    scenarios.ALL["sync"]
    .replace("range(4)", f"range({_TASKS})")
    .replace('"squared": x * x', '"squared": x * x, "b": b"." * 9000')
)
_BIG_EXPECTED: Final = oracle.Expected(f"{[(x, x * x) for x in range(_TASKS)]}\n", 1)


def _mount(*words: str) -> bool:
    return not subprocess.run(["mount", *words], check=False, capture_output=True).returncode


@contextmanager
def _disk(base: Path, size: str) -> Iterator[Path]:
    mounted = base / "small"
    mounted.mkdir(exist_ok=True)
    if os.geteuid() or not _mount("-t", "tmpfs", "-o", f"size={size}", "proof", str(mounted)):
        raise NotHere("only root may mount a small file system")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def _on_disk(base: Path, mounted: Path) -> Job:
    job = Job(mounted / "case", _BIG)
    job.log = base / "disk.log"  # the log of effects must not fail
    job.log.write_text("")
    return job


def _finished(job: Job, seen: oracle.Seen, what: str) -> int:
    again = job.run()
    if again.code:
        raise oracle.Violated(f"{what}: {again.err[-1500:]}")
    return oracle.check_end(job, [seen], again.out, _BIG_EXPECTED)


def _full_disk(base: Path, effort: Effort, before: str) -> Row:  # noqa: ARG001 - a proof's signature
    """A file system that is really full, and then is not."""
    sizes = ("300k", "450k", "700k")
    repeated = 0
    for size in effort.in_time(sizes):
        with _disk(base, size) as mounted:
            job = _on_disk(base, mounted)
            ended = job.run()
            check_error(ended, f"a full disk of {size}")
            if not ended.code:
                raise oracle.Violated(f"a disk of {size} was not full")
            seen = oracle.look(job)
            _mount("-o", "remount,size=64m", str(mounted))
            repeated += _finished(job, seen, f"a disk of {size}, freed")
    return Row("a really full disk, then freed", len(sizes), len(sizes), repeated)


def _read_only(base: Path, effort: Effort, before: str) -> Row:  # noqa: ARG001 - a proof's signature
    """Killed, then the file system is mounted read-only, then writable again."""
    with _disk(base, "64m") as mounted:
        job = _on_disk(base, mounted)
        calls = effort.seeded("read-only").randrange(60, 200)
        if not job.run(Arm(calls, 1)).killed:
            raise oracle.Violated(f"it was not killed at call {calls}")
        seen = oracle.look(job)
        # The first words of a run, its outputs, go beside the folder.
        job.base = base / "beside"
        job.base.mkdir(exist_ok=True)
        if not _mount("-o", "remount,ro", str(mounted)):
            raise NotHere("the file system cannot be mounted read-only")
        ended = job.run()
        check_error(ended, "a read-only file system")
        if not ended.code:
            raise oracle.Violated("a run on a read-only file system ended well")
        if oracle.look(job) != seen:
            raise oracle.Violated("a run on a read-only file system did something")
        _mount("-o", "remount,rw", str(mounted))
        repeated = _finished(job, seen, "a file system that is writable again")
    return Row("killed, then mounted read-only, then writable again", 1, 2, repeated)


PROOFS: Final[dict[str, Proof]] = {f"faults/{name}": partial(_fault, name) for name in FAULTS} | {
    "faults/full disk": _full_disk,
    "faults/read-only disk": _read_only,
}
