"""Two of everything: a second process at any point, a stopped owner, a pid used again, forks, many on one journal."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proof import oracle
from proof.effort import Effort, NotHere, Proof, Row
from proof.harness import DEADLINE, Hung, Job

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
    time.sleep(300 if x == 1 and "STAYS" in os.environ else 0.02)
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

# The first call of a task takes what others of its process may have taken just then.
_FORKS_IN_THREADS: Final = """
def made(number):
    @task(name=f"part-{number}")
    def part(where):
        return where
    return part

parts = [made(number) for number in range(40)]

def fork():
    while True:
        try:
            return os.fork()
        except RuntimeError:  # filelock's, from Python 3.12 on, where another thread forks just now
            time.sleep(0.001)

@task(task_run_name="step-{x}")
def step(x):
    pid = fork()
    if pid == 0:
        parts[x]("child")
        os._exit(0)
    parts[x]("parent")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

@flow
def job():
    return sum(step.map(range(40)).result())

print(job())
"""

_WHOLE: Final = "[0, 1, 2, 3, 4, 5, 6, 7]\n"


def start(
    job: Job, script: str = "job.py", *, under: tuple[str, ...] = (), **environment: str
) -> subprocess.Popen[str]:
    """A process of its own: no fork of this one. `under` is a command that starts it."""
    inherited = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.Popen(
        [*under, sys.executable, script],
        cwd=job.folder,
        env=inherited | {"PROOF_LOG": str(job.log), "PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], seconds: float = 0.0) -> tuple[int, str, str]:
    """Wait for a process that is busy for `seconds`: its exit code and what it printed.

    Raises:
        Hung: it did not end.
    """
    try:
        out, err = process.communicate(timeout=seconds + DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Hung(f"a process did not end within {seconds + DEADLINE} s") from None
    return process.returncode, out, err


def refuse_locked(err: str) -> None:
    """No lock may reach a user.

    Raises:
        Violated: one did.
    """
    # A Ctrl-C during an import shows a line of source that only names it.
    if re.search(r"database is locked|JournalBusy[:(]", err):
        raise oracle.Violated(f"a lock reached the user:\n{err[-1500:]}")


def _sixteen(base: Path, effort: Effort, before: str) -> Row:
    job = Job(base / "sixteen", before + _OWN)
    seconds = effort.seconds(4.0, 60.0)
    try:
        processes = [
            start(job, SEED=f"{effort.seed} {number}", NAME=str(number), SECONDS=str(seconds)) for number in range(16)
        ]
        for process in processes:
            code, _, err = ended(process, seconds)
            refuse_locked(err)
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
        return Row(f"16 processes on one journal for {seconds:.0f} s ({len(wanted)} tasks)", len(finished), 0)
    finally:
        shutil.rmtree(job.base)


def _second_at_any_point(base: Path, effort: Effort, before: str) -> Row:
    seeded = effort.seeded("second")
    count = 0
    for pause in effort.in_time([0.12 + seeded.random() * 0.35 for _ in range(effort.count(8))]):
        job = Job(base / "second", before + _SAME)
        try:
            first = start(job)
            time.sleep(pause)
            others = [start(job) for _ in range(2)]
            answers: Counter[str] = Counter()
            for process in (first, *others):
                code, out, err = ended(process)
                refuse_locked(err)
                if code:
                    raise oracle.Violated(f"a second copy failed:\n{err[-1500:]}")
                answers[out] += 1
            ran = job.ran()
            if any(count > 1 for count in ran.values()):
                raise oracle.Violated(f"a body was executed twice in one flow run: {ran}")
            if answers[_WHOLE] < 1 or answers.keys() - {"in progress\n", _WHOLE}:
                raise oracle.Violated(f"copies gave {dict(answers)}")
            oracle.look(job, acknowledged=False)
            count += 1
        finally:
            shutil.rmtree(job.base)
    return Row("two more copies at a random moment", count, count)


def _stopped_owner(base: Path, effort: Effort, before: str) -> Row:  # noqa: ARG001 - a proof's signature
    """A stopped process still owns its run; killed, it does not, and the next copy goes on at once."""
    job = Job(base / "stopped", before + _SAME)
    owner = start(job, STAYS="1")
    try:
        _wait_for_lines(job, 2)
        owner.send_signal(signal.SIGSTOP)
        code, out, err = ended(start(job))
        if (code, out) != (0, "in progress\n"):
            raise oracle.Violated(f"a stopped owner: a second copy gave {code} {out!r} {err[-800:]}")
        seen = oracle.look(job)
        owner.kill()
        ended(owner)
        code, out, err = ended(start(job))
        if code:
            raise oracle.Violated(f"after a stopped owner was killed:\n{err[-1500:]}")
        oracle.check_end(job, [seen], out, oracle.Expected(_WHOLE, 1))
        return Row("a stopped owner, then killed", 1, 1)
    finally:
        owner.kill()
        shutil.rmtree(job.base)


def _same_pid(base: Path, effort: Effort, before: str) -> Row:  # noqa: ARG001 - a proof's signature
    """Two copies in containers, each with pid 1; one is killed, and its pid is another live process's."""
    alone = ("unshare", "--pid", "--fork")
    if subprocess.run([*alone, "--mount-proc", "true"], check=False, capture_output=True).returncode:
        raise NotHere("only root may make a pid namespace")
    job = Job(base / "pid", before + _SAME)
    try:
        owner = start(job, under=alone, STAYS="1")
        _wait_for_lines(job, 2)
        inside = int(Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()[0])
        os.kill(inside, signal.SIGSTOP)
        code, out, err = ended(start(job, under=alone))
        if (code, out) != (0, "in progress\n"):
            raise oracle.Violated(f"a live owner with the same pid: a copy gave {code} {out!r} {err[-800:]}")
        seen = oracle.look(job)
        os.kill(inside, signal.SIGKILL)
        ended(owner)
        # The shell has the dead owner's pid now. It looks at the journal, and then runs the job again.
        look = f'{shlex.quote(sys.executable)} -m durable inspect runs.db >inspected; exec "$@"'
        code, out, err = ended(start(job, under=(*alone, "--mount-proc", "sh", "-c", f"({look})", "sh")))
        inspected = (job.folder / "inspected").read_text(encoding="utf-8")
        if "Crashed" not in inspected:
            raise oracle.Violated(f"a dead owner whose pid is another's was taken for alive:\n{inspected}")
        if code:
            raise oracle.Violated(f"after the owner with the same pid was killed:\n{err[-1500:]}")
        oracle.check_end(job, [seen], out, oracle.Expected(_WHOLE, 1))
        return Row("an owner's pid is another process's, alive and dead", 2, 2)
    finally:
        shutil.rmtree(job.base)


def _forks(base: Path, effort: Effort, before: str) -> Row:  # noqa: ARG001 - a proof's signature
    job = Job(base / "forks", before + _FORKS)
    try:
        code, out, err = ended(start(job))
        if code or out != "[0, 1, 2, 3]\n":
            raise oracle.Violated(f"forks in a flow: {code} {out!r}\n{err[-1500:]}")
        seen = oracle.look(job)
        if lost := {f"step-{x}" for x in (0, 1, 2, 3, 100, 101, 102, 103)} - seen.completed:
            raise oracle.Violated(f"forks in a flow lost {sorted(lost)}:\n{err[-1500:]}")
        return Row("children forked in a flow, writing", 4, 4)
    finally:
        shutil.rmtree(job.base)


def _forks_in_threads(base: Path, effort: Effort, before: str) -> Row:
    count = 0
    for _ in effort.in_time(range(effort.count(2))):
        job = Job(base / "forks", before + _FORKS_IN_THREADS)
        try:
            code, out, err = ended(start(job))
            if code or out != "0\n":
                raise oracle.Violated(f"threads that fork: {code} {out!r}\n{err[-1500:]}")
            if lost := {f"step-{x}" for x in range(40)} - oracle.look(job).completed:
                raise oracle.Violated(f"threads that fork lost {sorted(lost)}:\n{err[-1500:]}")
            count += 40
        finally:
            shutil.rmtree(job.base)
    return Row("threads that fork at once, parents and children writing", count, count)


def wait_for(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait until something holds.

    Raises:
        Hung: it does not.
    """
    end = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > end:
            raise Hung(otherwise)
        time.sleep(0.005)


def _wait_for_lines(job: Job, count: int) -> None:
    wait_for(lambda: sum(job.ran().values()) >= count, "nothing was executed")


PROOFS: Final[dict[str, Proof]] = {
    "rivals/second": _second_at_any_point,
    "rivals/stopped": _stopped_owner,
    "rivals/pid": _same_pid,
    "rivals/forks": _forks,
    "rivals/forks in threads": _forks_in_threads,
    "rivals/sixteen": _sixteen,
}
