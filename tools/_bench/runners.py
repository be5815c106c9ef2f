"""What each task runner costs: ``python -m _bench.runners NAME FOLDER DURABILITY TASKS MILLISECONDS``.

Prints tasks a second as one JSON object; NAME ``memory`` gives what a map of so many items takes, in MB.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import durable
from _bench.cases import resident
from _bench.floors import OFFSET
from _bench.measure import said
from durable import task_runners

_MAPPED: Final = 200_000  # items, for the memory


def _dask() -> Any:
    return task_runners.DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1})


def _executor_of_processes() -> Any:
    return task_runners.ExecutorTaskRunner(ProcessPoolExecutor(2, mp_context=get_context("spawn")))


RUNNERS: Final[dict[str, Callable[[], Any]]] = {
    "called one after the other": lambda: None,
    "ThreadPoolTaskRunner(8)": lambda: task_runners.ThreadPoolTaskRunner(8),
    "ProcessPoolTaskRunner(2)": lambda: task_runners.ProcessPoolTaskRunner(2),
    "ExecutorTaskRunner, 8 threads": lambda: task_runners.ExecutorTaskRunner(ThreadPoolExecutor(8)),
    "ExecutorTaskRunner, 2 processes": _executor_of_processes,
    "DaskTaskRunner, a cluster of 2": _dask,
}
# durability, milliseconds of Python a task, tasks
JOBS: Final = (("power", 0, 2000), ("process", 0, 2000), ("power", 10, 200))


@durable.task
def step(number: int, milliseconds: int) -> int:
    """Compute for so long."""
    until = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < until:
        pass
    return number + OFFSET


def rate(name: str, tasks: int, milliseconds: int) -> float:
    """Tasks a second, once the workers are there."""
    took: list[float] = []

    @durable.flow(task_runner=RUNNERS[name]())
    def mapped() -> None:
        step.map(range(-8, 0), durable.unmapped(1)).result()
        begin = time.perf_counter()
        step.map(range(tasks), durable.unmapped(milliseconds)).result()
        took.append(time.perf_counter() - begin)

    @durable.flow
    def called() -> None:
        step(-1, 1)
        begin = time.perf_counter()
        for number in range(tasks):
            step(number, milliseconds)
        took.append(time.perf_counter() - begin)

    (called if name in tuple(RUNNERS)[:1] else mapped)()
    return tasks / took[0]


def memory(items: int) -> float:
    """What a map over threads takes, its futures and results held, in MB above what the process had before."""
    took: list[float] = []

    @durable.flow(task_runner=task_runners.ThreadPoolTaskRunner(8))
    def job() -> None:
        step.map(range(-8, 0), durable.unmapped(0)).result()
        before = resident()
        futures = step.map((number for number in range(items)), durable.unmapped(0))
        for future in futures:
            future.result()
        took.append(resident() - before)

    job()
    return took[0]


def table(folder: Path, repeats: int) -> Iterator[str]:
    """The lines to print: for each runner tasks a second, the best of the repeats."""
    yield f"{'tasks a second':34}" + "".join(f"{f'{ms} ms, {durability}':>16}" for durability, ms, _ in JOBS)
    for name in RUNNERS:
        if "Dask" in name and importlib.util.find_spec("distributed") is None:
            yield f"{name:34}skipped: distributed is not there"
            continue
        rates = [
            max(_measured(folder, name, durability, tasks, milliseconds) for _ in range(repeats))
            for durability, milliseconds, tasks in JOBS
        ]
        yield f"{name:34}" + "".join(f"{found:16.0f}" for found in rates)
    yield f"{_MAPPED:,} items mapped over threads: {_measured(folder, 'memory', 'process', _MAPPED, 0):.0f} MB"


def _measured(folder: Path, name: str, durability: str, tasks: int, milliseconds: int) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return said("_bench.runners", name, scratch, durability, str(tasks), str(milliseconds))["found"]


def main() -> None:
    """Measure what the command line names."""
    name, folder, durability, tasks, milliseconds = sys.argv[1:]
    durable.configure(
        journal=Path(folder, "runs.db"), durability="power" if durability == "power" else "process", progress=False
    )
    found = memory(int(tasks)) if name == "memory" else rate(name, int(tasks), int(milliseconds))
    print(json.dumps({"found": found}))


if __name__ == "__main__":
    main()
