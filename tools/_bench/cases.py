"""What is measured, each case in a process of its own: ``python -m _bench.cases NAME FOLDER DURABILITY TASKS``.

A case prints one JSON object: microseconds a task under ``us``, and whatever else it has counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

OFFSET: Final = 1_000_000_000_000  # results of nine bytes, as the floor's
ARRAY_BYTES: Final = 10_000_000

Figures = dict[str, float]
Statement = tuple[str, tuple[Any, ...]]


@contextmanager
def floor_file(file: Path) -> Iterator[sqlite3.Connection]:
    """A database with the pragmas of a journal, and the tables of the floor."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("CREATE TABLE start (id INTEGER PRIMARY KEY, key BLOB, at INTEGER)")
    connection.execute("CREATE UNIQUE INDEX start_by_key ON start (key)")
    connection.execute("CREATE TABLE done (id INTEGER PRIMARY KEY, at INTEGER, result BLOB)")
    yield connection
    connection.close()


_FLOOR: Final = (
    lambda key, now: ("INSERT INTO start (key, at) VALUES (?, ?)", (key, now)),
    lambda row, now: (("INSERT INTO done VALUES (?, ?, ?)", (row, now, b"123456789")),),
)


def floor(folder: Path, durability: str, tasks: int) -> Figures:
    """The least that the promise costs: two commits a task, one of them synced under ``power``."""
    with floor_file(folder / "floor.db") as connection:
        return _bare_loop(connection, durability, tasks, *_FLOOR)


def own_rows(folder: Path, durability: str, tasks: int) -> Figures:
    """The rows of a task in a journal, written by a bare loop: what is left of a task is the Python that makes them."""
    from durable.journal import opening, statements
    from durable.states import COMPLETED, RUNNING

    durable = configured(folder, durability)

    @durable.task  # type: ignore[untyped-decorator]  # imported late, so untyped
    def step(number: int) -> int:
        return number + OFFSET

    durable.flow(lambda: step(-1), name="job")()  # so that there is what the rows point to: all are number 1
    connection = opening.connect(folder / "runs.db")
    connection.execute("PRAGMA synchronous = NORMAL")

    def start(key: bytes, now: int) -> Statement:
        return statements.ADD_TASK_RUN, (key, 1, 1, None, 1, RUNNING.code, now, 1, b"123456789", *[None] * 5)

    def end(row: int | None, now: int) -> tuple[Statement, Statement]:
        return (
            (statements.ADD_RESULT, (1, now, None, None, None, b"123456789")),
            (statements.ADD_TASK_STATE_WITH_RESULT, (row, 1, COMPLETED.code, now, 1, None)),
        )

    figures = _bare_loop(connection, durability, tasks, start, end)
    connection.close()
    return figures


def _bare_loop(
    connection: sqlite3.Connection,
    durability: str,
    tasks: int,
    start: Callable[[bytes, int], Statement],
    end: Callable[[int | None, int], Sequence[Statement]],
) -> Figures:
    """Two commits a task, and now and then a checkpoint."""
    execute, synced = connection.execute, durability == "power"
    begin = time.perf_counter()
    for number in range(tasks):
        execute("BEGIN IMMEDIATE")
        row = execute(*start(os.urandom(16), time.time_ns())).lastrowid
        execute("COMMIT")
        if synced:
            execute("PRAGMA synchronous = FULL")
        execute("BEGIN IMMEDIATE")
        for statement in end(row, time.time_ns()):
            execute(*statement)
        execute("COMMIT")
        if synced:
            execute("PRAGMA synchronous = NORMAL")
        if number % 1000 == 999:
            execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    return {"us": (time.perf_counter() - begin) / tasks * 1e6}


def configured(folder: Path, durability: str) -> Any:
    """The library, writing to a journal in `folder`."""
    import durable
    import durable.cache_policies
    import durable.journal
    import durable.task_runners

    durable.configure(journal=folder / "runs.db", durability="power" if durability == "power" else "process")
    return durable


def interrupted(job: Callable[[], Any]) -> None:
    """Run a flow that a Ctrl-C ends."""
    try:
        job()
    except KeyboardInterrupt:
        return


def sequential(folder: Path, durability: str, tasks: int) -> Figures:
    """One task after the other, and then the resume of a run that they completed."""
    durable = configured(folder, durability)
    took: list[float] = []

    @durable.task  # type: ignore[untyped-decorator]  # imported late, so untyped
    def step(number: int) -> int:
        return number + OFFSET

    @durable.flow  # type: ignore[untyped-decorator]
    def job() -> None:
        step(-1)  # what a task costs once, at its first call, is not a task's cost
        begin = time.perf_counter()
        for number in range(tasks):
            step(number)
        took.append((time.perf_counter() - begin) / tasks * 1e6)
        raise KeyboardInterrupt

    interrupted(job)
    interrupted(job)
    return {"us": took[0], "replay": took[1]}


def awaited(folder: Path, durability: str, tasks: int) -> Figures:
    """One async task after the other, and as many gathered."""
    durable = configured(folder, durability)
    figures: Figures = {}

    @durable.task  # type: ignore[untyped-decorator]
    async def step(number: int) -> int:
        return number + OFFSET

    @durable.flow  # type: ignore[untyped-decorator]
    async def one_by_one() -> None:
        await step(-1)
        begin = time.perf_counter()
        for number in range(tasks):
            await step(number)
        figures["us"] = (time.perf_counter() - begin) / tasks * 1e6

    @durable.flow  # type: ignore[untyped-decorator]
    async def together() -> None:
        await step(-1)
        begin = time.perf_counter()
        await asyncio.gather(*(step(number) for number in range(tasks)))
        figures["gather"] = (time.perf_counter() - begin) / tasks * 1e6

    asyncio.run(one_by_one())
    asyncio.run(together())
    return figures


def mapped(folder: Path, durability: str, tasks: int) -> Figures:
    """``map`` over eight threads."""
    durable = configured(folder, durability)
    figures: Figures = {}

    @durable.task  # type: ignore[untyped-decorator]
    def step(number: int) -> int:
        return number + OFFSET

    @durable.flow(task_runner=durable.task_runners.ThreadPoolTaskRunner(8))  # type: ignore[untyped-decorator]
    def job() -> None:
        step.map(range(-8, 0)).result()
        begin = time.perf_counter()
        step.map(range(tasks)).result()
        figures["us"] = (time.perf_counter() - begin) / tasks * 1e6

    job()
    return figures


def _very_many(folder: Path, durability: str, tasks: int) -> tuple[float, list[float]]:
    """A run of very many tasks, or its resume: seconds until the body begins, and until each hundredth is done."""
    durable = configured(folder, durability)
    until: list[float] = []
    hundredth = max(1, tasks // 100)

    @durable.task  # type: ignore[untyped-decorator]
    def step(number: int) -> int:
        return number + OFFSET

    @durable.flow  # type: ignore[untyped-decorator]
    def job(tasks: int) -> None:
        until.append(time.perf_counter())
        for number in range(tasks):
            step(number)
            if number % hundredth == hundredth - 1:
                until.append(time.perf_counter())
        raise KeyboardInterrupt

    called = time.perf_counter()
    interrupted(lambda: job(tasks))
    durable.journal.close_journals()  # the log is moved into the file
    return until[0] - called, [after - until[0] for after in until]


def long_run(folder: Path, durability: str, tasks: int) -> Figures:
    """What a task of a very long run costs at its beginning and at its end, and what it weighs."""
    _, until = _very_many(folder, durability, tasks)
    early, late = until[2] - until[1], until[100] - until[99]
    size = sum(file.stat().st_size for file in folder.glob("runs.db*") if file.is_file())
    return {"us": late / tasks * 1e8, "growth": late / early, "bytes": size / tasks}


def long_resume(folder: Path, durability: str, tasks: int) -> Figures:
    """The resume of that run: until its body begins, each replayed task at its end, and the memory of it all."""
    begun, until = _very_many(folder, durability, tasks)
    return {"body": begun, "us": until[100] / tasks * 1e6, "rss": resident()}


def bare(_: Path, __: str, ___: int) -> Figures:
    """The interpreter alone."""
    return {"rss": resident()}


def resident() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)


def memo(folder: Path, durability: str, tasks: int) -> Figures:
    """Hits of a memo that another run computed, in a journal of very many results."""
    durable = configured(folder, durability)
    figures: Figures = {}
    hits, group = min(5000, tasks), 1000

    @durable.task(cache_policy=durable.cache_policies.INPUTS)  # type: ignore[untyped-decorator]
    def step(number: int) -> int:
        return number + OFFSET

    @durable.flow  # type: ignore[untyped-decorator]
    def fill() -> None:
        for first in range(0, tasks, group):
            step.map(range(first, min(first + group, tasks))).wait()

    @durable.flow  # type: ignore[untyped-decorator]
    def ask() -> None:
        step(0)
        begin = time.perf_counter()
        for number in range(1, hits + 1):
            step(number * 7919 % tasks)
        figures["us"] = (time.perf_counter() - begin) / hits * 1e6

    fill()
    ask()
    return figures


def array(folder: Path, durability: str, tasks: int) -> Figures:
    """A task with a 10 MB array in and out, beside hashing, encoding and writing those bytes bare."""
    import numpy as np
    from msgspec import msgpack
    from xxhash import xxh3_64_intdigest, xxh3_128_digest

    durable = configured(folder, durability)
    given = np.arange(ARRAY_BYTES // 8, dtype=np.int64)

    @durable.task  # type: ignore[untyped-decorator]
    def step(number: int, values: Any) -> Any:
        del number
        return values

    took: Figures = {"task": 0.0, "bare": 0.0}

    @durable.flow  # type: ignore[untyped-decorator]
    def job() -> None:
        step(-1, given)
        with floor_file(folder / "floor.db") as connection:
            for number in range(tasks):
                begin = time.perf_counter()
                step(number, given)
                between = time.perf_counter()
                _write_bare(connection, number, given, xxh3_128_digest, xxh3_64_intdigest, msgpack.encode)
                took["task"] += between - begin
                took["bare"] += time.perf_counter() - between

    job()
    return {"us": took["task"] / tasks * 1e6, "bare": took["bare"] / tasks * 1e6}


def _write_bare(
    connection: sqlite3.Connection, number: int, given: Any, identity: Any, checksum: Any, encode: Any
) -> None:
    execute = connection.execute
    identity(given.data)
    payload = encode(given.tobytes())
    checksum(payload)
    execute("PRAGMA synchronous = FULL")
    execute("BEGIN IMMEDIATE")
    execute("INSERT INTO done VALUES (?, ?, ?)", (number, time.time_ns(), payload))
    execute("COMMIT")
    execute("PRAGMA synchronous = NORMAL")
    execute("PRAGMA wal_checkpoint(RESTART)").fetchall()


def workers(folder: Path, durability: str, tasks: int) -> Figures:
    """What a thousand workers cost the driver: an executor that ends each body at once, and has that many places."""
    from concurrent.futures import Executor, Future

    durable = configured(folder, durability)
    figures: Figures = {}

    class Simulated(Executor):
        """A thousand workers that take no time."""

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - an executor hands on whatever a body raised
                future.set_exception(error)
            return future

    @durable.task  # type: ignore[untyped-decorator]
    def step(number: int) -> int:
        return number + OFFSET

    runner = durable.task_runners.ExecutorTaskRunner(Simulated(), max_workers=1000)

    @durable.flow(task_runner=runner)  # type: ignore[untyped-decorator]
    def job() -> None:
        step.map(range(-8, 0)).result()
        begin, used = time.perf_counter(), time.process_time()
        step.map(range(tasks)).result()
        figures["us"] = (time.perf_counter() - begin) / tasks * 1e6
        figures["cpu"] = (time.process_time() - used) / tasks * 1e6

    job()
    return figures


CASES: Final[dict[str, Callable[[Path, str, int], Figures]]] = {
    case.__name__: case
    for case in (
        floor,
        own_rows,
        sequential,
        awaited,
        mapped,
        long_run,
        long_resume,
        bare,
        memo,
        array,
        workers,
    )
}


def main() -> None:
    """Measure the case that the command line names."""
    name, folder, durability, tasks = sys.argv[1:]
    print(json.dumps(CASES[name](Path(folder), durability, int(tasks))))


if __name__ == "__main__":
    main()
