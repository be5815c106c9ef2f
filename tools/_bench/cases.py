"""What is measured, each case in a process of its own: ``python -m _bench.cases NAME FOLDER DURABILITY TASKS``.

A case prints one JSON object: microseconds a task under ``us``, and whatever else it has counted.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

from _bench.floors import OFFSET, Figures, configured, floor, floor_file, own_rows, waited

ARRAY_BYTES: Final = 10_000_000


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


def shared(folder: Path, durability: str, tasks: int) -> Figures:
    """Four processes that each execute one task after the other, all in one journal: of all together."""
    spawn, each = get_context("spawn"), tasks // 4
    ready = spawn.Barrier(5)
    processes = [spawn.Process(target=_share, args=(folder, durability, each, ready)) for _ in range(4)]
    for process in processes:
        process.start()
    ready.wait()
    begin = time.perf_counter()
    for process in processes:
        process.join()
    took = time.perf_counter() - begin
    if any(process.exitcode for process in processes):
        raise SystemExit(1)
    return {"us": took / (4 * each) * 1e6}


def _share(folder: Path, durability: str, tasks: int, ready: Barrier) -> None:
    durable = configured(folder, durability)

    @durable.task  # type: ignore[untyped-decorator]
    def step(number: int) -> int:
        return number + OFFSET

    @durable.flow(resume="never")  # type: ignore[untyped-decorator]
    def job() -> None:
        step(-1)
        ready.wait()
        for number in range(tasks):
            step(number)

    job()


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
        waited,
        sequential,
        awaited,
        mapped,
        shared,
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
