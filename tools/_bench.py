"""Microseconds a task, beside a bare sqlite3 loop that makes the same promises.

The floor commits a start row at synchronous=NORMAL and a completion row with a 9-byte result at FULL (``power``) or
NORMAL (``process``), with one index. Every measurement is a process of its own with a new file; the cases take turns,
so that a slow minute of the machine is shared. What counts is the ratio; the microseconds are this machine's, today.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DURABILITIES = ("power", "process")
CASES = ("floor", "first run", "resume", "async")


def floor(file: Path, durability: str, tasks: int) -> float:
    """The least that the promise costs: two commits a task, one of them synced under ``power``."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("CREATE TABLE start (id INTEGER PRIMARY KEY, key BLOB, at INTEGER)")
    connection.execute("CREATE UNIQUE INDEX start_by_key ON start (key)")
    connection.execute("CREATE TABLE done (id INTEGER PRIMARY KEY, at INTEGER, result BLOB)")
    execute, synced = connection.execute, durability == "power"
    begin = time.perf_counter()
    for number in range(tasks):
        execute("BEGIN IMMEDIATE")
        row = execute("INSERT INTO start (key, at) VALUES (?, ?)", (os.urandom(16), time.time_ns())).lastrowid
        execute("COMMIT")
        if synced:
            execute("PRAGMA synchronous = FULL")
        execute("BEGIN IMMEDIATE")
        execute("INSERT INTO done VALUES (?, ?, ?)", (row, time.time_ns(), b"123456789"))
        execute("COMMIT")
        if synced:
            execute("PRAGMA synchronous = NORMAL")
        if number % 1000 == 999:
            execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    return time.perf_counter() - begin


def run_flow(file: Path, durability: str, tasks: int, *, with_async: bool) -> float:
    """The same through durable: one flow that calls a task of one argument, one call after the other."""
    import asyncio

    import durable

    durable.configure(journal=file, durability="power" if durability == "power" else "process")
    stop = bool(os.environ.get("BENCH_STOP"))

    @durable.task
    def step(number: int) -> int:
        return number + 1_000_000_000_000

    @durable.task
    async def step_async(number: int) -> int:
        return number + 1_000_000_000_000

    took = 0.0

    @durable.flow
    def job() -> None:
        nonlocal took
        step(-1)  # what a task costs once, at its first call, is not a task's cost
        begin = time.perf_counter()
        for number in range(tasks):
            step(number)
        took = time.perf_counter() - begin
        if stop:
            raise KeyboardInterrupt

    @durable.flow
    async def job_async() -> None:
        nonlocal took
        await step_async(-1)
        begin = time.perf_counter()
        for number in range(tasks):
            await step_async(number)
        took = time.perf_counter() - begin

    try:
        if with_async:
            asyncio.run(job_async())
        else:
            job()
    except KeyboardInterrupt:
        pass
    return took


def measure(case: str, durability: str, tasks: int, folder: str) -> float:
    """Microseconds a task of one case, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch, "runs.db")
        environment = os.environ | {"DURABLE_LOGGING_LEVEL": "WARNING"}
        command = [sys.executable, __file__, "--case", case, durability, str(tasks), str(file)]
        if case == "resume":
            # The run to resume: complete but for its end, which a Ctrl-C takes.
            subprocess.run(command, env=environment | {"BENCH_STOP": "1"}, check=True, capture_output=True)
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return float(done.stdout) / tasks * 1e6


def wall(*arguments: str) -> float:
    """Milliseconds until a command has ended."""
    begin = time.perf_counter()
    subprocess.run(arguments, check=True, capture_output=True)
    return (time.perf_counter() - begin) * 1e3


def start_up(folder: str, repeats: int) -> dict[str, float]:
    """Milliseconds to import durable and to inspect a small journal, each less the bare interpreter's start."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch, "runs.db")
        command = [sys.executable, __file__, "--case", "first run", "process", "20", str(file)]
        subprocess.run(command, check=True, capture_output=True)
        durable = str(Path(sys.executable).with_name("durable"))
        commands = (
            (sys.executable, "-c", ""),
            (sys.executable, "-c", "import durable"),
            (durable, "inspect", str(file)),
        )
        rounds = [[wall(*command) for command in commands] for _ in range(repeats * 3)]
    bare, imported, inspected = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {"import durable": imported - bare, "durable inspect (whole process)": inspected}


def main() -> None:
    """Measure every case in turn and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=3000, help="tasks in one measurement (default 3000)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each case (default 5)")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the journals lie: the disk decides")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case, durability, tasks, file = options.case
        if case == "floor":
            print(floor(Path(file), durability, int(tasks)))
        else:
            print(run_flow(Path(file), durability, int(tasks), with_async=case == "async"))
        return

    figures: dict[tuple[str, str], list[float]] = {(d, c): [] for d in DURABILITIES for c in CASES}
    for _ in range(options.repeats):
        for (durability, case), values in figures.items():
            values.append(measure(case, durability, options.tasks, options.folder))
    milliseconds = start_up(options.folder, options.repeats)
    if options.json:
        print(json.dumps({"us a task": {" ".join(k): v for k, v in figures.items()}, "ms": milliseconds}, indent=2))
        return
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores"
    print(f"{options.tasks} tasks, {options.repeats} repeats, {versions}, {platform.system()}\n")
    print(f"{'durability':12}{'case':12}{'us a task':>12}{'min .. max':>20}{'x floor':>10}")
    for (durability, case), values in figures.items():
        ratios = [value / base for value, base in zip(values, figures[durability, "floor"], strict=True)]
        spread = f"{min(values):.1f} .. {max(values):.1f}"
        print(f"{durability:12}{case:12}{statistics.median(values):12.1f}{spread:>20}{statistics.median(ratios):10.2f}")
    print()
    for what, value in milliseconds.items():
        print(f"{what:34}{value:8.1f} ms")


if __name__ == "__main__":
    main()
