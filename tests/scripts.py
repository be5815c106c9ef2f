"""Real scripts for the tests: written to a folder, run by a real interpreter, killed by real signals.

`KIT` is imported by every script. Its `ran` appends a line to ``ran.log`` without going through durable: what stands
there was executed, whatever the journal says. Its `die` kills the process where the test asks for it (``DIE=word``).
"""

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import durable
from durable.clock import Clock

DEADLINE = 120.0  # seconds until a test that waits for a process gives up

KIT = '''
import asyncio, os, signal, sys, time
from durable import flow, task

def ran(*words):
    descriptor = os.open("ran.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (" ".join(map(str, words)) + "\\n").encode())
    os.close(descriptor)

def asked(word):
    return word in os.environ.get("DIE", "").split(",")

def die(word):
    if asked(word):
        os.kill(os.getpid(), signal.SIGKILL)

def signal_files(name):
    """Tell the test we are here, then wait until it has answered (or killed us)."""
    open(name + ".here", "w").close()
    deadline = time.monotonic() + 200  # more than a test waits
    while not os.path.exists(name + ".go"):
        if time.monotonic() > deadline:
            sys.exit("nobody answered " + name)
        time.sleep(0.005)
'''


class Ended(NamedTuple):
    """How a run of a script ended."""

    code: int
    out: str
    err: str


class Script:
    """One script in one folder, with its journal and the log of what it executed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "runs.db"
        self._read = 0
        self.package = str(Path(durable.__file__).resolve().parent.parent)
        (folder / "kit.py").write_text(KIT, encoding="utf-8")

    def write(self, text: str, name: str = "job.py") -> None:
        """(Re)write the script. As after an editor, no stale byte code is in the way."""
        (self.folder / name).write_text("from kit import *\n" + textwrap.dedent(text), encoding="utf-8")

    def start(self, *arguments: str, name: str = "job.py", **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, name, *arguments],
            cwd=self.folder,
            env=self.environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def environment(self, **env: str) -> dict[str, str]:
        """A clean one, with `env`."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DURABLE_")}
        path = os.pathsep.join(filter(None, [self.package, *map(os.path.abspath, _python_path())]))
        # A user's file of settings would be in the script's folder; the developer's is out of sight.
        environment |= {"XDG_CONFIG_HOME": str(self.folder / "config")}
        return environment | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **env}

    def run(self, *arguments: str, name: str = "job.py", **env: str) -> Ended:
        return finish(self.start(*arguments, name=name, **env))

    def ok(self, *arguments: str, **env: str) -> str:
        """Run to a good end; what it printed."""
        ended = self.run(*arguments, **env)
        assert ended.code == 0, ended.err
        return ended.out.strip()

    def killed(self, word: str, **env: str) -> Ended:
        """Run until the script kills itself at `word`."""
        ended = self.run(DIE=word, **env)
        assert ended.code == -9, ended
        return ended

    def ran(self) -> list[str]:
        """What was executed since this was last asked."""
        lines = self.all_ran()
        new, self._read = lines[self._read :], len(lines)
        return new

    def all_ran(self) -> list[str]:
        log = self.folder / "ran.log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def query(self, sql: str, *parameters: Any) -> list[Any]:
        return query(self.journal, sql, *parameters)

    def tasks(self, name: str) -> list[list[str]]:
        """The states of each run of a task, in the order they began."""
        return histories(self.journal, name)

    def flows(self, name: str = "job") -> list[list[str]]:
        """The states of each run of a flow, in the order they began."""
        rows = self.query(
            "SELECT r.flow_run_row, s.state FROM states AS s JOIN flow_runs AS r ON r.id = s.run_id "
            "WHERE s.run_kind = 'flow run' AND r.flow = ? ORDER BY r.flow_run_row, s.seq",
            name,
        )
        return _grouped(rows)

    def why(self, name: str = "job") -> str:
        """The message of the newest run of a flow."""
        return self.query("SELECT message FROM flow_runs WHERE flow = ? ORDER BY flow_run_row DESC", name)[0][0] or ""

    def wait_for(self, name: str, process: "subprocess.Popen[str] | None" = None) -> None:
        """Wait until the script has made the file `name`."""
        deadline = time.monotonic() + DEADLINE
        while not (self.folder / name).exists():
            assert process is None or process.poll() is None, finish(process)
            if time.monotonic() > deadline:
                stop(process)
                raise AssertionError(f"no {name}")
            time.sleep(0.005)

    def wait_for_lines(self, count: int, process: "subprocess.Popen[str]", word: str = "") -> None:
        """Wait until `count` lines (that begin with `word`) are in the log, or the process has ended."""
        deadline = time.monotonic() + DEADLINE
        while sum(line.startswith(word) for line in self.all_ran()) < count and process.poll() is None:
            if time.monotonic() > deadline:
                stop(process)
                raise AssertionError(f"only {self.all_ran()}")
            time.sleep(0.001)

    def go(self, name: str) -> None:
        """Answer a script that waits in `signal_files(name)`."""
        (self.folder / f"{name}.go").touch()


class FakeClock(Clock):
    """A clock that only moves when it is told to, or slept on."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def now(self) -> int:
        return int(self.seconds * 1_000_000)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.seconds += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def rest(self, seconds: float, *_: Any) -> None:
        self.sleep(seconds)

    async def rest_async(self, seconds: float, *_: Any) -> None:
        self.sleep(seconds)


def finish(process: "subprocess.Popen[str]") -> Ended:
    """Wait for a script; kill it if it hangs."""
    try:
        out, err = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it hung\n{stop(process)}") from None
    return Ended(process.returncode, out, err)


def read_until(process: "subprocess.Popen[str]", wanted: str) -> str:
    """What a script writes on stderr, up to the first line with `wanted` in it."""
    assert process.stderr is not None
    told = ""
    while wanted not in told:
        line = process.stderr.readline()
        assert line, (told, finish(process))
        told += line
    return told


def stop(process: "subprocess.Popen[str] | None") -> Ended | None:
    """Kill a script that hangs."""
    if process is None:
        return None
    process.kill()
    out, err = process.communicate()
    return Ended(process.returncode, out, err)


def query(journal: Path, sql: str, *parameters: Any) -> list[Any]:
    """All rows of a query on a journal, which is not changed by it."""
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, parameters).fetchall()


def histories(journal: Path, task: str) -> list[list[str]]:
    rows = query(
        journal,
        "SELECT t.task_run_row, s.state FROM states AS s JOIN task_runs AS t ON t.id = s.run_id "
        "WHERE s.run_kind = 'task run' AND t.task = ? ORDER BY t.task_run_row, s.seq",
        task,
    )
    return _grouped(rows)


def in_colour(text: str, colour: str) -> str:
    """A script for plain functions or for coroutines: it says DEF, AWAIT and RUN where the two differ."""
    if colour == "sync":
        return text.replace("DEF ", "def ").replace("AWAIT ", "").replace("RUN(", "(")
    return text.replace("DEF ", "async def ").replace("AWAIT ", "await ").replace("RUN(", "asyncio.run(")


def _grouped(rows: list[tuple[int, str]]) -> list[list[str]]:
    found: dict[int, list[str]] = {}
    for row, state in rows:
        found.setdefault(row, []).append(state)
    return list(found.values())


def _python_path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]


def alive(pid):
    """Whether a process runs: not gone, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_end(pids):
    deadline = time.monotonic() + DEADLINE
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, [pid for pid in pids if alive(pid)]
        time.sleep(0.01)
