"""Two of everything: a second process at every point, a stopped owner, forks, many processes on one journal."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proof import oracle
from proof.harness import DEADLINE, Job
from proof.kill import Row

_OWN: Final = """
import random
seeded = random.Random(os.environ["SEED"])

@task(task_run_name="step-{name}-{x}")
def step(name, x):
    ran("step", f"{name}-{x}")
    time.sleep(seeded.random() * 0.002)
    return x

@flow
def job(name, count):
    return sum(step(name, x) for x in range(count))

end = time.monotonic() + float(os.environ["SECONDS"])
number = 0
while time.monotonic() < end:
    name = f"{os.environ['NAME']}.{number}"
    assert job(name, 10) == 45
    ran("finished", name)
    number += 1
"""

_SAME: Final = """
@task(task_run_name="step-{x}")
def step(x):
    ran("step", x)
    time.sleep(0.02)
    return x

@flow(idempotency_key="tonight")
def job():
    return [step(x) for x in range(8)]

try:
    print(job())
except durable.FlowRunInProgress as error:
    print("in progress")
"""

_FORKS: Final = """
@task(task_run_name="step-{x}")
def step(x):
    ran("step", x)
    return x

@flow
def job():
    got = []
    for x in range(4):
        pid = os.fork()
        if pid == 0:
            step(100 + x)
            os._exit(0)
        got.append(step(x))
        os.waitpid(pid, 0)
    return got

print(job())
"""


def _start(job: Job, **environment: str) -> subprocess.Popen[str]:
    """A process of its own: no fork of this one."""
    inherited = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.Popen(
        [sys.executable, "job.py"],
        cwd=job.folder,
        env=inherited | {"PROOF_LOG": str(job.log), "PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, out, err


def _refuse_locked(err: str) -> None:
    if re.search(r"database is locked|JournalBusy", err):
        raise oracle.Violated(f"a lock reached the user:\n{err[-1500:]}")


def prove(base: Path, seed: int, seconds: float, before: str = "") -> Iterator[Row]:
    """Everything twice; `seconds` for sixteen processes at once. `before` is code that the jobs begin with."""
    yield _sixteen(base, seed, seconds, before)
    yield _second_at_every_point(base, seed, before)
    yield _stopped_owner(base, before)
    yield _forks(base, before)


def _sixteen(base: Path, seed: int, seconds: float, before: str) -> Row:
    job = Job(base / "sixteen", before + _OWN)
    try:
        processes = [
            _start(job, SEED=f"{seed} {number}", NAME=str(number), SECONDS=str(seconds)) for number in range(16)
        ]
        for process in processes:
            code, _, err = _ended(process)
            _refuse_locked(err)
            if code:
                raise oracle.Violated(f"one of sixteen processes failed:\n{err[-1500:]}")
        seen = oracle.look(job, acknowledged=False)
        ran = job.ran()
        finished = [line.partition(" ")[2] for line in ran if line.startswith("finished ")]
        wanted = {f"step-{name}-{x}" for name in finished for x in range(10)}
        if missing := wanted - seen.completed:
            raise oracle.Violated(f"sixteen processes: lost {sorted(missing)[:3]}")
        if twice := [line for line, count in ran.items() if count > 1]:
            raise oracle.Violated(f"sixteen processes: executed twice: {twice[:3]}")
        return Row(f"16 processes on one journal ({len(wanted)} tasks)", len(finished), 0, 0)
    finally:
        shutil.rmtree(job.base)


def _second_at_every_point(base: Path, seed: int, before: str) -> Row:
    seeded = random.Random(f"{seed} second")
    cases = 12
    for _ in range(cases):
        job = Job(base / "second", before + _SAME)
        try:
            first = _start(job)
            time.sleep(0.12 + seeded.random() * 0.35)
            others = [_start(job) for _ in range(2)]
            answers: Counter[str] = Counter()
            for process in (first, *others):
                code, out, err = _ended(process)
                _refuse_locked(err)
                if code:
                    raise oracle.Violated(f"a second copy failed:\n{err[-1500:]}")
                answers[out.strip()] += 1
            ran = job.ran()
            if any(count > 1 for count in ran.values()):
                raise oracle.Violated(f"a body was executed twice in one flow run: {ran}")
            if answers["[0, 1, 2, 3, 4, 5, 6, 7]"] < 1 or sum(answers.values()) != sum(
                answers[known] for known in ("in progress", "[0, 1, 2, 3, 4, 5, 6, 7]")
            ):
                raise oracle.Violated(f"copies gave {dict(answers)}")
            oracle.look(job, acknowledged=False)
        finally:
            shutil.rmtree(job.base)
    return Row("two more copies at a random moment", cases, cases, 0)


def _stopped_owner(base: Path, before: str) -> Row:
    """A stopped process still owns its run; killed, it does not, and the next copy goes on at once."""
    job = Job(base / "stopped", before + _SAME)
    try:
        owner = _start(job)
        _wait_for_lines(job, 2)
        owner.send_signal(signal.SIGSTOP)
        code, out, err = _ended(_start(job))
        if (code, out) != (0, "in progress\n"):
            raise oracle.Violated(f"a stopped owner: a second copy gave {code} {out!r} {err[-800:]}")
        seen = oracle.look(job)
        owner.kill()
        _ended(owner)
        code, out, err = _ended(_start(job))
        if code:
            raise oracle.Violated(f"after a stopped owner was killed:\n{err[-1500:]}")
        oracle.check_end(job, [seen], out, oracle.Expected("[0, 1, 2, 3, 4, 5, 6, 7]\n", 1, 0))
        return Row("a stopped owner, then killed", 1, 1, 0)
    finally:
        shutil.rmtree(job.base)


def _forks(base: Path, before: str) -> Row:
    job = Job(base / "forks", before + _FORKS)
    try:
        code, out, err = _ended(_start(job))
        if code or out != "[0, 1, 2, 3]\n":
            raise oracle.Violated(f"forks in a flow: {code} {out!r}\n{err[-1500:]}")
        seen = oracle.look(job)
        if lost := {f"step-{x}" for x in (0, 1, 2, 3, 100, 101, 102, 103)} - seen.completed:
            raise oracle.Violated(f"forks in a flow lost {sorted(lost)}")
        return Row("children forked in a flow, writing", 4, 4, 0)
    finally:
        shutil.rmtree(job.base)


def _wait_for_lines(job: Job, count: int) -> None:
    end = time.monotonic() + DEADLINE
    while sum(job.ran().values()) < count:
        if time.monotonic() > end:
            raise oracle.Violated("nothing was executed")
        time.sleep(0.005)
