"""Killed at every call that changes or locks a file; and killed again while it resumes."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from proof import oracle, scenarios
from proof.effort import Effort, Proof, Row
from proof.harness import EVERY, KILL_AFTER, KILL_BEFORE, Arm, Hung, Job

_FEW: Final = 16  # cases of a scenario in the quick proof


class Case(NamedTuple):
    """Where a job's first run is killed, and where the run that resumes it is (0: nowhere)."""

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
    return oracle.Expected(ended.out, seen.ended, ended.seen, frozenset(seen.ran))


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


def cases(calls: int, effort: Effort, few: int, name: str) -> list[Case]:
    """Every call once, before and after; and as many double crashes."""
    seeded = effort.seeded(name)
    every = [Case(at, 0, action) for action in (KILL_BEFORE, KILL_AFTER) for at in range(1, calls + 1)]
    every += [Case(at, seeded.randrange(1, calls + 1)) for at in range(1, calls + 1)]
    return list(effort._replace(end=None).choice(every, few, seeded))


def _scenario(scenario: str, base: Path, effort: Effort, before: str) -> Row:
    text = scenarios.ALL[scenario]
    expected = baseline(base, text)  # as it should be: `before` may break a promise
    count = faults = repeated = twice = 0
    few = _FEW // 4 if scenario in scenarios.SLOW else _FEW
    chosen = cases(expected.calls, effort, few, f"kill {scenario}")
    if effort.pairs and effort.pairs[0] > 1:
        chosen = []  # they are of the first part
    for case in effort.in_time(chosen):
        try:
            killed, again = tried(base, case, before + text, expected)
        except (oracle.Violated, Hung) as error:
            raise oracle.Violated(f"{case}: {error}") from error
        count, faults, repeated = count + 1, faults + killed, repeated + again
        twice += killed == 2
    row = Row(f"kill -9: {scenario} ({expected.calls} calls; {twice} killed twice)", count, faults, repeated)
    return _pairs(scenario, base, before + text, expected, row, *effort.pairs) if effort.pairs else row


def _pairs(scenario: str, base: Path, text: str, expected: oracle.Expected, row: Row, part: int, parts: int) -> Row:
    """Killed at every call of the run that resumes, from each state that the first kill can leave."""
    known: set[object] = set()
    count = repeated = 0
    for first in range(1, expected.calls + 1):
        job = Job(base / "first", text)
        try:
            if not job.run(Arm(first, KILL_BEFORE)).killed:
                continue
            seen = oracle.look(job)
            state = _state(job, seen)
            if state in known:
                continue
            known.add(state)
            second, killed = part - parts, True
            while killed:
                second += parts
                try:
                    killed, again = _resumed(job.copy(base / "case"), second, seen, expected)
                except (oracle.Violated, Hung) as error:
                    raise oracle.Violated(f"{Case(first, second)}: {error}") from error
                count, repeated = count + killed, repeated + again
        finally:
            shutil.rmtree(job.base)
    every = "every call" if parts == 1 else f"part {part} of {parts} of the calls"
    what = f"kill -9: {scenario} ({expected.calls} calls; {every} of the resuming run, from {len(known)} states)"
    return Row(what, row.cases + count, row.faults + 2 * count, row.repeated + repeated)


def _state(job: Job, seen: oracle.Seen) -> object:
    """What tells two crashes apart, but for ids and times: what was done, what is recorded, which files there are."""
    files = frozenset(re.sub(r"\d{3,}|[0-9a-f]{32}", "", str(file)) for file in job.folder.rglob("*"))
    return seen.begun, seen.completed, seen.over, seen.ended, frozenset(seen.ran.items()), files


def _resumed(job: Job, second: int, seen: oracle.Seen, expected: oracle.Expected) -> tuple[bool, int]:
    """Kill the run that resumes, too, and resume that: whether it was killed, and how many effects were repeated."""
    try:
        crashes = [seen]
        ended = job.run(Arm(second, KILL_BEFORE))
        killed = ended.killed
        if killed:
            crashes.append(oracle.look(job))
            ended = job.run()
        if ended.code:
            raise oracle.Violated(f"the run that should end well failed:\n{ended.err}")
        return killed, oracle.check_end(job, crashes, ended.out, expected)
    finally:
        shutil.rmtree(job.base)


PROOFS: Final[dict[str, Proof]] = {f"kill/{scenario}": partial(_scenario, scenario) for scenario in scenarios.ALL}
