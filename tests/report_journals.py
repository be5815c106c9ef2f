"""Journals for the tests of the report: one of a real script, some through the journal's API, long ones with SQL."""

import os
import sqlite3
from pathlib import Path

from scripts import FakeClock, Script

from durable.clock import use_clock
from durable.codec import canonical_items, encode, encode_exception
from durable.journal import (
    FORMAT_DURABLE,
    FORMAT_EXCEPTION,
    Label,
    Outcome,
    Place,
    close_journals,
    open_journal,
    schema,
)
from durable.states import AWAITING_RETRY, COMPLETED, FAILED, PENDING, RETRYING, RUNNING

NAMES = ("fetch", "clean", "load", "index")
EVIL = "<script>window.pwned=1</script>"
BREAKS_OUT = "</script><img src=x onerror=window.pwned=2>\u2028'\"&<!--"

# Killed at load(3) the first time, goes on the second.
SCRIPT = f"""
from kit import *

@task(retries=2)
def fetch(day, shard):
    ran("fetch", shard)
    if shard == 2 and not os.path.exists("flag"):
        open("flag", "w").close()
        raise ConnectionError("503 from shard 2")
    return [shard]

@task
def parse(rows): return len(rows)

@task
def clean(rows): return parse(rows) + 1

@task
def load(n):
    if n == 3: die("load")
    if n == 4: raise ValueError("disk quota exceeded")
    return n

@task(name={EVIL!r})
def evil(x): return x

@flow(name="sums")
def sums(n): return [parse([n, i]) for i in range(6)]

@flow(name="nightly")
def nightly(day="2026-11-22"):
    for shard in range(5): clean(fetch(day, shard))
    evil({BREAKS_OUT!r})
    sums(7)
    for n in range(5):
        try: load(n)
        except ValueError: pass
    if asked("fail"): raise RuntimeError("gave up \\x1b[31m <b>now</b>")

if __name__ == "__main__":
    nightly()
"""


class Written:
    """A journal written through the engine's own API, at times the test chooses."""

    def __init__(self, file: Path) -> None:
        self.clock = FakeClock()
        self.journal = open_journal(file, "process")
        self.rows: dict[str, int] = {}
        self.count = 0

    def begin_flow(self, name: str = "etl") -> int:
        flow = self.journal.flow_row(os.urandom(16), name, f"job:{name}")
        entry = self.journal.flow_run_begins(
            os.urandom(16), flow, (None, None), RUNNING, None, bytes(16), None, Label()
        )
        self.run = self.journal.commit(entry)
        return self.run

    def task(self, name: str) -> int:
        if name not in self.rows:
            key = name.encode().ljust(16, b"\0")[:16]
            self.rows[name] = self.journal.task_row(key, bytes(16), name, f"job:{name}", "[]", "{}")
        return self.rows[name]

    def key(self) -> bytes:
        self.count += 1
        return self.count.to_bytes(16, "big")

    def call(self, name, arguments, seconds, *, begin, attempts=1, failed=None, queued=0.0, **place) -> bytes:
        """A task run from `begin` (seconds), each attempt of `seconds`; the last one fails with `failed`."""
        key, journal = self.key(), self.journal
        inputs = canonical_items(tuple(arguments), tuple(arguments.values()))
        made = Place(key, self.task(name), self.run, None, 1, inputs, **place)
        self.clock.seconds = begin
        row = journal.commit(journal.task_run_begins(made, PENDING if queued else RUNNING))
        seq = 0

        def enters(*states, outcome=None):
            nonlocal seq
            named = tuple((state, str(error) if error else None) for state, error in states)
            journal.commit(journal.task_run_enters(row, seq + 1, named, outcome, synced=False))
            seq += len(states)

        if queued:
            self.clock.seconds += queued
            enters((RUNNING, None))
        for _ in range(attempts - 1):
            self.clock.seconds += seconds
            error = ConnectionError("try again")
            enters((AWAITING_RETRY, error), outcome=Outcome(FORMAT_EXCEPTION, encode_exception(error)))
            self.clock.seconds += 0.5
            enters((RETRYING, None))
        self.clock.seconds += seconds
        if failed is None:
            enters((COMPLETED, None), outcome=Outcome(FORMAT_DURABLE, encode(1)))
        else:
            enters((FAILED, failed), outcome=Outcome(FORMAT_EXCEPTION, encode_exception(failed)))
        return key

    def end_flow(self, at: float, state=COMPLETED) -> None:
        self.clock.seconds = at
        self.journal.commit(self.journal.flow_run_enters(self.run, 1, ((state, None),)))


def resumed(folder):
    """A run that was killed and went on, in which a task failed, one was retried, and one is named <script>."""
    script = Script(folder)
    script.write(SCRIPT)
    script.killed("load")
    script.ok()
    return script.journal


def with_workers(file: Path, calls: int = 1000) -> Path:
    """A fan-out over four workers with dependencies: a wave of `fetch`, each followed by a `train`."""
    with use_clock(FakeClock()) as clock:
        written = Written(file)
        written.clock = clock
        start = clock.seconds
        written.begin_flow()
        length = 0.4
        for i in range(calls // 2):
            worker, at = f"worker-{i % 4}", start + i // 4 * length * 2.5
            key = written.call(
                "fetch", {"page": i}, length * 0.8, begin=at, worker=worker, queued=0.05, reason="source changed: fetch"
            )
            failed = ValueError(f"page {i} has no rows") if i % 97 == 5 else None
            written.call(
                "train", {"model": f"m{i}", "data": [i]}, length * (1 + i % 3 / 4), begin=at + length, worker=worker,
                attempts=2 if i % 50 == 7 else 1, failed=failed, upstream=((key, "data"),),
            )  # fmt: skip
        written.end_flow(start + calls / 8 * length * 2.5 + 2)
        close_journals()
    return file


def long(file: Path, calls: int, *, names: int = 4, text: str = "") -> Path:
    """One completed flow run of many calls over 16 workers, written with SQL: the engine would take minutes."""
    inputs = lambda text: canonical_items(("i",), (text,))
    start, step = 1_790_000_000_000_000, 20_000
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    schema.create(db)
    db.execute(
        "INSERT INTO process VALUES (1, 7, 'host', ?, '3.12.1', '0', '3', 'power', '[\"etl.py\"]', '/')", (start,)
    )
    db.execute("INSERT INTO flow (id, key, name, function) VALUES (1, ?, 'backfill', 'etl:backfill')", (bytes(16),))
    db.executemany(
        "INSERT INTO task (id, key, source, name, function, tags, parts) VALUES (?, ?, ?, ?, 'etl:task', '[]', '{}')",
        ((i + 1, i.to_bytes(16, "big"), bytes(16), f"{NAMES[i % 4]}{i // 4 or ''}{text}") for i in range(names)),
    )  # fmt: skip
    db.execute(
        "INSERT INTO flow_run (id, key, flow_id, process_id, state, at, parameters_digest) "
        "VALUES (1, ?, 1, 1, 5, ?, ?)",
        (b"\xab" * 16, start, bytes(16)),
    )
    db.execute("INSERT INTO result (id, format, checksum, payload) VALUES (1, 3, 0, ?)", (_error(text),))
    db.executemany(
        "INSERT INTO task_run (id, key, task_id, flow_run_id, process_id, state, at, occurrence, inputs, worker) "
        "VALUES (?, ?, ?, 1, 1, 5, ?, 1, ?, ?)",
        (
            (i, i.to_bytes(16, "big"), i % names + 1, start + i * step, inputs(f"{i}{text}"), f"thread-{i % 16:02d}")
            for i in range(1, calls + 1)
        ),
    )  # fmt: skip
    db.executemany(
        "INSERT INTO task_run_state (task_run_id, seq, state, at, process_id, result_id, message) "
        "VALUES (?, ?, ?, ?, 1, ?, ?)",
        (
            transition
            for i in range(1, calls + 1)
            for transition in _transitions(i, start + i * step, step * (3 + i % 10 + (500 if i == calls // 2 else 0)))
        ),
    )
    db.execute("INSERT INTO flow_run_state VALUES (1, 1, 7, ?, 1, NULL, NULL)", (start + (calls + 20) * step,))
    db.execute("COMMIT")
    db.close()
    return file


def _transitions(i, at, took):
    if i % 1000 == 500:
        yield i, 1, 3, at + took // 2, 1, "ConnectionError: 503"
        yield i, 2, 6, at + took // 2 + 100_000, None, None
        yield i, 3, 7, at + took + 100_000, None, None
    elif i % 2500 == 77:
        yield i, 1, 10, at + took, 1, "ValueError: no such shard"
    else:
        yield i, 1, 7, at + took, None, None


def _error(text):
    return encode_exception(ValueError(f"no such shard{text}"))
