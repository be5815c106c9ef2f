"""Runs the cases, each in a process of its own, and keeps what they said."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SHORT: Final = (
    *(
        (case, durability)
        for case in ("floor", "own_rows", "sequential", "awaited")
        for durability in ("power", "process")
    ),
    ("mapped", "power"),
    ("shared", "power"),
    ("workers", "process"),
    ("waited", "process"),
)
_COUNTED: Final = ("fdatasync", "fsync", "pwrite64", "fcntl")
_TRACED: Final = (("floor", "power"), ("sequential", "power"), ("sequential", "process"), ("mapped", "power"))
_FIRST_COLUMN: Final = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s.*?(\w+)$", re.MULTILINE)

Key = tuple[str, str, str]


def median(values: Sequence[float]) -> float:
    """The middle one; NaN of none."""
    return statistics.median(values) if values else float("nan")


class Bench:
    """What was measured.

    Attributes:
        series: by case, durability and figure, one value a repeat.
    """

    def __init__(self, folder: Path, tasks: int, repeats: int) -> None:
        self.folder = folder
        self.tasks = tasks
        self.repeats = repeats
        self.series: dict[Key, list[float]] = {}

    @property
    def figures(self) -> dict[str, list[float]]:
        """The series under readable names."""
        return {" ".join(key): values for key, values in self.series.items()}

    def of(self, case: str, durability: str, figure: str = "us") -> list[float]:
        """One series; empty if it was not measured."""
        return self.series.get((case, durability, figure), [])

    def ratios(self, durability: str, values: Sequence[float]) -> list[float]:
        """Each value to the floor of its repeat; none if the two were not measured in turn."""
        floors = self.of("floor", durability)
        if len(floors) != len(values):
            return []
        return [value / floor for value, floor in zip(values, floors, strict=True)]

    def measure_short(self) -> None:
        """The cases of a few thousand tasks, in turn."""
        for _ in range(self.repeats):
            for case, durability in SHORT:
                with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                    self._run(case, Path(scratch), durability, self.tasks)
            if _is_there("numpy"):
                with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                    self._run("array", Path(scratch), "power", 10)

    def measure_long(self, tasks: int) -> None:
        """A run of very many tasks and its resume, and a memo of as many results. Once: they take minutes."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            for case in ("long_run", "long_resume", "bare"):
                self._run(case, Path(scratch), "process", tasks)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            self._run("memo", Path(scratch), "process", tasks)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            self._run("memo", Path(scratch), "power", min(tasks, 20_000))

    def measure_start_up(self) -> None:
        """Milliseconds to import what a job does, less the bare interpreter's start, and to inspect a small journal.

        With bytecode at hand, as after any first import, even where the environment says to write none.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            _said("sequential", Path(scratch), "process", 20)
            compiled = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(Path(scratch, "pyc"))}
            inspect = str(Path(sys.executable).with_name("durable")), "inspect", str(Path(scratch, "runs.db"))
            _wall(*inspect, environment=compiled)
            for _ in range(self.repeats * 3):
                started = _wall(sys.executable, "-c", "", environment=compiled)
                imported = _wall(sys.executable, "-c", "from durable import flow, task", environment=compiled)
                self._note("import", "", "ms", imported - started)
                self._note("inspect", "", "ms", _wall(*inspect, environment=compiled))

    def count_syscalls(self) -> dict[str, dict[str, float]]:
        """System calls a task, as strace counts them: of 1000 tasks, less those of none."""
        if shutil.which("strace") is None:
            print("strace is not there: no system calls are counted", file=sys.stderr)
            return {}
        found = {}
        for case, durability in _TRACED:
            some, none = (self._traced(case, durability, tasks) for tasks in (1001, 1))
            found[f"{case} {durability}"] = {name: (some[name] - none[name]) / 1000 for name in _COUNTED}
        return found

    def _traced(self, case: str, durability: str, tasks: int) -> dict[str, int]:
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            report = Path(scratch, "strace")
            tracer = ("strace", "-f", "-c", "-o", str(report), "-e", f"trace={','.join(_COUNTED)}")
            _said(case, Path(scratch), durability, tasks, tracer)
            counts = {name: int(calls) for calls, name in _FIRST_COLUMN.findall(report.read_text())}
        return {name: counts.get(name, 0) for name in _COUNTED}

    def _run(self, case: str, folder: Path, durability: str, tasks: int) -> None:
        for figure, value in _said(case, folder, durability, tasks).items():
            self._note(case, durability, figure, value)

    def _note(self, case: str, durability: str, figure: str, value: float) -> None:
        self.series.setdefault((case, durability, figure), []).append(value)


def _said(case: str, folder: Path, durability: str, tasks: int, tracer: Sequence[str] = ()) -> dict[str, float]:
    return said("_bench.cases", case, str(folder), durability, str(tasks), tracer=tracer)


def said(module: str, *arguments: str, tracer: Sequence[str] = ()) -> dict[str, float]:
    """The JSON object that a module prints, executed in a process of its own."""
    environment = os.environ | {"DURABLE_LOGGING_LEVEL": "CRITICAL"}
    command = [*tracer, sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}\n{' '.join(arguments)} failed")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _wall(*arguments: str, environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(arguments, env=environment, check=True, capture_output=True)
    return (time.perf_counter() - begin) * 1e3


def _is_there(module: str) -> bool:
    found = subprocess.run([sys.executable, "-c", f"import {module}"], check=False, capture_output=True)
    return not found.returncode
