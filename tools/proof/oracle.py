"""What must hold, whatever happened: an independent log of effects against the journal.

1. A task run that the journal calls Completed, or finally Failed, is never executed again.
2. One that was in flight is executed at most once more for each crash.
3. A result that was acknowledged to the job is in the journal.
4. The value in the end is that of a run nobody disturbed.
5. Every execution after the first has a recorded reason.
6. Whatever was executed has a recorded start.
7. Every effect of an undisturbed run happened.
8. What a transaction did and then failed is undone, after it was last done.
9. SQLite finds the file whole, sequences have no gaps, every transition is legal, every payload is what was written.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from durable.states import BY_CODE, TRANSITIONS, StateType
from proof.harness import Job


class Violated(Exception):
    """The contract did not hold."""


class Seen(NamedTuple):
    """A job between two runs: the task runs the journal has, those it calls completed or ended, and all effects."""

    begun: frozenset[str]
    completed: frozenset[str]
    over: frozenset[str]
    ran: Counter[str]
    ended: int  # flow runs that have completed: what is run after that is another run


def look(job: Job, *, acknowledged: bool = True, started: bool = True) -> Seen:
    """How a job stands after a crash.

    Args:
        job: it.
        acknowledged: what was acknowledged must be there (rule 3); False where a power cut may take the newest results.
        started: what was executed must have its start there (rule 6); False after a power cut, which takes it along.

    Raises:
        Violated: something does not hold.
    """
    ran = job.ran()
    seen = examined(job.journal)._replace(ran=ran)
    if acknowledged:
        for line in ran:
            word, _, name = line.partition(" ")
            if word == "ack" and f"step-{name}" not in seen.completed:
                raise Violated(f"the result of step-{name} was acknowledged, and the journal does not have it")
            if started and word == "step" and f"step-{name}" not in seen.begun:
                raise Violated(f"step-{name} was executed, and the journal does not have its start")
    return seen


_CERTAIN = frozenset({"step", "put", "undo"})  # effects that happen in every run, however often it is killed
_NOTHING = Seen(frozenset(), frozenset(), frozenset(), Counter(), 0)


class Expected(NamedTuple):
    """An undisturbed run: what it prints, the flow runs it completes, the calls it makes, and what it logs."""

    out: str
    ended: int
    calls: int = 0
    lines: frozenset[str] = frozenset()


def check_end(job: Job, crashes: list[Seen], out: str, expected: Expected) -> int:
    """What must hold once the job has ended well; gives how many effects were repeated, which is allowed (rule 2).

    A job that was killed after its flow had completed begins a new run: only its value is compared then.

    Raises:
        Violated: something does not hold.
    """
    if out != expected.out:
        raise Violated(f"it ended in {out!r}, an undisturbed run in {expected.out!r}")
    final = look(job)
    if missing := sorted(line for line in expected.lines - set(final.ran) if line.partition(" ")[0] in _CERTAIN):
        raise Violated(f"what an undisturbed run does was not done: {missing[:3]}")
    _check_undone(job.log.read_text(encoding="utf-8").splitlines())
    if any(crash.ended >= expected.ended for crash in crashes):
        return 0
    repeated = 0
    for line, count in final.ran.items():
        word, _, name = line.partition(" ")
        # A hook that was cut off runs again, and what it undid is done and undone again.
        most = (1 if word == "put" else final.ran[f"put {name}"]) + len(crashes)
        if word in ("put", "undo") and count > most:
            raise Violated(f"{line!r} was logged {count} times in {len(crashes)} crashes")
        if word != "step":
            continue
        for crash in crashes:
            if f"step-{name}" in crash.over and count > crash.ran[line]:
                raise Violated(f"step-{name} was over, and executed again")
        if count > 1 + len(crashes):
            raise Violated(f"step-{name} was executed {count} times in {len(crashes)} crashes")
        repeated += count - 1
    return repeated


def _check_undone(lines: list[str]) -> None:
    last = {line: number for number, line in enumerate(lines)}
    for line, number in last.items():
        word, _, name = line.partition(" ")
        if word == "put" and last.get(f"undo {name}", -1) < number:
            raise Violated(f"put {name} belongs to a transaction that failed, and was not undone")


def examined(journal: Path) -> Seen:
    """What a copy of the journal says; the journal itself is not touched.

    Raises:
        Violated: the journal is not whole.
    """
    if not journal.exists():
        return _NOTHING
    with tempfile.TemporaryDirectory(prefix="proof-") as scratch:
        copied = Path(scratch) / "runs.db"
        for suffix in ("", "-wal"):
            if journal.with_name(journal.name + suffix).exists():
                shutil.copyfile(f"{journal}{suffix}", f"{copied}{suffix}")
        try:
            with closing(sqlite3.connect(copied)) as connection:
                return _examined(connection)
        except sqlite3.Error as error:
            raise Violated(f"SQLite cannot read the journal: {error}") from error


def _examined(connection: sqlite3.Connection) -> Seen:
    ((verdict,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if verdict != "ok":
        raise Violated(f"integrity_check: {verdict}")
    if found := connection.execute("PRAGMA foreign_key_check").fetchall():
        raise Violated(f"foreign_key_check: {found[:3]}")
    for table, column in (("task_run", "task_run_id"), ("flow_run", "flow_run_id")):
        _check_transitions(connection, table, column)
    for row, checksum, payload in connection.execute("SELECT id, checksum, payload FROM result"):
        if xxh3_64_intdigest(payload) != checksum & (1 << 64) - 1:
            raise Violated(f"the payload of result {row} is not what was written")
    rows = connection.execute(
        "SELECT t.name, coalesce(s.state, t.state) FROM task_run AS t LEFT JOIN task_run_state AS s ON "
        "s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id) "
        "WHERE t.name IS NOT NULL"
    ).fetchall()
    ((ended,),) = connection.execute(
        "SELECT count(*) FROM flow_runs WHERE state = 'Completed' AND parent_flow_run_id IS NULL"
    ).fetchall()
    completed = frozenset(name for name, state in rows if BY_CODE[state].type is StateType.COMPLETED)
    failed = frozenset(name for name, state in rows if BY_CODE[state].type is StateType.FAILED)
    return Seen(frozenset(name for name, _ in rows), completed, completed | failed, Counter(), ended)


def _check_transitions(connection: sqlite3.Connection, table: str, column: str) -> None:
    history: dict[int, int] = {}
    last: dict[int, int] = {}
    for run, state in connection.execute(f"SELECT id, state FROM {table}"):
        history[run], last[run] = state, 0
    rows = connection.execute(f"SELECT {column}, seq, state, message FROM {table}_state ORDER BY {column}, seq")
    for run, seq, state, message in rows:
        if seq != last[run] + 1:
            raise Violated(f"{table} {run}: transition {seq} follows {last[run]}")
        if BY_CODE[state] not in TRANSITIONS[BY_CODE[history[run]]]:
            raise Violated(f"{table} {run}: {BY_CODE[state].name} follows {BY_CODE[history[run]].name}")
        if table == "task_run" and BY_CODE[state].name == "Running" and not message:
            raise Violated(f"{table} {run} was executed again, and nothing says why")
        history[run], last[run] = state, seq
