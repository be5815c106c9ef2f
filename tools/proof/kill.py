"""Killed at every call that changes or locks a file; and killed again while it resumes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from proof import oracle, scenarios
from proof.harness import EVERY, KILL_AFTER, KILL_BEFORE, Arm, Job


class Row(NamedTuple):
    """A line of the table: what was tried, how often, and what came of it."""

    what: str
    cases: int
    faults: int
    repeated: int


class Case(NamedTuple):
    """One case: the job, where its first run is killed, and where the run that resumes it is (0: nowhere)."""

    scenario: str
    first: int
    second: int = 0
    action: int = KILL_BEFORE


def baseline(base: Path, text: str, kinds: int = EVERY) -> oracle.Expected:
    """What an undisturbed run comes to, and how many calls of some kinds it makes."""
    job = Job(base / "baseline", text)
    ended = job.run(Arm(kinds=kinds))
    seen = oracle.look(job)
    shutil.rmtree(job.base)
    if ended.code:
        raise oracle.Violated(f"an undisturbed run fails:\n{ended.err}")
    return oracle.Expected(ended.out, seen.ended, ended.seen)


def tried(base: Path, case: Case, text: str, expected: oracle.Expected) -> tuple[int, int]:
    """Try one case: how often it was killed, and how many effects were repeated."""
    job = Job(base / "case", text)
    try:
        crashes: list[oracle.Seen] = []
        for at in filter(None, (case.first, case.second, -1)):
            ended = job.run(Arm(at, case.action) if at > 0 else None)
            if not ended.killed:
                break
            crashes.append(oracle.look(job))
        if ended.code:
            raise oracle.Violated(f"the run that should end well failed:\n{ended.err}")
        return len(crashes), oracle.check_end(job, crashes, ended.out, expected)
    finally:
        shutil.rmtree(job.base)


def cases(scenario: str, calls: int, limit: int | None, seeded: random.Random) -> Iterator[Case]:
    """Every call once, before and after; and as many double crashes. With a limit, a seeded choice of them."""
    every = [Case(scenario, at, 0, action) for action in (KILL_BEFORE, KILL_AFTER) for at in range(1, calls + 1)]
    every += [Case(scenario, at, seeded.randrange(1, calls + 1), KILL_BEFORE) for at in range(1, calls + 1)]
    yield from every if limit is None or limit >= len(every) else seeded.sample(every, limit)


def prove(base: Path, seed: int, limit: int | None, before: str = "") -> Iterator[Row]:
    """The kill matrix, a row a scenario; `limit` cases of each at most. `before` is code that the jobs begin with."""
    for scenario, text in scenarios.ALL.items():
        seeded = random.Random(f"{seed} {scenario}")
        expected = baseline(base, text)  # as it should be: `before` may break a promise
        count = faults = repeated = 0
        for case in cases(scenario, expected.calls, limit, seeded):
            try:
                killed, again = tried(base, case, before + text, expected)
            except oracle.Violated as error:
                raise oracle.Violated(f"{case}: {error}") from error
            count, faults, repeated = count + 1, faults + killed, repeated + again
        yield Row(f"kill -9: {scenario}", count, faults, repeated)
