"""What is done to a whole journal, killed and cut off: migration, `durable prune` and `durable backup`.

Each has a journal as it lies there before, whole; what is done to it; and what must hold of whatever is left, whether
or not it was acknowledged. Then the same is done again, to its end.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from proof import kill, oracle, power
from proof.disk import images, points
from proof.effort import Effort, Proof, Row
from proof.harness import Arm, Ended, Hung, Job

_GOLDEN: Final = Path(__file__).parents[2] / "tests" / "golden" / "journal-1"
_FEW: Final = 60
_ACK: Final = "acknowledged"

# Three runs that completed, and one that is killed in its third task; then only that one, to be resumed.
_FLOW: Final = """
import random, signal

@task
def step(run, x):
    ran("step", f"{run}-{x}")
    if run == "killed" and x == 2 and "DIE" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return random.Random(x).randbytes(SIZE)

@flow
def job(run):
    return [len(step(run, x)) for x in range(5)]

"""
_RUNS: Final = _FLOW + "for run in ('one', 'two', 'three', 'killed'):\n    job(run)\n"
_RESUMED: Final = _FLOW + "print(job('killed'))\n"
_SMALL, _LARGE = 100, 100_000  # bytes in a result; with the larger ones pruning gives space back


class State(NamedTuple):
    """What is in a journal: its runs with their states and numbers of task runs, its results, its triggers."""

    runs: dict[str, tuple[str, int]]
    results: frozenset[tuple[int, int]]
    triggers: int
    version: int


def state_of(database: Path) -> State:
    """Read a journal that nobody uses.

    Raises:
        Violated: it is not whole.
    """
    oracle.examined(database)
    with closing(sqlite3.connect(database)) as connection:
        runs = connection.execute(
            "SELECT id, state, (SELECT count(*) FROM task_run WHERE flow_run_id = flow_run_row) FROM flow_runs"
        ).fetchall()
        results = connection.execute("SELECT id, checksum FROM result").fetchall()
        ((triggers,),) = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchall()
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    return State({run: (state, count) for run, state, count in runs}, frozenset(results), triggers, version)


class Upkeep(NamedTuple):
    """One thing that is done.

    Attributes:
        prepare: lays the journal down, in the job's folder.
        text: the job that does it.
        check: gets the job, what the journal was, and whether it was acknowledged that it was done.
        finish: gets the job and its state; what a run to the end must come to.
    """

    prepare: Callable[[Job], None]
    text: str
    check: Callable[[Job, State, bool], None]
    finish: Callable[[Job, State], None]


def _demand(holds: object, what: str) -> None:
    if not holds:
        raise oracle.Violated(what)


def _ended_well(ended: Ended, out: str, what: str) -> None:
    _demand(not ended.code, f"{what} failed:\n{ended.err[-1500:]}")
    _demand(ended.out == out, f"{what} ended in {ended.out!r}, and should in {out!r}")


# Migration: the journal of an older format, whose killed run is resumed by today's code.


def _lay_golden(job: Job) -> None:
    shutil.copy(_GOLDEN / "runs.db", job.journal)
    (job.folder / "mended").touch()


def _check_migrated(job: Job, was: State, acknowledged: bool) -> None:  # noqa: FBT001 - a table's signature
    now = state_of(job.journal)
    _demand(was.results <= now.results, "a result of the old journal is gone")
    _demand(now.version > was.version or not acknowledged, "it was used, and has the old format")
    for run, (_, tasks) in was.runs.items():
        _demand(now.runs.get(run, ("", -1))[1] >= tasks, f"task runs of run {run[:7]} are gone")


def _finish_migrated(job: Job, was: State) -> None:
    if state_of(job.journal).runs[_killed(was)][0] != "Completed":
        _ended_well(job.run(DURABLE_RESUME=_killed(was)), "608\n", "the run that resumes the migrated journal")
    _demand(state_of(job.journal).runs[_killed(was)][0] == "Completed", "the migrated run did not complete")


def _killed(was: State) -> str:
    return next(run for run, (state, tasks) in was.runs.items() if state == "Running" and tasks > 1)


_MIGRATION: Final = (
    "sys.argv[1:] = ['4']\n"
    + (_GOLDEN / "job.py").read_text(encoding="utf-8")
    + f"\n    sys.stdout.flush()\n    ran('{_ACK}')\n"
)


# Pruning: the two older runs that completed go; each goes whole, or stays whole.


def _lay_runs(size: int, job: Job) -> None:
    kept = (job.folder / "job.py").read_text(encoding="utf-8")
    job.write(_RUNS.replace("SIZE", str(size)))
    _demand(job.run(DIE="1").killed, "the run that should be killed was not")
    (job.folder / "job.py").write_text(kept, encoding="utf-8")


def _check_pruned(job: Job, was: State, acknowledged: bool) -> None:  # noqa: FBT001 - a table's signature
    now = state_of(job.journal)
    _demand(now.triggers == was.triggers, "what keeps the journal append-only is gone")
    _demand(now.results <= was.results, "there is a result that was not there before")
    completed = [run for run, (state, _) in was.runs.items() if state == "Completed"]
    for run, found in now.runs.items():
        _demand(found == was.runs[run], f"run {run[:7]} was {was.runs[run]} and is {found}")
    gone = set(was.runs) - set(now.runs)
    _demand(gone <= set(completed), "a run that could be resumed is gone")
    _demand(len(gone) in ({2} if acknowledged else {0, 2}), f"{len(gone)} runs were removed, and 2 should be")


def _finish_pruned(size: int, job: Job, was: State) -> None:  # noqa: ARG001 - a table's signature
    job.write(_RESUMED.replace("SIZE", str(size)))
    before = job.ran()
    _ended_well(job.run(), f"{[size] * 5}\n", "the killed run, resumed")
    _demand(sum((job.ran() - before).values()) == 3, "the resumed run executed what it had completed")


# Backup: what has the copy's name is a whole copy; the journal is as it was.


def _check_backed_up(job: Job, was: State, acknowledged: bool) -> None:  # noqa: FBT001 - a table's signature
    _demand(state_of(job.journal) == was, "the journal that was copied has changed")
    copy = job.folder / "copy.db"
    _demand(copy.exists() or not acknowledged, "the copy was acknowledged, and is not there")
    if copy.exists():
        _demand(state_of(copy) == was, "the copy is not what was copied")


def _finish_backed_up(job: Job, was: State) -> None:
    ended = job.run()
    _ended_well(ended, "", "another backup")
    _check_backed_up(job, was, acknowledged=True)
    left = [file.name for file in job.folder.iterdir() if file.name.startswith(".copy")]
    _demand(not left, f"backups leave {left}")


def _lay_backup(job: Job) -> None:
    _lay_runs(_SMALL, job)
    shutil.copy(job.journal, job.folder / "copy.db")
    shutil.copy(f"{job.journal}-wal", job.folder / "copy.db-wal")
    with closing(sqlite3.connect(job.folder / "copy.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_PRUNE: Final = f"command('prune', 'runs.db', '--older-than', '0s', '--keep-last', '2')\nran('{_ACK}')\n"
_BACKUP: Final = f"command('backup', 'runs.db', 'copy.db', '--force')\nran('{_ACK}')\n"

_ALL: Final = {
    "migration of a format 1 journal": Upkeep(_lay_golden, _MIGRATION, _check_migrated, _finish_migrated),
    "durable prune": Upkeep(partial(_lay_runs, _SMALL), _PRUNE, _check_pruned, partial(_finish_pruned, _SMALL)),
    "durable prune, giving space back": Upkeep(
        partial(_lay_runs, _LARGE), _PRUNE, _check_pruned, partial(_finish_pruned, _LARGE)
    ),
    "durable backup": Upkeep(partial(_lay_runs, _SMALL), _BACKUP, _check_backed_up, _finish_backed_up),
    "durable backup over an older one": Upkeep(_lay_backup, _BACKUP, _check_backed_up, _finish_backed_up),
}


def _laid(base: Path, name: str, before: str) -> tuple[Job, State, dict[str, str]]:
    """The job, the journal as it lies there, and what names the run it resumes."""
    upkeep = _ALL[name]
    job = Job(base / "laid", before + upkeep.text)
    upkeep.prepare(job)
    was = state_of_copy(job)
    resumed = {"DURABLE_RESUME": _killed(was)} if upkeep.text is _MIGRATION else {}
    return job, was, resumed


def state_of_copy(job: Job) -> State:
    """The journal's state; the files stay as they are."""
    copied = job.copy(job.base.parent / "looked")
    try:
        return state_of(copied.journal)
    finally:
        shutil.rmtree(copied.base)


def _judge(job: Job, upkeep: Upkeep, was: State, *, to_the_end: bool) -> None:
    acknowledged = f"{_ACK}" in job.ran()
    power.check_names(job)
    if not to_the_end:
        upkeep.check(job, was, acknowledged)
        return
    looked = job.copy(job.base.parent / "looked")  # SQLite tidies what it opens
    try:
        upkeep.check(looked, was, acknowledged)
    finally:
        shutil.rmtree(looked.base)
    upkeep.finish(job, was)


def _killed_at(name: str, base: Path, effort: Effort, before: str) -> Row:
    upkeep = _ALL[name]
    job, was, resumed = _laid(base, name, before)
    try:
        tried = job.copy(base / "case")
        ended = tried.run(None, **resumed)
        shutil.rmtree(tried.base)
        _demand(not ended.code, f"undisturbed, it failed:\n{ended.err}")
        count = 0
        for case in effort.in_time(kill.cases(ended.seen, effort, _FEW // 2, f"kill {name}")):
            tried = job.copy(base / "case")
            try:
                tried.run(Arm(case.first, case.action), **resumed)
                _judge(tried, upkeep, was, to_the_end=True)
            except (oracle.Violated, Hung) as error:
                raise oracle.Violated(f"{case}: {error}") from error
            finally:
                shutil.rmtree(tried.base)
            count += 1
        return Row(f"kill -9: {name} ({ended.seen} calls)", count, count)
    finally:
        shutil.rmtree(job.base)


def _cut(name: str, base: Path, effort: Effort, before: str) -> Row:
    upkeep = _ALL[name]
    job, was, resumed = _laid(base, name, before)
    try:
        there = {str(file): file.read_bytes() for file in job.folder.iterdir() if file.is_file()}
        seen = power.recorded(job, **resumed)
        where = points(len(seen), effort, _FEW, f"power {name}")
        made = images(seen, where, effort.seeded(f"power {name} image"), there)
        count = 0
        for number in effort.in_time(range(len(where))):
            at, how, left = next(made)
            try:
                image = power.image_of(base, job, left)
                _judge(image, upkeep, was, to_the_end=number % 3 == 0)
            except (oracle.Violated, Hung) as error:
                raise oracle.Violated(f"after call {at} ({how}): {error}") from error
            finally:
                shutil.rmtree(base / "image")
            count += 1
        return Row(f"power cut: {name}", count, count)
    finally:
        shutil.rmtree(job.base)


PROOFS: Final[dict[str, Proof]] = {
    **{f"kill/{name}": partial(_killed_at, name) for name in _ALL},
    **{f"power/{name}": partial(_cut, name) for name in _ALL},
}
