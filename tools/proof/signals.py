"""Stopped as people and machines stop jobs, at a random moment, again and again until it ends: Ctrl-C once and twice,
SIGTERM, SIGKILL; and commands asked of a journal while jobs that write to it are stopped like that.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from proof import oracle, scenarios
from proof.effort import Effort, Proof, Row
from proof.harness import Hung, Job
from proof.kill import baseline
from proof.rivals import ended, refuse_locked, start

_STOPS: Final = ((signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,), (signal.SIGKILL,))
_MOST: Final = 8  # times that one job is stopped
_CASES: Final = 8
_COMMANDS: Final = ("inspect", "inspect -", "why -", "plan -", "check", "export", "prune --keep-last 20", "report")
_ASKED: Final = 10

_BESIDE: Final = """
@task(task_run_name="step-{x}")
def step(x):
    time.sleep(0.002)
    return x

@flow
def job(who):
    return len(step.map([f"{who}.{x}" for x in range(120)]).result())

print(job(os.environ["WHO"]))
"""


def _stop(process: subprocess.Popen[str], seeded: random.Random) -> None:
    """Send what stops a process, some time after it began."""
    time.sleep(0.05 + seeded.random() * 0.25)
    for number in seeded.choice(_STOPS):
        process.send_signal(number)
        time.sleep(seeded.random() * 0.02)


def _stopped_until_it_ends(job: Job, seeded: random.Random) -> tuple[list[oracle.Seen], str]:
    """Run a job until it ends well: how it stood after each stop, and what it printed."""
    crashes: list[oracle.Seen] = []
    while True:
        process = start(job)
        if len(crashes) < _MOST:
            _stop(process, seeded)
        code, out, err = ended(process)
        refuse_locked(err)
        if not code:
            return crashes, out
        if len(crashes) == _MOST:
            raise oracle.Violated(f"left alone after {_MOST} stops, it failed:\n{err[-1500:]}")
        crashes.append(oracle.look(job))


def _signals(base: Path, effort: Effort, before: str) -> Row:
    seeded = effort.seeded("signals")
    names = [name for name in scenarios.ALL if name not in scenarios.SLOW]
    expected = {name: baseline(base, scenarios.ALL[name]) for name in names}
    count = stopped = repeated = 0
    for name in effort.in_time([seeded.choice(names) for _ in range(effort.count(_CASES))]):
        job = Job(base / "signals", before + scenarios.ALL[name])
        try:
            crashes, out = _stopped_until_it_ends(job, seeded)
            repeated += oracle.check_end(job, crashes, out, expected[name])
        except (oracle.Violated, Hung) as error:
            raise oracle.Violated(f"{name}: {error}") from error
        finally:
            shutil.rmtree(job.base)
        count, stopped = count + 1, stopped + len(crashes)
    return Row("Ctrl-C, SIGTERM and SIGKILL at random moments, until the job has ended", count, stopped, repeated)


def _commands(base: Path, effort: Effort, before: str) -> Row:
    """No command fails because of a job that writes, or dies, just now."""
    seeded = effort.seeded("commands")
    job = Job(base / "commands", before + _BESIDE)
    count = stopped = 0
    try:
        ended(start(job, WHO="first"))
        for number in effort.in_time(range(effort.count(_ASKED))):
            writer = start(job, WHO=str(number % 3))
            time.sleep(0.1)
            words = seeded.choice(_COMMANDS)
            asked = _ask(job, words)
            _stop(writer, seeded)
            code, _, told = ended(asked)
            if code:
                raise oracle.Violated(f"durable {words} ended with {code}:\n{told[-1500:]}")
            code, _, err = ended(writer)
            refuse_locked(err)
            count, stopped = count + 1, stopped + (code != 0)
        oracle.look(job, acknowledged=False)
        return Row("commands beside jobs that are stopped", count, stopped)
    finally:
        shutil.rmtree(job.base)


def _ask(job: Job, words: str) -> subprocess.Popen[str]:
    """Begin to ask one command of the journal."""
    name, *rest = words.split()
    more = ["-o", "-"] if name == "report" else []
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.Popen(
        [sys.executable, "-m", "durable", name, "runs.db", *rest, *more],
        cwd=job.folder,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


PROOFS: Final[dict[str, Proof]] = {"signals/jobs": _signals, "signals/commands": _commands}
