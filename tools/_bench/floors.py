"""The floor, a bare sqlite3 loop that makes a journal's promises, and what is measured right beside it."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

OFFSET: Final = 1_000_000_000_000  # results of nine bytes, as the floor's
_WAIT: Final = 150e-6  # seconds, about as long as an fsync

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


def _floor_start(key: bytes, now: int) -> Statement:
    return "INSERT INTO start (key, at) VALUES (?, ?)", (key, now)


def _floor_end(row: int | None, now: int) -> tuple[Statement, ...]:
    return (("INSERT INTO done VALUES (?, ?, ?)", (row, now, b"123456789")),)


def floor(folder: Path, durability: str, tasks: int) -> Figures:
    """The least that the promise costs: two commits a task, one of them synced under ``power``."""
    with floor_file(folder / "floor.db") as connection:
        return _bare_loop(connection, durability, tasks, _floor_start, _floor_end)


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
        return statements.ADD_PLAIN_TASK_RUN, (key, 1, 1, None, 1, RUNNING.code, now, 1, b"123456789", None)

    def end(row: int | None, now: int) -> tuple[Statement, Statement]:
        return (
            (statements.ADD_PLAIN_RESULT, (1, now, b"123456789")),
            (statements.ADD_TASK_STATE_WITH_RESULT, (row, 1, COMPLETED.code, now, 1, None)),
        )

    log = os.open(folder / "runs.db-wal", os.O_RDONLY)
    figures = _bare_loop(connection, durability, tasks, start, end, lambda: os.fdatasync(log))
    connection.close()
    os.close(log)
    return figures


def _bare_loop(
    connection: sqlite3.Connection,
    durability: str,
    tasks: int,
    start: Callable[[bytes, int], Statement],
    end: Callable[[int | None, int], Sequence[Statement]],
    sync: Callable[[], None] | None = None,
) -> Figures:
    """Two commits a task, and now and then a checkpoint. The second is synced by `sync`, or else by SQLite."""
    execute, synced = connection.execute, durability == "power"
    full = synced and sync is None
    begin = time.perf_counter()
    for number in range(tasks):
        execute("BEGIN IMMEDIATE")
        row = execute(*start(os.urandom(16), time.time_ns())).lastrowid
        execute("COMMIT")
        if full:
            execute("PRAGMA synchronous = FULL")
        execute("BEGIN IMMEDIATE")
        for statement in end(row, time.time_ns()):
            execute(*statement)
        execute("COMMIT")
        if full:
            execute("PRAGMA synchronous = NORMAL")
        elif synced and sync is not None:
            sync()
        if number % 1000 == 999:
            execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    return {"us": (time.perf_counter() - begin) / tasks * 1e6}


def waited(folder: Path, durability: str, tasks: int) -> Figures:
    """One task after each kind of wait: what an fsync costs the code that comes after it. The medians."""
    durable = configured(folder, durability)
    figures: Figures = {}
    with (folder / "other").open("wb", buffering=0) as file, floor_file(folder / "floor.db") as connection:
        file.write(bytes(1 << 20))
        os.fsync(file)

        def sync(number: int) -> None:
            os.pwrite(file.fileno(), number.to_bytes(8, "little") * 2048, number % 64 << 14)
            os.fdatasync(file.fileno())

        def spin(_: int) -> None:
            end = time.perf_counter() + _WAIT
            while time.perf_counter() < end:
                pass

        @durable.task  # type: ignore[untyped-decorator]
        def step(number: int) -> int:
            return number + OFFSET

        def bare(number: int) -> None:
            for statement in (_floor_start(os.urandom(16), number), *_floor_end(number, number)):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(*statement)
                connection.execute("COMMIT")

        @durable.flow  # type: ignore[untyped-decorator]
        def job() -> None:
            waits: dict[str, Callable[[int], None]] = {
                "nothing": lambda _: None,
                "spin": spin,
                "sleep": lambda _: time.sleep(_WAIT),
                "sync": sync,
            }
            took: dict[str, list[float]] = {}
            number = 0
            for _ in range(max(1, tasks // 100)):
                for name, wait in waits.items():
                    for who, act in (("us", step), ("floor", bare)):
                        for _ in range(20):
                            number += 1
                            wait(number)
                            begin = time.perf_counter()
                            act(number)
                            took.setdefault(f"{who} after {name}", []).append(time.perf_counter() - begin)
            figures.update({name: statistics.median(each) * 1e6 for name, each in took.items()})

        job()
    return figures


def configured(folder: Path, durability: str) -> Any:
    """The library, writing to a journal in `folder`."""
    import durable
    import durable.cache_policies
    import durable.journal
    import durable.task_runners

    durable.configure(journal=folder / "runs.db", durability="power" if durability == "power" else "process")
    return durable
